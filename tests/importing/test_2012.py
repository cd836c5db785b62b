"""A 2012 database taken over: totals are equal, whatever is in it; importing again, or reading its logs, doubles nothing."""

from __future__ import annotations

import datetime as dt
import json
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from http import HTTPStatus
from pathlib import Path

import pytest
from sqlalchemy import func, select

from batchacct.clock import unix_now
from batchacct.config import load_config
from batchacct.errors import IncompleteError
from batchacct.httpd import Request
from batchacct.store import Store
from batchacct.store.tables import identity, job, load
from pub.pull.endpoint import Endpoint
from tests.cli.site import Site
from tests.importing.old_2012 import ZONE, Job, Old, some_jobs
from tests.pristine import with_schema

SUMMER = int(dt.datetime(2012, 6, 28, tzinfo=dt.UTC).timestamp())
CLOCKS_GO_BACK = int(dt.datetime(2012, 10, 28, 1, tzinfo=dt.UTC).timestamp())
DAY = 86_400


def old(site: Site, jobs: Sequence[Job], identities: Sequence[Job] = ()) -> Old:
    return Old(site.folder / "old.db", jobs, identities=identities).write()


def imports(site: Site, of: Old, *more: str, status: int = 0) -> str:
    done = site.run("import", "2012", "--url", of.url, "--zone", ZONE, *more)
    assert done.status == status, done
    return done.out + done.err


def in_force(site: Site) -> tuple[int, int, int]:
    """Jobs, wallclock and CPU time in seconds."""
    store = Store(f"sqlite:///{site.folder}/batchacct.db")
    with store.reading() as connection:
        sums = func.count(), func.coalesce(func.sum(job.c.wall_duration_s), 0), func.coalesce(func.sum(job.c.cpu_duration_s), 0)
        row = connection.execute(select(*sums).where(job.c.superseded_by.is_(None))).one()
    store.close()
    return int(row[0]), int(row[1]), int(row[2])


def truth(jobs: Sequence[Job]) -> tuple[int, int, int]:
    """The same by what the jobs are."""
    wall = sum(one.end - one.start for one in jobs if one.start)
    used = [Decimal(repr(one.user_cpu)) + Decimal(repr(one.system_cpu)) for one in jobs if min(one.user_cpu, one.system_cpu) >= 0]
    return len(jobs), wall, sum(int(cpu.to_integral_value(ROUND_HALF_EVEN)) for cpu in used)


def pulled(site: Site, after: str = "") -> tuple[list[str], Mapping[str, str]]:
    """The jobs of a page that a client is given, and the headers of the answer."""
    store = Store(f"sqlite:///{site.folder}/batchacct.db")
    query = f"after={after}" if after else ""
    request = Request("GET", "/v1/records", query, {"Host": "127.0.0.1:9106"}, "127.0.0.1")
    answer = Endpoint(store, load_config(site.config), None, unix_now).answer(request)
    store.close()
    assert answer.status == HTTPStatus.OK, answer.body
    return [json.loads(line)["local_job_id"] for line in answer.body.splitlines()], answer.headers


def read_logs(site: Site, of: Old) -> dict[str, tuple[int, int]]:
    """Collects the logs the database was made of; by source what was recorded, and what was known."""
    site.write(of.lsf_log, [one.blah() for one in of.identities])
    site.good("collect", "--once")
    return {name: (site.source(name)["recorded"], site.source(name)["known"]) for name in ("lsf", "ce")}


@pytest.mark.parametrize("seed", range(2))
def test_totals_are_equal_and_nothing_is_doubled(site: Site, seed: int) -> None:
    """Whatever is in the database: array elements, ids that come again, unknown CPU, jobs that never started, cut texts."""
    jobs = some_jobs(random.Random(seed), 300, SUMMER, 5 * DAY)
    grid = list({(one.submit, one.number): one for one in jobs if one.queue == "grid_atlas"}.values())
    of = old(site, jobs, grid)
    assert f"The totals are equal: {len(jobs):,} jobs" in imports(site, of)
    assert in_force(site) == truth(jobs)
    again = imports(site, of)
    assert f"The totals are equal: {len(jobs):,} jobs" in again
    assert re.search(r"batchacct-2012-ce +\│ +\d+ \│ +0 ", again), again
    assert read_logs(site, of) == {"lsf": (0, len(jobs)), "ce": (0, len(grid))}
    assert in_force(site) == truth(jobs)
    assert site.status()["balanced"]


def test_what_was_read_from_logs_before_is_known(site: Site) -> None:
    jobs = some_jobs(random.Random(11), 200, SUMMER, 2 * DAY)
    grid = list({(one.submit, one.number): one for one in jobs if one.queue == "grid_atlas"}.values())
    of = old(site, jobs, grid)
    half = Old(of.path, [one for one in jobs if one.end < SUMMER + DAY], identities=grid[::2])
    assert read_logs(site, half) == {"lsf": (len(half.jobs), 0), "ce": (len(grid[::2]), 0)}
    assert f"The totals are equal: {len(jobs):,} jobs" in imports(site, of)
    assert in_force(site) == truth(jobs)
    assert (site.source("batchacct-2012-ce")["known"]) == len(grid[::2])


def test_what_a_row_says_is_what_its_line_says(site: Site, tmp_path: Path) -> None:
    """But for what the table has not kept."""
    jobs = [one for one in some_jobs(random.Random(5), 120, SUMMER, DAY) if one.command != "x" * 300 and len(one.hosts) < 10]
    of = old(site, jobs, [one for one in jobs if one.queue == "grid_atlas"][:1])
    imports(site, of)
    other = Site(tmp_path / "other")
    (other.folder / "logs").mkdir(parents=True)
    other.config.write_text(site.config.read_text().replace(f"{site.folder}/", f"{other.folder}/"))
    with_schema(f"sqlite:///{other.folder}/batchacct.db").close()
    read_logs(other, of)
    apart = {
        "id",
        "native",
        "source",
        "source_offset",
        "parser",
        "content_hash",
        "dn",
        "global_job_id",
        "local_user",
        "host_factor",
    }
    for table in (job, identity):
        rows = []
        for one in (site, other):
            store = Store(f"sqlite:///{one.folder}/batchacct.db")
            columns = [c for c in table.columns if c.name not in apart]
            with store.reading() as connection:
                rows.append(connection.execute(select(*columns).order_by(table.c.record_key)).all())
            store.close()
        assert rows[0] == rows[1]


def test_the_hour_that_comes_twice(site: Site) -> None:
    """Clocks do not tell which of the two it was: the first is taken, and a log that knows better adds no job."""
    at = CLOCKS_GO_BACK
    jobs = [
        Job(1, end=at + 300, start=at - 7200, submit=at - 9000),  # ended in the second 02:05
        Job(2, end=at + 1800, start=at + 600, submit=at - 9000),  # started and ended in the second
        Job(3, end=at - 1800, start=at - 3000, submit=at - 9000),  # in the first
        Job(4, end=at + 1200, start=at - 1200, submit=at - 9000),  # from the first (02:40) to the second (02:20)
    ]
    of = old(site, jobs)
    assert "The totals are equal: 4 jobs" in imports(site, of)
    assert in_force(site)[1] == 3600 + 300 + 1200 + 1200 + 2400
    assert read_logs(site, of)["lsf"] == (0, 4)


def test_a_time_that_the_clocks_skipped_tells_of_a_wrong_zone(site: Site) -> None:
    skipped = int(dt.datetime(2012, 3, 25, 2, 30, tzinfo=dt.UTC).timestamp())
    of = Old(site.folder / "old.db", [Job(1, skipped, skipped - 60, skipped - 600)], zone="UTC").write()
    told = imports(site, of, status=23)
    assert "1 totals differ" in told
    assert "which the clocks of Europe/Zurich skipped" in site.run("rejects", "list").out


def test_what_is_no_time_is_a_reject_and_told(site: Site) -> None:
    of = old(site, [Job(n, SUMMER + n, SUMMER - 60, SUMMER - 90) for n in (1, 2)])
    with sqlite3.connect(of.path) as database:
        database.execute("UPDATE loc SET eventTime = 'junk' WHERE jobId = 2")
    database.close()
    for _ in range(2):
        told = imports(site, of, status=23)
        assert "jobs of month no time, group atlasgrp: there 1 (0 s wall, 0 s CPU); here 0" in told
    assert (in_force(site)[0], site.run("rejects", "list").out.count("eventTime is no time")) == (1, 1)
    replayed = site.run("rejects", "replay")
    assert replayed.status == IncompleteError.exit_code
    assert "imported as batchacct-2012: correct it there" in replayed.err
    assert "say `batchacct import` again" in replayed.err


def test_published_jobs_are_not_published_again_unless_asked_for(site: Site) -> None:
    jobs = [Job(n, SUMMER + n, SUMMER, SUMMER - 60, queue="8nm", published=SUMMER + DAY if n <= 3 else 0) for n in range(1, 6)]
    imports(site, old(site, jobs))
    out = site.good("publish", "--once")
    assert "published elsewhere" in out
    assert [re.findall(r"LocalJobId: (\d+)", text) for text in site.messages()] == [["4", "5"]]
    states = json.loads(site.good("audit", "--from", "2012-06-01", "--to", "2012-06-30", "--json"))["published"]["main"]
    assert (states["confirmed"], states["published elsewhere"]) == (2, 3)
    assert "published by the 2012 batchacct" in site.good("why", "2")
    assert "NumberOfJobs: 5" in site.good("sync")
    site.good("publish", "--once")
    site.good("republish", "--from", "2012-06-01", "--to", "2012-06-30", "--yes")
    sent = sorted(re.findall(r"LocalJobId: (\d+)", "".join(site.messages())))
    assert sent == ["1", "2", "3", "4", "4", "5", "5"]
    assert site.status()["balanced"]


def test_who_pulls_gets_what_is_pushed_and_none_that_was_published_elsewhere(site: Site) -> None:
    jobs = [Job(n, SUMMER + n, SUMMER, SUMMER - 60, queue="8nm", published=SUMMER + DAY if n <= 3 else 0) for n in range(1, 6)]
    imports(site, old(site, jobs))
    site.good("publish", "--once")
    ids, told = pulled(site)
    assert (ids, told["Batchacct-Records"], told["Batchacct-Published-Elsewhere"]) == (["4", "5"], "2", "3")
    site.good("republish", "--from", "2012-06-01", "--to", "2012-06-30", "--yes")
    ids, told = pulled(site, told["Batchacct-Next"])
    assert (sorted(ids), told["Batchacct-Published-Elsewhere"]) == (["1", "2", "3", "4", "5"], "0")


def test_identities_that_come_after_something_was_published_send_nothing_again(site: Site) -> None:
    """As of an import that was interrupted; what comes from elsewhere, a log, does send a job."""
    with_grid = site.config.read_text().replace('name = "lsf1"\n', 'name = "lsf1"\ngrid_queues = ["grid_*"]\n')
    site.config.write_text(with_grid)
    jobs = [Job(n, SUMMER + n, SUMMER, SUMMER - 60, published=SUMMER + DAY if n <= 3 else 0) for n in range(1, 6)]
    of = old(site, jobs, jobs[:2])
    imports(site, of, "--identities", "-")
    late = {"now": SUMMER + 1_000 * DAY}
    assert site.run("publish", "--once", **late).status == 0
    imports(site, of)
    assert site.run("publish", "--once", **late).status == 0
    assert sorted(re.findall(r"LocalJobId: (\d+)", "".join(site.messages()))) == ["4", "5"]
    site.write([], [jobs[2].blah()])
    site.good("collect", "--once")
    assert site.run("publish", "--once", **late).status == 0
    assert sorted(re.findall(r"LocalJobId: (\d+)", "".join(site.messages()))) == ["3", "4", "5"]
    done = site.run("republish", "--from", "2012-06-01", "--to", "2012-06-30", "--yes", **late)
    assert done.status == 0, done
    assert sorted(re.findall(r"LocalJobId: (\d+)", "".join(site.messages()))) == ["1", "2", "3", "3", "4", "4", "5", "5"]


def test_identities_are_there_before_their_jobs_and_nothing_is_published_meanwhile(site: Site) -> None:
    jobs = [Job(n, SUMMER + n, SUMMER, SUMMER - 60) for n in (1, 2)]
    of = old(site, jobs, jobs)
    store = Store(f"sqlite:///{site.folder}/batchacct.db")
    with store.lock("publish"):
        assert "another process is doing `publish` on this database" in " ".join(imports(site, of, status=12).split())
    imports(site, of)
    with store.reading() as connection:
        sources = list(connection.scalars(select(load.c.source).order_by(load.c.id)))
    store.close()
    assert sources == ["batchacct-2012-ce", "batchacct-2012"]


@pytest.mark.parametrize(("published", "out"), [("all", []), ("none", ["1", "2"])])
def test_what_was_published_may_be_told(site: Site, published: str, out: list[str]) -> None:
    jobs = [Job(n, SUMMER + n, SUMMER, SUMMER - 60, queue="8nm", published=SUMMER * (n - 1)) for n in (1, 2)]
    imports(site, old(site, jobs), "--published", published)
    site.good("publish", "--once")
    assert re.findall(r"LocalJobId: (\d+)", "".join(site.messages())) == out


def test_a_dry_run_stores_nothing(site: Site) -> None:
    of = old(site, [Job(1, SUMMER, SUMMER - 60, SUMMER - 90), Job(0, SUMMER, SUMMER - 60, SUMMER - 90)])
    assert "1 rows would be rejected: jobId is impossible" in imports(site, of, "--dry-run")
    assert in_force(site) == (0, 0, 0)


def test_each_record_leads_to_its_row(site: Site) -> None:
    imports(site, old(site, [Job(4242, SUMMER, SUMMER - 60, SUMMER - 90, queue="8nm")]))
    assert re.search(r"old\.db loc: rows from 2012-06-28 02:00:00 on, byte 0", site.good("why", "4242"))
    store = Store(f"sqlite:///{site.folder}/batchacct.db")
    with store.reading() as connection:
        native = json.loads(bytes(connection.scalar(select(job.c.native)) or b""))
    store.close()
    assert (native["loc"]["jobId"], native["loc"]["idx"], native["loc"]["eventTime"]) == (4242, 0, "2012-06-28 02:00:00")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DROP TABLE loc", "has no table loc; it has ce"),
        ("ALTER TABLE loc DROP COLUMN startTime", "the table loc has no column startTime"),
        ("ALTER TABLE loc RENAME COLUMN eventTime TO event_time", "of the layout before 2012's"),
    ],
)
def test_what_is_no_such_database_is_refused(site: Site, change: str, told: str) -> None:
    of = old(site, [Job(1, SUMMER, SUMMER - 60, SUMMER - 90)])
    with sqlite3.connect(of.path) as database:
        database.execute(change)
    database.close()
    assert told in imports(site, of, status=3)


def test_a_password_does_not_belong_on_the_command_line(site: Site) -> None:
    done = site.run("import", "2012", "--zone", ZONE, "--url", "postgresql://a:secret@db/acct")
    assert (done.status, "secret" in done.err) == (3, False)
    assert site.run("import", "2012", "--zone", ZONE).status == 3


def test_a_cluster_has_to_be_known(site: Site) -> None:
    """Jobs of another name would never meet their logs, and count twice."""
    of = old(site, [Job(1, SUMMER, SUMMER - 60, SUMMER - 90)])
    told = imports(site, of, "--cluster", "LSF1", status=3)
    assert "--cluster LSF1 is not configured: say one of lsf1, or add a [[cluster]] of that name first" in " ".join(told.split())
    assert in_force(site) == (0, 0, 0)
    imports(site, of, "--cluster", "lsf1")


def test_killed_at_any_point_it_goes_on(site: Site) -> None:
    jobs = some_jobs(random.Random(3), 200, SUMMER, 5 * DAY)
    of = old(site, jobs, [one for one in jobs if one.queue == "grid_atlas"][:40])
    points = ["append.after-position:1", "append.before-commit:2", "append.after-commit:2", "append.before-commit:5"]
    task = {"config": str(site.config), "url": of.url, "zone": ZONE, "points": points}
    done = subprocess.run(
        [sys.executable, "-m", "tests.importing.killing", json.dumps(task)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["killed"] == len(points)
    assert f"The totals are equal: {len(jobs):,} jobs" in done.stdout
    assert in_force(site) == truth(jobs)
    assert site.status()["balanced"]
