"""Usage records per application: valid by the schemas, and of the figures that were put in by hand, on every database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from sqlalchemy import insert, update

from batchacct.config import Config
from batchacct.parsing import registry
from batchacct.store import Store
from batchacct.store.tables import benchmark, usage
from batchacct.usage_record import Format
from procacct.asking.asked import Asked
from procacct.asking.runs import runs_of_processes
from procacct.asking.usage_records import OF_RUN, Records, reasons, usage_records
from tests.procacct.workload import DAY, HOUR, T0, a_job, a_process, add, add_processes, decide
from tests.usage_record_reader import CAR, UR, Record, assert_valid, read_records

BASE: dict[str, Any] = {
    "site": "TEST-SITE",
    "database": {"url": "sqlite:////nowhere"},
    "cluster": [{"name": "c1", "machine_name": "master.example.org"}],
    "application": [{"name": "Reconstruction", "programs": ["*/reco"]}],
}
ALL = Asked(T0, T0 + DAY)
NAMESPACES = {"ur-1.0": UR, "car-1.2": CAR}


@pytest.fixture
def farm(store: Store) -> Store:
    """Job 1 ran an application as two programs on two hosts, and a shell; element 2 of job 5 ran it; job 3 is not joined."""
    add(
        store,
        a_job("1", T0, T0 + HOUR),
        a_job("3", T0, T0 + HOUR),
        a_job("5", T0, T0 + HOUR, array_index=2, user_name="bob", state="failed"),
    )
    decide(store, {"1": "atlas", "5": "cms"})
    with store.writing() as connection:
        row = {"id": 1, "cluster": "*", "type": "HEPscore23", "value": 10.0, "per_host_factor": 0, "valid_from": 0}
        connection.execute(insert(benchmark).values(**row, valid_until=2**40, active=1))
        connection.execute(update(usage).values(benchmark_id=1))
    add_processes(
        store,
        a_process("1", T0 + 5, T0 + 105, cpu_user_s=60.0, cpu_system_s=30.0, memory_real_kib=1000),
        a_process("1", T0 + 9, T0 + 59, program="/opt/reco", host="n2", cpu_user_s=9.0, cpu_system_s=1.0, memory_real_kib=3000),
        a_process("1", T0 + 1, T0 + 110, program="/bin/bash", cpu_user_s=0.4, cpu_system_s=0.0),
        a_process("5", T0 + 7, T0 + 17, array_index=2, user_name="bob", cpu_user_s=7.0, cpu_system_s=0.0),
        a_process("3", T0 + 7, processes=4),
        a_process("4", T0 + 7),
        a_process(None, T0 + 7),
    )
    return store


def made(store: Store, per: str, asked: Asked = ALL, **sections: object) -> Records:
    with store.reading() as connection:
        runs = replace(runs_of_processes(connection, asked.logged), more=OF_RUN)
        return usage_records(connection, Config.model_validate({**BASE, **sections}), asked, runs, per)


def read(records: Records, form: str) -> list[Record]:
    """What a reader of the format finds in a message that is valid by its schema."""
    writer = cast("Format", registry.load(registry.FORMATS, form))
    rendered = writer.render(records.batch, T0 + DAY)
    assert set(rendered.reasons.to_pylist()) == {None}
    payload = writer.message(rendered.records)
    assert_valid(payload, NAMESPACES[form])
    return read_records(payload, NAMESPACES[form])


@pytest.mark.parametrize("form", list(NAMESPACES))
def test_a_record_of_each_application_of_each_job(farm: Store, form: str) -> None:
    found = {str(record["LocalJobId"]): record for record in read(made(farm, "job"), form)}
    assert sorted(found) == ["1:Reconstruction", "1:bash", "5-2:Reconstruction"]
    reco = found["1:Reconstruction"]
    assert (reco["JobName"], reco["WallDuration"], reco["NodeCount"]) == ("Reconstruction", 150, 2)
    assert (reco["StartTime"], reco["EndTime"]) == (T0 + 5, T0 + 105)
    assert (found["1:bash"]["JobName"], found["1:bash"]["WallDuration"]) == ("bash", 109)
    assert found["5-2:Reconstruction"]["WallDuration"] == 10
    cpu = {name: [value for key, value in record.items() if key.startswith("CpuDuration")][-1] for name, record in found.items()}
    assert cpu == {"1:Reconstruction": 100, "1:bash": 0, "5-2:Reconstruction": 7}


def test_a_record_of_each_application_and_account(farm: Store) -> None:
    records = made(farm, "account", publish={"personal": "all"})
    rows = records.batch.to_pylist()
    found = {(r["job_name"], r["local_user_id"], r["vo"], r["exec_hosts"]): r["cpu_duration_s"] for r in rows}
    assert found == {
        ("Reconstruction", "alice", "atlas", '["1*n1"]'): 90,
        ("Reconstruction", "alice", "atlas", '["1*n2"]'): 10,
        ("Reconstruction", "bob", "cms", '["1*n1"]'): 7,
        ("bash", "alice", "atlas", '["1*n1"]'): 0,
    }
    assert len({row["local_job_id"] for row in rows}) == 4
    assert [r["local_job_id"] for r in made(farm, "account", publish={"personal": "all"}).batch.to_pylist()] == [
        r["local_job_id"] for r in rows
    ]
    for form in NAMESPACES:
        assert len(read(records, form)) == 4


def test_what_is_in_no_record_is_counted(farm: Store) -> None:
    records = made(farm, "job")
    assert records.left_out == {"(not joined yet)": 4, "(job not recorded)": 1, "(no batch job)": 1}
    assert "4 executions in no record, as no VO of theirs is known: not joined yet." in list(reasons(records.left_out))
    assert "1 execution in no record, as no VO of theirs is known: job not recorded." in list(reasons(records.left_out))
    assert made(farm, "job", Asked(T0, T0 + DAY, ("cms",))).batch.num_rows == 1


def test_names_go_out_as_the_policy_of_publishing_says(farm: Store) -> None:
    with_names = {row["local_job_id"]: row for row in made(farm, "job").batch.to_pylist()}
    assert (with_names["1:bash"]["local_user_id"], with_names["1:bash"]["global_user_name"]) == ("alice", "/CN=1")
    without = made(farm, "job", publish={"personal": "none"}).batch
    assert set(without.column("local_user_id").to_pylist()) == set(without.column("global_user_name").to_pylist()) == {None}
    assert made(farm, "account", publish={"personal": "none"}).batch.num_rows == 4


def test_what_is_told_of_the_job(farm: Store) -> None:
    row = next(row for row in made(farm, "job").batch.to_pylist() if row["local_job_id"] == "5-2:Reconstruction")
    told = {name: row[name] for name in ("site", "submit_host", "machine_name", "vo", "fqan", "infrastructure_type", "state")}
    assert told == {
        "site": "TEST-SITE",
        "submit_host": "ce01.example.org:8443/x",
        "machine_name": "master.example.org",
        "vo": "cms",
        "fqan": "/cms",
        "infrastructure_type": "grid",
        "state": "failed",
    }
    assert (row["service_level_type"], row["service_level"], row["array_index"], row["queue"]) == ("HEPscore23", 10.0, 2, "long")
    assert (row["memory_real_kib"], row["infrastructure_description"]) == (None, "BATCHACCT-SLURM")
