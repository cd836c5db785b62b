r"""The fast lane of `procacct.records`: Arrow's JSON reader over the regular lines of a block, outside Python's lock.

A line is regular if it begins `{"v":1,` and ends with its brace, is valid UTF-8 without control characters and without `\u`,
and has no `job_claims`. The reader is told every key with its type, and refuses the whole block (which the careful lane then reads)
for anything else: another key, a value of another kind, one key twice, no JSON. Since each line begins an object of its own and
none of them can be within another, as many rows as lines mean one row a line. Of `environment`, whose
keys are anybody's, the text is taken out of the lines before, and each that is new is held to be as it will be stored.
"""

from __future__ import annotations

import functools
import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from batchacct.model import BYTES, INSTANT, INTEGER, PROCESS, REAL, RECORD_TYPES, TEXT, RecordType
from batchacct.parsing import Block, Regular, Source
from batchacct.parsing.columnar import hashes, line_bounds, lines_of, same, spans_left
from procacct.record_values import CLAIMS, LISTS, ORIGIN, SEEN_BY, TEXTS_BY_NAME, WORDS, dumped

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    Column = Any
    Mask = npt.NDArray[np.bool_]

_REGULAR = r'^\{"v":1,[^\x00-\x1f]*\}\n?$'
_STRANGE = r'\\u|"job_claims"'
_STRANGE_WORDS = (rb"\u", b'"job_claims"')
_ENVIRONMENT = f',"{TEXTS_BY_NAME}":{{'
_DECODER = json.JSONDecoder()
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
"""As `json.dumps` spells them; the backslash goes first."""


def fast_lane(record_type: RecordType, block: Block, source: Source, label: str) -> Regular:
    """The regular lines of a block as records, and the spans of all others."""
    data = block.data
    starts, stops = line_bounds(data)
    taken = np.zeros(len(starts), np.bool_)
    records = record_type.empty()
    try:
        data.decode("utf-8")
        lines = lines_of(data, starts).cast(TEXT)
        regular = _regular(data, lines)
        found = _read(record_type, lines.filter(pa.array(regular))) if regular.any() else None
    except (UnicodeDecodeError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        found = None
    if found is not None:
        columns, good = found
        if source.cluster is None:
            good &= _mask(columns["cluster"].is_valid())
        taken[np.flatnonzero(regular)[good]] = True
        kept = columns if good.all() else {name: column.filter(pa.array(good)) for name, column in columns.items()}
        kept["source_offset"] = pa.array(starts[taken] + block.offset, INTEGER)
        records = _records(record_type, kept, source, label)
    return Regular(records, spans_left(data, starts, stops, taken))


def _mask(column: Any) -> Mask:
    return np.array(column.to_numpy(zero_copy_only=False), np.bool_)


def _regular(data: bytes, lines: Column) -> Mask:
    """Which lines are regular; a block in which nothing is strange need not be searched line by line."""
    bytes_of = np.frombuffer(data, np.uint8)
    if any(word in data for word in _STRANGE_WORDS) or np.count_nonzero(bytes_of < ord(" ")) > data.count(b"\n"):
        return _mask(pc.match_substring_regex(lines, _REGULAR)) & ~_mask(pc.match_substring_regex(lines, _STRANGE))
    begins, ends = pc.starts_with(lines, '{"v":1,'), pc.or_(pc.ends_with(lines, "}\n"), pc.ends_with(lines, "}"))
    return _mask(begins) & _mask(ends)


def _is(column: Column, value: object, *, invert: bool = False) -> Column:
    """Where a column has a value (or, inverted, another); not where it has none."""
    compare: Any = pc.not_equal if invert else pc.equal
    return compare(column, value).fill_null(False)


def _read(record_type: RecordType, lines: Column) -> tuple[dict[str, Column], Mask] | None:
    """The columns that the lines state, and which of the lines are as the careful lane wants them; None: it is to read all."""
    count = len(lines)
    native = pc.ascii_rtrim(lines, characters="\n")
    good = np.ones(count, np.bool_)
    columns: dict[str, Column] = {"native": native.cast(BYTES)}
    texts: list[str] = native.to_pylist()
    environments: dict[int, str] = {}
    table = _parsed(record_type, _without_environments(texts, environments))
    if table.num_rows != count:
        return None
    if record_type is PROCESS:
        good &= ~_mask(_is(table.column(TEXTS_BY_NAME), "", invert=True))
        columns[TEXTS_BY_NAME] = pa.array([environments.get(row) for row in range(count)] if environments else [None] * count, TEXT)
        good &= _all_good(columns[TEXTS_BY_NAME], _is_environment)
    for column in record_type.columns:
        if column.name in ORIGIN or column.name in (TEXTS_BY_NAME, CLAIMS):
            continue
        values = table.column(column.name).combine_chunks()
        if column.name in LISTS:
            good &= ~_has_null_within(values)
            values = _as_json(values)
        elif column.type == TEXT:
            values = pc.if_else(_is(values, ""), pa.scalar(None, TEXT), values)
        elif column.type == REAL:
            good &= _mask(pc.is_finite(values).fill_null(True))
        if column.name in WORDS:
            good &= _mask(pc.or_(values.is_null(), pc.is_in(values, value_set=pa.array(WORDS[column.name], TEXT))))
        if column.name == "seen_by":
            good &= _all_good(values, _is_seen_by)
        if column.required and column.name != "cluster":
            good &= _mask(values.is_valid())
        columns[column.name] = values
    if record_type is PROCESS:
        good &= _consistent(columns)
    return columns, good


def _without_environments(lines: list[str], taken_out: dict[int, str]) -> list[str]:
    """The lines with an empty text in the place of the environment, which is put into `taken_out`, by line.

    What is no object there, or not where a member of an object can be, is so still, and refused with its block.
    """
    left = []
    for row, line in enumerate(lines):
        before, key, after = line.partition(_ENVIRONMENT)
        if key:
            try:
                _, end = _DECODER.raw_decode(after := "{" + after)
            except (ValueError, RecursionError):
                end = 0
            if end:
                taken_out[row] = after[:end]
                left.append(f'{before},"{TEXTS_BY_NAME}":""{after[end:]}')
                continue
        left.append(line)
    return left


def _parsed(record_type: RecordType, lines: list[str]) -> pa.Table:
    """The lines as Arrow's reader sees them.  Raises: ArrowInvalid for anything that it is not told."""
    data = "\n".join(lines).encode()
    options = pj.ParseOptions(explicit_schema=_schema(record_type.name), unexpected_field_behavior="error")
    reading = pj.ReadOptions(use_threads=False, block_size=len(data) + 16)
    return pj.read_json(io.BytesIO(data), read_options=reading, parse_options=options)


@functools.cache
def _schema(name: str) -> pa.Schema:
    record_type = RECORD_TYPES[name]
    fields: list[tuple[str, pa.DataType]] = [("v", INTEGER)]
    for column in record_type.columns:
        if column.name in ORIGIN or column.name == CLAIMS:
            continue
        kind = pa.list_(TEXT) if column.name in LISTS else INTEGER if column.type == INSTANT else column.type
        fields.append((column.name, kind))
    return pa.schema(fields)


def _has_null_within(lists: Column) -> Mask:
    """The lists with a null among their texts."""
    if not lists.values.null_count:
        return np.zeros(len(lists), np.bool_)
    of_nulls: Column = pc.list_parent_indices(lists)
    of_nulls = of_nulls.filter(lists.flatten().is_null())
    mask = np.zeros(len(lists), np.bool_)
    mask[of_nulls.to_numpy(zero_copy_only=False)] = True
    return mask


def _as_json(lists: Column) -> Column:
    """Lists of texts as JSON without blanks."""
    texts = lists.flatten()
    if len(texts) and pc.any(pc.match_substring_regex(texts, '["\\\\\\x00-\\x1f]')).as_py():
        for raw, escape in _ESCAPES.items():
            texts = pc.replace_substring(texts, raw, escape)
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
    together = pc.binary_join(pa.ListArray.from_arrays(offsets, texts), '","')
    opened, closed = pa.scalar('["', TEXT), pa.scalar('"]', TEXT)
    parts: tuple[Any, ...] = (opened, together, closed, pa.scalar("", TEXT))
    some = pc.binary_join_element_wise(*parts)
    whole = pc.if_else(pa.array(lengths == 0), pa.scalar("[]", TEXT), some)
    return pc.if_else(lists.is_valid(), whole, pa.scalar(None, TEXT))


def _all_good(texts: Column, is_good: Any) -> Mask:
    """Which of some texts, of which few are different, are good (or null)."""
    encoded = texts.dictionary_encode()
    good: Mask = np.array([is_good(text) for text in encoded.dictionary.to_pylist()] + [True], np.bool_)
    taken: Mask = good[encoded.indices.fill_null(len(good) - 1).to_numpy(zero_copy_only=False)]
    return taken


def _is_environment(text: str) -> bool:
    """Whether it is spelled as it is stored: names come once, and escapes only where they must be."""
    found = json.loads(text)
    return all(isinstance(one, str) for one in found.values()) and dumped(found) == text


def _is_seen_by(text: str) -> bool:
    sources = json.loads(text)
    return bool(sources) and set(sources) <= set(SEEN_BY)


def _consistent(columns: dict[str, Column]) -> Mask:
    """The rules for a gap."""
    is_gap, stands_for_none = _mask(_is(columns["kind"], "gap")), _mask(_is(columns["processes"], 0))
    consistent: Mask = (is_gap == stands_for_none) & (~is_gap | _mask(columns["lost_events"].is_valid()))
    return consistent


def _records(record_type: RecordType, columns: dict[str, Column], source: Source, label: str) -> pa.RecordBatch:
    count = len(columns["native"])
    made: dict[str, Column] = {
        **columns,
        "cluster": columns["cluster"].fill_null(source.cluster) if source.cluster is not None else columns["cluster"],
        "content_hash": hashes(columns["native"]),
        "site": same(source.site, count),
        "source": same(source.name, count),
        "parser": same(label, count),
    }
    nulls: list[None] = [None] * count
    arrays = [
        pa.array(nulls, c.type)
        if c.name not in made
        else made[c.name].cast(pa.timestamp("s")).cast(INSTANT)
        if c.type == INSTANT
        else made[c.name]
        for c in record_type.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=record_type.schema)
