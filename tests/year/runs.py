"""What happens on five batch systems, day by day: runs of jobs, what each log says of them and when, and what a receiver must have.

The truth is kept as it is written: nothing here reads a log, joins, or asks the program.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random

from batchacct.demo.cast import DNS, FQANS, VOS
from batchacct.demo.lines import DONE, EXIT, BlahIdentity, LsfJob, blah_line, lsf_line
from benchmarks.logs import batch, grid, htcondor, slurm
from benchmarks.logs.jobs import Job

SITE = "YEAR-SITE"
CE = "ce01.example.org:8443/cream-lsf-grid"
SYSTEMS = ("lsf", "pbs", "sge", "slurm", "condor")
IDENTITY_LOGS = ("blah", "gram", "lcmaps", "arc")
DAY_S, HOUR_S = 86_400, 3600
EXACT_S = 12
"""CPU seconds are a multiple of this many, so that shares of several hosts are whole seconds."""
COLUMNS = (
    "StartTime", "WallDuration", "CpuDuration", "Processors", "InfrastructureType", "GlobalUserName", "VO", "ServiceLevelType",
    "ServiceLevel",
)  # fmt: skip
PEOPLE = (("phys", "physics"), ("astr", "astro"), ("chem", None))
"""Beginnings of the accounts of local users, and the VO that the configuration gives them."""
NO_RULE = "nonlcg"

Key = tuple[object, object, object]
"""By what a receiver knows a record: Site, LocalJobId, EndTime."""
Row = tuple[object, ...]
"""The values of COLUMNS."""


@dataclass(frozen=True, slots=True)
class Line:
    """What is written to a log at an instant: a line, or the lines of one ad."""

    at: int
    log: str
    content: bytes


@dataclass(slots=True)
class Truth:
    """What was written, and what has to become of it."""

    benchmarks: tuple[tuple[dt.date, float], ...]
    """HEPscore23 of a core, and from which day (UTC) on."""
    records: dict[Key, Row] = field(default_factory=dict)
    """What a receiver is to have in the end."""
    jobs: Counter[str] = field(default_factory=Counter)
    """Runs by month of the time they were logged at, all of them."""
    unpublished: Counter[str] = field(default_factory=Counter)
    """Runs that are never published, by the reason."""
    corrected: int = 0

    def ran(self, run: Run) -> None:
        self.jobs[month_of(run.job.end_at)] += 1
        self.records[key_of(run)] = self._row(run)

    def did_not(self, end_at: int, reason: str) -> None:
        self.jobs[month_of(end_at)] += 1
        self.unpublished[reason] += 1

    def benchmark(self, end_at: int) -> float:
        day = dt.datetime.fromtimestamp(end_at, dt.UTC).date()
        return max(pair for pair in self.benchmarks if pair[0] <= day)[1]

    def _row(self, run: Run) -> Row:
        job = run.job
        assert job.start_at is not None
        kind, name, vo = run.who()
        benchmark = self.benchmark(job.end_at)
        return (job.start_at, job.wall_s, int(job.cpu_s), job.processors, kind, name, vo, "HEPscore23", benchmark)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a job. `is_known`: whether some log tells whose a grid job is."""

    system: str
    job: Job
    is_grid: bool
    is_known: bool = True

    def who(self) -> tuple[str, str | None, str | None]:
        """Infrastructure, name and VO, as they are to be published."""
        if not (self.is_grid and self.is_known):
            return "local", None, f"local-{self._ruled()}"
        if self.system == "slurm":  # the log of ARC knows no VO
            return "grid", self.job.dn, f"local-{self._ruled()}"
        if self.system == "condor" and self.job.number % 3:
            return "grid", f"{htcondor.ISSUER}{token_of(self.job)}", "atlas"
        return "grid", self.job.dn, self.job.fqans[0].split("/")[1]

    def _ruled(self) -> str:
        return next((vo for begin, vo in PEOPLE if vo and self.job.user.startswith(begin)), NO_RULE)


def token_of(job: Job) -> str:
    """The subject of a token, as the ads of `benchmarks.logs.htcondor` have it."""
    return f"7dee38a3-6ab8-4fe2-9e4c-{job.uid:012d}"


def key_of(run: Run) -> Key:
    job = run.job
    index = "" if job.index is None else f"-{job.index + 1 if run.system == 'sge' else job.index}"
    spelt = {"pbs": f"{job.number}.{batch.SERVER}", "condor": f"{htcondor.SCHEDD}#{job.number}.0#{job.submit_at}"}
    return SITE, f"{run.system}:{spelt.get(run.system, job.number)}{index}", job.end_at


def month_of(instant: int) -> str:
    """`2024-02`, UTC."""
    return dt.datetime.fromtimestamp(instant, dt.UTC).strftime("%Y-%m")


@dataclass(slots=True)
class Farms:
    """The five systems. `zone` is that of all hosts; `until` the instant after which nothing ends any more."""

    seed: int
    zone: zoneinfo.ZoneInfo
    until: int
    jobs_a_day: int
    truth: Truth
    blah_away: tuple[int, int] = (0, 0)
    """From one instant to another nothing of BLAH's log is written; what was held back is, then."""
    _numbers: dict[str, int] = field(
        default_factory=lambda: dict(zip(SYSTEMS, range(1_000_000, 6_000_000, 1_000_000), strict=True))
    )
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def submitted(self, midnight: int, length_s: int) -> Iterator[Line]:
        """What is written, then or later, of what is submitted within so many seconds from midnight on."""
        for system in SYSTEMS:
            for _ in range(self._around(self.jobs_a_day)):
                yield from self._lines(system, midnight + self._random.randrange(length_s))

    def deleted(self, submit_at: int, end_at: int) -> Iterator[Line]:
        """A job of PBS that was deleted while it waited."""
        job = self._job(self._next("pbs", 1), submit_at, submit_at, end_at, "pbs", is_grid=False)
        yield from _never_started(self, Run("pbs", replace(job, start_at=None), is_grid=False))

    def _lines(self, system: str, submit_at: int) -> Iterator[Line]:
        chance = self._random
        wait_s, wall_s = int(chance.expovariate(1 / 1200)) + 5, min(int(chance.lognormvariate(8.6, 1.1)) + 60, 3 * DAY_S)
        if submit_at + wait_s + wall_s >= self.until - HOUR_S:
            return
        is_grid = chance.random() < 0.5 and system != "sge"
        count = chance.randrange(2, 6) if not is_grid and system != "condor" and chance.random() < 0.05 else 1
        number = self._next(system, count)
        job = self._job(number, submit_at, submit_at + wait_s, submit_at + wait_s + wall_s, system, is_grid=is_grid)
        if count > 1:
            for index in range(1, count + 1):
                yield from self._written(Run(system, self._task(job, index), is_grid))
        elif chance.random() < 0.03:
            yield from _never_started(self, Run(system, replace(job, start_at=None), is_grid))
        elif system == "pbs" and job.uid % 2 == 0 and chance.random() < 0.1:
            yield from _requeued(self, Run(system, job, is_grid))
        else:
            is_known = system != "lsf" or chance.random() > 0.02
            yield from self._written(Run(system, job, is_grid, is_known))

    def _next(self, system: str, count: int) -> int:
        self._numbers[system] += count + 1
        return self._numbers[system]

    def _around(self, mean: int) -> int:
        return max(1, round(self._random.gauss(mean, mean / 4)))

    def _task(self, job: Job, index: int) -> Job:
        assert job.start_at is not None
        wall_s = min(job.wall_s, 600 + self._random.randrange(7200))
        return replace(
            job, index=index, end_at=job.start_at + wall_s, user_cpu_us=_whole(wall_s * 3 // 4), system_cpu_us=_whole(wall_s // 20)
        )

    def _job(self, number: int, submit_at: int, start_at: int, end_at: int, system: str, *, is_grid: bool) -> Job:
        chance = self._random
        vo = chance.choice(VOS)
        person = chance.randrange(20)
        user = f"{vo}{person:03d}" if is_grid else f"{chance.choice(PEOPLE)[0]}{person:03d}"
        hosts, slots = chance.choice(_SHAPES[system])
        cpu_s = int((end_at - start_at) * hosts * slots * chance.uniform(0.3, 0.95))
        failed = chance.random() < 0.08
        return Job(
            number=number, index=None, user=user, uid=20_000 + person + 100 * (vo == "cms") + 200 * (vo == "lhcb"),
            group=user[:-3], queue=f"grid_{vo}" if is_grid else "long", name=f"cream_{number:09d}", submit_at=submit_at,
            start_at=start_at, end_at=end_at, first_host=1 + chance.randrange(400), host_count=hosts, slots=slots, gpus=0,
            user_cpu_us=_whole(cpu_s), system_cpu_us=_whole(cpu_s // 50), memory_kib=4 * (2_000 + chance.randrange(1_000_000)),
            exit_code=1 if failed else 0, exit_signal=0, dn=chance.choice(DNS[vo]), fqans=chance.choice(FQANS[vo]),
        )  # fmt: skip

    def _written(self, run: Run) -> Iterator[Line]:
        self.truth.ran(run)
        yield from _WRITES[run.system](self, run)
        if run.system in {"lsf", "slurm"} and self._random.random() < 0.01:
            corrected = replace(run, job=replace(run.job, user_cpu_us=run.job.user_cpu_us + EXACT_S * 1_000_000))
            at = run.job.end_at + self._random.randrange(DAY_S, 2 * DAY_S)
            if at < self.until:
                self.truth.records[key_of(run)] = self.truth._row(corrected)
                self.truth.corrected += 1
                yield from (replace(line, at=at) for line in _WRITES[run.system](self, corrected) if line.log == run.system)

    def blah_at(self, at: int) -> int:
        first, last = self.blah_away
        return last + at % 600 if first <= at < last else at


_SHAPES = {
    "lsf": ((1, 1), (1, 1), (1, 8), (2, 4)),
    "pbs": ((1, 1), (1, 1), (1, 8), (2, 8)),
    "sge": ((1, 1), (1, 1), (1, 8), (2, batch.PE_SLOTS), (3, batch.PE_SLOTS)),
    "slurm": ((1, 1), (1, 1), (1, 64), (2, 8)),
    "condor": ((1, 1), (1, 1), (1, 8)),
}
"""Hosts, and slots on each."""


def _whole(cpu_s: int) -> int:
    """Microseconds of CPU, a multiple of EXACT_S."""
    return max(EXACT_S, cpu_s - cpu_s % EXACT_S) * 1_000_000


def _lsf(farms: Farms, run: Run) -> Iterator[Line]:
    job = run.job
    status = DONE if job.is_ok and job.start_at else EXIT
    record = LsfJob(
        job.queue, job.user, job.uid, job.end_at, job.submit_at, job.start_at or 0, job.number, index=job.index or 0,
        cpu_us=None if job.start_at is None else (job.user_cpu_us, job.system_cpu_us), status=status,
        exec_hosts=tuple(f"{host}.example.org" for host in job.hosts for _ in range(job.slots)) if job.start_at else (),
        processors=job.processors, memory_kib=job.memory_kib, swap_kib=2 * job.memory_kib, job_name=job.name, cwd="work",
    )  # fmt: skip
    if run.is_grid and run.is_known:
        identity = BlahIdentity(job.submit_at + 1, job.dn, job.fqans, f"{CE}_{job.group}", job.number, job.number, job.uid)
        yield Line(farms.blah_at(job.submit_at + 1), "blah", blah_line(identity))
    yield Line(job.end_at, "lsf", lsf_line(record))


def _pbs(farms: Farms, run: Run) -> Iterator[Line]:
    job = run.job
    lines = batch.pbs(job, farms.zone).splitlines(keepends=True)
    instants = (job.submit_at, job.end_at) if job.start_at is None else (job.submit_at, job.start_at, job.end_at)
    for at, line in zip(instants, lines, strict=True):
        yield Line(at, "pbs", line)
    if run.is_grid:
        yield Line(job.submit_at, "gram", grid.gram(job, farms.zone))
        yield Line(job.submit_at, "lcmaps", grid.lcmaps(job, farms.zone))


def _sge(_: Farms, run: Run) -> Iterator[Line]:
    yield Line(run.job.end_at, "sge", batch.sge(run.job))


def _slurm(farms: Farms, run: Run) -> Iterator[Line]:
    job = run.job
    yield Line(job.end_at, "slurm", slurm.sacct(job, farms.zone))
    if run.is_grid:
        started, finished = grid.arc_joblog(job, farms.zone).splitlines(keepends=True)
        yield Line(job.submit_at, "arc", started)
        yield Line(job.end_at, "arc", finished)


def _condor(_: Farms, run: Run) -> Iterator[Line]:
    yield Line(run.job.end_at, "condor", htcondor.ad(run.job))


_WRITES: dict[str, Callable[[Farms, Run], Iterator[Line]]] = {
    "lsf": _lsf, "pbs": _pbs, "sge": _sge, "slurm": _slurm, "condor": _condor,
}  # fmt: skip


def _never_started(farms: Farms, run: Run) -> Iterator[Line]:
    """Removed while it waited. SGE tells nothing of it, or a line without any time, which is skipped."""
    if run.system != "sge":
        farms.truth.did_not(run.job.end_at, "never started")
    run = replace(run, job=replace(run.job, user_cpu_us=0, system_cpu_us=0, memory_kib=0))
    yield from _WRITES[run.system](farms, run)


def _requeued(farms: Farms, run: Run) -> Iterator[Line]:
    """Torque puts it back once: the attempt that was ended so has no CPU time, and is never published."""
    job = run.job
    assert job.start_at is not None
    requeued_at = job.start_at + job.wall_s // 3
    again = replace(job, start_at=requeued_at + 30)
    first, *_ = (line for line in batch.pbs(job, farms.zone).splitlines(keepends=True) if b";S;" in line)
    yield Line(job.start_at, "pbs", first)
    stamp = dt.datetime.fromtimestamp(requeued_at, farms.zone).strftime("%m/%d/%Y %H:%M:%S")
    yield Line(requeued_at, "pbs", f"{stamp};R;{job.number}.{batch.SERVER};\n".encode())
    farms.truth.did_not(requeued_at, "requeued")
    yield from farms._written(replace(run, job=replace(again, user_cpu_us=_whole(again.wall_s // 2))))
