"""The fast lane of the sacct parser: the records of all provably regular groups of rows of a block at once.

A group is regular if its job's row and all rows of its steps have as many fields as the layout has names, plain ids, plain values,
and if what follows cannot belong to it: another job's row, a step of another job, a header, or the end of the block. All else is
left to the careful lane, framed as `GroupFraming` would, which sees a regular group as one unit too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from batchacct.model import JOB
from batchacct.parsing import LINES, Block, Regular, Reject, Source
from batchacct.parsing.columnar import spans_of
from loccol.slurm_sacct_columns import ByLine, Groups, job_batch
from loccol.slurm_sacct_framing import GroupFraming
from loccol.slurm_sacct_layout import CPU_OR_RESERVED, SHAPES, Layout, header_of, known_list_of
from loccol.slurm_sacct_lexing import Lines, Rows, as_bools, by_distinct, compute, lex
from loccol.slurm_sacct_rows import NOT_ENDED
from loccol.slurm_sacct_words import Bools, Ints, are_clocks, are_numbers, are_times
from loccol.slurm_values import job_id

if TYPE_CHECKING:
    from loccol.slurm_sacct_lexing import Column

PLAIN_ID = r"^[1-9][0-9]{0,9}(?:_(?:0|[1-9][0-9]{0,8}))?(?:\+(?:0|[1-9][0-9]{0,8}))?$"
PLAIN_RAW = r"^[1-9][0-9]{0,9}$"
LINES_TO_GUESS_BY = 8
SMALLEST_BLOCK = 64
"""Bytes; of less nothing can be gained."""

SURE = {"start": are_times, "end": are_times, "elapsed": are_clocks, CPU_OR_RESERVED: are_clocks}
SURE |= dict.fromkeys(("elapsedraw", "ncpus", "nnodes"), are_numbers)
"""What of some fields is of their shape for certain, and told soon."""

ODD, JOB_ROW, STEP_ROW = 0, 1, 2


def fast_lane(block: Block, source: Source, label: str, header: Layout | None = None) -> Regular:
    """The regular groups of a block as job records, and the spans of all other units."""
    framing = GroupFraming(header)
    layout = header or _guess(block.data)
    if layout is None or source.cluster is None or not _can_read(layout) or len(block.data) < SMALLEST_BLOCK:
        return Regular(JOB.empty(), list(framing.spans(block.data)))
    groups = _groups(lex(block.data, layout), known_by_shape=header is None)
    records, made, skipped = job_batch(groups, block, source, label)
    taken = np.zeros(len(groups.lines.starts), np.bool_)
    for these in (made, skipped):
        taken |= _lines_of(groups.of(these), len(taken))
    left = list(_left(groups.lines, taken, framing))
    return Regular(records, left, skipped={NOT_ENDED: int(skipped.sum())} if skipped.any() else {})


def _guess(data: bytes) -> Layout | None:
    """The known list of the first row that has one."""
    for _, (start, end) in zip(range(LINES_TO_GUESS_BY), LINES.spans(data), strict=False):
        line = data[start:end]
        if layout := known_list_of(line):
            return layout
    return None


def _can_read(layout: Layout) -> bool:
    index = layout.index
    needed = {"jobid", "start", "end", "state"} <= index.keys() and ("elapsedraw" in index or "elapsed" in index)
    memory = "tresusageinmax" not in index or {"maxrss", "maxvmsize"} <= index.keys()
    return needed and memory and len(layout.delimiter) == 1 and layout.delimiter != b"." and len(index) == len(layout.names)


@dataclass(slots=True)
class _Ids:
    """The ids in one field of some rows: what is before the first dot, and which have a dot and a proper step behind it."""

    base: Column
    has_step: Bools
    is_good: Bools


def _ids(rows: Rows, name: str, plain: str) -> _Ids:
    starts, ends = rows.spans(name)
    dots = np.append(np.flatnonzero(rows.lines.array == ord(".")), len(rows.lines.array))
    dot = np.minimum(dots[np.searchsorted(dots, starts)], ends)
    has_step = dot < ends
    base = spans_of(rows.lines.data, starts, dot, pa.string(), dot > starts)
    steps, which = by_distinct(spans_of(rows.lines.data, np.minimum(dot + 1, ends), ends, pa.string(), has_step), _is_step)
    is_good = ~has_step | np.array(steps, np.bool_)[which] if steps else ~has_step
    good_base = compute.fill_null(compute.match_substring_regex(base, plain), False)
    return _Ids(base, has_step, is_good & as_bools(good_base))


def _is_step(text: str) -> bool:
    try:
        return job_id(f"1.{text}").step == text
    except Reject:
        return False


def _groups(lines: Lines, *, known_by_shape: bool) -> Groups:
    """Every group whose rows are regular as to ids and the values of steps."""
    rows = Rows(lines, np.flatnonzero(lines.regular))
    if known_by_shape:
        rows = rows.of(_has_shapes(rows))
    ids = [_ids(rows, "jobid", PLAIN_ID)]
    if rows.has("jobidraw"):
        ids.append(_ids(rows, "jobidraw", PLAIN_RAW))
    good, has_step = ids[0].is_good, ids[0].has_step
    for other in ids[1:]:
        good = good & other.is_good & (other.has_step == has_step)
    kind = np.where(good, np.where(has_step, STEP_ROW, JOB_ROW), ODD)
    kind[(kind == JOB_ROW) & _lost_its_step(rows)] = ODD
    memory = {name: rows.memory(name) for name in ("maxrss", "maxvmsize") if rows.has(name)}
    for _, plain in memory.values():
        kind[(kind == STEP_ROW) & ~plain] = ODD
    steps = np.flatnonzero(kind == STEP_ROW)
    sound, with_cpu = _steps(Rows(lines, rows.at[steps]))
    kind[steps[~sound]] = ODD
    kinds = np.full(len(lines.starts), ODD)
    kinds[rows.at] = kind
    used = np.zeros(len(kinds) + 1, np.bool_)
    used[rows.at[steps[with_cpu]]] = True
    by_line = ByLine({name: _memory_by_line(rows, found) for name, found in memory.items()}, used)
    return _grouped(lines, by_line, kinds, [_by_line(one.base, rows.at, len(kinds)) for one in ids])


def _memory_by_line(rows: Rows, found: tuple[Ints, Bools]) -> tuple[Ints, Bools]:
    """What was found of some lines as that of all lines, and one more."""
    count = len(rows.lines.starts) + 1
    kib, plain = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    kib[rows.at], plain[rows.at] = found
    return kib, plain


def _has_shapes(rows: Rows) -> Bools:
    """Which rows are of the known list they are taken for, as `slurm_sacct_layout.fits` has it (ids are looked at elsewhere)."""
    fit = np.ones(len(rows.at), np.bool_)
    for name in SHAPES.keys() & rows.lines.layout.index.keys() - {"jobid", "jobidraw"}:
        starts, ends = rows.spans(name)
        is_sure = SURE[name](rows.lines.data, starts, ends) if name in SURE else np.zeros(len(starts), np.bool_)
        unsure = np.flatnonzero(~is_sure)
        starts, ends = starts[unsure], ends[unsure]
        text = compute.fill_null(spans_of(rows.lines.data, starts, ends, pa.string(), starts < ends), "").dictionary_encode()
        shaped = compute.match_substring_regex(text.dictionary, f"^(?:{SHAPES[name]})$")
        fit[unsure] &= as_bools(compute.take(shaped, text.indices))
    return fit


def _by_line(column: Column, at: Ints, count: int) -> Column:
    """A column of some lines as one of all lines."""
    which = np.full(count, -1, np.int64)
    which[at] = np.arange(len(at))
    spread: Column = compute.take(column, pa.array(which, mask=which < 0))
    return spread


def _lost_its_step(rows: Rows) -> Bools:
    """As `SacctRow.is_step` has it: no user and no partition."""
    if not (rows.has("user") and rows.has("partition")):
        return np.zeros(len(rows.at), np.bool_)
    (user, user_end), (queue, queue_end) = rows.spans("user"), rows.spans("partition")
    lost: Bools = (user == user_end) & (queue == queue_end)
    return lost


def _steps(rows: Rows) -> tuple[Bools, Bools]:
    """Which rows of steps have values that `step_use` can read, and which may have CPU time."""
    sound = rows.tres("tresusageintot") & rows.tres("tresusageinmax")
    starts, ends = rows.spans("tresusageintot")
    with_cpu = ends > starts
    for microseconds, plain in (rows.durations("usercpu"), rows.durations("systemcpu"), rows.cpu()):
        sound &= plain
        with_cpu |= microseconds > 0
    return sound, with_cpu


def _grouped(lines: Lines, by_line: ByLine, kinds: Ints, bases: list[Column]) -> Groups:
    numbers = np.arange(len(kinds))
    job = np.maximum.accumulate(np.where(kinds == JOB_ROW, numbers, -1))
    same = (kinds == STEP_ROW) & (job >= 0)
    for base in bases:
        equal = compute.equal(base, compute.take(base, pa.array(job, mask=job < 0)))
        same &= as_bools(compute.fill_null(equal, False))
    breaks = np.cumsum(~same & (kinds != JOB_ROW))
    inside = same & (breaks == breaks[np.maximum(job, 0)])
    jobs = np.flatnonzero(kinds == JOB_ROW)
    stops = jobs + 1 + np.bincount(job[inside], minlength=len(kinds))[jobs]
    whole = np.append(kinds, JOB_ROW)[stops] != ODD
    for group in np.flatnonzero(~whole).tolist():
        line = int(stops[group])
        whole[group] = header_of(lines.data[lines.starts[line] : lines.ends[line]]) is not None
    return Groups(lines, by_line, jobs[whole], stops[whole])


def _lines_of(groups: Groups, count: int) -> Bools:
    """Which lines are in the groups."""
    edges = np.zeros(count + 1, np.int64)
    edges[groups.first] += 1
    np.subtract.at(edges, groups.stop, 1)
    inside: Bools = np.cumsum(edges)[:count] > 0
    return inside


def _left(lines: Lines, taken: Bools, framing: GroupFraming) -> Iterator[tuple[int, int]]:
    """The units of all lines that were not taken; taken groups stand for themselves."""
    edges = np.flatnonzero(np.diff(taken.astype(np.int8), prepend=1, append=1))
    bounds = np.append(lines.starts, len(lines.data))
    for first, stop in zip(bounds[edges[0::2]].tolist(), bounds[edges[1::2]].tolist(), strict=True):
        for start, end in framing.spans(lines.data[first:stop]):
            yield first + start, first + end
