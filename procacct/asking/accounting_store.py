"""Processes out of the store, whether the node daemon or BSD accounting told of them: of each host the one or the other.

A membership in a group of processes is that of a row if both are of one process: the same host, boot and number, at the same time.
BSD accounting knows no boot, and when a process started to a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, FromClause, Row, and_, case, cast, func, null, or_, select

from batchacct.store.spans import ANYTIME, NEVER, Span, has_partitions
from batchacct.store.tables import archived_month, process, process_group
from procacct.asking.accounting_question import MOST, NO_GROUP, NO_JOB, SLACK_S, UNKNOWN, Question, like_any
from procacct.asking.accounting_sums import COLUMNS, Key, Totals
from procacct.asking.accounts import is_number
from procacct.asking.one_source import counted_once, hosts_of_several, is_bsd, is_daemon, is_program, rows_left_out

NS = 1_000_000_000
ROWS_AT_ONCE = 5_000

_KEYS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "user": (process.c.user_id, process.c.user_name),
    "command": (process.c.command, process.c.kind),
    "job": (process.c.cluster, process.c.join_id),
    "group": (process_group.c.host, process_group.c.group_id, process_group.c.group_name),
    "unix-group": (process.c.group_id,),
    "host": (process.c.host,),
    "terminal": (process.c.terminal,),
    "day": (process.c.logged_at // 86_400,),
}

LISTED = (
    "host", "user_id", "user_name", "command", "kind", "pid", "parent_pid", "terminal", "started_at", "logged_at", "elapsed_s",
    "cpu_user_s", "cpu_system_s", "ended_by", "exit_code", "exit_signal", "core_dumped", "superuser", "join_id", "processes",
)  # fmt: skip
"""Columns of a process in a list."""


@dataclass(frozen=True, slots=True)
class Told:
    """Who told of the processes of a period: how many hosts are counted by whom, and what is in no figure.

    `by_accounting` are hosts of which BSD accounting told and the daemon did not; `of_several` those of which rows were left out.
    """

    by_daemon: int
    by_accounting: int
    of_several: list[str]
    left_out: int
    lost_events: int
    archived_months: int


def sums_of_store(connection: Connection, question: Question, by: str) -> Totals:
    """What the processes in the store come to by one of `SUMMED_BY`, by names that people read but for users and unix groups."""
    one = _asked(connection, question, by).subquery()
    names = [column.name for column in one.columns if column.name.startswith("key")] + ["command"]
    keys = [one.c[name] for name in (names if question.commands else names[:-1])]
    sums = [(func.max if name in MOST else func.sum)(one.c[name]) for name in COLUMNS]
    totals = Totals()
    for row in connection.execute(select(*keys, *sums).group_by(*keys)):
        key, numbers = tuple(row[: len(keys)]), row[len(keys) :]
        if question.commands:
            *others, command = key
            if not like_any(command, question.commands):
                continue
            key = tuple(others)
        totals.add(key, [_plain(number) for number in numbers])
    return totals


def _plain(number: Any) -> int | float | None:
    """A sum as Python has it: PostgreSQL and MariaDB give decimals of whole numbers."""
    if number is None or isinstance(number, (int, float)):
        return number
    return int(number)


def named(by: str, key: Key, *, several_clusters: bool) -> str:
    """What a key of `sums_of_store` is called, but for users and unix groups."""
    if by == "command":
        return f"{UNKNOWN if key[0] is None else key[0]}{'*' if key[1] == 'fork' else ''}"
    if by == "job":
        return NO_JOB if key[1] is None else f"{key[0]}:{key[1]}" if several_clusters else str(key[1])
    if by == "group":
        return NO_GROUP if key[1] is None else f"{key[0]}:{key[1]}" + (f" ({key[2]})" if key[2] else "")
    return UNKNOWN if key[0] is None else str(key[0])


def rows_of_store(connection: Connection, question: Question) -> Iterator[Row[Any]]:
    """The processes themselves, in the order in which they ended."""
    asked = select(*(process.c[name] for name in LISTED)).where(*_conditions(question))
    asked = asked.order_by(process.c.logged_at, process.c.id).execution_options(yield_per=ROWS_AT_ONCE)
    for row in connection.execute(asked):
        if not question.commands or like_any(row.command, question.commands):
            yield row


def who_told(connection: Connection, question: Question) -> Told:
    """Who told of the processes of the period that is asked for, whoever's they are."""
    period = question.span
    hosts = select(process.c.host).where(period.has(process.c.logged_at), is_program()).distinct()
    by_daemon, by_bsd = (set(connection.scalars(hosts.where(of_it))) for of_it in (is_daemon(), is_bsd()))
    several = hosts_of_several(connection, period)
    lost = select(func.sum(process.c.lost_events)).where(period.has(process.c.logged_at), process.c.superseded_by.is_(None))
    archived = select(func.count()).select_from(archived_month).where(archived_month.c.record_type == "process")
    return Told(
        len(by_daemon),
        len(by_bsd - by_daemon),
        several,
        rows_left_out(connection, period) if several else 0,
        int(connection.scalar(lost) or 0),
        connection.scalar(archived) or 0,
    )


def _conditions(question: Question) -> list[ColumnElement[bool]]:
    period = question.span
    conditions = [
        is_program(),
        period.has(process.c.logged_at),
        counted_once(period),
    ]
    if question.users:
        numbers = [int(user) for user in question.users if is_number(user)]
        by_number = and_(process.c.user_name.is_(None), process.c.user_id.in_(question.user_ids))
        conditions.append(or_(process.c.user_name.in_(question.users), process.c.user_id.in_(numbers), by_number))
    if question.terminals:
        conditions.append(process.c.terminal.in_(question.terminals))
    return conditions


def _asked(connection: Connection, question: Question, by: str) -> Any:
    """A row a process (and group, if they are summed by that: one, however often it joined) with its keys and what is added up."""
    of_it = process.c.processes
    made: dict[str, ColumnElement[Any]] = {
        "forks": case((process.c.kind == "fork", of_it), else_=0),
        "killed": case((process.c.ended_by == "signal", of_it), else_=0),
        "swaps": cast(null(), BigInteger),
    }
    rows: FromClause = process
    if by == "group":
        rows = process.outerjoin(process_group, and_(_is_member(), _left(connection, question).has(process_group.c.left_at)))
    one = (
        select(
            *(key.label(f"key{number}") for number, key in enumerate(_KEYS[by])),
            process.c.command,
            *(made[name].label(name) if name in made else process.c[name] for name in COLUMNS),
        )
        .select_from(rows)
        .where(*_conditions(question))
    )
    return one.add_columns(process.c.id).distinct() if by == "group" else one


def _left(connection: Connection, question: Question) -> Span:
    """When what the processes were members of was left: not before the first of them started."""
    if not has_partitions(connection) or question.begin is None:
        return ANYTIME
    first = connection.scalar(select(func.min(process.c.started_at)).where(*_conditions(question)))
    return NEVER if first is None else Span(first - SLACK_S)


def _is_member() -> ColumnElement[bool]:
    """Whether a process was in a group."""
    p, g = process.c, process_group.c
    left_ns = func.coalesce(g.left_ns, g.left_at * NS + (NS - 1))
    joined_ns = func.coalesce(g.joined_ns, g.start_ns, 0)
    in_ns = and_(p.start_ns <= left_ns, func.coalesce(p.end_ns, p.logged_at * NS + (NS - 1)) >= joined_ns, g.boot_id == p.boot_id)
    in_s = and_(p.started_at - SLACK_S <= g.left_at, p.logged_at + SLACK_S >= joined_ns / NS)
    is_exact = and_(p.start_ns.is_not(None), p.boot_id.is_not(None))
    return and_(g.superseded_by.is_(None), g.host == p.host, g.pid == p.pid, case((is_exact, in_ns), else_=in_s))
