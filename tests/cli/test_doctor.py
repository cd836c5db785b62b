"""`doctor`: what is sound is ok; each thing that is broken is found, with what to do; nothing is changed, and nothing hangs."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pwd
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchacct.config import Config, Database
from batchacct.doctor import CHECKS, Examined, Finding, Level, NotKnownError, examine, kernel, ok, setup, units
from batchacct.doctor.certificates import certificate_findings
from batchacct.doctor.database import archive as archive_check
from batchacct.doctor.database import database, month_partitions
from batchacct.errors import StoreError
from batchacct.parsing import registry
from batchacct.store import Store, partitions
from tests.archive.farms import archive
from tests.archive.test_purge import JULY, site_of
from tests.cli.site import DAY, ENDED, NOW, Site, blah, lsf
from tests.pristine import with_schema
from tests.pub.site import BASE
from tests.services.certificates import Authority

ROOT = Path(__file__).parents[2]
HOUR = 3600
AS_WE_ARE = ("doctor", "--user", pwd.getpwuid(os.geteuid()).pw_name)
"""Root would become the user `batchacct` where there is one, and this process with it."""
CES = '"ce01.example.org:8443/*" = "lsf1"'
USUAL = {"account", "clock", "VOs"}
"""Warnings of any host that tests run on (root, a container), and of the site of these tests."""


def findings(site: Site, now: int = NOW) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(site.run(*AS_WE_ARE, "--json", now=now).out)["findings"]
    return told


def bad(site: Site, now: int = NOW) -> dict[str, tuple[str, str]]:
    """Subject to level and text of what is a warning or an error, but for the usual."""
    wrong = {f["subject"]: (f["level"], f["found"]) for f in findings(site, now) if f["level"] in {"warning", "error"}}
    return {subject: told for subject, told in wrong.items() if subject not in USUAL}


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that is read, joined and published."""
    made = Site(tmp_path_factory.mktemp("sound"))
    (made.folder / "logs").mkdir()
    made.configure(ce=CES)
    made.write([lsf(1), lsf(2)], [blah(1)])
    with_schema(f"sqlite:///{made.folder}/batchacct.db").close()
    made.good("collect", "--once")
    made.good("publish", "--once")
    return made


def open_files(folder: Path) -> set[Path]:
    """Those of a folder that this process has open."""
    named = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one of the listing
            named.add(descriptor.readlink())
    return {path for path in named if folder in path.parents}


@pytest.fixture
def sound(lasting: Site) -> Iterator[Site]:
    """The same, put back afterwards as it was."""
    before = {path: (path.read_bytes(), path.stat()) for path in lasting.folder.rglob("*") if path.is_file()}
    yield lasting
    assert not open_files(lasting.folder), "it would be overwritten under who has it open"
    for path in lasting.folder.rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()
    for path, (content, state) in before.items():
        path.write_bytes(content)
        path.chmod(state.st_mode)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files but those that SQLite makes for whoever opens a database."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal")))
    return {str(path): path.read_bytes() for path in files}


def test_a_sound_site(sound: Site) -> None:
    before = contents(sound.folder)
    done = sound.run(*AS_WE_ARE)
    assert (done.status, done.err) == (0, ""), done.out
    assert "0 errors" in done.out.splitlines()[-1]
    told = findings(sound)
    assert {one["check"] for one in told} == set(registry.names(CHECKS)), "each check says something"
    assert bad(sound) == {}
    assert all((one["todo"] is not None) == (one["level"] in {"warning", "error"}) for one in told)
    assert all("\n" not in f"{one['found']}{one['todo']}" for one in told)
    assert contents(sound.folder) == before, "nothing is changed"


def test_a_person_is_told_what_to_do(sound: Site) -> None:
    sound.lsf_log.unlink()
    done = sound.run(*AS_WE_ARE)
    assert done.status == 13
    assert done.err == "batchacct: 1 thing is wrong, see above\n"
    lines = done.out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("ERROR   configuration: source lsf: no file matches"))
    assert lines[at + 1].startswith("        to do: mend it, until `batchacct config check`")


def _execute(site: Site, statement: str) -> None:
    with sqlite3.connect(site.folder / "batchacct.db") as connection:
        connection.execute(statement)
    connection.close()


def _outgoing_is_a_file(site: Site) -> None:
    place = site.folder / "file"
    place.touch()
    site.configure(ce=CES, outgoing=place / "outgoing")


def _grow(site: Site, *lines: bytes) -> None:
    with site.lsf_log.open("ab") as stream:
        stream.write(b"".join(lines))


def _collect_more(site: Site, *lines: bytes) -> None:
    _grow(site, *lines)
    site.run("collect", "--once")


BROKEN: dict[str, tuple[Callable[[Site], object], int, str, str, str]] = {
    "a configuration that all may change": (
        lambda site: site.config.chmod(0o666), NOW, "configuration", "error", "may be changed by everybody",
    ),
    "a folder that cannot be made": (
        _outgoing_is_a_file, NOW, "folder {folder}/file/outgoing", "error", "messages to main: this user cannot write to it",
    ),
    "an error of a source": (
        lambda site: _execute(site, "UPDATE source_state SET last_error = 'it is away' WHERE name = 'lsf'"),
        NOW, "source lsf", "error", "it is away",
    ),
    "bytes that were lost": (
        lambda site: _execute(site, "UPDATE source_state SET lost_bytes = 1234 WHERE name = 'ce'"),
        NOW, "source ce", "warning", "1,234 bytes were destroyed",
    ),
    "something unread": (lambda site: _grow(site, lsf(3)), NOW + HOUR, "source lsf", "warning", "unread for 1 h"),
    "a collector that is gone": (lambda site: None, NOW + 5 * HOUR, "collector", "warning", "was read to its end for 5 h"),
    "a line that cannot be read": (
        lambda site: _collect_more(site, b'"JOB_FINISH" "10.1" nonsense\n'), NOW + HOUR,
        "rejects", "warning", "1 lines could not be read, 1 of them in the last 24 h; the last came 2026-11-01 12:00:00Z",
    ),
    "a line that could not be read long ago": (
        lambda site: _collect_more(site, b'"JOB_FINISH" "10.1" nonsense\n'), NOW + 2 * DAY,
        "rejects", "warning", "1 lines could not be read, 0 of them in the last 24 h",
    ),
    "a correction of a run that was imported": (
        lambda site: _execute(site, "INSERT INTO twin VALUES ('job', 'log', 'a', 1, 7), ('job', 'log', 'a', 2, 7)"),
        NOW, "corrections", "warning", "1 records were corrected after their run was known",
    ),
    "a publisher that never runs": (
        lambda site: _collect_more(site, lsf(3)), NOW + 2 * DAY, "joining", "warning", "1 jobs were never joined, the oldest",
    ),
    "a schedule that was missed": (
        lambda site: _execute(site, f"INSERT INTO setting VALUES ('publish.began', '{NOW}', {NOW})"),
        NOW + 5 * HOUR, "schedule", "warning", "the last run began 2026-11-01 12:00:00Z, the next is due 2026-11-01 12:",
    ),
    "messages that stay": (
        lambda site: _execute(site, "UPDATE message SET confirmed_at = NULL, receipt = NULL, last_error = 'the disk is full'"),
        NOW + 2 * DAY, "destination main", "warning",
        "1 messages wait to be handed over, the oldest for 2 d; the last error: the disk is full",
    ),
    "messages that stay for long": (
        lambda site: _execute(site, "UPDATE message SET confirmed_at = NULL, receipt = NULL"),
        NOW + 8 * DAY, "destination main", "error", "1 messages wait to be handed over, the oldest for 8 d",
    ),
    "a message that is refused": (
        lambda site: _execute(site, f"UPDATE message SET confirmed_at = NULL, refused_at = {NOW}, last_error = 'too large'"),
        NOW, "destination main", "error", "the receiver will not take 1 messages: too large",
    ),
    "jobs without a benchmark": (
        lambda site: _execute(site, "UPDATE usage SET outcome = 'excluded', reason = 'no benchmark' WHERE outcome = 'local'"),
        NOW, "benchmarks", "error", "1 jobs of the last 30 days are not published",
    ),
    "jobs that wait for too long": (
        lambda site: _execute(site, "UPDATE usage SET outcome = 'waiting' WHERE outcome = 'local'"),
        NOW + 20 * DAY, "joining", "warning", "jobs have waited for their identity since 2026-10-29",
    ),
    "books that do not balance": (
        lambda site: _execute(site, "UPDATE load SET units = units + 1 WHERE source = 'lsf'"),
        NOW, "books", "error", "they do not balance: source lsf: units read are not accounted for",
    ),
    "a batch system of another zone": (
        lambda site: None, ENDED - 2 * HOUR, "clock of source lsf", "error", "of 2026-10-29 12:00:00Z, 2 h from now",
    ),
    "steps of the join that are numbered by a wrong clock": (
        lambda site: _execute(site, f"UPDATE setting SET value = '{(NOW + 2 * DAY) * 1000}' WHERE name = 'step'"),
        NOW, "steps of the join", "warning", "the last is numbered as of 2026-11-03 12:00:00Z, 2 d from now",
    ),
    "a schema of an earlier release": (
        lambda site: _execute(site, "UPDATE alembic_version SET version_num = '0001'"),
        NOW, "database", "error", "has schema 0001, this program needs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found(sound: Site, what: str) -> None:
    break_it, now, subject, level, found = BROKEN[what]
    break_it(sound)
    done = sound.run(*AS_WE_ARE, "--json", now=now)
    told = {one["subject"]: one for one in json.loads(done.out)["findings"] if one["level"] in {"warning", "error"}}
    one = told[subject.format(folder=sound.folder)]
    assert one["level"] == level
    assert found in one["found"]
    assert done.status == (13 if any(each["level"] == "error" for each in told.values()) else 0)


def test_a_database_that_is_away_is_one_error(sound: Site) -> None:
    (sound.folder / "batchacct.db").unlink()
    told = findings(sound)
    assert {one["subject"] for one in told if one["level"] == "error"} == {"database"}
    assert next(one for one in told if one["check"] == "sources")["level"] == "not applicable"
    assert not (sound.folder / "batchacct.db").exists()


def test_a_configuration_that_cannot_be_read_is_the_only_finding(site: Site) -> None:
    site.config.write_text("site = 12\n")
    assert site.run(*AS_WE_ARE).status == 13
    (told,) = findings(site)
    assert (told["check"], told["level"]) == ("configuration", "error")


def test_each_check_is_on_its_page() -> None:
    page = (ROOT / "docs/how-to/doctor.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE) == registry.names(CHECKS)


# --- how checks are run -----------------------------------------------------------------------------------------------------


def nobody() -> Examined:
    return Examined(Config.model_validate({**BASE, "database": {"url": "sqlite:////nowhere"}}), NOW)


def test_a_check_that_hangs_is_left_behind() -> None:
    ends = threading.Event()

    def hangs(_: Examined, /) -> Iterable[Finding]:
        ends.wait()
        return []

    (told, other) = examine({"hangs": hangs, "quick": lambda _: [ok("quick", "done")]}, nobody(), 0.2)
    ends.set()
    assert (told.finding.level, told.finding.found) == (Level.ERROR, "no answer within 0.2 s")
    assert other.finding.level is Level.OK


def test_a_check_that_fails_is_told() -> None:
    def fails(_: Examined, /) -> Iterator[Finding]:
        yield ok("fails", "so far")
        raise KeyError("what")

    def unknown(_: Examined, /) -> Iterable[Finding]:
        raise NotKnownError("something else is wrong")

    def refused(_: Examined, /) -> Iterable[Finding]:
        raise StoreError("the server is gone")

    told = {one.check: one.finding for one in examine({"a": fails, "b": unknown, "c": refused}, nobody(), 10)}
    assert (told["a"].level, told["a"].found) == (Level.ERROR, "the check itself failed: KeyError: 'what'")
    assert (told["b"].level, told["b"].found) == (Level.NOT_APPLICABLE, "not checked: something else is wrong")
    assert (told["c"].level, told["c"].found) == (Level.ERROR, "the server is gone")


PLUGIN = """\
from batchacct.doctor import warning
def check(examined):
    yield warning("coffee", f"{examined.config.site} has none", "make some")
"""


@pytest.fixture
def with_plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with a check that works, one that is broken, and one of a room that is not there."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "site_check_for_tests.py").write_text(PLUGIN)
    folder = tmp_path / "site_checks-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: site_checks\nVersion: 1\n")
    checks = ("coffee = site_check_for_tests:check", "tea = no_such_module:check", "milk = no_such_room.checks:check")
    (folder / "entry_points.txt").write_text("\n".join(["[batchacct.checks]", *checks, ""]))
    importlib.invalidate_caches()
    registry.installed.cache_clear()
    yield
    importlib.invalidate_caches()
    registry.installed.cache_clear()


@pytest.mark.usefixtures("with_plug_ins")
def test_a_plug_in_adds_a_check_and_a_broken_one_is_told(sound: Site) -> None:
    told = {one["subject"]: (one["level"], one["found"]) for one in findings(sound)}
    assert told["coffee"] == ("warning", "TEST-SITE has none")
    assert told["tea"][0] == "error"
    assert "check 'tea' (no_such_module:check) is broken" in told["tea"][1]
    assert told["milk"] == ("not applicable", "no_such_room is not installed")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_root_looks_as_the_user_of_the_daemons(sound: Site) -> None:
    """The folder of a test is root's own, who would see nothing wrong with it."""
    command = [sys.executable, "-c", "from batchacct.cli import main; main()", "doctor", "--user", "nobody", "--config"]
    done = subprocess.run([*command, sound.config], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 13
    assert "Permission denied" in done.stdout


# --- single checks ----------------------------------------------------------------------------------------------------------


def levels(found: Iterable[Finding]) -> dict[str, Level]:
    return {one.subject: one.level for one in found}


def test_the_clock_and_the_partitions_of_a_server(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate({**BASE, "database": {"url": store.engine.url.render_as_string(hide_password=False)}})
    examined = Examined(config, NOW)
    is_server = store.dialect.partitions is not None
    assert levels(kernel.clock(examined))["clock of the database"] is (Level.OK if is_server else Level.NOT_APPLICABLE)
    assert levels(database(examined))["database"] is Level.OK
    if is_server:
        true_time = time.time
        monkeypatch.setattr("batchacct.doctor.kernel.time.time", lambda: true_time() - 60)
        assert levels(kernel.clock(examined))["clock of the database"] is Level.WARNING
        assert levels(month_partitions(examined))["partitions of table job"] is Level.WARNING
        list(partitions.keep(store, partitions.TABLES, 3, NOW))
        assert levels(month_partitions(examined)) == {"partitions": Level.OK}
    else:
        assert levels(month_partitions(examined)) == {"partitions": Level.NOT_APPLICABLE}
    examined.close()


def test_a_server_that_is_away() -> None:
    config = Config.model_validate({**BASE, "database": {"url": "postgresql://batchacct@127.0.0.1:1/batchacct"}})
    (told,) = database(Examined(config, NOW))
    assert told.level is Level.ERROR
    assert "Is the server running, and the address right?" in told.found


def test_the_files_of_the_archive_after_a_restore(sqlite_store: Store, tmp_path: Path) -> None:
    site = site_of(sqlite_store, tmp_path, keep="30d")
    path = Path(str(sqlite_store.engine.url.database))
    examined = Examined(site.config.model_copy(update={"database": Database(url=f"sqlite:///{path}")}), JULY)

    def found() -> dict[str, Finding]:
        return {one.subject: one for one in archive_check(examined)}

    assert found()["archive"].level is Level.NOT_APPLICABLE
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"VACUUM INTO '{tmp_path}/backup'")
    archive(site, JULY)
    assert found()["archive"].level is Level.OK
    file = next(site.config.archive.path.rglob("*.parquet"))
    file.rename(file.with_name("elsewhere"))
    assert "not there, or cut short" in found()["archive"].found
    file.with_name("elsewhere").rename(file)

    for one in (sqlite_store, examined):
        one.close()
    for left in path.parent.glob(f"{path.name}-*m*"):
        left.unlink()
    shutil.copyfile(tmp_path / "backup", path)
    told = found()["archive"]
    assert (told.level, "which does not know of it" in told.found) == (Level.WARNING, True)
    site.config.archive.path.rename(tmp_path / "moved")
    archive(site, JULY)
    assert found()["archive"].level is Level.OK
    examined.close()


def test_folders_and_their_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = setup.folder_findings(tmp_path / "a" / "b", "messages")
    assert told.level is Level.OK
    assert "it does not exist yet, and can be made" in told.found
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    monkeypatch.setattr(setup, "LITTLE_BYTES", free * 2)
    assert levels(setup.folder_findings(tmp_path, "messages")) == {f"folder {tmp_path}": Level.WARNING}
    monkeypatch.setattr(setup, "HARDLY_ANY_BYTES", free * 2)
    assert levels(setup.folder_findings(tmp_path, "messages")) == {f"folder {tmp_path}": Level.ERROR}


def test_limits_of_inotify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [{"name": f"s{n}", "parser": "lsf", "paths": [f"{tmp_path}/{n}/*"], "cluster": "c1"} for n in range(3)]
    config = Config.model_validate({**BASE, "source": sources, "database": {"url": "sqlite:////nowhere"}})
    monkeypatch.setattr(kernel, "INOTIFY", tmp_path)
    for instances, watches, level in ((1000, 1000, Level.OK), (2, 1000, Level.WARNING), (1000, 2, Level.WARNING)):
        (tmp_path / "max_user_instances").write_text(f"{instances}\n")
        (tmp_path / "max_user_watches").write_text(f"{watches}\n")
        assert levels(kernel.inotify(Examined(config, NOW))) == {"inotify": level}


def test_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good, soon, gone = (authority.issue(name, days=days) for name, days in (("good", 90), ("soon", 10), ("gone", -1)))
    for issued, level in ((good, Level.OK), (soon, Level.WARNING), (gone, Level.ERROR)):
        assert levels(certificate_findings("c", issued.certificate, issued.key)) == {"c": level}
    assert levels(certificate_findings("c", good.certificate, soon.key)) == {"c": Level.ERROR}, "another one's key"
    assert levels(certificate_findings("c", tmp_path / "none.pem")) == {"c": Level.ERROR}
    good.key.chmod(0o644)
    (told,) = certificate_findings("c", good.certificate, good.key)
    assert f"run `chmod o-r {good.key}`" in told.found


SHOWN = """\
Type=notify
NRestarts=0
StatusText=3 sources, 18204 records
Id=batchacct-collect.service
ActiveState=active
SubState=running
UnitFileState=enabled
Result=success

Type=notify
NRestarts=3
Id=batchacct-serve.service
ActiveState=active
SubState=running
UnitFileState=enabled
Result=success

Type=notify
NRestarts=0
Id=batchacct-publish.service
ActiveState=failed
SubState=failed
UnitFileState=enabled
Result=exit-code

Type=notify
NRestarts=0
Id=procacctd.service
ActiveState=inactive
SubState=dead
UnitFileState=enabled
Result=success

Type=oneshot
NRestarts=0
Id=batchacct-partition.service
ActiveState=inactive
SubState=dead
UnitFileState=static
Result=success
"""


def test_units_as_systemd_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for systemctl, as no systemd runs here; what it prints is in its form."""
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\ncat <<'END'\n{SHOWN}END\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(units, "RUNS_SYSTEMD", tmp_path)
    assert levels(units.unit_findings()) == {
        "unit batchacct-collect.service": Level.OK,
        "unit batchacct-serve.service": Level.WARNING,
        "unit batchacct-publish.service": Level.ERROR,
        "unit procacctd.service": Level.ERROR,
    }
