"""What follows from all lines of one PBS job: attempts without an E line, jobs that never ran, deletions, phases.

The parts are lines (S, R, Q, D, A, u, e), the records those of E lines and of R lines with usage, and what was made here before.
A record made here bears the key and the time of the line it is made of, which is the first that tells of it: S of an attempt, Q
of a job that never ran. Where a line that is read later takes back what was made (an E after all, of an attempt that seemed lost),
the record stays, as state unknown without times or usage, so that nothing counts it.

Attempts, in the order of their starts, that no E line and no R line with usage has:
  - an R between its start and the next one: Torque requeued it. Wallclock is R - start, CPU is unknown;
  - an R of PBS Pro with the same start (it logs a second one, without usage, beside the first): requeued, end and start as it says;
  - a D that says the execution node is down: PBS Pro discarded it, node_fail. Wallclock is D - start;
  - a later start: it was lost. Its end is not known.

A job that gave up nodes has u and e lines (its E line has the nodes of the first phase and the walltime of the last). Processors
are the most of any phase, wallclock is the exact sum of slots times walltime over the phases divided by them, rounded half to
even: processors times wallclock is that sum but for the rounding. `resources` has the sum itself (`slot_seconds`) and each phase.
CPU is the sum over the phases, memory the peak.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from batchacct.model import JOB, LAST_INSTANT, Record
from batchacct.parsing import Completed, Reject, Row, Whole
from loccol.pbs_hosts import allocation
from loccol.pbs_job import KILLED, SHELL_SAYS_KILLED, description, identity, kills, tracked, usage
from loccol.pbs_line import USED, Attributes, JobId, attributes, duration_s, job_id, time_of

PHASES = {"u": "phase", "e": "last phase"}
DELETION_GRACE_S = 10
"""A D line may be written after the end it caused: the second of the log is the server's, the end the execution host's."""

COMES_TWICE_S = 3600
"""How far clocks are set back: times behind that are taken for those of the first pass, since they name no zone."""

NODE_DOWN = b"Job deleted, execution node"
CANCELLED_CODES = frozenset(kills(SHELL_SAYS_KILLED))
CANCELLED_SIGNALS = frozenset(status - KILLED for status in kills(KILLED))
"""How a job ends that is deleted: negative statuses (neither code nor signal), and these."""

_ORIGIN = frozenset({"native", "content_hash", "site", "cluster", "lrms", "source", "source_offset", "parser"})


Parts = dict[str, list[Row]]
Place = tuple[int, int]
_NEVER: Place = (LAST_INSTANT + 1, 0)


def complete(whole: Whole) -> list[Completed]:
    """The records that the parts make or amend; the same whatever was made of them before."""
    parts: Parts = {}
    for part in whole.parts:
        parts.setdefault(str(part["kind"]), []).append(part)
    ours = [record for record in whole.records if str(record["record_key"]).startswith("pbs:")]
    stated = [record for record in ours if _letter(record) == "E" or (_letter(record) == "R" and record["resources"] is not None)]
    made = [*_attempts(parts, stated), *_never_started(parts, stated), *_amended(parts, stated)]
    keys = {completed.record["record_key"] for completed in made}
    made_here = [record for record in ours if _letter(record) in "SQ" or _is_requeue_without_usage(record)]
    return made + [_taken_back(record) for record in made_here if record["record_key"] not in keys]


def _is_requeue_without_usage(record: Row) -> bool:
    """Whether `_requeued_by_pro` made it, and not an R line with usage."""
    return _letter(record) == "R" and record["resources"] is None and record["start_at"] is not None


def _letter(record: Row) -> str:
    """The type of the line a record of ours is made of: the second part of its key."""
    return str(record["record_key"])[4]


def _time(row: Row, column: str = "logged_at") -> int:
    value = row[column]
    assert isinstance(value, int)
    return value


def _line(row: Row) -> tuple[JobId, bytes]:
    native = row["native"]
    assert isinstance(native, (bytes, memoryview))
    _, _, written, message = bytes(native).split(b";", 3)
    return job_id(written), message


def _attributes(message: bytes) -> Attributes:
    """The attributes of a part's line; none where they cannot be told apart."""
    try:
        return attributes(message)
    except Reject:
        return {}


def _completed(row: Row, letter: str, changes: Record) -> Completed:
    """The record that an S, R or Q line makes, described as far as the line does."""
    job, message = _line(row)
    start = row["start_at"]
    assert start is None or isinstance(start, int)
    try:
        described = description(_attributes(message))
    except Reject:
        described = {}
    cluster = row["cluster"]
    assert cluster is None or isinstance(cluster, str)
    own = identity(job, letter, cluster, start, _time(row))
    return Completed(described | {"start_at": start, "logged_at": _time(row)} | own | changes, row)


def _attempts(parts: Parts, stated: Sequence[Row]) -> Iterator[Completed]:
    """The attempts that no line with usage tells of."""
    requeues, deletions = parts.get("requeue", []), parts.get("delete", [])
    told = {_time(record, "start_at") for record in stated if record["start_at"] is not None}
    with_start = {_time(part, "start_at"): part for part in reversed(requeues) if part["start_at"] is not None}
    for start, part in with_start.items():
        if start not in told:
            yield _requeued_by_pro(part)
    told |= set(with_start)
    starts = {_time(part, "start_at"): part for part in reversed(parts.get("start", [])) if part["start_at"] is not None}
    bare = sorted(_place(part) for part in requeues if part["start_at"] is None)
    down = sorted(_place(part) for part in deletions if _line(part)[1].startswith(NODE_DOWN))
    begun = [(start, _place(starts[start]) if start in starts else (start, -1)) for start in sorted(told | set(starts))]
    for (start, begin), (_, following) in pairwise([*begun, (0, _NEVER)]):
        if start in told:
            continue
        if requeued := _first_between(bare, begin, following):
            yield _completed(starts[start], "S", _stopped(start, requeued[0], "requeued"))
        elif deleted := _first_between(down, begin, following):
            yield _completed(starts[start], "S", _stopped(start, deleted[0], "node_fail"))
        elif following < _NEVER:
            yield _completed(starts[start], "S", {"state": "unknown"})


def _place(part: Row) -> Place:
    """Where a line stands among the others: by its time, in one second by its place in the file."""
    return _time(part), _time(part, "source_offset")


def _first_between(places: Sequence[Place], first: Place, last: Place) -> Place | None:
    """The first of these places, which ascend, after `first` and before `last`."""
    following = bisect_right(places, first)
    return places[following] if following < len(places) and places[following] < last else None


def _stopped(start: int, end: int, state: str) -> Record:
    """End and wallclock of an attempt whose end is told in local time alone.

    Where that seems to be before the start, the hour is one that comes twice in a year, or the source's `zone` is not the
    server's: then how long it ran is not known.
    """
    return {"end_at": max(start, end), "wall_duration_s": end - start if end >= start else None, "state": state}


def _requeued_by_pro(part: Row) -> Completed:
    """A requeue record of PBS Pro that states start and end, and no usage."""
    try:
        end = time_of(_attributes(_line(part)[1]), b"end")
    except Reject:
        end = None
    start, logged = _time(part, "start_at"), _time(part)
    return _completed(part, "R", _stopped(start, end or logged, "requeued"))


def _never_started(parts: Parts, stated: Sequence[Row]) -> Iterator[Completed]:
    """Jobs that were deleted or aborted in the queue: between a Q and the D or A there is no start, nor after it.

    A Q after the end of a job begins another one that got the same number; any other Q is the same job in another queue.
    """
    events = [(_time(part), 0, "queued", part) for part in parts.get("queued", [])]
    events += [(_time(part), 1, "start", part) for part in parts.get("start", [])]
    events += [(_time(record, "start_at"), 1, "start", record) for record in stated if record["start_at"] is not None]
    events += [(_time(record, "end_at"), 2, "end", record) for record in stated]
    events += [(_left_at(part, parts), 2, kind, part) for kind in ("delete", "abort") for part in parts.get(kind, [])]
    queued: Row | None = None
    end: int | None = None
    has_started = False
    for time, _, kind, row in sorted(events, key=lambda event: event[:3]):
        if kind == "queued" and (queued is None or end is not None):
            if queued is not None and end is not None and not has_started:
                yield _left_the_queue(queued, end)
            queued, end, has_started = row, None, False
        elif kind == "start":
            has_started = True
        elif kind != "queued" and (end is None or kind == "abort"):
            end = time
    if queued is not None and end is not None and not has_started:
        yield _left_the_queue(queued, end)


def _left_at(part: Row, parts: Parts) -> int:
    """When a D or A says that the job left: not before it came, though the hour that comes twice may make it look so."""
    at, queued_at = _time(part), min((_time(queued) for queued in parts.get("queued", [])), default=0)
    return queued_at if queued_at - COMES_TWICE_S <= at < queued_at else at


def _left_the_queue(queued: Row, end: int) -> Completed:
    completed = _completed(queued, "Q", {"end_at": end, "state": "never_started"})
    record = completed.record
    record["submit_at"] = record.get("submit_at") or _time(queued)
    for column in ("exec_hosts", "processors", "node_count", "gpu_count", "gpu_model", "run_number"):
        record.pop(column, None)
    return completed


def _amended(parts: Parts, stated: Sequence[Row]) -> Iterator[Completed]:
    """E records of jobs that had phases, or were deleted while they ran."""
    deletions = sorted(_time(part) for part in parts.get("delete", []))
    for record in stated:
        if _letter(record) != "E" or record["start_at"] is None:
            continue
        changes = _of_phases(parts, record) or {}
        last = _time(record, "end_at") + DELETION_GRACE_S
        start = _time(record, "start_at")
        if _may_be_deleted(record) and _has_between(deletions, start, last):
            changes["state"] = "cancelled"
        if changes:
            yield Completed(_own(record) | changes, record)


def _has_between(times: Sequence[int], first: int, last: int) -> bool:
    following = bisect_left(times, first)
    return following < len(times) and times[following] <= last


def _may_be_deleted(record: Row) -> bool:
    code, signal = record["exit_code"], record["exit_signal"]
    how = code in CANCELLED_CODES or signal in CANCELLED_SIGNALS or (code is None and signal is None)
    return record["state"] in ("failed", "cancelled") and how


def _own(record: Row) -> Record:
    return {column.name: record[column.name] for column in JOB.columns if column.name not in _ORIGIN}


def _taken_back(record: Row) -> Completed:
    nothing = dict.fromkeys(("start_at", "end_at", "wall_duration_s"))
    return Completed(_own(record) | nothing | {"state": "unknown"}, record)


def _of_phases(parts: Parts, record: Row) -> Record | None:
    """What the phases of a run make together; None if it had one phase only, or where one of them is not known."""
    first, last = ([part for part in parts.get(kind, []) if part["start_at"] == record["start_at"]] for kind in PHASES.values())
    if not first or not last:
        return None
    try:
        phases = [_phase(_attributes(_line(part)[1])) for part in (*first, last[-1])]
    except Reject:
        return None
    slots, walls = [_known(p, "processors") for p in phases], [_known(p, "wall_duration_s") for p in phases]
    if not all(slots) or min(walls) < 0:
        return None
    slot_seconds = sum(n * wall for n, wall in zip(slots, walls, strict=True))
    resources = [{"slots": n, **json.loads(str(p["resources"]))} for n, p in zip(slots, phases, strict=True)]
    said = {"slot_seconds": slot_seconds, "phases": resources}
    return {
        "processors": max(slots),
        "wall_duration_s": round(Fraction(slot_seconds, max(slots))),
        "cpu_duration_s": _over(phases, "cpu_duration_s", sum),
        "memory_real_kib": _over(phases, "memory_real_kib", max),
        "memory_virtual_kib": _over(phases, "memory_virtual_kib", max),
        "resources": json.dumps(said, ensure_ascii=False, separators=(",", ":")),
    }


def _phase(found: Attributes) -> Record:
    """Raises: Reject for a value that is not understood."""
    walltime = found.get(USED + b"walltime")
    wall = duration_s(walltime, "resources_used.walltime") if walltime else None
    return usage(found) | allocation(found) | {"wall_duration_s": wall, "resources": tracked(found)}


def _known(phase: Record, column: str) -> int:
    """A number that must be known: -1 or 0 is not."""
    value = phase[column]
    return value if isinstance(value, int) else 0 if column == "processors" else -1


def _over(phases: Sequence[Record], column: str, together: Callable[[Sequence[int]], int]) -> int | None:
    """Sum or peak over the phases; None if it is not known of each."""
    values = [phase[column] for phase in phases]
    known = [value for value in values if isinstance(value, int)]
    return together(known) if len(known) == len(values) else None
