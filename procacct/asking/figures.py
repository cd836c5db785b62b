"""What ran, by bins of time, for `batchacct report programs`: what `procs top` says of the period, and of each of its bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from sqlalchemy import Connection, select

from batchacct.config import Config
from batchacct.program_figures import Asked, Found, Ran, Span
from batchacct.store import Store
from batchacct.store.spans import DAY
from batchacct.store.tables import process
from procacct.asking import asked as processes
from procacct.asking.applications import Applications
from procacct.asking.coverage import notes
from procacct.asking.options import first_and_last
from procacct.asking.places import answered
from procacct.asking.runs import Runs, runs_of_processes
from procacct.asking.top import BY, OVERLAPPING, top


class Figures:
    """See `batchacct.program_figures.ProgramFigures`."""

    by: Sequence[str] = BY
    overlapping = OVERLAPPING

    def ends(self, store: Store) -> Span | None:
        with store.reading() as connection:
            first, last = first_and_last(connection)
        return None if first is None or last is None else (first, last)

    def __call__(self, store: Store, config: Config, asked: Asked) -> Found:
        applications = Applications(config.application)

        def question(connection: Connection, which: processes.Asked) -> Found:
            def rows(of: processes.Asked, runs: Runs) -> list[Ran]:
                return [Ran(name=row.name, **asdict(row.sums)) for row in top(connection, of, asked.by, runs, applications)]

            runs = runs_of_processes(connection, which.logged)
            found = []
            for begin, end in asked.bins:
                part = _within(which, begin, end)
                found.append(((begin, end), rows(part, runs_of_processes(connection, part.logged))))
            return Found(rows(which, runs), found, _days_without(connection, which), notes(connection, which, runs))

        begin, end = (f"@{at}" for at in asked.period)
        found, _, purged = answered(store, begin, end, question, vo=asked.vo, cluster=asked.cluster, user=asked.user)
        return replace(found, notes=[*found.notes, *purged])


def _within(which: processes.Asked, begin: int, end: int) -> processes.Asked:
    """The same of a bin, as far as it is in the period."""
    return processes.Asked(max(begin, which.begin), min(end, which.end), which.vo, which.cluster, which.user)


def _days_without(connection: Connection, which: processes.Asked) -> list[int]:
    days = select((process.c.logged_at // DAY).label("day")).where(which.logged.has(process.c.logged_at)).distinct()
    days = days if which.cluster is None else days.where(process.c.cluster == which.cluster)
    known = {int(day) for day in connection.scalars(days)}
    return [day * DAY for day in range(which.begin // DAY, -(-which.end // DAY)) if day not in known]


FIGURES = Figures()
