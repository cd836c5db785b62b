"""ARC: the job log, and the accounting database asked by its feed and read by its parser."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from batchacct.collector import Collector, collect_once
from batchacct.errors import ConfigError, SourceError
from batchacct.feeding import feed
from batchacct.parsing import Block, Parsed, Reject, Skip, Source
from batchacct.store import Store, stored_cursor
from batchacct.store.tables import identity
from cecol.arc_accounting import PARSER as DATABASE
from cecol.arc_joblog import PARSER as JOBLOG
from tests.records import rows

SAMPLES = Path(__file__).parents[1] / "samples" / "arc"
SOURCE = Source("arc", "SITE", "c1")
DAY = 86_400


def at(text: str) -> int:
    """Unix seconds of a time as ARC's test has it: `20190624101218Z`."""
    return int(dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC).timestamp())


def parse(content: bytes, source: Source = SOURCE) -> Parsed:
    (done,) = JOBLOG.parse([Block(content, 0)], source)
    return done


# --- the job log ---------------------------------------------------------------------------------------------------------------


def test_the_lines_of_2006() -> None:
    done = parse((SAMPLES / "gm-jobs.log.2006").read_bytes())
    (row,) = done.records.to_pylist()
    wanted = {
        "lrms": "PBS", "lrms_job_id": "108519.brenta", "join_id": "108519", "global_job_id": "190571138641504476800716",
        "dn": "/C=SI/O=SiGNET/O=IJS/OU=F9/CN=Andrej Filipcic/SN=5", "local_user": "4102", "time_kind": "end", "fqan": None,
        "recorded_at": dt.datetime(2006, 1, 30, 20, 32, 2, tzinfo=dt.UTC),
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert dict(done.skipped) == {
        "started: the batch id comes when the job has finished": 4,
        "finished without a batch job": 3,
    }


def test_its_times_are_those_of_the_host() -> None:
    source = Source("arc", "SITE", "c1", ZoneInfo("Europe/Ljubljana"))
    (row,) = parse((SAMPLES / "gm-jobs.log.2006").read_bytes(), source).records.to_pylist()
    assert row["recorded_at"] == dt.datetime(2006, 1, 30, 19, 32, 2, tzinfo=dt.UTC)


def test_a_line_cut_by_a_pager_is_a_reject() -> None:
    (reject,) = parse((SAMPLES / "gm-jobs.log.truncated").read_bytes()).rejects
    assert reject.reason.startswith("no field `name: value` where one is due, or a quote that is not closed")


def finished(rest: str, head: str = "2026-06-02 20:32:02 Finished - ") -> bytes:
    return f"{head}job id: a1, unix user: 41:42, {rest}".encode()


NAMED = 'name: "sim, \\"3\\"", owner: "/CN=A, B", lrms: slurm, queue: long, '


@pytest.mark.parametrize(
    ("unit", "columns"),
    [
        (finished(NAMED + "lrmsid: 123"), {"join_id": "123", "lrms": "Slurm", "dn": "/CN=A, B"}),
        (finished(NAMED + "lrmsid: 7@c", "*2026-06-02 20:32:02Finished - "), {"join_id": "7"}),
        (finished('name: "", owner: "https://iss/sub", lrms: x, queue: , lrmsid: 8, failure: "no\\\\"'),
         {"dn": None, "token_issuer": "https://iss", "token_subject": "sub", "lrms": "unknown"}),
    ],
)  # fmt: skip
def test_what_a_line_says(unit: bytes, columns: dict[str, object]) -> None:
    outcome = JOBLOG.parse_unit(unit, SOURCE)
    assert isinstance(outcome, dict)
    assert {name: outcome[name] for name in columns} == columns


@pytest.mark.parametrize(
    ("unit", "reason"),
    [
        (b"2026-06-02 nonsense", "it does not begin with a time and Started or Finished"),
        (finished(NAMED + "lrmsid: 1", "2026-02-30 20:32:02 Finished - "), "the time of the line is a time that does not exist"),
        (finished(NAMED + "lrmsid: 1", "1969-02-03 20:32:02 Finished - "), "the time of the line is not between 1970 and 2099"),
        (finished('owner: "", lrms: pbs, lrmsid: 1'), "owner is missing"),
        (finished(NAMED + "lrmsid: 1, lrmsid: 2"), "a field has two values: two lines run together"),
    ],
)
def test_bad_lines(unit: bytes, reason: str) -> None:
    with pytest.raises(Reject) as refused:
        JOBLOG.parse_unit(unit, SOURCE)
    assert refused.value.reason == reason


def test_a_fork_job_is_no_batch_job() -> None:
    outcome = JOBLOG.parse_unit(finished(NAMED.replace("slurm", "fork") + "lrmsid: 1"), SOURCE)
    assert outcome == Skip("a fork job is no batch job")


# --- the accounting database ---------------------------------------------------------------------------------------------------


class Arex:
    """An accounting database with the tables and columns of ARC 6 (version 1) or ARC 7 (version 2) that identities are in."""

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self.version = version
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("PRAGMA journal_mode=WAL")
            for table in ("Queues", "Users", "WLCGVOs", "Status", "FQANs"):
                database.execute(f"CREATE TABLE {table} (ID INTEGER PRIMARY KEY, Name TEXT NOT NULL UNIQUE)")
            database.execute("CREATE TABLE Endpoints (ID INTEGER PRIMARY KEY, Interface TEXT, URL TEXT)")
            fqan = ", FQANID INTEGER" if version == 2 else ""
            database.execute(
                "CREATE TABLE AAR (RecordID INTEGER PRIMARY KEY AUTOINCREMENT, JobID TEXT UNIQUE, LocalJobID TEXT,"
                " EndpointID INTEGER, QueueID INTEGER, UserID INTEGER,"
                f" VOID INTEGER, StatusID INTEGER, SubmitTime INTEGER, EndTime INTEGER{fqan})"
            )
            database.execute("CREATE TABLE AuthTokenAttributes (RecordID INTEGER, AttrKey TEXT, AttrValue TEXT)")
            database.execute("CREATE TABLE JobExtraInfo (RecordID INTEGER, InfoKey TEXT, InfoValue TEXT)")

    def add(self, told: dict[str, Any]) -> None:
        aar = told["AAR"]
        with closing(sqlite3.connect(self.path)) as database, database:
            ids = [self._id(database, table, aar[name]) for table, name in (("Queues", "Queue"), ("Users", "User"))]
            ids += [self._id(database, "WLCGVOs", aar["WLCGVO"]), self._id(database, "Status", aar["Status"])]
            endpoint = aar["Endpoint"]
            database.execute("INSERT INTO Endpoints (Interface, URL) VALUES (?, ?)", (endpoint["Interface"], endpoint["URL"]))
            values = [aar["JobID"], aar["LocalJobID"], database.execute("SELECT max(ID) FROM Endpoints").fetchone()[0], *ids]
            values += [aar["SubmitTime"], aar["EndTime"]]
            values += [self._id(database, "FQANs", aar.get("FQAN", ""))] if self.version == 2 else []
            number = database.execute(f"INSERT INTO AAR VALUES (NULL{', ?' * len(values)})", values).lastrowid
            rows = [(number, key, value) for key, value in told["AuthTokenAttributes"]]
            database.executemany("INSERT INTO AuthTokenAttributes VALUES (?, ?, ?)", rows)
            database.executemany(
                "INSERT INTO JobExtraInfo VALUES (?, ?, ?)", [(number, k, v) for k, v in told["JobExtraInfo"].items()]
            )

    def finish(self, job_id: str, end: int) -> None:
        with closing(sqlite3.connect(self.path)) as database, database:
            status = self._id(database, "Status", "completed")
            database.execute("UPDATE AAR SET StatusID = ?, EndTime = ?, LocalJobID = '99' WHERE JobID = ?", (status, end, job_id))

    @staticmethod
    def _id(database: sqlite3.Connection, table: str, name: str) -> int:
        database.execute(f"INSERT OR IGNORE INTO {table} (Name) VALUES (?)", (name,))
        return int(database.execute(f"SELECT ID FROM {table} WHERE Name = ?", (name,)).fetchone()[0])


def sample() -> dict[str, Any]:
    """The values of ARC's own test, times as its database has them."""
    told: dict[str, Any] = json.loads((SAMPLES / "aar-testvalues.json").read_text())
    for name in ("SubmitTime", "EndTime"):
        told["AAR"][name] = at(told["AAR"][name])
    return told


def changed(job_id: str, **columns: object) -> dict[str, Any]:
    told = sample()
    told["AAR"] |= {"JobID": job_id, **columns}
    return told


@pytest.fixture(params=[1, 2])
def arex(request: pytest.FixtureRequest, tmp_path: Path) -> Arex:
    return Arex(tmp_path / "accounting.db", request.param)


def collector(arex: Arex, **options: str) -> Collector:
    return Collector(DATABASE, SOURCE, (), feed("arc-db", SOURCE, [str(arex.path)], options))


def test_the_values_of_arcs_own_test(arex: Arex, sqlite_store: Store) -> None:
    arex.add(sample())
    assert not collect_once(sqlite_store, collector(arex), lambda: at("20190701000000Z")).errors
    (row,) = rows(sqlite_store, identity)
    wanted = {
        "lrms": "PBS", "lrms_job_id": "2805309", "join_id": "2805309", "time_kind": "accept", "local_user": "tb175",
        "recorded_at": at("20190624101218Z"), "dn": "/DC=org/DC=ugrid/O=people/O=KNU/CN=Andrii Salnikov",
        "ce_id": "arc6.univ.kiev.ua:2811/nordugrid-pbs-grid", "vo": "testbed.univ.kiev.ua", "fqan": "/testbed.univ.kiev.ua",
        "fqans": '["/testbed.univ.kiev.ua", "/testbed.univ.kiev.ua/Role=VO-Admin"]',
        "global_job_id": "0DULDmc8azunjwO5upha6lOqABFKDmABFKDmpjJKDmABFKDmQs7RCo",
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted


def test_a_job_is_taken_when_it_has_finished_and_once(arex: Arex, sqlite_store: Store) -> None:
    end = sample()["AAR"]["EndTime"]
    arex.add(changed("done"))
    arex.add(changed("running", Status="in-progress", LocalJobID="", EndTime=0))
    arex.add(changed("failed", Status="failed", LocalJobID=""))
    ours = collector(arex, window="1d")
    done = collect_once(sqlite_store, ours, lambda: end + 3 * DAY)
    assert (done.counts["recorded"], done.counts["skipped"], done.errors) == (1, 1, [])
    assert stored_cursor(sqlite_store, "arc") == str(end + 3 * DAY)
    arex.finish("running", end + 3 * DAY - 100)
    done = collect_once(sqlite_store, ours, lambda: end + 4 * DAY)
    assert (done.counts["recorded"], done.counts["known"]) == (1, 0)
    done = collect_once(sqlite_store, ours, lambda: end + 4 * DAY + 60)
    assert (done.counts["recorded"], done.counts["known"]) == (0, 0)
    assert [row["global_job_id"] for row in rows(sqlite_store, identity)] == ["done", "running"]


def test_the_primary_fqan_of_arc_7_and_what_is_none(tmp_path: Path, sqlite_store: Store) -> None:
    arex = Arex(tmp_path / "a.db", 2)
    first = changed("a", FQAN="/atlas/Role=production", LocalJobID="1")
    token = changed("b", User="https://atlas-auth.cern.ch//sub", WLCGVO="", LocalJobID="2") | {"AuthTokenAttributes": []}
    group = changed("c", WLCGVO="", LocalJobID="3") | {"AuthTokenAttributes": [["wlcg_groups", "/cms/uscms"], ["name", "x"]]}
    bare = changed("d", WLCGVO="ngs.ac.uk", LocalJobID="4") | {"AuthTokenAttributes": []}
    for told in (first, token, group, bare):
        arex.add(told)
    collect_once(sqlite_store, collector(arex), lambda: at("20190701000000Z"))
    told_of = ("fqan", "vo", "token_issuer", "token_subject")
    found = {row["lrms_job_id"]: tuple(row[name] for name in told_of) for row in rows(sqlite_store, identity)}
    assert found == {
        "1": ("/atlas/Role=production", "atlas", None, None),
        "2": (None, None, "https://atlas-auth.cern.ch/", "sub"),
        "3": ("/cms/uscms", "cms", None, None),
        "4": (None, "ngs.ac.uk", None, None),
    }


def test_a_writer_does_not_stand_in_the_way(arex: Arex, sqlite_store: Store) -> None:
    arex.add(sample())
    with closing(sqlite3.connect(arex.path)) as database, database:
        database.execute("INSERT INTO Queues (Name) VALUES ('new')")
        assert not collect_once(sqlite_store, collector(arex), lambda: at("20190701000000Z")).errors


def test_a_database_that_is_none(tmp_path: Path, sqlite_store: Store) -> None:
    ours = Collector(DATABASE, SOURCE, (), feed("arc-db", SOURCE, [str(tmp_path / "none.db")], {}))
    (error,) = collect_once(sqlite_store, ours, lambda: DAY).errors
    assert isinstance(error, SourceError)
    assert "none.db does not exist: give the accounting.db" in error.message
    (tmp_path / "other.db").write_bytes(b"no database at all, but long enough to be looked at" * 20)
    ours = Collector(DATABASE, SOURCE, (), feed("arc-db", SOURCE, [str(tmp_path / "other.db")], {}))
    (error,) = collect_once(sqlite_store, ours, lambda: DAY).errors
    assert "cannot be read as ARC's accounting database: file is not a database" in error.message


@pytest.mark.parametrize(
    ("paths", "options", "told"),
    [
        ([], {}, "asks one database: give its file, one, in paths"),
        (["/a"], {"windows": "1d"}, "there is no windows; did you mean window?"),
        (["/a"], {"window": "1s"}, "window: "),
    ],
)
def test_wrong_options(paths: list[str], options: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        feed("arc-db", SOURCE, paths, options)
    assert told in refused.value.message


BAD_ANSWERS = (
    (b"{", "it is no JSON"),
    (b"[]", "it is no JSON object"),
    (b'{"AAR": 1}', "there is no object AAR, or JobExtraInfo is none"),
    (b'{"AAR": {"LocalJobID": "1", "JobID": "a"}}', "SubmitTime is no time between 1970 and 2099"),
    (b'{"AAR": {"LocalJobID": "1", "SubmitTime": 5}}', "JobID is missing"),
    (b'{"AAR": {"LocalJobID": [1]}}', "LocalJobID is no text"),
)


@pytest.mark.parametrize(("unit", "reason"), BAD_ANSWERS)
def test_bad_answers(unit: bytes, reason: str) -> None:
    with pytest.raises(Reject) as refused:
        DATABASE.parse_unit(unit, SOURCE)
    assert refused.value.reason == reason
