"""What was published of a month, summed as the receiver sums it: whole cells, from the ledger, set-based.

A job counts in the month (UTC) it ended in. Counted is what goes out as records do (`joined` and `local` in the ledger), without
what is refused: what a record of the job would be refused for, and what `kept_back` says was. The database sums over the raw
values which a cell depends on; what those are published as is then worked out by the very functions that make records of jobs
(`usage_records`, the rules of `formats.apel`), and the receiver's reading of an FQAN comes last. So the sum over the
records of a month equals its cells, each of them, to the second.

A cell is always sent whole, as the receiver replaces it. So a month of which jobs are archived or were purged has none: what is
left in the database would take the place of the whole. Nothing is lost by that: only what was handed over and confirmed is
archived, and nothing comes to such a month any more, so that what was last sent of it stays true. `db recall` puts one back.
The same goes for a month whose jobs have lost the names of people (`[retention] personal_data`): their cells would be new ones.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from sqlalchemy import BigInteger, ColumnElement, Connection, Select, and_, case, cast, func, literal, or_, select

from batchacct.archive.anonymising import PREFIX
from batchacct.archive.holdings import archived, despite_archiving
from batchacct.archive.months import month_name, month_of, next_month
from batchacct.config import Config
from batchacct.errors import ConfigError, IncompleteError
from batchacct.model import INTEGER, JOB, TEXT
from batchacct.store import Store
from batchacct.store.columns import SHORT_TEXT
from batchacct.store.sent import GO_OUT, NOT_FOR_IT, REFUSED
from batchacct.store.spans import DAY, IS_OF_JOB, LATE, when_ended
from batchacct.store.tables import benchmark, identity, job, kept_back, usage
from batchacct.store.vos import IS_MAPPED
from pub.formats.apel import ALLOWED_AHEAD_S, FIELDS, checked
from pub.formats.text import LARGEST_INTEGER, Sheet, by_distinct
from pub.usage_records import GATHERED, gathering, usage_records

MONTHS_AT_ONCE = 12
"""Of so many months the cells are asked for in one query."""

DEFAULT_FORMAT = "apel-summary-0.2"

UNKNOWN = "None"
"""What the receiver keeps for a VO, group or role it is told nothing of."""

FQANS_BEGIN = 1000
"""So many characters of the list of FQANs tell the primary one, or that it is too long to be written."""

_TEXTS = (
    *("cluster", "site", "global_user_name", "ce_id", "fqans", "primary_fqan", "vo", "vo_group", "vo_role", "service_level_type"),
)
_INTEGERS = ("processors", "node_count", "identity_id", "per_host_factor")
_REALS = ("host_factor", "benchmark_value")
_OF_RECORD = (*_TEXTS, *_INTEGERS, *_REALS)
"""The raw values on which a cell depends, by their names in `GATHERED`; of the identity only whether there is one."""

_GROUPED = pa.schema(
    [
        *(pa.field(name, GATHERED.field(name).type) for name in _OF_RECORD),
        pa.field("fault", TEXT),
        *(pa.field(name, INTEGER) for name in ("month", "jobs", "wall_s", "cpu_s", "earliest", "latest")),
    ]
)

_LABELS = (
    *("Site", "SubmitHost", "GlobalUserName", "FQAN", "VO", "VOGroup", "VORole", "Processors", "NodeCount"),
    *("InfrastructureType", "ServiceLevelType", "ServiceLevel"),
)
_FIELDS = tuple(f for f in FIELDS if f.label in _LABELS)
"""The lines of a record that make its cell."""


class Cell(NamedTuple):
    """What the jobs of a cell have in common, as texts of a message; `month` is the Unix second it begins at."""

    site: str
    month: int
    global_user_name: str | None
    vo: str
    vo_group: str
    vo_role: str
    submit_host: str | None
    infrastructure_type: str | None
    service_level_type: str
    service_level: str
    node_count: int
    processors: int


@dataclass(slots=True)
class Sums:
    """What the jobs of a cell come to: how many, seconds, and when the first and the last of them ended (Unix seconds)."""

    jobs: int
    wall_s: int
    cpu_s: int
    earliest: int
    latest: int

    def add(self, other: Sums) -> None:
        self.jobs += other.jobs
        self.wall_s += other.wall_s
        self.cpu_s += other.cpu_s
        self.earliest, self.latest = min(self.earliest, other.earliest), max(self.latest, other.latest)


@dataclass
class Summaries:
    """The cells of some months; jobs that are in none, by reason; jobs without an optional value that could not be written, by
    `field: reason`; months of which there are no cells, and why; months some of whose names are pseudonyms."""

    cells: dict[Cell, Sums] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    held: dict[int, str] = field(default_factory=dict)
    pseudonymous: set[int] = field(default_factory=set)

    def add(self, cell: Cell, sums: Sums) -> None:
        if cell in self.cells:
            self.cells[cell].add(sums)
        else:
            self.cells[cell] = sums


def summaries(store: Store, config: Config, months: Sequence[int], now: int) -> Summaries:
    """The cells of these months (each the Unix second it begins at).  Raises: StoreError, ArchiveError."""
    return despite_archiving(store, lambda: _summaries(store, config, months, now))


def _summaries(store: Store, config: Config, months: Sequence[int], now: int) -> Summaries:
    found, months = Summaries(), sorted(months)
    with store.reading() as connection:
        for start in range(0, len(months), MONTHS_AT_ONCE):
            some = months[start : start + MONTHS_AT_ONCE]
            held = archived_of(connection, some)
            found.held |= held
            whole = [month for month in some if month not in held]
            if whole:
                rows = store.dialect.fetch(connection, _grouped(connection, config, whole, now), _GROUPED)
                _take(found, rows, config, now)
    return found


def require_whole(found: Summaries) -> None:
    """Raises: IncompleteError if the cells of a month are not what they were, or cannot be known: they would replace the whole."""
    missing = {month: f"{month_name(month)}: {why}" for month, why in found.held.items()}
    for month in found.pseudonymous - set(missing):
        missing[month] = (
            f"{month_name(month)}: names of people were taken out of its jobs, so that its cells are others than before"
        )
    if missing:
        told = "; ".join(text for _, text in sorted(missing.items()))
        raise IncompleteError(f"a summary replaces what was sent of a month, and is sent of a whole one alone. {told}")


def require_begun(months: Sequence[int], now: int) -> None:
    """Raises: ConfigError for a month that is to come."""
    if max(months) > now:
        raise ConfigError(f"{month_name(max(months))} has not begun: the receiver refuses it")


def months_with_jobs(store: Store, now: int) -> list[int]:
    """The months in which jobs ended that are in the database and go out, oldest first."""
    going = and_(usage.c.outcome.in_(GO_OUT), job.c.end_at.between(1, now + ALLOWED_AHEAD_S))
    days = select((job.c.end_at // DAY).label("day")).select_from(usage.join(job, IS_OF_JOB)).where(going).distinct()
    with store.reading() as connection:
        return sorted({month_of(int(day) * DAY) for day in connection.scalars(days)})


def archived_of(connection: Connection, months: Sequence[int]) -> dict[int, str]:
    """Those of the months of whose jobs some are archived, or may have been purged, and the sentence that says so."""
    first, last = min(months), next_month(max(months))
    jobs: dict[int, Counter[int]] = {}
    told: dict[int, str] = {}
    for one in archived(connection, JOB):
        if one.purged[0]:
            why = f"job records logged in {month_name(one.month)} were purged from the archive, perhaps some of this month"
            told |= {month: why for month in months if month <= one.month}
        if one.file is not None and next_month(one.month) > first - LATE:
            from batchacct.archive.querying import archived_rows  # noqa: PLC0415 - slow to import

            asked = _counted_by_month(months, first, last)
            for month, count in archived_rows(connection, asked, first=one.month, last=next_month(one.month) - 1):
                if month is not None:
                    jobs.setdefault(month, Counter())[one.month] += count
    for month, by_file in jobs.items():
        where = " and ".join(f"`batchacct db recall {month_name(logged)}`" for logged in sorted(by_file))
        told[month] = f"{by_file.total():,} of its jobs are archived; {where} puts them back"
    return told


def _counted_by_month(months: Sequence[int], first: int, last: int) -> Select[int, int]:
    going = and_(usage.c.outcome.in_(GO_OUT), job.c.end_at >= first, job.c.end_at < last)
    ended = select(_month(months).label("month")).select_from(job.join(usage, IS_OF_JOB)).where(going).subquery()
    return select(ended.c.month, func.count()).group_by(ended.c.month)


def _refused_by_first(config: Config) -> ColumnElement[bool]:
    """What the first destination's format has refused, or its filter passed over: summaries are for its receiver."""
    of_row = and_(kept_back.c.job_id == usage.c.job_id, kept_back.c.step == usage.c.step)
    return and_(of_row, kept_back.c.destination == config.destinations[0].name, kept_back.c.kind.in_([REFUSED, NOT_FOR_IT]))


def _month(months: Sequence[int]) -> ColumnElement[int]:
    """The month a job ended in; null if it is none of these."""
    return case(*((and_(job.c.end_at >= month, job.c.end_at < next_month(month)), literal(month, BigInteger)) for month in months))


def _grouped(connection: Connection, config: Config, months: Sequence[int], now: int) -> Select[Any]:
    """Sums over the raw values a cell depends on; grouping is by columns of an inner query (see `cpuhours.query`)."""
    first, last = months[0], next_month(months[-1])
    period = when_ended(connection, first, last, identities=True)
    going = (
        select(usage, kept_back.c.reason.label("refused_for"))
        .select_from(usage.outerjoin(kept_back, _refused_by_first(config)))
        .where(usage.c.outcome.in_(GO_OUT), period.logged.has(usage.c.logged_at))
        .subquery("going")
    )
    one = (
        gathering(going, config, period.logged, period.identities)
        .add_columns(
            case((going.c.identity_id.is_not(None), 1)).label("is_grid"),
            case((benchmark.c.per_host_factor == 1, job.c.host_factor)).label("used_factor"),
            case((~IS_MAPPED, cast(func.substr(identity.c.fqans, 1, FQANS_BEGIN), SHORT_TEXT))).label("fqans_begin"),
            func.coalesce(going.c.refused_for, _fault(now)).label("fault"),
            _month(months).label("month"),
        )
        .where(job.c.end_at >= first, job.c.end_at < last)
        .subquery("one")
    )
    instead = {"identity_id": one.c.is_grid, "host_factor": one.c.used_factor, "fqans": one.c.fqans_begin}
    keys = [instead.get(name, one.c[name]) for name in _OF_RECORD] + [one.c.fault, one.c.month]
    wall, cpu = (cast(func.sum(one.c[name]), BigInteger) for name in ("wall_duration_s", "cpu_duration_s"))
    sums = (func.count(), wall, cpu, func.min(one.c.end_at), func.max(one.c.end_at))
    named = zip(_GROUPED.names, [*keys, *sums], strict=True)
    return select(*(value.label(name) for name, value in named)).where(one.c.month.is_not(None)).group_by(*keys)


def _fault(now: int) -> ColumnElement[str | None]:
    """Why a record of the job would be refused, of what is not the same for all jobs of a group; the words are those of records."""
    j = job.c

    def beyond(label: str, value: ColumnElement[int]) -> tuple[ColumnElement[bool], str]:
        return or_(value < 0, value > LARGEST_INTEGER), f"{label} is negative or over {LARGEST_INTEGER}"

    faults: list[tuple[ColumnElement[bool], str]] = [
        (j.wall_duration_s.is_(None), "WallDuration is missing"),
        beyond("WallDuration", j.wall_duration_s),
        beyond("CpuDuration", func.coalesce(j.cpu_duration_s, 0)),
        (j.start_at < 1, "StartTime is not after 1970-01-01T00:00:00Z"),
        (j.end_at < 1, "EndTime is not after 1970-01-01T00:00:00Z"),
        (j.start_at > j.end_at, "StartTime is after EndTime"),
        (j.end_at > now + ALLOWED_AHEAD_S, "EndTime is more than 2 days ahead"),
    ]
    return case(*((condition, literal(reason)) for condition, reason in faults))


def _take(found: Summaries, rows: pa.RecordBatch, config: Config, now: int) -> None:
    """Adds groups to the cells they belong to."""
    fault = rows.column("fault")
    faulty = rows.filter(fault.is_valid())
    for reason, jobs in zip(_values(faulty, "fault"), _values(faulty, "jobs"), strict=True):
        found.refused[reason] += jobs
    rows = rows.filter(fault.is_null())
    if config.publish.personal != "none":
        named = zip(_values(rows, "global_user_name"), _values(rows, "month"), strict=True)
        found.pseudonymous |= {month for name, month in named if (name or "").startswith(PREFIX)}
    sheet = Sheet(rows.num_rows, rows.column("jobs").to_numpy())
    lines = checked(sheet, _FIELDS, usage_records(_as_gathered(rows), config), now)
    rendered = sheet.rendered([])
    found.left_out.update(rendered.left_out)
    columns = [lines[label].to_pylist() for label in _LABELS]
    numbers = [_values(rows, name) for name in ("month", "jobs", "wall_s", "cpu_s", "earliest", "latest")]
    for reason, texts, (month, *sums) in zip(
        rendered.reasons.to_pylist(), zip(*columns, strict=True), zip(*numbers, strict=True), strict=True
    ):
        if reason is None:
            found.add(_cell(month, dict(zip(_LABELS, texts, strict=True))), Sums(*sums))
        else:
            found.refused[reason] += sums[0]


def _values(rows: pa.RecordBatch, name: str) -> list[Any]:
    return rows.column(name).to_pylist()


def _as_gathered(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The groups as jobs, without what is not the same for all jobs of one."""
    count = rows.num_rows
    known = {name: rows.column(name) for name in _OF_RECORD}
    known |= {"job_id": pa.array([0] * count, INTEGER), "fqans": by_distinct(known["fqans"], primary_alone)}
    columns = [known[field.name] if field.name in known else pa.nulls(count, field.type) for field in GATHERED]
    return pa.RecordBatch.from_arrays(columns, schema=GATHERED)


def primary_alone(begin: str) -> str:
    """The beginning of a JSON list of FQANs as a list of the first one; one that is cut off is too long as it is."""
    at = len(begin) - len(begin[1:].lstrip())
    try:
        first, end = json.JSONDecoder().raw_decode(begin, at)
    except ValueError:
        return begin if begin[at:] == "]" else json.dumps([begin[at + 1 :]])
    is_only_one = begin[end:].lstrip() == "]"
    return json.dumps([first] if first or is_only_one else ["", ""])


def _cell(month: int, line: dict[str, Any]) -> Cell:
    told = [line[label] or UNKNOWN for label in ("VO", "VOGroup", "VORole")]
    vo, group, role = as_loaded(line["FQAN"]) if line["FQAN"] else told
    return Cell(
        site=line["Site"],
        month=month,
        global_user_name=line["GlobalUserName"],
        vo=vo,
        vo_group=group,
        vo_role=role,
        submit_host=line["SubmitHost"],
        infrastructure_type=line["InfrastructureType"],
        service_level_type=line["ServiceLevelType"],
        service_level=line["ServiceLevel"],
        node_count=int(line["NodeCount"] or 0),
        processors=int(line["Processors"] or 0),
    )


def as_loaded(fqan: str) -> tuple[str, str, str]:
    """VO, group and role that apel/apel 2.5.0 stores for a published FQAN, which begins with `/`; it looks at the first of several.

    It differs from `batchacct.fqan` where there is no role: a capability is a part of the group then; and an empty VO stays one.
    """
    elements = fqan.split(";", 1)[0].split("/")[1:]
    groups: list[str] = []
    role = UNKNOWN
    for element in filter(None, elements):
        if element.lower().startswith("role="):
            role = element
            break
        groups.append(f"/{element}")
    return elements[0], "".join(groups), role


@dataclass
class Counts:
    """How many jobs, by site, submit host and month (for a sync message), and what is not in them, as in `Summaries`."""

    jobs: Counter[tuple[str, str | None, int]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    held: dict[int, str] = field(default_factory=dict)


def counts(store: Store, config: Config, months: Sequence[int], now: int) -> Counts:
    """The jobs of these months, so many at a time that memory does not grow with them.  Raises: StoreError, ArchiveError."""
    found = Counts()
    for start in range(0, len(months), MONTHS_AT_ONCE):
        some = summaries(store, config, months[start : start + MONTHS_AT_ONCE], now)
        for cell, sums in some.cells.items():
            found.jobs[cell.site, cell.submit_host, cell.month] += sums.jobs
        found.refused.update(some.refused)
        found.held |= some.held
    return found
