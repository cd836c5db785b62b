"""Raw units given to their parser again, many at once: what it makes of them now, as the tables have it.

Units are put together as lines, which is how most formats have them. Where a framing sees other units in that, those it does not
find again are read one by one. Units of one length, and those of a parser with `key_has_place`
(where a unit stands is in the key of its record), are put together as they stood in their file, and read under their places in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchacct.model import PART, RecordType
from batchacct.parsing import Block, Parsed, Parser, Source
from batchacct.parsing.framing import FixedFraming
from batchacct.parsing.reading import BLOCK_BYTES
from batchacct.store.append import as_stored

Numbers = npt.NDArray[np.int64]

NOTHING_MADE = "nothing is made of it by itself"
_WHY_BYTES = 200


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """What was made of some units: `records`, of the units `of` (their places among those given, ascending).

    `refused`: why nothing was made of others.
    """

    records: pa.RecordBatch
    of: Numbers
    refused: Mapping[int, str] = field(default_factory=dict)


def read_again(
    parser: Parser, source: Source, units: Sequence[bytes], record_type: RecordType, offsets: Sequence[int] | None = None
) -> ReadAgain:
    """Records of a type (or parts) that a parser makes of units, which begin at `offsets` in their files."""
    if record_type not in (parser.record_type, PART):
        return ReadAgain(stored_form(record_type.empty()), np.empty(0, np.int64), dict.fromkeys(range(len(units)), NOTHING_MADE))
    batches: list[pa.RecordBatch] = []
    places: list[Numbers] = []
    refused: dict[int, str] = {}
    by_place = isinstance(parser.framing, FixedFraming) or getattr(parser, "key_has_place", False)
    has_places = offsets is not None and by_place
    for first, some in _runs(units, offsets) if has_places and offsets is not None else _together(units):
        read = _read_run(parser, source, some, record_type, offsets[first]) if has_places and offsets is not None else None
        for batch, of, why in [read] if read is not None else _read_some(parser, source, some, record_type):
            batches.append(batch)
            places.append(of + first)
            refused |= {place + first: reason for place, reason in why.items()}
    empty = stored_form(record_type.empty())
    records = pa.Table.from_batches([stored_form(batch) for batch in batches], empty.schema).combine_chunks().to_batches()
    of = np.concatenate([np.empty(0, np.int64), *places])
    order = np.argsort(of, kind="stable")
    return ReadAgain((records[0] if records else empty).take(pa.array(order, pa.int64())), of[order], refused)


def stored_form(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Records as their table has them."""
    return pa.RecordBatch.from_arrays([as_stored(column) for column in batch.columns], batch.schema.names)


def _together(units: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """The units in pieces of about a block: where each begins among them, and what is in it."""
    first = length = 0
    for place, unit in enumerate(units):
        if length > BLOCK_BYTES:
            yield first, units[first:place]
            first, length = place, 0
        length += len(unit) + 1
    yield first, units[first:]


def _runs(units: Sequence[bytes], offsets: Sequence[int]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """As `_together`, of units that follow on each other in a file."""
    first = 0
    for place in range(1, len(units)):
        if offsets[place] != offsets[place - 1] + len(units[place - 1]):
            yield first, units[first:place]
            first = place
    if units:
        yield first, units[first:]


_Made = tuple[pa.RecordBatch, Numbers, dict[int, str]]


def _read_some(parser: Parser, source: Source, units: Sequence[bytes], record_type: RecordType) -> Iterator[_Made]:
    """What is made of a block of units: batches, the unit of each row, and why of others there is none."""
    starts = np.cumsum([0, *(len(unit) + 1 for unit in units[:-1])], dtype=np.int64)
    try:
        parsed = _parsed(parser, source, b"".join(unit + b"\n" for unit in units))
    except Exception as error:  # noqa: BLE001 - a foreign parser's error is no error of ours
        failed = f"the parser fails: {type(error).__name__}: {error}"
        if len(units) == 1:
            yield _none_of(record_type, {0: failed})
            return
        parsed = None
    if parsed is not None:
        batch, of = _found_again(_made(parsed, record_type), starts, units)
        refused = {int(at): reject.reason for reject in parsed.rejects if (at := _place_of(starts, reject.offset)) is not None}
        left = sorted(set(range(len(units))) - set(of.tolist()))
        if parsed.units == len(units) or not left:
            yield batch, of, {place: refused.get(place, NOTHING_MADE) for place in left}
            return
        yield batch, of, {}
    else:
        left = list(range(len(units)))
    for place in left:
        yield _read_one(parser, source, units[place], record_type, place)


def _read_run(parser: Parser, source: Source, units: Sequence[bytes], record_type: RecordType, offset: int) -> _Made | None:
    """What is made of units that stand at `offset`; None if the parser fails at them."""
    try:
        parsed = _parsed(parser, source, b"".join(units), offset)
    except Exception:  # noqa: BLE001 - as above; read one by one, it is told of which
        return None
    starts = np.cumsum([offset, *(len(unit) for unit in units[:-1])], dtype=np.int64)
    batch, of = _found_again(_made(parsed, record_type), starts, units)
    refused = {int(at): reject.reason for reject in parsed.rejects if (at := _place_of(starts, reject.offset)) is not None}
    left = set(range(len(units))) - set(of.tolist())
    return batch, of, {place: refused.get(place, NOTHING_MADE)[:_WHY_BYTES] for place in left}


def _read_one(parser: Parser, source: Source, unit: bytes, record_type: RecordType, place: int) -> _Made:
    try:
        parsed = _parsed(parser, source, unit)
    except Exception as error:  # noqa: BLE001 - as above
        return _none_of(record_type, {place: f"the parser fails: {type(error).__name__}: {error}"})
    batch, of = _found_again(_made(parsed, record_type), np.zeros(1, np.int64), [unit])
    if len(of):
        return batch, of + place, {}
    return _none_of(record_type, {place: parsed.rejects[0].reason if parsed.rejects else NOTHING_MADE})


def _none_of(record_type: RecordType, refused: dict[int, str]) -> _Made:
    return record_type.empty(), np.empty(0, np.int64), {place: reason[:_WHY_BYTES] for place, reason in refused.items()}


def _parsed(parser: Parser, source: Source, data: bytes, offset: int = 0) -> Parsed:
    return next(iter(parser.parse([Block(data, offset)], source)))


def _made(parsed: Parsed, record_type: RecordType) -> pa.RecordBatch:
    return parsed.parts if record_type is PART else parsed.records


def _place_of(starts: Numbers, offset: int) -> int | None:
    place = int(np.searchsorted(starts, offset))
    return place if place < len(starts) and starts[place] == offset else None


def _found_again(batch: pa.RecordBatch, starts: Numbers, units: Sequence[bytes]) -> tuple[pa.RecordBatch, Numbers]:
    """The records that were made of just these units, and of which."""
    offsets = cast("pa.Int64Array", batch.column("source_offset")).to_numpy(zero_copy_only=False)
    at = np.minimum(np.searchsorted(starts, offsets), len(starts) - 1)
    made_of = pa.array([units[place] for place in at.tolist()], pa.binary())
    is_same: Any = pc.equal(batch.column("native"), made_of).fill_null(False)
    is_one = (starts[at] == offsets) & is_same.to_numpy(zero_copy_only=False)
    return batch.filter(pa.array(is_one)), at[is_one].astype(np.int64)


Differences = dict[str, npt.NDArray[np.bool_]]


def differences(stored: pa.RecordBatch, read: pa.RecordBatch, names: Sequence[str]) -> Differences:
    """Of rows that belong together, in which columns which differ; columns in which none does are left out."""
    found: Differences = {}
    for name in names:
        one, other = stored.column(name), read.column(name)
        if one.equals(other):
            continue
        equal: Any = pc.equal(one, other).fill_null(False)
        both_null: Any = pc.and_(one.is_null(), other.is_null())
        differs = ~(equal.to_numpy(zero_copy_only=False) | both_null.to_numpy(zero_copy_only=False))
        if differs.any():
            found[name] = differs
    return found


def any_of(found: Differences, rows: int) -> npt.NDArray[np.bool_]:
    """The rows that differ in some column."""
    mask = np.zeros(rows, np.bool_)
    for one in found.values():
        mask |= one
    return mask
