"""A farm at work for some months, by chance: what comes into the store at which time, and everything one can ask of it then."""

from __future__ import annotations

import dataclasses
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from batchacct.archive import taking
from batchacct.archive.months import month_of, named_month, next_month
from batchacct.clock import NOW_VARIABLE
from batchacct.ledger import stories
from batchacct.ledger.archived import with_archived
from batchacct.ledger.audit import read_audit
from batchacct.ledger.books import read_books
from batchacct.ledger.job_ids import JobId
from batchacct.store import Store
from batchacct.store.tables import RECORD_TABLES, job, usage
from batchacct.usage.summing import COUNTED
from cpuhours.distribution import Chosen, wall_times
from cpuhours.query import Bins, collection_gaps, ends, logged_span, usage_by
from cpuhours.series_2012 import LeftOut, distinct_names, series_2012
from tests.pub.site import Site, a_job, an_identity
from tests.records import rows

BEGIN = named_month("2025-03")
IDS = 16
DAY, HOUR = 86_400, 3600
END = BEGIN + 150 * DAY


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record, and when it comes into the store."""

    at: int
    kind: str
    record: dict[str, object]

    @property
    def month(self) -> int:
        when = self.record["logged_at" if self.kind == "job" else "recorded_at"]
        assert isinstance(when, int)
        return month_of(when)


@dataclass
class Farm:
    """What happens: records come, it is published daily or weekly, and `archived_at` some times."""

    arrivals: list[Arrival]
    published_at: list[int]
    archived_at: list[int] = field(default_factory=list)


def chance_farm(seed: int, jobs: int = 60) -> Farm:
    """Few ids, so that they recycle; jobs of minutes and of months; identities early, late, twice, never; revisions."""
    chance = random.Random(seed)
    arrivals: list[Arrival] = []
    for number in range(jobs):
        arrivals += _job(chance, number)
    published = sorted(chance.randrange(BEGIN, END) for _ in range(12))
    archived = sorted(chance.randrange(BEGIN + 20 * DAY, END) for _ in range(chance.randint(1, 6)))
    return Farm(sorted((_in_time(a, archived) for a in arrivals), key=lambda a: a.at), published, archived)


def _in_time(arrival: Arrival, archived: Sequence[int]) -> Arrival:
    """What would come after its month was archived comes before that: afterwards it is refused, which is not the question here."""
    too_late = [at for at in archived if month_of(at) > arrival.month]
    return dataclasses.replace(arrival, at=min([arrival.at, *(at - HOUR for at in too_late)]))


def _job(chance: random.Random, number: int) -> list[Arrival]:
    name = chance.randrange(1, IDS)
    index = chance.choice((None, None, None, 1, 2))
    submit = chance.randrange(BEGIN, BEGIN + 110 * DAY)
    wait, ran = chance.choice((60, HOUR, 20 * DAY)), chance.choice((90, 5 * HOUR, 3 * DAY, 40 * DAY))
    start: int | None = submit + wait
    end: int | None = submit + wait + ran
    state = chance.choice(("completed", "failed", "requeued"))
    if chance.random() < 0.08:
        start, ran = None, 0
    logged = submit + wait + ran
    columns: dict[str, object] = {
        "array_index": index,
        "submit_at": None if chance.random() < 0.1 else submit,
        "start_at": start,
        "end_at": end,
        "logged_at": logged,
        "lrms": chance.choice(("LSF", "Slurm")),
        "wall_duration_s": chance.choice((ran, ran, ran, ran, None)),
        "cpu_duration_s": None if chance.random() < 0.1 else ran * 7 // 8,
        "processors": chance.choice((1, 8, None)),
        "host_factor": chance.choice((1.0, 1.3, None)),
        "queue": chance.choice(("grid_a", "grid_b", "normal", None)),
        "user_name": chance.choice(("alice", "bob", "Übung", None)),
        "group_name": chance.choice(("physics", "x_FOO")),
        "state": state,
        "record_key": f"c1:{name}:{index}:{number}",
    }
    arrives = logged + chance.choice((0, HOUR, 3 * DAY))
    found = [Arrival(arrives, "job", a_job(name, **columns))]
    if chance.random() < 0.1:
        again = columns | {"cpu_duration_s": ran // 2 + 1, "user_name": "carol"}
        found.append(Arrival(arrives + chance.choice((0, DAY, 10 * DAY)), "job", a_job(name, **again)))
    for _ in range(chance.choice((0, 1, 1, 1, 2))):
        kind = chance.choice(("submit", "accept", "end"))
        near = {"submit": submit, "accept": submit - 2 * DAY, "end": logged}[kind] + chance.randrange(-HOUR, HOUR)
        told = {
            "array_index": chance.choice((None, index)),
            "time_kind": kind,
            "recorded_at": near,
            "vo": chance.choice(("atlas", "cms", None)),
            "record_key": f"c1:{name}:{number}:{chance.random()}",
        }
        if told["vo"] is None:
            told |= {"fqan": None, "fqans": None, "vo_group": None, "vo_role": None}
        identity = an_identity(name, chance.choice(("/CN=Alice", "/CN=Bob")), **told)
        found.append(Arrival(near + chance.choice((0, HOUR, 12 * DAY, 45 * DAY)), "identity", identity))
    return found


def new_site(store: Store, folder: Path, **more: object) -> Site:
    retention = {"keep": 0}
    benchmarks = [
        {"type": "HEPscore23", "value": 10.0},
        {"type": "HEPSPEC", "value": 7.0, "cluster": "c1", "per_host_factor": True},
    ]
    vo = {"rule": [{"vo": "pilots", "fqan": "*pilot", "queue": "grid_b"}, {"vo": "foo", "queue": "normal"}]}
    return Site(store, archive={"path": folder / "archive"}, retention=retention, benchmark=benchmarks, vo=vo, **more)


def lived(site: Site, farm: Farm, *, archived: bool, after_each: Callable[[], None] = lambda: None) -> None:
    """Everything happens, and in the end it is published twice more, months later, so that nothing waits any longer."""
    events = [(at, "publish") for at in farm.published_at]
    events += [(at, "archive") for at in farm.archived_at]
    events += [(END + days * DAY, "publish") for days in (20, 60)]
    since = 0
    for at, what in sorted(events):
        with mock.patch.dict(os.environ, {NOW_VARIABLE: str(at)}):
            come = [a for a in farm.arrivals if since <= a.at < at]
            site.jobs(*(a.record for a in come if a.kind == "job"))
            site.identities(*(a.record for a in come if a.kind == "identity"))
            since = at
            if what == "publish":
                site.read_to_end(at)
                site.publish(at)
            elif archived:
                archive(site, at)
                after_each()
    if archived:
        archive(site, END + 61 * DAY)
        after_each()


def archive(site: Site, at: int) -> taking.Report:
    return taking.archive(site.store, site.config, at, trust_clock=True)


def asked(site: Site) -> dict[str, Any]:
    """Every question there is to a site, and its answers."""
    store = site.store
    answers: dict[str, Any] = {}
    for by in ("vo", "day", "user", "outcome", "ce", "state", "exit", "host"):
        answers[f"report by {by}"] = usage_by(store, by=by).to_dict("records")
    answers["report by day and vo"] = usage_by(store, by=("day", "vo"), normalise="HEPSPEC").to_dict("records")
    of_a_vo = usage_by(store, by="user", where={"vo": ["atlas"]}, begin=BEGIN, end=BEGIN + 70 * DAY)
    answers["report of a VO"] = of_a_vo.to_dict("records")
    for counted in COUNTED:
        words: dict[str, Any] = {"bins": Bins("month", "Europe/Zurich"), "normalise": "HEPSPEC", "counted": counted}
        usage_of = usage_by(store, by="vo", where={"user": ["%b%", "alice"]}, begin=BEGIN + DAY, **words)
        answers[counted] = usage_of.round(dict.fromkeys(usage_of.select_dtypes("float"), 6)).to_dict("records")
    answers["ends"], answers["span"] = ends(store), logged_span(store)
    answers["gaps"] = collection_gaps(store, BEGIN, END)
    answers["users"] = distinct_names(store, job.c.user_name, BEGIN, END)
    for measure in ("cpu", "started"):
        answers[f"2012 {measure}"] = _rounded(series_2012(store, measure, begin=BEGIN, end=END, bin_s=DAY, factor=2.0, only=[]))
    for factor in (None, 3.9):
        answers[f"wall times, factor {factor}"] = wall_times(store, Chosen(BEGIN, END, factor))
    with store.reading() as connection:
        answers["books"] = read_books(connection)
        month = BEGIN
        while month < END:
            answers[f"audit from {month}"] = read_audit(connection, [], month, next_month(month), END)
            month = next_month(month)
        answers["audit of some days"] = read_audit(connection, [], BEGIN + 10 * DAY, BEGIN + 75 * DAY, END)
    answers["usage"] = sorted(map(str, rows_of_usage(store)))
    for name in (*map(str, range(1, IDS, 2)), "2[1]", "4[2]"):
        answers[f"why {name}"] = _why(store, name)
    for number in range(1, len(site.postbox.taken) + 1, 3):
        answers[f"trace {number}"] = _trace(store, number)
    answers["payloads"] = [message.payload for message in site.postbox.taken]
    return answers


def rows_of_usage(store: Store) -> list[tuple[object, ...]]:
    with store.reading() as connection:
        return [tuple(row) for row in connection.execute(usage.select())]


def _rounded(answer: tuple[dict[int, float], LeftOut]) -> tuple[dict[int, float], LeftOut]:
    return {at: round(value, 9) for at, value in answer[0].items()}, answer[1]


def _why(store: Store, name: str) -> list[str]:
    job_id = JobId.of(name)
    with with_archived(store, lambda wanted: wanted.of_job(job_id)) as (connection, _):
        return list(stories.why(connection, job_id))


def _trace(store: Store, number: int) -> list[str]:
    with with_archived(store, lambda wanted: wanted.of_message(number)) as (connection, _):
        return list(stories.trace_message(connection, number))


def left(store: Store) -> dict[str, int]:
    """How many records are in the tables themselves; of jobs and what belongs to them also where there are none."""
    counted = {name: len(rows(store, table)) for name, table in RECORD_TABLES.items()}
    return {name: count for name, count in counted.items() if count or name in ("job", "identity", "part")}


def same(one: Any, other: Any) -> bool:
    """Whether two answers are the same, where what is no number is as good as what is none."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return bool(one == other)
