"""One line of the classic `accounting` file to what it says.

Nothing is quoted. Of all fields only `category`, the request as it was given, can hold the separator (UGE since 8.2 writes
another byte for it, see `loccol.sge_category`). So the fields before it are counted from the left, and those after it begin
where a number (`iow`), a task id (`pe_taskid`) and a number (`maxvmem`) follow each other for the first time. Sources:
accounting(5) of SoGE, and lines of all versions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from batchacct.model import text_of
from batchacct.parsing import Reject
from loccol.sge_category import colons_restored
from loccol.sge_runs import Run

HEAD = (
    "qname", "hostname", "group", "owner", "job_name", "job_number", "account", "priority", "submission_time", "start_time",
    "end_time", "failed", "exit_status", "ru_wallclock", "ru_utime", "ru_stime", "ru_maxrss", "ru_ixrss", "ru_ismrss", "ru_idrss",
    "ru_isrss", "ru_minflt", "ru_majflt", "ru_nswap", "ru_inblock", "ru_oublock", "ru_msgsnd", "ru_msgrcv", "ru_nsignals",
    "ru_nvcsw", "ru_nivcsw", "project", "department", "granted_pe", "slots", "task_number", "cpu", "mem", "io",
)  # fmt: skip
"""The fields of every version; `category` follows."""

TAIL = (
    "iow", "pe_taskid", "maxvmem", "arid", "ar_submission_time", "job_class", "qdel_info", "maxrss", "maxpss", "submit_host", "cwd",
    "submit_cmd", "wallclock", "ioops", "bound_cores",
)  # fmt: skip
"""What follows `category`, as far as the version goes; later ones have fields whose meaning is not published."""

GRANTED = 28
"""Of the tail: the granted resources, in the one form of later UGE that is known (`gpu=1,m_mem_free=1G`, 74 fields)."""
FIELDS_WITH_GRANTED = 74

MOST_FIELDS = 2000
"""A line with more separators is no record: the longest version has 74 fields, and a request some ten."""

MOST_SECONDS = 10**11
"""A larger time counts milliseconds (UGE since 8.2), one above a thousand times as much microseconds (OCS)."""

NONE = frozenset({b"", b"NONE"})
NOWHERE = frozenset({b"", b"NONE", b"UNKNOWN", b"(null)"})
"""Queue and host of a job that was never dispatched."""

_INTEGER = re.compile(rb"-?[0-9]{1,18}")
_NUMBER = re.compile(rb"-?[0-9]{1,18}(?:\.[0-9]{0,18})?(?:[eE][+-]?[0-9]{1,2})?")
PE_TASKID = re.compile(rb"[0-9]+\.[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Line:
    """A line's fields: those before the request, the request itself, those after it."""

    head: dict[str, bytes]
    category: bytes
    tail: dict[str, bytes]
    granted: bytes = b""

    def text(self, name: str) -> str | None:
        raw = self.head.get(name) or self.tail.get(name, b"")
        return None if raw in NONE else text_of(raw)

    def place(self, name: str) -> str | None:
        return None if self.head[name] in NOWHERE else text_of(self.head[name])

    def free_text(self, name: str) -> str | None:
        raw = self.tail.get(name, b"")
        return None if raw in NONE else text_of(colons_restored(raw))

    def integer(self, name: str) -> int:
        """Raises: Reject."""
        if not _INTEGER.fullmatch(self.head[name]):
            raise Reject(f"{name} (field {HEAD.index(name)}): a whole number is due")
        return int(self.head[name])

    def number(self, name: str) -> Decimal:
        """A field that every version has.  Raises: Reject."""
        if not _NUMBER.fullmatch(self.head[name]):
            raise Reject(f"{name} (field {HEAD.index(name)}): a number is due")
        return Decimal(self.head[name].decode())

    def late_number(self, name: str) -> Decimal | None:
        """A field of later versions; None where there is none.  Raises: Reject."""
        raw = self.tail.get(name)
        if raw is None:
            return None
        if not _NUMBER.fullmatch(raw):
            raise Reject(f"{name} (after the category): a number is due")
        return Decimal(raw.decode())


def split(unit: bytes) -> Line:
    """The fields of a line of any version.  Raises: Reject."""
    tokens = unit.split(b":", MOST_FIELDS)
    if len(tokens) < len(HEAD):
        raise Reject(f"a record has at least {len(HEAD)} fields between colons")
    if len(tokens) > MOST_FIELDS:
        raise Reject(f"more than {MOST_FIELDS} fields between colons")
    head = dict(zip(HEAD, tokens, strict=False))
    if len(tokens) == len(HEAD):
        return Line(head, b"", {})
    tail = _tail(tokens)
    granted = tokens[tail + GRANTED] if len(tokens) - tail == FIELDS_WITH_GRANTED - len(HEAD) - 1 else b""
    return Line(head, b":".join(tokens[len(HEAD) : tail]), dict(zip(TAIL, tokens[tail:], strict=False)), granted)


def _tail(tokens: list[bytes]) -> int:
    """Where the fields after the category begin.  Raises: Reject."""
    for at in range(len(HEAD) + 1, len(tokens) - 2):
        pe_taskid = tokens[at + 1]
        if (
            _NUMBER.fullmatch(tokens[at])
            and (pe_taskid in NONE or PE_TASKID.fullmatch(pe_taskid))
            and _NUMBER.fullmatch(tokens[at + 2])
        ):
            return at
    raise Reject("no iow, pe_taskid and maxvmem follow the category")


def run_of_line(unit: bytes) -> Run:
    """What a line of any version says.  Raises: Reject with the field that is not what it should be."""
    line = split(unit)
    maxrss_bytes = int(line.late_number("maxrss") or 0)
    return Run(
        job_number=line.integer("job_number"),
        task_number=line.integer("task_number"),
        pe_taskid=line.text("pe_taskid"),
        queue=line.place("qname"),
        host=line.place("hostname"),
        owner=line.text("owner"),
        group=line.text("group"),
        job_name=line.text("job_name"),
        account=line.text("account"),
        project=line.text("project"),
        granted_pe=line.text("granted_pe"),
        slots=line.integer("slots"),
        submit=_seconds(line.integer("submission_time")),
        start=_seconds(line.integer("start_time")),
        end=_seconds(line.integer("end_time")),
        failed=line.integer("failed"),
        exit_status=line.integer("exit_status"),
        wallclock=line.number("ru_wallclock"),
        cpu=line.number("cpu"),
        mem=line.number("mem"),
        io=line.number("io"),
        ioops=line.late_number("ioops"),
        maxvmem_bytes=int(line.late_number("maxvmem") or 0),
        rss_kib=maxrss_bytes // 1024 if maxrss_bytes > 0 else int(line.number("ru_maxrss")),
        category="" if line.category in NONE else text_of(colons_restored(line.category)),
        granted="" if line.granted in NONE else text_of(line.granted),
        submit_host=line.text("submit_host"),
        command=line.free_text("submit_cmd"),
        deleted_by=line.text("qdel_info"),
    )


def _seconds(time: int) -> int:
    """Unix seconds, rounded down, of a time whose size shows its unit."""
    while time > MOST_SECONDS:
        time //= 1000
    return time
