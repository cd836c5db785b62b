"""LSF accounting log, `lsb.acct`: one `JOB_FINISH` record a line is one run of one job.

    "JOB_FINISH" "6.0" 1138280267 1 10417 33554434 1 1138280257 0 0 1138280266 "alice001" "alice" "" "" "" "cert-06" "" "" "" ""
    "1138280257.1" 0 1 "cert-10" 64 1.0 "" "/bin/hostname" 0.230000 0.480000 0 0 -1 0 0 9867 10742 0 0 0 -1 0 0 0 0 0 -1 ""
    "default" 0 1 "" "" 0 1804 4652 "" "" "" "" 0 "" 0 "" -1 ""                  (one line; INFN, 2006, from edquist/gratia)

Every field by name: `loccol.lsf_layout`. Sources: IBM's "lsb.acct" reference, tests/samples/lsf. What becomes of them:

    column                  field, its unit, and what is done with it
    lrms_job_id, join_id    jobId;  array_index: idx where positive
    user_name, user_id      userName, userId;  project, queue, submit_host: projectName, queue, fromHost
    group_name              first element of the share account charged, chargedSAAP `/group/sub/user` (the rule of 2012)
    exec_hosts              execHosts, repeated names collapsed, `n*host` expanded; `host@cluster` (MultiCluster) stays
    processors, node_count  slots and distinct names of execHosts, never numProcessors (that is what was asked for);
                            under LSF-SLURM the nodes of slurm_alloc in additionalInfo; null without an execution host
    gpu_count               `ngpus_physical=N` of effectiveResReq (N a host, LSF's default) times node_count, if it started
    submit_at, start_at     submitTime, startTime;  end_at, logged_at: eventTime;  all Unix seconds
    eligible_at             beginTime (`bsub -b`) if later than submitTime; else null: the log does not say what held a job
    wall_duration_s         runTime (LSF 9.1 and later; suspended time is not in it) if within end - start, else end - start
    cpu_*                   ru_utime and ru_stime, seconds with six decimals, summed exactly; null if either is -1 (unknown)
    memory_real_kib, -virtual  maxRMem, maxRSwap, KB; negative is null.  memory_requested_kib: always null, since the unit of
                            `rusage[mem=]` depends on a setting (LSF_UNIT_FOR_LIMITS) that the log does not show
    exit_code, exit_signal  exitStatus, a wait status: high byte, low seven bits; both null if it never started
    state                   see `state_of`;  host_factor, energy_j: hostFactor, serial_job_energy (J, null if 0)

Zone: none needed, times are Unix seconds. A job that never started (startTime 0: killed while pending) is a record too, with
state `never_started` and neither start, wallclock nor exit status. A job that ran without reported usage has wallclock, and
null CPU. Natural key: cluster, jobId, idx, submitTime, startTime, eventTime (ids recur within weeks; a requeued job keeps id and
submitTime), and the ranges where one record stands for many pending elements of an array (idx -1).
"""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_EVEN, Decimal

from batchacct.model import JOB, LAST_INSTANT, Record, text_of
from batchacct.parsing import Outcome, Reject, Skip, Source, UnitParser
from loccol.lsf_fast import fast_lane
from loccol.lsf_framing import LsfFraming, unfold
from loccol.lsf_layout import RECORD, Fields, Token, read_fields, tokens
from loccol.lsf_values import TEXT_FIELDS, exec_hosts, exit_columns, gpus_a_host, group_of, slurm_nodes, state_of

OTHER_EVENTS = frozenset({b"EVENT_ADRSV_FINISH", b"JOB_RESIZE"})
"""Advance reservations, and changes of an allocation: no usage of their own."""

MOST_CPU_S = Decimal(10**12)
"""A CPU time above this (32,000 years) is damage."""

_SIGN = re.compile(rb'^"(?:JOB_FINISH|JOB_RESIZE|EVENT_ADRSV_FINISH)" "', re.MULTILINE)
_EVENT_WORD = re.compile(rb"[A-Z][A-Z0-9_]*")


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One record of `lsb.acct` to one run of a job; other events and comments are skipped.

    Raises: Reject with the field that is missing or of the wrong kind, or with what is impossible about the job.
    """
    if unit.startswith(b"#"):
        return Skip("comment")
    found, glued = tokens(unfold(unit))
    word = _event_word(found)
    if word == RECORD:
        return _job(read_fields(found, glued=glued), source)
    return Skip(f"event {word.decode()}" if word in OTHER_EVENTS else "unknown event")


def _event_word(found: list[Token]) -> bytes:
    """The event type, which a version in quotes follows."""
    kinds = [kind for kind, _ in found[:2]]
    if not found or kinds[0] != "s" or not _EVENT_WORD.fullmatch(found[0][1]):
        raise Reject("it does not begin with an event type in quotes")
    if found[0][1] != RECORD and kinds != ["s", "s"]:
        raise Reject("no format version follows the event type")
    return found[0][1]


def _job(fields: Fields, source: Source) -> Record:
    if fields.integer("jobId") < 1:
        raise Reject("jobId is impossible: LSF numbers jobs from 1")
    started = fields.integer("startTime") > 0
    record: Record = {
        "record_key": _record_key(fields, source),
        "lrms_job_id": str(fields.integer("jobId")),
        "join_id": str(fields.integer("jobId")),
        "array_index": _positive(fields.integer("idx")),
        "user_id": fields.integer("userId"),
        "group_name": group_of(fields.values.get("chargedSAAP", b"")),
        "memory_real_kib": _not_negative(fields.integer("maxRMem")),
        "memory_virtual_kib": _not_negative(fields.integer("maxRSwap")),
        "state": state_of(fields.integer("jStatus"), fields.integer("exitInfo"), started=started),
        "host_factor": _finite(fields.values["hostFactor"]),
        "energy_j": _energy_j(fields.values.get("serial_job_energy")),
    }
    for column, name in TEXT_FIELDS:
        record[column] = text_of(fields.values[name]) or None
    record |= _times(fields) | _cpu(fields) | _allocation(fields, started=started)
    if started:
        record |= exit_columns(fields.integer("exitStatus"))
    return record


def _record_key(fields: Fields, source: Source) -> str:
    """Everything that makes the run distinct; several ranges of pending elements may end in the same second."""
    parts = ["lsf", source.cluster or ""]
    parts += [str(fields.integer(name)) for name in ("jobId", "idx", "submitTime", "startTime", "eventTime")]
    ranges = fields.lists.get("indexRanges")
    if ranges and fields.integer("idx") == -1:
        parts.append(",".join("-".join(str(int(number)) for number in span) for span in ranges))
    return ":".join(parts)


def _times(fields: Fields) -> Record:
    """Raises: Reject for a time no log can hold, and for an end before the start (the submit time is not held against it)."""
    submit, begin, start, end = (fields.integer(n) for n in ("submitTime", "beginTime", "startTime", "eventTime"))
    for name, instant in (("submitTime", submit), ("beginTime", begin), ("startTime", start), ("eventTime", end)):
        if not 0 <= instant <= LAST_INSTANT:
            raise Reject(f"{name} is impossible: before 1970 or after 2099")
    if end == 0:
        raise Reject("eventTime is 0: the time the job ended is always known")
    if start > end:
        raise Reject("the job ended before it started")
    elapsed = end - start
    run_time = fields.integer("runTime", absent=elapsed)
    return {
        "submit_at": _positive(submit),
        "eligible_at": begin if begin > submit else None,
        "start_at": _positive(start),
        "end_at": end,
        "logged_at": end,
        "wall_duration_s": (run_time if 0 <= run_time <= elapsed else elapsed) if start else None,
    }


def _cpu(fields: Fields) -> Record:
    user, system = (_microseconds(fields, name) for name in ("ru_utime", "ru_stime"))
    if user is None or system is None:
        return {}
    seconds, rest = divmod(user + system, 1_000_000)
    seconds += rest > 500_000 or (rest == 500_000 and seconds % 2)
    return {"cpu_user_s": user / 1e6, "cpu_system_s": system / 1e6, "cpu_duration_s": seconds}


def _microseconds(fields: Fields, name: str) -> int | None:
    """A time in whole microseconds, None if it is negative (unknown).  Raises: Reject for one beyond all measure."""
    seconds = Decimal(fields.values[name].decode())
    if seconds < 0:
        return None
    if seconds > MOST_CPU_S:
        raise Reject(f"{name} is impossible: more than {MOST_CPU_S} s")
    return int(seconds.scaleb(6).to_integral_value(ROUND_HALF_EVEN))


def _allocation(fields: Fields, *, started: bool) -> Record:
    """Execution hosts, slots, nodes and GPUs.  Raises: Reject for a host without a name."""
    hosts = fields.lists["execHosts"]
    if not hosts:
        return {}
    if (b"",) in hosts:
        raise Reject("the list execHosts: a host has no name")
    allocated = exec_hosts([host for (host,) in hosts])
    nodes = allocated.nodes
    if allocated.is_slurm:
        nodes = slurm_nodes(fields.values.get("additionalInfo", b"")) or nodes
    gpus = gpus_a_host(fields.values.get("effectiveResReq", b"")) if started else None
    return {
        "exec_hosts": allocated.text,
        "processors": allocated.slots,
        "node_count": nodes,
        "gpu_count": None if gpus is None else gpus * nodes,
    }


def _energy_j(raw: bytes | None) -> float | None:
    energy = None if raw is None else _finite(raw)
    return energy if energy is not None and energy > 0 else None


def _finite(raw: bytes) -> float | None:
    number = float(raw)
    return number if math.isfinite(number) else None


def _positive(number: int) -> int | None:
    return number if number > 0 else None


def _not_negative(number: int) -> int | None:
    return number if number >= 0 else None


PARSER = UnitParser(
    name="lsf",
    record_type=JOB,
    lrms="LSF",
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    framing=LsfFraming(),
    fast_lane=fast_lane,
    recognise=lambda head: _SIGN.search(head) is not None,
)
