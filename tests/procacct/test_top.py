"""What ran most: figures that can be added up in the head, by each thing it is asked by, on every database."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import select, text

from batchacct.config_applications import Application
from batchacct.errors import ConfigError
from batchacct.store import Store
from batchacct.store.large_joins import large_joins
from batchacct.store.tables import process
from procacct.asking.applications import Applications
from procacct.asking.asked import NO_JOB, NO_RECORD, Asked
from procacct.asking.coverage import Coverage, coverage, lost, notes, whole
from procacct.asking.libraries import NO_LIBRARIES
from procacct.asking.runs import Runs, is_of_run, runs_of_processes
from procacct.asking.top import NO_GROUP, NO_MODULES, NOT_SIGNED, top
from procacct.asking.top_rows import ordered
from tests.procacct.workload import (
    DAY,
    HOUR,
    T0,
    a_job,
    a_membership,
    a_process,
    add,
    add_memberships,
    add_objects,
    add_processes,
    an_object,
    decide,
)

RULES = Applications(
    [
        Application(name="Reconstruction", programs=["/opt/*/reco", "/usr/bin/reco"]),
        Application(name="Simulation", modules=["Geant4/*"]),
        Application(name="Signed", signatures=["aaaa-*"]),
    ]
)
ALL = Asked(T0, T0 + DAY)

GEANT = json.dumps(["GCC/13.2", "Geant4/11.2"])
BIN = "/usr/bin"
BOB: dict[str, Any] = {"user_name": "bob", "host": "n2"}


@pytest.fixture
def farm(store: Store) -> Store:
    """Job 1 of atlas ran three programs, job 2 of cms one 50 times, in one row; job 3 has no process; job 4 is not recorded yet."""
    add(store, a_job("1", T0, T0 + HOUR), a_job("2", T0, T0 + HOUR, user_name="bob"), a_job("3", T0, T0 + HOUR))
    decide(store, {"1": "atlas", "2": "cms", "3": "atlas"})
    chain: dict[str, Any] = {"cpu_user_s": None, "cpu_system_s": None, "ended_by": "exec"}
    add_processes(
        store,
        a_process("1", T0 + 5, pid=100, program=f"{BIN}/bash", command="bash", cpu_user_s=9.0, cpu_system_s=1.0, elapsed_s=100.0),
        a_process("1", T0 + 6, pid=101, program=f"{BIN}/env", command="env", **chain),
        a_process("1", T0 + 7, pid=101, cpu_user_s=1800.0, cpu_system_s=0.0, object_set="s1", modules=GEANT, elapsed_s=1800.0),
        a_process("1", T0 + 8, pid=102, program="/opt/g4/sim", modules=GEANT, object_set="s2", cpu_user_s=90.0, cpu_system_s=10.0),
        a_process("2", T0 + 9, program="/opt/x/tool", signature="aaaa-1", processes=50, cpu_user_s=500.0, **BOB),
        a_process("4", T0 + 10, program=f"{BIN}/bash", cpu_user_s=None, cpu_system_s=None, ended_by="unknown"),
        a_process(None, T0 + 11, program="/usr/sbin/cron", command="cron", user_name=None, user_id=7),
        a_process(None, T0 + 12, kind="gap", processes=0, lost_events=1234, ended_by="unknown", cpu_user_s=None, cpu_system_s=None),
        a_process("1", T0 - 400, program="/before/the/period"),
    )  # fmt: skip
    libc, libg4 = "/lib64/libc.so.6", "/opt/g4/libG4.so"
    add_objects(store, an_object("s1", libc), an_object("s1", libc, T0 + 60), an_object("s2", libc), an_object("s2", libg4))
    return store


def by(store: Store, what: str, asked: Asked = ALL, sort: str = "cpu") -> dict[str, tuple[int, int, int, float]]:
    """Executions, jobs, users and CPU seconds, in order."""
    with store.reading() as connection:
        rows = ordered(top(connection, asked, what, runs_of_processes(connection, asked.logged), RULES), sort)
    return {row.name: (row.sums.executions, row.sums.jobs, row.sums.users, row.sums.cpu_s) for row in rows}


def test_by_program(farm: Store) -> None:
    found = by(farm, "program")
    assert found == {
        f"{BIN}/reco": (1, 1, 1, 1800.0),
        "/opt/x/tool": (50, 1, 1, 500.25),
        "/opt/g4/sim": (1, 1, 1, 100.0),
        f"{BIN}/bash": (2, 2, 1, 10.0),
        "/usr/sbin/cron": (1, 0, 1, 1.0),
        f"{BIN}/env": (1, 1, 1, 0.0),
    }
    assert list(found)[:2] == [f"{BIN}/reco", "/opt/x/tool"]
    assert list(by(farm, "program", sort="executions"))[:2] == ["/opt/x/tool", f"{BIN}/bash"]
    assert next(iter(by(farm, "program", sort="jobs"))) == f"{BIN}/bash"


def test_by_vo_and_of_a_vo(farm: Store) -> None:
    assert by(farm, "vo") == {
        "atlas": (4, 1, 1, 1910.0),
        "cms": (50, 1, 1, 500.25),
        NO_RECORD: (1, 1, 1, 0.0),
        NO_JOB: (1, 0, 1, 1.0),
    }
    assert by(farm, "program", Asked(T0, T0 + DAY, ("cms",))) == {"/opt/x/tool": (50, 1, 1, 500.25)}
    assert by(farm, "user", Asked(T0, T0 + DAY, ("cms", "atlas"))).keys() == {"alice", "bob"}


def test_by_user_host_command_signature_and_job(farm: Store) -> None:
    assert by(farm, "user") == {"alice": (5, 2, 1, 1910.0), "bob": (50, 1, 1, 500.25), "uid 7": (1, 0, 1, 1.0)}
    assert by(farm, "host") == {"n1": (6, 2, 2, 1911.0), "n2": (50, 1, 1, 500.25)}
    assert by(farm, "command")["cron"] == (1, 0, 1, 1.0)
    assert by(farm, "signature") == {NOT_SIGNED: (6, 2, 2, 1911.0), "aaaa-1": (50, 1, 1, 500.25)}
    assert by(farm, "job") == {
        "c1 1": (4, 1, 1, 1910.0),
        "c1 2": (50, 1, 1, 500.25),
        "c1 4": (1, 1, 1, 0.0),
        NO_JOB: (1, 0, 1, 1.0),
    }
    assert by(farm, "job", Asked(T0, T0 + DAY, user="bob", cluster="c1")) == {"c1 2": (50, 1, 1, 500.25)}
    assert by(farm, "job", Asked(T0, T0 + DAY, cluster="c2")) == {}


def test_a_library_has_the_processes_that_loaded_it_however_often_it_was_told(farm: Store) -> None:
    assert by(farm, "library") == {
        "/lib64/libc.so.6": (2, 1, 1, 1900.0),
        NO_LIBRARIES: (54, 3, 3, 511.25),
        "/opt/g4/libG4.so": (1, 1, 1, 100.0),
    }


def test_by_module(farm: Store) -> None:
    assert by(farm, "module") == {
        "GCC/13.2": (2, 1, 1, 1900.0),
        "Geant4/11.2": (2, 1, 1, 1900.0),
        NO_MODULES: (54, 3, 3, 511.25),
    }


def test_an_application_is_what_the_first_rule_says_else_the_file(farm: Store) -> None:
    assert by(farm, "application") == {
        "Reconstruction": (1, 1, 1, 1800.0),
        "Signed": (50, 1, 1, 500.25),
        "Simulation": (1, 1, 1, 100.0),
        "bash": (2, 2, 1, 10.0),
        "cron": (1, 0, 1, 1.0),
        "env": (1, 1, 1, 0.0),
    }


def test_rules_of_applications() -> None:
    assert RULES.of("/opt/a/b/reco", None, GEANT) == "Reconstruction"
    assert RULES.of("/x/y", None, '["Geant4"]') == "y"
    assert RULES.of(None, None, None) == "(unknown)"
    odd = Applications([Application(name="A", programs=["/a/[x]?"]), Application(name="B", programs=["*"])])
    assert (odd.of("/a/[x]1", None, None), odd.of("/a/x1", None, None)) == ("A", "B")


def test_a_group_has_its_members_while_they_are_in_it(farm: Store) -> None:
    """Both groups have process 100; pid 101 joined after its first program had ended; another process with pid 102 was a member."""
    late = {"start_ns": (T0 + 6) * 10**9, "joined_ns": (T0 + 17) * 10**9, "left_at": T0 + 17, "left_ns": (T0 + 17) * 10**9}
    add_memberships(
        farm,
        a_membership(100, T0 + 5, "a"),
        a_membership(100, T0 + 5, "b"),
        a_membership(101, T0 + 6, "a", **late),
        a_membership(102, T0 + 500, "b"),
    )
    found = by(farm, "group")
    assert found["group a"] == (2, 1, 1, 1810.0)
    assert found["group b"] == (1, 1, 1, 10.0)
    assert found[NO_GROUP][0] == 54


def test_a_process_counts_once_in_a_group_it_was_added_to_again(farm: Store) -> None:
    """And a membership of which is known to a second when it was left is not of later processes of that number."""
    again = {"joined_ns": (T0 + 7) * 10**9, "record_key": "n1/boot1/a/100/again"}
    add_memberships(farm, a_membership(100, T0 + 5, "a"), a_membership(100, T0 + 5, "a", **again))
    add_memberships(farm, a_membership(101, T0 - 5, "b", left_ns=None, left_at=T0 + 2))
    found = by(farm, "group")
    assert found["group a"] == (1, 1, 1, 10.0)
    assert "group b" not in found


def test_bsd_rows_of_a_host_count_only_where_the_daemon_has_none(farm: Store) -> None:
    bsd: dict[str, Any] = {"parser": "pacct/1", "boot_id": None, "program": None, "command": "acct"}
    add_processes(farm, a_process(None, T0 + 20, **bsd), a_process(None, T0 + 21, host="n9", **bsd))
    assert by(farm, "program")["acct"] == (1, 0, 1, 1.0)
    assert "n9" in by(farm, "host")
    with farm.reading() as connection:
        told = notes(connection, ALL, runs_of_processes(connection, ALL.logged))
    assert any(note.startswith("Of n1 several sources tell: of each day (UTC) the rows of the node daemon count") for note in told)


def test_the_days_of_a_period_come_to_the_period_whoever_told_of_each(farm: Store) -> None:
    """Coverage looks at other days than the rest, and finds the same: job 3's CPU was told by BSD accounting, a day before."""
    bsd: dict[str, Any] = {"parser": "pacct/1", "boot_id": None, "program": None, "command": "acct"}
    add_processes(farm, a_process("3", T0 - 100, T0 - 50, host="n1", cpu_user_s=600.0, **bsd))
    add_processes(farm, a_process("2", T0 + 30, command="ogrt", program="/ogrt", parser="ogrt/1", **BOB))
    assert "/ogrt" not in by(farm, "program")
    yesterday, both = Asked(T0 - DAY, T0), Asked(T0 - DAY, T0 + DAY)
    assert by(farm, "program", yesterday) == {"/before/the/period": (1, 1, 1, 1.0)}, "the daemon told of that day"
    days = [sum(row[3] for row in by(farm, "program", asked).values()) for asked in (yesterday, ALL)]
    assert sum(row[3] for row in by(farm, "program", both).values()) == sum(days)
    with farm.reading() as connection:
        assert coverage(connection, ALL) == Coverage(3, 1, 0, 3 * 1800, 2410.25)


def test_nothing_is_silent(farm: Store) -> None:
    with farm.reading() as connection:
        assert coverage(connection, ALL) == Coverage(3, 1, 0, 3 * 1800, 2410.25)
        assert coverage(connection, Asked(T0, T0 + DAY, ("cms",))) == Coverage(1, 0, 0, 1800, 500.25)
        assert lost(connection, ALL).events == 1234
        runs = runs_of_processes(connection, ALL.logged)
        everything = whole(connection, ALL, runs)
        told = notes(connection, ALL, runs)
    assert (everything.executions, everything.executions_without_record, everything.executions_outside_jobs) == (56, 1, 1)
    assert everything.cpu_unknown_executions == 1
    assert told == [
        "Processes that ended in the period count as a whole; CPU time as the kernel measured it.",
        "Of 1.5 CPU h of the 3 jobs that ended in this time 45% is in processes seen.",
        "1 job of these without any process: nobody looked where they ran.",
        "1,234 events lost on n1 in this time: processes are missing, and the figures of these hosts are too low.",
        "1 execution in jobs of which the batch system has told nothing yet: they run, or their log was not read.",
        "1 execution in no batch job.",
        "1 execution of unknown CPU time: not in the CPU hours.",
    ]


def test_a_job_of_unknown_cpu_is_not_compared(store: Store) -> None:
    add(store, a_job("1", T0, T0 + HOUR, cpu_duration_s=None), a_job("2", T0, T0 + HOUR))
    add_processes(store, a_process("1", T0 + 5), a_process("2", T0 + 5, cpu_user_s=900.0, cpu_system_s=0.0))
    with store.reading() as connection:
        found = coverage(connection, ALL)
        assert coverage(connection, Asked(T0 - DAY, T0)) == Coverage(0, 0, 0, 0, 0.0)
        assert coverage(connection, Asked(T0, T0 + DAY, ("cms",))) == Coverage(0, 0, 0, 0, 0.0)
    assert found == Coverage(2, 0, 1, 1800, 900.0)
    assert found.fraction == 0.5


def test_a_run_again_is_another_job(store: Store) -> None:
    add(store, a_job("1", T0, T0 + 100, state="requeued"), a_job("1", T0 + 110, T0 + HOUR))
    add_processes(store, a_process("1", T0 + 5), a_process("1", T0 + 100), a_process("1", T0 + 109))
    assert by(store, "program") == {f"{BIN}/reco": (3, 2, 1, 3.0)}
    assert list(by(store, "job")) == ["c1 1"]


def test_mariadb_hashes_large_joins(farm: Store) -> None:
    """No index is made for the runs, whose ids may be longer than one can hold; without hashing a month took hours."""
    asked = text("SELECT @@join_cache_level")
    with farm.reading() as connection, large_joins(connection):
        assert whole(connection, ALL, runs_of_processes(connection, ALL.logged)).executions == 56
        if farm.dialect.name == "mariadb":
            assert connection.scalar(asked) == 4
            run = Runs().shared_out()
            query = select(process.c.id, run.c.run_id).select_from(process.outerjoin(run, is_of_run(run)))
            compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
            plan = connection.exec_driver_sql(f"EXPLAIN {compiled}".replace("%%", "%").replace("%", "%%")).all()
            assert any("BNLH" in str(row) for row in plan), plan
    if farm.dialect.name == "mariadb":
        with farm.reading() as connection:
            assert connection.scalar(asked) == 2


def test_what_cannot_be_asked_is_told(sqlite_store: Store) -> None:
    with sqlite_store.reading() as connection, pytest.raises(ConfigError, match="program, application"):
        top(connection, ALL, "colour", runs_of_processes(connection, ALL.logged), RULES)
    with pytest.raises(ConfigError, match="not by 'colour'"):
        ordered([], "colour")
    with pytest.raises(ConfigError, match="no time between"):
        Asked(T0, T0)
