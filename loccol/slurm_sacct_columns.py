"""The columns of job records from regular groups of sacct rows: the second half of the fast lane.

Each column is what `loccol.slurm_sacct_rows` makes of the same fields; a group about which there is something to decide (a start,
but no time elapsed; no CPU time in the job's row though steps may have some; a time with two meanings) is given back for it to
decide.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import xxhash

from batchacct.model import INSTANT, JOB
from batchacct.parsing import Block, Reject, Source
from batchacct.parsing.columnar import spans_of
from loccol.slurm_sacct_lexing import Lines, Rows, by_distinct, compute, picked
from loccol.slurm_sacct_rows import NO_ID, SLACK_S
from loccol.slurm_sacct_words import Bools, Ints
from loccol.slurm_values import (
    MOST_KIB,
    NO_NODES,
    ended_state,
    exec_hosts,
    exit_columns,
    gres,
    memory_kib,
    node_list,
    resource_columns,
    tres,
    tres_number,
)

if TYPE_CHECKING:
    from loccol.slurm_sacct_lexing import Column

_TEXTS = (("user_name", "user"), ("project", "account"), ("queue", "partition"), ("job_name", "jobname"), ("command", "submitline"))
_RESOURCES = ("gpu_count", "gpu_model", "energy_j", "resources")
_NO_RESOURCES = (0, 0, None, None, None, None, None)
_OF_STARTED = {
    "processors", "node_count", "exec_hosts", "gpu_count", "gpu_model", "energy_j", "cpu_user_s", "cpu_system_s", "cpu_duration_s",
    "memory_real_kib", "memory_virtual_kib", "exit_code", "exit_signal",
}  # fmt: skip
"""Columns that a job which never started has not, whatever its row says."""
_LONE_NODE = "^[A-Za-z0-9._-]+$"
_NOT_A_NODE = pa.array(sorted(NO_NODES))
_SEPARATOR = "\x1e"
_NOT_PLAIN = object()
_KEPT = 1 << 15


@dataclass(slots=True)
class ByLine:
    """What the lines of a block say of memory and CPU time; each array has one more, which is 0.

    memory: of MaxRSS and MaxVMSize, where there are such, the KiB, and which are plain; step_cpu: steps that may have CPU time.
    """

    memory: dict[str, tuple[Ints, Bools]]
    step_cpu: Bools


@dataclass(slots=True)
class Groups:
    """Regular groups: line numbers of the job's row, and behind the last row of its steps."""

    lines: Lines
    by_line: ByLine
    first: Ints
    stop: Ints

    def of(self, good: Bools) -> Groups:
        return Groups(self.lines, self.by_line, self.first[good], self.stop[good])

    def largest(self, by_line: Ints) -> Ints:
        """The largest number among the lines of each group."""
        bounds = np.stack((self.first, self.stop), axis=1).ravel()
        largest: Ints = np.maximum.reduceat(by_line, bounds)[0::2] if len(bounds) else self.first
        return largest


def job_batch(groups: Groups, block: Block, source: Source, label: str) -> tuple[pa.RecordBatch, Bools, Bools]:
    """The records of the groups that need no decision, which groups they are, and which are of jobs that have not ended."""
    states, which = by_distinct(Rows(groups.lines, groups.first).text("state"), _state)
    ended = np.array([isinstance(state, str) for state in states], np.bool_)[which]
    not_ended = np.array([state is None for state in states], np.bool_)[which]
    maker = _Maker(groups.of(ended), source)
    maker.columns["state"] = picked([s if isinstance(s, str) else None for s in states], which[ended], pa.string())
    for make in (_times, _ids, _people, _allocation, _usage, _memory, _ending):
        make(maker)
    _clear_never_started(maker)
    made = np.zeros(len(groups.first), np.bool_)
    made[np.flatnonzero(ended)[maker.plain]] = True
    columns = maker.columns
    if not maker.plain.all():
        columns = {name: column.filter(pa.array(maker.plain)) for name, column in columns.items()}
    columns |= _origin(groups.of(made), block, source, label)
    count = int(made.sum())
    arrays = [columns[c.name] if c.name in columns else pa.array([None] * count, c.type) for c in JOB.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=JOB.schema), made, not_ended


def _state(text: str) -> object:
    try:
        return ended_state(text)
    except Reject:
        return _NOT_PLAIN


class _Maker:
    """Groups whose columns are being made; `plain` are those about which nothing has been found that needs a decision."""

    def __init__(self, groups: Groups, source: Source) -> None:
        self.groups = groups
        self.source = source
        self.rows = Rows(groups.lines, groups.first)
        self.plain = np.ones(len(groups.first), np.bool_)
        self.never_started = np.zeros(len(groups.first), np.bool_)
        self.columns: dict[str, Column] = {}
        self.numbers: dict[str, Ints] = {}

    def require(self, plain: Bools) -> None:
        self.plain &= plain

    def number(self, *names: str) -> Ints:
        """As `slurm_sacct_rows._number` reads it (nine digits are never too many), but 0 for none."""
        numbers, plain = self.rows.number(*names)
        self.require(plain)
        return np.maximum(numbers, 0)

    def set_numbers(self, name: str, numbers: Ints) -> None:
        """A column of numbers above 0."""
        self.columns[name] = pa.array(numbers, mask=numbers <= 0)


def _times(maker: _Maker) -> None:
    zone = maker.source.zone
    found = {name: maker.rows.instants(name, zone) for name in ("submit", "eligible", "start", "end")}
    for name, (seconds, plain) in found.items():
        maker.require(plain)
        maker.columns[f"{name}_at"] = pa.array(seconds, mask=seconds < 0).view(INSTANT)
    maker.columns["logged_at"] = maker.columns["end_at"]
    start, end = found["start"][0], found["end"][0]
    maker.numbers |= {"start": start, "end": end}
    maker.never_started = never = start < 0
    elapsed, plain = _elapsed(maker.rows)
    maker.require(plain & (end > 0) & (never | ((elapsed > 0) & (end >= start) & (elapsed <= end - start + SLACK_S))))
    maker.require(maker.rows.durations("suspended")[1])
    submit = found["submit"][0]
    maker.require(never | (submit <= start) | (submit >= end))  # else it is what followed a resize
    maker.columns["wall_duration_s"] = pa.array(elapsed, mask=never)


def _elapsed(rows: Rows) -> tuple[Ints, Bools]:
    if rows.has("elapsedraw"):
        return rows.number("elapsedraw")
    microseconds, plain = rows.durations("elapsed")
    return microseconds // 1_000_000, plain & (microseconds % 1_000_000 == 0)


def _ids(maker: _Maker) -> None:
    shown = maker.rows.text("jobid")
    parts = compute.extract_regex(shown, r"^(?P<number>[0-9]+)(?:_(?P<index>[0-9]+))?(?:\+(?P<offset>[0-9]+))?$")
    number, index, offset = (compute.struct_field(parts, name) for name in ("number", "index", "offset"))
    maker.columns["join_id"] = number
    component = compute.binary_join_element_wise(number, offset, "+")
    maker.columns["lrms_job_id"] = compute.if_else(compute.equal(offset, ""), number, component)
    maker.columns["array_index"] = compute.cast(compute.if_else(compute.equal(index, ""), None, index), pa.int64())
    raw = maker.rows.text("jobidraw") if maker.rows.has("jobidraw") else shown
    start, end = (
        compute.cast(pa.array(numbers, mask=numbers < 0), pa.string()) for numbers in (maker.numbers["start"], maker.numbers["end"])
    )
    start = compute.fill_null(start, "")
    maker.columns["record_key"] = compute.binary_join_element_wise(f"slurm:{maker.source.cluster}", raw, start, end, ":")
    restarts, plain = maker.rows.number("restarts")
    maker.require(plain)
    maker.columns["run_number"] = pa.array(restarts + 1, mask=restarts < 0)


def _people(maker: _Maker) -> None:
    for column, name in _TEXTS:
        maker.columns[column] = maker.rows.text(name)
    group = maker.rows.text("group")
    unknown = compute.is_in(group, pa.array([str(NO_ID), str(NO_ID + 1)]))
    maker.columns["group_name"] = compute.if_else(unknown, pa.scalar(None, pa.string()), group)
    uid, plain = maker.rows.number("uid")
    maker.require(plain)
    maker.columns["user_id"] = pa.array(uid, mask=uid < 0)


def _allocation(maker: _Maker) -> None:
    rows = maker.rows
    parts = [compute.fill_null(rows.text(name), "") for name in ("alloctres", "allocgres", "qos")]
    found, which = by_distinct(compute.binary_join_element_wise(*parts, _SEPARATOR), _resources)
    maker.require(np.array([one is not None for one in found], np.bool_)[which])
    values = list(zip(*(one if isinstance(one, tuple) else _NO_RESOURCES for one in found), strict=True)) or [()] * len(
        _NO_RESOURCES
    )
    for name, column in zip(_RESOURCES, values[2:-1], strict=True):
        maker.columns[name] = picked(column, which, JOB.schema.field(name).type)
    if maker.never_started.any():
        without = picked(values[-1], which, pa.string())
        maker.columns["resources"] = compute.if_else(pa.array(maker.never_started), without, maker.columns["resources"])
    processors, node_count = (np.array(numbers, np.int64)[which] for numbers in values[:2])
    processors = np.where(processors > 0, processors, maker.number("alloccpus", "ncpus"))
    node_count = np.where(node_count > 0, node_count, maker.number("allocnodes", "nnodes"))
    node_count = np.where(node_count > 0, node_count, _hosts(maker, processors))
    maker.set_numbers("processors", processors)
    maker.set_numbers("node_count", node_count)
    maker.numbers |= {"processors": processors, "node_count": node_count}
    if rows.has("consumedenergyraw"):
        energy, plain = rows.number("consumedenergyraw")
        maker.require(plain)
        measured = pa.array(energy.astype(np.float64), mask=energy <= 0)
        maker.columns["energy_j"] = compute.coalesce(measured, maker.columns["energy_j"])


@lru_cache(maxsize=_KEPT)
def _resources(text: str) -> tuple[object, ...] | None:
    """cpu, node, and the columns of resources of AllocTRES, AllocGRES and QOS, and `resources` of the QOS alone, as jobs that
    never started have it; None where they are not readable."""
    alloctres, allocgres, qos = text.split(_SEPARATOR)
    try:
        amounts = tres(alloctres) or gres(allocgres)
    except Reject:
        return None
    columns = resource_columns(amounts, qos or None)
    without = resource_columns({}, qos or None)["resources"]
    return tres_number(amounts, "cpu") or 0, tres_number(amounts, "node") or 0, *(columns[name] for name in _RESOURCES), without


def _hosts(maker: _Maker, processors: Ints) -> Ints:
    """Sets exec_hosts; returns the number of names in NodeList."""
    text = maker.rows.text("nodelist")
    is_lone = compute.and_(compute.match_substring_regex(text, _LONE_NODE), compute.invert(compute.is_in(text, _NOT_A_NODE)))
    lone_name = compute.if_else(is_lone, text, None)
    found, which = by_distinct(compute.if_else(is_lone, None, text), _nodes)
    maker.require(np.array([one is not None for one in found], np.bool_)[which])
    counts, names, lone = (
        zip(*(one if isinstance(one, tuple) else (0, None, None) for one in found), strict=True) if found else ((),) * 3
    )
    several, alone = picked(names, which, pa.string()), picked(lone, which, pa.string())
    alone = compute.coalesce(compute.binary_join_element_wise(lone_name, '"]', ""), alone)
    several = compute.coalesce(compute.binary_join_element_wise('["', lone_name, '"]', ""), several)
    slots = compute.cast(pa.array(processors, mask=processors <= 0), pa.string())
    with_slots = compute.binary_join_element_wise(compute.binary_join_element_wise('["', slots, ""), alone, "*")
    maker.columns["exec_hosts"] = compute.coalesce(with_slots, several)
    node_count: Ints = np.array(counts, np.int64)[which]
    return np.where(lone_name.is_valid().to_numpy(zero_copy_only=False), 1, node_count)


@lru_cache(maxsize=_KEPT)
def _nodes(text: str) -> tuple[int, str | None, str | None] | None:
    """Number, the names as JSON, and of a lone one the end of the JSON behind its slots; None where it is not readable."""
    try:
        nodes = node_list(text)
    except Reject:
        return None
    alone = json.dumps(nodes.names[0], ensure_ascii=False)[1:] + "]" if nodes.count == 1 and nodes.names else None
    return nodes.count, exec_hosts(nodes, None), alone


def _usage(maker: _Maker) -> None:
    """CPU time of the job's row. Where it has none and its steps may have some, the careful lane adds those up."""
    (user, user_plain), (system, system_plain), (total, total_plain) = (
        maker.rows.durations("usercpu"), maker.rows.durations("systemcpu"), maker.rows.cpu()
    )  # fmt: skip
    maker.require(user_plain & system_plain & total_plain)
    both = (user >= 0) & (system >= 0) & (user + system > 0)
    cpu = np.where(both, user + system, total)
    starts, ends = maker.rows.spans("tresusageintot")
    of_steps = maker.groups.largest(maker.groups.by_line.step_cpu.view(np.int8)) > 0
    maker.require((cpu > 0) | ((starts == ends) & ~of_steps))
    seconds, rest = np.divmod(cpu, 1_000_000)
    seconds += (rest > 500_000) | ((rest == 500_000) & (seconds % 2 == 1))
    maker.columns["cpu_user_s"] = pa.array(user / 1e6, mask=~both)
    maker.columns["cpu_system_s"] = pa.array(system / 1e6, mask=~both)
    maker.columns["cpu_duration_s"] = pa.array(seconds, mask=cpu <= 0)


def _memory(maker: _Maker) -> None:
    """The largest of a group's rows, and what was asked for."""
    groups = maker.groups
    for name, column in (("maxrss", "memory_real_kib"), ("maxvmsize", "memory_virtual_kib")):
        if maker.rows.has(name):
            kib, plain = groups.by_line.memory[name]
            maker.require(plain[groups.first])
            maker.set_numbers(column, groups.largest(kib))
    _requested(maker)


def _requested(maker: _Maker) -> None:
    asked_cpus, asked_nodes = maker.number("reqcpus"), maker.number("reqnodes")
    cpus = np.where(asked_cpus > 0, asked_cpus, maker.numbers["processors"])
    nodes = np.where(asked_nodes > 0, asked_nodes, maker.numbers["node_count"])
    parts = [compute.fill_null(maker.rows.text(name), "") for name in ("reqmem", "reqtres")]
    found, which = by_distinct(compute.binary_join_element_wise(*parts, _SEPARATOR), _asked)
    asked = np.array([one if isinstance(one, tuple) else (0, -1) for one in found], np.int64).reshape(-1, 2)
    amount, share = asked[which, 0], asked[which, 1]
    shares = np.select([share == 1, share == 2], [cpus, nodes], 1)
    maker.require((share >= 0) & (amount.astype(np.float64) * shares < MOST_KIB))
    maker.set_numbers("memory_requested_kib", amount * shares)


@lru_cache(maxsize=_KEPT)
def _asked(text: str) -> tuple[int, int] | None:
    """KiB of ReqMem, else of ReqTRES, and whether that is the job's (0), a CPU's (1) or a node's (2); None if not plain."""
    reqmem, reqtres = text.split(_SEPARATOR)
    try:
        mem = tres(reqtres, "ReqTRES").get("mem")
        if not reqmem and mem is not None:
            return memory_kib(str(mem), "ReqTRES", bare="M") or 0, 0
        share = {"c": 1, "n": 2}.get(reqmem[-1:], 0)
        amount = memory_kib(reqmem[:-1] if share else reqmem, "ReqMem", bare="M") or 0
    except Reject:
        return None
    return (amount, share) if amount < 1 << 32 else None


def _ending(maker: _Maker) -> None:
    found, which = by_distinct(maker.rows.text("exitcode"), exit_columns)
    for column in ("exit_code", "exit_signal"):
        maker.columns[column] = picked([one.get(column) for one in found if isinstance(one, dict)], which, pa.int64())


def _clear_never_started(maker: _Maker) -> None:
    if maker.never_started.any():
        never = pa.array(maker.never_started)
        for name in _OF_STARTED & maker.columns.keys():
            maker.columns[name] = compute.if_else(never, None, maker.columns[name])
        maker.columns["state"] = compute.if_else(never, "never_started", maker.columns["state"])


def _origin(groups: Groups, block: Block, source: Source, label: str) -> dict[str, Column]:
    lines = groups.lines
    starts, ends = lines.starts[groups.first], lines.ends[groups.stop - 1]
    units = map(lines.data.__getitem__, map(slice, starts.tolist(), ends.tolist()))
    hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, units), np.uint64, len(starts))

    def same(text: str | None) -> Column:
        return pa.repeat(pa.scalar(text, pa.string()), len(starts))

    return {
        "native": spans_of(lines.data, starts, ends, pa.binary()),
        "content_hash": pa.array(hashes.view(np.int64)),
        "site": same(source.site),
        "cluster": same(source.cluster),
        "lrms": same("Slurm"),
        "source": same(source.name),
        "source_offset": pa.array(starts + block.offset),
        "parser": same(label),
    }
