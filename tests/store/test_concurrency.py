"""Several collectors on one database at once: nothing lost, nothing doubled, nobody stuck."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from batchacct.errors import BusyError
from batchacct.store import Counts, Store, append
from batchacct.store.tables import job as job_table
from batchacct.store.tables import seen_hour, setting
from tests.records import LOGGED_AT, NOTHING, NOW, ORIGIN, holdings, job, parsed, rows
from tests.scripts_2012 import until
from tests.servers import MariaServer

ROUNDS, PER_ROUND = 4, 800
OTHER_PROCESS = """\
import sys
from batchacct.store import Store, append
from tests.records import NOW, ORIGIN, job, parsed
store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 10):
    append(store, ORIGIN, parsed([job(number * 10 + n) for n in range(10)]), NOW)
"""


def append_all(url: str, together: threading.Barrier, batches: list[list[int]], unit: bytes) -> list[Counts]:
    store = Store(url)
    counts = []
    for numbers in batches:
        together.wait(60)
        counts.append(append(store, ORIGIN, parsed([job(n, unit) for n in numbers]), NOW)[0])
    store.close()
    return counts


@pytest.mark.parametrize("same_content", [True, False], ids=["same records", "revisions"])
def test_two_at_once_with_the_same_keys_in_opposite_orders(store: Store, database_url: str, same_content: bool) -> None:
    """What each inserts, the other waits for: without care a deadlock, or two records that both believe to be the first."""
    upwards = [list(range(start, start + PER_ROUND)) for start in range(0, ROUNDS * PER_ROUND, PER_ROUND)]
    downwards = [numbers[::-1] for numbers in upwards]
    together = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(append_all, database_url, together, upwards, b"one")
        other = pool.submit(append_all, database_url, together, downwards, b"one" if same_content else b"other")
        counts = one.result() + other.result()
    stored = rows(store, job_table)
    total = ROUNDS * PER_ROUND
    assert sum(c.recorded for c in counts) == len(stored) == (total if same_content else 2 * total)
    assert sum(c.known for c in counts) == (total if same_content else 0)
    in_force = [row["record_key"] for row in stored if row["superseded_by"] is None]
    assert sorted(map(str, in_force)) == sorted(f"lsf1:{n}" for n in range(total))


def test_processes_at_once(store: Store, database_url: str) -> None:
    command = [sys.executable, "-c", OTHER_PROCESS, database_url]
    starts = (0, 5, 10)  # each shares half its records with the next
    processes = [
        subprocess.Popen(
            [*command, str(start)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
        )
        for start in starts
    ]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n", timeout=120)
        assert process.returncode == 0
    assert {row["record_key"] for row in rows(store, job_table)} == {f"lsf1:{n}" for n in range(200)}
    assert holdings(store) | {"load": 0} == NOTHING | {"job": 200}


def test_a_lock_is_held_by_one_at_a_time(store: Store, database_url: str) -> None:
    other = Store(database_url)
    with store.lock("publish"):
        with pytest.raises(BusyError, match="another process is doing `publish`"), other.lock("publish"):
            pass
        with other.lock("something else"):
            pass
    with other.lock("publish"):
        pass
    other.close()


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
def test_an_append_that_the_database_undid_is_done_again(store: Store, mariadb: MariaServer) -> None:
    """A deadlock with somebody who has changed more, and so has the right of way."""
    append(store, ORIGIN, parsed([job(1)]), NOW)
    with ThreadPoolExecutor(1) as pool:
        with store.writing() as other:
            other.execute(insert(setting), [{"name": f"of another {n}", "value": "", "since": 0} for n in range(500)])
            other.execute(select(seen_hour).with_for_update()).all()
            appending = pool.submit(append, store, ORIGIN, parsed([job(1), job(2, logged_at=LOGGED_AT + 9)]), NOW)
            until(lambda: mariadb.execute("SHOW STATUS LIKE 'Innodb_row_lock_current_waits'").split()[-1] == "1")
            store.dialect.append_alone(other)
        counts, _ = appending.result(60)
    assert mariadb.execute("SHOW STATUS LIKE 'Innodb_deadlocks'").split()[-1] == "1"
    assert (counts.recorded, counts.known) == (1, 1)
    assert holdings(store)["job"] == 2
