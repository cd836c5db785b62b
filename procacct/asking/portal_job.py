"""What the portal shows of one job: its programs as a tree, or summed where there are very many; and the libraries they loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from batchacct.ledger.job_ids import JobId
from batchacct.portal_pages import Cell, Sheet
from procacct.asking.coverage import counted
from procacct.asking.programs import Program, Share, libraries_of, programs_of, runs_of_job, shares_of
from procacct.asking.programs_command import COLUMNS, for_people, totals

SUMMED = ("program", "host", "executions", "CPU s")


def sheets(connection: Connection, run: Row[Any], limit: int, accounts: tuple[str, ...] | None = None) -> Iterator[Sheet]:
    """Tables of what ran in a run of a job; none if no process of it is known.  `accounts`: see `JobSheets`."""
    job_id = JobId(run.join_id, run.array_index, run.join_id)
    of = next((one for one in runs_of_job(connection, job_id, run.cluster) if one.number == run.id), None)
    every = [] if of is None else shares_of(connection, job_id, of)
    if of is None or not every:
        return
    shares = [one for one in every if accounts is None or one.user in accounts]
    executions = sum(one.executions for one in shares)
    told = [totals(of, executions, sum(one.cpu_s for one in shares))] if shares else []
    if others := sum(one.executions for one in every) - executions:
        told.append(f"{counted(others, 'execution')} of other accounts: not shown, and in no figure.")
    if executions <= limit:
        yield _tree([one for one in programs_of(connection, job_id, of) if accounts is None or one.user in accounts], told)
    else:
        yield _summed(shares, told, limit)
    objects = libraries_of(connection, {one.object_set for one in shares if one.object_set is not None})
    paths = sorted({path for of_set in objects.values() for path in of_set})
    if paths:
        rows = [(path,) for path in paths[:limit]]
        yield Sheet(
            "Shared objects that were loaded", ("path",), rows, [{"path": path} for path in paths], (), len(paths) - len(rows)
        )


def _tree(programs: Sequence[Program], told: Sequence[str]) -> Sheet:
    rows = [for_people(one) for one in programs]
    note = "Below a program are those that its process started; => is what the same process went on to."
    return Sheet(
        "Programs, as they started each other", COLUMNS, rows, [dict(zip(COLUMNS, row, strict=True)) for row in rows], (*told, note)
    )


def _summed(shares: Sequence[Share], told: Sequence[str], limit: int) -> Sheet:
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for one in shares:
        executions, cpu_s = found.get((one.program, one.host), (0, 0.0))
        found[one.program, one.host] = executions + one.executions, cpu_s + one.cpu_s
    in_order = sorted(found.items(), key=lambda row: (-row[1][1], -row[1][0], row[0]))
    rows: list[tuple[Cell, ...]] = [(*key, *sums) for key, sums in in_order]
    values = [dict(zip(SUMMED, row, strict=True)) for row in rows]
    return Sheet("Programs, summed", SUMMED, rows[:limit], values, told, max(len(rows) - limit, 0))
