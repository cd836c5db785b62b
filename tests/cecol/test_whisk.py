"""whisk of 2012, run as a process."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from batchacct.demo.farm import write_logs
from batchacct.demo.lines import BlahIdentity, blah_line
from batchacct.store import Store
from batchacct.store.tables import identity, load, reject
from tests.demo.independent import read_logs
from tests.scripts_2012 import Site, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

END_AT = 1_335_614_400
WHISK = "cecol.whisk"
WHISK_LOGS = (WHISK, "-c", "conn", "-a", "logs")


@pytest.fixture
def site(tmp_path: Path, sqlite_store: Store, sqlite_url: str) -> Iterator[Site]:
    """A site with an empty SQLite database and a folder `logs`."""
    (tmp_path / "logs").mkdir()
    made = Site(tmp_path, sqlite_url, now=END_AT)
    yield made
    made.kill_what_runs()


def line(job_id: int) -> bytes:
    ce = "ce01.example.org:8443/cream-lsf-grid_atlas"
    return blah_line(BlahIdentity(1_335_000_000 + job_id, "/DC=ch/CN=A", ("/atlas",), ce, job_id, job_id, 30_001))


def job_ids(site: Site) -> list[str]:
    """In the order in which they were read."""
    store = Store(site.url)
    with store.reading() as connection:
        found = list(connection.scalars(select(identity.c.lrms_job_id).order_by(identity.c.id)))
    store.close()
    return found


def test_every_log_of_the_folder(site: Site) -> None:
    write_logs(site.folder / "logs", jobs=600, seed=5, end_at=END_AT)
    expected = read_logs(site.folder / "logs", {}, END_AT).counts
    outcome = site.ok(WHISK, "--acctdir", "logs", "--connfile", "conn")
    assert f"inserted {expected['identities']} records" in outcome.err
    assert "source whisk, cluster default" in outcome.err
    assert site.count(identity) == expected["identities"]
    assert site.count(reject) == expected["identity_rejected"]
    assert "inserted 0 records" in site.done(*WHISK_LOGS).err


def test_oldest_first_compressed_ones_too_and_nothing_else(site: Site) -> None:
    logs = site.folder / "logs"
    (logs / "blahp.log-20120502").write_bytes(line(3))
    (logs / "blahp.log-20120430.gz").write_bytes(gzip.compress(line(1)))
    (logs / "blahp.log-20120501").write_bytes(line(2))
    for number, name in enumerate(("blahp.log-20120501.lock", "blahp.log", "blahp.log-2012", "xblahp.log-20120501"), 4):
        (logs / name).write_bytes(line(number))
    site.done(*WHISK_LOGS)
    assert job_ids(site) == ["1", "2", "3"]


def test_name_is_that_of_the_source(site: Site) -> None:
    (site.folder / "logs" / "blahp.log-20120501").write_bytes(line(1))
    site.done(*WHISK_LOGS, "--name", "ce01")
    store = Store(site.url)
    with store.reading() as connection:
        assert connection.execute(select(identity.c.source, identity.c.cluster)).all() == [("ce01", "default")]
    store.close()
    assert site.call(*WHISK_LOGS, "-n", "a b").status == 3


def test_configured_source(site: Site) -> None:
    (site.folder / "logs" / "blahp.log-20120501").write_bytes(line(1))
    site.write(
        "batchacct.toml",
        f'''site = "A-SITE"
[database]
url = "sqlite:////nowhere.db"
[[source]]
name = "ce-blah"
parser = "blah"
paths = ["{site.folder}/logs/blahp.log-*"]
[ce]
"ce01.*" = "lsf1"
[[cluster]]
name = "lsf1"
''',
    )
    site.done(*WHISK_LOGS)
    store = Store(site.url)
    with store.reading() as connection:
        query = select(identity.c.source, identity.c.cluster, identity.c.site)
        assert connection.execute(query).all() == [("ce-blah", "lsf1", "A-SITE")]
    store.close()


@pytest.mark.parametrize("option", ["-d", "--mgrfile", "-m", "--manager", "-e", "--cefile", "-t", "--cetable"])
def test_central_mode_is_not_there(site: Site, option: str) -> None:
    outcome = site.call(WHISK, "-c", "conn", option, "x")
    assert outcome.status == 3
    assert "not in this release" in outcome.err


def test_what_is_missing(site: Site) -> None:
    assert site.call(WHISK, "-c", "conn").status == 3
    assert site.call(WHISK, "-a", "logs").status == 2
    assert site.call(*WHISK_LOGS).status == 10, "an empty folder"
    assert site.call(WHISK, "-c", "conn", "-a", "elsewhere").status == 10
    (site.folder / "conn").write_text("postgresql://batchacct:secret@127.0.0.1/batchacct\n")
    (site.folder / "conn").chmod(0o644)
    assert site.call(*WHISK_LOGS).status == 3, "a password for everybody to read"


def test_daemon_takes_the_file_of_a_new_day(site: Site) -> None:
    pid = site.start(*WHISK_LOGS, "-b", "60")
    assert "holds no blahp.log-YYYYMMDD yet" in site.text()
    (site.folder / "logs" / "blahp.log-20120501").write_bytes(line(1))
    until(lambda: site.count(identity) == 1)
    (site.folder / "logs" / "blahp.log-20120502").write_bytes(line(2))
    until(lambda: site.count(identity) == 2)
    site.stop(pid)
    assert site.text().endswith("INFO ended\n")
    assert site.count(load) == 2, "what has not changed is not read again"
