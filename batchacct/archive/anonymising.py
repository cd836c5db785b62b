"""Names of people taken out of records, in the tables and in the archive: what is personal, and what takes its place.

A name becomes a pseudonym, the same for the same name for as long as the database lives, so that sums by user stay what they are;
the key of the hash is in the database, and who has both the key and a name can tell its pseudonym. What nobody sums by is dropped.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, and_, insert, or_, select

from batchacct.model import RecordType
from batchacct.store.tables import RECORD_TABLES, setting

PREFIX = "anon-"
_KEY = "pseudonym_key"

NAMES: Mapping[str, tuple[str, ...]] = {
    "job": ("user_name",),
    "identity": ("record_key", "dn", "token_subject", "local_user"),
    "part": ("record_key",),
    "process": ("user_name",),
    "object": (),
    "process_group": ("group_name", "owner"),
}
"""Columns that get a pseudonym. The key of an identity, or of a part, may have a name in it; others have ids and times.

What people call a group may be anybody's name; a rule that made it keeps its own in `made_by`.
"""

SAME: Mapping[str, tuple[str, tuple[str, ...]]] = {"job": ("user_name", ("group_name", "project"))}
"""A group (or project) of one person has that person's name: where it is the same as in that column, so is the pseudonym."""

DROPPED: Mapping[str, tuple[str, ...]] = {
    "job": ("user_id", "job_name", "command", "native"),
    "identity": ("fqans", "native"),
    "part": ("usage", "native"),
    "process": ("user_id", "job_claims", "arguments", "environment", "terminal", "native"),
    "object": ("native",),
    "process_group": ("native",),
}
"""Columns that become null. The primary FQAN stays (VO, group, role); all of a person's FQANs together tell who it is."""

PATHS: Mapping[str, tuple[str, str | None]] = {"process": ("program", "user_name"), "object": ("path", None)}
"""Columns with a path, and with the account whose it may be: names in it get the pseudonym, so that sums by program stay."""

_HOMES = re.compile(r"^(?P<before>/(?:home|users|Users|afs/[^/]+/(?:user|u)/[^/]+|eos/user/[^/]+)/)(?P<name>[^/]+)")
"""Where people keep their files: the next part of the path is an account."""

Pseudonym = Callable[[str], str]


def pseudonyms(connection: Connection, now: int) -> Pseudonym:
    """What stands for a name; the key is made at the first call."""
    key = connection.scalar(select(setting.c.value).where(setting.c.name == _KEY))
    if key is None:
        key = secrets.token_hex(32)
        connection.execute(insert(setting).values(name=_KEY, value=key, since=now))
    raw = bytes.fromhex(key)
    return lambda name: (
        name if name.startswith(PREFIX) else PREFIX + hashlib.blake2b(name.encode(), key=raw, digest_size=10).hexdigest()
    )


def is_personal(record_type: RecordType) -> ColumnElement[bool]:
    """Whether there is something personal left in a row of a record table."""
    columns = RECORD_TABLES[record_type.name].c
    named = [and_(columns[name].is_not(None), ~is_pseudonym(columns[name])) for name in NAMES[record_type.name]]
    return or_(*named, *(columns[name].is_not(None) for name in DROPPED[record_type.name]))


def is_pseudonym(column: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a column has a pseudonym in place of a name."""
    return column.startswith(PREFIX, autoescape=True)


def personal_columns(record_type: RecordType) -> list[str]:
    """The columns that are read to take names out of a row."""
    _, same = SAME.get(record_type.name, ("", ()))
    path = [name for name in PATHS.get(record_type.name, ())[:1] if name]
    return [*NAMES[record_type.name], *same, *path]


def anonymous_row(record_type: RecordType, row: Mapping[str, Any], pseudonym: Pseudonym) -> dict[str, Any]:
    """What the personal columns of a row become."""
    made: dict[str, Any] = dict.fromkeys(DROPPED[record_type.name])
    made |= {name: None if row[name] is None else pseudonym(row[name]) for name in NAMES[record_type.name]}
    of, same = SAME.get(record_type.name, ("", ()))
    made |= {name: made[of] if row[name] == row[of] else row[name] for name in same}
    for path, of_account in [PATHS[record_type.name]] if record_type.name in PATHS else []:
        made[path] = None if row[path] is None else _anonymous_path(row[path], row[of_account] if of_account else None, pseudonym)
    return made


def _anonymous_path(path: str, account: str | None, pseudonym: Pseudonym) -> str:
    """A path without the name of whose home it is in, nor that of an account."""
    path = _HOMES.sub(lambda home: home["before"] + pseudonym(home["name"]), path)
    if account is None or account.startswith(PREFIX):
        return path
    return "/".join(pseudonym(part) if part == account else part for part in path.split("/"))


def anonymous_batch(record_type: RecordType, batch: pa.RecordBatch, pseudonym: Pseudonym) -> pa.RecordBatch:
    """A batch of a file of the archive, without names."""
    columns = personal_columns(record_type)
    rows = [anonymous_row(record_type, row, pseudonym) for row in batch.select(columns).to_pylist()]
    arrays = [
        pa.nulls(batch.num_rows, field.type)
        if field.name in DROPPED[record_type.name]
        else pa.array([row[field.name] for row in rows], field.type)
        if field.name in columns
        else batch.column(field.name)
        for field in batch.schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)
