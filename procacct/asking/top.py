"""What ran most: executions, jobs, users, CPU and elapsed time by program, library, module and so on, summed in the database.

A process counts as a whole at the instant it ended. Rows of libraries, modules and groups overlap: a process is in that of each
library it had loaded, so they do not add up to the whole. What is summed by modules or applications, which are read from lists and
rules, or by the libraries of a set, is added up here, from the sums by job and user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, Subquery, and_, case, cast, func, or_, select

from batchacct.errors import ConfigError
from batchacct.ledger.whose import UNKNOWN
from batchacct.program_figures import Sums
from batchacct.store.tables import process, process_group
from procacct.asking.applications import Applications, modules_of
from procacct.asking.asked import CPU, CPU_UNKNOWN, NO_JOB, NUMBER_TEXT, PROGRAM, USER, Asked, vo_of
from procacct.asking.libraries import by_library
from procacct.asking.runs import Runs, is_of_run
from procacct.asking.top_rows import TopRow

NS = 10**9

NOT_SIGNED = "(not signed)"
NO_MODULES = "(no modules)"
NO_GROUP = "(no group)"

BY = ("program", "application", "library", "module", "signature", "command", "user", "vo", "host", "group", "job")
OVERLAPPING = frozenset({"library", "module", "group"})


def top(connection: Connection, asked: Asked, by: str, runs: Runs, applications: Applications) -> list[TopRow]:
    """What ran, by one of `BY`, in any order (see `top_rows.ordered`); `runs` are those of the processes.  Raises: ConfigError."""
    if by not in BY:
        raise ConfigError(f"what ran is told by {', '.join(BY)}, not by {by!r}")
    return list(_asked_by(connection, asked, by, runs, applications))


def _asked_by(connection: Connection, asked: Asked, by: str, runs: Runs, applications: Applications) -> Iterable[TopRow]:
    run = runs.shared_out()
    if by == "application":
        keys = {"program": PROGRAM, "signature": process.c.signature, "modules": process.c.modules}
        by_run = _by_run(asked, run, keys)
        return _added_up(connection, by_run, lambda row: [applications.of(row.program, row.signature, row.modules)])
    if by == "module":
        by_run = _by_run(asked, run, {"modules": process.c.modules})
        return _added_up(connection, by_run, lambda row: modules_of(row.modules) or [NO_MODULES])
    if by == "library":
        return by_library(connection, _by_run(asked, run, {"object_set": process.c.object_set}), asked.objects_told)
    if by == "group":
        by_run = _by_run(asked, run, {"name": _GROUP}, _with_groups(asked, run))
        return _rows(connection, _summed(by_run.subquery()))
    return _rows(connection, _summed(_by_run(asked, run, {"name": _NAMES[by](run)}).subquery()))


def _id_shown(of: FromClause) -> ColumnElement[Any]:
    """`lsf1 1234[5]`"""
    index = case((of.c.array_index.is_not(None), "[" + cast(of.c.array_index, NUMBER_TEXT) + "]"), else_=" ")
    return func.rtrim(of.c.cluster + " " + of.c.join_id + index)


_NAMES: Mapping[str, Callable[[FromClause], ColumnElement[Any]]] = {
    "program": lambda _: PROGRAM,
    "signature": lambda _: func.coalesce(process.c.signature, NOT_SIGNED),
    "command": lambda _: func.coalesce(process.c.command, UNKNOWN),
    "user": lambda _: USER,
    "vo": vo_of,
    "host": lambda _: process.c.host,
    "job": lambda run: case(
        (run.c.run_id.is_not(None), _id_shown(run)), (process.c.join_id.is_not(None), _id_shown(process)), else_=NO_JOB
    ),
}
_GROUP = func.coalesce(process_group.c.group_name, process_group.c.group_id, NO_GROUP)


def _by_run(asked: Asked, run: Subquery, keys: Mapping[str, ColumnElement[Any]], rows: FromClause | None = None) -> Select[Any]:
    """The sums by keys, run and user: far fewer rows than processes, of which jobs and users are told apart.

    Grouping is by the columns of an inner query, as in `cpuhours.query`: bind parameters of repeated expressions would make
    PostgreSQL take them for two different things.

    With `rows` of its own a process counts once for its keys, however many of the rows have them.
    """
    one = (
        select(
            *(column.label(name) for name, column in keys.items()),
            run.c.run_id,
            case((run.c.run_id.is_(None), _id_shown(process))).label("job_without_record"),
            USER.label("who"),
            process.c.processes.label("executions"),
            CPU.label("cpu_s"),
            func.coalesce(process.c.elapsed_s, 0.0).label("elapsed_s"),
            CPU_UNKNOWN.label("cpu_unknown"),
        )
        .select_from(rows if rows is not None else process.outerjoin(run, is_of_run(run)))
        .where(*asked.processes(), *asked.of_vo(run))
    )
    if rows is not None:
        one = one.add_columns(process.c.id).distinct()
    return _added(one.subquery("one"), ("run_id", "job_without_record", *keys, "who"))


def _added(rows: Subquery, by: Sequence[str]) -> Select[Any]:
    """The sums by some columns; by numbers first, which a database that sorts the rows compares faster than texts."""
    of = [rows.c[name] for name in by]
    return select(*of, *(func.sum(rows.c[name]).label(name) for name in _SUMS)).group_by(*of)


_SUMS = ("executions", "cpu_s", "elapsed_s", "cpu_unknown")


def _with_groups(asked: Asked, run: Subquery) -> FromClause:
    """Processes with each group they were in, which left it no earlier than they ended: in several of them, a row for each."""
    is_member = and_(
        process_group.c.superseded_by.is_(None),
        process_group.c.left_at >= asked.begin - 1,
        process_group.c.host == process.c.host,
        process_group.c.boot_id == process.c.boot_id,
        process_group.c.pid == process.c.pid,
        process_group.c.start_ns <= process.c.start_ns,
        func.coalesce(process_group.c.left_ns, process_group.c.left_at * NS + (NS - 1)) >= process.c.start_ns,
        or_(process_group.c.joined_ns.is_(None), process.c.end_ns.is_(None), process_group.c.joined_ns <= process.c.end_ns),
    )
    return process.outerjoin(run, is_of_run(run)).outerjoin(process_group, is_member)


def _summed(by_run: Subquery) -> Select[Any]:
    """The sums of each name, of rows of which there is one a name, run and user.

    A run counts with the first of its users alone, and then a user's rows are one: so nothing has to be counted as distinct,
    for which PostgreSQL would sort all the rows by their names.
    """
    of_run = [by_run.c[name] for name in ("run_id", "job_without_record", "name")]
    is_first = func.row_number().over(partition_by=of_run, order_by=by_run.c.who) == 1
    of_job = or_(by_run.c.run_id.is_not(None), by_run.c.job_without_record.is_not(None))
    numbered = select(
        by_run.c.name, by_run.c.who, *(by_run.c[name] for name in _SUMS), case((and_(is_first, of_job), 1), else_=0).label("jobs")
    ).subquery("numbered")
    by_user = (
        select(numbered.c.name, numbered.c.who, *(func.sum(numbered.c[name]).label(name) for name in (*_SUMS, "jobs")))
        .group_by(numbered.c.name, numbered.c.who)
        .subquery("by_user")
    )
    sums = (func.sum(by_user.c[name]).label(name) for name in (*_SUMS, "jobs"))
    return select(by_user.c.name, *sums, func.count(by_user.c.who).label("users")).group_by(by_user.c.name)


def _rows(connection: Connection, query: Select[Any]) -> Iterator[TopRow]:
    for row in connection.execute(query):
        sums = Sums(
            int(row.executions), int(row.jobs), int(row.users), float(row.cpu_s), float(row.elapsed_s), int(row.cpu_unknown)
        )
        yield TopRow(row.name, sums)


@dataclass(slots=True)
class _Growing:
    executions: int = 0
    cpu_s: float = 0.0
    elapsed_s: float = 0.0
    cpu_unknown: int = 0
    jobs: set[int | str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)


def _added_up(connection: Connection, by_run: Select[Any], names: Callable[[Any], Sequence[str]]) -> Iterator[TopRow]:
    found: dict[str, _Growing] = {}
    for row in connection.execution_options(yield_per=10_000).execute(by_run):
        job = row.job_without_record if row.run_id is None else row.run_id
        for name in dict.fromkeys(names(row)):
            of = found.setdefault(name, _Growing())
            of.executions += int(row.executions)
            of.cpu_s += float(row.cpu_s)
            of.elapsed_s += float(row.elapsed_s)
            of.cpu_unknown += int(row.cpu_unknown)
            of.users.add(row.who)
            if job is not None:
                of.jobs.add(job)
    for name, of in found.items():
        yield TopRow(name, Sums(of.executions, len(of.jobs), len(of.users), of.cpu_s, of.elapsed_s, of.cpu_unknown))
