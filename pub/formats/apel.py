"""APEL individual job messages, v0.2, v0.3 and v0.4, as apel/apel 2.5.0 loads them.

A message is a header line and then records of `Field: value` lines, each ended by `%%`; times are Unix seconds,
durations seconds, memory is KiB. One faulty record costs a whole message, and the sender is not told: so every record
is checked here against what the loader and its database take, and a faulty one is refused alone. v0.4 differs in one
line, `ServiceLevel: {hepscore23: 12.5, hepspec: 11.4}`, of which the loader takes the first it knows. v0.2 has fewer fields
and knows Si2k and HEPSPEC alone: it gets one of these where a record has several benchmarks.

Sources: apel/apel (db/records/job.py, db/loader, schemas/server.sql), EGI documentation "Grid Accounting".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pub.formats.text import Sheet, blanked, by_distinct, content_of, decimal_text, holds, joined, stripped, valid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pub.formats.contract import Rendered
    from pub.formats.text import Values

    Rule = Callable[[Sheet, "Field", Values], Values]

ALLOWED_AHEAD_S = 2 * 86_400
"""The loader takes jobs that ended up to two days after its own clock."""

BENCHMARKS = ("Si2k", "HEPSPEC", "HEPscore23")
BENCHMARKS_02 = ("HEPSPEC", "Si2k")
"""Those that v0.2 knows, the better one first."""

SEVERAL = frozenset(("service_levels",))

_VO_NAME = r"^[A-Za-z0-9._-]+$"


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a record: its name in the message, its column, its rule, and how long a text may be.

    The rule checks the column, tells the sheet what it refuses or leaves out, and returns the values as texts, null for
    no line.
    """

    label: str
    column: str
    rule: Rule
    limit: int = 255


def key(sheet: Sheet, field: Field, values: Values) -> Values:
    return sheet.key(field.label, values, field.limit)


def text(sheet: Sheet, field: Field, values: Values) -> Values:
    return sheet.text(field.label, values, field.limit)


def vo_text(sheet: Sheet, field: Field, values: Values) -> Values:
    """As `text`, but `None` and `null` stay: here alone the loader takes them for what they say."""
    return sheet.text(field.label, values, field.limit, keep_null_words=True)


def fqan(sheet: Sheet, field: Field, values: Values) -> Values:
    """All FQANs; only the primary one where all are too long; none where that is too long as well, or is no path.

    What is no path is left out because the loader would take the whole of it for the VO, whatever the VO line says.
    """
    texts, lengths = stripped(values)
    no_path = (lengths >= 0) & ~holds(pc.starts_with(texts, "/"))
    sheet.note_left_out(no_path, f"{field.label}: does not begin with `/`")
    too_long = (lengths > field.limit) & ~no_path
    if too_long.any():
        primary, primary_lengths = stripped(pc.replace_substring_regex(texts.filter(pa.array(too_long)), ";.*$", ""))
        fits = np.zeros(len(texts), dtype=np.bool_)
        fits[too_long] = primary_lengths <= field.limit
        texts = pc.replace_with_mask(texts, pa.array(too_long), primary)
        sheet.note_left_out(fits, f"{field.label}: longer than {field.limit} characters, all but the primary one")
        sheet.note_left_out(too_long & ~fits, f"{field.label}: longer than {field.limit} characters")
        too_long &= ~fits
    return blanked(texts, no_path | too_long)


def required_integer(sheet: Sheet, field: Field, values: Values) -> Values:
    return sheet.integer(field.label, values, required=True)


def integer(sheet: Sheet, field: Field, values: Values) -> Values:
    return sheet.integer(field.label, values, required=False)


def memory(sheet: Sheet, field: Field, values: Values) -> Values:
    return sheet.size(field.label, values)


def instant(sheet: Sheet, field: Field, values: Values) -> Values:
    sheet.refuse(~valid(values), f"{field.label} is missing")
    sheet.refuse(holds(pc.less(values, pa.scalar(1))), f"{field.label} is not after 1970-01-01T00:00:00Z")
    return values.cast(pa.string())


def benchmark_of(*names: str) -> Rule:
    """The benchmark as the loader's documentation spells it; one of no such name refuses the row."""
    keys, spelled = pa.array([name.lower() for name in names]), pa.array(names)

    def benchmark_name(sheet: Sheet, field: Field, values: Values) -> Values:
        position = pc.index_in(pc.utf8_lower(values), value_set=keys)
        sheet.refuse(~valid(values), f"{field.label} is missing")
        sheet.refuse(~valid(position), f"{field.label} is none of {', '.join(names)}")
        return spelled.take(position)

    return benchmark_name


def benchmark(sheet: Sheet, field: Field, values: Values) -> Values:
    return sheet.decimal(field.label, values)


BENCHMARK_NAME = Field("ServiceLevelType", "service_level_type", benchmark_of(*BENCHMARKS))
BENCHMARK = Field("ServiceLevel", "service_level", benchmark)

FIELDS = (
    Field("Site", "site", key),
    Field("SubmitHost", "submit_host", text),
    Field("MachineName", "machine_name", text),
    Field("Queue", "queue", text, 100),
    Field("LocalJobId", "local_job_id", key),
    Field("LocalUserId", "local_user_id", text),
    Field("GlobalUserName", "global_user_name", text),
    Field("FQAN", "fqan", fqan),
    Field("VO", "vo", vo_text),
    Field("VOGroup", "vo_group", vo_text),
    Field("VORole", "vo_role", vo_text),
    Field("WallDuration", "wall_duration_s", required_integer),
    Field("CpuDuration", "cpu_duration_s", required_integer),
    Field("Processors", "processors", integer),
    Field("NodeCount", "node_count", integer),
    Field("StartTime", "start_at", instant),
    Field("EndTime", "end_at", instant),
    Field("InfrastructureDescription", "infrastructure_description", text, 100),
    Field("InfrastructureType", "infrastructure_type", text, 20),
    Field("MemoryReal", "memory_real_kib", memory),
    Field("MemoryVirtual", "memory_virtual_kib", memory),
    BENCHMARK_NAME,
    BENCHMARK,
)
"""A record's lines in the order in which they are written."""

_SINCE_03 = ("MachineName", "Queue", "VO", "VOGroup", "VORole", "InfrastructureDescription", "InfrastructureType")

FIELDS_02 = tuple(
    Field("ServiceLevelType", "service_level_type", benchmark_of("Si2k", "HEPSPEC")) if field is BENCHMARK_NAME else field
    for field in FIELDS
    if field.label not in _SINCE_03
)
"""Those of v0.2: the VO is in the FQAN alone, and grid and local jobs look alike."""


def checked(sheet: Sheet, fields: Sequence[Field], records: pa.RecordBatch, now: int) -> dict[str, Values]:
    """The lines of these fields as texts, by label; what is refused or left out is told to the sheet."""
    lines = {field.label: field.rule(sheet, field, records.column(field.column)) for field in fields}
    start_at, end_at = records.column("start_at"), records.column("end_at")
    sheet.refuse(holds(pc.greater(start_at, end_at)), "StartTime is after EndTime")
    sheet.refuse(holds(pc.greater(end_at, pa.scalar(now + ALLOWED_AHEAD_S))), "EndTime is more than 2 days ahead")
    identities = [lines[label] for label in ("FQAN", "VO") if label in lines]
    if identities:
        known = np.logical_or.reduce([valid(texts) for texts in identities])
        sheet.refuse(~known, "neither FQAN nor VO can be written")
    return lines


def with_fqan(records: pa.RecordBatch) -> pa.RecordBatch:
    """For layouts without a field for the VO: the records with the FQAN of every member, `/vo`, where only a VO is known.

    A text that cannot be the name of a VO makes none.
    """
    vo = records.column("vo")
    named = pc.match_substring_regex(vo, _VO_NAME).fill_null(False)
    of_vo = pc.if_else(named, joined("/", vo), pa.scalar(None, pa.string()))
    at = records.schema.get_field_index("fqan")
    return records.set_column(at, records.schema.field(at), pc.coalesce(records.column("fqan"), of_vo))


def with_benchmark_of(names: Sequence[str], records: pa.RecordBatch) -> pa.RecordBatch:
    """The records with the first benchmark of these names, where one has several and its own is none of them."""
    several = records.column("service_levels")
    kinds = records.column("service_level_type")
    known = pc.is_in(pc.utf8_lower(kinds), value_set=pa.array([name.lower() for name in names]))
    if several.null_count == records.num_rows or pc.all(known).as_py():
        return records

    def first(text: str) -> tuple[str, float] | None:
        levels: dict[str, float] = json.loads(text)
        return next(((name, level) for name, level in levels.items() if name in names), None)

    found = by_distinct(several, lambda text: None if (one := first(text)) is None else one[0])
    figures = by_distinct(several, lambda text: None if (one := first(text)) is None else repr(one[1])).cast(pa.float64())
    for name, mine, other in (("service_level_type", kinds, found), ("service_level", records.column("service_level"), figures)):
        at = records.schema.get_field_index(name)
        records = records.set_column(at, records.schema.field(at), pc.if_else(known, mine, pc.coalesce(other, mine)))
    return records


def other_benchmarks(sheet: Sheet, records: pa.RecordBatch, written: Callable[[str, str], str]) -> Values | str:
    """What stands after the figure of each record's own benchmark: the others it has, each as written of its name and figure.

    Nothing stands for a record that has no others; one that the receiver could not hold is left out.
    """
    several = records.column("service_levels")
    if several.null_count == records.num_rows:
        return ""

    def others(text: str) -> list[tuple[str, str | None]]:
        return [(name, decimal_text(level)) for name, level in list(json.loads(text).items())[1:]]

    unfit = by_distinct(several, lambda text: "some" if any(figure is None for _, figure in others(text)) else None)
    sheet.note_left_out(valid(unfit), "ServiceLevel: a further one is not a number from 0.001 to 9999999.999")
    texts = by_distinct(several, lambda text: "".join(written(name, figure) for name, figure in others(text) if figure is not None))
    return texts.fill_null("")


def message_of(header: str, records: Values) -> bytes:
    """A message: the header line and the records, as bytes; every record is ASCII already."""
    return b"%s\n%s" % (header.encode("ascii"), content_of(records))


@dataclass(frozen=True, slots=True)
class ApelFormat:
    """APEL individual job messages of one version."""

    name: str
    doc: str
    header: str
    fields: tuple[Field, ...] = FIELDS
    benchmark_as_dictionary: bool = False
    wants: frozenset[str] = frozenset()

    def render(self, records: pa.RecordBatch, now: int) -> Rendered:
        """`USAGE_RECORD` rows to text, each checked against the loader's rules; `now` is Unix time.

        A batch is at most some 100,000 rows: the texts are one Arrow array, and that holds 2 GiB.
        """
        sheet = Sheet(records.num_rows)
        if self.fields is FIELDS_02:
            records = with_benchmark_of(BENCHMARKS_02, with_fqan(records))
        lines = checked(sheet, self.fields, records, now)
        if self.benchmark_as_dictionary:
            name = pc.ascii_lower(lines.pop(BENCHMARK_NAME.label))
            figure = lines[BENCHMARK.label]
            others = other_benchmarks(sheet, records, lambda name, figure: f", {name.lower()}: {figure}")
            lines[BENCHMARK.label] = joined("{", name, ": ", figure, others, "}")
        return sheet.rendered(lines.items())

    def message(self, records: Values) -> bytes:
        """One message of these record texts (at least one, none of them null)."""
        return message_of(self.header, records)


APEL_02 = ApelFormat(
    "apel-0.2",
    "APEL individual job messages, v0.2: no VO beside the FQAN, no queue, no infrastructure; Si2k and HEPSPEC alone",
    "APEL-individual-job-message: v0.2",
    FIELDS_02,
    wants=SEVERAL,
)
APEL_03 = ApelFormat(
    "apel-0.3", "APEL individual job messages, v0.3: what every receiver takes", "APEL-individual-job-message: v0.3"
)
APEL_04 = ApelFormat(
    "apel-0.4",
    "APEL individual job messages, v0.4: all benchmarks, as a dictionary, for receivers of apel 2.3.0 and newer",
    "APEL-individual-job-message: v0.4",
    benchmark_as_dictionary=True,
    wants=SEVERAL,
)
