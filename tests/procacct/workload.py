"""Jobs and processes put into a store by hand, for tests of what is asked about them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from sqlalchemy import insert as insert_into
from sqlalchemy import select

import batchacct
from batchacct.model import OBJECT, PROCESS, PROCESS_GROUP, RecordType, content_hash
from batchacct.store import Origin, Store, append
from batchacct.store.tables import identity, job, usage, vo_mapping
from tests.records import NOW, parsed

T0 = 1_793_491_200
"""2026-11-01, when the first job starts."""
HOUR, DAY = 3600, 86_400
_numbers = itertools.count(1)

Columns = Mapping[str, object]


def a_job(join_id: str, start: int, end: int, **columns: object) -> dict[str, object]:
    """A run of a job, of half its wall time as CPU unless told otherwise."""
    return {
        "cluster": "c1", "lrms": "Slurm", "lrms_job_id": join_id, "join_id": join_id, "user_name": "alice", "queue": "long",
        "submit_at": start - 60, "start_at": start, "end_at": end, "logged_at": end + 1, "wall_duration_s": end - start,
        "cpu_duration_s": (end - start) // 2, "processors": 1, "state": "completed", **columns,
    }  # fmt: skip


def a_process(join_id: str | None, start: int, end: int | None = None, **columns: object) -> dict[str, object]:
    """A process of a job that used the CPU for a second, and ended ten after its start unless told otherwise."""
    number = next(_numbers)
    end = start + 10 if end is None else end
    return {
        "record_key": f"n1/boot1/{number}/{start}/1", "cluster": "c1", "lrms_job_id": join_id, "join_id": join_id, "host": "n1",
        "boot_id": "boot1", "pid": number, "user_name": "alice", "user_id": 1000, "kind": "program", "started_at": start,
        "start_ns": start * 10**9, "end_ns": end * 10**9, "logged_at": end, "elapsed_s": float(end - start), "cpu_user_s": 0.75,
        "cpu_system_s": 0.25, "program": "/usr/bin/reco", "command": "reco", "ended_by": "exit", "exit_code": 0, "processes": 1,
        "seen_by": '["connector","sensor"]', "parser": "procs/1", **columns,
    }  # fmt: skip


def an_object(object_set: str, path: str, seen_at: int = T0, **columns: object) -> dict[str, object]:
    key = f"{object_set}/{next(_numbers)}"
    return {"record_key": key, "cluster": "c1", "object_set": object_set, "path": path, "host": "n1", "seen_at": seen_at, **columns}


def a_membership(pid: object, start: int, group: str, **columns: object) -> dict[str, object]:
    left = start + 10
    return {
        "record_key": f"n1/boot1/{group}/{pid}/{start}", "cluster": "c1", "host": "n1", "boot_id": "boot1", "group_id": group,
        "group_name": f"group {group}", "made_by": "hand", "owner": "root", "pid": pid, "start_ns": start * 10**9,
        "joined_ns": start * 10**9, "left_ns": left * 10**9, "left_at": left, "inherited": 1, **columns,
    }  # fmt: skip


def add(store: Store, *jobs: Columns) -> None:
    """Each call is a load, of jobs."""
    counts = batchacct.insert(store, "job", jobs, source="slurm")
    assert sum(c.recorded for c in counts) == len(jobs), counts


def add_processes(store: Store, *rows: Columns) -> None:
    _add(store, PROCESS, rows)


def add_objects(store: Store, *rows: Columns) -> None:
    _add(store, OBJECT, rows)


def add_memberships(store: Store, *rows: Columns) -> None:
    _add(store, PROCESS_GROUP, rows)


def _add(store: Store, record_type: RecordType, rows: Iterable[Columns]) -> None:
    complete = []
    for offset, row in enumerate(rows):
        unit = repr(row).encode()
        origin = {
            "content_hash": content_hash(unit),
            "native": unit,
            "source": "procs",
            "source_offset": offset,
            "parser": "procs/1",
        }
        complete.append(origin | dict(row))
    counts, _ = append(
        store, Origin("procs", record_type.name, "procs/1", "/procs"), parsed(complete, record_type=record_type), NOW
    )
    assert counts.recorded == len(complete), counts


def decide(store: Store, vo_of: Mapping[str, str]) -> None:
    """The ledger's word on all jobs: of those whose `lrms_job_id` is there the VO, told by an identity; others are not joined."""
    with store.writing() as connection:
        mapping = next(_numbers)
        plain = dict.fromkeys(("user_name", "group_name", "project", "issuer", "subject"), "x")
        connection.execute(
            insert_into(vo_mapping).values(
                **plain, id=mapping, rules_hash="r", asked_hash=f"a{mapping}", vo="local-nonlcg", fqan="/x", rule="default"
            )
        )
        runs = connection.execute(select(job.c.id, job.c.lrms_job_id, job.c.logged_at).where(job.c.lrms_job_id.in_(vo_of))).all()
    for run in runs:
        told = {
            "cluster": "c1", "lrms_job_id": f"{run.id}", "recorded_at": run.logged_at, "vo": vo_of[run.lrms_job_id],
            "dn": f"/CN={run.lrms_job_id}", "ce_id": "ce01.example.org:8443/x", "fqan": f"/{vo_of[run.lrms_job_id]}",
        }  # fmt: skip
        batchacct.insert(store, "identity", [told], source="ce")
        with store.writing() as connection:
            who = connection.scalar(select(identity.c.id).where(identity.c.lrms_job_id == f"{run.id}"))
            row = {"job_id": run.id, "logged_at": run.logged_at, "outcome": "joined", "mapping_id": mapping}
            connection.execute(insert_into(usage).values(**row, identity_id=who, identity_at=run.logged_at))
