"""Rows of the ledger as usage records: a query that gathers a job and all that was decided about it, and what derives from it."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import FromClause, Select, and_, case, false, func, select, true

from batchacct.config import Cluster, Config
from batchacct.config_mapping import LOCAL
from batchacct.fqan import parse_fqan
from batchacct.model import INTEGER, REAL, TEXT
from batchacct.names import Names
from batchacct.store.spans import Span
from batchacct.store.tables import benchmark, identity, job, vo_mapping
from batchacct.store.vos import IS_MAPPED
from pub.formats.contract import ON_REQUEST, USAGE_RECORD
from pub.formats.text import blanked, by_distinct, holds, joined, valid

if TYPE_CHECKING:
    from pub.formats.text import Values

_TEXTS = (
    *("cluster", "lrms", "queue", "lrms_job_id", "site", "local_user_id", "global_user_name", "ce_id", "fqans", "primary_fqan"),
    *("vo", "vo_group", "vo_role", "service_level_type"),
)
_INTEGERS = (
    *("job_id", "step", "array_index", "wall_duration_s", "cpu_duration_s", "processors", "node_count", "start_at", "end_at"),
    *("memory_real_kib", "memory_virtual_kib", "identity_id", "per_host_factor"),
)
_REALS = ("host_factor", "benchmark_value")

GATHERED = pa.schema([(name, kind) for names, kind in ((_TEXTS, TEXT), (_INTEGERS, INTEGER), (_REALS, REAL)) for name in names])
"""What `gathering` selects, in this order, for every format."""


def gathered_for(wants: frozenset[str]) -> pa.Schema:
    """What `gathering` selects, in this order, for a format that wants these columns as well."""
    return pa.schema([*GATHERED, *(pa.field(c.name, c.type) for c in ON_REQUEST if c.name in wants)])


def gathering(rows: FromClause, config: Config, logged: Span, recorded: Span, wants: frozenset[str] = frozenset()) -> Select[Any]:
    """For rows of `usage`: everything of job, identity, VO mapping and benchmark that a usage record is made of.

    `logged` and `recorded`: between which times those jobs and identities are; `wants`: see `gathered_for`.
    """
    names = gathered_for(wants).names
    of_job = and_(job.c.id == rows.c.job_id, job.c.logged_at == rows.c.logged_at, logged.has(job.c.logged_at))
    of_identity = and_(identity.c.id == rows.c.identity_id, identity.c.recorded_at == rows.c.identity_at)
    grid = rows.c.identity_id.is_not(None)
    named = {"grid": grid, "all": true(), "none": false()}[config.publish.personal]
    token = func.rtrim(identity.c.token_issuer, "/") + "/" + identity.c.token_subject
    made = {
        "job_id": job.c.id,
        "step": rows.c.step,
        "identity_id": rows.c.identity_id,
        "cpu_duration_s": func.coalesce(job.c.cpu_duration_s, 0),
        "site": func.coalesce(job.c.site, config.site),
        "local_user_id": case((named, job.c.user_name)),
        "job_name": case((named if config.publish.pseudonym_key is None else false(), job.c.job_name)),
        "global_user_name": case((named, func.coalesce(identity.c.dn, token, identity.c.token_subject))),
        "vo": case((IS_MAPPED, vo_mapping.c.vo), else_=identity.c.vo),
        "primary_fqan": case((IS_MAPPED, vo_mapping.c.fqan), else_=identity.c.fqan),
        **{name: case((~IS_MAPPED, identity.c[name])) for name in ("fqans", "vo_group", "vo_role")},
        "service_level_type": benchmark.c.type,
        "benchmark_value": benchmark.c.value,
        "per_host_factor": benchmark.c.per_host_factor,
        "service_levels": benchmark.c.also,
    }
    told = {name: identity.c[name] for name in ("ce_id", "global_job_id")}
    columns = {**{name: job.c[name] for name in names if name in job.c}, **told, **made}
    return select(*(columns[name].label(name) for name in names)).select_from(
        rows.join(job, of_job)
        .outerjoin(identity, and_(of_identity, recorded.has(identity.c.recorded_at)))
        .join(vo_mapping, vo_mapping.c.id == rows.c.mapping_id)
        .join(benchmark, benchmark.c.id == rows.c.benchmark_id)
    )


def usage_records(gathered: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """What was gathered as records of type `usage_record`, in the same order."""
    column = gathered.column
    publish = config.publish
    cluster, ce_id, index = column("cluster"), column("ce_id"), column("array_index")

    def of_cluster(value: Callable[[Cluster], str | None]) -> Values:
        return by_distinct(cluster, lambda name: value(config.cluster_named(name)))

    people = Names.of(config)
    vo_group, vo_role = _groups_and_roles(gathered)
    filled = {
        "global_user_name": by_distinct(column("global_user_name"), people.of_person),
        "local_user_id": by_distinct(column("local_user_id"), people.of_account),
        "vo_group": vo_group,
        "vo_role": vo_role,
        "submit_host": pc.coalesce(ce_id, of_cluster(lambda c: c.submit_host or c.machine_name or c.name)),
        "machine_name": of_cluster(lambda c: c.machine_name),
        "local_job_id": pc.if_else(
            index.is_valid(),
            _from_template(publish.local_job_id_array, gathered),
            _from_template(publish.local_job_id, gathered),
        ),
        "fqan": pc.coalesce(by_distinct(column("fqans"), _joined_fqans), column("primary_fqan")),
        "infrastructure_type": pc.if_else(column("identity_id").is_valid(), "grid", "local"),
        "infrastructure_description": _descriptions(publish.description, ce_id, column("lrms")),
        "service_level": _service_levels(gathered),
    }
    if "service_levels" in gathered.schema.names:
        filled["service_levels"] = _all_service_levels(gathered, filled["service_level"])
    present = {name: column(name) for name in gathered.schema.names}
    nothing = {c.name: pa.nulls(gathered.num_rows, c.type) for c in ON_REQUEST}  # type: ignore[call-overload]
    columns = {**nothing, **present, **filled}
    arrays = [columns[c.name] for c in USAGE_RECORD.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=USAGE_RECORD.schema)


def _joined_fqans(fqans: str) -> str | None:
    return ";".join(json.loads(fqans)) or None


def _from_template(template: str, gathered: pa.RecordBatch) -> Values:
    """`{id}`, `{index}` and `{cluster}` of a template replaced, row by row; null where one of them is."""
    names = {"id": "lrms_job_id", "index": "array_index", "cluster": "cluster"}
    pieces: list[Values | str] = []
    for literal, name, _, _ in string.Formatter().parse(template):
        pieces.append(literal)
        if name is not None:
            pieces.append(gathered.column(names[name]).cast(TEXT))
    return joined(*pieces)


def _descriptions(template: str, ce_id: Values, lrms: Values) -> Values:
    """`BATCHACCT-CREAM-LSF`; without a CE its place and dash are left out."""
    kinds = by_distinct(ce_id.fill_null(""), kind_of_ce)

    def described(kind_and_lrms: str) -> str:
        kind, _, name = kind_and_lrms.partition("\t")
        filled = template if kind else template.replace("-{ce}", "").replace("{ce}-", "")
        return filled.format(ce=kind, lrms=name.upper())

    return by_distinct(joined(kinds, "\t", lrms), described)


def kind_of_ce(ce_id: str) -> str:
    """CREAM, ARC, HTCONDORCE, GLOBUS, from the spelling of the CE id; nothing without one."""
    kinds = (("cream", "CREAM"), ("nordugrid", "ARC"), ("condor", "HTCONDORCE"), ("jobmanager", "GLOBUS"))
    return next((kind for word, kind in kinds if word in ce_id.lower()), "CE" if ce_id else "")


def _service_levels(gathered: pa.RecordBatch) -> Values:
    """The benchmark of one core; with a host factor its whole part, as in 2012."""
    value, factor = (gathered.column(n).to_numpy(zero_copy_only=False) for n in ("benchmark_value", "host_factor"))
    scaled = gathered.column("per_host_factor").to_numpy(zero_copy_only=False).astype(bool)
    return pa.array(np.where(scaled, np.floor(value * factor), value), REAL)


def _all_service_levels(gathered: pa.RecordBatch, level: Values) -> Values:
    """All benchmarks of one core, where there are several, each scaled as the one of `level` is."""
    also, kind = gathered.column("service_levels"), gathered.column("service_level_type")
    if also.null_count == gathered.num_rows:
        return also
    scaled = pc.equal(gathered.column("per_host_factor"), pa.scalar(1))
    factor = pc.if_else(scaled, gathered.column("host_factor").cast(TEXT), "")

    def together(text: str) -> str:
        name, figure, times, others = text.split("\t")
        more = {other: math.floor(value * float(times)) if times else value for other, value in json.loads(others).items()}
        return json.dumps({name: float(figure), **{other: float(value) for other, value in more.items() if value > 0}})

    return by_distinct(joined(kind, "\t", level.cast(TEXT), "\t", factor, "\t", also), together)


def _groups_and_roles(gathered: pa.RecordBatch) -> tuple[Values, Values]:
    """Group and role of each VO; of a grid job whose FQAN is one of the rules', those that are in it."""
    group, role, fqan = (gathered.column(name) for name in ("vo_group", "vo_role", "primary_fqan"))
    told = valid(group) | valid(role) | ~valid(gathered.column("identity_id"))
    by_rule = valid(fqan) & ~told & ~holds(pc.starts_with(fqan, f"/{LOCAL}"))
    if not by_rule.any():
        return group, role
    found = blanked(fqan, ~by_rule)
    groups, roles = by_distinct(found, lambda text: parse_fqan(text).group), by_distinct(found, lambda text: parse_fqan(text).role)
    return pc.coalesce(group, groups), pc.coalesce(role, roles)
