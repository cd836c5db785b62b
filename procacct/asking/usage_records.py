"""Usage records per application: what each application used in each job, or under each account, as records that go to a receiver.

A record is of one application (`[[application]]`, else the name of the program's file) in one run of a job; or under one account,
of one VO, on one host, over the whole period. Of what no VO is known yet (a job that is not recorded or not joined, a process in no
job) there is none: it is counted.

`JobName` is the application, `CpuDuration` and `WallDuration` are sums over its executions, so the latter may be longer than the
time from start to end; `LocalJobId` is the job's with the application, or the application with a hash of the rest. Whose names go
out and as what `[publish]` says, as for the records of jobs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, select

from batchacct.config import Config
from batchacct.ledger.whose import NOT_JOINED, UNKNOWN, WAITING
from batchacct.names import Names
from batchacct.store.tables import benchmark, identity, job, process, usage, vo_mapping
from batchacct.store.vos import IS_MAPPED
from batchacct.usage_record import USAGE_RECORD
from procacct.asking.applications import Applications
from procacct.asking.asked import NO_JOB, NO_RECORD, PROGRAM, USER, Asked, vo_of
from procacct.asking.coverage import counted
from procacct.asking.runs import Runs, is_of_run

PER = ("job", "account")
GRID, LOCAL = "grid", "local"

_TOLD = {name: identity.c[name] for name in ("dn", "token_issuer", "token_subject", "ce_id", "global_job_id")}
_OF_VO = {name: case((~IS_MAPPED, identity.c[name])) for name in ("fqans", "vo_group", "vo_role")}
OF_RUN: Mapping[str, ColumnElement[Any]] = {
    "outcome": usage.c.outcome,
    "identity_id": usage.c.identity_id,
    "benchmark_id": usage.c.benchmark_id,
    **_TOLD,
    **_OF_VO,
    "fqan": case((IS_MAPPED, vo_mapping.c.fqan), else_=identity.c.fqan),
    **{name: job.c[name] for name in ("queue", "site", "state", "host_factor", "processors", "lrms")},
}
"""What usage records need of a run beside the usual: `Runs.more`."""

_OF_JOB = ("lrms_job_id", "array_index", "start_at", "end_at", *OF_RUN)
_UNDECIDED = frozenset({NO_JOB, NO_RECORD, NOT_JOINED, WAITING, UNKNOWN})


@dataclass(frozen=True, slots=True)
class Records:
    """Rows of `USAGE_RECORD`, and how many executions are in none, by the reason."""

    batch: pa.RecordBatch
    left_out: Mapping[str, int]


@dataclass(slots=True)
class _Growing:
    """One record: what it is of, and its sums so far."""

    first: Row[Any]
    account: str | None
    level: tuple[str, float] | None
    hosts: set[str] = field(default_factory=set)
    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    elapsed_s: float = 0.0
    start_at: int = 2**62
    end_at: int = 0
    memory_real_kib: int | None = None
    memory_virtual_kib: int | None = None

    def add(self, row: Row[Any]) -> None:
        self.hosts.add(row.host)
        self.cpu_user_s += float(row.cpu_user_s)
        self.cpu_system_s += float(row.cpu_system_s)
        self.elapsed_s += float(row.elapsed_s)
        self.start_at, self.end_at = min(self.start_at, row.first_at), max(self.end_at, row.last_at)
        for name in ("memory_real_kib", "memory_virtual_kib"):
            known = [value for value in (getattr(self, name), getattr(row, name)) if value is not None]
            setattr(self, name, max(known, default=None))


def usage_records(connection: Connection, config: Config, asked: Asked, runs: Runs, per: str) -> Records:
    """The records of the processes asked about, per one of `PER`; `runs` are theirs, with `OF_RUN` as `more`.

    Raises: ConfigError for a key of pseudonyms that cannot be used.
    """
    applications, names, levels = Applications(config.application), Names.of(config), _levels(connection)
    growing: dict[tuple[object, ...], _Growing] = {}
    left_out: Counter[str] = Counter()
    for row in connection.execution_options(yield_per=10_000).execute(_sums(asked, runs)):
        if row.vo in _UNDECIDED:
            left_out[row.vo] += int(row.executions)
            continue
        application = applications.of(row.program, row.signature, row.modules)
        named = config.publish.personal == "all" or (config.publish.personal == GRID and row.identity_id is not None)
        account = names.of_account(row.who) if named else None
        level = _level(levels, row)
        whose = row.run_id if per == "job" else (row.vo, row.host, row.cluster, level)
        key = (application, account, whose)
        growing.setdefault(key, _Growing(row, account, level)).add(row)
    made = []
    for number, (which, of) in enumerate(sorted(growing.items(), key=lambda item: repr(item[0])), 1):
        name = str(which[0])
        record = _of_application(config, name, of) | {"job_id": number, "local_job_id": f"{name}:{_digest(which, asked)}"}
        made.append(record if per == "account" else record | _of_run(config, names, of.first, name))
    return Records(USAGE_RECORD.batch(made), dict(left_out))


def _sums(asked: Asked, runs: Runs) -> Select[Any]:
    run = runs.shared_out()
    keys = {
        "program": PROGRAM, "signature": process.c.signature, "modules": process.c.modules, "who": USER, "host": process.c.host,
        "cluster": process.c.cluster, "vo": vo_of(run), "run_id": run.c.run_id, **{name: run.c[name] for name in _OF_JOB},
    }  # fmt: skip
    measured = ("cpu_user_s", "cpu_system_s", "elapsed_s")
    one = (
        select(
            *(column.label(name) for name, column in keys.items()),
            *(func.coalesce(process.c[name], 0.0).label(name) for name in measured),
            process.c.processes,
            process.c.started_at,
            process.c.logged_at,
            process.c.memory_real_kib,
            process.c.memory_virtual_kib,
        )
        .select_from(process.outerjoin(run, is_of_run(run)))
        .where(*asked.processes(), *asked.of_vo(run))
        .subquery("one")
    )
    of = [one.c[name] for name in keys]
    return select(
        *of,
        *(func.sum(one.c[name]).label(name) for name in measured),
        func.sum(one.c.processes).label("executions"),
        func.min(one.c.started_at).label("first_at"),
        func.max(one.c.logged_at).label("last_at"),
        *(func.max(one.c[name]).label(name) for name in ("memory_real_kib", "memory_virtual_kib")),
    ).group_by(*of)


Level = tuple[str, float, bool]
"""A benchmark: its name, its value, and whether it is for a host factor of 1."""


def _levels(connection: Connection) -> dict[int, Level]:
    columns = (benchmark.c.id, benchmark.c.type, benchmark.c.value, benchmark.c.per_host_factor)
    return {row.id: (row.type, row.value, bool(row.per_host_factor)) for row in connection.execute(select(*columns))}


def _level(levels: Mapping[int, Level], row: Row[Any]) -> tuple[str, float] | None:
    """The benchmark of one core for a run; with a host factor its whole part, as for jobs."""
    if row.benchmark_id not in levels:
        return None
    kind, value, per_host = levels[row.benchmark_id]
    if not per_host:
        return kind, value
    return None if row.host_factor is None else (kind, float(math.floor(value * row.host_factor)))


def _of_application(config: Config, application: str, of: _Growing) -> dict[str, object]:
    """What every record says."""
    row = of.first
    cluster = config.cluster_named(row.cluster)
    return {
        "site": config.site,
        "submit_host": cluster.submit_host or cluster.machine_name or cluster.name,
        "machine_name": cluster.machine_name,
        "local_user_id": of.account,
        "vo": row.vo,
        "wall_duration_s": round(of.elapsed_s),
        "cpu_duration_s": round(of.cpu_user_s + of.cpu_system_s),
        "node_count": len(of.hosts),
        "start_at": of.start_at,
        "end_at": of.end_at,
        "infrastructure_type": LOCAL,
        "infrastructure_description": _description(config, row.lrms),
        "memory_real_kib": of.memory_real_kib,
        "memory_virtual_kib": of.memory_virtual_kib,
        "service_level_type": of.level and of.level[0],
        "service_level": of.level and of.level[1],
        "job_name": application,
        "cpu_user_s": of.cpu_user_s,
        "cpu_system_s": of.cpu_system_s,
        "exec_hosts": json.dumps([f"1*{host}" for host in sorted(of.hosts)]),
    }


def _of_run(config: Config, names: Names, row: Row[Any], application: str) -> dict[str, object]:
    """What a record says beyond that where it is of a run of a job."""
    template = config.publish.local_job_id if row.array_index is None else config.publish.local_job_id_array
    of_id = template.format(id=row.lrms_job_id, index=row.array_index, cluster=row.cluster)
    grid = row.identity_id is not None
    person = None
    if config.publish.personal != "none" and grid:
        token = "/".join(filter(None, ((row.token_issuer or "").rstrip("/"), row.token_subject))) or None
        person = row.dn or token
    return {
        "site": row.site or config.site,
        **({"submit_host": row.ce_id} if grid and row.ce_id else {}),
        "queue": row.queue,
        "local_job_id": f"{of_id}:{application}",
        "array_index": row.array_index,
        "global_user_name": None if person is None else names.of_person(person),
        "fqan": ";".join(json.loads(row.fqans)) if row.fqans else row.fqan,
        "vo_group": row.vo_group,
        "vo_role": row.vo_role,
        "processors": row.processors,
        "infrastructure_type": GRID if grid else LOCAL,
        "global_job_id": row.global_job_id,
        "state": row.state,
    }


def _description(config: Config, lrms: str | None) -> str:
    template = config.publish.description.replace("-{ce}", "").replace("{ce}-", "")
    return template.format(ce="", lrms=(lrms or "").upper())


def _digest(key: tuple[object, ...], asked: Asked) -> str:
    """What tells records of one application apart, the same whenever the period is asked for again."""
    return hashlib.blake2b(repr((key, asked.begin, asked.end)).encode(), digest_size=6).hexdigest()


def reasons(left_out: Mapping[str, int]) -> Iterator[str]:
    for what, executions in sorted(left_out.items()):
        yield f"{counted(executions, 'execution')} in no record, as no VO of theirs is known: {what.strip('()')}."
