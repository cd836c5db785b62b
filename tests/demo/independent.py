"""What the logs of a farm say, read a second time: totals by VO, without any code of the parsers, the join or the farm.

It is slow and short on purpose. Damage it does not name: a record it cannot read is counted and left out.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_FIELD = re.compile(r'[ \t]*(?:"((?:[^"]|"")*)"|([^\s"]+))(?=[ \t]|$)')
_STARTS = (b'"JOB_FINISH" "', b'"EVENT_')
_IDENTITY_KEYS = ("timestamp", "userDN", "userFQAN", "ceID", "lrmsID", "localUser")


@dataclass(slots=True)
class Total:
    """What is published for one VO."""

    jobs: int = 0
    cpu_s: int = 0
    wall_s: int = 0


@dataclass(slots=True)
class Reading:
    """`totals` by VO of what can be published, `counts` of everything, and the fate of each (job id, index, submit)."""

    totals: dict[str, Total] = field(default_factory=lambda: defaultdict(Total))
    counts: Counter[str] = field(default_factory=Counter)
    fates: dict[tuple[int, int, int], str] = field(default_factory=dict)

    def as_tuples(self) -> dict[str, tuple[int, int, int]]:
        """VO to (jobs, CPU seconds, wallclock seconds)."""
        return {vo: (one.jobs, one.cpu_s, one.wall_s) for vo, one in sorted(self.totals.items())}


@dataclass(frozen=True, slots=True)
class Job:
    """The fields of a JOB_FINISH record that count."""

    job_id: int
    index: int
    submit: int
    start: int
    end: int
    cpu: Decimal | None
    queue: str
    group: str
    uid: int


def read_logs(folder: Path, vo_map: Mapping[str, str], now: int, grace_s: int = 86_400, window_s: int = 86_400) -> Reading:
    """Read all lsb.acct* and blahp.log-* in `folder` as of `now` (Unix seconds)."""
    reading = Reading()
    jobs = _jobs(folder, reading.counts)
    identities = _identities(folder, reading.counts)
    used: set[tuple[int, int]] = set()
    for job in jobs:
        near = [(abs(job.submit - at), at, vo, uid) for at, vo, uid in identities[job.job_id] if abs(job.submit - at) <= window_s]
        if near and min(near)[3] != job.uid:
            raise AssertionError(f"job {job.job_id} joins the identity of another account")
        if near:
            used.add((job.job_id, min(near)[1]))
        fate, vo = _fate(job, min(near)[2] if near else None, vo_map, now - grace_s)
        reading.counts[fate] += 1
        reading.fates[job.job_id, job.index, job.submit] = fate
        if fate in ("joined", "local") and job.cpu is not None:
            total = reading.totals[vo]
            total.jobs += 1
            total.cpu_s += int(job.cpu.quantize(Decimal(1), ROUND_HALF_EVEN))
            total.wall_s += job.end - job.start
    reading.counts["identities_unused"] = reading.counts["identities"] - len(used)
    return reading


def _fate(job: Job, vo: str | None, vo_map: Mapping[str, str], settled: int) -> tuple[str, str]:
    """(never_started | unknown_cpu | joined | waiting | local, VO)."""
    if job.start == 0:
        return "never_started", ""
    if job.cpu is None:
        return "unknown_cpu", ""
    if vo is not None:
        return "joined", vo
    if job.queue.startswith("grid_") and job.end > settled:
        return "waiting", ""
    return "local", "local-" + vo_map.get(job.group, "nonlcg")


def _jobs(folder: Path, counts: Counter[str]) -> list[Job]:
    jobs = []
    seen: set[bytes] = set()
    for path in sorted(folder.glob("lsb.acct*")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for raw in _records(content):
            if not raw.startswith(_STARTS[0]):
                counts["lsf_skipped"] += 1
            elif raw in seen:
                counts["lsf_duplicates"] += 1
            else:
                seen.add(raw)
                try:
                    jobs.append(_job(raw))
                except (ValueError, IndexError):
                    counts["lsf_rejected"] += 1
    counts["lsf_jobs"] = len(jobs)
    return jobs


def _records(content: bytes) -> Iterator[bytes]:
    """Lines, those joined between which a quote is open, unless what follows is the start of a record."""
    pending = b""
    for line in content.split(b"\n"):
        if pending and line.startswith(_STARTS):
            yield pending
            pending = b""
        pending = pending + b"\n" + line if pending else line
        if pending.count(b'"') % 2 == 0:
            if pending:
                yield pending
            pending = b""
    if pending:
        yield pending


def _fields(raw: bytes) -> list[tuple[bool, str]]:
    """(was quoted, text) of each field.  Raises: ValueError where the record does not consist of fields."""
    text = raw.decode("latin-1")
    fields = []
    position = 0
    while position < len(text):
        match = _FIELD.match(text, position)
        if match is None:
            raise ValueError(f"no field at {position}")
        quoted, plain = match.groups()
        fields.append((plain is None, quoted.replace('""', '"') if plain is None else plain))
        position = match.end()
    return fields


def _job(raw: bytes) -> Job:
    fields = _fields(raw)

    def number(place: int) -> Decimal:
        quoted, value = fields[place]
        if quoted:
            raise ValueError(f"text where a number is due: {value}")
        return Decimal(value)

    def text(place: int) -> str:
        quoted, value = fields[place]
        if not quoted:
            raise ValueError(f"a number where text is due: {value}")
        return value

    asked = int(number(22))
    past = asked + int(number(23 + asked))
    job_id, submit = int(number(3)), int(number(7))
    if text(21).rpartition("/")[2] != f"{submit}.{job_id}":
        raise ValueError("the name of the job file contradicts the record")
    user, system = number(28 + past), number(29 + past)
    group = text(65 + past).split("/")[1:2]
    return Job(
        job_id=job_id,
        index=int(number(53 + past)),
        submit=submit,
        start=int(number(10)),
        end=int(number(2)),
        cpu=user + system if min(user, system) >= 0 else None,
        queue=text(12),
        group=group[0] if group else "",
        uid=int(number(4)),
    )


def _identities(folder: Path, counts: Counter[str]) -> dict[int, list[tuple[int, str, int]]]:
    """Job id to (Unix seconds, VO, uid)."""
    identities: dict[int, list[tuple[int, str, int]]] = defaultdict(list)
    seen: set[str] = set()
    for path in sorted(folder.glob("blahp.log-*")):
        for line in path.read_text().splitlines():
            if line in seen:
                counts["identity_duplicates"] += 1
                continue
            seen.add(line)
            first: dict[str, str] = {}
            for pair in re.findall(r'"([^"]*)"', line):
                key, _, value = pair.partition("=")
                first.setdefault(key, value)
            if any(key not in first for key in _IDENTITY_KEYS):
                counts["identity_rejected"] += 1
                continue
            at = datetime.strptime(first["timestamp"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            vo = first["userFQAN"].split("/")[1]
            identities[int(first["lrmsID"])].append((int(at.timestamp()), vo, int(first["localUser"])))
            counts["identities"] += 1
    return identities
