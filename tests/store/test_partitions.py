"""Monthly partitions: planned, made with the rows that wait for them, and dropped; nothing lost, nothing doubled."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text

from batchacct.errors import BusyError, ConfigError
from batchacct.store import Store, append, partitions
from batchacct.store.months import Month
from batchacct.store.tables import archive_leftover
from batchacct.store.tables import job as job_table
from tests.records import ORIGIN, job, parsed, rows

NOW = Month(2026, 11).start + 1_000_000
TABLES = partitions.TABLES


@pytest.fixture
def parted(store: Store) -> Store:
    """A store that has partitions."""
    if store.dialect.partitions is None:
        pytest.skip("SQLite has no partitions")
    return store


def of_month(number: int, month: Month, more: int = 0) -> dict[str, Any]:
    return job(number, logged_at=month.start + more)


def there(store: Store, table: str = "job") -> list[Month]:
    with store.reading() as connection:
        return partitions.months(store, connection, table)


def inside(store: Store, table: str = "job") -> dict[str, list[int]]:
    """Ids of rows by partition."""
    assert store.dialect.partitions is not None
    found = {}
    with store.reading() as connection:
        for one in store.dialect.partitions.partitions(connection, table):
            place = one.name if store.dialect.name == "postgresql" else f"{table} PARTITION ({one.name})"
            found[one.name] = sorted(connection.scalars(text(f"SELECT id FROM {place}")))
    return {name: ids for name, ids in found.items() if ids}


def keep(store: Store, ahead: int = 3, now: int = NOW, **options: bool) -> list[str]:
    return list(partitions.keep(store, TABLES, ahead, now, **options))


def test_months() -> None:
    november = Month(2026, 11)
    assert str(november) == "2026-11"
    assert Month.at(november.start) == Month.at(november.end - 1) == november
    assert Month.at(november.end) == november + 1 == Month(2026, 12)
    assert november + 2 == Month(2027, 1)
    assert november + -11 == Month(2025, 12)
    assert Month(2027, 2) - november == 3
    assert Month.between(november.start, november.end) == november
    assert Month.between(november.start, november.end - 1) is None
    assert Month(2012, 4).partition("loc") == "loc1335830400", "as in 2012"


def test_nothing_to_do_on_sqlite(sqlite_store: Store) -> None:
    assert keep(sqlite_store) == ["sqlite has no partitions: there is nothing to do"]
    assert there(sqlite_store) == []


def test_from_the_last_one_to_some_months_ahead(parted: Store) -> None:
    said = keep(parted, 1)
    assert said[:2] == ["job: made 2026-11, job1796083200", "job: made 2026-12, job1798761600"]
    assert keep(parted, 1)[0] == "job: has its partitions, the last of them 2026-12"
    keep(parted, 3)
    assert there(parted) == [Month(2026, 11) + n for n in range(4)]
    keep(parted, 1, now=Month(2027, 4).start)
    assert there(parted) == [Month(2026, 11) + n for n in range(7)], "also for the months in which nobody ran it"
    assert there(parted, "identity") == there(parted, "part") == there(parted)
    keep(parted, 0, now=Month(2026, 5).start)
    assert there(parted) == [Month(2026, 5), *(Month(2026, 11) + n for n in range(7))], "a clock behind does no harm"


def test_rows_of_a_month_without_a_partition_wait_for_it(parted: Store) -> None:
    old, new = Month(2026, 8), Month(2026, 11)
    records = [of_month(n, old, 86_400 * n) for n in range(1, 4)] + [
        of_month(9, new),
        of_month(10, new + 1, -1),
        of_month(11, new + 1),
    ]
    append(parted, ORIGIN, parsed(records), NOW)
    before = rows(parted, job_table)
    assert len(before) == 6
    assert [len(ids) for ids in inside(parted).values()] == [6]
    keep(parted, 0)
    assert rows(parted, job_table) == before
    by_key = {row["id"]: Month.at(int(str(row["logged_at"]))) for row in before}
    for month in (old, new):
        assert inside(parted)[month.partition("job")] == [n for n, of in by_key.items() if of == month]
    assert there(parted) == [old, new]
    assert append(parted, ORIGIN, parsed(records), NOW)[0].known == 6, "each is found where it is now"
    append(parted, ORIGIN, parsed([of_month(20, Month(2026, 9)), of_month(21, Month(2025, 1)), of_month(22, old, 5)]), NOW)
    keep(parted, 0)
    assert there(parted) == [Month(2025, 1), old, Month(2026, 9), new]
    assert len(rows(parted, job_table)) == 9


def test_rows_of_impossible_times_stay_where_they_are(parted: Store) -> None:
    append(
        parted,
        ORIGIN,
        parsed([job(1, logged_at=0), job(2, logged_at=Month(2041, 7).start), job(3, logged_at=Month(2098, 12).start)]),
        NOW,
    )
    said = keep(parted, 0)
    stay = "stay in the catch-all: their times, or this host's clock, may be wrong"
    assert f"job: rows of 1989-12, 2041-07, 2098-12 {stay}" in said
    assert there(parted) == [Month(2026, 11)]
    assert len(rows(parted, job_table)) == 3
    append(parted, ORIGIN, parsed([of_month(4, Month(2026, 11))]), NOW)
    assert len(inside(parted)[Month(2026, 11).partition("job")]) == 1


def test_months_without_a_partition_are_told(parted: Store) -> None:
    def told() -> dict[str, list[Month]]:
        with parted.reading() as connection:
            return partitions.waiting(parted, connection, 1, NOW)

    assert told() == {}, "where there are no rows none are in the wrong place"
    append(parted, ORIGIN, parsed([job(1, logged_at=0), of_month(2, Month(2026, 11)), of_month(3, Month(2026, 8))]), NOW)
    assert told() == {"job": [Month(2026, 8), Month(2026, 11)]}
    keep(parted, 1)
    assert told() == {}, "a wrong time stays where it is"
    append(parted, ORIGIN, parsed([of_month(4, Month(2026, 11)), of_month(5, Month(2027, 2))]), NOW)
    assert told() == {}, "that is still to come"


def test_a_clock_that_is_years_ahead(parted: Store) -> None:
    keep(parted, 0)
    with pytest.raises(
        ConfigError, match=r"clock of this host says 2036-01, and the last partition of job is that of 2026-11: .*--force"
    ):
        keep(parted, 3, now=Month(2036, 1).start)
    assert there(parted) == [Month(2026, 11)]
    keep(parted, 0, now=Month(2029, 11).start, force=True)
    assert len(there(parted)) == 37


def test_a_clock_that_is_years_ahead_of_what_is_stored(parted: Store) -> None:
    append(parted, ORIGIN, parsed([of_month(1, Month(2026, 11))]), NOW)
    with pytest.raises(ConfigError, match="the last rows of job without a partition are of 2026-11: that"):
        keep(parted, 3, now=Month(2036, 1).start)


def test_a_dry_run_changes_nothing(parted: Store) -> None:
    append(parted, ORIGIN, parsed([of_month(1, Month(2026, 8))]), NOW)
    said = "\n".join(keep(parted, 1, dryrun=True))
    assert all(month.partition("job") in said for month in (Month(2026, 8), Month(2026, 11), Month(2026, 12)))
    assert there(parted) == []
    assert [len(ids) for ids in inside(parted).values()] == [1]


def test_two_at_once(parted: Store) -> None:
    with parted.lock("partition"), pytest.raises(BusyError, match="another process is doing `partition`"):
        keep(parted)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_month_is_dropped_with_its_rows_alone(parted: Store, number: int) -> None:
    month = Month(2026, 8)
    append(parted, ORIGIN, parsed([of_month(n, month + n) for n in (-3, 0, 1, 2, 12)]), NOW)
    partitions.add(parted, "job", [month + n for n in range(3)])
    for _ in range(2):  # making the same ones again changes nothing
        partitions.add(parted, "job", [month + number])
    with parted.writing() as connection:
        partitions.drop(parted, connection, "job", month + number)
    kept = [n for n in (-3, 0, 1, 2, 12) if n != number]
    assert [Month.at(int(str(row["logged_at"]))) for row in rows(parted, job_table)] == [month + n for n in kept]
    assert there(parted) == [month + n for n in range(3) if n != number]
    append(parted, ORIGIN, parsed([of_month(50, month + number)]), NOW)
    assert there(parted) == [month + n for n in range(3) if n != number], "it went to a catch-all"
    partitions.add(parted, "job", [month + number])
    assert len(inside(parted)[(month + number).partition("job")]) == 1
    for n in range(3):
        with parted.writing() as connection:
            partitions.drop(parted, connection, "job", month + n)
    assert there(parted) == []
    assert len(rows(parted, job_table)) == 2


def test_a_table_that_has_no_partitions(parted: Store) -> None:
    with pytest.raises(ConfigError, match="usage is no table that is partitioned"):
        list(partitions.keep(parted, ["usage"], 3, NOW))


def test_collectors_and_readers_go_on_meanwhile(parted: Store) -> None:
    """A reader never sees a row twice or not at all while months are made around it; who appends waits."""
    months = [Month(2025, 1) + n for n in range(12)]
    append(parted, ORIGIN, parsed([of_month(n, months[n % 12]) for n in range(600)]), NOW)
    ended = threading.Event()

    def collect() -> int:
        other, number = Store(parted.engine.url.render_as_string(hide_password=False)), 600
        while not ended.is_set():
            number += append(other, ORIGIN, parsed([of_month(number, months[number % 12])]), NOW)[0].recorded
        other.close()
        return number

    def read() -> list[tuple[int, int]]:
        other, seen = Store(parted.engine.url.render_as_string(hide_password=False)), []
        while not ended.is_set():
            with other.reading() as connection:
                ids = list(connection.scalars(select(job_table.c.id)))
                seen.append((len(ids), len(set(ids))))
        other.close()
        return seen

    with ThreadPoolExecutor(2) as pool:
        collected, seen = pool.submit(collect), pool.submit(read)
        try:
            keep(parted, 0)
        finally:
            ended.set()
        counts, number = seen.result(), collected.result()
    assert len(rows(parted, job_table)) == number
    assert counts == [(n, n) for n, _ in counts]
    assert sorted(counts) == counts
    assert there(parted) == [*months, Month(2026, 11)]
    assert sum(len(ids) for name, ids in inside(parted).items() if "rest" in name) == 0


SHORT_WHILE_S = 0.5
"""Long enough for another thread to come to where it waits."""


@pytest.fixture
def other(parted: Store) -> Iterator[Store]:
    """The same database, by connections of its own."""
    made = Store(parted.engine.url.render_as_string(hide_password=False))
    yield made
    made.close()


def jobs_and_leftovers(store: Store) -> tuple[int, int]:
    with store.reading() as connection:
        jobs = connection.scalar(select(func.count()).select_from(job_table))
        return jobs or 0, connection.scalar(select(func.count()).select_from(archive_leftover)) or 0


@pytest.mark.parametrize("what", ["moved", "dropped"])
def test_a_reader_that_had_to_wait_for_a_month_sees_what_was_committed_then(parted: Store, other: Store, what: str) -> None:
    """Neither rows that went to another partition nor a partition that was dropped are there for an older snapshot."""
    if parted.dialect.commits_ddl:
        pytest.skip("a change of its schema is committed before anybody could wait for it")
    months = [Month(2026, 8), Month(2026, 9)]
    append(parted, ORIGIN, parsed([of_month(n, months[n % 2]) for n in range(10)]), NOW)
    if what == "dropped":
        partitions.add(parted, "job", months)
    planned = partitions.Plan("job", "logged_at", (), (months[0],))
    with ThreadPoolExecutor(1) as pool:
        with parted.writing() as connection:
            if what == "dropped":
                partitions.drop(parted, connection, "job", months[0])
            else:
                for statement in partitions.statements(parted, connection, planned):
                    connection.exec_driver_sql(statement)
            connection.execute(insert(archive_leftover).values(record_type="job", month=months[0].start, file_name="a file"))
            seen = pool.submit(jobs_and_leftovers, other)
            time.sleep(SHORT_WHILE_S)
            assert not seen.done()
        assert seen.result(60) == ((10, 1) if what == "moved" else (5, 1))


def test_a_month_that_is_dropped_while_the_catalogue_is_read(parted: Store, other: Store) -> None:
    months = [Month(2026, 8), Month(2026, 9)]
    partitions.add(parted, "job", months)
    # a transaction that has seen the month, and holds no table of records
    with other.engine.begin() as reading:
        assert partitions.months(other, reading, "job") == months
        with parted.writing() as connection:
            partitions.drop(parted, connection, "job", months[0])
        assert months[1] in partitions.months(other, reading, "job")
        assert partitions.plan(other, reading, "part", 0, NOW).wanted == (Month(2026, 11),)


def test_months_wait_for_who_has_begun_to_read(parted: Store, other: Store) -> None:
    append(parted, ORIGIN, parsed([of_month(n, Month(2026, 8)) for n in range(10)]), NOW)
    with ThreadPoolExecutor(2) as pool:
        with other.reading() as connection:
            collected = pool.submit(append, parted, ORIGIN, parsed([of_month(20, Month(2026, 8))]), NOW)
            assert collected.result(60)[0].recorded == 1, "a collector waits for no reader"
            made = pool.submit(partitions.add, parted, "job", [Month(2026, 8)])
            time.sleep(SHORT_WHILE_S)
            assert len(list(connection.scalars(select(job_table.c.id)))) in {10, 11}
            assert not made.done()
        made.result(60)
    assert there(parted) == [Month(2026, 8)]
    assert len(rows(parted, job_table)) == 11


def test_reading_where_no_schema_is(store_url: str) -> None:
    without = Store(store_url)
    without.dialect.prepare(without.engine)
    with without.reading() as connection:
        assert connection.scalar(select(1)) == 1
    without.close()
