"""Usage by every dimension, bin, zone and way to count: always what plain Python comes to, job by job."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchacct import insert
from batchacct.errors import ConfigError
from batchacct.model import MOST_WALL_S
from batchacct.store import Store
from batchacct.store.changed_days import note_changed
from batchacct.store.tables import identity, usage, vo_mapping
from batchacct.usage.summing import AMOUNTS, COUNTED
from cpuhours.query import GROUPS, Bins, usage_by
from tests.cpuhours.farm import DAY, HOUR, add_benchmark, at, job_ids, job_row, new_store
from tests.cpuhours.kept import as_rows_are, keep
from tests.cpuhours.reference import Question, assert_same
from tests.records import job

BEGIN = at("2026-10-24 00:00")
"""Clocks change in Europe on the 25th."""
LEVELS = [None, ("HEPscore23", 12.5, False), ("HEPscore23", 3.5, True), ("Si2k", 400.0, False)]
ZONES = ("UTC", "Europe/Zurich", "Asia/Kathmandu", "Pacific/Chatham")


@st.composite
def a_job(draw: st.DrawFn) -> dict[str, Any]:
    """A job of some days at most, on a grid of times that makes borders likely, whose every figure may be unknown."""
    grid = draw(st.sampled_from([1, 900, HOUR]))
    end = BEGIN + draw(st.integers(0, 4 * DAY)) // grid * grid
    start = end - draw(st.sampled_from([0, -5, 1, 899, 900, 901, 3 * HOUR, 2 * DAY + 7]) | st.integers(0, 3 * DAY))
    return {
        "start_at": draw(st.sampled_from([start, start, start, start, None])),
        "end_at": end,
        "submit_at": draw(st.sampled_from([None, start - 100, start + 3])),
        "logged_at": end + draw(st.integers(0, DAY)),
        "cpu_duration_s": draw(st.none() | st.integers(0, 10**6)),
        "wall_duration_s": draw(st.none() | st.integers(0, 10**6)),
        "processors": draw(st.sampled_from([None, 0, 1, 64])),
        "gpu_count": draw(st.sampled_from([None, 0, 2])),
        "energy_j": draw(st.none() | st.floats(0, 10**9)),
        "exit_code": draw(st.sampled_from([None, 0, 1])),
        "exit_signal": draw(st.sampled_from([None, None, 9])),
        "state": draw(st.sampled_from(["completed", "failed"])),
        "queue": draw(st.sampled_from([None, "a_b", "aXb", "A_b", "a%"])),
        "user_name": draw(st.sampled_from([None, "ann", "Ann", "bob"])),
        "group_name": draw(st.sampled_from([None, "g"])),
        "project": draw(st.sampled_from([None, "p"])),
        "cluster": draw(st.sampled_from(["c1", "c2"])),
        "site": draw(st.sampled_from([None, "S"])),
        "submit_host": draw(st.sampled_from([None, "h1"])),
        "exec_hosts": draw(st.sampled_from([None, '["1*n1"]', '["8*n1"]', '["1*n1","2*n2"]'])),
        "host_factor": draw(st.sampled_from([None, 1.25, 2.5])),
        "outcome": draw(st.sampled_from([None, "joined", "local", "waiting", "excluded"])),
        "vo": draw(st.sampled_from(["atlas", "cms"])),
        "ce_id": draw(st.sampled_from([None, "ce1"])),
        "dn": draw(st.sampled_from([None, "/CN=ann"])),
        "level": draw(st.sampled_from(LEVELS)),
    }


NAMES = {
    "vo": ["atlas", "%s", "(%", "cms"],
    "queue": ["a_b", "a%b", "a_%", "%"],
    "user": ["ann", "A%", "x"],
    "host": ["n1", "n%"],
    "ce": ["ce1", "(no%"],
}
"""Names to restrict by: exact ones, wildcards, and the underscore that is none."""


@st.composite
def a_question(draw: st.DrawFn) -> Question:
    names = draw(st.lists(st.sampled_from(GROUPS), max_size=2, unique=True))
    sizes = st.sampled_from(["quarter hour", "hour", "day", "week", "month"])
    bins = None if "day" in names else draw(st.none() | st.builds(Bins, sizes, st.sampled_from(ZONES)))
    if not names and bins is None:
        names = ["vo"]
    bound = st.none() | st.sampled_from([BEGIN + DAY, BEGIN + DAY + 900, BEGIN + 2 * DAY + 1]) | st.integers(BEGIN, BEGIN + 3 * DAY)
    begin, end = draw(bound), draw(bound)
    if begin is not None and end is not None and begin >= end:
        begin, end = (end, begin) if begin > end else (begin, None)
    where = {
        name: draw(st.lists(st.sampled_from(NAMES[name]), max_size=2))
        for name in draw(st.sets(st.sampled_from(sorted(NAMES)), max_size=2))
    }
    normalise = draw(st.sampled_from([None, "HEPscore23"]))
    return Question(tuple(names), begin, end, where, normalise, bins, draw(st.sampled_from(COUNTED)))


def stored(store: Store, jobs: list[dict[str, Any]]) -> Store:
    """The store with these jobs and what the ledger says of them."""
    told = ("outcome", "vo", "ce_id", "dn", "level")
    rows = [{k: v for k, v in one.items() if k not in told} | {"lrms_job_id": str(n)} for n, one in enumerate(jobs)]
    insert(store, "job", rows)
    for number, level in enumerate(filter(None, LEVELS), 1):
        add_benchmark(store, number, level[0], level[1], per_host=level[2])
    ids = job_ids(store)
    with store.writing() as connection:
        empty = dict.fromkeys(("user_name", "group_name", "project", "issuer", "subject"), "")
        for number, one in enumerate(jobs, 1):
            if one["outcome"] is None:
                continue
            joined = one["outcome"] == "joined"
            mapping = {"id": number, "rules_hash": "x", "asked_hash": str(number), "fqan": "/x", "rule": "default"}
            connection.execute(vo_mapping.insert().values(**empty, **mapping, vo="local-x" if joined else one["vo"]))
            who = {"identity_id": number if joined else None, "identity_at": BEGIN if joined else None}
            row = {"job_id": ids[str(number - 1)], "logged_at": one["logged_at"], "outcome": one["outcome"], "mapping_id": number}
            connection.execute(usage.insert().values(**row, **who, benchmark_id=LEVELS.index(one["level"]) or None))
    _identities(store, jobs)
    return store


def _identities(store: Store, jobs: list[dict[str, Any]]) -> None:
    """An identity of the same number for each job that was joined."""
    names = {column.name for column in identity.columns}
    with store.writing() as connection:
        for number, one in enumerate(jobs, 1):
            if one["outcome"] == "joined":
                row = {name: value for name, value in job(number).items() if name in names} | {"id": number, "recorded_at": BEGIN}
                told = {name: one[name] for name in ("vo", "ce_id", "dn")}
                connection.execute(identity.insert().values(**row | told, time_kind="submit"))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    jobs=st.lists(a_job(), max_size=8),
    questions=st.lists(a_question(), min_size=5, max_size=5),
    changed=st.none() | st.integers(0, 4),
)
def test_every_answer_is_what_python_comes_to(
    tmp_path_factory: pytest.TempPathFactory, jobs: list[dict[str, Any]], questions: list[Question], changed: int | None
) -> None:
    """From the rows, or from what is kept of all days but one."""
    store = stored(new_store(tmp_path_factory.mktemp("farm"), []), jobs)
    if changed is not None:
        keep(store)
        with store.writing() as connection:
            note_changed(connection, [BEGIN + changed * DAY])
    for question in questions:
        assert_same(usage_by(store, **question.words), jobs, question)
    store.close()


def some_jobs(seed: int, jobs: int = 25) -> list[dict[str, Any]]:
    """Jobs of whatever length, on two clusters, some of which end or start at a border of bins."""
    chance = random.Random(seed)
    made = []
    for _ in range(jobs):
        end = BEGIN + chance.randrange(3 * DAY) // (grid := chance.choice([1, 900])) * grid
        ran = chance.choice([0, chance.randrange(900), chance.randrange(7 * HOUR), chance.randrange(2 * DAY)])
        known = {"cpu_duration_s": chance.randrange(10**6), "wall_duration_s": ran, "processors": chance.choice([1, 7])}
        others = {"gpu_count": 1, "energy_j": chance.random() * 1e6, "cluster": chance.choice(["c1", "c2"])}
        made.append({"start_at": end - ran, "end_at": end, "logged_at": end + 1, "submit_at": end - ran} | known | others)
    told = ("exit_code", "exit_signal", "exec_hosts", "queue", "outcome", "vo", "ce_id", "dn", "level", "host_factor")
    return [{"state": "completed", "site": "S"} | dict.fromkeys(told) | one for one in made]


def test_a_bin_in_which_less_than_a_second_was_used_has_no_row(tmp_path: Path) -> None:
    (job,) = some_jobs(1, jobs=1)
    job |= {"start_at": BEGIN + HOUR - 7, "end_at": BEGIN + 48 * HOUR, "cpu_duration_s": 1259, "logged_at": BEGIN + 49 * HOUR}
    job |= dict.fromkeys(("wall_duration_s", "processors", "gpu_count", "energy_j"))
    store = stored(new_store(tmp_path, []), [job])
    for normalise in (None, "HEPscore23"):
        question = Question((), BEGIN, BEGIN + 49 * HOUR, {}, normalise, Bins("quarter hour"), "spread")
        assert_same(usage_by(store, **question.words), [job], question)
    store.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from(["quarter hour", "hour"]),
    cut=st.integers(BEGIN, BEGIN + 3 * DAY),
    grid=st.sampled_from([1, 900]),
    is_kept=st.booleans(),
)
def test_what_is_spread(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: str, cut: int, *, grid: int, is_kept: bool
) -> None:
    jobs = some_jobs(seed)
    store = stored(new_store(tmp_path_factory.mktemp("farm"), []), jobs)
    if is_kept:
        keep(store)
    bins, cut = Bins(size, "Asia/Kathmandu"), cut // grid * grid
    halves = []
    for begin, end in ((None, cut), (cut, None)):
        question = Question(("cluster",), begin, end, bins=bins, counted="spread")
        halves.append(usage_by(store, **question.words))
        assert_same(halves[-1], jobs, question)
    sums = ["jobs", *AMOUNTS]
    both = pd.concat(halves).groupby("cluster")[sums].sum()
    pd.testing.assert_frame_equal(both, usage_by(store, by="cluster").set_index("cluster")[sums])
    pd.testing.assert_frame_equal(both, usage_by(store, by="cluster", bins=bins, counted="spread").groupby("cluster")[sums].sum())
    store.close()


def test_a_job_that_is_spread(tmp_path: Path) -> None:
    """Two hours from 10:50, of 100 seconds of CPU and one core: 10, 60 and 50 minutes of it, and as much of the CPU."""
    end = at("2026-11-03 12:50")
    store = new_store(tmp_path, [job_row(1, end, start_at=end - 2 * HOUR, cpu_duration_s=100, wall_duration_s=2 * HOUR)])
    frame = usage_by(store, by=(), bins=Bins("hour"), counted="spread")
    assert [(row["bin"].hour, row["jobs"], row["wall_s"], row["cpu_s"]) for row in frame.to_dict("records")] == [
        (10, 0, 600, 8), (11, 0, 3600, 50), (12, 1, 3000, 42),
    ]  # fmt: skip
    part = usage_by(store, by="cluster", begin=end - HOUR, end=end - HOUR // 2, counted="spread")
    assert part[["jobs", "wall_s", "cpu_s"]].to_numpy().tolist() == [[0, 1800, 25]]


def test_more_than_any_job_uses_does_not_spoil_what_is_spread(tmp_path: Path) -> None:
    """What no job used is where the job ended; sums beyond 64 bits on the way are right."""
    end = at("2026-11-03 12:00")
    most = {"wall_duration_s": MOST_WALL_S, "processors": 100_000_000}
    jobs = [job_row(n, end, start_at=end - 3 * DAY, **(most if n == 1 else {"cpu_duration_s": 4 * 10**12})) for n in range(1, 25)]
    frame = usage_by(new_store(tmp_path, jobs), by=(), bins=Bins("day"), counted="spread")
    assert frame["cpu_s"].sum() == 23 * 4 * 10**12 + HOUR // 2
    assert (frame["cpu_s"] >= 0).all()
    assert frame["core_s"].tolist()[-1] >= MOST_WALL_S * 100_000_000
    assert frame["core_s"].sum() == MOST_WALL_S * 100_000_000 + 23 * HOUR


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"by": "vo", "where": {"day": ["x"]}}, "restricted by day"),
        ({"by": "vo", "counted": "submitted"}, "counted where they submitted"),
        ({"by": "day", "bins": Bins("hour")}, "leave out one of them"),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, words: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        usage_by(new_store(tmp_path, []), **words)


def test_every_database_spreads_and_chooses_alike(store: Store) -> None:
    jobs = some_jobs(1, 60)
    for number, one in enumerate(jobs):
        one |= {
            "queue": ["a_b", "aXb", "A_b"][number % 3],
            "exec_hosts": ['["1*n1"]', '["1*n1","1*n2"]'][number % 2],
            "exit_code": number % 3,
        }
        one |= {
            "outcome": ["joined", "local", None][number % 3],
            "vo": "atlas",
            "ce_id": "ce1",
            "dn": None,
            "level": LEVELS[number % 4],
            "host_factor": 1.25,
        }
    stored(store, jobs)
    bins = Bins("hour", "Pacific/Chatham")
    for counted in COUNTED:
        for where in ({}, {"queue": ["a_%"], "vo": ["atlas"]}, {"host": ["n%"], "ce": ["ce1"]}):
            question = Question(("vo", "host", "exit"), BEGIN + DAY, BEGIN + 2 * DAY, where, "HEPscore23", bins, counted)
            assert_same(usage_by(store, **question.words), jobs, question)
    keep(store)
    assert as_rows_are(store)
    by_day = Question(("vo", "queue"), BEGIN, BEGIN + 2 * DAY, {"queue": ["a%", "A_b"]}, "HEPscore23", Bins("day"))
    for question in (by_day, Question(("host", "exit"), BEGIN + 1, counted="spread")):
        assert_same(usage_by(store, **question.words), jobs, question)
