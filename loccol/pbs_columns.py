"""The columns of job records from the attributes of many E lines at once: the second half of the fast lane.

Each is what `loccol.pbs_job.ended_job` makes of the same attributes; lines about which there is something to decide are dropped
on the way, for that function to decide.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import numpy as np
import pyarrow as pa

from batchacct.model import JOB_STATES
from batchacct.parsing import Reject, Source
from batchacct.parsing.columnar import spans_of
from loccol.pbs_hosts import GPU_COUNTS, GPU_TYPE, SELECT, SPECIFICATIONS, Hosts, exec_hosts, gpus
from loccol.pbs_job import (
    KILLED,
    MARKS,
    NO_GROUP,
    NO_PROJECT,
    SHELL_SAYS_KILLED,
    SIGNALS,
    STATES,
    kills,
    requested_kib,
)
from loccol.pbs_lex import BACKSLASH, BLANK, QUOTE, Bools, Ints, after, compute, ids
from loccol.pbs_line import REQUESTED, USED
from loccol.pbs_rows import Rows, instants, is_true, read_counts, read_durations, read_signed, read_sizes, read_times, same
from loccol.pbs_slots import MARGIN, Allocations, allocations, vnode_cpus_of

Columns = dict[str, "pa.Array[Any]"]

LONGEST_KEPT = 200
"""Bytes of a list of hosts that is remembered from one block to the next; longer ones seldom come again."""
LEFT = (REQUESTED + b"mppwidth",)
"""Attributes of lines that are left to the careful lane."""
GPU_ATTRIBUTES = (b"exec_vnode", *GPU_COUNTS, *SPECIFICATIONS, GPU_TYPE, SELECT)

OPENING_BRACE, CLOSING_BRACE = b"{}"

_NONE = pa.scalar(None, pa.string())


def job_columns(rows: Rows, source: Source) -> tuple[Columns, Ints]:
    """The columns of the lines that need no decision, and which lines they are."""
    found, regular = ids(rows.block, rows.lines)
    rows.good = regular
    rows.keep()
    for name in LEFT:
        rows.good &= rows.at(name) < 0
    rows.good &= rows.at(b"exec_host") >= 0
    resources = Resources(rows)
    numbers = Numbers(rows)
    hosts = HostColumns(rows)
    good = rows.good
    if not good.all():
        rows.keep()
        found = {name: column.filter(pa.array(good)) for name, column in found.items()}
    start, end = numbers.times[b"start"][good], numbers.times[b"end"][good]
    columns: Columns = {
        "record_key": record_keys(same("E", len(start)), source, found["written"], start, end),
        "lrms_job_id": found["without"],
        "join_id": found["number"],
        "array_index": found["index"],
        "resources": resources.column(good),
    }
    return columns | texts(rows) | numbers.columns(good) | hosts.columns(good) | gpu_columns(rows), rows.lines


class Numbers:
    """Times, usage and exit status, of all lines of some rows; the rows learn which lines are not regular."""

    def __init__(self, rows: Rows) -> None:
        self.times = {name: rows.numbers(name, read_times)[0] for name in (b"ctime", b"etime", b"start", b"end")}
        start, end = self.times[b"start"], self.times[b"end"]
        rows.good &= (start > 0) & (end >= start)
        self.cput, self.has_cput = rows.numbers(USED + b"cput", read_durations)
        walltime, has_walltime = rows.numbers(USED + b"walltime", read_durations)
        stated = has_walltime & (walltime <= 2 * (end - start))
        self.wall = np.where(stated, walltime, end - start)
        self.sizes = {name: rows.numbers(USED + name, read_sizes) for name in (b"mem", b"vmem")}
        self.energy, _ = rows.numbers(USED + b"energy_used", read_counts)
        runs, has_runs = rows.numbers(b"run_count", read_counts)
        starts, has_starts = rows.numbers(b"start_count", read_counts)
        self.runs, self.has_runs = np.where(has_runs, runs, starts), has_runs | has_starts
        self.status, has_status = rows.numbers(b"Exit_status", read_signed)
        rows.good &= has_status
        self.state = _states(rows, self.status, self.wall)

    def columns(self, good: Bools) -> Columns:
        ctime, etime, start, end = (self.times[name][good] for name in (b"ctime", b"etime", b"start", b"end"))
        ended = instants(end, end > 0)
        sizes = {name: pa.array(kib[good], mask=~there[good]) for name, (kib, there) in self.sizes.items()}
        status, energy = self.status[good], self.energy[good]
        return {
            "submit_at": instants(ctime, ctime > 0),
            "eligible_at": instants(etime, etime > 0),
            "start_at": instants(start, start > 0),
            "end_at": ended,
            "logged_at": ended,
            "wall_duration_s": pa.array(self.wall[good]),
            "cpu_duration_s": pa.array(self.cput[good], mask=~self.has_cput[good]),
            "memory_real_kib": sizes[b"mem"],
            "memory_virtual_kib": sizes[b"vmem"],
            "energy_j": pa.array(energy.astype(np.float64), mask=energy == 0),
            "run_number": pa.array(self.runs[good], mask=~self.has_runs[good]),
            "exit_code": pa.array(status, mask=(status < 0) | (status >= KILLED)),
            "exit_signal": pa.array(status - KILLED, mask=(status <= KILLED) | (status >= KILLED + SIGNALS)),
            "state": compute.take(pa.array(JOB_STATES, pa.string()), pa.array(self.state[good])),
        }


def _states(rows: Rows, status: Ints, wall: Ints) -> Ints:
    """What `loccol.pbs_job` makes of each exit status, as number of the state; a killed job's limit must be readable."""
    state = np.where(status == 0, JOB_STATES.index("completed"), JOB_STATES.index("failed"))
    killed = np.flatnonzero(np.isin(status, (*kills(SHELL_SAYS_KILLED), *kills(KILLED))))
    limit = rows.at(REQUESTED + b"walltime")[killed]
    limited, limit = killed[limit >= 0], limit[limit >= 0]
    seconds, readable = read_durations(rows.block, rows.fields.starts[limit], rows.fields.ends[limit])
    rows.good[limited] &= readable
    state[limited[(seconds > 0) & (wall[limited] >= seconds)]] = JOB_STATES.index("timeout")
    if (status < 0).any():
        marked = {
            flavour: sum((rows.at(name) >= 0 for name in names), np.zeros(len(status), np.bool_)) > 0
            for flavour, names in MARKS.items()
        }
        for flavour, meanings in STATES.items():
            alone = marked[flavour] & (sum(marked.values()) == 1)
            for value, meaning in meanings.items():
                state[alone & (status == value)] = JOB_STATES.index(meaning)
    return state


class HostColumns:
    """The allocations of all lines of some rows; the rows learn which lines are not regular."""

    def __init__(self, rows: Rows) -> None:
        lists = rows.values(b"exec_host")
        found = allocations(lists)
        if len(lists.rows) < len(rows.lines) or not found.regular.all():
            found = _with_others(rows, lists.rows, found)
            rows.good &= found.regular
        self.found = found
        vnodes = rows.values(b"exec_vnode")
        self.vnodes = np.zeros(len(rows.lines), np.int64)
        self.vnodes[vnodes.rows] = vnode_cpus_of(vnodes)
        self.stated, _ = rows.numbers(b"total_execution_slots", read_counts)

    def columns(self, good: Bools) -> Columns:
        texts, every = self.found.texts, good.all()
        processors = np.where(self.stated > 0, self.stated, np.where(self.vnodes > 0, self.vnodes, self.found.slots))
        return {
            "exec_hosts": texts if every else texts.filter(pa.array(good)),
            "node_count": pa.array(self.found.nodes[good]),
            "processors": pa.array(processors[good]),
        }


def _with_others(rows: Rows, plain: Ints, found: Allocations) -> Allocations:
    """By row: of the rows `plain` what was found, where it is regular; of the others each distinct list is looked at once."""
    which = np.zeros(len(rows.lines), np.int64)
    which[plain] = np.arange(len(plain))
    regular = np.zeros(len(rows.lines), np.bool_)
    regular[plain] = found.regular
    others = np.flatnonzero(~regular)
    distinct = compute.take(rows.text(b"exec_host"), pa.array(others)).dictionary_encode()
    hosts = [*map(_hosts_of, distinct.dictionary.to_pylist()), None]
    codes = compute.fill_null(distinct.indices, len(hosts) - 1).to_numpy().astype(np.int64)
    regular[others] = np.array([one is not None for one in hosts])[codes]
    which[others] = len(plain) + codes
    texts = pa.concat_arrays([found.texts, pa.array([one and one.text for one in hosts], pa.string())])
    slots = np.append(found.slots, [one.slots if one else 0 for one in hosts])
    nodes = np.append(found.nodes, [one.nodes if one else 0 for one in hosts])
    return Allocations(compute.take(texts, pa.array(which)), slots[which], nodes[which], regular)


def _hosts_of(exec_host: str) -> Hosts | None:
    return _hosts_of_short(exec_host) if len(exec_host) <= LONGEST_KEPT else _hosts_of_any(exec_host)


def _hosts_of_any(exec_host: str) -> Hosts | None:
    """None for what the careful lane has to look at: a chunk `*0`, or slots that are not understood."""
    if "*0" in exec_host:
        return None
    try:
        return exec_hosts(exec_host)
    except Reject:
        return None


_hosts_of_short = lru_cache(maxsize=1 << 16)(_hosts_of_any)


def texts(rows: Rows) -> Columns:
    group, account, project = rows.text(b"group"), rows.text(b"account"), _unless(NO_PROJECT, rows.text(b"project"))
    return {
        "user_name": rows.text(b"user"),
        "group_name": _unless(NO_GROUP, group),
        "project": project if account.null_count == len(account) else compute.coalesce(account, project),
        "queue": rows.text(b"queue"),
        "submit_host": _submit_hosts(rows),
        "job_name": rows.text(b"jobname"),
        "memory_requested_kib": rows.of_distinct(REQUESTED + b"mem", requested_kib, pa.int64()),
    }


def _unless(nothing: bytes, column: pa.Array[Any]) -> pa.Array[Any]:
    """Null for what means nothing."""
    if column.null_count == len(column):
        return column
    is_nothing = compute.equal(column, nothing.decode())
    kept: pa.Array[Any] = compute.if_else(is_nothing, _NONE, column) if compute.any(is_nothing).as_py() else column
    return kept


def _submit_hosts(rows: Rows) -> pa.Array[Any]:
    """What follows the last `@` of owner."""
    owners = rows.values(b"owner")
    signs = np.append(0, np.flatnonzero(owners.array == ord("@")))
    last = signs[np.searchsorted(signs, owners.ends) - 1] + 1
    starts = after(owners.ends)
    starts[:1] = MARGIN
    there = (last > starts) & (last < owners.ends)
    hosts = spans_of(owners.array, last, owners.ends, pa.string(), there)
    if len(owners.rows) == len(rows.lines):
        return hosts
    which = np.full(len(rows.lines), -1)
    which[owners.rows] = np.arange(len(owners.rows))
    column: pa.Array[Any] = compute.take(hosts, pa.array(which, mask=which < 0))
    return column


class Resources:
    """The `resources_used` attributes of all lines of some rows; the rows learn which lines are not regular.

    They follow each other, and their text turns to JSON by changing what is between them:
    `mem=1kb resources_used.vmem=2kb` is `{"mem":"1kb","vmem":"2kb"}`.
    """

    def __init__(self, rows: Rows) -> None:
        fields, lines = rows.fields, rows.lines
        first = fields.by_layout([layout.first_used for layout in fields.layouts], lines)
        last = fields.by_layout([layout.last_used for layout in fields.layouts], lines)
        plain = fields.by_layout([layout.together for layout in fields.layouts], lines) > 0
        there = first >= 0
        self.count = np.where(there, last - first + 1, 0)
        first, last = fields.first[lines] + first, fields.first[lines] + last
        closes = np.minimum(fields.at[last + 1], fields.closes[lines])
        plain &= closes - fields.at[first] == 2 * self.count
        if fields.quoted.any():
            quoted = np.append(0, np.cumsum(fields.quoted))
            plain &= quoted[last + 1] == quoted[first]
        rows.good &= plain | ~there
        self.text = rows.block.text(fields.names[first] - 1, fields.ends[last] + 1, there)
        if _has_any(self.text, (QUOTE, BACKSLASH)):
            rows.good &= ~is_true(compute.match_substring_regex(self.text, r'["\\]'))

    def column(self, good: Bools) -> pa.Array[Any]:
        """A text is ` resources_used.mem=1kb resources_used.vmem=2kb ` here, and as long as its JSON once names and `=` are
        replaced: `","mem":"1kb","vmem":"2kb `. So it is moved by one, and its ends are put right.
        """
        text = self.text if good.all() else self.text.filter(pa.array(good))
        count = self.count[good]
        valid, offsets, data = cast("list[Any]", text.buffers())
        bounds = np.frombuffer(offsets, np.int32, len(text) + 1)
        there = np.flatnonzero(count)
        array = np.array(np.frombuffer(data or b"", np.uint8))
        array[bounds[there]] = BLANK
        replaced = _replaced(_replaced(pa.py_buffer(array.data), " " + USED.decode(), '","'), "=", '":"')
        bounds = bounds + np.append(0, np.cumsum(count * (len('","":"') - len(USED) - len(" =")))).astype(np.int32)
        array = np.append(np.frombuffer(cast("Any", replaced), np.uint8), np.uint8(BLANK))
        array[bounds[there + 1] - 1] = QUOTE
        array[bounds[there] + 1] = OPENING_BRACE
        array[bounds[there + 1]] = CLOSING_BRACE
        whole = [valid, pa.py_buffer((bounds + np.int32(1)).data), pa.py_buffer(array.data)]
        joined: pa.Array[Any] = pa.Array.from_buffers(pa.string(), len(text), whole)
        return joined


def _replaced(data: pa.Buffer, pattern: str, replacement: str) -> pa.Buffer:
    """As `bytes.replace`, which is slower for a long pattern, and lets no other thread run."""
    bounds = pa.py_buffer(np.array([0, data.size], np.int32).data)
    whole = pa.Array.from_buffers(pa.binary(), 1, [None, bounds, data])
    replaced = compute.replace_substring(whole, pattern, replacement).buffers()[2]
    return replaced or pa.py_buffer(b"")


def _has_any(text: pa.Array[Any], letters: tuple[int, ...]) -> bool:
    """Whether any of these bytes is anywhere in the texts."""
    buffer = text.buffers()[2]
    data = b"" if buffer is None else buffer.to_pybytes()
    return any(letter in data for letter in letters)


def gpu_columns(rows: Rows) -> Columns:
    """GPUs of the lines that speak of any, each distinct combination of what they say looked at once."""
    array = rows.block.array
    if not ((array[:-2] == ord("g")) & (array[1:-1] == ord("p")) & (array[2:] == ord("u"))).any():
        return {}
    speaks = np.zeros(len(rows.lines), np.bool_)
    for name in (b"exec_vnode", *SPECIFICATIONS):
        if rows.fields.has(name):
            speaks |= is_true(rows.of_distinct(name, lambda value: b"gpu" in value, pa.bool_()))
    for name in GPU_COUNTS:
        if rows.fields.has(name):
            speaks |= is_true(compute.not_equal(rows.text(name), "0"))
    if not speaks.any():
        return {}
    said = {name: rows.text(name, pa.binary()) for name in GPU_ATTRIBUTES}
    chosen = np.flatnonzero(speaks)
    values = zip(*(compute.take(said[name], pa.array(chosen)).to_pylist() for name in GPU_ATTRIBUTES), strict=True)
    counts: list[int | None] = [None] * len(rows.lines)
    models: list[str | None] = [None] * len(rows.lines)
    for row, value in zip(chosen.tolist(), values, strict=True):
        counts[row], models[row] = _gpus(value)
    return {"gpu_count": pa.array(counts, pa.int64()), "gpu_model": pa.array(models, pa.string())}


@lru_cache(maxsize=1 << 12)
def _gpus(values: tuple[bytes | None, ...]) -> tuple[int | None, str | None]:
    found = gpus({name: value for name, value in zip(GPU_ATTRIBUTES, values, strict=True) if value is not None})
    count, model = found.get("gpu_count"), found.get("gpu_model")
    return count if isinstance(count, int) else None, model if isinstance(model, str) else None


def record_keys(letters: pa.Array[Any], source: Source, written: pa.Array[Any], start: Ints, logged_at: Ints) -> pa.Array[Any]:
    """What `loccol.pbs_job.identity` makes the keys of."""
    rest = (_decimal(start), _decimal(logged_at), ":")
    keys: pa.Array[Any] = compute.binary_join_element_wise("pbs", letters, source.cluster, written, *rest)
    return keys


def _decimal(numbers: Ints) -> pa.Array[Any]:
    text: pa.Array[Any] = compute.cast(pa.array(numbers), pa.string())
    return text
