"""A database of the 2012 layout, as its own program would have filled it from LSF and BLAH logs; and those logs.

The program's rules are written here once more, from its description: local times, the epoch for what is missing, lists joined by
blanks, texts cut at 255 characters, factors rounded to two decimals. Nothing is shared with what imports it.
"""

from __future__ import annotations

import datetime as dt
import random
import sqlite3
import zoneinfo
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ZONE = "Europe/Zurich"
LOC = (
    *("eventType", "version", "eventTime", "jobId", "userId", "userName", "options", "numProcessors", "jStatus", "submitTime"),
    *("beginTime", "termTime", "startTime", "queue", "resReq", "fromHost", "numAskedHosts", "askedHosts", "hostFactor"),
    *(
        "numExHosts",
        "execHosts",
        "jobName",
        "command",
        "ru_utime",
        "ru_stime",
        "ru_minflt",
        "ru_majflt",
        "ru_nswap",
        "dependCond",
        "mailUser",
    ),
    *("projectName", "exitStatus", "maxNumProcessors", "loginShell", "idx", "maxRMem", "maxRSwap", "exitInfo", "chargedSAAP"),
    *("app", "runtimeEstimation", "published"),
)
TIMES = ("eventTime", "submitTime", "beginTime", "termTime", "startTime", "published")
CE = "ce01.example.org:8443/cream-lsf-grid_atlas"


@dataclass(frozen=True)
class Job:
    """One run: what LSF wrote of it; times in Unix seconds, 0 for none; CPU -1 for unknown."""

    number: int
    end: int
    start: int
    submit: int
    index: int = 0
    user_cpu: float = 590.0
    system_cpu: float = 10.0
    group: str = "atlasgrp"
    queue: str = "grid_atlas"
    hosts: tuple[str, ...] = ("lxb0023",)
    factor: float = 9.5
    status: int = 64
    published: int = 0
    command: str = "./run.sh"

    def line(self) -> bytes:
        """Its line in lsb.acct (LSF 6.0)."""
        hosts = " ".join([str(len(self.hosts)), *(f'"{host}"' for host in self.hosts)])
        saap = f"/{self.group}/elin" if self.group else ""
        return (
            f'"JOB_FINISH" "6.0" {self.end} {self.number} 20424 33554434 1 {self.submit} 0 0 {self.start} "elin" "{self.queue}" '
            f'"" "" "" "lxplus01" "" "" "" "" "149/{self.submit}.{self.number}" 0 {hosts} {self.status} {self.factor} "" '
            f'"{self.command}" {self.user_cpu} {self.system_cpu} 0 0 -1 0 0 353852 0 0 0 0 -1 0 0 0 1589 176 -1 "" "default" 0 1 '
            f'"" "" {self.index} 14154 17829 "" "" "" "" 0 "" 0 "" -1 "{saap}"\n'
        ).encode()

    def row(self, zone: dt.tzinfo) -> dict[str, object]:
        """Its row in `loc`."""
        times = {"eventTime": self.end, "submitTime": self.submit, "startTime": self.start, "published": self.published}
        local = {name: dt.datetime.fromtimestamp(max(times.get(name, 0), 0), zone).replace(tzinfo=None) for name in TIMES}
        told: dict[str, object] = {name: f"{at:%Y-%m-%d %H:%M:%S}" for name, at in local.items()}
        hosts = " ".join(self.hosts)
        return told | {
            "eventType": "JOB_FINISH", "version": "6.0", "jobId": self.number, "userId": 20424, "userName": "elin",
            "idx": self.index, "options": 33554434, "numProcessors": 1, "jStatus": self.status, "queue": self.queue,
            "fromHost": "lxplus01",
            "numAskedHosts": 0, "hostFactor": round(self.factor, 2), "numExHosts": len(self.hosts),
            "execHosts": hosts[:255] or None, "command": self.command[:255], "ru_utime": self.user_cpu,
            "ru_stime": self.system_cpu, "projectName": "default",
            "exitStatus": 0, "maxNumProcessors": 1, "maxRMem": 14154, "maxRSwap": 17829, "exitInfo": 0,
            "chargedSAAP": f"/{self.group}/elin" if self.group else None,
        }  # fmt: skip

    def identity(self) -> dict[str, object]:
        """Its row in `ce`."""
        at = dt.datetime.fromtimestamp(self.submit, dt.UTC)
        fqans = "/atlas/Role=pilot/Capability=NULL /atlas/Role=NULL/Capability=NULL"
        return {"timestamp": f"{at:%Y-%m-%d %H:%M:%S}", "ceID": CE, "lrmsID": self.number, "userFQAN": fqans}

    def blah(self) -> bytes:
        """Its line in the BLAH log."""
        row = self.identity()
        fqans = " ".join(f'"userFQAN={fqan}"' for fqan in str(row["userFQAN"]).split())
        head = f'"timestamp={row["timestamp"]}" "userDN=/DC=ch/DC=cern/CN=Ada" {fqans} "ceID={CE}" "jobID=CREAM1" '
        return f'{head}"lrmsID={self.number}" "localUser=20424"\n'.encode()


@dataclass
class Old:
    """The database at `path`, and the logs it was made of."""

    path: Path
    jobs: Sequence[Job]
    zone: str = ZONE
    identities: Sequence[Job] = field(default_factory=list)

    def write(self) -> Old:
        self.path.unlink(missing_ok=True)
        zone = zoneinfo.ZoneInfo(self.zone)
        with sqlite3.connect(self.path) as database:
            database.execute(f"CREATE TABLE loc ({', '.join(LOC)}, PRIMARY KEY (jobId, idx, eventTime))")
            database.execute("CREATE TABLE ce (timestamp, ceID, lrmsID, userFQAN, PRIMARY KEY (timestamp, lrmsID))")
            _insert(database, "loc", (job.row(zone) for job in self.jobs))
            _insert(database, "ce", (job.identity() for job in self.identities))
        database.close()
        return self

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def lsf_log(self) -> list[bytes]:
        return [job.line() for job in sorted(self.jobs, key=lambda job: job.end)]


def _insert(database: sqlite3.Connection, table: str, rows: Iterable[dict[str, object]]) -> None:
    for row in rows:
        database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))


def some_jobs(rng: random.Random, count: int, begin: int, spread_s: int) -> list[Job]:
    """Jobs of every kind there is: array elements, ids that come again, unknown CPU, never started, long host lists."""
    jobs: dict[tuple[int, int, int], Job] = {}
    for _ in range(count):
        end = begin + rng.randrange(spread_s)
        took = rng.choice((0, 1, 600, 3600, 90_000))
        ran = rng.random() < 0.9
        job = Job(
            number=rng.randrange(1, count), index=rng.choice((0, 0, 0, 1, 2, 7)), end=end, start=end - took if ran else 0,
            submit=end - took - rng.choice((0, 5, 86_400)),
            user_cpu=-1 if not ran or rng.random() < 0.05 else round(rng.uniform(0, took), 6),
            system_cpu=-1 if not ran else round(rng.uniform(0, 50), 6), group=rng.choice(("atlasgrp", "cms", "")),
            queue=rng.choice(("grid_atlas", "8nm")),
            hosts=tuple(f"lxb{n:04}" for n in range(rng.choice((1, 1, 2, 60)))) if ran else (),
            factor=rng.choice((9.5, 2.847)), status=rng.choice((64, 32)), published=rng.choice((0, end + 86_400)),
            command=rng.choice(("./run.sh", "x" * 300, "né")),
        )  # fmt: skip
        jobs.setdefault((job.number, job.index, job.end), job)
    return list(jobs.values())
