"""An APEL client's database taken over: totals as its summaries say, and what it has sent is not sent again."""

from __future__ import annotations

import datetime as dt
import random
import re
from collections.abc import Sequence

import pytest
from sqlalchemy import func, select

from batchacct.store import Store
from batchacct.store.tables import job
from tests.cli.site import Site
from tests.importing.old_apel import BEGIN, CE, DAY, FQAN, LATER, MACHINE, NOW, OldApel, Run, lines, some_runs
from tests.interop.farm import waiting_in


def imports(site: Site, old: OldApel, *more: str, status: int = 0) -> str:
    done = site.run("import", "apel", "--url", old.url, *more, now=NOW)
    assert done.status == status, done
    return done.out + done.err


def totals(site: Site) -> tuple[int, int, int]:
    store = Store(f"sqlite:///{site.folder}/batchacct.db")
    with store.reading() as connection:
        sums = func.count(), func.sum(job.c.wall_duration_s), func.sum(job.c.cpu_duration_s)
        row = connection.execute(select(*sums).where(job.c.superseded_by.is_(None))).one()
    store.close()
    return int(row[0]), int(row[1] or 0), int(row[2] or 0)


def truth(runs: Sequence[Run]) -> tuple[int, int, int]:
    return len(runs), sum(run.wall_s for run in runs), sum(run.cpu_s for run in runs)


def published(site: Site) -> list[str]:
    done = site.run("publish", "--once", now=NOW)
    assert done.status == 0, done
    return sorted(re.findall(r"LocalJobId: (\S+)", "".join(text.decode() for _, text in waiting_in(site.folder / "outgoing"))))


@pytest.mark.parametrize("seed", range(2))
def test_totals_are_equal_as_the_summaries_say(apel_site: Site, old: OldApel, seed: int) -> None:
    """Jobs that were sent, that were not, and events that were not joined; imported twice, and their logs read after that."""
    runs = some_runs(random.Random(seed), 120, BEGIN, 25 * DAY)
    old.add(runs[:70])
    old.join()
    old.sent(LATER)
    old.add(runs[70:])
    assert f"The totals are equal: {len(runs)} jobs" in imports(apel_site, old)
    assert totals(apel_site) == truth(runs)
    assert f"The totals are equal: {len(runs)} jobs" in imports(apel_site, old)
    apel_site.write(*lines(runs))
    apel_site.good("collect", "--once")
    assert totals(apel_site) == truth(runs)
    assert (apel_site.source("lsf")["recorded"], apel_site.source("lsf")["known"]) == (0, len(runs))
    assert (apel_site.source("ce")["recorded"], apel_site.status()["balanced"]) == (0, True)
    if old.is_real:
        summed = old.execute("SELECT SUM(NumberOfJobs), SUM(WallDuration), SUM(CpuDuration) FROM SuperSummaries")[0]
        assert tuple(map(int, summed)) == truth(runs[:70])


def test_what_the_client_has_sent_is_not_sent_again(apel_site: Site, old: OldApel) -> None:
    sent = [Run(str(n), BEGIN + n, BEGIN + n + 600, 600, 500, is_grid=n % 2 == 0) for n in range(1, 5)]
    waiting = [Run(str(n), BEGIN + 9 * DAY, BEGIN + 9 * DAY + n, n, 0, is_grid=n == 5) for n in (5, 6)]
    event = Run("7", BEGIN + DAY, BEGIN + DAY + 60, 60, 50, is_grid=False)
    old.add([*sent, *waiting])
    old.join()
    old.sent(LATER)
    old.joined_at(LATER + dt.timedelta(days=1), BEGIN + 9 * DAY - 1)
    old.add([event])
    imports(apel_site, old)
    assert published(apel_site) == ["5", "6", "7"]
    assert "published by the APEL client" in apel_site.good("why", "2")
    assert "NumberOfJobs: 4" in apel_site.run("sync", now=NOW).out
    assert published(apel_site) == ["5", "6", "7"]
    done = apel_site.run("republish", "--from", "2023-10-20", "--to", "2023-10-20", "--yes", now=NOW)
    assert done.status == 0, done
    assert published(apel_site) == ["1", "2", "3", "4", "5", "6", "7"]
    texts = "".join(text.decode() for _, text in waiting_in(apel_site.folder / "outgoing"))
    assert f"SubmitHost: {CE}" in texts and f"FQAN: {FQAN}" in texts and "VO: local-" in texts


def test_what_was_sent_has_to_be_known(apel_site: Site, old: OldApel) -> None:
    old.add([Run("1", BEGIN, BEGIN + 60, 60, 50)])
    old.join()
    assert "--published all" in imports(apel_site, old, status=3)
    imports(apel_site, old, "--published", "all")
    assert published(apel_site) == []


def test_every_batch_system_has_to_be_configured(site: Site, old: OldApel) -> None:
    old.add([Run("1", BEGIN, BEGIN + 60, 60, 50)])
    assert f"has jobs of {MACHINE}: add a [[cluster]] with that machine_name" in imports(site, old, "--published", "all", status=3)


def test_logs_that_were_read_before_stay_what_they_are(apel_site: Site, old: OldApel) -> None:
    """Whose jobs were published from their logs is not made to publish them once more by the identities of the client."""
    runs = some_runs(random.Random(7), 60, BEGIN, 5 * DAY)
    apel_site.write(*lines(runs))
    apel_site.good("collect", "--once")
    before = published(apel_site)
    old.add([*runs, Run("4711", BEGIN, BEGIN + 60, 60, 50)])
    old.join()
    old.sent(LATER)
    told = imports(apel_site, old)
    assert f"The totals are equal: {len(runs) + 1} jobs" in told
    assert totals(apel_site) == truth([*runs, Run("4711", BEGIN, BEGIN + 60, 60, 50)])
    assert published(apel_site) == before
    assert apel_site.status()["balanced"]
