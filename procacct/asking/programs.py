"""What ran in one run of a job, as a tree: which program started which, and what each came to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select

from batchacct.errors import IncompleteError
from batchacct.ledger.job_ids import JobId
from batchacct.store.spans import LATE, NEVER, Span, has_partitions
from batchacct.store.tables import job, object_, process
from procacct.asking.asked import CPU, PROGRAM, USER
from procacct.asking.one_source import counted_once, is_program
from procacct.asking.runs import SLACK_S, Runs, is_of_run

EXEC, CHILD = "exec", "child"
SUMMED = "sum/"
"""What the key of a row begins with that stands for many equal executions."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a job: `number` is that of its record; None of all together: the job's processes that are of no recorded run."""

    number: int | None
    cluster: str
    shown_id: str
    user_name: str | None
    start_at: int | None
    end_at: int | None
    cpu_duration_s: int | None


@dataclass(frozen=True, slots=True)
class Program:
    """One row of a tree: a program run by a process, `depth` generations below the first.

    `by` is `child`, or `exec`: the same process went on to it. Seconds of CPU are None where they are not known, or stand with the
    program that the process went on to.
    """

    depth: int
    by: str
    host: str
    pid: int
    parent_pid: int | None
    program: str
    arguments: str | None
    user: str
    kind: str
    executions: int
    started_at: int
    start_ns: int
    ended_at: int
    elapsed_s: float | None
    cpu_s: float | None
    memory_real_kib: int | None
    ended_by: str
    exit_code: int | None
    exit_signal: int | None
    core_dumped: bool
    signature: str | None
    build_id: str | None
    object_set: str | None
    libraries: tuple[str, ...] = ()


def runs_of_job(connection: Connection, job_id: JobId, cluster: str | None = None) -> list[Run]:
    """The runs of a job, oldest first; and, last, one without a number if there are processes of it that are of none of them."""
    which = _is_job(job_id, cluster)
    run = Runs(which=which).shared_out()
    rows = connection.execute(select(run).order_by(run.c.start_at, run.c.run_id)).all()
    found = [
        Run(r.run_id, r.cluster, _shown(r.lrms_job_id, r.array_index), r.user_name, r.start_at, r.end_at, r.cpu_duration_s)
        for r in rows
    ]
    without = select(process.c.cluster, process.c.lrms_job_id, process.c.array_index, process.c.user_name).distinct()
    of_none = without.select_from(process.outerjoin(run, is_of_run(run))).where(_of_job(job_id, cluster), run.c.run_id.is_(None))
    # in order here: each database has its own place for what is null
    rest = sorted(connection.execute(of_none).all(), key=lambda r: [(value is None, value or 0) for value in r])
    return found + [
        Run(None, r.cluster, _shown(r.lrms_job_id or job_id.typed, r.array_index), r.user_name, None, None, None) for r in rest[:1]
    ]


def _is_job(job_id: JobId, cluster: str | None) -> ColumnElement[bool]:
    found = [job.c.join_id == job_id.join_id]
    found += [] if job_id.array_index is None else [job.c.array_index == job_id.array_index]
    return and_(*found, *([] if cluster is None else [job.c.cluster == cluster]))


def _of_job(job_id: JobId, cluster: str | None) -> ColumnElement[bool]:
    found = [process.c.join_id == job_id.join_id, is_program()]
    found += [] if job_id.array_index is None else [process.c.array_index == job_id.array_index]
    return and_(*found, *([] if cluster is None else [process.c.cluster == cluster]))


def _shown(lrms_job_id: str, array_index: int | None) -> str:
    return lrms_job_id if array_index is None else f"{lrms_job_id}[{array_index}]"


def programs_of(connection: Connection, job_id: JobId, of: Run, *, libraries: bool = False) -> list[Program]:
    """The programs of a run, each after the one that started it."""
    in_order = (process.c.host, func.coalesce(process.c.start_ns, process.c.started_at * 10**9), process.c.id)
    found = list(_tree(connection.execute(_rows_of(connection, job_id, of).order_by(*in_order)).all()))
    return _with_libraries(connection, found) if libraries else found


def _rows_of(connection: Connection, job_id: JobId, of: Run) -> Select[Any]:
    run = Runs(which=_is_job(job_id, of.cluster)).shared_out()
    logged = Span()
    if of.start_at is not None and of.end_at is not None and has_partitions(connection):
        logged = Span(of.start_at - SLACK_S, of.end_at + LATE)
    told = connection.execute(
        select(func.min(process.c.logged_at), func.max(process.c.logged_at)).where(
            _of_job(job_id, of.cluster), logged.has(process.c.logged_at)
        )
    ).one()
    of_job = NEVER if told[0] is None else Span(told[0], told[1])
    own = run.c.run_id.is_(None) if of.number is None else run.c.run_id == of.number
    return (
        select(*_COLUMNS, PROGRAM.label("path"), USER.label("who"), CPU.label("cpu_s"))
        .select_from(process.outerjoin(run, is_of_run(run)))
        .where(_of_job(job_id, of.cluster), own, logged.has(process.c.logged_at), counted_once(of_job))
    )


_COLUMNS = tuple(process.c[name] for name in (
    "record_key", "host", "boot_id", "pid", "parent_pid", "arguments", "kind", "processes", "started_at", "start_ns", "logged_at",
    "elapsed_s", "cpu_user_s", "cpu_system_s", "memory_real_kib", "ended_by", "exit_code", "exit_signal", "core_dumped",
    "signature", "build_id", "object_set",
))  # fmt: skip


def _tree(rows: Sequence[Row[Any]]) -> Iterator[Program]:
    """Rows in the order of their starts as a tree: below a program are those its process started, and the one it went on to.

    A parent is the program that ran under the parent's pid, on that host and boot, when the child was forked. A process whose
    parent is none of them (one of the batch system, or of another host) is a first one; so is what a node has summed up, of
    which no parent is told, and which is none.
    """
    children: dict[int | None, list[tuple[int, str]]] = {}
    latest: dict[tuple[str, str | None, int], int] = {}
    for number, row in enumerate(rows):
        own, parent = (row.host, row.boot_id, row.pid), (row.host, row.boot_id, row.parent_pid)
        before = None if row.record_key.startswith(SUMMED) else latest.get(own)
        if before is not None and rows[before].ended_by == EXEC:
            children.setdefault(before, []).append((number, EXEC))
        else:
            above = latest.get(parent) if row.parent_pid is not None and row.parent_pid != row.pid else None
            children.setdefault(above, []).append((number, CHILD))
        if not row.record_key.startswith(SUMMED):
            latest[own] = number
    waiting = [(number, by, 0) for number, by in reversed(children.get(None, []))]
    while waiting:
        number, by, depth = waiting.pop()
        yield _program(rows[number], by, depth)
        below = children.get(number, [])
        waiting += [(n, kind, depth if kind == EXEC else depth + 1) for n, kind in reversed(below)]


@dataclass(frozen=True, slots=True)
class Share:
    """What a program came to on a host, in processes of an account that had loaded the same set of objects."""

    program: str
    user: str
    host: str
    object_set: str | None
    executions: int
    cpu_s: float
    first_at: int
    last_at: int


def shares_of(connection: Connection, job_id: JobId, of: Run) -> list[Share]:
    """What the programs of a run came to, however many there were."""
    one = _rows_of(connection, job_id, of).subquery()
    keys = (one.c.path, one.c.who, one.c.host, one.c.object_set)
    sums = (func.sum(one.c.processes), func.sum(one.c.cpu_s), func.min(one.c.started_at), func.max(one.c.logged_at))
    rows = connection.execute(select(*keys, *sums).group_by(*keys)).all()
    return [Share(*row[:4], int(row[4]), float(row[5]), int(row[6]), int(row[7])) for row in rows]


_SAME = (
    "host", "pid", "parent_pid", "arguments", "kind", "started_at", "elapsed_s", "memory_real_kib", "ended_by", "exit_code",
    "exit_signal", "signature", "build_id", "object_set",
)  # fmt: skip


def _program(row: Row[Any], by: str, depth: int) -> Program:
    known = row.cpu_user_s is not None or row.cpu_system_s is not None
    return Program(
        depth=depth,
        by=by,
        program=row.path,
        user=row.who,
        executions=row.processes,
        start_ns=row.started_at * 10**9 if row.start_ns is None else row.start_ns,
        ended_at=row.logged_at,
        cpu_s=row.cpu_s if known else None,
        core_dumped=bool(row.core_dumped),
        **{name: getattr(row, name) for name in _SAME},
    )


def _with_libraries(connection: Connection, programs: Sequence[Program]) -> list[Program]:
    of = libraries_of(connection, {one.object_set for one in programs if one.object_set is not None})
    return [replace(one, libraries=of.get(one.object_set or "", ())) for one in programs]


def libraries_of(connection: Connection, sets: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The paths of the shared objects of each set, in alphabetical order."""
    wanted = sorted(sets)
    found: dict[str, set[str]] = {}
    for first in range(0, len(wanted), 500):
        asked = select(object_.c.object_set, object_.c.path).where(object_.c.object_set.in_(wanted[first : first + 500])).distinct()
        for name, path in connection.execute(asked):
            found.setdefault(name, set()).add(path)
    return {name: tuple(sorted(paths)) for name, paths in found.items()}


def chosen_runs(runs: Sequence[Run], wanted: int | None) -> list[Run]:
    """All of them, or the one of a number, counted from 1.  Raises: IncompleteError if there is none."""
    if wanted is None:
        return list(runs)
    if wanted > len(runs):
        raise IncompleteError(f"there is no run {wanted} of this job: it has {len(runs)}")
    return [runs[wanted - 1]]
