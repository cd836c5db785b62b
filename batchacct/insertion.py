"""`batchacct.insert`: any generator of dictionaries into the store, the contract site scripts have relied on since 2012."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from batchacct.clock import unix_now
from batchacct.errors import ConfigError, RecordError
from batchacct.model import IDENTITY, JOB, PART, Record, RecordType, content_hash
from batchacct.parsing import Parsed, RejectedUnit
from batchacct.parsing.adapters import filled
from batchacct.store.append import Counts, Origin, append
from batchacct.store.store import Store

ROWS_PER_APPEND = 10_000

_T = TypeVar("_T")


def insert(store: Store, record_type: str, records: Iterable[Mapping[str, object]], *, source: str = "insert") -> list[Counts]:
    """Stores dictionaries of column name to value (`job` or `identity`; see `batchacct.model`), and returns what became of them.

    What is not given is filled in: source, offset (the position in `records`), parser, native (the dictionary as JSON) and hash;
    `record_key` from the ids and times, `join_id` from `lrms_job_id`. A dictionary that does not fit becomes a reject.
    Repeating a call changes nothing. Raises: ConfigError for another record type, StoreError.
    """
    types = {"job": JOB, "identity": IDENTITY}
    if record_type not in types:
        raise ConfigError(f"records are of type job or identity, not {record_type!r}")
    origin = Origin(source, record_type, "insert/1", source)
    stored = []
    offset = 0
    for rows in _in_groups(records, ROWS_PER_APPEND):
        parsed = _parsed(types[record_type], rows, offset, source)
        offset += len(rows)
        stored.append(append(store, origin, parsed, unix_now())[0])
    return stored


def _parsed(record_type: RecordType, rows: list[Mapping[str, object]], offset: int, source: str) -> Parsed:
    complete: list[Record] = []
    rejects = []
    for number, row in enumerate(rows, offset):
        native = json.dumps(row, default=str, ensure_ascii=False, sort_keys=True).encode("utf-8", "backslashreplace")
        record = _complete(record_type, row, native, number, source)
        try:
            record_type.batch([record])
        except RecordError as error:
            rejects.append(RejectedUnit(number, len(native), native, error.message))
        else:
            complete.append(record)
    return Parsed(record_type.batch(complete), PART.empty(), tuple(rejects), {}, offset, offset + len(rows))


def _complete(record_type: RecordType, row: Mapping[str, object], native: bytes, number: int, source: str) -> Record:
    return {
        "cluster": "default",
        "content_hash": content_hash(native),
        "native": native,
        "source": source,
        "source_offset": number,
        "parser": "insert/1",
        **filled(record_type, row, f"{source}:{row.get('cluster', 'default')}"),
    }


def _in_groups(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group
