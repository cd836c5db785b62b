"""Monthly partitions of the large tables, on the databases that have such.

A row of a month without a partition of its own goes to a catch-all, so that nothing is ever refused for lack of one; making that
month's partition moves it. Months are made ahead, up to `ahead` months after this one, and for the months of what is in the
catch-all. What that holds of later times (a clock was wrong) or of before `EARLIEST` stays there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from batchacct.crashpoints import crash_point
from batchacct.errors import ConfigError
from batchacct.store.dialects.partitioning import Partitioning
from batchacct.store.months import Month
from batchacct.store.store import Store
from batchacct.store.tables import RECORD_TABLES

EARLIEST = Month(1990, 1)
LATEST = Month(9998, 12)
MOST_AHEAD = 24
"""More months than this between the newest partition and those planned are taken for a wrong clock."""

TABLES = tuple(RECORD_TABLES)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done for a table: the months it has, those to be made, and the months of rows that are in the catch-all: those
    that go to their partitions then, and those that stay.
    """

    table: str
    time: str
    there: tuple[Month, ...]
    wanted: tuple[Month, ...]
    moved: tuple[Month, ...] = ()
    stay: tuple[Month, ...] = ()


def months(store: Store, connection: Connection, table: str) -> list[Month]:
    """The months that have a partition of their own, in order; none where the database has no partitions."""
    partitions = store.dialect.partitions
    found = [] if partitions is None else [one.month for one in partitions.partitions(connection, table)]
    return sorted(month for month in found if month is not None)


def plan(store: Store, connection: Connection, table: str, ahead: int, now: int, *, force: bool = False) -> Plan:
    """The months that a table wants: from the last one it has up to `ahead` months after this one, and those of its catch-all.

    Raises: ConfigError for a table without partitions, and, without `force`, for a clock that seems to be years ahead.
    """
    partitions = _of(store)
    time = partitions.time_column(connection, table)
    if time is None:
        raise ConfigError(f"{table} is no table that is partitioned by a range of Unix times: `create --partition` makes such")
    there = months(store, connection, table)
    current = Month.at(now)
    last = current + ahead
    waiting = list(_in_catch_alls(connection, partitions, table, time))
    known = dict.fromkeys(waiting, "rows of {table} without a partition are")
    known |= dict.fromkeys(there[-1:], "partition of {table} is that")
    if known and not force and current - max(known) > MOST_AHEAD:
        newest = known[max(known)].format(table=table)
        raise ConfigError(
            f"the clock of this host says {current}, and the last {newest} of {max(known)}: that would be "
            f"{last - max(known)} partitions more. Correct the clock; if it is right, say so with --force"
        )
    first = there[-1] + 1 if there and there[-1] < current else current
    planned = {first + more for more in range(last - first + 1)}
    moved = {month for month in waiting if EARLIEST <= month <= last}
    stay = {month for month in waiting if month not in moved}
    wanted = sorted((planned | moved) - set(there))
    return Plan(table, time, tuple(there), tuple(wanted), tuple(sorted(moved)), tuple(sorted(stay)))


def waiting(store: Store, connection: Connection, ahead: int, now: int) -> dict[str, list[Month]]:
    """By table the months of rows that `keep` would take out of the catch-all: nobody made a partition for them in time."""
    found: dict[str, list[Month]] = {}
    for table in TABLES if store.dialect.partitions is not None else ():
        planned = plan(store, connection, table, ahead, now, force=True)
        if planned.moved:
            found[table] = list(planned.moved)
    return found


def statements(store: Store, connection: Connection, planned: Plan) -> list[str]:
    """The SQL that makes what is planned."""
    return _of(store).add(connection, planned.table, planned.time, planned.wanted)


def carry_out(store: Store, planned: Plan) -> Iterator[Month]:
    """Makes the months that are planned; yields each that is there.

    One transaction each where the database can: then no row is ever out of the table. Collectors wait for it.
    """
    partitions = _of(store)
    together = [planned.wanted] if store.dialect.commits_ddl else [(month,) for month in planned.wanted]
    for some in together:
        with store.writing() as connection:
            if not store.dialect.commits_ddl:
                store.dialect.append_alone(connection)
            for statement in partitions.add(connection, planned.table, planned.time, some):
                connection.exec_driver_sql(statement)
                crash_point("partition.statement")
        yield from some
    if planned.wanted:
        with store.writing() as connection:
            for statement in partitions.look_again(planned.table):
                connection.exec_driver_sql(statement)


def add(store: Store, table: str, wanted: Sequence[Month]) -> None:
    """Makes the partitions of months that have none yet, such as those of old logs that are about to be read."""
    if store.dialect.partitions is None:
        return
    with store.lock("partition"):
        with store.reading() as connection:
            there = set(months(store, connection, table))
            time = store.dialect.partitions.time_column(connection, table) or ""
        for _ in carry_out(store, Plan(table, time, (), tuple(sorted(set(wanted) - there)))):
            pass


def drop(store: Store, connection: Connection, table: str, month: Month) -> None:
    """Drops the partition of a month with all its rows; safe to repeat after it was interrupted.

    In the connection's transaction, where the database's changes of its schema can be in one.
    """
    for statement in _of(store).drop(connection, table, month):
        connection.exec_driver_sql(statement)


def keep(store: Store, tables: Iterable[str], ahead: int, now: int, *, dryrun: bool = False, force: bool = False) -> Iterator[str]:
    """Makes the partitions that tables want; says what it does, or, in a dry run, the SQL of it.

    Raises: BusyError, ConfigError, StoreError.
    """
    if store.dialect.partitions is None:
        yield f"{store.dialect.name} has no partitions: there is nothing to do"
        return
    with store.lock("partition"):
        for table in tables:
            with store.reading() as connection:
                planned = plan(store, connection, table, ahead, now, force=force)
                if dryrun:
                    yield from (f"{statement};" for statement in statements(store, connection, planned))
                    continue
            for month in carry_out(store, planned):
                yield f"{table}: made {month}, {month.partition(table)}"
            if not planned.wanted:
                yield f"{table}: has its partitions, the last of them {planned.there[-1]}"
            if planned.stay:
                stay = ", ".join(map(str, planned.stay))
                yield f"{table}: rows of {stay} stay in the catch-all: their times, or this host's clock, may be wrong"


def _of(store: Store) -> Partitioning:
    if store.dialect.partitions is None:
        raise ConfigError(f"{store.dialect.name} has no partitions, and its tables need none")
    return store.dialect.partitions


def _in_catch_alls(connection: Connection, partitions: Partitioning, table: str, time: str) -> Iterator[Month]:
    """The months of the rows that are in a catch-all: looked for by an index, month after month."""
    for one in partitions.partitions(connection, table):
        since = one.start
        while one.month is None:
            first = partitions.first_from(connection, table, one, time, since)
            if first is None:
                break
            month = Month.at(min(max(first, (EARLIEST + -1).start), LATEST.start))
            yield month
            if month == LATEST:
                break
            since = month.end
