"""Appending: exactly once, books that balance, revisions, and the position in the same transaction. On each backend."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import func, select

from batchacct.errors import CheckpointError, StoreError
from batchacct.following import Position
from batchacct.model import JOB
from batchacct.parsing import Parsed, RejectedUnit
from batchacct.store import Counts, Store, append, known_positions
from batchacct.store.append import Origin
from batchacct.store.dialects import KnownRecordsError
from batchacct.store.tables import followed_file, load, part, reject
from batchacct.store.tables import job as job_table
from tests.records import LOGGED_AT, NOTHING, NOW, ORIGIN, Row, holdings, job, parsed, rows
from tests.records import part as part_record

FIRST, SECOND, THIRD = b"as first written", b"as corrected", b"as corrected again"
POSITION = Position("lsf-master", "/var/log/lsb.acct", device=1, inode=2, size=5000)


def store_jobs(store: Store, *records: Row, origin: Origin = ORIGIN) -> Counts:
    return append(store, origin, parsed(records), NOW)[0]


def history(store: Store) -> list[tuple[object, ...]]:
    """(key, content, revision, content of the record that replaced it), in the order they were stored."""
    stored = rows(store, job_table)
    native_of = {row["id"]: row["native"] for row in stored}
    return [(row["record_key"], row["native"], row["revision"], native_of.get(row["superseded_by"])) for row in stored]


def test_records_are_stored_once_and_skipped_when_they_come_again(store: Store) -> None:
    first = store_jobs(store, job(1), job(2))
    again = store_jobs(store, job(2), job(3))
    assert (first.units, first.recorded, first.known, first.revised) == (2, 2, 0, 0)
    assert (again.units, again.recorded, again.known, again.revised) == (2, 1, 1, 0)
    assert history(store) == [(f"lsf1:{number}", FIRST, 0, None) for number in (1, 2, 3)]


def test_an_id_leads_to_its_load(store: Store) -> None:
    loads = [store_jobs(store, job(1), job(2)).load_id, store_jobs(store, job(3)).load_id]
    assert [row["id"] for row in rows(store, job_table)] == [loads[0] << 20, (loads[0] << 20) + 1, loads[1] << 20]


def test_another_content_under_the_same_key_is_a_revision_that_replaces_the_older(store: Store) -> None:
    store_jobs(store, job(1, FIRST), job(2, FIRST))
    counts = store_jobs(store, job(1, SECOND), job(2, FIRST), job(3, FIRST))
    assert (counts.recorded, counts.revised, counts.known) == (2, 1, 1)
    store_jobs(store, job(1, THIRD))
    assert history(store) == [
        ("lsf1:1", FIRST, 0, THIRD),
        ("lsf1:2", FIRST, 0, None),
        ("lsf1:1", SECOND, 1, THIRD),
        ("lsf1:3", FIRST, 0, None),
        ("lsf1:1", THIRD, 2, None),
    ]


def test_repetitions_and_revisions_within_one_batch(store: Store) -> None:
    counts = store_jobs(store, job(1, FIRST), job(1, FIRST), job(1, SECOND), job(2), job(1, THIRD), job(1, SECOND))
    assert (counts.units, counts.recorded, counts.revised, counts.known) == (6, 4, 2, 2)
    assert history(store) == [
        ("lsf1:1", FIRST, 0, THIRD),
        ("lsf1:1", SECOND, 1, THIRD),
        ("lsf1:2", FIRST, 0, None),
        ("lsf1:1", THIRD, 2, None),
    ]


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "three batches"])
def test_reading_an_older_content_again_does_not_bring_it_back(store: Store, at_once: bool) -> None:
    records = [job(1, FIRST), job(1, SECOND), job(1, FIRST)]
    for batch in [records] if at_once else [[record] for record in records]:
        store_jobs(store, *batch)
    assert history(store) == [("lsf1:1", FIRST, 0, SECOND), ("lsf1:1", SECOND, 1, None)]


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "two batches"])
def test_a_key_at_another_time_is_another_record_however_the_stream_was_cut(store: Store, at_once: bool) -> None:
    """The time is a part of every key in the database."""
    records = [job(1), job(9), job(9), job(1, SECOND, logged_at=LOGGED_AT + 1)]
    for batch in [records] if at_once else [records[:3], records[3:]]:
        store_jobs(store, *batch)
    revisions = [(row["record_key"], row["logged_at"], row["revision"]) for row in rows(store, job_table)]
    assert revisions == [("lsf1:1", LOGGED_AT, 0), ("lsf1:9", LOGGED_AT, 0), ("lsf1:1", LOGGED_AT + 1, 0)]


def test_the_books_of_a_load_balance_with_everything_in_it(store: Store) -> None:
    store_jobs(store, job(1))
    rejects = (RejectedUnit(70, 9, b"damaged\xff\0", "not readable"), RejectedUnit(90, 100_000, b"long", "too long"))
    block = parsed(
        [job(1), job(2), job(3)],
        parts=[part_record(7), part_record(7), part_record(8)],
        rejects=rejects,
        skipped={"comment": 4, "another event": 1},
        start=50,
        end=250,
    )
    counts, _ = append(store, ORIGIN, block, NOW)
    assert counts.units == 13 == counts.recorded + counts.merged + counts.known + counts.skipped + counts.rejected
    assert (counts.recorded, counts.merged, counts.known, counts.skipped, counts.rejected) == (2, 2, 2, 5, 2)
    stored = rows(store, load)[-1]
    wanted = {
        "source": "lsf-master", "record_type": "job", "path": "/var/log/lsb.acct", "file_id": None,
        "start_offset": 50, "end_offset": 250, "units": 13, "recorded": 2, "merged": 2, "known": 2, "revised": 0,
        "skipped": 5, "rejected": 2, "skip_reasons": '{"another event": 1, "comment": 4}',
        "last_record_at": LOGGED_AT, "loaded_at": NOW, "joined_at": None,
    }  # fmt: skip
    assert {name: stored[name] for name in wanted} == wanted


def test_parts_are_stored(store: Store) -> None:
    append(store, ORIGIN, parsed(parts=[part_record(7)]), NOW)
    (stored,) = rows(store, part)
    assert {name: stored[name] for name in part_record(7)} == part_record(7)


def test_rejects_are_stored_with_where_they_are_and_why(store: Store) -> None:
    unit = bytes(range(256))
    counts, _ = append(store, ORIGIN, parsed(rejects=[RejectedUnit(70, 70_000, unit, "no “end”")]), NOW)
    (stored,) = rows(store, reject)
    del stored["id"]
    assert stored == {
        "load_id": counts.load_id, "source": "lsf-master", "path": "/var/log/lsb.acct", "source_offset": 70,
        "length": 70_000, "unit": unit, "reason": "no “end”", "parser": "test/1", "replayed_by": None,
    }  # fmt: skip


def at(offset: int, position: Position = POSITION) -> Position:
    return position.moved(offset, b"x" * 4096, b"y" * 256)


def test_the_position_is_stored_with_its_rows(store: Store) -> None:
    counts, stored = append(store, replace(ORIGIN, position=POSITION), parsed([job(1)]), NOW, at(1000))
    assert stored is not None
    assert known_positions(store, "lsf-master") == [stored]
    assert known_positions(store, "another") == []
    assert (stored.offset, stored.head_length, stored.tail_length) == (1000, 1000, 256)
    assert [(row["id"], row["file_id"]) for row in rows(store, load)] == [(counts.load_id, stored.id)]
    _, moved = append(store, replace(ORIGIN, position=stored), parsed([job(2)]), NOW, at(3000, stored))
    assert known_positions(store, "lsf-master") == [moved]
    assert [row["offset"] for row in rows(store, followed_file)] == [3000]


def test_a_second_collector_of_one_file_is_stopped_and_stores_nothing(store: Store) -> None:
    _, position = append(store, replace(ORIGIN, position=POSITION), parsed([job(1)]), NOW, at(1000))
    assert position is not None
    origin = replace(ORIGIN, position=position)
    append(store, origin, parsed([job(2)]), NOW, at(2000, position))
    before = holdings(store)
    with pytest.raises(CheckpointError, match="another collector has moved the position"):
        append(store, origin, parsed([job(3)], rejects=[RejectedUnit(0, 1, b"x", "bad")]), NOW, at(3000, position))
    assert holdings(store) == before
    assert [p.offset for p in known_positions(store, "lsf-master")] == [2000]


def without_a_key() -> Parsed:
    """A batch no parser can make: the second record has no key, which only the database notices."""
    batch = parsed([job(1), job(2)]).records
    column = batch.schema.get_field_index("record_key")
    return replace(parsed(), records=batch.set_column(column, JOB.schema.field(column), pa.array(["lsf1:1", None])))


def test_a_row_the_database_refuses_leaves_nothing_behind(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        append(store, replace(ORIGIN, position=POSITION), without_a_key(), NOW, at(1000))
    assert not isinstance(caught.value, KnownRecordsError), "a missing value is no known record"
    assert "record_key" in caught.value.message
    assert holdings(store) == NOTHING


def test_an_error_of_the_database_after_the_records_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.dialect.bulk_insert

    def failing_at_parts(connection: Any, table: Any, batch: pa.RecordBatch) -> None:
        real(connection, table, batch)
        if table.name == "part":
            raise store.engine.dialect.loaded_dbapi.OperationalError("database or disk is full")

    monkeypatch.setattr(store.dialect, "bulk_insert", failing_at_parts)
    block = parsed([job(1)], parts=[part_record(1)], rejects=[RejectedUnit(0, 1, b"x", "bad")])
    with pytest.raises(StoreError, match=r"disk is full\. Make room"):
        append(store, replace(ORIGIN, position=POSITION), block, NOW, at(1000))
    monkeypatch.undo()
    assert holdings(store) == NOTHING
    append(store, replace(ORIGIN, position=POSITION), block, NOW, at(1000))
    assert holdings(store) == NOTHING | {"job": 1, "part": 1, "reject": 1, "load": 1, "followed_file": 1}


def test_an_empty_block_moves_the_position(store: Store) -> None:
    counts, _ = append(store, replace(ORIGIN, position=POSITION), parsed(), NOW, at(1000))
    assert (counts.units, known_positions(store, "lsf-master")[0].offset) == (0, 1000)


def test_more_rows_than_a_load_may_hold_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchacct.store.tables.ROWS_PER_LOAD", 2)
    with pytest.raises(ValueError, match="append smaller batches"):
        store_jobs(store, job(1), job(2), job(3))
    assert holdings(store) == NOTHING


def test_a_reader_sees_one_state_of_the_database(store: Store) -> None:
    with store.reading() as connection:
        count = select(func.count()).select_from(job_table)
        before = connection.scalar(count)
        store_jobs(store, job(1))
        assert connection.scalar(count) == before == 0
    assert holdings(store)["job"] == 1


ALIKE = ("k", "K", "k ", " k", "k\t", "\u00e9", "e\u0301", "e", "\u00c9", "ss", "\u00df", "\uff4b", "k\u200b")


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "batch by batch"])
def test_keys_that_look_alike_are_different(store: Store, at_once: bool) -> None:
    """Texts are the same if their bytes are: no database folds case, accents or blanks at the end."""
    records = [job(n, record_key=key) for n, key in enumerate(ALIKE)]
    for batch in [records] if at_once else [[record] for record in records]:
        store_jobs(store, *batch)
    assert store_jobs(store, *records).known == len(ALIKE)
    assert sorted(str(row["record_key"]) for row in rows(store, job_table)) == sorted(ALIKE)
    with store.reading() as connection:
        found = connection.scalars(select(job_table.c.record_key).where(job_table.c.record_key == "k")).all()
    assert found == ["k"]


def test_an_error_half_way_leaves_no_temporary_table_in_the_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store_jobs(store, job(1))

    def failing(*_: object) -> int:
        raise store.engine.dialect.loaded_dbapi.OperationalError("database or disk is full")

    monkeypatch.setattr(sys.modules["batchacct.store.append"], "_drop_known", failing)
    with pytest.raises(StoreError, match="disk is full"):
        store_jobs(store, job(1), job(2))
    monkeypatch.undo()
    counts = store_jobs(store, job(1), job(2))
    assert (counts.recorded, counts.known) == (1, 1)
