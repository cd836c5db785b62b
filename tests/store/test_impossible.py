"""A number, or a time, that nothing can have makes its unit a reject; its neighbours are stored, and sums stay right."""

from __future__ import annotations

import pytest

from batchacct import insert
from batchacct.model import IDENTITY, INSTANT, JOB, LAST_INSTANT, MOST_CPU_S, MOST_KIB, MOST_WALL_S, PART, Record, RecordType
from batchacct.store.keys import strange_rows
from batchacct.store.tables import job as job_table
from batchacct.store.tables import reject
from cpuhours.query import usage_by
from tests.pub.site import Site, a_job, an_identity
from tests.records import job, part, rows

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


INSTANTS = [(kind, column.name) for kind in (JOB, IDENTITY, PART) for column in kind.columns if column.type == INSTANT]


def of_type(record_type: RecordType, number: int) -> Record:
    if record_type is IDENTITY:
        return {name: value for name, value in job(number).items() if name in IDENTITY.names} | {"time_kind": "submit"}
    return job(number) if record_type is JOB else part(number)


@pytest.mark.parametrize(("record_type", "column"), INSTANTS, ids=lambda value: getattr(value, "name", value))
def test_a_time_that_is_possible(record_type: RecordType, column: str) -> None:
    needed = {record_type.time_column: 1_790_000_000}
    values = [0, LAST_INSTANT, LAST_INSTANT + 1, -1, 10**15, 2**63 - 1, -(2**63)]
    records = [of_type(record_type, n) | needed | {column: value} for n, value in enumerate(values)]
    strange = strange_rows(record_type, record_type.batch(records))
    assert sorted(strange) == [2, 3, 4, 5, 6]
    assert strange[2].startswith(f"{column} is 4,102,444,800 as Unix seconds; a time before 1970 or after 2099")


@pytest.mark.parametrize("times", [{"end_at": 10**15}, {"logged_at": 10**15}, {"submit_at": -(10**12), "start_at": -5}])
def test_reports_go_on_whatever_a_script_inserts(site: Site, times: dict[str, object]) -> None:
    stored = insert(site.store, "job", [a_job(1), a_job(2) | times, a_job(3)], source="lsf")
    assert [(c.recorded, c.rejected) for c in stored] == [(2, 1)]
    assert usage_by(site.store, by="day")["jobs"].sum() == 2
    identities = insert(site.store, "identity", [an_identity(1), an_identity(2, recorded_at=10**15)], source="ce")
    assert [(c.recorded, c.rejected) for c in identities] == [(1, 1)]
    site.publish()
    site.assert_sound()


def test_one_damaged_record_costs_itself_alone(site: Site) -> None:
    stored = insert(site.store, "job", [a_job(1), a_job(2, processors=2**63 - 1), a_job(3)], source="lsf")
    assert [(c.recorded, c.rejected) for c in stored] == [(2, 1)]
    assert [row["lrms_job_id"] for row in rows(site.store, job_table)] == ["1", "3"]
    assert "processors is 9,223,372,036,854,775,807" in str(rows(site.store, reject)[0]["reason"])
    site.publish()
    assert usage_by(site.store, by="cluster")["jobs"].sum() == 2
    site.assert_sound()
