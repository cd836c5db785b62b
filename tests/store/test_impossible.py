"""A number that nothing can have makes its unit a reject; its neighbours are stored, and sums stay right."""

from __future__ import annotations

import pytest

from batchacct import insert
from batchacct.model import JOB, MOST_CPU_S, MOST_KIB, MOST_WALL_S
from batchacct.store.keys import strange_rows
from batchacct.store.tables import job as job_table
from batchacct.store.tables import reject
from cpuhours.query import usage_by
from tests.pub.site import Site, a_job
from tests.records import job, rows

LIMITS = {
    "processors": 100_000_000, "node_count": 100_000_000, "gpu_count": 100_000_000, "wall_duration_s": MOST_WALL_S,
    "cpu_duration_s": MOST_CPU_S, "memory_requested_kib": MOST_KIB, "memory_real_kib": MOST_KIB, "memory_virtual_kib": MOST_KIB,
}  # fmt: skip


@pytest.mark.parametrize("column", LIMITS)
def test_what_is_possible(column: str) -> None:
    most = LIMITS[column]
    values = [None, 0, most, most + 1, -1, 2**63 - 1, -(2**63)]
    strange = strange_rows(JOB, JOB.batch([job(n) | {column: value} for n, value in enumerate(values)]))
    assert sorted(strange) == [3, 4, 5, 6]
    assert strange[3] == f"{column} is {most + 1:,}; it is from 0 to {most:,}"


def test_one_damaged_record_costs_itself_alone(site: Site) -> None:
    stored = insert(site.store, "job", [a_job(1), a_job(2, processors=2**63 - 1), a_job(3)], source="lsf")
    assert [(c.recorded, c.rejected) for c in stored] == [(2, 1)]
    assert [row["lrms_job_id"] for row in rows(site.store, job_table)] == ["1", "3"]
    assert "processors is 9,223,372,036,854,775,807" in str(rows(site.store, reject)[0]["reason"])
    site.publish()
    assert usage_by(site.store, by="cluster")["jobs"].sum() == 2
    site.assert_sound()
