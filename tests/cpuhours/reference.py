"""Usage of jobs summed in plain Python, job by job and second by second where it has to be: what the query layer is held to."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from batchacct.ledger.whose import NOT_JOINED, UNKNOWN, WAITING
from batchacct.usage.summing import AMOUNTS, BOTH, SUMS, Counted
from cpuhours.query import Bins
from tests.cpuhours.clocks import begin_of, begins

Row = Mapping[str, Any]
"""A job as it is stored, with `outcome` (None: not joined), `vo`, `ce_id`, `dn` and `level`: type, value, whether per host."""


def _exit(job: Row) -> str:
    if job["exit_signal"] is not None:
        return f"signal {job['exit_signal']}"
    if job["exit_code"] is None:
        return UNKNOWN
    return f"exit {job['exit_code']}" if job["exit_code"] else "0"


def _vo(job: Row) -> str:
    if job["outcome"] is None:
        return NOT_JOINED
    return WAITING if job["outcome"] == "waiting" else str(job["vo"])


def _host(job: Row) -> str:
    hosts = job["exec_hosts"]
    if hosts is None:
        return UNKNOWN
    names = [text.partition("*")[2] for text in hosts.strip('[]"').split('","')]
    return names[0] if len(names) == 1 else "(several hosts)"


def _column(name: str) -> Callable[[Row], str]:
    return lambda job: UNKNOWN if job[name] is None else str(job[name])


DIMENSIONS: Mapping[str, Callable[[Row], str]] = {
    "vo": _vo,
    "queue": _column("queue"),
    "user": _column("user_name"),
    "cluster": _column("cluster"),
    "group": _column("group_name"),
    "project": _column("project"),
    "outcome": lambda job: NOT_JOINED if job["outcome"] is None else str(job["outcome"]),
    "site": _column("site"),
    "ce": lambda job: "(no CE)" if job["outcome"] != "joined" else _column("ce_id")(job),
    "identity": lambda job: "(no grid identity)" if job["outcome"] != "joined" else _column("dn")(job),
    "submit_host": _column("submit_host"),
    "state": _column("state"),
    "exit": _exit,
    "host": _host,
}


@dataclass(frozen=True)
class Question:
    """What `usage_by` is asked."""

    by: tuple[str, ...]
    begin: int | None = None
    end: int | None = None
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    normalise: str | None = None
    bins: Bins | None = None
    counted: Counted = "ended"

    @property
    def words(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def measured(job: Row) -> dict[str, int | None]:
    """Of one job each of `SUMS` and `BOTH`; None where it is unknown."""
    cpu, wall, cores, gpus = (job[name] for name in ("cpu_duration_s", "wall_duration_s", "processors", "gpu_count"))
    core = None if None in {wall, cores} else wall * cores
    wait = None if job["submit_at"] is None else job["start_at"] - job["submit_at"]
    energy = None if job["energy_j"] is None else int(job["energy_j"])
    gpu = 0 if gpus == 0 else None if None in {gpus, wall} else gpus * wall
    known = cpu is not None and core is not None
    return {
        "jobs": 1,
        "cpu_s": cpu,
        "cpu_unknown_jobs": int(cpu is None),
        "wall_s": wall,
        "wall_unknown_jobs": int(wall is None),
        "core_s": core,
        "core_unknown_jobs": int(core is None),
        "wait_s": wait,
        "wait_unknown_jobs": int(wait is None),
        "gpu_s": gpu,
        "gpu_jobs": int(bool(gpus)),
        "gpu_unknown_jobs": int(gpu is None),
        "energy_j": energy,
        "energy_unknown_jobs": int(energy is None),
        "both_cpu_s": cpu if known else 0,
        "both_core_s": core if known else 0,
    }


def used_by(job: Row, amount: int | None, instant: int) -> int:
    """How much of an amount a job had used by an instant, times 2^16: evenly, with what rounding leaves at its end."""
    start, end = job["start_at"], job["end_at"]
    amount = amount or 0
    if instant >= end + (end <= start):
        return amount << 16
    return (amount << 16) // (end - start) * max(0, instant - start) if end > start else 0


def _meant(jobs: Sequence[Row], question: Question) -> list[Row]:
    def fits(job: Row, name: str, names: Sequence[str]) -> bool:
        text = DIMENSIONS[name](job)
        escaped = (one.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]").replace("%", "*") for one in names)
        return any(fnmatch.fnmatchcase(text, pattern) for pattern in escaped)

    in_force = [job for job in jobs if job["start_at"] is not None and job["end_at"] is not None]
    return [job for job in in_force if all(fits(job, *one) for one in question.where.items() if one[1])]


def answer(jobs: Sequence[Row], question: Question) -> dict[tuple[object, ...], dict[str, float]]:
    """Group and begin of the bin (Unix seconds; None without bins) -> what is not 0 of the sums."""
    found: dict[tuple[object, ...], dict[str, float]] = {}
    for job in _meant(jobs, question):
        group = _group(question, job)
        at = job["start_at"] if question.counted == "started" else job["end_at"]
        if (question.begin is None or at >= question.begin) and (question.end is None or at < question.end):
            sums = found.setdefault((*group, _bin(question, at)), {})
            for name, value in (measured(job) | _normalised(question, job)).items():
                if question.counted != "spread" or name not in {*AMOUNTS, "normalised_cpu_s"}:
                    sums[name] = sums.get(name, 0) + (value or 0)
    if question.counted == "spread":
        _spread(_meant(jobs, question), question, found)
    return found


def _bin(question: Question, at: int) -> int | None:
    bins = Bins("day") if "day" in question.by else question.bins
    return None if bins is None else begin_of(at, bins)


def _level(question: Question, job: Row) -> float | None:
    if job["outcome"] is None or job["level"] is None or job["level"][0] != question.normalise:
        return None
    _, value, per_host = job["level"]
    if not per_host:
        return float(value)
    return None if job["host_factor"] is None else float(value * job["host_factor"] // 1)


def _normalised(question: Question, job: Row) -> dict[str, float]:
    if question.normalise is None:
        return {}
    level, cpu = _level(question, job), job["cpu_duration_s"]
    return {"normalised_cpu_s": (cpu or 0) * (level or 0), "not_normalised_jobs": int(level is None and cpu is not None)}


def _spread(jobs: Sequence[Row], question: Question, found: dict[tuple[object, ...], dict[str, float]]) -> None:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for job in jobs:
        groups.setdefault(_group(question, job), []).append(job)
    for group, members in groups.items():
        begin = min(min(job["start_at"], job["end_at"]) for job in members) if question.begin is None else question.begin
        end = max(job["end_at"] for job in members) + 1 if question.end is None else question.end
        cuts = _cuts(question, begin, end)
        for first, last in itertools.pairwise(cuts):
            sums = _between(question, members, first, last)
            if any(sums.values()):
                cell = found.setdefault((*group, _bin(question, first)), {})
                for name, value in sums.items():
                    cell[name] = cell.get(name, 0) + value


def _between(question: Question, jobs: Sequence[Row], first: int, last: int) -> dict[str, float]:
    """What jobs used between two instants."""

    def used(name: str, at: int) -> int:
        return sum(used_by(job, measured(job)[name], at) for job in jobs) >> 16

    sums: dict[str, float] = {name: used(name, last) - used(name, first) for name in AMOUNTS}
    if question.normalise:
        cpu = ((job, job["cpu_duration_s"], _level(question, job) or 0.0) for job in jobs)
        sums["normalised_cpu_s"] = sum((used_by(job, s, last) - used_by(job, s, first)) / 2**16 * level for job, s, level in cpu)
    return sums


def _group(question: Question, job: Row) -> tuple[str, ...]:
    return tuple(DIMENSIONS[name](job) for name in question.by if name != "day")


def _cuts(question: Question, begin: int, end: int) -> list[int]:
    """The bounds of the period, and the begins of bins between them."""
    bins = Bins("day") if "day" in question.by else question.bins
    if bins is None:
        return [begin, end]
    step = 60 if bins.size == "minute" else 900
    steps = range(begin // step * step + step, end, step)
    return [begin, *(at for at in steps if bins.size in {"minute", "quarter hour"} or begins(at, bins)), end]


def found(frame: pd.DataFrame, question: Question) -> dict[tuple[object, ...], dict[str, float]]:
    """What `usage_by` answered, as `answer` has it."""
    names = [name for name in question.by if name != "day"]
    time = "day" if "day" in question.by else "bin" if question.bins else None
    sums = [*SUMS, *BOTH, *(("normalised_cpu_s", "not_normalised_jobs") if question.normalise else ())]
    return {
        (*(row[name] for name in names), None if time is None else int(row[time].timestamp())): {name: row[name] for name in sums}
        for row in frame.to_dict("records")
    }


def assert_same(frame: pd.DataFrame, jobs: Sequence[Row], question: Question) -> None:
    """Exactly, but for the real numbers of normalised CPU, which are the same to a billionth."""
    is_, should = found(frame, question), answer(jobs, question)
    assert is_.keys() == should.keys(), question
    for key, sums in is_.items():
        for name, value in sums.items():
            expected = should[key].get(name, 0)
            if name == "normalised_cpu_s":
                assert abs(value - expected) <= 1e-9 * max(1, abs(expected)), (question, key, name)
            else:
                assert value == expected, (question, key, name)
