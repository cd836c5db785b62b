"""Backup and restore as docs/how-to/backup.md has them: a backup of a site at work, what happens after it, and the way back.

The receiver replaces by key, as APEL does; a client that pulls does, too. Both have in the end what a site without a mishap has.
"""

from __future__ import annotations

import abc
import datetime as dt
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, NullPool, create_engine, func, make_url, select, text

from batchacct.config import load_config
from batchacct.store import Store
from batchacct.store.tables import job
from pub.formats.plain import JSON_LINES
from pub.pull.cursor import Cursor
from pub.pull.pages import Question, read_page
from tests.apel_reader import read_message
from tests.cli.site import ENDED, NOW, Site, blah, lsf
from tests.pristine import with_schema
from tests.servers import MariaServer

HOUR = 3600
DATABASE = "batchacct_backup"
WAIT_S = 180
FIRST, UNSENT, MEANWHILE, AFTER, NEW = range(1, 21), range(21, 31), range(31, 61), range(61, 71), range(71, 76)
CES = '"ce01.example.org:8443/*" = "lsf1"'


class Kept(abc.ABC):
    """A database, and how it is backed up and restored."""

    def __init__(self, url: URL, backup: Path) -> None:
        self.url, self.backup = url, backup

    @abc.abstractmethod
    def save(self) -> None: ...

    @abc.abstractmethod
    def restore(self) -> None: ...


class KeptSqlite(Kept):
    def save(self) -> None:
        connection = sqlite3.connect(str(self.url.database))
        connection.execute(f"VACUUM INTO '{self.backup}'")
        connection.close()

    def restore(self) -> None:
        path = Path(str(self.url.database))
        for name in (f"{path}-wal", f"{path}-shm"):
            Path(name).unlink(missing_ok=True)
        shutil.copyfile(self.backup, path)


class KeptPostgresql(Kept):
    def save(self) -> None:
        run("pg_dump", "--format=custom", f"--file={self.backup}", f"--dbname={self._place(DATABASE)}")

    def restore(self) -> None:
        place = self.url.set(database="template1")
        with create_engine(place, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as server:
            server.execute(text(f"DROP DATABASE {DATABASE}"))
            server.execute(text(f"CREATE DATABASE {DATABASE}"))
        run("pg_restore", "--exit-on-error", f"--dbname={self._place(DATABASE)}", self.backup)

    def _place(self, database: str) -> str:
        return self.url.set(drivername="postgresql", database=database).render_as_string(hide_password=False)


class KeptMariadb(Kept):
    def __init__(self, url: URL, backup: Path, server: MariaServer) -> None:
        super().__init__(url, backup)
        self._server = server

    def save(self) -> None:
        client = ("--no-defaults", f"--socket={self._server.socket}", "--user=root")
        run("mariadb-dump", *client, "--single-transaction", "--hex-blob", f"--result-file={self.backup}", DATABASE)

    def restore(self) -> None:
        self._server.empty(DATABASE)
        self._server.execute(self.backup.read_text(encoding="utf-8"), DATABASE)


def run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    backup = tmp_path / "backup"
    if request.param == "sqlite":
        return KeptSqlite(make_url(f"sqlite:///{tmp_path}/batchacct.db"), backup)
    url = make_url(request.getfixturevalue(f"{request.param}_url")).set(database=DATABASE)
    if request.param == "postgresql":
        return KeptPostgresql(url, backup)
    return KeptMariadb(url, backup, request.getfixturevalue("mariadb"))


@pytest.fixture
def site(kept: Kept, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    (tmp_path / "logs").mkdir()
    url = kept.url.render_as_string(hide_password=False)
    with_schema(url).close()
    made.configure(ce=CES, database=f'url = "{url}"')
    made.write([lsf(n) for n in FIRST], [blah(n) for n in FIRST])
    yield made


def append(site: Site, *lines: bytes) -> None:
    with site.lsf_log.open("ab") as stream:
        stream.writelines(lines)


def backed_up_at_work(site: Site, kept: Kept) -> None:
    """A backup while a collector stores what a batch system writes."""
    command = [sys.executable, "-c", "from batchacct.cli import main; main()", "collect"]
    env = {**os.environ, "BATCHACCT_CONFIG": str(site.config), "BATCHACCT_NOW": str(NOW)}
    is_saved = threading.Event()
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as collector:
        append(site, lsf(MEANWHILE[0]))
        until_stored(site, MEANWHILE[0])

        def save() -> None:
            kept.save()
            is_saved.set()

        saving = threading.Thread(target=save)
        saving.start()
        for number in MEANWHILE[1:]:
            append(site, lsf(number))
            is_saved.wait(0.02)
        saving.join()
        until_stored(site, MEANWHILE[-1])
        collector.send_signal(signal.SIGTERM)
    assert kept.backup.stat().st_size


def until_stored(site: Site, count: int) -> None:
    store = Store(load_config(site.config).database.resolved())
    end = time.monotonic() + WAIT_S
    stored = 0
    while stored < count:
        assert time.monotonic() < end, f"{stored} of {count} jobs"
        time.sleep(0.05)
        with store.reading() as connection:
            stored = connection.scalar(select(func.count()).select_from(job)) or 0
    store.close()


def files(site: Site) -> dict[str, bytes]:
    """The messages that were handed over, by name: nobody takes them away."""
    return {path.name: path.read_bytes() for path in (site.folder / "outgoing").rglob("*") if path.is_file()}


def receiver(site: Site) -> dict[tuple[object, object], object]:
    """What a receiver has that takes the messages in the order of their names, and replaces by key: CPU time by job and end."""
    table: dict[tuple[object, object], object] = {}
    for payload in site.messages():
        for record in read_message(payload.encode(), now=NOW + 10 * HOUR):
            table[record["LocalJobId"], record["EndTime"]] = record["CpuDuration"]
    return table


def pulled(site: Site, cursor: Cursor, table: dict[tuple[object, object], object], now: int) -> Cursor:
    """Where a client is that has pulled all there is, and put it into its table."""
    config = load_config(site.config)
    store = Store(config.database.resolved())
    page = read_page(store, config, Question(config.destinations[0], JSON_LINES), cursor, 10_000, now=now)
    store.close()
    for line in page.content(JSON_LINES).splitlines():
        record: dict[str, Any] = json.loads(line)
        ended_at = int(dt.datetime.fromisoformat(record["end_at"]).timestamp())
        table[record["local_job_id"], ended_at] = record["cpu_duration_s"]
    return page.cursor


def lost_outgoing(site: Site, *, lost: bool) -> None:
    """Whether messages cannot be handed over."""
    outgoing, away = site.folder / "outgoing", site.folder / "away"
    if lost:
        outgoing.rename(away)
        outgoing.touch()
    else:
        outgoing.unlink()
        away.rename(outgoing)


def test_nothing_is_lost_or_doubled_by_a_restore(site: Site, kept: Kept) -> None:
    client: dict[tuple[object, object], object] = {}
    site.good("collect", "--once")
    site.good("publish", "--once")
    cursor = pulled(site, Cursor(), client, NOW)
    append(site, *(lsf(n) for n in UNSENT))
    site.good("collect", "--once")
    lost_outgoing(site, lost=True)
    assert site.run("publish", "--once").status == 9, "a message is built, and stays"
    lost_outgoing(site, lost=False)

    backed_up_at_work(site, kept)

    # life goes on: the message leaves, others after it, a job is corrected, and then the database is lost
    for n in range(2):
        assert site.run("publish", "--once", now=NOW + n).status == 0
    corrected = lsf(FIRST[4]).replace(b" 590.0 10.0 ", b" 790.0 10.0 ")
    append(site, *(lsf(n, end=ENDED + n) for n in AFTER), corrected)
    assert site.run("collect", "--once", now=NOW + HOUR).status == 0
    assert site.run("publish", "--once", now=NOW + HOUR).status == 0
    cursor = pulled(site, cursor, client, NOW + HOUR)
    before, sent = receiver(site), files(site)
    jobs = site.status()["jobs"]
    kept.restore()

    told = site.status()
    assert told["balanced"]
    assert told["jobs"]["stored"] < jobs["stored"], "the backup is of before"
    assert told["destinations"][0]["messages_unsent"] == 1

    later = NOW + 2 * HOUR
    append(site, *(lsf(n) for n in NEW))
    assert site.run("collect", "--once", now=later).status == 0
    for n in range(3):
        assert site.run("publish", "--once", now=later + n).status == 0
    told = site.status()
    assert told["balanced"]
    assert told["jobs"]["stored"] == jobs["stored"] + len(NEW)
    assert told["jobs"]["superseded"] == jobs["superseded"] == 1
    assert (told["destinations"][0]["unsent"], told["destinations"][0]["not_in_message"]) == (0, 0)
    assert sent.items() < files(site).items(), "what was sent after the backup is sent again, under names that nothing else had"
    after = receiver(site)
    assert {key: value for key, value in after.items() if int(str(key[0])) not in NEW} == before
    assert before[str(FIRST[4]), ENDED] == 800
    assert len(after) == len([*FIRST, *UNSENT, *MEANWHILE, *AFTER, *NEW])
    assert site.run("audit", "--from", "2026-10-01", "--to", "2026-11-30", now=later).status == 0

    pulled(site, cursor, client, later)
    assert client == after, "a client that pulls is given what is new since the restore, whatever it had before"
