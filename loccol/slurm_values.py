r"""The values of Slurm's accounting, whatever printed them: ids, times, durations, memory, TRES, node lists, states, exit codes.

Pure functions from the text of one field, or from what JSON has in its place, to columns of a job record. A value that should be
readable and is not raises `Reject` with the field's name; a value that says "nothing" (`Unknown`, `None assigned`, empty) is None.

| value     | as written                                            | as returned                                              |
|-----------|-------------------------------------------------------|----------------------------------------------------------|
| job id    | `12`, `12_3`, `12_[1-9%2]`, `12+1`, `12_3+1.batch`    | `JobId`                                                  |
| time      | `2020-06-30T13:41:42` (source's zone), with `%z`, `%s`| Unix seconds                                             |
| duration  | `1-02:03:04`, `02:03:04`, `03:04.567`                 | microseconds                                             |
| memory    | `16K`, `1.40G`, bytes without a unit; `16?` is none   | KiB, rounded down                                        |
| ReqMem    | `128G`; before 21.08 `3000Mc` a CPU, `48000Mn` a node | KiB of the whole job                                     |
| TRES      | `cpu=4,mem=8G,gres/gpu:a100=2`                        | its names and amounts; GPUs, energy and so on out of them |
| node list | `a1,b[01-04,07]`                                      | how many, and their names if they are not too many       |
| state     | `CANCELLED by 1000`                                   | a state of `model.JOB_STATES`, None if it has not ended  |
| exit code | `1:0`, `0:9`                                          | code and signal                                          |

**Ids.** `sbatch` prints N, and N is what a computing element knows: the id of a job, of an array, of the leader of a heterogeneous
job. So `join_id` is N everywhere, an array task has its index in `array_index` (an identity without an index joins each task, one
with an index only that), and `lrms_job_id` is N, or `N+O` for a component, whose ids must differ where they are published. The
raw id, a number of each task's and component's own, makes records distinct. Where a source has the raw id alone, it stands for N.

Sources: sacct(1), slurm.conf(5) and SchedMD/slurm src/common/{parse_time,slurm_protocol_defs,hostlist}.c, src/sacct/print.c.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from batchacct.model import LAST_INSTANT, Record, join_lists
from batchacct.parsing import Reject

SECOND_US = 1_000_000
MOST_SECONDS = 10**12
"""A duration above this (32,000 years) is damage."""
MOST_KIB = 1 << 53
MOST_OF_A_KIND = 1 << 31
"""More CPUs, nodes or GPUs than this are damage."""
MOST_BRACKETS = 8
"""In the name of a node."""
MOST_HOSTS = 16_384
"""Names of nodes in a record; of a job on more nodes the record has their number alone."""
NO_VALUE = frozenset({0xFFFFFFFE, 0xFFFFFFFFFFFFFFFE, 0xFFFFFFFFFFFFFFFD})
"""NO_VAL, NO_VAL64, and the energy of no sensor (-2, -3) as a 64-bit number."""

STEP_NAMES = frozenset({"batch", "extern", "interactive", "TBD"})

ENDED = {
    "BOOT_FAIL": "node_fail",
    "CANCELLED": "cancelled",
    "COMPLETED": "completed",
    "DEADLINE": "timeout",
    "FAILED": "failed",
    "LAUNCH_FAILED": "node_fail",
    "NODE_FAIL": "node_fail",
    "OUT_OF_MEMORY": "out_of_memory",
    "PREEMPTED": "preempted",
    "RECONFIG_FAIL": "node_fail",
    "REQUEUED": "requeued",
    "RESIZING": "unknown",
    "REVOKED": "cancelled",
    "TIMEOUT": "timeout",
}
"""RESIZING with an end is a finished part of a job that went on: the row does not say how the job ended."""
NOT_ENDED = frozenset(
    {"COMPLETING", "CONFIGURING", "EXPEDITING", "PENDING", "POWER_UP_NODE", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD",
     "RUNNING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED", "UPDATE_DB"}
)  # fmt: skip
_ABSENT = frozenset({"", "Unknown", "None", "N/A", "NA"})
_NO_DURATION = frozenset({"", "INVALID", "UNLIMITED", "Partition_Limit", "Unknown", "None", "N/A"})
NO_NODES = frozenset({"", "None assigned", "(null)", "None", "N/A"})

_JOB_ID = re.compile(
    r"([0-9]{1,10})(?:_(?:([0-9]{1,10})|(\[[^\]]*+\])))?(?:\+([0-9]{1,10}))?"
    r"(?:\.(batch|extern|interactive|TBD|[0-9]{1,10}))?"
)
_LOCAL_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(Z|([+-])([0-9]{2}):?([0-9]{2}))?")
_DURATION = re.compile(r"(?:([0-9]{1,9})-)?(?:([0-9]{1,9}):)?([0-9]{1,2}):([0-9]{1,2})(?:\.([0-9]{1,6}))?")
_MEMORY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)([KMGTPE]?)")
_REQUESTED = re.compile(r"(.*?)([cn]?)")
_GRES = re.compile(r"(?:\A|,)gpu(?::([^:,()=]{1,100}))?[:=]([0-9]{1,9})(?![0-9])")
_BRACKETS = re.compile(r"([^\[\],]*)(?:\[([0-9,-]*)\])?")
_EXIT_CODE = re.compile(r"(-?[0-9]{1,10}):([0-9]{1,10})")


@dataclass(frozen=True, slots=True)
class JobId:
    """A job id taken apart.

    number: N, as `sbatch` printed it; array_index: the task of an array; waiting: `[1-9%2]`, tasks that no row of their own stands
    for; het_offset: the component of a heterogeneous job; step: `batch`, `extern`, `0` and so on, None on the row of a job.
    """

    number: int
    array_index: int | None = None
    waiting: str | None = None
    het_offset: int | None = None
    step: str | None = None


def job_id(text: str, name: str = "JobID") -> JobId:
    """`12_3+1.batch` taken apart.  Raises: Reject."""
    match = _JOB_ID.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise Reject(f"{name} is no job id of Slurm")
    number, index, waiting, offset, step = match.groups()
    return JobId(int(number), _integer_or_none(index), waiting, _integer_or_none(offset), step)


def _integer_or_none(text: str | None) -> int | None:
    return None if text is None else int(text)


def id_columns(job: JobId) -> Record:
    """lrms_job_id, array_index and join_id: see the module's page."""
    offset = "" if job.het_offset is None else f"+{job.het_offset}"
    return {"lrms_job_id": f"{job.number}{offset}", "array_index": job.array_index, "join_id": str(job.number)}


def record_key(cluster: str | None, job: JobId, raw: int | None, start_at: int | None, end_at: int) -> str:
    """What makes one run distinct: raw id (else the id shown), start (empty if it never did), end, the tasks a row lists."""
    shown = str(raw) if raw is not None else _shown(job)
    waiting = f":{job.waiting}" if job.waiting else ""
    return f"slurm:{cluster or ''}:{shown}:{'' if start_at is None else start_at}:{end_at}{waiting}"


def _shown(job: JobId) -> str:
    index = "" if job.array_index is None else f"_{job.array_index}"
    return f"{job.number}{index}" + ("" if job.het_offset is None else f"+{job.het_offset}")


def instant(text: str, zone: dt.tzinfo, name: str) -> int | None:
    """Unix seconds of a time: local to `zone`, or with an offset, or in Unix seconds already; None if there is none.

    Raises: Reject for what is no time, does not exist, or is not between 1970 and 2099.
    """
    return next(iter(instants(text, zone, name)), None)


def instants(text: str, zone: dt.tzinfo, name: str) -> tuple[int, ...]:
    """All a time can mean: two instants, the earlier first, in the hour that a zone has twice; none if there is no time."""
    if text in _ABSENT or text == "0":
        return ()
    if text.isascii() and text.isdigit():
        return (bounded_instant(int(text) if len(text) <= 12 else 0, name),)
    match = _LOCAL_TIME.fullmatch(text)
    if not match:
        raise Reject(f"{name} is no time: YYYY-MM-DDTHH:MM:SS or Unix seconds are due")
    if match[7] and match[7] != "Z":
        if int(match[10]) > 59 or int(match[9]) > 23:
            raise Reject(f"{name} has an impossible offset from UTC")
        minutes = int(match[9]) * 60 + int(match[10])
        zone = dt.timezone(dt.timedelta(minutes=-minutes if match[8] == "-" else minutes))
    elif match[7]:
        zone = dt.UTC
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        local = dt.datetime(year, month, day, hour, minute, second, tzinfo=zone)
        readings = [int(local.replace(fold=fold).timestamp() // 1) for fold in (0, 1)]
    except (ValueError, OverflowError) as error:
        raise Reject(f"{name} does not exist in the calendar") from error
    first, second_reading = (bounded_instant(seconds, name) for seconds in readings)
    return (first, second_reading) if second_reading > first else (first,)


def bounded_instant(seconds: int, name: str) -> int:
    """The same, if it can stand in an accounting log.  Raises: Reject."""
    if not 0 < seconds <= LAST_INSTANT:
        raise Reject(f"{name} is impossible: before 1970 or after 2099")
    return seconds


def duration_us(text: str, name: str) -> int | None:
    """Microseconds of `D-HH:MM:SS`, `HH:MM:SS` or `MM:SS.mmm`; None if there is no value.  Raises: Reject.

    sbatch's forms of a limit (`10` minutes, `D-HH`, `D-HH:MM`) do not occur in what Slurm prints, and are rejected.
    """
    if text in _NO_DURATION:
        return None
    match = _DURATION.fullmatch(text)
    if not match or (match[1] and not match[2]):
        raise Reject(f"{name} is no duration: [D-]HH:MM:SS or MM:SS.mmm is due")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:4])
    whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if whole > MOST_SECONDS:
        raise Reject(f"{name} is impossible: more than {MOST_SECONDS} s")
    return whole * SECOND_US + int((match[5] or "0").ljust(6, "0"))


def whole_seconds(microseconds: int) -> int:
    """Rounded half to even."""
    seconds, rest = divmod(microseconds, SECOND_US)
    return seconds + (rest > SECOND_US // 2 or (rest == SECOND_US // 2 and seconds % 2))


def cpu_columns(user_us: int | None, system_us: int | None, total_us: int | None) -> Record:
    """CPU time: user + system if both are known, else the total; nothing at all if it is 0, which is what unknown looks like.

    (Slurm prints 0 for a job of which nothing was gathered, or whose steps were left out.)
    """
    if user_us is not None and system_us is not None and user_us + system_us > 0:
        total = user_us + system_us
        return {"cpu_user_s": user_us / 1e6, "cpu_system_s": system_us / 1e6, "cpu_duration_s": whole_seconds(total)}
    return {"cpu_duration_s": whole_seconds(total_us)} if total_us else {}


def memory_kib(text: str, name: str, *, bare: str = "B") -> int | None:
    """KiB, rounded down, of `1.40G`; `bare` is the unit of a number without one (B, K, M). None for no value, and for `16?`.

    A bare number is bytes because `--noconvert` prints such since 18.08.  Raises: Reject.
    """
    if not text or text.endswith("?"):
        return None
    match = _MEMORY.fullmatch(text)
    if not match:
        raise Reject(f"{name} is no amount of memory: a number and one of K, M, G, T, P is due")
    exponent = "BKMGTPE".index(match[2] or bare)
    kib = math.floor(Decimal(match[1]) * (1 << 10 * exponent) / 1024)
    if kib > MOST_KIB:
        raise Reject(f"{name} is impossible: more memory than there is")
    return kib


def requested_kib(text: str, cpus: int | None, nodes: int | None, name: str = "ReqMem") -> int | None:
    """KiB the whole job asked for; `3000Mc` is a CPU's, `48000Mn` a node's share (up to 20.11). None for 0 or if unknown."""
    match = _REQUESTED.fullmatch(text)
    amount = memory_kib(match[1], name, bare="M") if match else None
    if not match or not amount:
        return None
    shares = {"c": cpus, "n": nodes, "": 1}[match[2]] or 0
    if amount * shares > MOST_KIB:
        raise Reject(f"{name} is impossible: more memory than there is")
    return amount * shares or None


def peak_kib(values: Iterable[int | None]) -> int | None:
    """The largest of the known ones above 0; None if there is none. (0 is printed for a step without a sample.)"""
    return max((value for value in values if value), default=None)


Amount = int | str
"""Of a resource: a whole number, or text with a unit, `320.5G`, as Slurm prints it."""


def tres(text: str, name: str = "AllocTRES") -> dict[str, Amount]:
    """`cpu=4,mem=8G,gres/gpu:a100=2` by its names; whole numbers as numbers.  Raises: Reject."""
    amounts: dict[str, Amount] = {}
    for pair in text.split(",") if text else ():
        key, equals, value = pair.rpartition("=")
        if not equals or not key or not value:
            raise Reject(f"{name} is no list of name=amount")
        amounts[key] = int(value) if value.isascii() and value.isdigit() and len(value) <= 20 else value
    return amounts


def tres_number(amounts: Mapping[str, Amount], key: str) -> int | None:
    """A whole number above 0 among the amounts; None if there is none, or what stands for none."""
    value = amounts.get(key)
    return value if isinstance(value, int) and 0 < value <= MOST_OF_A_KIND else None


def gpus(amounts: Mapping[str, Amount]) -> tuple[int | None, str | None]:
    """GPUs and their models. `gres/gpu` counts them all; only without it the typed ones, `gres/gpu:a100`, are added up."""
    typed = {key.removeprefix("gres/gpu:"): tres_number(amounts, key) for key in amounts if key.startswith("gres/gpu:")}
    models = sorted(model for model, count in typed.items() if count)
    count = tres_number(amounts, "gres/gpu") if "gres/gpu" in amounts else sum(count or 0 for count in typed.values())
    return count or None, ",".join(models) or None


def gres(text: str) -> dict[str, Amount]:
    """AllocGRES or Gres of versions before 20.11, `gpu:k80:2,mic:1`, as TRES spell it: `gres/gpu:k80`; the GPUs alone."""
    amounts: dict[str, Amount] = {}
    for match in _GRES.finditer(text):
        key = f"gres/gpu:{match[1]}" if match[1] else "gres/gpu"
        amounts[key] = int(amounts.get(key, 0)) + int(match[2])
    return amounts


def resource_columns(amounts: Mapping[str, Amount], qos: str | None = None) -> Record:
    """gpu_count, gpu_model, energy_j and resources of what was allocated; the QOS stands among the resources, as `qos`."""
    count, model = gpus(amounts)
    tracked = {**amounts, "qos": qos} if qos else amounts
    resources = resources_text(tracked) if tracked else None
    return {"gpu_count": count, "gpu_model": model, "energy_j": energy_j(amounts.get("energy")), "resources": resources}


def resources_text(tracked: Mapping[str, object]) -> str:
    """The column `resources`: JSON with sorted names."""
    return json.dumps(tracked, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def energy_j(value: Amount | None) -> float | None:
    """Joules; None for 0 and for what stands for no sensor."""
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20 else value
    return float(number) if isinstance(number, int) and number > 0 and number not in NO_VALUE else None


@dataclass(frozen=True, slots=True)
class NodeList:
    """How many nodes, and their names in order; no names if they are more than MOST_HOSTS."""

    count: int
    names: tuple[str, ...]


def node_list(text: str, name: str = "NodeList") -> NodeList:
    """`a1,b[01-04,07],c-[1-2]-x[1-3]` written out, padding kept.  Raises: Reject for brackets that are none, for too many nodes."""
    if text in NO_NODES:
        return NodeList(0, ())
    count = 0
    names: list[str] = []
    for parts in _node_names(text, name):
        number = math.prod(sum(last - first + 1 for first, last, _ in spans) for _, spans in parts if spans is not None)
        count += number
        if count > MOST_OF_A_KIND:
            raise Reject(f"{name} is impossible: more nodes than there can be")
        if count <= MOST_HOSTS:
            names.extend(map("".join, itertools.product(*(_written_out(prefix, spans) for prefix, spans in parts))))
    return NodeList(count, tuple(names) if count <= MOST_HOSTS else ())


_Spans = list[tuple[int, int, int]]
"""(first, last, digits) of each range within brackets."""


def _node_names(text: str, name: str) -> Iterator[list[tuple[str, _Spans | None]]]:
    """Each name as its pieces: (text, ranges in the brackets after it)."""
    parts: list[tuple[str, _Spans | None]] = []
    at = 0
    while at < len(text):
        match = _BRACKETS.match(text, at)
        assert match
        if match.end() == at and text[at] != ",":
            raise Reject(f"{name} has brackets that hold no numbers")
        if match.end() > at:
            parts.append((match[1], None if match[2] is None else _spans(match[2], name)))
        if len(parts) > MOST_BRACKETS:
            raise Reject(f"{name} has too many brackets in a name")
        at = match.end()
        if at == len(text) or text[at] == ",":
            if not parts:
                raise Reject(f"{name} has an empty name")
            yield parts
            parts = []
            at += 1


def _spans(text: str, name: str) -> _Spans:
    spans = []
    for span in text.split(","):
        first, dash, last = span.partition("-")
        last = last if dash else first
        if not (first.isdigit() and last.isdigit() and len(first) <= 12 and len(last) <= 12) or int(first) > int(last):
            raise Reject(f"{name} has brackets that hold no numbers")
        spans.append((int(first), int(last), len(first)))
    return spans


def _written_out(prefix: str, spans: _Spans | None) -> list[str]:
    if spans is None:
        return [prefix]
    return [f"{prefix}{number:0{digits}d}" for first, last, digits in spans for number in range(first, last + 1)]


def exec_hosts(nodes: NodeList, processors: int | None) -> str | None:
    """The column. A lone node has all processors; of several Slurm does not say which has how many: their names stand alone."""
    if not nodes.names:
        return None
    if nodes.count == 1 and processors:
        return join_lists([(processors, nodes.names[0])])
    return json.dumps(nodes.names, ensure_ascii=False, separators=(",", ":"))


def ended_state(text: str, name: str = "State") -> str | None:
    """The state of a job that ended, by the first word of `CANCELLED by 1000`; None if it has not ended.  Raises: Reject."""
    word = text.partition(" ")[0]
    if word in NOT_ENDED:
        return None
    if word not in ENDED:
        raise Reject(f"{name} is no state of Slurm")
    return ENDED[word]


def exit_columns(text: str) -> Record:
    """exit_code (0 to 255) and exit_signal (1 to 64) of `rc:signal`; `0:125` is Slurm's sign of memory run out, and no signal."""
    match = _EXIT_CODE.fullmatch(text)
    if not match:
        return {}
    code, signal = int(match[1]), int(match[2])
    return {"exit_code": code if 0 <= code <= 255 else None, "exit_signal": signal if 1 <= signal <= 64 else None}
