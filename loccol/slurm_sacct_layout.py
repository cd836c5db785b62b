r"""Which fields a row of sacct has: header lines, the lists known without one, and the splitting of rows.

sacct escapes nothing: a job name that holds the delimiter makes a row of more fields than there are. Where the list has only one
field that can hold it, the row is split from both ends and that field gets what is left; where it has several, nothing is guessed.

Without a header (`-n`) a row is recognised by its number of fields and their forms, if it is of one of these lists:

    batchacct  see RECOMMENDED: what this parser can make use of, the free text last
    APEL       slurm_acc: JobID JobName User Group Start End Elapsed CPUTimeRAW Partition NCPUS NNodes NodeList MaxRSS MaxVMSize
               State; some sites have TotalCPU in the place of CPUTimeRAW, which its form tells (sources: apel/apel)
    Open XDMoD jobid jobidraw cluster partition qos account group gid user uid submit eligible start end elapsed exitcode state
               nnodes ncpus reqcpus reqmem reqtres alloctres timelimit nodelist jobname (source: ubccr/xdmod Slurm.php)
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from batchacct.model import text_of
from batchacct.parsing import Reject
from loccol.slurm_values import JobId, job_id

FIELD_NAMES = frozenset(
    """Account AdminComment AllocCPUS AllocGRES AllocNodes AllocTRES AssocID AveCPU AveCPUFreq AveDiskRead AveDiskWrite AvePages
    AveRSS AveVMSize BlockID Cluster Comment Constraints ConsumedEnergy ConsumedEnergyRaw Container CPUTime CPUTimeRAW DBIndex
    DerivedExitCode Elapsed ElapsedRaw Eligible End Exclusive ExitCode Extra FailedNode Flags GID Group JobID JobIDRaw JobName
    Layout
    Licenses MaxDiskRead MaxDiskReadNode MaxDiskReadTask MaxDiskWrite MaxDiskWriteNode MaxDiskWriteTask MaxPages MaxPagesNode
    MaxPagesTask MaxRSS MaxRSSNode MaxRSSTask MaxVMSize MaxVMSizeNode MaxVMSizeTask McsLabel MinCPU MinCPUNode MinCPUTask NCPUS
    NNodes NodeList NTasks OriginalSLUID OverSubscribe Partition Planned PlannedCPU PlannedCPURAW Priority QOS QOSRAW QOSREQ Reason
    ReqCPUFreq ReqCPUFreqGov ReqCPUFreqMax ReqCPUFreqMin ReqCPUS ReqGRES ReqMem ReqNodes ReqReservation ReqTRES Reservation
    ReservationId Reserved Restarts ResvCPU ResvCPURAW SegmentSize SLUID Start State StdErr StdIn StdOut Submit SubmitLine Suspended
    SystemComment SystemCPU Timelimit TimelimitRaw TotalCPU TRESAlloc TRESReq TRESUsageInAve TRESUsageInMax TRESUsageInMaxNode
    TRESUsageInMaxTask TRESUsageInMin TRESUsageInMinNode TRESUsageInMinTask TRESUsageInTot TRESUsageOutAve TRESUsageOutMax
    TRESUsageOutMaxNode TRESUsageOutMaxTask TRESUsageOutMin TRESUsageOutMinNode TRESUsageOutMinTask TRESUsageOutTot UID User UserCPU
    WCKey WCKeyID WorkDir""".lower().split()
)
"""Every field of sacct from 2.6 to 26.x, in lower case as all names here: sacct takes them in any."""

_ALIASES = {"tresalloc": "alloctres", "tresreq": "reqtres"}
"""Names of Slurm 15.08."""
_FREE_TEXT = frozenset(
    {"jobname", "comment", "admincomment", "systemcomment", "extra", "workdir", "submitline", "stdin", "stdout", "stderr",
     "container", "constraints"}
)  # fmt: skip
"""What can hold any character; in constraints `|` is or."""
_LISTS = frozenset({"nodelist", "alloctres", "reqtres", "allocgres", "reqgres", "partition", "licenses", "flags", "jobid"})
"""What holds commas, and lists of `TRESUsage...` do."""

LONGEST_HEADER = 4096
_FIRST_NAME = re.compile(rb"([A-Za-z]{2,30})([^A-Za-z0-9\r\n]{1,8})[A-Za-z]")
_HEADER_MARKS = (b"JobID", b"jobid")
CPU_OR_RESERVED = "totalcpu or cputimeraw"


@dataclass(frozen=True)
class Layout:
    """Names of the fields, in order, what separates them, and whether that stands behind the last one too (`sacct -p`)."""

    names: tuple[str, ...]
    delimiter: bytes = b"|"
    trailing: bool = False

    @cached_property
    def index(self) -> dict[str, int]:
        """Where each field is; of one named twice the first."""
        return {name: at for at, name in reversed(list(enumerate(self.names)))}

    @cached_property
    def holder(self) -> int | None:
        """The one field that can hold the delimiter; None if none can, or several."""
        lists = _LISTS | {name for name in self.names if name.startswith("tresusage")} if b"," in self.delimiter else frozenset()
        holders = [at for at, name in enumerate(self.names) if name in _FREE_TEXT or name in lists]
        return holders[0] if len(holders) == 1 else None

    def is_exact(self, line: bytes) -> bool:
        """Whether a row has as many delimiters as the header."""
        return line.count(self.delimiter) == len(self.names) - 1 + self.trailing

    def split(self, line: bytes) -> list[bytes]:
        """The fields of a row.  Raises: Reject if there are not as many as names, and it is not clear which holds the delimiter."""
        if self.trailing:
            if not line.endswith(self.delimiter):
                raise Reject("the row does not end with the delimiter, as the header does: it is cut short")
            line = line.removesuffix(self.delimiter)
        surplus = line.count(self.delimiter) + 1 - len(self.names)
        if surplus < 0:
            raise Reject("the row has fewer fields than the header has names: it is cut short, or of another list")
        if surplus == 0:
            return line.split(self.delimiter)
        if self.holder is None:
            raise Reject("the row has more fields than the header has names: ask for one free-text field at the most")
        *before, rest = line.split(self.delimiter, self.holder)
        return before + rest.rsplit(self.delimiter, len(self.names) - 1 - self.holder)


@dataclass(frozen=True, slots=True)
class SacctRow:
    """One row: its fields, its id taken apart, and the raw id where the list has it."""

    layout: Layout
    fields: list[bytes]
    job: JobId
    raw: int | None

    def text(self, *names: str) -> str:
        """The first of the fields that the list has and that is not empty; else empty."""
        for name in names:
            at = self.layout.index.get(name)
            if at is not None and self.fields[at]:
                return text_of(self.fields[at])
        return ""

    def has(self, *names: str) -> bool:
        return any(name in self.layout.index for name in names)

    def cpu_text(self) -> str:
        """TotalCPU; of APEL's list only if it is not CPUTimeRAW, which is processors times wallclock, and no CPU time used."""
        either = self.text(CPU_OR_RESERVED)
        return self.text("totalcpu") or ("" if either.lstrip("-").isdigit() else either)

    @property
    def is_step(self) -> bool:
        """Rows of steps have a suffix at their id; one that lost it has no user and no partition either, which jobs have."""
        if self.job.step is not None:
            return True
        return self.has("user") and self.has("partition") and not self.text("user") and not self.text("partition")

    @property
    def step_name(self) -> str:
        return self.job.step or self.text("jobname")

    def is_of(self, job: SacctRow) -> bool:
        """Whether this is a step of that job."""
        ours, theirs = self.job, job.job
        return (ours.number, ours.array_index, ours.waiting, ours.het_offset, self.raw) == (
            theirs.number, theirs.array_index, theirs.waiting, theirs.het_offset, job.raw
        )  # fmt: skip


RECOMMENDED = (
    "JobID,JobIDRaw,Cluster,User,UID,Group,Account,Partition,QOS,Submit,Eligible,Start,End,ElapsedRaw,Suspended,State,ExitCode,NCPUS,"
    "NNodes,ReqMem,AllocTRES,TotalCPU,UserCPU,SystemCPU,MaxRSS,MaxVMSize,TRESUsageInTot,ConsumedEnergyRaw,NodeList,JobName"
)
"""For `sacct --format`: all that is made use of since 18.08, the one free-text field last."""

_APEL = f"jobid,jobname,user,group,start,end,elapsed,{CPU_OR_RESERVED},partition,ncpus,nnodes,nodelist,maxrss,maxvmsize,state"
_XDMOD = (
    "jobid,jobidraw,cluster,partition,qos,account,group,gid,user,uid,submit,eligible,start,end,elapsed,exitcode,state,nnodes,ncpus,"
    "reqcpus,reqmem,reqtres,alloctres,timelimit,nodelist,jobname"
)
_NAMED_LISTS = {"RECOMMENDED": RECOMMENDED, "APEL": _APEL, "Open XDMoD": _XDMOD}
KNOWN_LISTS = tuple(Layout(tuple(names.lower().split(","))) for names in _NAMED_LISTS.values())

_TIME = r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:Z|[+-][0-9:]{4,5})?|[0-9]{9,10}|Unknown|None)"
_ELAPSED = r"(?:(?:[0-9]+-)?[0-9]{2,}:[0-9]{2}:[0-9]{2}|INVALID)"
SHAPES = {
    "jobid": r"[0-9].*",
    "jobidraw": r"[0-9].*",
    "start": _TIME,
    "end": _TIME,
    "elapsed": _ELAPSED,
    "elapsedraw": r"[0-9]*",
    "ncpus": r"[0-9]*",
    "nnodes": r"[0-9]*",
    CPU_OR_RESERVED: r"(?:-?[0-9]+|[0-9:.-]+|INVALID|)",
    "exitcode": r"(?:-?[0-9]+:[0-9]+|)",
    "state": r"[A-Z_]+(?: by .*)?",
}
"""By these a row without a header is known; both lanes read them, by Python's engine and by Arrow's (RE2)."""
_SHAPES = {name: re.compile(shape, re.DOTALL) for name, shape in SHAPES.items()}


def known_lists_told() -> str:
    """The lists known without a header line, for people."""
    lists = (
        textwrap.fill(f"{name}: {names.replace(',', ', ')}", 118, initial_indent="    ", subsequent_indent=" " * 8)
        for name, names in _NAMED_LISTS.items()
    )
    return "\n".join(["Lists that are known without a header line, in any case:", "", *lists, ""])


_NEW_NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")
"""A field of a Slurm that is newer than this program: it is passed over."""


def header_of(line: bytes) -> Layout | None:
    """The layout a header line tells of; None if the line is none. Names may be in any case."""
    first = _FIRST_NAME.match(line) if len(line) <= LONGEST_HEADER else None
    if not first or not any(mark in line for mark in _HEADER_MARKS):
        return None
    delimiter = first[2]
    names = [name.decode("ascii", "replace") for name in line.lower().split(delimiter)]
    trailing = not names[-1]
    names = names[: len(names) - trailing]
    unknown = set(names) - FIELD_NAMES
    if not {"jobid", "jobidraw"} & set(names):
        return None
    if unknown and (delimiter == b"," or len(names) - len(unknown) < 3 or not all(map(_NEW_NAME.fullmatch, unknown))):
        return None
    return Layout(tuple(_ALIASES.get(name, name) for name in names), delimiter, trailing)


def headers(data: bytes) -> Iterator[tuple[int, int, Layout]]:
    """Every header line in a block: (start, end behind its line, layout)."""
    at = 0
    marks = {mark: data.find(mark) for mark in _HEADER_MARKS}
    while found := [position for position in marks.values() if position >= 0]:
        mark = min(found)
        start = max(at, data.rfind(b"\n", at, mark) + 1)
        newline = data.find(b"\n", mark)
        at = len(data) if newline < 0 else newline + 1
        layout = header_of(data[start:at].removesuffix(b"\n").removesuffix(b"\r")) if at - start <= LONGEST_HEADER else None
        if layout:
            yield start, at, layout
        marks |= {mark: data.find(mark, at) for mark, position in marks.items() if 0 <= position < at}


def read_row(line: bytes, header: Layout | None) -> SacctRow:
    """A row by the header in force, else by the known list that it fits: field for field if it can be, else with its free text
    put together.  Raises: Reject.
    """
    refused: Reject | None = None
    for exact in (True, False):
        if header and header.is_exact(line) == exact:
            try:
                return _row(header, header.split(line))
            except Reject as reject:
                refused = reject
        if row := _row_of_known_list(line, exact=exact):
            return row
    raise refused or Reject(
        "no header says what the fields are, and they fit no list that is known: give the header line, by `header` of the source "
        "or --header"
    )


def _row_of_known_list(line: bytes, *, exact: bool) -> SacctRow | None:
    """The row by the one known list it fits; None if it fits none, or several."""
    rows = []
    for layout in KNOWN_LISTS:
        for candidate in (replace(layout, trailing=True), layout):
            if candidate.is_exact(line) != exact:
                continue
            try:
                fields = candidate.split(line)
                if fits(candidate, fields):
                    rows.append(_row(candidate, fields))
                    break
            except Reject:
                continue
    return rows[0] if len(rows) == 1 else None


def known_list_of(line: bytes) -> Layout | None:
    """The known list whose fields, not one more, a line has."""
    row = _row_of_known_list(line, exact=True)
    return row.layout if row and not row.layout.trailing else None


def fits(layout: Layout, fields: list[bytes]) -> bool:
    """Whether the fields have the forms of a known list."""
    for name, shape in _SHAPES.items():
        at = layout.index.get(name)
        if at is not None and not shape.fullmatch(text_of(fields[at])):
            return False
    return True


def _row(layout: Layout, fields: list[bytes]) -> SacctRow:
    raw = job_id(text_of(fields[layout.index["jobidraw"]]), "JobIDRaw") if "jobidraw" in layout.index else None
    job = job_id(text_of(fields[layout.index["jobid"]])) if "jobid" in layout.index else raw
    assert job
    return SacctRow(layout, fields, job, raw.number if raw else None)
