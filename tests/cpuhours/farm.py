"""A small store whose sums can be done in the head: fourteen days, three VOs, a gap, unknown CPU, jobs not joined."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

from sqlalchemy import insert, select, update

import batchacct
from batchacct.store import Store
from batchacct.store.tables import benchmark, identity, job, usage, vo_mapping
from tests.pristine import with_schema

HOUR = 3600
DAY = 86_400


def at(text: str) -> int:
    """Unix seconds of `2026-11-01 12:00`, UTC."""
    return int(dt.datetime.fromisoformat(f"{text}+00:00").timestamp())


def job_row(number: int, end: int, **columns: object) -> dict[str, object]:
    """A job of one hour on one core with half an hour of CPU, unless told otherwise."""
    plain: dict[str, object] = {
        "lrms_job_id": str(number),
        "cluster": "lsf1",
        "queue": "grid_atlas",
        "user_name": "atlas001",
        "group_name": "x_ATLAS",
        "submit_at": end - 2 * HOUR,
        "start_at": end - HOUR,
        "end_at": end,
        "logged_at": end,
        "wall_duration_s": HOUR,
        "cpu_duration_s": HOUR // 2,
        "processors": 1,
        "host_factor": 2.0,
        "state": "completed",
    }
    return plain | columns


def new_store(path: Path, rows: list[dict[str, object]]) -> Store:
    """A store of these jobs, none of them joined; an earlier one there is removed."""
    return fill(with_schema(f"sqlite:///{path / 'x.db'}"), rows)


def fill(store: Store, rows: list[dict[str, object]]) -> Store:
    """The store, with these jobs."""
    counts = batchacct.insert(store, "job", rows)
    assert sum(c.recorded for c in counts) == len(rows), counts
    return store


def job_ids(store: Store) -> dict[str, int]:
    """Job id as the batch system has it -> id of the row."""
    with store.reading() as connection:
        return {name: number for number, name in connection.execute(select(job.c.id, job.c.lrms_job_id))}


def join(store: Store, outcomes: dict[str, tuple[str, str]], *, level: int | None = None) -> None:
    """Usage rows: job -> (outcome, VO); the VO of a joined job is that of an identity, else of a VO mapping."""
    ids = job_ids(store)
    with store.reading() as connection:
        logged_at = {name: at for at, name in connection.execute(select(job.c.logged_at, job.c.lrms_job_id))}
    for number, (name, (outcome, vo)) in enumerate(outcomes.items(), 1):
        row: dict[str, object] = {
            "job_id": ids[name],
            "logged_at": logged_at[name],
            "outcome": outcome,
            "benchmark_id": level,
            "mapping_id": number,
        }
        mapped = vo if outcome != "joined" else "local-nonlcg"
        with store.writing() as connection:
            connection.execute(
                insert(vo_mapping).values(
                    **dict.fromkeys(("user_name", "group_name", "project", "issuer", "subject"), ""),
                    id=number,
                    rules_hash=name,
                    asked_hash=name,
                    vo=mapped,
                    fqan="/x",
                    rule="default",
                )
            )
        if outcome == "joined":
            told = {"lrms_job_id": name, "recorded_at": 1_700_000_000 + number, "vo": vo}
            batchacct.insert(store, "identity", [told])
            with store.reading() as connection:
                row["identity_id"] = connection.scalar(select(identity.c.id).where(identity.c.lrms_job_id == name))
            row["identity_at"] = told["recorded_at"]
        with store.writing() as connection:
            connection.execute(insert(usage).values(**row))


def add_benchmark(store: Store, number: int, kind: str, value: float, *, per_host: bool = False) -> None:
    row = {"id": number, "cluster": "*", "type": kind, "value": value, "per_host_factor": int(per_host)}
    with store.writing() as connection:
        connection.execute(insert(benchmark).values(**row, valid_from=0, valid_until=2**40, active=1))


def give_benchmark(store: Store, name: str, number: int) -> None:
    with store.writing() as connection:
        connection.execute(update(usage).where(usage.c.job_id == job_ids(store)[name]).values(benchmark_id=number))


def supersede(store: Store, name: str, by: str) -> None:
    ids = job_ids(store)
    with store.writing() as connection:
        connection.execute(update(job).where(job.c.id == ids[name]).values(superseded_by=ids[by]))


QUEUES, USERS, HOSTS = ("grid_atlas", "grid_cms", "Short"), ("atlas001", "cms_1", "cmsx1"), ("ui1", "ui2")
SILENT = frozenset({at("2026-11-05 00:00"), at("2026-12-24 00:00")})
"""Days on which no chance job ended or was logged."""


def chance_jobs(count: int, longest_s: int, seed: int = 2012) -> list[dict[str, object]]:
    """Jobs that ended from 28 October 2026 to 4 January 2027, short ones mostly, with everything that can be missing."""
    chance = random.Random(seed)
    rows: list[dict[str, object]] = []
    while len(rows) < count:
        end = chance.randrange(at("2026-10-28 00:00"), at("2027-01-05 00:00"))
        if end // DAY * DAY in SILENT:
            continue
        wall = int(longest_s ** chance.random()) if rows else longest_s
        start: int | None = end - wall
        columns: dict[str, object] = {
            "cpu_duration_s": chance.choice((wall * 7 // 8, wall, 0, None)),
            "host_factor": chance.choice((1.0, 1.3, 2.0, 0.7, None)) if rows else 2.0,
            "submit_at": end - wall - chance.randrange(2 * DAY),
            "start_at": start if chance.random() > 0.05 or not rows else None,
            "wall_duration_s": wall,
            "queue": chance.choice(QUEUES),
            "user_name": chance.choice(USERS),
            "group_name": chance.choice(("x_ATLAS", "x_CMS")),
            "submit_host": chance.choice((*HOSTS, None)),
        }
        if not rows:
            columns["cpu_duration_s"] = wall
        rows.append(job_row(len(rows) + 1, end, **columns))
    return rows
