"""Run records of XALT 2 and 3, in files or as syslog lines: a program that ran under XALT's LD_PRELOAD library.

    {"crc":"0x533F","cmdlineA":["./hello","-x"],"hash_id":"851adf2a...","libA":[["/usr/lib/x86_64-linux-gnu/libc.so.6","0"]],
    "ptA":[{"cmd_name":"bash","cmd_path":"/usr/bin/bash","pid":3836,"cmdlineA":["/bin/bash"]}],"envT":{"PATH":"/usr/bin:/bin"},
    "userT":{"syshost":"local","run_uuid":"01a1f98c-5586-760f-a891-57de277e80d8","exec_path":"/home/alice/src/hello",
    "user":"alice","scheduler":"SLURM","job_id":"4711","queue":"batch"},"userDT":{"start_time":1795188086.1504,
    "end_time":1795188086.1507,"run_time":0.0003,"probability":1.0000,"num_tasks":1.0000,"num_threads":4.0000},
    "xaltLinkT":{"Build_UUID":"01a1f98c-555b-7147-bb57-58bdf3043a47"}}                       (one line, shortened; XALT 3.2.4)

    <14>Nov 20 15:21:26 XALT_LOGGING_local: V:4 kind:run syshost:local key:run_fini_01a1f98c-5586-760f-a891-57de277e80d8
    crcStr:0x533F nb:05 idx:00 value:{"crc":"0x533F","cmdlineA":["./he            (one line; a record is cut into `nb` of them)

A run may have two records, of its start (`end_time` 0, of large MPI programs only) and of its end. Both are parts, and so is each
block of a syslog record, found in whatever order and file. A run becomes one record as soon as one of its records is whole and its
CRC is right (CRC-16/CCITT-FALSE over the text, with `0xFFFF` in its own place): from that of the end, else from that of the start.

    column                     value
    record_key                 `xalt/` and run_uuid
    logged_at, started_at      start_time (of both records, so that that of the end revises that of the start)
    start_ns, end_ns           start_time, end_time
    elapsed_s                  run_time, times `processes`
    processes                  1 / probability, rounded: XALT draws lots for short runs, and says how
    host                       syshost, the name XALT has for the cluster: it does not record the host
    pid, parent_pid            0, as XALT does not record it; pid of the first of ptA
    lrms, lrms_job_id, join_id scheduler, job_id; job_from: environment. `unknown` is none
    program, arguments         exec_path, cmdlineA
    ended_by                   exit if there is an end record (XALT writes none of a killed program, and no status), else unknown
    signature                  Build_UUID of xaltLinkT
    modules, environment       LOADEDMODULES of envT; envT
    mpi_rank, mpi_size         0 (only that rank is recorded), num_tasks, if it is more than 1
    threads                    num_threads

Libraries (libA), the SHA-1 of the program (hash_id) and ancestors (ptA) stand in `native`. Link and package records are skipped.
Old records have no `crc`, which then is not looked at. Zone: none needed. Sources: records and syslog lines of XALT 3.2.4, its
documentation and `libxalt`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator

from batchacct.model import PROCESS, Record
from batchacct.parsing import Completed, Completion, Outcome, Part, Reject, Row, Skip, Source, UnitParser, Whole
from procacct.recorded_elsewhere import (
    NANOSECONDS,
    SEEN_BY,
    UNKNOWN,
    instant,
    job_columns,
    json_text,
    number_at,
    text_at,
    texts_at,
    valid_text,
    whole_at,
)
from procacct.records import object_of

FAMILY = "xalt"
NO_LRMS = "XALT"
"""Of a part, which has to name one; the record has that of its job, or none."""
LINK = "a link record: what was built, not what ran"
PACKAGE = "a package that a program loaded"
LARGEST_WEIGHT = 1_000_000_000
_LRMS = {"SLURM": "Slurm"}
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_RUN_UUID = re.compile(_UUID)
_CRC = re.compile(rb'"crc"\s*:\s*"(0[xX][0-9a-fA-F]{1,4})"')
_BLOCK = re.compile(
    rb"XALT_LOGGING_[^ ]{1,200} +V:(?P<version>[0-9]+) +kind:(?P<kind>[a-z]+) +(?:syshost:[^ ]+ +)?"
    rb"key:(?P<key>[A-Za-z0-9_.-]{1,200}) +crcStr:(?P<crc>0x[0-9A-Fa-f]{1,4}) +"
    rb"nb:(?P<blocks>[0-9]{1,4}) +idx:(?P<index>[0-9]{1,4}) +value:(?P<value>.*)\Z",
    re.DOTALL,
)
_UUID_7 = re.compile(r"(?P<high>[0-9a-fA-F]{8})-(?P<low>[0-9a-fA-F]{4})-7")


def parse_unit(unit: bytes, _source: Source) -> Outcome:
    """One line to a part: a run record, or a block of one.  Raises: Reject with the key or the reason."""
    if not unit.startswith(b"{"):
        return _block(unit)
    found = object_of(unit)
    if "userT" not in found:
        for key, reason in {"resultT": LINK, "package_name": PACKAGE}.items():
            if key in found:
                return Skip(reason)
        raise Reject("userT: it is missing, so this is no run record of XALT")
    _check_crc(unit)
    record = record_of(found)
    kind = "end" if record["ended_by"] == "exit" else "start"
    part: Record = {
        "record_key": f"{record['record_key']}/{kind}",
        "lrms": NO_LRMS,
        "part_key": str(record["record_key"]).partition("/")[2],
        "kind": kind,
        "logged_at": record["logged_at"],
    }
    return Part(part)


def record_of(found: dict[str, object]) -> Record:
    """The columns of a run record.  Raises: Reject."""
    user, numbers, link, environment = (_inner(found, key) for key in ("userT", "userDT", "xaltLinkT", "envT"))
    uuid = text_at(user, "run_uuid", required=True)
    if not uuid or not _RUN_UUID.fullmatch(uuid):
        raise Reject("run_uuid: a UUID is due")
    start, end = number_at(numbers, "start_time"), number_at(numbers, "end_time", 0)
    weight = _weight(numbers)
    tasks = int(min(number_at(numbers, "num_tasks", 1), 1e8))
    scheduler = text_at(user, "scheduler")
    arguments = texts_at(found, "cmdlineA")
    record: Record = {
        "record_key": f"xalt/{uuid.lower()}",
        "host": text_at(user, "syshost") or "unknown",
        "pid": 0,
        "parent_pid": _parent(found),
        "user_name": text_at(user, "user"),
        "kind": "program",
        "started_at": instant(start, "start_time"),
        "start_ns": _nanoseconds(start),
        "logged_at": instant(start, "start_time"),
        "program": text_at(user, "exec_path", required=True),
        "arguments": None if arguments is None else json_text(arguments),
        "ended_by": "exit" if end else "unknown",
        "threads": int(min(number_at(numbers, "num_threads", 0), 1e8)) or None,
        "signature": text_at(link, "Build_UUID"),
        "environment": _environment(environment),
        "modules": _modules(environment),
        "processes": weight,
        "seen_by": SEEN_BY,
        **({} if scheduler is None or scheduler in UNKNOWN else {"lrms": _LRMS.get(scheduler, scheduler)}),
        **job_columns(text_at(user, "job_id")),
    }
    if end:
        instant(end, "end_time")
        record |= {"end_ns": _nanoseconds(end), "elapsed_s": round(number_at(numbers, "run_time") * weight, 6)}
    if tasks > 1:
        record |= {"mpi_rank": 0, "mpi_size": tasks}
    return {name: value for name, value in record.items() if value is not None}


def complete(whole: Whole) -> list[Completed]:
    """The run, from its end record if that is whole, else from its start record."""
    found: list[tuple[bool, Record, Row]] = []
    for text, origin in _texts(whole.parts):
        try:
            _check_crc(text)
            record = record_of(object_of(text))
        except Reject:
            continue
        found.append((record["ended_by"] == "exit", record, origin))
    if not found:
        return []
    _, record, origin = max(found, key=lambda one: (one[0], str(one[2]["record_key"])))
    return [Completed({"lrms": None, **record}, origin)]


def _texts(parts: Iterable[Row]) -> Iterator[tuple[bytes, Row]]:
    """The records of the parts that are whole, and for each the part it begins with."""
    blocks: dict[tuple[bytes, bytes, int], dict[int, tuple[bytes, Row]]] = {}
    for part in parts:
        native = part["native"]
        assert isinstance(native, bytes)
        if part["kind"] != "block":
            yield native, part
            continue
        match = _BLOCK.search(native)
        assert match is not None
        of_record = blocks.setdefault((match["key"], match["crc"], int(match["blocks"])), {})
        of_record.setdefault(int(match["index"]), (match["value"], part))
    for (_, _, count), found in blocks.items():
        if all(index in found for index in range(count)):
            yield b"".join(found[index][0] for index in range(count)), found[0][1]


def _block(unit: bytes) -> Outcome:
    match = _BLOCK.search(unit)
    if match is None:
        if b"XALT_LOGGING_" in unit:
            raise Reject("it is no block of a record: V, kind, key, crcStr, nb, idx and value are due, in this order")
        return Skip("a line of another program")
    if match["kind"] != b"run":
        return Skip(LINK if match["kind"] == b"link" else PACKAGE)
    key = match["key"].decode("ascii")
    uuid, index, count = key[-36:].lower(), int(match["index"]), int(match["blocks"])
    if not _RUN_UUID.fullmatch(uuid):
        raise Reject("key: it does not end with a UUID")
    time = _UUID_7.match(uuid)
    if time is None:
        raise Reject("key: its UUID has no time in it (version 7), as that of XALT 3.2 has, and so the block has no date")
    if index >= count:
        raise Reject(f"idx: it is {index}, of {count} blocks")
    part: Record = {
        "record_key": f"xalt/{key}/{match['crc'].decode('ascii')}/{count}/{index}",
        "lrms": NO_LRMS,
        "part_key": uuid,
        "kind": "block",
        "logged_at": instant(int(time["high"] + time["low"], 16) // 1000, "key"),
    }
    return Part(part)


def _check_crc(text: bytes) -> None:
    match = _CRC.search(text)
    if match is None:
        return
    without = text[: match.start(1)] + b"0xFFFF" + text[match.end(1) :]
    if binascii.crc_hqx(without, 0xFFFF) != int(match[1], 16):
        raise Reject("crc: it is not that of the record, which was damaged after XALT wrote it")


def _inner(found: dict[str, object], key: str) -> dict[str, object]:
    inner = found.get(key, {})
    if not isinstance(inner, dict):
        raise Reject(f"{key}: an object is due")
    return inner


def _weight(numbers: dict[str, object]) -> int:
    probability = number_at(numbers, "probability", 1)
    if not 1 / LARGEST_WEIGHT <= probability <= 1:
        raise Reject("probability: it is not between 0 and 1")
    return round(1 / probability)


def _nanoseconds(seconds: float) -> int:
    """XALT writes four decimals; a float holds six of today's times."""
    return round(seconds * 10_000) * (NANOSECONDS // 10_000)


def _parent(found: dict[str, object]) -> int | None:
    ancestors = found.get("ptA")
    if not isinstance(ancestors, list) or not ancestors or not isinstance(ancestors[0], dict):
        return None
    return whole_at(ancestors[0], "pid")


def _environment(found: dict[str, object]) -> str | None:
    return json_text({key: value for key, value in found.items() if isinstance(value, str)}) if found else None


def _modules(environment: dict[str, object]) -> str | None:
    loaded = environment.get("LOADEDMODULES")
    names = [valid_text(name) for name in loaded.split(":") if name] if isinstance(loaded, str) else []
    return json_text(names) if names else None


def recognise(head: bytes) -> bool:
    """Whether there is a run record or a syslog line of XALT's in the beginning."""
    first = head.partition(b"\n")[0]
    return (first.startswith(b'{"crc":"0x') and (b'"userT"' in first or b'"cmdlineA"' in first)) or _BLOCK.search(first) is not None


COMPLETION = Completion(FAMILY, PROCESS, complete)
PARSER = UnitParser(
    name="xalt",
    record_type=PROCESS,
    lrms=None,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    recognise=recognise,
    completion=COMPLETION,
)
