"""The fast lane of `slurm-jobcomp`: the records of all regular lines of a block at once.

A line is regular if it is of 17.11 or later, printable ASCII with one blank between its fields and none in them, all fields in the
writer's order, no component of a heterogeneous job, and if all its times are known. Then fields are found by counting: NumPy finds
blanks and newlines, and a field is what stands between two of them. Values that repeat from line to line (user, partition, state,
nodes) are judged once each, by the careful lane's own functions. All else is left to that lane.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from batchacct.model import BYTES, INSTANT, INTEGER, JOB, LAST_INSTANT, TEXT, content_hash
from batchacct.parsing import Block, Regular, Reject, Source
from batchacct.parsing.columnar import spans_of
from loccol.slurm_jobcomp_run import known, requested_kib, state_of
from loccol.slurm_values import exec_hosts, exit_columns, node_list, resource_columns

if TYPE_CHECKING:
    Column = pa.Array[Any]

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
compute: Any = pyarrow.compute
"""Untyped: the stubs know fewer kinds of arguments than the kernels take."""

BEFORE_ARRAY = (
    "JobId", "UserId", "GroupId", "Name", "JobState", "Partition", "TimeLimit", "StartTime", "EndTime", "NodeList", "NodeCnt",
    "ProcCnt", "WorkDir", "ReservationName", "Tres", "Account", "QOS", "WcKey", "Cluster", "SubmitTime", "EligibleTime",
)  # fmt: skip
ARRAY = ("ArrayJobId", "ArrayTaskId")
AFTER_ARRAY = ("DerivedExitCode", "ExitCode")
PLAIN, IN_ARRAY = len(BEFORE_ARRAY) + len(AFTER_ARRAY), len(BEFORE_ARRAY) + len(ARRAY) + len(AFTER_ARRAY)
"""Fields of a line."""
NEVER_EMPTY = frozenset({"TimeLimit", *AFTER_ARRAY})
"""Fields that nothing else here looks at, and that always say something."""
LONGEST_KEY = 16
TIMES = ("StartTime", "EndTime", "SubmitTime", "EligibleTime")
NUMBERS = ("JobId", "NodeCnt", "ProcCnt", *ARRAY)

BLANK, NEWLINE = b" \n"
_SEPARATOR = bytes(byte in b" \n" for byte in range(256))
_ODD = bytes(not 32 <= byte < 127 and byte != NEWLINE for byte in range(256))

TIME_LENGTH = len("2025-01-11T22:45:16")
_TIME_MARKS = [4, 7, 10, 13, 16]
_TIME_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_ACCOUNT = re.compile(r"(.*)\(([0-9]{1,10})\)")
MOST_DIGITS = 10
ZONE_STEP_S = 900
"""In each quarter of an hour a zone's offset is looked up once; zones change between two of them, others are left."""


def fast_lane(block: Block, source: Source, label: str) -> Regular:
    """The regular lines of a block as job records, and the spans of all other units."""
    whole = block.data.rfind(b"\n") + 1
    lines = _Lines(block.data, whole)
    lines.keep(lines.in_order())
    rows = _Rows(lines, source.zone)
    records = _records(rows, block, source, label)
    taken = np.zeros(len(lines.starts), np.bool_)
    taken[rows.lines] = True
    return Regular(records, list(_left(block.data, lines, taken, whole)))


def _left(data: bytes, lines: _Lines, taken: Bools, whole: int) -> Iterator[tuple[int, int]]:
    """Spans of what was not taken, as LineFraming has them; the last is a line without end."""
    left = np.flatnonzero(~taken)
    spans = list(zip(lines.starts[left].tolist(), lines.ends[left].tolist(), strict=True))
    for start, newline in [*spans, (whole, len(data))]:
        end = newline - data[start:newline].endswith(b"\r")
        if data[start:end].strip():
            yield start, end


class _Lines:
    """The lines of a block, and the fields between blanks of those that are regular so far."""

    def __init__(self, data: bytes, whole: int) -> None:
        self.data = data
        self.array = np.frombuffer(data, np.uint8, whole)
        padded = data[:whole] + bytes(LONGEST_KEY + 8)
        self.words = np.ndarray((whole + LONGEST_KEY,), np.dtype("<u8"), padded, strides=(1,))
        """The eight bytes that begin at each place."""
        separators = np.flatnonzero(np.frombuffer(data[:whole].translate(_SEPARATOR), np.bool_))
        is_newline = self.array[separators] == NEWLINE
        self.ends = separators[is_newline]
        self.starts = np.append(0, self.ends[:-1] + 1)[: len(self.ends)]
        self.field_ends: Ints = separators
        self.field_starts: Ints = np.append(0, separators[:-1] + 1)[: len(separators)]
        stops = np.flatnonzero(is_newline) + 1
        firsts = np.append(0, stops[:-1])[: len(stops)]
        counts = stops - firsts
        blank_at_end = (counts > 1) & (self.field_starts[stops - 1] == self.ends)
        counts = counts - blank_at_end
        good = (counts == PLAIN) | (counts == IN_ARRAY)
        odd = np.flatnonzero(np.frombuffer(data[:whole].translate(_ODD), np.bool_))
        good[np.searchsorted(self.ends, odd)] = False
        self.lines = np.flatnonzero(good)
        self.first: Ints = firsts[good]
        self.in_array: Bools = counts[good] == IN_ARRAY

    def keep(self, good: Bools) -> None:
        self.lines, self.first, self.in_array = self.lines[good], self.first[good], self.in_array[good]

    def at(self, name: str) -> Ints:
        """The number of the field `name` of each line; for lines without it that of another."""
        if name in BEFORE_ARRAY:
            place: int | Ints = BEFORE_ARRAY.index(name)
        elif name in ARRAY:
            place = len(BEFORE_ARRAY) + ARRAY.index(name) * self.in_array
        else:
            place = len(BEFORE_ARRAY) + AFTER_ARRAY.index(name) + len(ARRAY) * self.in_array
        found: Ints = self.first + place
        return found

    def in_order(self) -> Bools:
        """Which lines have each key in its place."""
        good = np.ones(len(self.lines), np.bool_)
        for name in (*BEFORE_ARRAY, *ARRAY, *AFTER_ARRAY):
            at = self.at(name)
            found = self._begins(at, name)
            if name == "Tres":
                found |= self._begins(at, "Gres")
            if name in NEVER_EMPTY:
                found &= self.field_ends[at] - self.field_starts[at] > len(name) + 1
            good &= found | ~self.in_array if name in ARRAY else found
        return good

    def _begins(self, at: Ints, name: str) -> Bools:
        """Which of the fields `at` begin with `name=`, compared eight bytes at a time."""
        key = f"{name}=".encode()
        starts = self.field_starts[at]
        same: Bools = self.field_ends[at] - starts >= len(key)
        for place in range(0, len(key), 8):
            piece = key[place : place + 8]
            wanted, mask = (np.uint64(int.from_bytes(bytes_, "little")) for bytes_ in (piece, b"\xff" * len(piece)))
            same &= self.words[starts + place] & mask == wanted
        return same

    def bounds(self, name: str) -> tuple[Ints, Ints]:
        """Where the value of a field begins and ends."""
        at = self.at(name)
        return self.field_starts[at] + len(name) + 1, self.field_ends[at]

    def text(self, name: str) -> Column:
        """The values of a field."""
        return spans_of(self.data, *self.bounds(name), BYTES)


class _Rows:
    """The lines that are regular in their values too, and what their values say."""

    def __init__(self, lines: _Lines, zone: dt.tzinfo) -> None:
        self.numbers: dict[str, Ints] = {}
        self.times: dict[str, Ints] = {}
        self.columns: dict[str, Column] = {}
        good = np.ones(len(lines.lines), np.bool_)
        for name in NUMBERS:
            self.numbers[name], are_numbers = _numbers(lines.array, *lines.bounds(name))
            good &= are_numbers | ~lines.in_array if name in ARRAY else are_numbers
        for name in TIMES:
            self.times[name], are_times = _times(lines.array, *lines.bounds(name), zone)
            good &= are_times
        good &= (self.times["StartTime"] <= self.times["EndTime"]) & (self.numbers["JobId"] > 0)
        good &= (self.numbers["ArrayJobId"] > 0) | ~lines.in_array
        for first, last, columns, judge in _JUDGED:
            text = spans_of(lines.data, lines.bounds(first)[0], lines.bounds(last)[1], BYTES)
            judged, are_sound = _of_distinct(text, columns, judge)
            self.columns |= judged
            good &= are_sound
        self._keep(lines, good)
        self.text = lines.text
        self.lines, self.in_array = lines.lines, lines.in_array
        self.starts = lines.starts[lines.lines]
        self.native = spans_of(lines.data, self.starts, lines.ends[lines.lines], BYTES)

    def _keep(self, lines: _Lines, good: Bools) -> None:
        if good.all():
            return
        lines.keep(good)
        self.numbers = {name: numbers[good] for name, numbers in self.numbers.items()}
        self.times = {name: times[good] for name, times in self.times.items()}
        self.columns = {name: column.filter(pa.array(good)) for name, column in self.columns.items()}


def _numbers(array: Bytes, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    """Decimal numbers, and which are such, of 1 to MOST_DIGITS digits."""
    lengths = ends - starts
    good = (lengths >= 1) & (lengths <= MOST_DIGITS)
    numbers = np.zeros(len(starts), np.int64)
    for place in range(int(lengths[good].max(initial=0))):
        here = place < lengths
        digits = array[np.where(here, starts + place, 0)] - np.uint8(ord("0"))
        good &= (digits <= 9) | ~here
        numbers = np.where(here, numbers * 10 + digits, numbers)
    return numbers, good


def _times(array: Bytes, starts: Ints, ends: Ints, zone: dt.tzinfo) -> tuple[Ints, Bools]:
    """Unix seconds of local times, and which are such; where a time comes twice, the earlier."""
    good = ends - starts == TIME_LENGTH
    written = array[np.where(good, starts, 0)[:, None] + np.arange(TIME_LENGTH)]
    good &= (written[:, _TIME_MARKS] == np.frombuffer(b"--T::", np.uint8)).all(axis=1)
    digits = written[:, _TIME_DIGITS].astype(np.int64) - ord("0")
    good &= ((digits >= 0) & (digits <= 9)).all(axis=1)
    year = digits[:, :4] @ np.array([1000, 100, 10, 1])
    month, day, hour, minute, second = (digits[:, at] * 10 + digits[:, at + 1] for at in range(4, 14, 2))
    good &= (
        (year >= 1970) & (year <= 2100) & (month >= 1) & (month <= 12) & (day >= 1) & (hour <= 23) & (minute <= 59) & (second <= 59)
    )
    months = np.where(good, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(good, day - 1, 0)
    good &= days.astype("datetime64[M]") == months
    local = days.astype(np.int64) * 86_400 + hour * 3600 + minute * 60 + second
    offsets, are_known = _offsets(np.where(good, local, 0), zone)
    seconds = local - offsets
    return seconds, good & are_known & (seconds > 0) & (seconds <= LAST_INSTANT)


def _offsets(local: Ints, zone: dt.tzinfo) -> tuple[Ints, Bools]:
    """The zone's offset from UTC at local times, and which of them are not in a quarter of an hour in which it changes."""
    steps, inverse = np.unique(local // ZONE_STEP_S, return_inverse=True)
    begin = dt.datetime(1970, 1, 1, tzinfo=zone)
    last = dt.timedelta(seconds=ZONE_STEP_S - 1)
    offsets, are_known = np.zeros(len(steps), np.int64), np.zeros(len(steps), np.bool_)
    for number, step in enumerate(steps.tolist()):
        at = begin + dt.timedelta(seconds=step * ZONE_STEP_S)
        first, then = at.utcoffset(), (at + last).utcoffset()
        assert first is not None
        offsets[number], are_known[number] = first // dt.timedelta(seconds=1), first == then and not first.microseconds
    return offsets[inverse], are_known[inverse]


def _of_distinct(
    text: Column, columns: dict[str, pa.DataType], judge: Callable[[str], tuple[object, ...]]
) -> tuple[dict[str, Column], Bools]:
    """Columns that follow from one text, judged once for each distinct value; and where `judge` did not refuse it."""
    encoded = text.dictionary_encode()
    rows: list[tuple[object, ...]] = []
    are_sound = []
    for value in cast("list[bytes]", encoded.dictionary.to_pylist()):
        try:
            rows.append(judge(value.decode("ascii")))
            are_sound.append(True)
        except (ValueError, Reject):
            rows.append((None,) * len(columns))
            are_sound.append(False)
    arrays = {
        name: pa.array([row[number] for row in rows], kind).take(encoded.indices)
        for number, (name, kind) in enumerate(columns.items())
    }
    return arrays, np.array(are_sound, np.bool_)[encoded.indices.to_numpy()]


def _account(text: str) -> tuple[str | None, int]:
    """`name(number)`."""
    match = _ACCOUNT.fullmatch(text)
    if not match:
        raise Reject("no name(number)")
    return match[1] or None, int(match[2])


def _ended(word: str) -> tuple[str]:
    state = state_of(word, "JobState")
    if state is None:
        raise Reject("not ended")
    return (state,)


@lru_cache(1 << 14)
def _allocation(text: str) -> tuple[int, str | None]:
    """`NODES NodeCnt=N ProcCnt=P` to node count and hosts; a job without nodes is left to the careful lane."""
    listed, count, cpus = text.split(" ")
    nodes = node_list(listed)
    if not nodes.count:
        raise Reject("no nodes")
    return int(count.removeprefix("NodeCnt=")) or nodes.count, exec_hosts(nodes, int(cpus.removeprefix("ProcCnt=")))


def _exit(text: str) -> tuple[object, object]:
    columns = exit_columns(text)
    return columns.get("exit_code"), columns.get("exit_signal")


_JUDGED: tuple[tuple[str, str, dict[str, pa.DataType], Callable[[str], tuple[object, ...]]], ...] = (
    ("UserId", "UserId", {"user_name": TEXT, "user_id": INTEGER}, _account),
    ("GroupId", "GroupId", {"group_name": TEXT, "group_id": INTEGER}, _account),
    ("JobState", "JobState", {"state": TEXT}, _ended),
    ("Partition", "Partition", {"queue": TEXT}, lambda text: (text or None,)),
    ("NodeList", "ProcCnt", {"node_count": INTEGER, "exec_hosts": TEXT}, _allocation),
    ("Tres", "Tres", {"memory_requested_kib": INTEGER}, lambda text: (requested_kib(text, "Tres"),)),
    ("Account", "Account", {"project": TEXT}, lambda text: (known(text),)),
    ("QOS", "QOS", {"resources": TEXT}, lambda text: (resource_columns({}, known(text))["resources"],)),
    ("ExitCode", "ExitCode", {"exit_code": INTEGER, "exit_signal": INTEGER}, _exit),
)
"""Fields, from the first to the last, the columns that follow from what they say, and how."""


def _records(rows: _Rows, block: Block, source: Source, label: str) -> pa.RecordBatch:
    count = len(rows.lines)
    raw, start, end = rows.numbers["JobId"], rows.times["StartTime"], rows.times["EndTime"]
    number = _text(np.where(rows.in_array, rows.numbers["ArrayJobId"], raw))
    key = (_same(f"slurm:{source.cluster or ''}", count), _text(raw), _text(start), _text(end), ":")
    native = rows.native
    name = rows.text("Name").cast(TEXT)
    columns: dict[str, Column] = {
        **rows.columns,
        "record_key": compute.binary_join_element_wise(*key),
        "content_hash": pa.array([content_hash(unit) for unit in cast("list[bytes]", native.to_pylist())], INTEGER),
        "site": _same(source.site, count),
        "cluster": _same(source.cluster, count),
        "lrms": _same("Slurm", count),
        "lrms_job_id": number,
        "array_index": pa.array(rows.numbers["ArrayTaskId"], INTEGER, mask=~rows.in_array),
        "join_id": number,
        "submit_at": _instants(rows.times["SubmitTime"]),
        "eligible_at": _instants(rows.times["EligibleTime"]),
        "start_at": _instants(start),
        "end_at": _instants(end),
        "logged_at": _instants(end),
        "wall_duration_s": pa.array(end - start),
        "processors": pa.array(rows.numbers["ProcCnt"], INTEGER, mask=rows.numbers["ProcCnt"] == 0),
        "job_name": compute.if_else(compute.equal(name, ""), pa.scalar(None, TEXT), name),
        "native": native,
        "source": _same(source.name, count),
        "source_offset": pa.array(rows.starts + block.offset),
        "parser": _same(label, count),
    }
    nulls: list[None] = [None] * count
    arrays = [columns[c.name] if c.name in columns else pa.array(nulls, c.type) for c in JOB.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=JOB.schema)


def _text(numbers: Ints) -> Column:
    return pa.array(numbers, INTEGER).cast(TEXT)


def _instants(seconds: Ints) -> Column:
    return pa.array(seconds, INTEGER).cast(INSTANT)


def _same(text: str | None, count: int) -> Column:
    return pa.repeat(pa.scalar(text, TEXT), count)
