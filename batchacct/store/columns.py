"""Types of columns that are not the same on every database, and how long what is in an index may be."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import VARCHAR, BigInteger, Dialect, Integer, Text, TypeDecorator
from sqlalchemy.types import TypeEngine

BigKey = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit key; SQLite makes one its row number only under the name INTEGER."""

ID_BYTES, NAME_BYTES, WORD_BYTES = 750, 400, 100
SOURCE_BYTES = 250

LONGEST_BYTES = {
    **dict.fromkeys(("record_key", "join_id", "part_key", "lrms_job_id"), ID_BYTES),
    **dict.fromkeys(("cluster", "user_name", "group_name", "project", "token_issuer", "token_subject"), NAME_BYTES),
    **dict.fromkeys(("family", "kind", "object_set", "signature"), WORD_BYTES),
    **dict.fromkeys(("host", "boot_id", "group_id"), SOURCE_BYTES),
}
"""Of the columns of a record that are in an index, or are looked up in one together: no real value comes near.

A row of an index has room for 2,704 bytes on PostgreSQL, and for 3,072 on MariaDB and MySQL, of which a character takes four.
"""


LONG_TEXTS = frozenset(
    ("exec_hosts", "resources", "job_name", "command", "fqans", "usage", "job_claims", "arguments", "environment")
)
"""Of the columns of a record those that nothing is ever compared with, grouped or ordered by."""

_COMPARED = frozenset((("process", "command"),))
"""Of record types and such columns those that are: there it is the kernel's name of a program, not a command line."""

SHORT_BYTES = 4000
SHORT_TEXT = Text().with_variant(VARCHAR(SHORT_BYTES), "oracle")
"""Text that is compared with something, grouped or ordered by: Oracle cannot do that with its type of any length."""


def is_long(record_type: str, column: str) -> bool:
    """Whether a text may be of a type of any length, which Oracle compares with nothing."""
    return column in LONG_TEXTS and (record_type, column) not in _COMPARED


def longest_of(record_type: str, column: str, database: str) -> int | None:
    """How many bytes a text of a record may have on a database; None: any number."""
    short = SHORT_BYTES if database == "oracle" and not is_long(record_type, column) else None
    return LONGEST_BYTES.get(column, short)


class KeyText(TypeDecorator[str]):
    """Text that may be in an index: where the database wants to know its length in advance, of so many characters at most.

    Nothing longer comes to be stored (`store.keys`), and strict databases would refuse it.
    """

    impl = Text
    cache_ok = True

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.longest = longest

    def __repr__(self) -> str:
        return f"KeyText({self.longest})"

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        sized = dialect.name in {"mysql", "mariadb", "oracle"}
        return dialect.type_descriptor(VARCHAR(self.longest) if sized else Text())


def hash_of(*texts: str) -> str:
    """What stands for several texts in a unique key that has no room for them all."""
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=32).hexdigest()
