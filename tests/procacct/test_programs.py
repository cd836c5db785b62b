"""What ran in one job, as a tree and in short; and which jobs used a library: rows put in by hand, on every database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from batchacct.errors import ConfigError
from batchacct.ledger import stories
from batchacct.ledger.job_ids import JobId
from batchacct.ledger.more_stories import AskedJob
from batchacct.store import Store
from batchacct.store.tables import job
from procacct.asking.asked import NO_JOB, NO_RECORD, Asked
from procacct.asking.programs import Program, programs_of, runs_of_job
from procacct.asking.programs_command import ended
from procacct.asking.recall import Sought, Use, uses
from procacct.asking.runs import runs_of_processes
from procacct.asking.story import tell
from tests.procacct.workload import DAY, HOUR, T0, a_job, a_process, add, add_objects, add_processes, an_object, decide

ALL = Asked(T0 - DAY, T0 + 100 * DAY)
NO_CPU: dict[str, Any] = {"cpu_user_s": None, "cpu_system_s": None}


@pytest.fixture
def tree(store: Store) -> Store:
    """bash starts make, which starts cc and a subshell; make's pid comes again later; the shell at last becomes reco."""
    add(store, a_job("7", T0, T0 + HOUR, cpu_duration_s=100))

    def one(pid: int, parent: int, at: int, name: str, **columns: object) -> dict[str, object]:
        return a_process("7", T0 + at, T0 + at + 1, pid=pid, parent_pid=parent, program=f"/bin/{name}", command=name, **columns)

    add_processes(
        store,
        one(10, 1, 0, "bash", **NO_CPU, ended_by="exec"),
        one(11, 10, 1, "make", exit_code=2),
        one(12, 11, 2, "cc", exit_code=None, exit_signal=11, ended_by="signal", core_dumped=1),
        one(13, 11, 3, "bash", kind="fork"),
        one(14, 13, 4, "ls"),
        one(11, 10, 5, "tar"),
        one(15, 11, 6, "gzip"),
        one(10, 1, 9, "reco", cpu_user_s=60.0, cpu_system_s=0.0, object_set="s1"),
        one(16, 10, 10, "date", processes=50, record_key="sum/n1/boot1/16/1/1"),
        one(17, 10, 11, "who"),
        a_process("7", T0 + 12, pid=17, parent_pid=10, host="n2", program="/bin/elsewhere"),
    )
    add_objects(store, an_object("s1", "/lib64/libc.so.6"), an_object("s1", "/lib64/libm.so.6", T0 + 5))
    return store


def of_run(store: Store, job_id: str, number: int = 0, *, libraries: bool = False) -> list[Program]:
    with store.reading() as connection:
        typed = JobId.of(job_id)
        return programs_of(connection, typed, runs_of_job(connection, typed)[number], libraries=libraries)


def test_a_program_is_below_the_one_that_started_it(tree: Store) -> None:
    found = [(one.depth, one.by, one.program.rpartition("/")[2], one.executions) for one in of_run(tree, "7")]
    assert found == [
        (0, "child", "bash", 1),
        (1, "child", "make", 1),
        (2, "child", "cc", 1),
        (2, "child", "bash", 1),
        (3, "child", "ls", 1),
        (1, "child", "tar", 1),
        (2, "child", "gzip", 1),
        (0, "exec", "reco", 1),
        (1, "child", "date", 50),
        (1, "child", "who", 1),
        (0, "child", "elsewhere", 1),
    ]
    by_name = {one.program: one for one in of_run(tree, "7", libraries=True)}
    assert by_name["/bin/reco"].libraries == ("/lib64/libc.so.6", "/lib64/libm.so.6")
    assert (by_name["/bin/reco"].cpu_s, by_name["/bin/ls"].cpu_s) == (60.0, 1.0)
    assert [ended(by_name[f"/bin/{name}"]) for name in ("cc", "make", "ls")] == ["SIGSEGV (core)", "exit 2", "exit 0"]


def test_each_run_has_its_own_programs(store: Store) -> None:
    add(store, a_job("8", T0, T0 + 100), a_job("8", T0 + 200, T0 + 300), a_job("8", T0, T0 + 50, array_index=3))
    add_processes(
        store,
        a_process("8", T0 + 5, program="/first"),
        a_process("8", T0 + 205, program="/second"),
        a_process("8", T0 + 5, array_index=3, program="/of/element"),
        a_process("8", T0 + DAY, program="/later"),
    )
    with store.reading() as connection:
        runs = runs_of_job(connection, JobId.of("8"))
        assert [run.start_at for run in runs] == [T0, T0, T0 + 200, None]
        element = runs_of_job(connection, JobId.of("8[3]"))
        assert [run.shown_id for run in element] == ["8[3]"]
        assert runs_of_job(connection, JobId.of("9")) == []
        assert runs_of_job(connection, JobId.of("8"), "c2") == []
    assert [[one.program for one in of_run(store, "8", n)] for n in range(4)] == [
        ["/first"],
        ["/of/element"],
        ["/second"],
        ["/later"],
    ]


def why(store: Store, job_id: str) -> list[str]:
    with store.reading() as connection:
        return list(stories.why(connection, JobId.of(job_id), [tell]))


def test_why_tells_the_programs(tree: Store) -> None:
    add_processes(
        tree,
        a_process(None, T0 + 4, kind="gap", processes=0, lost_events=3, **NO_CPU),
        a_process(None, T0 + DAY, kind="gap", processes=0, lost_events=99, **NO_CPU, host="n1", started_at=T0 + HOUR),
    )
    story = why(tree, "7")
    told = story[story.index("  60 executions, 69.0 s of CPU, 69% of the 100 s that the batch system measured.") :]
    assert told == [
        "  60 executions, 69.0 s of CPU, 69% of the 100 s that the batch system measured.",
        "    /bin/reco: 1 execution, 60.0 s of CPU",
        "    /bin/date: 50 executions, 1.0 s of CPU",
        "    /bin/bash: 2 executions, 1.0 s of CPU",
        "    /bin/cc: 1 execution, 1.0 s of CPU",
        "    /bin/elsewhere: 1 execution, 1.0 s of CPU",
        "    and 5 other programs: see `batchacct procs programs 7`",
        "    2 shared objects loaded",
        "    3 events lost on n1 meanwhile: programs may be missing",
    ]


def test_why_tells_of_a_job_that_has_only_processes(store: Store) -> None:
    add_processes(store, a_process("9", T0), a_process("9", T0 + 5))
    assert why(store, "9") == [
        "processes of job 9 on c1: 2 executions, 2.0 s of CPU.",
        "  /usr/bin/reco: 2 executions, 2.0 s of CPU",
    ]
    assert why(store, "10")[0].startswith("job 10: no source has told of it")


def test_why_tells_nothing_where_there_is_nothing(store: Store) -> None:
    add(store, a_job("7", T0, T0 + HOUR))
    with store.reading() as connection:
        run = connection.execute(select(job)).one()
        assert list(tell(connection, AskedJob("7", None, run))) == []


def test_a_story_that_is_broken_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from batchacct.errors import PluginError
    from batchacct.ledger import more_stories
    from batchacct.parsing import registry

    def load(group: str, name: str) -> object:
        raise PluginError(f"{name} of {group} is broken")

    monkeypatch.setattr(registry, "names", lambda _: ["odd"])
    monkeypatch.setattr(registry, "load", load)
    (teller,) = more_stories.registered()
    assert list(teller(None, AskedJob("1", None, None))) == ["  odd of batchacct.stories is broken"]  # type: ignore[arg-type]


@pytest.fixture
def suspects(store: Store) -> Store:
    """libbad.so in two versions; a program that bears a signature; jobs, one not recorded yet, and a login that used them."""
    add(store, a_job("1", T0, T0 + HOUR), a_job("2", T0, T0 + HOUR, user_name="bob"), a_job("1", T0 + 50 * DAY, T0 + 51 * DAY))
    decide(store, {"1": "atlas", "2": "cms"})
    add_objects(
        store,
        an_object("bad", "/usr/lib64/libbad.so.1", build_id="AAAA", signature="uuid-of-lib"),
        an_object("bad", "/lib64/libc.so.6"),
        an_object("good", "/usr/lib64/libbad.so.2", build_id="bbbb"),
        an_object("odd", "/opt/50%_off/libx.so"),
    )
    add_processes(
        store,
        a_process("1", T0 + 5, object_set="bad"),
        a_process("1", T0 + 9, object_set="bad", processes=7, host="n2"),
        a_process("1", T0 + 50 * DAY, object_set="good"),
        a_process("2", T0 + 7, object_set="good", user_name="bob", build_id="aaaa", signature="uuid-of-program"),
        a_process("3", T0 + 8, object_set="odd", user_name="eve"),
        a_process(None, T0 + 6, object_set="bad", user_name="root", program="/usr/sbin/sshd"),
    )
    return store


def used(store: Store, asked: Asked = ALL, **sought: str) -> list[Use]:
    with store.reading() as connection:
        return list(uses(connection, asked, Sought(**sought), runs_of_processes(connection, asked.logged)))


def shown(found: list[Use]) -> Iterator[tuple[str | None, str, str, int]]:
    return ((one.job, one.user, one.vo, one.executions) for one in found)


def test_the_jobs_that_loaded_a_library(suspects: Store) -> None:
    found = used(suspects, library="libbad.so.1")
    assert list(shown(found)) == [("1", "alice", "atlas", 8), (None, "root", NO_JOB, 1)]
    first = found[0]
    assert (first.hosts, first.first_at, first.last_at, first.start_at, first.end_at) == (2, T0 + 5, T0 + 9, T0, T0 + HOUR)
    assert list(shown(used(suspects, library="/usr/lib64/libbad.so.?"))) == [
        ("1", "alice", "atlas", 1),
        ("1", "alice", "atlas", 8),
        ("2", "bob", "cms", 1),
        (None, "root", NO_JOB, 1),
    ]
    assert list(shown(used(suspects, library="libbad*", program="sshd"))) == [(None, "root", NO_JOB, 1)]
    assert list(shown(used(suspects, Asked(T0, T0 + DAY, ("cms",)), library="libbad*"))) == [("2", "bob", "cms", 1)]
    assert used(suspects, library="libbad") == []


def test_a_pattern_has_no_other_special_signs(suspects: Store) -> None:
    assert list(shown(used(suspects, library="/opt/50%_off/*"))) == [("3", "eve", NO_RECORD, 1)]
    assert used(suspects, library="/opt/%off/*") == []
    assert used(suspects, library="lib_ad.so.1") == []


def test_no_source_is_passed_over_in_a_search_by_marks(suspects: Store) -> None:
    """Of a host and day BSD accounting tells of OGRT's rows do not count; but they alone know of signatures."""
    add_processes(
        suspects,
        a_process("2", T0 + 20, host="n9", parser="pacct/1"),
        a_process("2", T0 + 21, host="n9", parser="ogrt/1", signature="uuid-of-another"),
    )
    assert [(one.job, one.host) for one in used(suspects, signature="uuid-of-another")] == [("2", "n9")]


def test_a_signature_or_build_id_is_the_programs_or_a_librarys(suspects: Store) -> None:
    assert list(shown(used(suspects, build_id="aaaa"))) == [
        ("1", "alice", "atlas", 8),
        ("2", "bob", "cms", 1),
        (None, "root", NO_JOB, 1),
    ]
    assert list(shown(used(suspects, signature="UUID-of-program"))) == [("2", "bob", "cms", 1)]
    assert [one.job for one in used(suspects, signature="uuid-of-lib")] == ["1", None]
    with pytest.raises(ConfigError, match="say what is looked for"):
        Sought()
