"""Checks of the host below: its clock, the limits of inotify."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, extract, func, literal_column, select

from batchacct.clock import shown
from batchacct.doctor.contract import Examined, Finding, NotKnownError, error, not_applicable, ok, warning
from batchacct.following.files import folders as folders_of
from batchacct.ledger.gaps import duration
from batchacct.parsing.reading import expand
from batchacct.store.sent import STEPS_PER_S, last_step

APART_S, FAR_APART_S = 10, 300
"""Clocks that differ by more are a warning, an error."""
AHEAD_S, FAR_AHEAD_S = 60, 3600
"""So far in the future a record may be logged: more, and a clock is wrong; much more, and it may be the zone."""
NOT_SYNCHRONISED = 5
"""What the kernel answers (TIME_ERROR, adjtimex(2)) where nothing sets its clock by others."""
INOTIFY = Path("/proc/sys/fs/inotify")
ALMOST = 0.9
STEPS_AHEAD_S = 86_400


def clock(examined: Examined) -> Iterator[Finding]:
    """Whether somebody keeps this host's clock right; the database's clock; the newest records, and steps of the join."""
    yield _kept()
    try:
        yield from _of_database(examined)
        yield from _of_logs(examined)
        yield from _of_steps(examined)
    except NotKnownError as unknown:
        yield not_applicable("clock", f"not compared with those of the database, the logs and the join: {unknown}")


def _kept() -> Finding:
    """What the kernel says, who is told by chrony, ntpd and timesyncd alike; no network is needed for that."""
    try:
        answer = ctypes.CDLL(None).ntp_gettime(ctypes.create_string_buffer(256))
    except (OSError, AttributeError):
        answer = -1
    if answer < 0:
        return not_applicable("clock", "the kernel does not say whether the clock is kept right")
    if answer == NOT_SYNCHRONISED:
        todo = "run chronyd, ntpd or systemd-timesyncd; in a container it is the host's affair"
        return warning("clock", "nothing sets this host's clock by others, as far as the kernel knows", todo)
    return ok("clock", "it is kept right, the kernel says")


def _of_database(examined: Examined) -> Iterator[Finding]:
    asked: dict[str, ColumnElement[Any]] = {
        "postgresql": extract("epoch", func.clock_timestamp()),
        "mariadb": func.unix_timestamp(func.sysdate(literal_column("6"))),
    }
    store = examined.store
    at = asked.get(store.dialect.name)
    if at is None:
        yield not_applicable("clock of the database", f"{store.dialect.name} has none of its own, or was not asked")
        return
    with store.reading() as connection:
        began = time.time()
        there = float(connection.scalar(select(at)) or 0)
        here = (began + time.time()) / 2
    apart_s = abs(there - here)
    told = f"it differs from this host's by {apart_s:.1f} s"
    if apart_s <= APART_S:
        yield ok("clock of the database", told)
    else:
        how = error if apart_s > FAR_APART_S else warning
        yield how("clock of the database", told, "set both by NTP: schedules and times of waiting go by this host's clock")


def _of_logs(examined: Examined) -> Iterator[Finding]:
    zones = {keys.name: keys.zone for keys in examined.config.source}
    ahead = [(one.name, one.last_record_at) for one in examined.state.books.sources if one.last_record_at is not None]
    wrong = [(name, at) for name, at in ahead if at > examined.now + AHEAD_S]
    for name, at in wrong:
        told = f"its newest record is of {shown(at)}, {duration(at - examined.now)} from now"
        todo = (
            f"set the clocks of the host that writes it and of this one; if they are right, correct `zone` of the source, which "
            f"is {zones.get(name, 'not configured any more')}"
        )
        yield (error if at > examined.now + FAR_AHEAD_S else warning)(f"clock of source {name}", told, todo)
    if not wrong and ahead:
        yield ok("clocks of the logs", "no source has a record of the future")


def _of_steps(examined: Examined) -> Iterator[Finding]:
    """Steps are numbered by the time, and on from the last: once one was numbered by a clock far ahead, all are."""
    with examined.store.reading() as connection:
        numbered_at = last_step(connection) // STEPS_PER_S
    ahead_s = numbered_at - examined.now
    if ahead_s <= STEPS_AHEAD_S:
        return
    told = f"the last is numbered as of {shown(numbered_at)}, {duration(ahead_s)} from now: a clock was far ahead when a step ran"
    todo = (
        "set the clock right if it is not; all goes on well. If the database is restored from a backup before that time has come, "
        "have each client that pulls begin anew: numbers it has had may be given again (docs/how-to/backup.md)"
    )
    yield warning("steps of the join", told, todo)


def inotify(examined: Examined) -> Iterator[Finding]:
    """Whether the kernel lets this user watch all the folders of all sources."""
    followed = [keys for keys in examined.config.source if keys.feed is None]
    if examined.config.collect.watch == "poll" or not followed:
        yield not_applicable("inotify", "no folder is watched by the kernel")
        return
    wanted = {
        "instances": len(followed),
        "watches": sum(len(folders_of(keys.paths, expand(keys.paths))) for keys in followed),
    }
    used = {"instances": _instances_open(), "watches": 0}
    told, low = [], False
    for what, count in wanted.items():
        try:
            limit = int((INOTIFY / f"max_user_{what}").read_text(encoding="ascii"))
        except (OSError, ValueError):
            yield not_applicable("inotify", "the kernel does not tell its limits")
            return
        told.append(f"{count:,} {what} are wanted of {limit:,}" + (f", {used[what]:,} in use" if used[what] else ""))
        low |= max(count, used[what]) > limit * ALMOST
    if low:
        todo = (
            "raise them by sysctl, as docs/how-to/run-as-a-service.md says; until then some folders are polled, and nothing is lost"
        )
        yield warning("inotify", "; ".join(told), todo)
    else:
        yield ok("inotify", "; ".join(told))


def _instances_open() -> int:
    """How many this user's processes have, as far as they may be looked at."""
    count = 0
    for handles in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            if handles.stat().st_uid == os.geteuid():
                count += sum("anon_inode:inotify" in _link(handle) for handle in handles.iterdir())
    return count


def _link(handle: Path) -> str:
    with suppress(OSError):
        return str(handle.readlink())
    return ""
