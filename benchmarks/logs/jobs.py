"""Jobs of an invented site, the same for the same seed, for logs of any format: a function of `benchmarks.logs` writes one down.

They end one after the other, 200,000 a day: one in ten on several hosts, eight in a hundred as tasks of an array, three in a
hundred removed before they started, one in twelve failed, a tenth with GPUs, 43 in a hundred from the grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from random import Random

from batchacct.demo.cast import DNS, FQANS, LOCAL_USERS, VOS

BEGIN_AT = 1_704_067_200
JOBS_A_SECOND = 200_000 / 86_400
FIRST_NUMBER = 4_100_000
GRID_SHARE, ARRAY_SHARE, NEVER_STARTED_SHARE, FAILED_SHARE, GPU_SHARE = 0.43, 0.08, 0.03, 0.08, 0.1
ARRAY_TASKS = 100
GRID_QUEUE = "grid_"
SHAPES = ((1, 1),) * 12 + ((1, 8),) * 4 + ((1, 64),) * 2 + ((2, 8), (3, 40))
"""Hosts, and slots on each: as often as they stand here."""

NAMES = ("STDIN", "run.sh", "sim_x-17", "train.py", "job.sh") * 8 + ("analysis:v2", "V ALPHA 3")
"""Of local jobs; those of the grid have numbers."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one job; `start_at` is None if there was none. `number` is an array's, with `index`, where it is a task."""

    number: int
    index: int | None
    user: str
    uid: int
    group: str
    queue: str
    name: str
    submit_at: int
    start_at: int | None
    end_at: int
    first_host: int
    host_count: int
    slots: int
    gpus: int
    user_cpu_us: int
    system_cpu_us: int
    memory_kib: int
    exit_code: int
    exit_signal: int
    dn: str
    fqans: tuple[str, ...]

    @property
    def raw(self) -> int:
        """A number that no other job has, tasks of arrays included."""
        return self.number + (self.index or 0)

    @property
    def wall_s(self) -> int:
        return 0 if self.start_at is None else self.end_at - self.start_at

    @property
    def cpu_s(self) -> float:
        return (self.user_cpu_us + self.system_cpu_us) / 1e6

    @property
    def processors(self) -> int:
        return self.host_count * self.slots

    @property
    def hosts(self) -> list[str]:
        return [f"lxb{number:04d}" for number in range(self.first_host, self.first_host + self.host_count)]

    @property
    def is_ok(self) -> bool:
        return not (self.exit_code or self.exit_signal)


def jobs(seed: int) -> Iterator[Job]:
    """Without end, in the order of their ends."""
    rng = Random(seed)
    people = _people(rng)
    draw = rng.random
    of_an_array = int(ARRAY_TASKS * ARRAY_SHARE)
    for nth in range(1 << 40):
        user, uid, group, queue, dn, fqans = people[int(draw() * len(people))]
        hosts, slots = SHAPES[int(draw() * len(SHAPES))]
        end_at = BEGIN_AT + int(nth / JOBS_A_SECOND)
        wall_s = int(rng.lognormvariate(8.3, 1.0))
        started = draw() >= NEVER_STARTED_SHARE
        start_at = end_at - wall_s if started else None
        cpu_us = int(wall_s * hosts * slots * (0.3 + 0.67 * draw()) * 1e6) if started else 0
        failed = draw() < FAILED_SHARE
        index = nth % ARRAY_TASKS
        yield Job(
            number=FIRST_NUMBER + (nth - index if index < of_an_array else nth),
            index=index if index < of_an_array else None,
            user=user,
            uid=uid,
            group=group,
            queue=queue,
            name=f"cream_{nth * 7919 % 999_999_937:09d}" if queue.startswith(GRID_QUEUE) else NAMES[int(draw() * len(NAMES))],
            submit_at=end_at - wall_s - int(rng.expovariate(1 / 900)),
            start_at=start_at,
            end_at=end_at,
            first_host=1 + int(draw() * 4000),
            host_count=hosts,
            slots=slots,
            gpus=1 + nth % 4 if draw() < GPU_SHARE else 0,
            user_cpu_us=cpu_us - cpu_us // 50,
            system_cpu_us=cpu_us // 50,
            memory_kib=4 * (2_000 + int(draw() * 4_000_000)) if started else 0,
            exit_code=nth % 100 + 1 if failed and nth % 3 else 0,
            exit_signal=9 if failed and nth % 3 == 0 else 0,
            dn=dn,
            fqans=fqans,
        )


def _people(rng: Random) -> list[tuple[str, int, str, str, str, tuple[str, ...]]]:
    """User, number, group, queue, and for who came by a computing element (and for the rest, all the same) DN and FQANs."""
    people = []
    for nth in range(200):
        vo = rng.choice(VOS)
        dn, fqans = rng.choice(DNS[vo]), rng.choice(FQANS[vo])
        if nth < 200 * GRID_SHARE:
            people.append((f"{vo}{nth:03d}", 30_000 + nth, vo, f"{GRID_QUEUE}{vo}", dn, fqans))
        else:
            user, _ = rng.choice(LOCAL_USERS)
            people.append((f"{user}{nth}", 20_000 + nth, f"g{user[0]}", rng.choice(("short", "normal", "long")), dn, fqans))
    return people


def iso(instant: int, zone: tzinfo = UTC) -> str:
    """`2024-01-01T00:00:00`, on a clock of the zone."""
    return datetime.fromtimestamp(instant, zone).strftime("%Y-%m-%dT%H:%M:%S")


def clock(seconds: int, *, days: bool = True) -> str:
    """`1-02:03:04`, and without days `26:03:04`."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24) if days else (0, hours)
    return f"{day}-{hour:02d}:{minute:02d}:{second:02d}" if day else f"{hour:02d}:{minute:02d}:{second:02d}"
