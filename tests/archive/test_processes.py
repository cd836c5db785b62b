"""Processes, loaded objects and groups in the archive: sums to the microsecond, stories, names taken out, months back."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from batchacct.archive import purging
from batchacct.archive.anonymising import PREFIX
from batchacct.archive.holdings import archived
from batchacct.archive.months import named_month
from batchacct.archive.whole_months import recall_month
from batchacct.errors import HorizonError
from batchacct.ledger import stories
from batchacct.ledger.archived import with_archived
from batchacct.ledger.audit import read_audit
from batchacct.ledger.books import read_books
from batchacct.model import PROCESS
from batchacct.parsing import Block, Source, UnitParser
from batchacct.store import Counts, Origin, Store, append
from batchacct.store.tables import RECORD_TABLES, process
from procacct.records import GROUPS, OBJECTS, PROCESSES
from tests.archive.farms import archive, left
from tests.pub.site import DAY, Site, a_job
from tests.records import NOW, rows

MARCH, APRIL, JULY = (named_month(f"2025-{n:02d}") for n in (3, 4, 7))
TIMES = (0.1, 0.7, 1e-6, 4.5e-7, 5e-7, 1.0000005, 123456.789, 0.0)
"""Seconds that no sum of floating-point numbers gives back whatever the order, and halves of a microsecond."""
NAME = "alice-the-user"


def line(number: int, at: int, **columns: object) -> bytes:
    of_job = {"lrms": "LSF", "lrms_job_id": "10", "join_id": "10", "job_from": "cgroup"}
    seconds = {"elapsed_s": TIMES[number % 8], "cpu_user_s": TIMES[(number + 3) % 8], "cpu_system_s": TIMES[(number + 5) % 8]}
    who = {"user_id": 1001, "user_name": NAME, "program": f"/home/{NAME}/bin/run", "arguments": ["run", f"--for={NAME}"]}
    ran = {"kind": "program", "started_at": at, "logged_at": at + 60, "ended_by": "exit", "exit_code": 0, "processes": 3}
    own = {"record_key": f"n1/b/{number}/{at}/1", **of_job, "host": "n1", "pid": number, **who, **ran, **seconds}
    return json.dumps({"v": 1, **own, "seen_by": ["sensor"], **columns}).encode() + b"\n"


def read(store: Store, parser: UnitParser, data: bytes, path: str) -> Counts:
    (parsed,) = parser.parse([Block(data, 0)], Source("procs", "SITE", "c1"))
    assert parsed.rejects == ()
    return append(store, Origin("procs", parser.record_type.name, parser.label, path), parsed, NOW)[0]


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Site:
    """Two months of processes, a set of objects and a group in each, and the job that they are of."""
    made = Site(store, archive={"path": tmp_path / "archive"}, retention={"keep": 0, "personal_data": 0})
    for number, month in enumerate((MARCH, APRIL)):
        at = month + 2 * DAY
        read(store, PROCESSES, b"".join(line(n, at + n) for n in range(20)), f"/processes.{number}")
        found = {"object_set": "5ba3", "path": f"/home/{NAME}/lib/libx.so", "host": "n1", "seen_at": at}
        read(store, OBJECTS, json.dumps({"v": 1, "record_key": f"5ba3/{number}", **found}).encode(), f"/objects.{number}")
        member = {"host": "n1", "group_id": "7", "group_name": NAME, "owner": NAME, "pid": 5, "left_at": at, "made_by": "hand"}
        read(store, GROUPS, json.dumps({"v": 1, "record_key": f"n1/7/{number}", **member}).encode(), f"/groups.{number}")
    made.jobs(a_job(10, submit_at=MARCH + 2 * DAY))
    made.read_to_end(JULY)
    made.publish(JULY)
    return made


def everything(store: Store) -> dict[str, list[dict[str, object]]]:
    return {name: rows(store, table) for name, table in RECORD_TABLES.items()}


def microseconds(value: float) -> int:
    return int(value * 1e6 + 0.5)


def test_sums_are_those_of_the_rows_whatever_their_order(site: Site) -> None:
    store = site.store
    before = everything(store)
    of_march = [row for row in before["process"] if MARCH <= int(str(row["logged_at"])) < APRIL]
    report = archive(site, JULY)
    assert report.held == {}
    assert left(store) == {"job": 0, "identity": 0, "part": 0}
    (sums,) = (t.sums for t in report.taken if (t.record_type, t.month) == ("process", MARCH))
    assert sums.rows == len(of_march) == 20
    assert sums.wall_us == sum(microseconds(float(str(row["elapsed_s"]))) for row in of_march)
    cpu = ((row["cpu_user_s"], row["cpu_system_s"]) for row in of_march)
    assert sums.cpu_us == sum(microseconds(float(str(one))) for both in cpu for one in both)
    assert sums.wall_us % 1_000_000, "they are no whole seconds"
    with store.reading() as connection:
        assert read_books(connection).problems == []
        (march, _) = archived(connection, PROCESS)
        assert (march.sums.wall_s, march.sums.cpu_s) == (sums.wall_us // 10**6, sums.cpu_us // 10**6)
        (audited,) = (s for s in read_audit(connection, [], MARCH, APRIL, JULY).sources if s.record_type == "process")
        assert audited.records == 20
    assert {name: set(recall_month(store, site.config, month, JULY)) for name, month in (("m", MARCH), ("a", APRIL))}["m"] == {
        "job", "process", "object", "process_group",
    }  # fmt: skip
    assert everything(store) == before
    with store.reading() as connection:
        assert read_books(connection).problems == []


def test_a_month_in_the_archive_takes_no_processes(site: Site) -> None:
    archive(site, JULY)
    with pytest.raises(HorizonError, match="`batchacct db recall 2025-03`"):
        read(site.store, PROCESSES, b"".join(line(n, MARCH + DAY) for n in range(12)), "/late")


def test_stories_of_archived_bytes(site: Site) -> None:
    """... are those of before; the job's own tells its programs while they are in their table."""
    begin = len(line(0, MARCH + 2 * DAY))
    places = (("/processes.0", 0), ("/processes.0", begin + 5), ("/objects.1", 3), ("/groups.0", 0))

    def told(path: str, offset: int) -> list[str]:
        with with_archived(site.store, lambda wanted: wanted.of_unit(path, offset, ())) as (connection, _):
            return list(stories.trace_unit(connection, path, offset))

    before = [told(*place) for place in places]
    assert before[0][1:] == [
        f"  process 0 on n1 of job 10: /home/{NAME}/bin/run, user {NAME}",
        "    started 2025-03-03 00:00:00Z, ended 2025-03-03 00:01:00Z (exit 0), 3 executions together",
    ]
    assert before[1][1].startswith("  process 1 on n1")
    assert before[2][1] == f"  object /home/{NAME}/lib/libx.so of set 5ba3, seen on n1 at 2025-04-03 00:00:00Z"
    assert before[3][1] == "  process 5 on n1 was in group 7 until 2025-03-03 00:00:00Z"
    with site.store.reading() as connection:
        why = list(stories.why(connection, stories.JobId.of("10")))
    assert "  programs: 60 executions on 1 hosts" in "\n".join(why)
    assert f"    /home/{NAME}/bin/run: 60 executions" in "\n".join(why)
    archive(site, JULY)
    assert [told(*place) for place in places] == before


@pytest.mark.parametrize("is_archived", [True, False], ids=["archived", "in the tables"])
def test_names_go_and_programs_stay_apart(site: Site, is_archived: bool) -> None:
    store = site.store
    if is_archived:
        archive(site, JULY)
    purging.purge(store, site.config, JULY, trust_clock=True)
    names = ("process", "object", "process_group")
    shown = repr([everything(store)[name] for name in names])
    files = [repr(pq.read_table(f, partitioning=None).to_pylist()) for f in site.config.archive.path.rglob("*.parquet")]
    assert len(files) == (7 if is_archived else 0)
    assert not any(NAME in text or "--for" in text for text in (shown, *files))
    if not is_archived:
        with store.reading() as connection:
            programs = set(connection.scalars(select(process.c.program)))
            (user,) = set(connection.scalars(select(process.c.user_name)))
        assert user.startswith(PREFIX)
        assert programs == {f"/home/{user}/bin/run"}
    assert purging.purge(store, site.config, JULY, trust_clock=True).gone == [], "and there is nothing left to do"
    with store.reading() as connection:
        assert read_books(connection).problems == []
