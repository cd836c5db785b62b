"""Which records were known as twins (`store.twins`), and of which stored record; as `tables`, of which this is a part.

A row for each content of a record that was not stored, as the run was here already: `stored_id` is the number of the record that
stood for it then. `key_hash` is of the record's key, so that no name is kept here; `origin` is `log`, or the import it came by. A
key with more than one row has been corrected in its log since: what was imported stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import BigInteger, Column, Connection, Index, Table, func, insert, select

from batchacct.model import RecordType
from batchacct.store.columns import SOURCE_BYTES, WORD_BYTES, KeyText, hash_of
from batchacct.store.tables import metadata

LOG = "log"
HASH_DIGITS = 32
PER_QUERY = 500

T = TypeVar("T")

twin = Table(
    "twin",
    metadata,
    Column("record_type", KeyText(WORD_BYTES), primary_key=True),
    Column("origin", KeyText(SOURCE_BYTES), primary_key=True),
    Column("key_hash", KeyText(WORD_BYTES), primary_key=True),
    Column("content_hash", BigInteger, primary_key=True, autoincrement=False),
    Column("stored_id", BigInteger, nullable=False),
    Index("twin_stored", "stored_id"),
)


@dataclass(slots=True)
class Known:
    """A key whose run is stored as another record: the number of that, and the contents that came under the key."""

    stored_id: int
    contents: set[int] = field(default_factory=set)


def key_hash(record_key: str) -> str:
    """What stands for a record's key."""
    return hash_of(record_key)[:HASH_DIGITS]


def known_twins(connection: Connection, record_type: RecordType, origin: str, hashes: Collection[str]) -> dict[str, Known]:
    """By the hashes of their keys, those that were known as twins before."""
    found: dict[str, Known] = {}
    query = select(twin.c.key_hash, twin.c.content_hash, twin.c.stored_id)
    query = query.where(twin.c.record_type == record_type.name, twin.c.origin == origin)
    for some in _pieces(sorted(hashes)):
        for hashed, content, number in connection.execute(query.where(twin.c.key_hash.in_(some))):
            found.setdefault(hashed, Known(number)).contents.add(content)
    return found


def taken(connection: Connection, origin: str, numbers: Collection[int]) -> set[int]:
    """Of some stored records those that stand for a record of that origin already."""
    query = select(twin.c.stored_id).where(twin.c.origin == origin)
    pieces = _pieces(sorted(numbers))
    return {number for some in pieces for number in connection.scalars(query.where(twin.c.stored_id.in_(some)))}


def note_twins(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes down which records were known as twins."""
    if rows:
        connection.execute(insert(twin), rows)


def corrected(connection: Connection) -> int:
    """How many keys came with other contents after they were known as twins: corrections that are not in force."""
    columns = twin.c.record_type, twin.c.origin, twin.c.key_hash
    several = select(*columns).group_by(*columns).having(func.count() > 1).subquery()
    return connection.scalar(select(func.count()).select_from(several)) or 0


def _pieces(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), PER_QUERY):
        yield values[start : start + PER_QUERY]
