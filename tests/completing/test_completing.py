"""Records out of parts: whatever the order of arrival and however collecting was cut up, the records in force are the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from batchacct.clock import shown
from batchacct.completing import Rule, again, complete_parts, rules_of
from batchacct.errors import PluginError
from batchacct.ledger.books import read_books
from batchacct.ledger.job_ids import JobId
from batchacct.ledger.stories import trace_unit, why
from batchacct.model import JOB, whole_key
from batchacct.parsing import Block, Completed, Completion, Outcome, Part, Source, Whole, unit_parser
from batchacct.store import Origin, Store, append
from batchacct.store.tables import job, load, part
from tests.pristine import with_schema
from tests.records import NOW

SOURCE = Source("farm", "SITE", "c1")


def tasks_of(whole: Whole) -> list[Completed]:
    """A record as soon as the master is there, with the CPU time of it and of all tasks."""
    masters = [row for row in whole.parts if row["kind"] == "master"]
    cpu = sum(json.loads(str(row["usage"]))["cpu"] for row in whole.parts)
    return [
        Completed(
            {
                "record_key": f"tasks:{whole.key}", "lrms_job_id": whole.key, "join_id": whole.key, "logged_at": row["logged_at"],
                "end_at": row["logged_at"], "cpu_duration_s": cpu, "state": "completed",
            },
            row,
        )
        for row in masters
    ]  # fmt: skip


TASKS = Completion("tasks", JOB, tasks_of)


@unit_parser("tasks", "job", lrms="Test", completion=TASKS)
def tasks(unit: bytes, source: Source) -> Outcome:
    """`master ID TIME CPU` and `task ID TIME CPU`."""
    kind, number, time, cpu = unit.decode().split()
    usage = json.dumps({"cpu": int(cpu)})
    key = f"{kind}:{number}:{time}"
    return Part({"record_key": key, "part_key": number, "kind": kind, "logged_at": int(time), "usage": usage})


def noted(whole: Whole) -> list[Completed]:
    """The record in force, with the notes about it: how many, and `cancelled` if one says so."""
    notes = [str(row["kind"]) for row in whole.parts]
    record_of = {name: whole.records[0][name] for name in JOB.names} if whole.records else {}
    changed = {"state": "cancelled" if "deleted" in notes else "completed", "node_count": len(notes)}
    return [Completed(record_of | changed, whole.records[0])] if whole.records else []


NOTES = Completion("notes", JOB, noted, amends=True)


@unit_parser("notes", "job", lrms="Test", completion=NOTES)
def notes(unit: bytes, source: Source) -> Outcome:
    """`ended ID[INDEX] TIME`, a record, and notes about it: `deleted ID TIME`, `started ID TIME`."""
    kind, job_id, time = unit.decode().split()
    number, _, index = job_id.removesuffix("]").partition("[")
    array_index = int(index) if index else None
    ids = {"join_id": number, "array_index": array_index, "logged_at": int(time), "record_key": unit.decode()}
    if kind == "ended":
        return {**ids, "lrms_job_id": number, "state": "completed"}
    return Part({**ids, "part_key": whole_key(number, array_index), "kind": kind})


RULES = rules_of([("farm", tasks), ("farm2", notes)])


def take(store: Store, *units: str, offset: int = 0, source: str = "farm") -> None:
    parser = tasks if source == "farm" else notes
    block = Block("".join(f"{unit}\n" for unit in units).encode(), offset)
    (parsed,) = parser.parse([block], Source(source, "SITE", "c1"))
    assert not parsed.rejects
    append(store, Origin(source, "job", parser.label, f"/var/log/{source}"), parsed, NOW)


def in_force(store: Store) -> list[dict[str, object]]:
    """What a reader of the job table sees, without what numbers the rows."""
    numbering = {"id", "revision", "superseded_by", "content_hash", "source_offset"}
    with store.reading() as connection:
        rows = connection.execute(select(job).where(job.c.superseded_by.is_(None))).mappings().all()
    seen = [{name: value for name, value in row.items() if name not in numbering} for row in rows]
    return sorted(seen, key=lambda row: str(row["record_key"]))


def test_parts_become_a_record_with_the_origin_of_one(store: Store) -> None:
    take(store, "task 7 100 5", "master 7 110 20", "task 8 120 1")
    assert complete_parts(store, RULES, NOW) == 1
    (row,) = in_force(store)
    wanted = {"cpu_duration_s": 25, "native": b"master 7 110 20", "source": "farm", "parser": "tasks/1", "site": "SITE"}
    assert {name: row[name] for name in wanted} == wanted
    with store.reading() as connection:
        books = read_books(connection)
        assert (books.balanced, books.problems, books.parts_waiting) == (True, [], {"tasks task": 1})
        assert (books.sources[0].units, books.sources[0].merged, books.sources[0].completed) == (3, 3, 1)


def test_a_late_part_revises_the_record_and_a_repetition_changes_nothing(store: Store) -> None:
    take(store, "master 7 110 20")
    assert complete_parts(store, RULES, NOW) == 1
    take(store, "task 7 100 5", offset=100)
    assert complete_parts(store, RULES, NOW) == 1
    assert [row["cpu_duration_s"] for row in in_force(store)] == [25]
    take(store, "task 7 100 5", "master 7 110 20", offset=200)
    assert complete_parts(store, RULES, NOW) == 0
    again(store, RULES)
    assert complete_parts(store, RULES, NOW) == 0
    with store.reading() as connection:
        assert read_books(connection).problems == []
        assert len(connection.execute(select(job.c.id)).all()) == 2


def test_notes_amend_the_record_that_stands_already_and_no_other(store: Store) -> None:
    take(store, "started 7[1] 100", "ended 7[1] 110", "ended 7[2] 110", "ended 9 110", source="farm2")
    take(store, "deleted 7[1] 108", offset=100, source="farm2")
    assert complete_parts(store, RULES, NOW) == 1
    states = {(row["join_id"], row["array_index"]): (row["state"], row["node_count"]) for row in in_force(store)}
    assert states == {("7", 1): ("cancelled", 2), ("7", 2): ("completed", None), ("9", None): ("completed", None)}


def test_a_record_may_return_to_what_it_was(store: Store) -> None:
    """The rule is mended twice: the second time it says what it said at first."""
    take(store, "started 7 100", "ended 7 110", source="farm2")
    for count in (5, 6, 5):

        def rule(whole: Whole, count: int = count) -> list[Completed]:
            return [Completed({n: r[n] for n in JOB.names} | {"node_count": count}, r) for r in whole.records]

        rules = [Rule(Completion("notes", JOB, rule, amends=True), ("farm2",))]
        again(store, rules)
        assert complete_parts(store, rules, NOW) == 1
        assert [row["node_count"] for row in in_force(store)] == [count]


def test_a_rule_that_fails_on_one_whole_keeps_its_parts_and_completes_the_others(store: Store) -> None:
    def careless(whole: Whole) -> list[Completed]:
        if whole.key == "7":
            raise KeyError("colour")
        return tasks_of(whole)

    take(store, "master 7 110 20", "master 8 110 20")
    rules = [Rule(Completion("tasks", JOB, careless), ("farm",))]
    assert complete_parts(store, rules, NOW) == 1
    assert [row["join_id"] for row in in_force(store)] == ["8"]
    again(store, RULES)
    assert complete_parts(store, RULES, NOW) == 1
    assert [row["join_id"] for row in in_force(store)] == ["7", "8"]


def test_a_record_that_does_not_fit_is_left_out(store: Store) -> None:
    def misfit(whole: Whole) -> list[Completed]:
        return [Completed(c.record | {"processors": "many"}, c.origin) for c in tasks_of(whole)]

    take(store, "master 7 110 20")
    assert complete_parts(store, [Rule(Completion("tasks", JOB, misfit), ("farm",))], NOW) == 0
    assert in_force(store) == []


UNITS = ("task 7 100 5", "master 7 110 20", "task 7 105 1", "master 8 110 2", "task 9 110 3")
NOTED = ("started 7 90", "ended 7 100", "deleted 7 99", "ended 7[3] 100", "started 7[3] 91", "deleted 8 100", "ended 9 1")


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # a failure takes minutes to shrink
@given(st.permutations(UNITS), st.permutations(NOTED), st.lists(st.sampled_from("|c"), max_size=16), st.data())
def test_the_order_of_arrival_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory, ours: Sequence[str], theirs: Sequence[str], cuts: Sequence[str], data: st.DataObject
) -> None:
    outcome = []
    arrivals = [("farm", unit) for unit in ours] + [("farm2", unit) for unit in theirs]
    for some in (arrivals, data.draw(st.permutations(arrivals))):
        store = with_schema(f"sqlite:///{tmp_path_factory.mktemp('store')}/b.db")
        for number, (source, unit) in enumerate(some):
            take(store, unit, offset=1000 * number, source=source)
            if number < len(cuts) and cuts[number] == "c":
                complete_parts(store, RULES, NOW)
        complete_parts(store, RULES, NOW)
        with store.reading() as connection:
            books = read_books(connection)
        assert books.problems == []
        outcome.append((in_force(store), books.parts_waiting))
        store.close()
    assert outcome[0] == outcome[1]
    assert len(outcome[0][0]) == 5


def test_stories_tell_of_parts(sqlite_store: Store) -> None:
    take(sqlite_store, "started 7 100", "ended 7 110", "started 8 120", source="farm2")
    complete_parts(sqlite_store, RULES, NOW)
    with sqlite_store.reading() as connection:
        told = "\n".join(why(connection, JobId.of("8")))
        assert told.startswith(f"part: started of 8, logged {shown(120)}, read from /var/log/farm2, byte 26")
        assert told.endswith("it waits for others, there is no record of its whole yet")
        told = "\n".join(why(connection, JobId.of("7")))
        assert "job 7 on c1: completed" in told
        assert "part: started of 7" in told
        followed = "\n".join(trace_unit(connection, "/var/log/farm2", 3))
        assert "part: started of 7" in followed
        assert "job 7 on c1: completed" in followed


def test_loads_without_parts_are_not_looked_at_again(sqlite_store: Store) -> None:
    take(sqlite_store, "master 7 110 20")
    complete_parts(sqlite_store, RULES, NOW)
    with sqlite_store.reading() as connection:
        assert connection.scalar(select(load.c.id).where(load.c.completed_at.is_(None))) is None
        assert connection.scalar(select(part.c.id).where(part.c.used_at.is_(None))) is None


def test_two_rules_for_one_family_are_refused() -> None:
    other = unit_parser("other", "job", lrms="Test", completion=Completion("tasks", JOB, lambda whole: []))(tasks.parse_unit)
    with pytest.raises(PluginError, match="two parsers have different rules for the parts of family tasks"):
        rules_of([("a", tasks), ("b", other)])


def test_many_loads_are_completed_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchacct.completing.ROWS_PER_STEP", 3)
    store = with_schema(f"sqlite:///{tmp_path}/b.db")
    for number in range(10):
        take(store, f"master {number} 110 1", f"task {number + 1} 110 1", offset=1000 * number)
    assert complete_parts(store, RULES, NOW) >= 10
    assert [row["cpu_duration_s"] for row in in_force(store)] == [1] + [2] * 9
    store.close()
