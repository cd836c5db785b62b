"""The columns of job records from the fields of many `lsb.acct` lines at once: the second half of the fast lane.

Each column is what `loccol.lsf.parse_unit` makes of the same field; a line about which there is something to decide (an
impossible time, a CPU time not written as `%1.6f`, an LSF-SLURM host) is given back, for that function to decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import xxhash

from batchacct.model import INSTANT, JOB, LAST_INSTANT
from batchacct.parsing import Block, Source
from batchacct.parsing.columnar import spans_of
from loccol.lsf_values import (
    CANCELLED,
    FINISHED,
    OUT_OF_MEMORY,
    SLURM_HOST,
    TEXT_FIELDS,
    TIMEOUT,
    ExecHosts,
    exec_hosts,
    gpus_a_host,
)

Ints = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

STRING_FIELD = 1
compute: Any = pyarrow.compute
"""Untyped: the stubs know fewer kinds of arguments than the kernels take."""

EXEC_HOSTS = "execHosts"
INTEGERS = ("eventTime", "jobId", "userId", "submitTime", "beginTime", "startTime", "jStatus", "exitStatus", "idx", "maxRMem",
            "maxRSwap", "exitInfo", "runTime")  # fmt: skip
REALS = ("hostFactor", "ru_utime", "ru_stime", "serial_job_energy")
TEXTS = ("version", "chargedSAAP", "effectiveResReq", *(name for _, name in TEXT_FIELDS))
WANTED = frozenset({*INTEGERS, *REALS, *TEXTS, EXEC_HOSTS})

LARGEST_INDEX = 10**8
"""Array indices beyond are left to the careful lane (nine digits there could be the time of a second record on the line)."""
LARGEST_CPU_S = 1e9
"""Up to this, a double holds microseconds exactly."""
CPU_DECIMALS = 6
LONGEST_KEPT = 200
"""Bytes of a host list that is remembered from one block to the next; longer ones seldom come again."""

STATES = ("never_started", "completed", "timeout", "out_of_memory", "cancelled", "failed")


@dataclass(slots=True)
class Lexed:
    """A block's lines and fields. Line i is `data[starts[i]:ends[i]]` and has the fields first[i] to stop[i] - 1.

    Field f is `data[field_starts[f]:field_ends[f]]`, quotes included; its kind is `kinds[f]`, and `doubled[f]` says that it has
    doubled quotes. Where a line is not `regular` its fields mean nothing.
    """

    data: bytes
    array: Bytes
    starts: Ints
    ends: Ints
    field_starts: Ints
    field_ends: Ints
    kinds: Bytes
    doubled: Bools
    first: Ints
    stop: Ints
    regular: Bools


@dataclass(slots=True)
class Positions:
    """By line: whether it is regular to its end, the number of each wanted field (-1 if it has none), entries of execHosts."""

    ended: Bools
    fields: dict[str, Ints]
    host_entries: Ints


def job_batch(lexed: Lexed, positions: Positions, block: Block, source: Source, label: str) -> tuple[pa.RecordBatch, Bools]:
    """The records of the lines that need no decision, and which lines of the block they are."""
    if not positions.ended.any():
        return JOB.empty(), positions.ended
    rows = _Rows(lexed, positions)
    rows.keep(_plain_version(rows) & _plain_times(rows) & _plain_cpu(rows) & _plain_index(rows) & rows.hosts.plain)
    columns = _origin(rows, block, source, label) | _identity(rows, source) | _times(rows) | _usage(rows)
    columns |= _allocation(rows) | _ending(rows)
    columns |= {column: rows.text(name) for column, name in TEXT_FIELDS}
    count = len(rows.lines)
    arrays = [columns[c.name] if c.name in columns else pa.nulls(count, cast("Any", c.type)) for c in JOB.columns]
    taken = np.zeros(len(lexed.starts), np.bool_)
    taken[rows.lines] = True
    return pa.RecordBatch.from_arrays(arrays, schema=JOB.schema), taken


class _Rows:
    """Some lines of a block, and their fields as columns; an integer that a line does not have is -1, a real number NaN."""

    def __init__(self, lexed: Lexed, positions: Positions) -> None:
        self.lexed = lexed
        self.lines = np.flatnonzero(positions.ended)
        self.fields = {name: at[self.lines] for name, at in positions.fields.items()}
        integers = _integers(lexed, np.concatenate([self.fields[name] for name in INTEGERS]))
        self.integers: dict[str, Ints] = dict(zip(INTEGERS, integers.reshape(len(INTEGERS), -1), strict=True))
        self.reals = {name: self._reals(name) for name in REALS}
        self.hosts = _hosts(lexed, self.fields[EXEC_HOSTS], positions.host_entries[self.lines])

    def keep(self, good: Bools) -> None:
        if good.all():
            return
        self.lines = self.lines[good]
        self.fields = {name: at[good] for name, at in self.fields.items()}
        self.integers = {name: numbers[good] for name, numbers in self.integers.items()}
        self.reals = {name: numbers[good] for name, numbers in self.reals.items()}
        self.hosts = self.hosts.of(good)

    def text(self, name: str) -> pa.Array[Any]:
        """The strings of a field; null where empty, or where a line does not have the field."""
        at = self.fields[name]
        starts, ends = self.lexed.field_starts[at] + 1, self.lexed.field_ends[at] - 1
        text = spans_of(self.lexed.data, starts, ends, pa.string(), (at >= 0) & (ends > starts))
        return compute.replace_substring(text, '""', '"') if self.lexed.doubled[at].any() else text

    def _reals(self, name: str) -> Reals:
        at = self.fields[name]
        written = spans_of(self.lexed.data, self.lexed.field_starts[at], self.lexed.field_ends[at], pa.string(), at >= 0)
        reals: Reals = compute.fill_null(compute.cast(written, pa.float64()), np.nan).to_numpy()
        return reals


def _integers(lexed: Lexed, at: Ints) -> Ints:
    """Fields of plain integers of at most 16 digits; -1 where there is none (`at` is -1)."""
    starts, ends = lexed.field_starts[at], lexed.field_ends[at]
    negative = lexed.array[starts] == ord("-")
    digits = ends - starts - negative
    numbers = _eight_digits(lexed.data, ends - 8, np.minimum(digits, 8))
    if digits.max(initial=0) > 8:
        numbers += _eight_digits(lexed.data, np.maximum(ends - 16, 0), np.maximum(digits - 8, 0)) * 100_000_000
    return np.where(at < 0, -1, np.where(negative, -numbers, numbers))


def _eight_digits(data: bytes, at: Ints, digits: Ints) -> Ints:
    """The number that the last `digits` (0 to 8) of the eight bytes from each of `at` on spell.

    The eight bytes are one little-endian word, bytes before the digits masked to 0; then neighbours are joined: 8 digits to 4
    pairs, to 2 fours, to one number.
    """
    words = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))[at]
    words &= np.uint64(0x0F0F0F0F0F0F0F0F)
    words &= np.uint64(0xFFFFFFFFFFFFFFFF) << (64 - 8 * digits).astype(np.uint64)
    words = (words * np.uint64(10 * 256 + 1)) >> np.uint64(8)
    words = ((words & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 * 65536 + 1)) >> np.uint64(16)
    words = ((words & np.uint64(0x0000FFFF0000FFFF)) * np.uint64((10000 << 32) + 1)) >> np.uint64(32)
    return words.astype(np.int64)


def _plain_version(rows: _Rows) -> Bools:
    """An integer version is Lava's, which has another table."""
    versions = rows.text("version").dictionary_encode()
    plain = [version is None or not version.encode().isdigit() for version in (*versions.dictionary.to_pylist(), None)]
    which: Ints = compute.fill_null(versions.indices, len(plain) - 1).to_numpy()
    return np.array(plain)[which]


def _plain_times(rows: _Rows) -> Bools:
    times = rows.integers
    plain: Bools = (times["eventTime"] > 0) & (times["startTime"] <= times["eventTime"])
    for name in ("eventTime", "submitTime", "beginTime", "startTime"):
        plain &= (times[name] >= 0) & (times[name] <= LAST_INSTANT)
    return plain


def _plain_cpu(rows: _Rows) -> Bools:
    """Written with six decimals, as LSF does, and of a size that doubles hold exactly."""
    plain = np.ones(len(rows.lines), np.bool_)
    for name in ("ru_utime", "ru_stime"):
        dot = rows.lexed.field_ends[rows.fields[name]] - CPU_DECIMALS - 1
        plain &= (rows.reals[name] < LARGEST_CPU_S) & (rows.lexed.array[dot] == ord("."))
    return plain


def _plain_index(rows: _Rows) -> Bools:
    plain: Bools = (rows.integers["idx"] >= 0) & (rows.integers["idx"] <= LARGEST_INDEX) & (rows.integers["jobId"] > 0)
    return plain


@dataclass(slots=True)
class _Hosts:
    """The allocations of some lines. Most have a `lone` slot on the host named in `names`; of the others `distinct` are the
    different ones, and `which` tells the one of each line; the last is no host at all.
    """

    lone: Bools
    names: pa.Array[Any]
    distinct: list[ExecHosts | None]
    which: Ints

    @property
    def plain(self) -> Bools:
        """False for what the careful lane has to look at: LSF-SLURM's stand-in, hosts without a name, quotes in names."""
        known = np.array([hosts is not None and not hosts.is_slurm for hosts in self.distinct])
        known[-1] = True
        return known[self.which]

    def of(self, good: Bools) -> _Hosts:
        return _Hosts(self.lone[good], self.names.filter(pa.array(good)), self.distinct, self.which[good])


def _hosts(lexed: Lexed, first: Ints, entries: Ints) -> _Hosts:
    """The execHosts of each line: `entries` fields from number `first` on."""
    starts, lone_ends = lexed.field_starts[first], lexed.field_ends[first]
    lone = (entries == 1) & (lone_ends - starts > len('""'))
    names = spans_of(lexed.data, starts + 1, lone_ends - 1, pa.string(), lone)
    if not _are_plain_names(names):
        lone[:] = False
    several = (entries > 0) & ~lone
    ends = lexed.field_ends[np.where(several, first + entries - 1, first)]
    encoded = spans_of(lexed.data, starts, ends, pa.binary(), several).dictionary_encode()
    distinct = [_hosts_of(raw or b"") for raw in encoded.dictionary.to_pylist()]
    return _Hosts(lone, names, [*distinct, None], compute.fill_null(encoded.indices, len(distinct)).to_numpy())


def _are_plain_names(names: pa.Array[Any]) -> bool:
    """Whether none of these hosts is LSF-SLURM's, counts slots (`n*host`), or is spelt otherwise in JSON."""
    buffer = names.buffers()[2]
    letters = np.frombuffer(memoryview(buffer), np.uint8) if buffer is not None and buffer.size else np.zeros(0, np.uint8)
    odd = (letters < ord(" ")) | (letters == ord('"')) | (letters == ord("*")) | (letters == ord("\\"))
    return not odd.any() and not compute.any(compute.equal(names, SLURM_HOST)).as_py()


def _hosts_of(raw: bytes) -> ExecHosts | None:
    return _hosts_of_short(raw) if len(raw) <= LONGEST_KEPT else _hosts_of_any(raw)


def _hosts_of_any(raw: bytes) -> ExecHosts | None:
    """The allocation of `"a" "b"`; None if a quote is doubled, or a name is empty (it looks the same)."""
    return None if b'""' in raw else exec_hosts(raw[1:-1].split(b'" "'))


_hosts_of_short = lru_cache(maxsize=1 << 16)(_hosts_of_any)


def _origin(rows: _Rows, block: Block, source: Source, label: str) -> dict[str, pa.Array[Any]]:
    starts, ends = rows.lexed.starts[rows.lines], rows.lexed.ends[rows.lines]
    native = spans_of(rows.lexed.data, starts, ends, pa.binary())
    units = native.to_numpy(zero_copy_only=False)
    hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, units), np.uint64, len(starts))
    return {
        "native": native,
        "content_hash": pa.array(hashes.view(np.int64)),
        "source": pa.repeat(pa.scalar(source.name, pa.string()), len(starts)),
        "source_offset": pa.array(starts + block.offset),
        "parser": pa.repeat(pa.scalar(label, pa.string()), len(starts)),
    }


def _identity(rows: _Rows, source: Source) -> dict[str, pa.Array[Any]]:
    count = len(rows.lines)
    index = rows.integers["idx"]
    job_id = compute.cast(pa.array(rows.integers["jobId"]), pa.string())
    rest = [compute.cast(pa.array(rows.integers[n]), pa.string()) for n in ("idx", "submitTime", "startTime", "eventTime")]
    return {
        "record_key": compute.binary_join_element_wise(f"lsf:{source.cluster}", job_id, *rest, ":"),
        "site": pa.repeat(pa.scalar(source.site, pa.string()), count),
        "cluster": pa.repeat(pa.scalar(source.cluster, pa.string()), count),
        "lrms": pa.repeat(pa.scalar("LSF", pa.string()), count),
        "lrms_job_id": job_id,
        "join_id": job_id,
        "array_index": pa.array(index, mask=index <= 0),
        "user_id": pa.array(rows.integers["userId"]),
        "group_name": _groups(rows),
    }


def _groups(rows: _Rows) -> pa.Array[Any]:
    """What `group_of` makes of chargedSAAP: it ends before the second slash, or before the first if none leads it."""
    lexed, there = rows.lexed, rows.fields["chargedSAAP"] >= 0
    at = np.where(there, rows.fields["chargedSAAP"], 0)
    starts = lexed.field_starts[at] + 1
    starts += lexed.array[starts] == ord("/")
    slashes = np.append(np.flatnonzero(lexed.array == ord("/")), len(lexed.array))
    ends = np.minimum(slashes[np.searchsorted(slashes, starts)], lexed.field_ends[at] - 1)
    groups = spans_of(lexed.data, starts, ends, pa.string(), there & (ends > starts))
    return compute.replace_substring(groups, '""', '"') if lexed.doubled[at].any() else groups


def _of_distinct(text: pa.Array[Any], judge: Callable[[bytes], object], kind: pa.DataType) -> pa.Array[Any]:
    """`judge` of each text, called once for each distinct one; null stays null."""
    encoded = text.dictionary_encode()
    judged = [judge((value or "").encode()) for value in encoded.dictionary.to_pylist()]
    taken: pa.Array[Any] = compute.take(pa.array(judged, kind), encoded.indices)
    return taken


def _times(rows: _Rows) -> dict[str, pa.Array[Any]]:
    submit, begin, start, end = (rows.integers[n] for n in ("submitTime", "beginTime", "startTime", "eventTime"))
    elapsed, run_time = end - start, rows.integers["runTime"]
    wall = np.where((run_time >= 0) & (run_time <= elapsed), run_time, elapsed)
    ended = _instants(end, end > 0)
    return {
        "submit_at": _instants(submit, submit > 0),
        "eligible_at": _instants(begin, begin > submit),
        "start_at": _instants(start, start > 0),
        "end_at": ended,
        "logged_at": ended,
        "wall_duration_s": pa.array(wall, mask=start == 0),
    }


def _instants(seconds: Ints, known: Bools) -> pa.Array[Any]:
    return pa.array(seconds, mask=~known).view(INSTANT)


def _usage(rows: _Rows) -> dict[str, pa.Array[Any]]:
    user, system, energy = (rows.reals[name] for name in ("ru_utime", "ru_stime", "serial_job_energy"))
    real, virtual = rows.integers["maxRMem"], rows.integers["maxRSwap"]
    unknown = (user < 0) | (system < 0)
    user_us, system_us = (np.rint(seconds * 1e6).astype(np.int64) for seconds in (user, system))
    seconds, rest = np.divmod(user_us + system_us, 1_000_000)
    seconds += (rest > 500_000) | ((rest == 500_000) & (seconds % 2 == 1))
    return {
        "cpu_user_s": pa.array(user_us / 1e6, mask=unknown),
        "cpu_system_s": pa.array(system_us / 1e6, mask=unknown),
        "cpu_duration_s": pa.array(seconds, mask=unknown),
        "memory_real_kib": pa.array(real, mask=real < 0),
        "memory_virtual_kib": pa.array(virtual, mask=virtual < 0),
        "host_factor": pa.array(rows.reals["hostFactor"]),
        "energy_j": pa.array(energy, mask=~(energy > 0)),
    }


def _allocation(rows: _Rows) -> dict[str, pa.Array[Any]]:
    hosts, which, lone = rows.hosts, pa.array(rows.hosts.which), pa.array(rows.hosts.lone)
    texts, slots, nodes = (
        compute.take(pa.array([one and getattr(one, name) for one in hosts.distinct], kind), which)
        for name, kind in (("text", pa.string()), ("slots", pa.int64()), ("nodes", pa.int64()))
    )
    nodes = compute.if_else(lone, 1, nodes)
    lone_text = compute.binary_join_element_wise('["1*', hosts.names, '"]', "")
    columns = {
        "exec_hosts": compute.if_else(lone, lone_text, texts),
        "processors": compute.if_else(lone, 1, slots),
        "node_count": nodes,
    }
    if b"ngpus_physical=" in rows.lexed.data:
        gpus = compute.multiply(_of_distinct(rows.text("effectiveResReq"), gpus_a_host, pa.int64()), nodes)
        started = pa.array(rows.integers["startTime"] > 0)
        columns["gpu_count"] = compute.if_else(started, gpus, pa.scalar(None, pa.int64()))
    return columns


def _ending(rows: _Rows) -> dict[str, pa.Array[Any]]:
    status, reason = rows.integers["exitStatus"], rows.integers["exitInfo"]
    never_started = rows.integers["startTime"] == 0
    unknown = never_started | (status < 0) | (status > 0xFFFF)
    signal = status & 0x7F
    conditions = [never_started, rows.integers["jStatus"] & FINISHED != 0]
    conditions += [np.isin(reason, sorted(reasons)) for reasons in (TIMEOUT, OUT_OF_MEMORY, CANCELLED)]
    state = np.select(conditions, range(len(conditions)), len(conditions))
    return {
        "exit_code": pa.array(status >> 8, mask=unknown),
        "exit_signal": pa.array(signal, mask=unknown | (signal == 0)),
        "state": compute.take(pa.array(STATES, pa.string()), pa.array(state)),
    }
