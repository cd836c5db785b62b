"""Jobs and who asked for them, as a farm's programs log them little by little, and what a receiver is to have of them in the end.

The truth is what was written, kept beside it: nothing here reads a log, joins or publishes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from batchacct.demo.lines import BlahIdentity, LsfJob, blah_line, lsf_line

SITE = "TEST-SITE"
BEGIN_AT = 1_793_000_000
"""When the first job is submitted, Unix seconds; each later one a minute after it."""
USER_ID = 30_017

Key = tuple[object, object, object]
"""By what a receiver knows a record: Site, LocalJobId, EndTime."""
Row = tuple[object, ...]
"""CpuDuration, WallDuration, InfrastructureType, GlobalUserName, FQAN."""


@dataclass(slots=True)
class _Job:
    number: int
    cpu_s: int
    is_grid: bool
    is_known: bool = False
    """Whether the log of the computing element says whose it is."""

    @property
    def submit_at(self) -> int:
        return BEGIN_AT + 60 * self.number

    @property
    def wall_s(self) -> int:
        return 600 + self.number % 1000

    @property
    def end_at(self) -> int:
        return self.submit_at + 30 + self.wall_s

    @property
    def dn(self) -> str:
        return f"/DC=ch/DC=example/CN=user {self.number % 50}"


class World:
    """The logs in `folder`: one of LSF, one of BLAH."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True)
        self._acct, self._blah = folder / "lsb.acct", folder / "blahp.log-20261127"
        self._random = random.Random(seed)
        self._jobs: list[_Job] = []

    def go_on(self, jobs: int) -> None:
        """So many jobs end. Of those before, some get an identity that comes late, some another record, with more CPU time."""
        chance = self._random
        late = [job for job in self._jobs if job.is_grid and not job.is_known]
        now_known = chance.sample(late, len(late) // 2)
        corrected = chance.sample(self._jobs, min(len(self._jobs), 3))
        for job in corrected:
            job.cpu_s += 7
        new = [
            _Job(number, 100 + number % 400, number % 3 > 0) for number in range(len(self._jobs) + 1, len(self._jobs) + jobs + 1)
        ]
        now_known += [job for job in new if job.is_grid and chance.random() < 0.7]
        for job in now_known:
            job.is_known = True
        self._jobs += new
        with self._acct.open("ab") as acct, self._blah.open("ab") as blah:
            acct.writelines(map(_job_line, [*corrected, *new]))
            blah.writelines(map(_identity_line, now_known))

    def truth(self) -> dict[Key, Row]:
        """The receiver's table, when everything that was written has arrived."""
        return {(SITE, str(job.number), job.end_at): _row(job) for job in self._jobs}


def _row(job: _Job) -> Row:
    if job.is_known:
        return job.cpu_s, job.wall_s, "grid", job.dn, "/atlas/Role=pilot"
    return job.cpu_s, job.wall_s, "local", None, "/local-nonlcg"


def _job_line(job: _Job) -> bytes:
    queue, user = ("grid_atlas", "atlas017") if job.is_grid else ("normal", "anna")
    return lsf_line(
        LsfJob(
            queue, user, USER_ID, job.end_at, job.submit_at, job.submit_at + 30, job.number, cpu_us=(job.cpu_s * 1_000_000, 0),
            memory_kib=81_920, swap_kib=204_800, exec_hosts=("lxb0001.example.org",), cwd="work",
        )
    )  # fmt: skip


def _identity_line(job: _Job) -> bytes:
    ce_id = "ce01.example.org:8443/cream-lsf-grid_atlas"
    return blah_line(
        BlahIdentity(job.submit_at + 2, job.dn, ("/atlas/Role=pilot",), ce_id, job.number, job.number, USER_ID),
    )
