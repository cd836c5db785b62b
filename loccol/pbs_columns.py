"""The columns of job records from the attributes of many E lines at once: the second half of the fast lane.

Each is what `loccol.pbs_job.ended_job` makes of the same attributes; lines about which there is something to decide are dropped
on the way, for that function to decide.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from batchacct.model import JOB_STATES
from batchacct.parsing import Reject, Source
from loccol.pbs_hosts import GPU_COUNTS, GPU_TYPE, SELECT, SPECIFICATIONS, Hosts, exec_hosts, gpus, vnode_cpus
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
from loccol.pbs_lex import BACKSLASH, QUOTE, Bools, Ints, compute, ids
from loccol.pbs_line import REQUESTED, USED
from loccol.pbs_rows import Rows, instants, is_true, read_counts, read_durations, read_signed, read_sizes, read_times, same

Columns = dict[str, "pa.Array[Any]"]

LONGEST_KEPT = 200
"""Bytes of a list of hosts that is remembered from one block to the next; longer ones seldom come again."""
LEFT = (REQUESTED + b"mppwidth",)
"""Attributes of lines that are left to the careful lane."""
GPU_ATTRIBUTES = (b"exec_vnode", *GPU_COUNTS, *SPECIFICATIONS, GPU_TYPE, SELECT)

_LONE_HOST = r'^(?P<name>[^/+*"\\]+)/[0-9]{1,9}(?:\*(?P<slots>[0-9]{1,9}))?$'
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
    """The allocations of all lines of some rows; the rows learn which lines are not regular.

    Most jobs have all their slots on one host; of the others each distinct list of hosts is looked at once.
    """

    def __init__(self, rows: Rows) -> None:
        value = rows.text(b"exec_host")
        lone = compute.extract_regex(value, _LONE_HOST)
        is_lone = compute.is_valid(lone)
        count = compute.struct_field(lone, "slots")
        self.lone_slots = compute.if_else(compute.equal(count, ""), "1", count).cast(pa.int64())
        name = compute.struct_field(lone, "name")
        self.lone_text = compute.binary_join_element_wise('["', self.lone_slots.cast(pa.string()), "*", name, '"]', "")
        rest = compute.if_else(is_lone, _NONE, value).dictionary_encode()
        hosts = [_hosts_of(text) for text in rest.dictionary.to_pylist()]
        self.hosts = [*hosts, None]
        self.which: Ints = compute.fill_null(rest.indices, len(hosts)).to_numpy().astype(np.int64)
        self.is_lone: Bools = is_lone.to_numpy(zero_copy_only=False)
        readable = np.array([one is not None for one in self.hosts])[self.which]
        some = compute.fill_null(compute.greater(self.lone_slots, 0), False).to_numpy(zero_copy_only=False)
        rows.good &= np.where(self.is_lone, some, readable)
        self.vnodes = rows.of_distinct(b"exec_vnode", _vnode_cpus, pa.int64())
        self.slots, _ = rows.numbers(b"total_execution_slots", read_counts)

    def columns(self, good: Bools) -> Columns:
        chosen, is_lone, which = pa.array(good), pa.array(self.is_lone[good]), pa.array(self.which[good])
        texts, slots, nodes = (
            compute.take(pa.array([one and getattr(one, name) for one in self.hosts], kind), which)
            for name, kind in (("text", pa.string()), ("slots", pa.int64()), ("nodes", pa.int64()))
        )
        stated = pa.array(self.slots[good], mask=self.slots[good] == 0)
        vnodes = self.vnodes.filter(chosen)
        vnodes = compute.if_else(compute.equal(vnodes, 0), pa.scalar(None, pa.int64()), vnodes)
        slots = compute.if_else(is_lone, self.lone_slots.filter(chosen), slots)
        return {
            "exec_hosts": compute.if_else(is_lone, self.lone_text.filter(chosen), texts),
            "node_count": compute.if_else(is_lone, 1, nodes),
            "processors": compute.coalesce(stated, vnodes, slots),
        }


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


def _vnode_cpus(exec_vnode: bytes) -> int | None:
    return _vnode_cpus_of_short(exec_vnode) if len(exec_vnode) <= LONGEST_KEPT else vnode_cpus(exec_vnode)


_vnode_cpus_of_short = lru_cache(maxsize=1 << 16)(vnode_cpus)


def texts(rows: Rows) -> Columns:
    group, account, project = rows.text(b"group"), rows.text(b"account"), rows.text(b"project")
    owner = rows.at(b"owner")
    signs = np.append(-1, np.flatnonzero(rows.block.array == ord("@")))
    ends = np.where(owner >= 0, rows.fields.ends[owner], 0)
    last = signs[np.searchsorted(signs, ends) - 1] + 1
    there = (owner >= 0) & (last > np.where(owner >= 0, rows.fields.starts[owner], 0)) & (last < ends)
    return {
        "user_name": rows.text(b"user"),
        "group_name": compute.if_else(compute.equal(group, NO_GROUP.decode()), _NONE, group),
        "project": compute.coalesce(account, compute.if_else(compute.equal(project, NO_PROJECT.decode()), _NONE, project)),
        "queue": rows.text(b"queue"),
        "submit_host": rows.block.text(last, ends, there),
        "job_name": rows.text(b"jobname"),
        "memory_requested_kib": rows.of_distinct(REQUESTED + b"mem", requested_kib, pa.int64()),
    }


class Resources:
    """The `resources_used` attributes of all lines of some rows; the rows learn which lines are not regular.

    They follow each other, and their text turns to JSON by changing what is between them:
    `mem=1kb resources_used.vmem=2kb` is `{"mem":"1kb","vmem":"2kb"}`.
    """

    def __init__(self, rows: Rows) -> None:
        fields, count = rows.fields, len(rows.block.starts)
        at = np.flatnonzero(fields.used)
        first, last = np.full(count, -1), np.full(count, -1)
        first[fields.line[at[::-1]]] = at[::-1]
        last[fields.line[at]] = at
        plain = (first < 0) | (last - first + 1 == np.bincount(fields.line[at], minlength=count))
        ends = rows.block.separators[np.minimum(fields.at[at] + 2, len(rows.block.separators) - 1)]
        plain[fields.line[at[fields.quoted[at] | (ends != fields.ends[at])]]] = False
        rows.good &= plain[rows.lines]
        first, last = first[rows.lines], last[rows.lines]
        self.text = rows.block.text(fields.names[first] + len(USED), fields.ends[last], first >= 0)
        if _has_any(self.text, (QUOTE, BACKSLASH)):
            rows.good &= ~is_true(compute.match_substring_regex(self.text, r'["\\]'))

    def column(self, good: Bools) -> pa.Array[Any]:
        text = self.text if good.all() else self.text.filter(pa.array(good))
        text = compute.replace_substring(text, " " + USED.decode(), '","')
        text = compute.replace_substring(text, "=", '":"')
        joined: pa.Array[Any] = compute.binary_join_element_wise('{"', text, '"}', "")
        return joined


def _has_any(text: pa.Array[Any], letters: tuple[int, ...]) -> bool:
    """Whether any of these bytes is anywhere in the texts."""
    buffer = text.buffers()[2]
    data = b"" if buffer is None else buffer.to_pybytes()
    return any(letter in data for letter in letters)


def gpu_columns(rows: Rows) -> Columns:
    """GPUs of the lines that speak of any, each distinct combination of what they say looked at once."""
    speaks = np.zeros(len(rows.lines), np.bool_)
    for name in (b"exec_vnode", *SPECIFICATIONS):
        if name in rows.fields.fields:
            speaks |= is_true(rows.of_distinct(name, lambda value: b"gpu" in value, pa.bool_()))
    for name in GPU_COUNTS:
        if name in rows.fields.fields:
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
