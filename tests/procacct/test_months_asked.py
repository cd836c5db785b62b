"""What is asked of one month looks into the partitions of no other, as the database itself explains its statements."""

from __future__ import annotations

import pytest

from batchacct.store import Store
from batchacct.store.months import Month
from batchacct.store.partitions import TABLES
from batchacct.store.partitions import add as add_partitions
from procacct.asking.accounting_question import Question
from procacct.asking.accounting_store import sums_of_store, who_told
from procacct.asking.asked import Asked
from procacct.asking.recall import Sought, uses
from procacct.asking.runs import runs_of_processes
from tests.procacct.workload import DAY, T0, a_membership, a_process, add_memberships, add_objects, add_processes, an_object
from tests.store.explains import touched

MONTHS = [Month.at(T0)]
while len(MONTHS) < 8:
    MONTHS.append(Month.at(MONTHS[-1].end))
ASKED = MONTHS[5]


@pytest.fixture
def months(store: Store) -> Store:
    if store.dialect.partitions is None:
        pytest.skip("SQLite has no partitions")
    for table in TABLES:
        add_partitions(store, table, MONTHS)
    for number, month in enumerate(MONTHS):
        at = month.start + 10 * DAY
        add_processes(store, a_process(None, at, pid=number, object_set=f"set{number}"))
        add_processes(store, a_process(None, at, pid=number + 100, parser="pacct/1", boot_id=None, start_ns=None, end_ns=None))
        add_objects(store, an_object(f"set{number}", "/lib64/libssl.so.3", month.start + DAY, build_id="aa"))
        add_memberships(store, a_membership(number, at, "a"))
    return store


def test_processes_by_group(months: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question(ASKED.start, ASKED.end)
    with touched(months, monkeypatch) as seen, months.reading() as connection:
        who_told(connection, question)
        assert set(sums_of_store(connection, question, "group").by_key) == {("n1", "a", "group a")}
    assert seen["process"] == {str(ASKED)}
    assert seen["process_group"] & {str(month) for month in MONTHS[:5]} == set()


def test_who_has_loaded_a_library(months: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(ASKED.start, ASKED.end)
    for sought in (Sought(library="libssl*"), Sought(build_id="aa")):
        with touched(months, monkeypatch) as seen, months.reading() as connection:
            runs = runs_of_processes(connection, asked.logged)
            assert [use.executions for use in uses(connection, asked, sought, runs)] == [1]
        assert seen["process"] == {str(ASKED)}
        assert str(ASKED) in seen["object"]
        assert seen["object"] <= {str(month) for month in MONTHS[2:7]}, (
            "at most 62 days before the month, and the instant at its end"
        )
