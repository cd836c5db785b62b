"""Months that a piece of work does not need are not looked through: as the database itself explains its statements."""

from __future__ import annotations

from unittest import mock

import pytest

from batchacct.ledger.audit import read_audit
from batchacct.store import partitions
from batchacct.store.months import Month
from batchacct.usage import keeping
from cpuhours.query import collection_gaps, usage_by
from cpuhours.series_2012 import series_2012
from tests.pub.site import DAY, HOUR, Site
from tests.store.explains import touched

FIRST = Month(2024, 1)
MONTHS = [FIRST + n for n in range(9)]
LATEST = MONTHS[7]
LOST = {"rest"}


def job_of(month: Month, number: int) -> dict[str, object]:
    end = month.start + 15 * DAY + number
    return {
        "lrms_job_id": f"{month}-{number}", "cluster": "c1", "lrms": "LSF", "queue": "grid_x", "user_name": "u", "processors": 1,
        "submit_at": end - 2 * HOUR, "start_at": end - HOUR, "end_at": end, "logged_at": end, "wall_duration_s": HOUR,
        "cpu_duration_s": HOUR, "state": "completed",
    }  # fmt: skip


def identity_of(month: Month, number: int) -> dict[str, object]:
    return {
        "lrms_job_id": f"{month}-{number}", "cluster": "c1", "lrms": "LSF", "time_kind": "submit", "dn": f"/CN={number}", "vo": "x",
        "recorded_at": month.start + 15 * DAY - 2 * HOUR,
    }  # fmt: skip


@pytest.fixture
def parted(site: Site) -> Site:
    """Nine months with a partition each, all of them joined and published but the last two."""
    if site.store.dialect.partitions is None:
        pytest.skip("SQLite has no partitions")
    for table in partitions.TABLES:
        partitions.add(site.store, table, MONTHS)
    for month in MONTHS[:-2]:
        site.jobs(*(job_of(month, n) for n in range(50)))
        site.identities(*(identity_of(month, n) for n in range(30)))
    site.publish(LATEST.end)
    site.assert_sound()
    return site


def names(*months: Month) -> set[str]:
    return set(map(str, months))


@mock.patch.object(keeping, "FEW", 0)
def test_a_run_of_the_publisher(parted: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs of a month, their identities (accepted 30 days before at most), and, for late identities, jobs since then."""
    with touched(parted.store, monkeypatch) as begun:
        parted.publish()
    assert begun["identity"] <= names(*MONTHS[:-2]), "the twenty of each month that wait for an identity"
    parted.jobs(*(job_of(LATEST, n) for n in range(30)))
    with touched(parted.store, monkeypatch) as by_jobs:
        parted.configure(join={"then": "local", "max_hold": "1d"})
        parted.publish(LATEST.end)
    parted.assert_sound()
    assert parted.outcomes()[-30:] == ["local"] * 30
    parted.jobs(*(job_of(LATEST, n) for n in range(30, 50)))
    parted.identities(*(identity_of(LATEST, n) for n in range(50)))
    with touched(parted.store, monkeypatch) as found:
        parted.publish(LATEST.end)
    assert parted.outcomes()[-50:] == ["joined"] * 50
    parted.assert_sound()
    assert found["job"] <= names(*MONTHS[-4:]) | LOST
    assert found["identity"] <= names(*MONTHS[-4:])
    assert by_jobs["part"] == found["part"] == set()


@mock.patch.object(keeping, "FEW", 0)
def test_a_step_of_jobs_alone(parted: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    parted.configure(join={"then": "local", "max_hold": "1d"})
    parted.publish(LATEST.end)
    parted.jobs(*(job_of(LATEST, n) for n in range(30)))
    with touched(parted.store, monkeypatch) as found:
        _, done = parted.publish(LATEST.end)
    assert done.records == 30
    assert found["job"] == names(LATEST)
    assert found["identity"] <= names(LATEST + -1, LATEST)


def test_a_report_of_a_month(parted: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    month = MONTHS[3]
    with touched(parted.store, monkeypatch) as found:
        frame = usage_by(parted.store, by="vo", begin=month.start, end=month.end)
    assert frame["jobs"].sum() == 50
    assert found["job"] == found["identity"] == names(month)
    with touched(parted.store, monkeypatch) as found:
        assert collection_gaps(parted.store, month.start, month.end).days
        values, _ = series_2012(parted.store, "count", begin=month.start, end=month.end, bin_s=DAY, factor=None, only=[])
    assert sum(values.values()) == 50
    assert found["job"] == names(month)


def test_an_audit_of_a_month(parted: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the books as a whole, which count all there is."""
    month = MONTHS[3]
    books = parted.books()
    monkeypatch.setattr("batchacct.ledger.audit.read_books", lambda _: books)
    with parted.store.reading() as connection, touched(parted.store, monkeypatch) as found:
        audit = read_audit(connection, [], month.start, month.end, LATEST.end)
    assert audit.in_force.jobs == 50
    assert audit.balanced, audit.problems
    assert found["job"] == found["identity"] == names(month)


def test_jobs_that_were_logged_long_after_they_ended(parted: Site) -> None:
    """Those of a month are where they were logged, and counted."""
    month = MONTHS[3]
    late = job_of(month, 99) | {"logged_at": LATEST.start + 5}
    parted.jobs(late, job_of(LATEST, 99))
    frame = usage_by(parted.store, by="cluster", begin=month.start, end=month.end)
    assert frame["jobs"].sum() == 51
