"""The rules of the real parsers through the store: lines in several loads, completed in between, against all at once.

(Toy rules stand in test_completing.py; here is what only the store shows, such as a record that was made too early.)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from batchacct.completing import complete_parts, rules_of
from batchacct.ledger.books import read_books
from batchacct.parsing import Block, Source, registry
from batchacct.store import Origin, Store, append
from batchacct.store.tables import job
from tests.pristine import with_schema
from tests.records import NOW

SAMPLES = Path(__file__).parents[1] / "samples"

COMMON = (
    "user=a group=g jobname=j queue=q ctime=1600000000 qtime=1600000000 etime=1600000000 start=1600000100 exec_host=n1/0*4 "
    "exec_vnode=(n1:ncpus=4) Resource_List.ncpus=4 run_count=1 end=1600003700 Exit_status=-11"
)
USED = " resources_used.cput=01:00:00 resources_used.walltime=01:00:00 resources_used.mem=5kb resources_used.ncpus=4"


def in_loads(store: Store, name: str, loads: Sequence[Sequence[bytes]]) -> list[tuple[object, ...]]:
    """The job records in force, by what a reader sees of them, after each load was taken and completed."""
    parser = registry.parser(name)
    rules = rules_of([("s", parser)])
    offset = 0
    for lines in loads:
        data = b"".join(line + b"\n" for line in lines)
        (parsed,) = parser.parse([Block(data, offset)], Source("s", "SITE", "c1"))
        append(store, Origin("s", "job", parser.label, f"/log/{name}"), parsed, NOW)
        complete_parts(store, rules, NOW)
        offset += len(data)
    seen = ("lrms_job_id", "array_index", "start_at", "end_at", "state", "wall_duration_s", "cpu_duration_s", "memory_virtual_kib")
    with store.reading() as connection:
        assert read_books(connection).problems == []
        columns = [job.c[column] for column in seen]
        rows = connection.execute(select(*columns).where(job.c.superseded_by.is_(None), job.c.start_at.is_not(None))).all()
    return sorted((tuple(row) for row in rows), key=repr)


@pytest.mark.parametrize("first", ["bare", "usage"])
@pytest.mark.parametrize("last", ["R", "E"])
def test_a_run_of_pbs_pro_told_twice_counts_once(sqlite_store: Store, first: str, last: str) -> None:
    """An R line without usage, and the R or E line of the same start with it, a second apart and in another load."""
    bare = f"09/13/2020 13:28:20;R;7.srv;{COMMON}".encode()
    usage = f"09/13/2020 13:28:21;{last};7.srv;{COMMON}{USED}".encode()
    order = [[bare], [usage]] if first == "bare" else [[usage], [bare]]
    (row,) = in_loads(sqlite_store, "pbs", order)
    assert (row[2], row[5], row[6]) == (1600000100, 3600, 3600)


@pytest.mark.parametrize(
    ("name", "sample"),
    [("pbs", "pbs/gratia-torque-20110908-extract.log"), ("pbs", "pbs/epcc-safe.log"), ("sge", "sge/safe-tests-sge6.acct")],
)
@pytest.mark.parametrize("seed", range(3))
def test_loads_in_any_order_make_the_same_jobs(tmp_path: Path, name: str, sample: str, seed: int) -> None:
    lines = [line for line in (SAMPLES / sample).read_bytes().split(b"\n") if line][:120]
    rng = random.Random(seed)
    shuffled = lines[:]
    rng.shuffle(shuffled)
    cuts = sorted(rng.sample(range(1, len(lines)), min(5, len(lines) - 1)))
    loads = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(lines)], strict=True)]
    outcome = []
    for number, some in enumerate(([lines], loads)):
        store = with_schema(f"sqlite:///{tmp_path}/{number}.db")
        outcome.append(in_loads(store, name, some))
        store.close()
    assert outcome[0]
    assert outcome[0] == outcome[1]
