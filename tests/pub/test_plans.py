"""What a run costs does not grow with what was published long ago: SQLite, which has no statistics, must take the indexes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPICursor

from batchacct.store import Store
from tests.pub.site import Site, a_job, an_identity

LARGE = re.compile(r"SCAN (job|identity|usage|usage_history|message|old|new|older)\b")
EXPLAINED = re.compile(r"\s*(SELECT|UPDATE|DELETE|INSERT INTO \w+ \(.*\) SELECT)", re.DOTALL)


@pytest.fixture
def plans(sqlite_store: Store) -> dict[str, list[str]]:
    """Statement to plan, filled as statements are executed."""
    found: dict[str, list[str]] = {}

    def explain(_: object, cursor: DBAPICursor, statement: str, parameters: Sequence[object], *rest: object) -> None:
        if rest[-1] is False and EXPLAINED.match(statement) and statement not in found:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            found[statement] = [str(row[-1]) for row in cursor.fetchall()]

    event.listen(sqlite_store.engine, "before_cursor_execute", explain)
    return found


def test_a_run_scans_no_large_table(sqlite_store: Store, plans: dict[str, list[str]]) -> None:
    site = Site(sqlite_store)
    site.jobs(*(a_job(n, queue="short") for n in range(20)))
    site.publish()
    site.jobs(*(a_job(n + 20) for n in range(10)), a_job(5, queue="short", cpu_duration_s=7))
    site.identities(*(an_identity(n) for n in range(25)))
    plans.clear()
    site.publish()
    assert {step: statement for statement, plan in plans.items() for step in plan if LARGE.match(step)} == {}
    by_id_and_time = "identity_join (join_id=? AND recorded_at>? AND recorded_at<?)"
    assert any(by_id_and_time in step for plan in plans.values() for step in plan), "ids come again: others are not read"
    assert not any(statement.startswith("UPDATE usage") for statement in plans), "the ledger is not written to when a record leaves"
    by_step = re.compile(r"SEARCH usage USING (COVERING )?INDEX usage_outcome \(outcome=\? AND step")
    assert any(by_step.match(step) for plan in plans.values() for step in plan)


def test_the_books_scan_indexes_but_not_the_records(sqlite_store: Store, plans: dict[str, list[str]]) -> None:
    site = Site(sqlite_store)
    site.jobs(a_job(queue="short"))
    site.publish()
    plans.clear()
    site.books()
    scans = {step for plan in plans.values() for step in plan if LARGE.match(step) and "USING" not in step}
    assert scans == {"SCAN message"}, "that one adds up columns before the payload, and never reads one"
