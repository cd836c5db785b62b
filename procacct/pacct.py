r"""BSD process accounting, the files `accton` has the kernel write: one record of 64 bytes is one process that ended.

    02 03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 04 00 00 00 01 00 00 00 d3 63 00 6b 00 00 00 00
    00 00 00 00 ac 09 6d 03 00 00 5a 00 00 00 00 00 61 63 63 74 6f 6e 00 00 00 00 00 00 00 00 00 00

Versions 0 to 3 in both byte orders, mixed in one file as kernels come and go. Records have no mark: they are where the file's
bytes are a multiple of 64, so that a damaged one is a reject and costs no other. The host is the source's `host` (the one this is
run on, where the configuration says none), since no record says it. What becomes of the fields:

    column                    field, its unit, and what is done with it
    pid, parent_pid           ac_pid, ac_ppid, in the process namespace of the file. The parent is that of the END of the process:
                              1 or a subreaper where its own had ended before. Below version 3 there are none: pid is 0
    user_id, group_id         ac_uid, ac_gid: the real ones, at the end. 16 bits in version 0
    kind                      fork with AFORK (it never called exec, and its command is its parent's), else program
    started_at                ac_btime, whole seconds: the time of day at the end less the elapsed time, so that it is wrong by what
                              the clock was set by meanwhile, and may be 1 s late
    logged_at                 ac_btime + elapsed time, both in whole seconds: when the kernel wrote the record
    elapsed_s                 ac_etime, in 1/100 s (version 2: 1/ac_ahz)
    cpu_user_s, cpu_system_s  ac_utime, ac_stime, likewise: counted in clock ticks, so that most short programs have 0. From 82 s on
                              rounded, by 1/2048 at the most
    command                   ac_comm: the name at the end, of which the kernel keeps 15 characters (16 below version 3)
    ended_by, exit_code       by ac_exitcode, a wait status, of the thread that was the first. AXSIG does not say that a process was
    exit_signal               killed: a program that ends while another of its threads lives has it too
    core_dumped               the 0x80 of ac_exitcode, or ACORE
    memory_virtual_kib        ac_mem, KiB: the address space at the end; neither a peak nor an average, and not resident memory.
                              null where it is 0: a kernel thread has none
    minor_faults, major_faults  ac_minflt, ac_majflt
    superuser                 ASU: it used the privilege, or what it was before its exec did
    terminal                  ac_tty, as `ps` shows it; null where it is 0

ac_io, ac_rw and ac_swaps, which kernels leave at 0, are not kept. Skipped: the record that the kernel writes, when accounting is
switched off or to another file, of the process that does it; in the new file stands its whole record. One that is cut off by the
end of a file waits for its rest, and is a reject where there will be none. Times are Unix seconds.
Natural key: host, start, process id, and a hash of the record; below version 3, in place of the id, where it is in the file.
Sources: linux/acct.h, kernel/acct.c, acct(5).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from batchacct.model import LAST_INSTANT, PROCESS, Record, content_hash, text_of
from batchacct.parsing import Outcome, Reject, Skip, Source, UnitParser
from batchacct.parsing.framing import BinaryFraming
from batchacct.parsing.hosts import this_host
from procacct.pacct_fast import PARTIAL, fast_lane, key_of
from procacct.pacct_health import trouble
from procacct.pacct_layout import (
    CORE_DUMPED,
    FORKED,
    RECORD_BYTES,
    SUPERUSER,
    WRITTEN_VERSIONS,
    Accounted,
    damage,
    decode,
    terminal_name,
    version_of,
)

EARLIEST = 631_152_000
"""1990: a file is not guessed to be accounting by a record of before."""
LOOKED_AT = 64
"""Records at the beginning of a file that are looked at to recognise it."""


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One record to a process.  Raises: Reject for damage."""
    record = decoded(unit)
    return Skip(PARTIAL) if record.is_partial else process_of(record, unit, source)


def decoded(unit: bytes) -> Accounted:
    """A record as its numbers.  Raises: Reject if no kernel can have written it."""
    if len(unit) != RECORD_BYTES:
        raise Reject(f"{len(unit)} bytes of a record of {RECORD_BYTES}: the file was cut short here")
    if not any(unit):
        raise Reject("nothing but NUL bytes: what the kernel wrote here was lost, as in a crash of the host")
    version, _ = version_of(unit)
    if version not in WRITTEN_VERSIONS:
        raise Reject(f"version {version} of a record, which no kernel writes")
    record = decode(unit)
    if why := damage(record, LAST_INSTANT):
        raise Reject(why)
    return record


def process_of(record: Accounted, unit: bytes, source: Source) -> Record:
    """The columns of a process, but those of its origin."""
    signal = record.status & 0x7F
    return {
        "record_key": key_of(source.host, record.began, record.pid, content_hash(unit)),
        "lrms": None,
        "host": source.host,
        "pid": record.pid or 0,
        "parent_pid": record.parent_pid or None,
        "user_id": record.user_id,
        "group_id": record.group_id,
        "kind": "fork" if record.flags & FORKED else "program",
        "started_at": record.began,
        "logged_at": record.ended,
        "elapsed_s": record.elapsed / record.ticks_per_s,
        "cpu_user_s": record.user / record.ticks_per_s,
        "cpu_system_s": record.system / record.ticks_per_s,
        "command": text_of(record.name or b"") or None,
        "ended_by": "signal" if signal else "exit",
        "exit_code": None if signal else record.status >> 8,
        "exit_signal": signal or None,
        "core_dumped": int(bool(record.status & 0x80 or record.flags & CORE_DUMPED)),
        "memory_virtual_kib": record.memory_kib or None,
        "minor_faults": record.minor_faults,
        "major_faults": record.major_faults,
        "superuser": int(bool(record.flags & SUPERUSER)),
        "terminal": terminal_name(record.terminal),
        "processes": 1,
        "seen_by": '["acct"]',
    }


def recognise(head: bytes) -> bool:
    """Whether all of its first records are ones that a kernel can have written in the time of its kind."""
    whole = len(head) // RECORD_BYTES
    return bool(whole) and all(
        _is_plausible(head[at * RECORD_BYTES : (at + 1) * RECORD_BYTES]) for at in range(min(whole, LOOKED_AT))
    )


def _is_plausible(unit: bytes) -> bool:
    try:
        record = decoded(unit)
    except Reject:
        return False
    rest = unit[53:] if record.version == 0 else unit[62:] if record.version == 1 else b""
    return bool(record.name) and record.began >= EARLIEST and record.ticks_per_s <= 10_000 and not any(rest)


class AccountingParser(UnitParser):
    """A parser whose records have no number of their own below version 3: their places in the file are in their keys."""

    def _with_origin(self, record: Record, unit: bytes, offset: int, source: Source) -> Record:
        if not record["pid"]:
            record = record | {"record_key": f"{record['record_key']}/{offset}"}
        return super()._with_origin(record, unit, offset, source)

    def troubles(self, source: Source, paths: Collection[str]) -> list[str]:
        """Why the kernel may write nothing (see `procacct.pacct_health`); of files of other hosts nobody here knows."""
        if source.host != this_host():
            return []
        newest_by_folder = {str(Path(path).parent): path for path in paths}
        return [told for path in newest_by_folder.values() if (told := trouble(path))]


PARSER = AccountingParser(
    name="pacct",
    record_type=PROCESS,
    lrms="",
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    framing=BinaryFraming(RECORD_BYTES),
    fast_lane=fast_lane,
    recognise=recognise,
)
