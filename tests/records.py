"""Records, batches and origins for tests of the store: the least that is valid, with what a test is about added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Table, func, select

from batchacct.model import JOB, PART, Record, RecordType, content_hash
from batchacct.parsing import Parsed, RejectedUnit
from batchacct.store import Origin, Store
from batchacct.store.tables import RECORD_TABLES, followed_file, load, reject

LOGGED_AT = 1_790_000_000
NOW = 1_800_000_000
ORIGIN = Origin("lsf-master", "job", "test/1", "/var/log/lsb.acct")

Row = dict[str, object]


def job(number: int, unit: bytes = b"as first written", **columns: object) -> Record:
    """A job record; another `unit` makes it another revision of the same record."""
    return {
        "record_key": f"lsf1:{number}",
        "content_hash": content_hash(unit),
        "cluster": "lsf1",
        "lrms": "LSF",
        "lrms_job_id": str(number),
        "join_id": str(number),
        "logged_at": LOGGED_AT,
        "state": "completed",
        "native": unit,
        "source": "lsf-master",
        "source_offset": number,
        "parser": "test/1",
        **columns,
    }


def part(number: int, unit: bytes = b"a step", **columns: object) -> Record:
    return {
        "record_key": f"lsf1:{number}:step",
        "content_hash": content_hash(unit),
        "cluster": "lsf1",
        "lrms": "LSF",
        "record_type": "job",
        "family": "test",
        "part_key": f"lsf1:{number}",
        "kind": "step",
        "logged_at": LOGGED_AT,
        "usage": '{"cpu_user_s": 1.5}',
        "source": "lsf-master",
        "source_offset": number,
        "parser": "test/1",
        **columns,
    }


def process(number: int, unit: bytes = b"a program", **columns: object) -> Record:
    return {
        "record_key": f"node7/boot/{number}/{LOGGED_AT - 5}000000000/1",
        "content_hash": content_hash(unit),
        "cluster": "lsf1",
        "host": "node7",
        "boot_id": "boot",
        "pid": number,
        "kind": "program",
        "started_at": LOGGED_AT - 5,
        "logged_at": LOGGED_AT,
        "ended_by": "exit",
        "processes": 1,
        "seen_by": '["connector","sensor"]',
        "native": unit,
        "source": "procs",
        "source_offset": number,
        "parser": "test/1",
        **columns,
    }


def loaded_object(number: int, unit: bytes = b"a library", **columns: object) -> Record:
    return {
        "record_key": f"5ba3/{number}",
        "content_hash": content_hash(unit),
        "cluster": "lsf1",
        "object_set": "5ba3",
        "path": f"/usr/lib64/lib{number}.so.1",
        "host": "node7",
        "seen_at": LOGGED_AT,
        "native": unit,
        "source": "objects",
        "source_offset": number,
        "parser": "test/1",
        **columns,
    }


def membership(number: int, unit: bytes = b"a membership", **columns: object) -> Record:
    return {
        "record_key": f"node7/boot/7/{number}/0",
        "content_hash": content_hash(unit),
        "cluster": "lsf1",
        "host": "node7",
        "boot_id": "boot",
        "group_id": "7",
        "pid": number,
        "left_at": LOGGED_AT,
        "native": unit,
        "source": "groups",
        "source_offset": number,
        "parser": "test/1",
        **columns,
    }


def parsed(
    records: Sequence[Record] = (),
    *,
    parts: Sequence[Record] = (),
    rejects: Sequence[RejectedUnit] = (),
    skipped: Mapping[str, int] | None = None,
    record_type: RecordType = JOB,
    start: int = 0,
    end: int = 1000,
) -> Parsed:
    return Parsed(record_type.batch(records), PART.batch(parts), tuple(rejects), skipped or {}, start, end)


def rows(store: Store, table: Table) -> list[Row]:
    """All rows in the order of their ids."""
    with store.reading() as connection:
        found = connection.execute(select(table).order_by(table.c.id)).mappings()
        return [dict(row) for row in found]


def holdings(store: Store) -> dict[str, int]:
    """How many rows there are of everything that an append writes."""
    with store.reading() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (*RECORD_TABLES.values(), load, reject, followed_file)
        }


NOTHING = dict.fromkeys((*RECORD_TABLES, "load", "reject", "followed_file"), 0)
