"""The field table of a `JOB_FINISH` record in `lsb.acct`, and how its fields are told apart.

Both lanes of the parser read this one table (after IBM's "lsb.acct" reference, 5.1 to 10.1; every group but `host usage` was
checked against real records of LSF 5.1 to 10.1.0.8). A field is its kind and its name:

    s  a string in double quotes; a quote inside is doubled, nothing else is escaped
    i  an integer
    n  a number that writers print whole, but need not
    f  a number printed with decimals (`%f`)
    w  a string or a bare word: host names of the host usage group are not quoted

A `Repeat` is a count and, that many times, its fields. The record may end after any group; where LSF releases without a sample
end is not known, so theirs may end after any field of the tail. What follows the last group is left uninterpreted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from batchacct.parsing import Reject

RECORD = b"JOB_FINISH"


@dataclass(frozen=True, slots=True)
class Repeat:
    """A list in the record: the name of its count, then its fields, repeated."""

    count: str
    kinds: str
    name: str
    inner: Repeat | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive fields: one letter of `kinds` for each of `names`; `where` is how a message speaks of each."""

    kinds: str
    names: tuple[str, ...]
    where: tuple[str, ...]


Item = Run | Repeat


@dataclass(frozen=True, slots=True)
class Group:
    """What a release added at the end of the record; `since` is the format version it was first seen in."""

    since: str
    items: tuple[Item, ...]


def _run(text: str, first: int | None = None, shift: str = "") -> Run:
    """`s:queue i:idx` as a run; its first field is number `first` of the record, plus the lengths of the lists before."""
    kinds, names = zip(*(pair.split(":") for pair in text.split()), strict=True)
    numbers = [""] * len(names) if first is None else [f"{first + i}{shift} " for i in range(len(names))]
    return Run("".join(kinds), names, tuple(f"field {n}({name})" for n, name in zip(numbers, names, strict=True)))


_HEAD = _run(
    "s:eventType s:version i:eventTime i:jobId i:userId i:options i:numProcessors i:submitTime i:beginTime i:termTime i:startTime"
    " s:userName s:queue s:resReq s:dependCond s:preExecCmd s:fromHost s:cwd s:inFile s:outFile s:errFile s:jobFile",
    first=0,
)
_HOSTS = (Repeat("numAskedHosts", "s", "askedHosts"), Repeat("numExHosts", "s", "execHosts"))
_USAGE = (
    "i:jStatus f:hostFactor s:jobName s:command f:ru_utime f:ru_stime n:ru_maxrss n:ru_ixrss n:ru_ismrss n:ru_idrss n:ru_isrss"
    " n:ru_minflt n:ru_majflt n:ru_nswap n:ru_inblock n:ru_oublock n:ru_ioch n:ru_msgsnd n:ru_msgrcv n:ru_nsignals n:ru_nvcsw"
    " n:ru_nivcsw n:ru_exutime s:mailUser s:projectName i:exitStatus i:maxNumProcessors s:loginShell "
)
_SPOOL = "i:idx i:maxRMem i:maxRSwap s:inFileSpool s:commandSpool"

BASE = Group("5.1", (_HEAD, *_HOSTS, _run(_USAGE + "s:timeEvent " + _SPOOL + " s:rsvId", 24, "+o")))
TAIL = (
    Group(
        "6.0",
        (
            _run(
                "s:sla i:exceptMask s:additionalInfo i:exitInfo s:warningAction i:warningTimePeriod s:chargedSAAP",
                59,
                "+o",
            ),
        ),
    ),
    Group("7.02", (_run("s:licenseProject s:app s:postExecCmd i:runtimeEstimation s:jobGroupName", 66, "+o"),)),
    Group("7.03", (_run("s:requeueEvalues", 71, "+o"),)),
    Group(
        "7.06",
        (
            _run("i:options2 s:resizeNotifyCmd i:lastResizeTime s:rsvId2 s:jobDescription", 72, "+o"),
            Repeat("numSubmitExt", "is", "submitExt"),
        ),
    ),
    Group(
        "9.11",
        (
            Repeat("numHostRusage", "wnnnn", "hostRusage", inner=Repeat("numHostKeys", "ww", "hostKeys")),
            _run(
                "i:runLimit i:options3 n:avgMem s:effectiveResReq s:srcCluster i:srcJobId s:dstCluster i:dstJobId"
                " i:forwardTime s:flow_id i:acJobWaitTime i:totalProvisionTime s:outdir i:runTime s:subcwd"
            ),
            Repeat("num_network", "si", "networks"),
            _run("s:affinity"),
        ),
    ),
    Group("9.12", (_run("f:serial_job_energy"),)),
    Group("9.13", (_run("f:cpi f:gips f:gbs f:gflops"), Repeat("numAllocSlots", "s", "allocSlots"))),
    Group(
        "10.1",
        (
            _run("i:ineligiblePendTime"),
            Repeat("indexRangeCnt", "iii", "indexRanges"),
            _run("i:requeueTime"),
            Repeat("numGPURusages", "w", "gpuRusages", inner=Repeat("numGpuKeys", "ww", "gpuKeys")),
        ),
    ),
    Group("10.108", (Repeat("storageInfoC", "s", "storageInfo"), Repeat("numKVP", "ss", "keyValues"))),
)
LATER = Group("10.11", (_run("f:cpuPeak f:cpuEfficiency f:memoryEfficiency"),))
"""What newest records end with; the names are a guess by magnitude, so like anything after the tail it is not interpreted."""

SAMPLED = frozenset({b"5.1", b"6.0", b"7.02", b"7.03", b"7.06", b"9.11", b"9.12", b"9.13", b"10.1", b"10.108"})
"""Versions whose end is known from real records."""

_LAVA_TAIL = _run(_USAGE + _SPOOL, 24, "+o")
_LAVA_POST_EXEC = "postExecCmd"
"""Lava, volclava, openlava (integer version; volclava source): no timeEvent, ends at commandSpool, may have a postExecCmd."""

Token = tuple[str, bytes]
"""A field as it stands: its kind (as above; `e` with an exponent, `w` a bare word, `u` a quote that is never closed) and text."""

_TOKEN = re.compile(rb'([ \t]*+)(?:"([^"]*+(?:""[^"]*+)*+)"|([^ \t"]++)|("[\s\S]*+))')
_INTEGER = re.compile(rb"-?[0-9]+")
_FRACTION = re.compile(rb"-?[0-9]+\.[0-9]+")
_EXPONENT = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?[eE][-+]?[0-9]+")
_ACCEPTS = {"s": "s", "i": "i", "n": "ife", "f": "ife", "w": "swife"}
_DUE = {"s": "a quoted string", "i": "an integer", "n": "a number", "f": "a number", "w": "a word"}
_FOUND = {
    "s": "a quoted string",
    "i": "an integer",
    "f": "a number with decimals",
    "e": "a number with an exponent",
    "w": "a bare word",
    "u": "a quote that is never closed",
}


@dataclass(slots=True)
class Fields:
    """The fields of one record by name: strings undoubled, numbers as written, lists as flat tuples per repetition."""

    values: dict[str, bytes] = field(default_factory=dict)
    lists: dict[str, list[tuple[bytes, ...]]] = field(default_factory=dict)

    def integer(self, name: str, absent: int = 0) -> int:
        raw = self.values.get(name)
        return absent if raw is None else int(raw)


def tokens(unit: bytes) -> tuple[list[Token], bool]:
    """The fields of a unit in order, and whether any two stood without a blank between; a quote never closed ends them."""
    found: list[Token] = []
    glued = False
    for blanks, quoted, bare, unclosed in _TOKEN.findall(unit.rstrip(b" \t")):
        glued |= not blanks and bool(found)
        if bare:
            found.append((_bare_kind(bare), bare))
        elif unclosed:
            found.append(("u", unclosed))
        else:
            found.append(("s", quoted.replace(b'""', b'"') if b'"' in quoted else quoted))
    return found, glued


def _bare_kind(text: bytes) -> str:
    if text.isdigit() and len(text) <= 18:
        return "i"
    if _INTEGER.fullmatch(text):
        return "i" if len(text) <= 20 and -(1 << 63) <= int(text) < 1 << 63 else "w"
    if _FRACTION.fullmatch(text):
        return "f"
    return "e" if _EXPONENT.fullmatch(text) else "w"


class _Walk:
    """Takes the fields of one record in the order of the table."""

    def __init__(self, found: list[Token]) -> None:
        self.kinds = "".join(kind for kind, _ in found)
        self.texts = [text for _, text in found]
        self.position = 0
        self.fields = Fields()

    @property
    def left(self) -> int:
        return len(self.texts) - self.position

    def take(self, item: Item) -> None:
        if isinstance(item, Run):
            self.take_run(item.kinds, item.names, item.where)
        else:
            self.take_list(item)

    def take_run(self, kinds: str, names: tuple[str, ...], where: tuple[str, ...]) -> None:
        end = self.position + len(names)
        if self.kinds[self.position : end] != kinds:
            self._check(kinds, where)
        self.fields.values.update(zip(names, self.texts[self.position : end], strict=True))
        self.position = end

    def take_list(self, item: Repeat) -> None:
        rows: list[tuple[bytes, ...]] = []
        for _ in range(self._count(item)):
            end = self.position + len(item.kinds)
            self._check(item.kinds, (f"the list {item.name}",) * len(item.kinds))
            rows.append(tuple(self.texts[self.position : end]))
            self.position = end
            if item.inner is not None:
                self.take_list(item.inner)
        self.fields.lists[item.name] = rows

    def _count(self, item: Repeat) -> int:
        self._check("i", (f"field ({item.count})",))
        count = int(self.texts[self.position])
        self.position += 1
        if count < 0:
            raise Reject(f"field ({item.count}) is negative: it counts {item.name}")
        if count * len(item.kinds) > self.left:
            raise Reject(f"the record ends inside the list {item.name}")
        return count

    def _check(self, kinds: str, where: tuple[str, ...]) -> None:
        """Raises: Reject naming the first field that is missing or of another kind than is due."""
        for offset, due in enumerate(kinds):
            if offset >= self.left:
                raise Reject(f"the record ends before {where[offset]}")
            found = self.kinds[self.position + offset]
            if found not in _ACCEPTS[due]:
                raise Reject(f"{where[offset]}: {_DUE[due]} is due, {_FOUND[found]} was found")


def read_fields(found: list[Token], *, glued: bool) -> Fields:
    """The tokens of a `JOB_FINISH` unit by the table.  Raises: Reject with the field where they depart from it."""
    walk = _Walk(found)
    version = found[1][1] if len(found) > 1 else b""
    if version.isdigit():
        _take_lava(walk)
    else:
        for item in BASE.items:
            walk.take(item)
        _take_tail(walk, may_end_anywhere=version not in SAMPLED)
    if walk.left and "u" in walk.kinds:
        raise Reject("a field after those known: a quote is never closed")
    if walk.left and glued:
        raise Reject("two fields without a blank between, and what follows does not fit")
    return walk.fields


def _take_tail(walk: _Walk, *, may_end_anywhere: bool) -> None:
    for group in TAIL:
        if not walk.left:
            return
        for item in _single(group) if may_end_anywhere else group.items:
            if may_end_anywhere and not walk.left:
                return
            walk.take(item)


def _single(group: Group) -> Iterator[Item]:
    """The items of a group, each run as single fields."""
    for item in group.items:
        if isinstance(item, Run):
            for kind, name, where in zip(item.kinds, item.names, item.where, strict=True):
                yield Run(kind, (name,), (where,))
        else:
            yield item


def _take_lava(walk: _Walk) -> None:
    """A postExecCmd, where there is one, stands after preExecCmd: then a string is where the count of asked hosts is due."""
    split = _HEAD.names.index("preExecCmd") + 1
    runs = [Run(_HEAD.kinds[s], _HEAD.names[s], _HEAD.where[s]) for s in (slice(0, split), slice(split, None))]
    if walk.kinds[len(_HEAD.names) : len(_HEAD.names) + 1] == "s":
        runs.insert(1, _run(f"s:{_LAVA_POST_EXEC}"))
    items: list[Item] = [*runs, *_HOSTS, _LAVA_TAIL]
    for item in items:
        walk.take(item)
