"""`batchacct db summarise` as an administrator runs it, and `publish`, which does the same."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, update

from batchacct.clock import NOW_VARIABLE
from batchacct.config import PATH_VARIABLE
from batchacct.errors import ConfigError, IncompleteError
from batchacct.store import Store
from batchacct.store.changed_days import note_changed
from batchacct.store.usage_tables import usage_changed, usage_day, usage_pack
from batchacct.usage import keeping
from tests.cli.site import NOW, Site, lsf
from tests.forks import Forks


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "logs").mkdir()
    made = Site(tmp_path)
    made.configure()
    made.write([lsf(1), lsf(2)], [])
    made.good("db", "create")
    made.good("collect", "--once")
    return made


def store_of(site: Site) -> Store:
    return Store(f"sqlite:///{site.folder}/batchacct.db")


def test_summarised_checked_and_rebuilt(site: Site) -> None:
    report = site.run("report").out
    assert site.run("db", "summarise").out == "1 days summed anew; 1 are kept as their rows are\n"
    assert site.run("db", "summarise").out == "0 days summed anew; 1 are kept as their rows are\n"
    assert site.run("db", "summarise", "--check").out == "1 days are as their rows are\n"
    assert site.run("report").out == report
    with store_of(site).writing() as connection:
        note_changed(connection, [0])
    told = "1 days are summed from their rows, as these changed or come to more than 64 bits: 1970-01-01\n"
    assert site.run("db", "summarise", "--check").out == told + "1 days are as their rows are\n"
    with store_of(site).writing() as connection:
        connection.execute(delete(usage_changed))
        connection.execute(update(usage_pack).where(usage_pack.c.kind == "facts").values(kind="lost"))
    checked = site.run("db", "summarise", "--check")
    assert checked.status == IncompleteError.exit_code
    assert checked.out == "2026-10-29: facts\n"
    assert "of 1 days 1 are not as their rows are: please report it" in checked.err
    assert site.run("db", "summarise", "--rebuild").out.startswith("1 days summed anew")
    assert site.run("db", "summarise", "--check").status == 0
    assert site.run("db", "summarise", "--check", "--rebuild").status == ConfigError.exit_code


def test_publish_keeps_sums(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "FEW", 0)
    site.good("publish", "--once")
    with store_of(site).reading() as connection:
        assert connection.scalar(select(func.sum(usage_day.c.jobs))) == 2


@pytest.mark.parametrize("point", ["usage.summed", "usage.before-commit"])
def test_killed_while_a_day_is_summed(site: Site, forks: Forks, point: str) -> None:
    """What was kept stays, and the day one that changed, whose rows are asked until it is summed."""
    site.good("db", "summarise")
    site.write([lsf(1), lsf(2), lsf(3)], [])
    site.good("collect", "--once")
    report = site.good("report")
    environment = {PATH_VARIABLE: str(site.config), NOW_VARIABLE: str(NOW), "BATCHACCT_CRASH_AT": point}
    killed = forks.start("batchacct", "db", "summarise", log=site.folder / "log", environment=environment)
    assert killed.wait() == -signal.SIGKILL
    with store_of(site).reading() as connection:
        assert connection.scalar(select(usage_day.c.jobs)) == 2
        assert connection.scalars(select(usage_changed.c.day)).one() == keeping.changed_days(connection)[0]
    assert site.good("report") == report
    assert site.good("db", "summarise") == "1 days summed anew; 1 are kept as their rows are\n"
    assert site.good("db", "summarise", "--check") == "1 days are as their rows are\n"
    assert site.good("report") == report
