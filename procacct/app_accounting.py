"""Messages of app-accounting 0.0.2 (the EGI tool): a program that was started by `execve` under `libacc_preload`, as its client
sent it.

    binary path: "/bin/sh"
    exit_info:
      exited_normally: false
      signal: 9
      signal_str: "Killed"
    user:
      uid: 0
      gid: 0
    start_time: Fri Nov 20 15:22:06 2026
    end_time: Fri Nov 20 15:22:06 2026                 (and a NUL; messages follow each other, with or without it)

    column                       value
    record_key                   start, end, user, a hash of the message, and where in the file it stands: equal messages are as
                                 many programs as there are
    program                      `binary path`, as it was given to execve
    ended_by, exit_code, exit_signal   `signal` is the exit code of one that exited normally
    user_id, group_id            uid, gid
    started_at, start_ns, logged_at, end_ns   start_time, end_time, whole seconds
    elapsed_s                    end - start, whole seconds
    host                         the source's: messages name none
    pid                          0: they do not have it

A message was cut at 500 bytes by its sender; one that lacks a line is a reject. Zone: that of the host that ran the program, as
the source is configured. No job, CPU time or memory is known. Source: messages of app-accounting 0.0.2, and its client
(`acc_preload.c`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from batchacct.model import PROCESS, Record, content_hash, text_of
from batchacct.parsing import Outcome, Reject, Source, UnitParser
from batchacct.parsing.local_time import local_seconds
from procacct.recorded_elsewhere import NANOSECONDS, SEEN_BY

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = re.compile(rb"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d{1,2}) (\d{2}):(\d{2}):(\d{2}) (\d{4})")
_LINES = {
    "binary path": re.compile(rb'^binary path: "(.*)"$', re.MULTILINE),
    "exited_normally": re.compile(rb"^ +exited_normally: (true|false)$", re.MULTILINE),
    "signal": re.compile(rb"^ +signal: (\d{1,5})$", re.MULTILINE),
    "uid": re.compile(rb"^ +uid: (\d{1,10})$", re.MULTILINE),
    "gid": re.compile(rb"^ +gid: (\d{1,10})$", re.MULTILINE),
    "start_time": re.compile(rb"^start_time: (.*)$", re.MULTILINE),
    "end_time": re.compile(rb"^end_time: (.*)$", re.MULTILINE),
}
_BEGINNING = b"binary path:"
_END = re.compile(rb"\0|\n(?=binary path:)")


class MessageFraming:
    """A message ends with a NUL, or where the next one begins; without either it is whole only at the end of the file."""

    def cut(self, data: bytes, *, final: bool) -> int:
        if final:
            return len(data)
        end = max(data.rfind(b"\0"), data.rfind(b"\n" + _BEGINNING))
        return end + 1

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        start = 0
        while start < len(data):
            match = _END.search(data, start)
            stop = match.start() if match else len(data)
            if data[start:stop].strip():
                yield start, stop
            start = stop + 1


@dataclass(frozen=True)
class _MessageParser(UnitParser):
    """Messages have nothing that tells two equal ones apart, except where they stand."""

    key_has_place: ClassVar[bool] = True

    def _with_origin(self, record: Record, unit: bytes, offset: int, source: Source) -> Record:
        key = f"{record['record_key']}/{offset}"
        return super()._with_origin(record | {"record_key": key}, unit, offset, source)


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One message to a process.  Raises: Reject with the line that is missing or wrong."""
    found: dict[str, bytes] = {}
    for name, line in _LINES.items():
        match = line.search(unit)
        if match is None:
            cut = ": its sender cut it at 500 bytes" if len(unit) >= 499 else ""
            raise Reject(f"{name}: it is missing, or of another form{cut}")
        found[name] = match[1]
    start, end = (_seconds(found[name], source, name) for name in ("start_time", "end_time"))
    if end < start:
        raise Reject("end_time: it is before the start")
    normally = found["exited_normally"] == b"true"
    user, status = int(found["uid"]), int(found["signal"])
    return {
        "record_key": f"app-accounting/{start}/{end}/{user}/{content_hash(unit) & (1 << 64) - 1:016x}",
        "host": source.host,
        "pid": 0,
        "user_id": user,
        "group_id": int(found["gid"]),
        "kind": "program",
        "started_at": start,
        "start_ns": start * NANOSECONDS,
        "logged_at": end,
        "end_ns": end * NANOSECONDS,
        "elapsed_s": float(end - start),
        "program": text_of(found["binary path"]),
        "ended_by": "exit" if normally else "signal",
        **({"exit_code": status} if normally else {"exit_signal": status}),
        "processes": 1,
        "seen_by": SEEN_BY,
    }


def _seconds(text: bytes, source: Source, what: str) -> int:
    match = _TIME.fullmatch(text.strip())
    if match is None or match[1].decode() not in MONTHS:
        raise Reject(f"{what}: a time such as Fri Nov 20 15:22:06 2026 is due")
    month = MONTHS.index(match[1].decode()) + 1
    day, hour, minute, second, year = (int(match[number]) for number in range(2, 7))
    return local_seconds((year, month, day, hour, minute, second), source.zone, what)


def recognise(head: bytes) -> bool:
    """Whether it begins with a message."""
    return head.lstrip(b" \r\n\0").startswith(_BEGINNING) and b"exited_normally:" in head


PARSER = _MessageParser(
    name="app-accounting",
    record_type=PROCESS,
    lrms=None,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    framing=MessageFraming(),
    recognise=recognise,
)
