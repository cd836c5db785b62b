"""Processes whose months are in the archive are asked as if they had never left, whatever else is or is not there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from batchacct.archive import purging, taking
from batchacct.archive.months import named_month
from batchacct.archive.whole_months import recall_month
from batchacct.ledger import more_stories, stories
from batchacct.ledger.archived import with_archived
from batchacct.ledger.job_ids import JobId
from batchacct.store import Store
from procacct.asking.applications import Applications
from procacct.asking.asked import Asked
from procacct.asking.coverage import notes
from procacct.asking.places import answered
from procacct.asking.programs import programs_of, runs_of_job
from procacct.asking.recall import Sought, uses
from procacct.asking.runs import runs_of_processes
from procacct.asking.top import top
from procacct.asking.top_rows import ordered
from tests.procacct.workload import (
    DAY,
    HOUR,
    a_job,
    a_membership,
    a_process,
    add,
    add_memberships,
    add_objects,
    add_processes,
    an_object,
)
from tests.pub.site import Site

MARCH, APRIL, MAY, JULY = (named_month(f"2025-{n:02d}") for n in (3, 4, 5, 7))
SOUGHT = (Sought(program="tool*"), Sought(library="lib1.so"), Sought(signature="sig3"), Sought(build_id="bid"))
PERIODS = ((None, None), ("2025-03-31", "2025-04-01"))
IDS = 5
ASKED_BY = ("program", "library", "module", "vo", "group", "job")


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Site:
    """Three months of jobs with few ids, which come again, around the ends of months above all, and of what ran in them."""
    made = Site(store, archive={"path": tmp_path / "archive"}, retention={"keep": 0})
    chance = random.Random(7)
    for number in range(20):
        around = chance.choice((MARCH + 9 * DAY, APRIL, APRIL, MAY, MAY + 9 * DAY))
        start = around + chance.randrange(-HOUR, HOUR)
        job_id, user = str(chance.randrange(IDS)), f"user{number % 5}"
        end = start + chance.randrange(60, 2 * HOUR)
        add(store, a_job(job_id, start, end, user_name=user, queue="local"))
        add_processes(store, *(_process(chance, job_id, user, chance.randrange(start - 400, end + 400)) for _ in range(12)))
    add_processes(store, *(_process(chance, None, "root", around + chance.randrange(DAY)) for around in (MARCH, APRIL, MAY)))
    for month in (MARCH, APRIL, MAY):
        gap: dict[str, Any] = {"kind": "gap", "processes": 0, "lost_events": 5, "ended_by": "unknown", "program": None}
        add_processes(store, a_process(None, month + 60, month + HOUR, cpu_user_s=None, cpu_system_s=None, **gap))
        for name in range(4):
            marks = [{"signature": f"sig{n}", "build_id": "bid" if n == 2 else None} for n in range(name + 1)]
            objects = (an_object(f"set{name}", f"/lib64/lib{n}.so", month + 5, **own) for n, own in enumerate(marks))
            add_objects(store, *objects)
    made.read_to_end(JULY)
    made.publish(JULY)  # what is not published is not archived
    return made


def _process(chance: random.Random, job_id: str | None, user: str, start: int) -> dict[str, object]:
    parser = chance.choice(("procs/1", "procs/1", "procs/1", "pacct/1", "ogrt/1"))
    return a_process(
        job_id, start, start + chance.randrange(3 * HOUR), host=f"n{chance.randrange(3)}", user_name=user, parser=parser,
        program=f"/usr/bin/tool{chance.randrange(6)}", object_set=chance.choice((None, "set0", "set1", "set2", "set3", "set9")),
        signature=chance.choice((None, "sig1")), modules=chance.choice((None, '["gcc/13","cmake"]')),
        cpu_user_s=float(chance.randrange(4000)), cpu_system_s=0.5,
    )  # fmt: skip


@pytest.fixture
def grouped(site: Site) -> Site:
    """With groups of which some members left in a later month than they ended in, as seen from the programs they ran before."""
    for start, left in ((MARCH, APRIL + 5), (APRIL - 20, APRIL + 5), (MAY - 5, MAY + 5)):
        pid = start % 100_000
        add_processes(site.store, a_process(None, start, pid=pid, host="n1", program="/usr/bin/grouped"))
        add_processes(site.store, a_process(None, start, left + 30, pid=pid, host="n1", program="/usr/bin/grouped-to-the-end"))
        add_memberships(site.store, a_membership(pid, start, "a", left_at=left, left_ns=left * 10**9))
    return site


def figures(store: Store) -> Iterator[object]:
    """All that can be asked, rounded where sums depend on the order."""

    def tops(connection: Connection, asked: Asked) -> list[object]:
        runs, found = runs_of_processes(connection, asked.logged), []
        for by in ASKED_BY:
            rows = sorted(top(connection, asked, by, runs, Applications(())), key=lambda row: row.name)
            found.append([(row.name, *(round(number, 3) for number in astuple(row.sums))) for row in rows])
        told = [sorted(map(str, uses(connection, asked, sought, runs))) for sought in SOUGHT]
        return [*found, *told, notes(connection, asked, runs)]

    for begin, end in PERIODS:
        yield answered(store, begin, end, tops)


def programs(store: Store) -> Iterator[object]:
    """What is told of each job: its programs, and its story."""
    for number in range(IDS):
        job_id = JobId.of(str(number))
        with with_archived(store, lambda wanted: wanted.of_job(job_id)) as (connection, _):  # noqa: B023
            runs = runs_of_job(connection, job_id)
            yield [(run, programs_of(connection, job_id, run, libraries=True)) for run in runs]
            yield list(stories.why(connection, job_id, more_stories.registered()))


def test_answers_are_those_of_before(grouped: Site) -> None:
    store, before = grouped.store, [list(figures(grouped.store)), list(programs(grouped.store))]
    assert "user1" in str(before) and "lib1.so" in str(before) and "several sources" in str(before)
    on_the_way = [MAY] if store.dialect.name == "sqlite" else []
    for limit in (*on_the_way, JULY):
        taking.archive(store, grouped.config, JULY, before=limit, trust_clock=True)
        assert [list(figures(store)), list(programs(store))] == before, limit
    for month in (APRIL,):
        recall_month(store, grouped.config, month, JULY)
        assert [list(figures(store)), list(programs(store))] == before, month


def test_what_was_purged_counts_nothing_and_is_told(site: Site) -> None:
    def whole(connection: Connection, asked: Asked) -> int:
        runs = runs_of_processes(connection, asked.logged)
        return sum(row.sums.executions for row in ordered(top(connection, asked, "host", runs, Applications(())), "cpu"))

    store = site.store
    before, asked, told = answered(store, "2025-03", None, whole)
    (later, _, _) = answered(store, "2025-04", None, whole)
    assert told == [] and later < before
    taking.archive(store, site.config, JULY, trust_clock=True)
    site.configure(archive={"path": site.config.archive.path}, retention={"keep": 0, "archive_for": 70 * DAY})
    purging.purge(store, site.config, JULY, trust_clock=True)
    found, same, told = answered(store, "2025-03", None, whole)
    assert (found, same) == (later, asked)
    of_what = [line.partition(" records of ")[0].rpartition(" ")[2] for line in told if line.startswith("2025-03 was purged")]
    assert of_what == ["process", "job"] and len(told) == 2
