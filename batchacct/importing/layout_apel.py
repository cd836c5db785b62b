"""The tables of an APEL client's database: events of the batch system, BLAH records, and the jobs that were joined of them.

What it has published are the rows of JobRecords that were joined (`UpdateTime`) no later than it last sent (`LastUpdated`, type
`sent`): it takes all of them each time, whose turn has come. A client that sends summaries does not note that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, exists, func, or_, select

from batchacct.importing.foreign import Foreign, ForeignTable, Question
from batchacct.importing.totals import NOTHING, Key, Sums, added

JOBS, EVENTS, BLAHD, OF_JOBS = "JobRecords", "EventRecords", "BlahdRecords", "JobRecords identity"
LOCAL = "local"
PUBLISHED_BY = "published by the APEL client"

_SIZES = ("WallDuration", "CpuDuration", "NodeCount", "Processors", "MemoryReal", "MemoryVirtual", "StartTime", "EndTime")
_OF_JOB = (
    *("UpdateTime", "SiteID", "SubmitHostID", "MachineNameID", "QueueID", "LocalJobId", "LocalUserId", "GlobalUserNameID", "FQAN"),
    *("VOID", "VOGroupID", "VORoleID", *_SIZES, "InfrastructureDescription", "InfrastructureType", "ServiceLevelType"),
    "ServiceLevel",
)
_OF_EVENT = (
    *("SiteID", "MachineNameID", "QueueID", "JobName", "LocalUserID", "LocalUserGroup", *_SIZES, "Infrastructure", "Status"),
)
_OF_BLAH = ("TimeStamp", "GlobalUserNameID", "FQAN", "VOID", "VOGroupID", "VORoleID", "CEID", "GlobalJobId", "LrmsId", "SiteID")
_NAMES = {
    "SiteID": ("Sites", "Site"),
    "SubmitHostID": ("SubmitHosts", "SubmitHost"),
    "CEID": ("SubmitHosts", "CE"),
    "MachineNameID": ("MachineNames", "MachineName"),
    "QueueID": ("Queues", "Queue"),
    "GlobalUserNameID": ("DNs", "GlobalUserName"),
    "VOID": ("VOs", "VO"),
    "VOGroupID": ("VOGroups", "VOGroup"),
    "VORoleID": ("VORoles", "VORole"),
}
"""By column: the table that its numbers are of, and what the name in it is called in a message."""


@dataclass(frozen=True, slots=True)
class Named:
    """A table with the names that its numbers stand for: `columns` by the words of messages."""

    table: ForeignTable
    joined: FromClause
    columns: Mapping[str, ColumnElement[Any]]

    def labelled(self, *names: str, but: tuple[str, ...] = ()) -> list[ColumnElement[Any]]:
        """These columns (none: all), without some, each under its name."""
        return [self.columns[name].label(name) for name in names or self.columns if name not in but]


class ApelClient:
    """The database of a client, as `foreign` is."""

    def __init__(self, foreign: Foreign) -> None:
        self.foreign = foreign

    def jobs(self) -> Named:
        return self._named(self.foreign.table(JOBS, _OF_JOB))

    def has_sent(self) -> bool:
        """Whether it has ever noted that it sent records."""
        last = self.foreign.table("LastUpdated", ("UpdateTime", "Type"))
        with self.foreign.reading() as connection:
            return connection.scalar(select(last["UpdateTime"]).where(last["Type"] == "sent")) is not None

    def joined(self, *, published: bool | None) -> Question:
        """The rows of JobRecords that were published, those that were not, or all."""
        jobs = self.jobs()
        events = self.foreign.table(EVENTS, _OF_EVENT)
        same = _same_run(events, jobs.table)
        query = select(*jobs.labelled(but=("UpdateTime",)), events["LocalUserGroup"].label("LocalUserGroup"))
        query = query.select_from(jobs.joined.outerjoin(events.clause, same)).where(*self._which(jobs, published))
        return Question(JOBS, query, jobs.table["EndTime"], _key(jobs.table, "LocalJobId"), JOBS)

    def unjoined(self) -> Question:
        """The rows of EventRecords that no row of JobRecords was made of."""
        events, jobs = self._named(self.foreign.table(EVENTS, _OF_EVENT)), self.foreign.table(JOBS, _OF_JOB)
        query = select(*events.labelled()).select_from(events.joined).where(~exists().where(_same_run(events.table, jobs)))
        return Question(EVENTS, query, events.table["EndTime"], _key(events.table, "JobName"), EVENTS)

    def identities_of_jobs(self) -> Question:
        """Whom the grid jobs of JobRecords were joined with."""
        jobs = self.jobs()
        kind = jobs.table["InfrastructureType"]
        wanted = (
            "Site",
            "MachineName",
            "LocalJobId",
            "LocalUserId",
            "EndTime",
            "GlobalUserName",
            "FQAN",
            "VO",
            "VOGroup",
            "VORole",
        )
        query = select(*jobs.labelled(*wanted, "SubmitHost")).select_from(jobs.joined).where(or_(kind != LOCAL, kind.is_(None)))
        return Question(OF_JOBS, query, jobs.table["EndTime"], _key(jobs.table, "LocalJobId"), JOBS)

    def identities(self) -> Question:
        """The rows of BlahdRecords."""
        blahd = self._named(self.foreign.table(BLAHD, _OF_BLAH))
        key = tuple(blahd.table[name] for name in ("SiteID", "LrmsId", "CEID"))
        return Question(BLAHD, select(*blahd.labelled()).select_from(blahd.joined), blahd.table["TimeStamp"], key, BLAHD)

    def machines(self) -> list[str]:
        """The batch systems it has jobs of."""
        names: set[str] = set()
        for name, columns in ((JOBS, _OF_JOB), (EVENTS, _OF_EVENT)):
            found = self._named(self.foreign.table(name, columns))
            with self.foreign.reading() as connection:
                names |= set(connection.scalars(select(found.columns["MachineName"]).select_from(found.joined).distinct())) - {None}
        return sorted(names)

    def benchmarks(self) -> list[tuple[object, ...]]:
        """CE, type, value, from and until (None: still) of SpecRecords, oldest first."""
        columns = ("CEID", "ServiceLevelType", "ServiceLevel", "StartTime", "StopTime")
        specs = self._named(self.foreign.table("SpecRecords", columns))
        wanted = [specs.columns[name] for name in ("CE", *columns[1:])]
        with self.foreign.reading() as connection:
            rows = connection.execute(select(*wanted).select_from(specs.joined).order_by(specs.columns["StartTime"]))
            return [tuple(row) for row in rows]

    def summed(self) -> dict[Key, Sums]:
        """What the jobs come to as the client sums them: those it has joined, and those it has not, without VO and host."""
        jobs = self.jobs()
        events, joined = self.foreign.table(EVENTS, _OF_EVENT), self.foreign.table(JOBS, _OF_JOB)
        named = [jobs.table["InfrastructureType"], jobs.columns["VO"], jobs.columns["SubmitHost"]]
        left = select().select_from(events.clause).where(~exists().where(_same_run(events, joined)))
        found: dict[Key, Sums] = {}
        with self.foreign.reading() as connection:
            of_jobs = connection.execute(_sums(jobs.table, select().select_from(jobs.joined), named))
            of_events = connection.execute(_sums(events, left, []))
            for year, month, count, wall, cpu, *told in (*of_jobs, *of_events):
                key = key_of(f"{year:04}-{month:02}", *(told or (None, None, None)))
                found[key] = added(found.get(key, NOTHING), Sums(int(count), int(wall or 0), int(cpu or 0)))
        return found

    def _which(self, jobs: Named, published: bool | None) -> list[ColumnElement[bool]]:
        if published is None:
            return []
        last = self.foreign.table("LastUpdated", ("UpdateTime", "Type"))
        sent_at = select(last["UpdateTime"]).where(last["Type"] == "sent").scalar_subquery()
        is_sent = func.coalesce(jobs.table["UpdateTime"] <= sent_at, 0)
        return [is_sent == int(published)]

    def _named(self, table: ForeignTable) -> Named:
        joined: FromClause = table.clause
        columns: dict[str, ColumnElement[Any]] = {}
        for name, one in table.columns.items():
            if name not in _NAMES:
                columns[name] = one
                continue
            names, word = _NAMES[name]
            found = self.foreign.table(names, ("id", "name"))
            joined = joined.outerjoin(found.clause, found["id"] == one)
            columns[word] = found["name"]
        return Named(table, joined, columns)


def key_of(month: str, kind: str | None, vo: str | None, host: str | None) -> Key:
    """The cell of a summary: VO and submit host of a grid job; of a local one its group, which the client takes for its VO."""
    told = "-" if vo in (None, "", "None") else vo
    return (month, told, "local") if kind == LOCAL else (month, told, host or "-")


def _sums(table: ForeignTable, rows: Select[Any], named: list[ColumnElement[Any]]) -> Select[Any]:
    """What some rows come to by month and these columns."""
    months = (func.year(table["EndTime"]), func.month(table["EndTime"]))
    sums = (func.count(), func.sum(table["WallDuration"]), func.sum(table["CpuDuration"]))
    return rows.add_columns(*months, *sums, *named).group_by(*months, *named)


def _key(table: ForeignTable, job_id: str) -> tuple[ColumnElement[Any], ...]:
    return table["MachineNameID"], table[job_id]


def _same_run(events: ForeignTable, jobs: ForeignTable) -> ColumnElement[bool]:
    return and_(
        events["MachineNameID"] == jobs["MachineNameID"],
        events["JobName"] == jobs["LocalJobId"],
        events["EndTime"] == jobs["EndTime"],
    )
