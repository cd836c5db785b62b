"""The fast lane of BSD process accounting: records of version 3, in either byte order, column by column.

A record is regular if it is of version 3, has nothing that `pacct_layout.damage` would refuse, and a name of printable ASCII that
nothing stands behind. All others, the unfinished one at the end of a block too, are left to the careful lane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchacct.model import INSTANT, INTEGER, LAST_INSTANT, PROCESS, REAL, TEXT, content_hash
from batchacct.parsing import Block, Regular, Source
from procacct.pacct_layout import (
    AHZ,
    BIG_ENDIAN,
    CORE_DUMPED,
    FORKED,
    KNOWN_FLAGS,
    LAST_SIGNAL,
    MOST_PID,
    NAME_BYTES_V3,
    RECORD_BYTES,
    SUPERUSER,
    terminal_name,
)

if TYPE_CHECKING:
    Column = pa.Array[Any]

PARTIAL = "the process that switched accounting, which had not ended"

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_FIELDS = (
    ("flags", "u1"), ("version", "u1"), ("terminal", "u2"), ("status", "u4"), ("user_id", "u4"), ("group_id", "u4"), ("pid", "u4"),
    ("parent_pid", "u4"), ("began", "u4"), ("elapsed", "f4"), ("user", "u2"), ("system", "u2"), ("memory", "u2"), ("io", "u2"),
    ("blocks", "u2"), ("minor_faults", "u2"), ("major_faults", "u2"), ("swaps", "u2"), ("name", "u1", (NAME_BYTES_V3,)),
)  # fmt: skip
_LITTLE = np.dtype([(field[0], "<" + field[1], *field[2:]) for field in _FIELDS])
_BIG = np.dtype([(field[0], ">" + field[1], *field[2:]) for field in _FIELDS])
_COMPRESSED = ("user", "system", "memory", "minor_faults", "major_faults", "swaps")
_PLAIN = ("flags", "terminal", "status", "user_id", "group_id", "pid", "parent_pid", "began")


def key_of(host: str, began: int, pid: int | None, hashed: int) -> str:
    """The record key; `hashed` is the content hash of the record."""
    return f"{host}/acct/{began}/{'-' if pid is None else pid}/{hashed & 0xFFFFFFFFFFFFFFFF:016x}"


def fast_lane(block: Block, source: Source, label: str) -> Regular:
    """The regular records of a block as processes, and the spans of all other units."""
    whole = len(block.data) // RECORD_BYTES
    left = [(start, min(start + RECORD_BYTES, len(block.data))) for start in range(0, len(block.data), RECORD_BYTES)]
    if not whole or source.cluster is None:
        return Regular(PROCESS.empty(), left)
    rows = _read(block.data, whole)
    good = _is_regular(rows)
    is_partial = good.copy()
    for name in ("flags", "status", "user", "system", "memory", "minor_faults", "major_faults"):
        is_partial &= rows.numbers[name] == 0
    batch = _records(block, rows.at(np.flatnonzero(good & ~is_partial)), source, label)
    skipped = int(np.count_nonzero(is_partial))
    spans = [span for span, taken in zip(left, good.tolist(), strict=False) if not taken] + left[whole:]
    return Regular(batch, spans, skipped={PARTIAL: skipped} if skipped else {})


def compressed(column: npt.NDArray[Any]) -> Ints:
    """The numbers that comp_t stand for (see `pacct_layout.comp_t`)."""
    value = column.astype(np.int64)
    return (value & 0x1FFF) << (3 * (value >> 13))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Records as if of version 3: their places in the block, numbers, elapsed times (ticks) and names."""

    units: npt.NDArray[np.intp]
    version: npt.NDArray[np.uint8]
    numbers: Mapping[str, Ints]
    elapsed: npt.NDArray[np.float64]
    names: npt.NDArray[np.uint8]

    def at(self, places: npt.NDArray[np.intp]) -> _Rows:
        numbers = {name: column[places] for name, column in self.numbers.items()}
        return _Rows(self.units[places], self.version[places], numbers, self.elapsed[places], self.names[places])


def _read(data: bytes, count: int) -> _Rows:
    """Each record in its byte order."""
    rows = np.frombuffer(data, _LITTLE, count)
    numbers = {name: rows[name].astype(np.int64) for name in _PLAIN} | {name: compressed(rows[name]) for name in _COMPRESSED}
    with np.errstate(invalid="ignore"):  # a signalling NaN, which damage makes, is no number either
        elapsed = rows["elapsed"].astype(np.float64)
    big = np.flatnonzero(rows["version"] & BIG_ENDIAN)
    if len(big):
        turned = np.frombuffer(data, _BIG, count)[big]
        for name in _PLAIN:
            numbers[name][big] = turned[name]
        for name in _COMPRESSED:
            numbers[name][big] = compressed(turned[name])
        with np.errstate(invalid="ignore"):
            elapsed[big] = turned["elapsed"]
    return _Rows(np.arange(count), rows["version"], numbers, elapsed, rows["name"])


def _is_regular(rows: _Rows) -> Bools:
    version, numbers, elapsed, names = rows.version, rows.numbers, rows.elapsed, rows.names
    began, status = numbers["began"], numbers["status"]
    good: Bools = (version & ~np.uint8(BIG_ENDIAN)) == 3
    good &= (numbers["flags"] & ~KNOWN_FLAGS) == 0
    good &= (status <= 0xFFFF) & ((status & 0x7F) <= LAST_SIGNAL)
    good &= (numbers["pid"] > 0) & (numbers["pid"] <= MOST_PID) & (numbers["parent_pid"] <= MOST_PID)
    good &= (elapsed >= 0) & (elapsed <= LAST_INSTANT * AHZ) & (began > 0)
    good &= began + np.where(good, elapsed, 0) / AHZ < LAST_INSTANT
    is_end = names == 0
    length = is_end.argmax(axis=1)
    behind = np.arange(NAME_BYTES_V3) >= length[:, None]
    is_text = (names >= 0x20) & (names <= 0x7E)
    good &= is_end.any(axis=1) & (length > 0) & (is_text ^ behind).all(axis=1) & (is_end | ~behind).all(axis=1)
    return good


def _records(block: Block, rows: _Rows, source: Source, label: str) -> pa.RecordBatch:
    numbers, elapsed, count = rows.numbers, rows.elapsed, len(rows.units)
    offsets = rows.units.astype(np.int64) * RECORD_BYTES
    natives = [block.data[at : at + RECORD_BYTES] for at in offsets.tolist()]
    hashes = [content_hash(native) for native in natives]
    signal, began = numbers["status"] & 0x7F, numbers["began"]
    keys = zip(began.tolist(), numbers["pid"].tolist(), hashes, strict=True)
    columns: dict[str, Column] = {
        "record_key": pa.array([key_of(source.host, *key) for key in keys], TEXT),
        "content_hash": pa.array(hashes, INTEGER),
        "site": _same(source.site, count),
        "cluster": _same(source.cluster, count),
        "host": _same(source.host, count),
        "pid": pa.array(numbers["pid"]),
        "parent_pid": _known(numbers["parent_pid"]),
        "user_id": pa.array(numbers["user_id"]),
        "group_id": pa.array(numbers["group_id"]),
        "kind": _one_of(numbers["flags"] & FORKED, "program", "fork"),
        "started_at": _instants(began),
        "logged_at": _instants(began + np.floor(elapsed / AHZ).astype(np.int64)),
        "elapsed_s": pa.array(elapsed / AHZ, REAL),
        "cpu_user_s": pa.array(numbers["user"] / AHZ, REAL),
        "cpu_system_s": pa.array(numbers["system"] / AHZ, REAL),
        "command": _texts(rows.names),
        "ended_by": _one_of(signal, "exit", "signal"),
        "exit_code": pa.array(numbers["status"] >> 8, INTEGER, mask=signal != 0),
        "exit_signal": _known(signal),
        "core_dumped": _flag((numbers["status"] & 0x80) | (numbers["flags"] & CORE_DUMPED)),
        "memory_virtual_kib": _known(numbers["memory"]),
        "minor_faults": pa.array(numbers["minor_faults"]),
        "major_faults": pa.array(numbers["major_faults"]),
        "superuser": _flag(numbers["flags"] & SUPERUSER),
        "terminal": _terminals(numbers["terminal"]),
        "processes": pa.array(np.ones(count, np.int64)),
        "seen_by": _same('["acct"]', count),
        "native": pa.array(natives, pa.binary()),
        "source": _same(source.name, count),
        "source_offset": pa.array(offsets + block.offset),
        "parser": _same(label, count),
    }
    nulls: list[None] = [None] * count
    arrays = [columns[c.name] if c.name in columns else pa.array(nulls, c.type) for c in PROCESS.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=PROCESS.schema)


def _same(text: str | None, count: int) -> Column:
    return pa.repeat(pa.scalar(text, TEXT), count)


def _known(numbers: Ints) -> Column:
    """Null where it is 0."""
    return pa.array(numbers, INTEGER, mask=numbers == 0)


def _flag(bits: Ints) -> Column:
    return pa.array((bits != 0).astype(np.int64), INTEGER)


def _one_of(bits: Ints, unset: str, is_set: str) -> Column:
    return _of_distinct([unset, is_set], bits != 0)


def _instants(seconds: Ints) -> Column:
    return pa.array(seconds, INTEGER).cast(INSTANT)


def _texts(names: npt.NDArray[np.uint8]) -> Column:
    """Names up to their NUL."""
    lengths = (names == 0).argmax(axis=1)
    ends = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    text = names[np.arange(NAME_BYTES_V3) < lengths[:, None]]
    return pa.StringArray.from_buffers(len(names), pa.py_buffer(ends.tobytes()), pa.py_buffer(text.tobytes()))


def _terminals(devices: Ints) -> Column:
    distinct, which = np.unique(devices, return_inverse=True)
    names = [terminal_name(device) for device in distinct.tolist()]
    return _of_distinct(names, which)


def _of_distinct(texts: list[str | None], which: npt.NDArray[Any]) -> Column:
    places: npt.NDArray[np.int32] = which.astype(np.int32)
    column: Column = pa.DictionaryArray.from_arrays(places, pa.array(texts, TEXT)).cast(TEXT)
    return column
