"""`python -m benchmarks.portal`: how long pages of the portal take, at growing numbers of jobs on one database.

Prints a Markdown table: a row a page, a column a number of jobs: p50 and p95 in milliseconds, and in brackets how many times as
long as a page behind the same login that asks the database for `SELECT 1`. Each is asked by an administrator in this process,
without the network: `anew`, with nothing kept of what was asked before; `kept`, as the next one gets it who asks the same within
`[portal] fresh` seconds.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from unittest import mock

from flask.testing import FlaskClient
from sqlalchemy import text

from batchacct.clock import NOW_VARIABLE
from batchacct.config import load_config
from batchacct.store.read_only import read_only_store
from benchmarks.growth import tell
from benchmarks.servers import NAMES
from benchmarks.sites import Wanted, add_options
from cpuhours.portal.accounts import Account, write_accounts
from cpuhours.portal.app import create_app
from cpuhours.portal.desk import Desk
from cpuhours.portal.site import Site
from cpuhours.portal.viewers import Role
from cpuhours.query import ends

BARE = "SELECT 1"
TIMES_ANEW, TIMES_KEPT, FEWEST = 10, 50, 3
LONGEST_S = 60.0
"""A page that takes long is asked less often."""
PAGES: Mapping[str, str] = {
    "overview": "/",
    "30 days by VO": "/explore?by=vo",
    "its picture": "/explore.svg?by=vo&shown=1",
    "last month by VO and day": "/explore?by=vo&bins=day&period=last+month",
    "last month by user": "/explore?by=user&period=last+month",
    "a year by month, as CSV": "/explore.csv?by=month&period=-365d",
    "jobs": "/jobs",
    "jobs of a VO": "/jobs?vo=atlas",
    "a job": "/job/{job}",
    "health": "/health",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A page at a number of jobs, with what was kept of it or not; milliseconds of each time it was asked, and of the bare page."""

    page: str
    is_kept: bool
    jobs: int
    took_ms: Sequence[float]
    bare_ms: float

    @property
    def cell(self) -> str:
        p50, p95 = median(self.took_ms), quantiles(self.took_ms, n=20, method="inclusive")[-1]
        return f"{p50:,.0f} / {p95:,.0f} ({p50 / self.bare_ms:,.0f})"


def measure(config_path: Path, jobs: int) -> list[Measured]:
    """The pages of a site."""
    accounts = config_path.parent / "accounts"
    write_accounts(accounts, {"admin": Account(Role.ADMINISTRATOR)})
    config = load_config(config_path)
    portal = config.portal.model_copy(update={"accounts_file": accounts, "deadline": 600, "fresh": 3600})
    store = read_only_store(config.database.resolved(), portal.deadline)
    try:
        site = Site.of(store, config.model_copy(update={"portal": portal}))
        return list(_measured(site, jobs))
    finally:
        store.close()


def _measured(site: Site, jobs: int) -> Iterator[Measured]:
    app = create_app(site)

    @app.get("/bare")
    def bare() -> str:
        with site.desk.store.reading() as connection:
            return str(connection.scalar(text(BARE)))

    client = app.test_client()
    account = site.accounts.named("admin")
    assert account is not None
    client.set_cookie("portal-session", site.sessions.begin("admin", account.proof))
    span = ends(site.desk.store)
    assert span is not None
    with mock.patch.dict(os.environ, {NOW_VARIABLE: str(span[1])}):
        newest = re.findall(r'href="/job/(\d+)"', client.get("/jobs").text)[0]
        bare_ms = median(_taken(site, client, "/bare", TIMES_KEPT, is_kept=True))
        yield Measured(BARE, is_kept=True, jobs=jobs, took_ms=[bare_ms] * 2, bare_ms=bare_ms)
        for name, address in PAGES.items():
            for is_kept, times in ((False, TIMES_ANEW), (True, TIMES_KEPT)):
                took_ms = list(_taken(site, client, address.format(job=newest), times, is_kept=is_kept))
                yield Measured(name, is_kept, jobs, took_ms, bare_ms)
            tell(name)


def _taken(site: Site, client: FlaskClient, address: str, times: int, *, is_kept: bool) -> Iterator[float]:
    """Milliseconds of each time a page was asked, after one that does not count."""
    began = time.perf_counter()
    for number in range(times + 1):
        if not is_kept:
            site.desk = Desk(site.desk.store, site.desk.config)
        at = time.perf_counter()
        answer = client.get(address)
        took_ms = (time.perf_counter() - at) * 1000
        assert answer.status_code == 200, (address, answer.status_code)
        if number:
            yield took_ms
        if number >= FEWEST and time.perf_counter() - began > LONGEST_S:
            return


def table(database: str, measured: Sequence[Measured]) -> str:
    """Markdown: of each page p50 / p95 in milliseconds, and in brackets how many times the bare page p50 is."""
    sizes = sorted({one.jobs for one in measured})
    found = {(one.page, one.is_kept, one.jobs): one.cell for one in measured}
    rows = [[NAMES[database], "", *(f"{jobs:,} jobs, ms" for jobs in sizes)], ["---", "---", *("---:" for _ in sizes)]]
    for page, is_kept in dict.fromkeys((one.page, one.is_kept) for one in measured):
        rows.append([page, "kept" if is_kept else "anew", *(found.get((page, is_kept, jobs), "") for jobs in sizes)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.portal", description="How long pages of the portal take.")
    add_options(parser)
    options = parser.parse_args()
    measured: list[Measured] = []
    for of in Wanted.of(options).each():
        measured += measure(of.place, of.jobs)
    print(table(options.database, measured))


if __name__ == "__main__":
    main()
