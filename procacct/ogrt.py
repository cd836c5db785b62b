"""Records of OGRT 0.4: a program that began to run under OGRT's LD_PRELOAD library. JSON lines of its server, or datagrams of its
client.

    {"binpath":"/home/alice/src/app","pid":3565,"parent_pid":3458,"time":1795188059,
    "signature":"71580393-1617-42da-afa9-964104de3fb8","job_id":"4711.ce01.example.org","username":"alice",
    "hostname":"node042.example.org","cmdline":"./app -n 8 input.dat","shared_objects":[{"path":"/lib/libc.so.6"}],
    "loaded_modules":[{"name":"gcc/12.2.0"}]}                                                     (one line; JsonFile, JsonOverTcp)

A datagram is u32 12, u32 length (big endian), and the same as a message of Protocol Buffers (`ProcessInfo`); a file may hold both.

    column                     value
    record_key                 host, time, pid, and a hash of program and command line: a chain of execs within a second has one pid
    started_at, logged_at      time, whole seconds (milliseconds where ElasticSearch was its output): OGRT records no end
    ended_by                   unknown
    program, arguments         binpath; cmdline as a list of one text, since OGRT put blanks in place of what parted the arguments
    host, user_name            hostname, username; a host that was compiled out is `unknown`
    pid, parent_pid            as they are
    lrms_job_id, array_index, join_id   of job_id `4711[2].server`: without the index; 2; 4711. `UNKNOWN` is none
    job_from                   environment
    signature                  signature, of OGRT's note in the program
    modules, environment       loaded_modules, environment_variables (`NAME=VALUE`)

Shared objects and their signatures stand in `native`. Zone: none needed. Sources: `protocol/ogrt.proto` and the README of OGRT
0.4.1, and a datagram of its client.
"""

from __future__ import annotations

from batchacct.model import PROCESS, Record, content_hash
from batchacct.parsing import Outcome, Reject, Source, UnitParser
from procacct.ogrt_datagrams import BEGINNING, HEADER_BYTES, DatagramsOrLines, process_info
from procacct.recorded_elsewhere import (
    SEEN_BY,
    instant,
    job_columns,
    json_text,
    names_and_values,
    text_at,
    texts_at,
    valid_text,
    whole_at,
)
from procacct.records import object_of

MILLISECONDS_FROM = 100_000_000_000
"""A larger time is in milliseconds: in seconds it would be the year 5138."""


def parse_unit(unit: bytes, _source: Source) -> Outcome:
    """One datagram or line to a process.  Raises: Reject with the field that is missing or wrong."""
    found = process_info(unit) if unit.startswith(BEGINNING) else object_of(unit)
    program = text_at(found, "binpath", required=True)
    command_line = text_at(found, "cmdline")
    host = text_at(found, "hostname") or "unknown"
    pid, time = (whole_at(found, key) for key in ("pid", "time"))
    if pid is None or time is None:
        raise Reject("pid, time: both are due")
    started = instant(time // 1000 if time >= MILLISECONDS_FROM else time, "time")
    environment = texts_at(found, "environment_variables")
    modules = _modules(found)
    hashed = content_hash(f"{program}\0{command_line or ''}".encode()) & (1 << 64) - 1
    record: Record = {
        "record_key": f"ogrt/{host}/{started}/{pid}/{hashed:016x}",
        "host": host,
        "pid": pid,
        "parent_pid": whole_at(found, "parent_pid"),
        "user_name": text_at(found, "username"),
        "kind": "program",
        "started_at": started,
        "logged_at": started,
        "program": program,
        "arguments": json_text([command_line]) if command_line else None,
        "ended_by": "unknown",
        "signature": text_at(found, "signature"),
        "modules": json_text(modules) if modules else None,
        "environment": json_text(names_and_values(environment)) if environment else None,
        "processes": 1,
        "seen_by": SEEN_BY,
        **job_columns(text_at(found, "job_id")),
    }
    return {name: value for name, value in record.items() if value is not None}


def _modules(found: dict[str, object]) -> list[str]:
    modules = found.get("loaded_modules")
    if modules is None:
        return []
    if not isinstance(modules, list) or not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in modules):
        raise Reject("loaded_modules: a list of objects with a name is due")
    return [valid_text(one["name"]) for one in modules]


def recognise(head: bytes) -> bool:
    """Whether it begins with a datagram, or with a line that has the keys of a process."""
    if head.startswith(BEGINNING):
        length = int.from_bytes(head[4:HEADER_BYTES], "big")
        try:
            return {"binpath", "pid", "time"} <= process_info(head[: HEADER_BYTES + length]).keys()
        except Reject:
            return False
    try:
        return {"binpath", "pid", "time"} <= object_of(head.partition(b"\n")[0]).keys()
    except Reject:
        return False


PARSER = UnitParser(
    name="ogrt",
    record_type=PROCESS,
    lrms=None,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    framing=DatagramsOrLines(),
    recognise=recognise,
)
