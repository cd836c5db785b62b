"""The database of an APEL client on a MariaDB: its tables as they are described, or, with a checkout of apel/apel, its own.

What the client does when it joins is written here once more, from its description; with a checkout its own procedures do it.
"""

from __future__ import annotations

import datetime as dt
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, MetaData, Table, create_engine, insert, select, text
from sqlalchemy.dialects.mysql import BIGINT, DATETIME, INTEGER, TIMESTAMP

from tests.importing.old_2012 import Job
from tests.servers import MariaServer

DATABASE = "batchacct_apel"
SITE, MACHINE = "APEL-SITE", "lsf-master.example.org"
CE = "ce01.example.org:8443/cream-lsf-grid_atlas"
DN = "/DC=ch/DC=cern/CN=Ada"
FQAN = "/atlas/Role=pilot/Capability=NULL"
SPEC = ("HEPscore23", 12.5)
BEGIN = int(dt.datetime(2023, 10, 20, tzinfo=dt.UTC).timestamp())
DAY = 86_400
NOW = BEGIN + 60 * DAY
LATER = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
BEGUN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None)

_metadata = MetaData()
_KEY: dict[str, Any] = {"primary_key": True, "autoincrement": False}
NAMES = ("Sites", "DNs", "SubmitHosts", "MachineNames", "Queues", "VOs", "VORoles", "VOGroups")
for _name in NAMES:
    Table(_name, _metadata, Column("id", INTEGER, primary_key=True), Column("name", sa.String(255), nullable=False))
_TEXT = sa.String(255)
_COUNTED = ("WallDuration", "CpuDuration", "MemoryReal", "MemoryVirtual", "NodeCount", "Processors")


def _sizes() -> list[Column[Any]]:
    return [Column(name, BIGINT(unsigned=True)) for name in _COUNTED]


JOBS = Table(
    "JobRecords", _metadata, Column("MachineNameID", INTEGER, **_KEY), Column("LocalJobId", _TEXT, **_KEY),
    Column("EndTime", DATETIME, **_KEY), Column("UpdateTime", TIMESTAMP, nullable=False),
    Column("StartTime", DATETIME, nullable=False),
    *(Column(name, INTEGER) for name in ("SiteID", "SubmitHostID", "QueueID", "GlobalUserNameID", "VOID", "VOGroupID", "VORoleID")),
    *(Column(name, _TEXT) for name in ("LocalUserId", "FQAN", "InfrastructureDescription", "InfrastructureType")),
    Column("ServiceLevelType", _TEXT),
    *_sizes(), Column("EndYear", INTEGER), Column("EndMonth", INTEGER),
    Column("ServiceLevel", sa.Numeric(10, 3), nullable=False), Column("PublisherDNID", INTEGER, nullable=False),
)  # fmt: skip
EVENTS = Table(
    "EventRecords", _metadata, Column("MachineNameID", INTEGER, **_KEY), Column("JobName", sa.String(60), **_KEY),
    Column("EndTime", DATETIME, **_KEY), Column("StartTime", DATETIME, nullable=False), Column("SiteID", INTEGER),
    Column("QueueID", INTEGER), Column("LocalUserID", sa.String(20)), Column("LocalUserGroup", sa.String(20)),
    Column("Infrastructure", sa.String(100)), *_sizes(), Column("Status", INTEGER),
)  # fmt: skip
BLAHD = Table(
    "BlahdRecords", _metadata, Column("TimeStamp", DATETIME, **_KEY), Column("SiteID", INTEGER, **_KEY),
    Column("LrmsId", _TEXT, **_KEY), Column("CEID", INTEGER, **_KEY), Column("FQAN", _TEXT), Column("GlobalJobId", _TEXT),
    *(Column(name, INTEGER) for name in ("GlobalUserNameID", "VOID", "VOGroupID", "VORoleID", "Processed")),
    Column("ValidFrom", DATETIME), Column("ValidUntil", DATETIME),
)  # fmt: skip
SPECS = Table(
    "SpecRecords", _metadata, Column("SiteID", INTEGER, **_KEY), Column("CEID", INTEGER, **_KEY),
    Column("StartTime", DATETIME, **_KEY),
    Column("StopTime", DATETIME), Column("ServiceLevelType", sa.String(50), **_KEY), Column("ServiceLevel", sa.Numeric(10, 3)),
)  # fmt: skip
LAST = Table("LastUpdated", _metadata, Column("Type", _TEXT, primary_key=True), Column("UpdateTime", TIMESTAMP, nullable=False))


@dataclass(frozen=True)
class Run:
    """One run of a job as the client has it; grid jobs were asked for by Ada, five minutes before they started."""

    number: str
    start: int
    end: int
    wall_s: int
    cpu_s: int
    is_grid: bool = True
    group: str = "atlasgrp"
    processors: int = 1

    def event(self) -> dict[str, Any]:
        """What is in EventRecords, but for the numbers of names."""
        return {
            "JobName": self.number, "StartTime": instant(self.start), "EndTime": instant(self.end), "WallDuration": self.wall_s,
            "CpuDuration": self.cpu_s, "LocalUserID": "elin", "LocalUserGroup": self.group, "Infrastructure": "APEL-CREAM-LSF",
            "MemoryReal": 14154, "MemoryVirtual": 0, "Processors": self.processors, "NodeCount": 0, "Status": 0,
        }  # fmt: skip

    @property
    def submitted(self) -> int:
        return self.start - 300


def instant(at: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC).replace(tzinfo=None)


class OldApel:
    """The database, made anew."""

    def __init__(self, server: MariaServer) -> None:
        server.empty(DATABASE)
        self.url = f"mariadb+pymysql://{MariaServer.USER}@127.0.0.1:{server.port}/{DATABASE}"
        self.is_real = bool(os.environ.get("APEL_SRC"))
        self._server = server
        self._engine = create_engine(f"mariadb+pymysql://root@localhost/{DATABASE}?unix_socket={server.socket}")
        if self.is_real:
            server.execute(Path(os.environ["APEL_SRC"], "schemas/client.sql").read_text(), DATABASE)
        else:
            _metadata.create_all(self._engine)

    def add(self, runs: Iterable[Run]) -> None:
        """Events and, of grid jobs, BLAH records, as the client's parser loads them."""
        with self._engine.begin() as connection:
            of_site = {"SiteID": self._number(connection, "Sites", SITE)}
            machine = {"MachineNameID": self._number(connection, "MachineNames", MACHINE)}
            who = {
                "GlobalUserNameID": self._number(connection, "DNs", DN), "VOID": self._number(connection, "VOs", "atlas"),
                "VOGroupID": self._number(connection, "VOGroups", "/atlas"), "CEID": self._number(connection, "SubmitHosts", CE),
                "VORoleID": self._number(connection, "VORoles", "Role=pilot"), "FQAN": FQAN, "GlobalJobId": "CREAM1",
                "Processed": 0,
            }  # fmt: skip
            for run in runs:
                queue = "grid_atlas" if run.is_grid else "8nm"
                event = run.event() | of_site | machine | {"QueueID": self._number(connection, "Queues", queue)}
                connection.execute(insert(EVENTS).prefix_with("IGNORE").values(event))
                if run.is_grid:
                    at = instant(run.submitted)
                    valid = {"ValidFrom": at - dt.timedelta(days=1), "ValidUntil": at + dt.timedelta(days=28)}
                    blah = who | of_site | valid | {"TimeStamp": at, "LrmsId": run.number}
                    connection.execute(insert(BLAHD).prefix_with("IGNORE").values(blah))
            for host in (CE, MACHINE):
                of_host = {
                    "CEID": self._number(connection, "SubmitHosts", host),
                    "ServiceLevelType": SPEC[0],
                    "ServiceLevel": SPEC[1],
                }
                connection.execute(insert(SPECS).prefix_with("IGNORE").values(of_site | of_host | {"StartTime": BEGUN}))

    def join(self) -> None:
        """Makes jobs of events, local ones as well, as the client does before it sends."""
        if self.is_real:
            self._server.execute("CALL LocalJobs(); CALL JoinJobRecords(); CALL SummariseJobs();", DATABASE)
            return
        with self._engine.begin() as connection:
            events = connection.execute(select(EVENTS).where(EVENTS.c.Status == 0)).mappings().all()
            for event in events:
                blah = connection.execute(
                    select(BLAHD).where(
                        BLAHD.c.LrmsId == event["JobName"],
                        BLAHD.c.ValidFrom <= event["EndTime"],
                        BLAHD.c.ValidUntil > event["EndTime"],
                    )
                )
                connection.execute(sa.delete(JOBS).where(JOBS.c.LocalJobId == event["JobName"], JOBS.c.EndTime == event["EndTime"]))
                connection.execute(insert(JOBS).values(self._joined(connection, event, blah.mappings().first())))
            connection.execute(sa.update(EVENTS).values(Status=1))

    def sent(self, at: dt.datetime | None = None) -> None:
        """Notes that everything that is joined was sent: now, or at a time."""
        when = "UTC_TIMESTAMP()" if at is None else f"'{at:%Y-%m-%d %H:%M:%S}'"
        self._server.execute(
            f"SET time_zone = '+00:00'; REPLACE INTO LastUpdated (Type, UpdateTime) VALUES ('sent', {when})", DATABASE
        )

    def joined_at(self, at: dt.datetime, ended_after: int = 0) -> None:
        """Sets when jobs were joined."""
        after = instant(ended_after)
        self._server.execute(
            f"SET time_zone = '+00:00'; UPDATE JobRecords SET UpdateTime = '{at:%Y-%m-%d %H:%M:%S}' WHERE EndTime > '{after}'",
            DATABASE,
        )

    def execute(self, statement: str) -> Sequence[Any]:
        with self._engine.begin() as connection:
            found = connection.execute(text(statement))
            return found.all() if found.returns_rows else ()

    def _joined(self, connection: sa.Connection, event: Any, blah: Any) -> dict[str, Any]:
        is_local = blah is None
        named = {
            "GlobalUserNameID": self._number(connection, "DNs", "None") if is_local else blah["GlobalUserNameID"],
            "VOID": self._number(connection, "VOs", event["LocalUserGroup"] or "None") if is_local else blah["VOID"],
            "VOGroupID": self._number(connection, "VOGroups", "None") if is_local else blah["VOGroupID"],
            "VORoleID": self._number(connection, "VORoles", "None") if is_local else blah["VORoleID"],
            "SubmitHostID": self._number(connection, "SubmitHosts", MACHINE) if is_local else blah["CEID"],
            "FQAN": None if is_local else blah["FQAN"], "InfrastructureType": "local" if is_local else "grid",
        }  # fmt: skip
        taken = ("SiteID", "MachineNameID", "QueueID", "StartTime", "EndTime", *_COUNTED)
        return named | {name: event[name] for name in taken} | {
            "LocalJobId": event["JobName"], "LocalUserId": event["LocalUserID"],
            "InfrastructureDescription": event["Infrastructure"],
            "ServiceLevelType": SPEC[0], "ServiceLevel": SPEC[1], "PublisherDNID": 1, "UpdateTime": sa.func.now(),
            "EndYear": event["EndTime"].year, "EndMonth": event["EndTime"].month,
        }  # fmt: skip

    def _number(self, connection: sa.Connection, table: str, name: str) -> int:
        names = _metadata.tables[table]
        found = connection.scalar(select(names.c.id).where(names.c.name == name))
        if found is None:
            found = connection.execute(insert(names).values(name=name)).inserted_primary_key[0]  # type: ignore[index]
        return int(found)

    def close(self) -> None:
        self._engine.dispose()


def some_runs(rng: random.Random, count: int, begin: int, spread_s: int) -> list[Run]:
    """Grid and local runs; of an id and an end there is one."""
    runs: dict[tuple[str, int], Run] = {}
    for number in range(count):
        end = begin + rng.randrange(spread_s)
        took = rng.choice((0, 1, 600, 90_000))
        is_grid = rng.random() < 0.6
        name = str(rng.randrange(1, count)) if not is_grid else str(count + number)
        run = Run(
            name,
            end - took,
            end,
            took,
            rng.randrange(0, took + 1),
            is_grid,
            rng.choice(("atlasgrp", "cms", "")),
            rng.choice((0, 1, 8)),
        )
        runs.setdefault((name, end), run)
    return list(runs.values())


def lines(runs: Sequence[Run]) -> tuple[list[bytes], list[bytes]]:
    """What LSF and BLAH have written of some runs."""
    jobs = [
        Job(int(run.number), run.end, run.start, run.submitted, user_cpu=run.cpu_s, system_cpu=0, group=run.group,
            queue="grid_atlas" if run.is_grid else "8nm")
        for run in sorted(runs, key=lambda run: run.end)
    ]  # fmt: skip
    return [one.line() for one in jobs], [
        one.blah() for one, run in zip(jobs, sorted(runs, key=lambda run: run.end), strict=True) if run.is_grid
    ]
