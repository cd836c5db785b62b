"""Large, regular logs to measure with: `python -m benchmarks.large_logs FOLDER LINES` writes lsb.acct and a BLAH log.

The lines are those of the demo farm (`batchacct.demo.lines`), made into templates once and filled in millions of times:
a cluster of 200,000 jobs a day, or as many as are asked for, 43 % of them from the grid, one in ten on several hosts, upgraded
from 7.06 to 10.1 half-way.
"""

from __future__ import annotations

import re
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from batchacct.demo.cast import DNS, FQANS, KILLS, LOCAL_USERS, VOS
from batchacct.demo.lines import EXIT, BlahIdentity, LsfJob, blah_line, lsf_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEGIN_AT = 1_325_376_000
DAY_S = 86_400
JOBS_A_DAY = 200_000
GRID_SHARE, MULTI_HOST_SHARE, NEVER_STARTED_SHARE, UNKNOWN_CPU_SHARE = 0.43, 0.10, 0.03, 0.01
TEMPLATES = 1024
FLUSH_S = 600
HORIZON_S = 1 << 16
"""No job waits and runs longer, so that one list a second, used in turn, puts the records in order of their end."""

_EVENT, _JOB, _SUBMIT, _START, _WALL = 1_444_444_444, 7_777_777, 1_333_333_333, 1_443_555_555, 888_889
_USER_S, _SYSTEM_S = 5_555_555, 6_666_666
_SENTINELS = (_EVENT, _JOB, _SUBMIT, _START, _WALL, _USER_S, _SYSTEM_S)
_SENTINEL = re.compile("|".join(map(str, _SENTINELS)).encode())

Numbers = tuple[int, ...]


class Template(NamedTuple):
    """A record, and if it is from the grid its identity line, with places for `%`.

    `chosen` takes the numbers of a job (those of `_SENTINELS`) to the ones the record wants, in its order; `share` is
    CPU by wallclock.
    """

    lsf: bytes
    chosen: Callable[[Numbers], Numbers]
    blah: bytes | None
    share: float


def chunks(lines: int, seed: int, jobs_a_day: int = JOBS_A_DAY) -> Iterator[tuple[bytes, bytes]]:
    """`lines` records in order of their end, with the identity lines of their jobs, as (lsb.acct, blahp.log) pieces."""
    cluster = _Cluster(Random(seed))
    acct: list[bytes] = []
    submitted = second = 0
    last = HORIZON_S + lines * DAY_S // jobs_a_day
    while second <= last:
        until = min(lines, (second + 1) * jobs_a_day // DAY_S)
        if submitted < until:
            cluster.submit(range(submitted, until), BEGIN_AT + second, "7.06" if 2 * submitted < lines else "10.1")
            submitted = until
        acct += cluster.ended(BEGIN_AT + second)
        second += 1
        if second % FLUSH_S == 0 or second > last:
            yield b"".join(acct), b"".join(cluster.identities)
            acct.clear()
            cluster.identities.clear()


class _Cluster:
    """What runs, by the second of its end, and the identity lines not yet written."""

    def __init__(self, rng: Random) -> None:
        self.identities: list[bytes] = []
        self._minute = b""
        self._draw = rng.random
        self._templates = {version: [_template(rng, version) for _ in range(TEMPLATES)] for version in ("7.06", "10.1")}
        self._spans = [_span(rng) for _ in range(4093)]
        self._ends: list[list[tuple[bytes, Numbers]]] = [[] for _ in range(HORIZON_S)]

    def submit(self, numbers: range, now: int, version: str) -> None:
        """Submit, in the second `now`, the jobs of these numbers."""
        templates, ends = self._templates[version], self._ends
        if not self._minute or now % 60 == 0:
            self._minute = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M}".encode()
        stamp = b"%b:%02d" % (self._minute, now % 60)
        for number in numbers:
            lsf, chosen, identity, share = templates[int(self._draw() * TEMPLATES)]
            wait_s, wall_s = self._spans[number % 4093]
            start, job, user_s = now + wait_s, number % 999_999 + 1, int(share * wall_s)
            end = start + wall_s
            values = chosen((end, job, now, start, wall_s, user_s, user_s // 50))
            ends[end % HORIZON_S].append((lsf, values))
            if identity is not None:
                self.identities.append(identity % (stamp, job))

    def ended(self, now: int) -> list[bytes]:
        """The records of the jobs that end in the second `now`."""
        slot = self._ends[now % HORIZON_S]
        records = [lsf % values for lsf, values in slot]
        slot.clear()
        return records


def _span(rng: Random) -> tuple[int, int]:
    """Seconds a job waits, and runs."""
    wait_s, wall_s = rng.expovariate(1 / 900), rng.lognormvariate(8.3, 1.0)
    return min(int(wait_s), HORIZON_S // 4), min(int(wall_s), HORIZON_S // 2)


def write_large(folder: Path, lines: int, seed: int = 1, jobs_a_day: int = JOBS_A_DAY) -> tuple[Path, Path]:
    """Write `lines` records to `folder`/lsb.acct, and all their identities to one blahp.log-20120101."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "lsb.acct", folder / "blahp.log-20120101"
    with paths[0].open("wb") as acct, paths[1].open("wb") as blah:
        for acct_piece, blah_piece in chunks(lines, seed, jobs_a_day):
            acct.write(acct_piece)
            blah.write(blah_piece)
    return paths


def _template(rng: Random, version: str) -> Template:
    """A kind of job; numbers that differ from job to job are sentinels at first, and become places."""
    hosts = [f"lxb{rng.randint(1, 4000):04d}"]
    if rng.random() < MULTI_HOST_SHARE:
        slots = rng.choice((1, 2, 8, 16))
        names = [f"lxb{rng.randint(1, 4000):04d}" for _ in range(rng.randint(2, 4))]
        hosts = [f"{slots}*{name}" for name in names] if slots > 2 else [name for name in names for _ in range(slots)]
    vo = rng.choice(VOS) if rng.random() < GRID_SHARE else None
    job = _local_job(rng) if vo is None else _grid_job(rng, vo)
    processors = sum(int(host.split("*")[0]) if "*" in host else 1 for host in hosts)
    micros = rng.randint(100_000, 999_999)
    cpu_us = (_USER_S * 1_000_000 + micros, _SYSTEM_S * 1_000_000 + micros)
    job = replace(job, version=version, exec_hosts=tuple(hosts), processors=processors, cpu_us=cpu_us)
    job = replace(job, memory_kib=rng.randint(1_000, 3_000_000), swap_kib=rng.randint(3_000_000, 5_000_000), host_factor=10.1)
    if rng.random() < 0.06:
        exit_status, exit_info = rng.choice(KILLS)
        job = replace(job, status=EXIT, exit_status=exit_status, exit_info=exit_info)
    fate = rng.random()
    if fate < NEVER_STARTED_SHARE:
        job = replace(job, start_at=0, cpu_us=None, exec_hosts=(), memory_kib=0, swap_kib=0, status=EXIT, exit_info=14)
    elif fate < NEVER_STARTED_SHARE + UNKNOWN_CPU_SHARE:
        job = replace(job, cpu_us=None, status=EXIT, exit_status=65280)
    line = lsf_line(job).replace(b"%", b"%%")
    chosen = itemgetter(*(_SENTINELS.index(int(number)) for number in _SENTINEL.findall(line)))
    blah = None if vo is None else _blah_template(rng, job, vo)
    return Template(_SENTINEL.sub(b"%d", line), chosen, blah, rng.uniform(0.3, 0.97) * processors)


def _local_job(rng: Random) -> LsfJob:
    user, saap = rng.choice(LOCAL_USERS)
    odd = rng.choice(('"quoted" first', "it's", "a\\b", "f(x")) if rng.random() < 0.02 else "--events 5000"
    command = f"/afs/example.org/work/{user[0]}/{user}/run{rng.randint(1, 99)}.sh {odd}"
    uid = 20_000 + sum(user.encode())
    return LsfJob(rng.choice(("short", "normal", "long")), user, uid, _EVENT, _SUBMIT, _START, _JOB, saap=saap, command=command)


def _grid_job(rng: Random, vo: str) -> LsfJob:
    account = rng.randint(1, 99)
    job = LsfJob(f"grid_{vo}", f"{vo}{account:03d}", 30_000 + 100 * VOS.index(vo) + account, _EVENT, _SUBMIT, _START, _JOB)
    name = f"cream_{rng.randint(1, 999_999_999):09d}"
    return replace(job, job_name=name, saap=f"/{vo}/{job.user_name}", command=f"#!/bin/bash;#BSUB -J {name};./wrapper.sh")


def _blah_template(rng: Random, job: LsfJob, vo: str) -> bytes:
    ce_id = f"ce{rng.randint(1, 2):02d}.example.org:8443/cream-lsf-{job.queue}"
    one = BlahIdentity(0, rng.choice(DNS[vo]), rng.choice(FQANS[vo]), ce_id, int(job.job_name[-9:]), _JOB, job.user_id)
    line = blah_line(one).replace(b"%", b"%%").replace(b"1970-01-01 00:00:00", b"%b")
    return line.replace(b"lrmsID=%d" % _JOB, b"lrmsID=%d")


def main(arguments: list[str]) -> None:
    folder, lines = Path(arguments[0]), int(arguments[1])
    began = time.perf_counter()
    acct, blah = write_large(folder, lines)
    elapsed_s = time.perf_counter() - began
    sizes = acct.stat().st_size, blah.stat().st_size
    print(f"{lines} lines, {sizes[0] / lines:.0f} bytes each, and {sizes[1]} bytes of identities", end=" ")
    print(f"in {elapsed_s:.1f} s: {lines / elapsed_s:.0f} lines/s")


if __name__ == "__main__":
    main(sys.argv[1:])
