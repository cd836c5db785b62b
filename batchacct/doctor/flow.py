"""Checks of what flows: sources, rejects, what waits, what goes out, and whether anybody is at work. `status` tells of it, too."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import and_, func, select

from batchacct.clock import shown
from batchacct.doctor.contract import Examined, Finding, error, not_applicable, ok, warning
from batchacct.ledger.books import DestinationBooks
from batchacct.ledger.gaps import duration, told_silence
from batchacct.ledger.progress import Progress
from batchacct.ledger.state import State
from batchacct.store import sent
from batchacct.store.tables import load, message, reject, usage
from batchacct.store.twin_table import corrected

DAY = 86_400
LAG_S = 900
"""Something unread for longer is a warning."""
NOT_READ_S = 1800
"""A collector notes every ten seconds that it was at the end of a source; one from cron comes every quarter of an hour or so."""
PARTS_WAIT_S = 7 * DAY
UNSENT_S, LONG_UNSENT_S = DAY, 7 * DAY
NOT_JOINED_S = DAY


def sources(examined: Examined) -> Iterator[Finding]:
    """Each source: its last error, what is unread, silence, what was lost; and holes in the job ids."""
    state = examined.state
    if not state.progress:
        yield error("sources", "none is configured", "add a [[source]] for each log; docs/how-to/batch-systems.md has them")
    for one in state.progress:
        yield from _source(state, one)
    for hole in state.gaps.holes:
        yield warning("job ids", hole.told, "find the file, add it to `paths` of the source, and run `batchacct collect --once`")


def _source(state: State, one: Progress) -> Iterator[Finding]:
    subject, wrong = f"source {one.source}", False
    read_s = None if one.read_to_end_at is None else max(state.now - one.read_to_end_at, 0)
    if one.last_error is not None:
        wrong = True
        yield error(subject, one.last_error, "do what it says: nothing of this source is read until then, and nothing is lost")
    elif read_s is None and not one.offset:
        wrong = True
        yield warning(subject, "it was never read", "start batchacct-collect, or run `batchacct collect --once`")
    elif one.lag_s is not None and one.lag_s > LAG_S:
        wrong = True
        told = f"something has been unread for {duration(one.lag_s)}" + ("" if one.is_asked else f", {one.unread_bytes:,} bytes")
        yield warning(subject, told, "see whether batchacct-collect runs, and what its log says")
    for silence in state.gaps.silences:
        if silence.source == one.source:
            wrong = True
            todo = "look at the log; where silence is planned nothing is to be done, and `longest_silence` sets another limit"
            yield warning(subject, told_silence(silence), todo)
    if one.warning is not None:
        wrong = True
        yield warning(subject, one.warning, "look at the file that it names")
    if one.lost_bytes:
        wrong = True
        told = f"{one.lost_bytes:,} bytes were destroyed before they could be read"
        yield warning(subject, told, "rotate by renaming, not by copying and truncating; only a copy brings them back")
    if not wrong:
        yield ok(subject, "read to its end" + ("" if read_s is None else f" {duration(read_s)} ago"))


def rejects(examined: Examined) -> Iterator[Finding]:
    """Lines that could not be read, and how many of them came in a day; corrections that are not in force."""
    total = examined.state.books.open_rejects
    yield from _corrections(examined)
    if not total:
        yield ok("rejects", "every line could be read")
        return
    still = reject.c.replayed_by.is_(None)
    with examined.store.reading() as connection:
        first_load = connection.scalar(select(func.min(load.c.id)).where(load.c.loaded_at >= examined.now - DAY))
        new = 0
        if first_load is not None:
            new = connection.scalar(select(func.count()).where(still, reject.c.load_id >= first_load)) or 0
        last = connection.scalar(
            select(func.max(load.c.loaded_at)).where(load.c.id == select(func.max(reject.c.load_id)).scalar_subquery())
        )
    told = f"{total:,} lines could not be read, {new:,} of them in the last 24 h; the last came {shown(last)}"
    todo = "see `batchacct rejects list`; after the parser or the log is mended, `batchacct rejects replay` takes them"
    yield warning("rejects", told, todo)


def _corrections(examined: Examined) -> Iterator[Finding]:
    with examined.store.reading() as connection:
        count = corrected(connection)
    if count:
        told = f"{count:,} records were corrected after their run was known to be here already, by an import: what was first stays"
        todo = "nothing is counted twice; where the correction matters, hold its line (`batchacct parse`) against `batchacct why`"
        yield warning("corrections", told, todo)


def waiting(examined: Examined) -> Iterator[Finding]:
    """Jobs that nobody has joined, or that wait for an identity; parts of records that wait for others."""
    state, wrong = examined.state, False
    with examined.store.reading() as connection:
        unjoined = select(func.min(load.c.loaded_at)).where(load.c.joined_at.is_(None), load.c.record_type == "job")
        oldest_load = connection.scalar(unjoined)
        held_since = connection.scalar(select(func.min(usage.c.logged_at)).where(usage.c.outcome == "waiting"))
    if state.books.jobs.not_joined and oldest_load is not None and examined.now - oldest_load > NOT_JOINED_S:
        wrong = True
        told = f"{state.books.jobs.not_joined:,} jobs were never joined, the oldest of them stored {shown(oldest_load)}"
        yield warning("joining", told, "start batchacct-publish, or run `batchacct publish --once` from cron")
    join = examined.config.join
    if held_since is not None and examined.now - held_since > join.max_hold:
        wrong = True
        told = f"jobs have waited for their identity since {shown(held_since)}, longer than [join] max_hold"
        todo = (
            "see which with `batchacct status`, and one's story with `batchacct why`; are the logs of their CE among the sources?"
        )
        yield warning("joining", told, todo)
    for kind, at in state.books.parts_oldest_at.items():
        if examined.now - at > PARTS_WAIT_S:
            wrong = True
            count = state.books.parts_waiting[kind]
            told = f"{count:,} of {kind} wait for others of their whole, the oldest logged {shown(at)}"
            yield warning("parts", told, "the log with the rest of them may be missing: add it to `paths` of its source")
    if not wrong:
        yield ok("joining", "nothing waits for longer than it may")


def outbox(examined: Examined) -> Iterator[Finding]:
    """What is built and has not left, for each destination, and what its receiver will not take."""
    state = examined.state
    open_of = and_(sent.IS_OPEN, message.c.refused_at.is_(None))
    oldest = select(message.c.destination, func.min(message.c.created_at)).where(open_of).group_by(message.c.destination)
    with examined.store.reading() as connection:
        oldest_at = {row[0]: int(row[1]) for row in connection.execute(oldest)}
    for one in state.books.destinations:
        if one.retired_at is None:
            yield from _destination(one, oldest_at.get(one.name), examined.now)


def _destination(one: DestinationBooks, oldest_at: int | None, now: int) -> Iterator[Finding]:
    subject, wrong = f"destination {one.name}", False
    if one.messages_refused:
        wrong = True
        told = f"the receiver will not take {one.messages_refused:,} messages: {one.last_error or 'it does not say why'}"
        todo = "once the reason is gone, `batchacct publish --once --retry-refused` sends them again"
        yield error(subject, told, todo)
    if oldest_at is not None and now - oldest_at > UNSENT_S:
        wrong = True
        waits = one.messages_unsent - one.messages_refused
        told = f"{waits:,} messages wait to be handed over, the oldest for {duration(now - oldest_at)}"
        told += f"; the last error: {one.last_error}" if one.last_error else ""
        todo = "start batchacct-publish, or run `batchacct publish --once` and do what it says"
        yield (error if now - oldest_at > LONG_UNSENT_S else warning)(subject, told, todo)
    kept = sum(count for (kind, _), count in one.kept_back.items() if kind == sent.REFUSED)
    if kept:
        wrong = True
        reasons = "; ".join(sorted(one.refused))
        todo = "mend what the reason says (in the configuration, mostly): they are tried again with each run"
        yield warning(subject, f"{kept:,} records do not fit its format: {reasons}", todo)
    if not wrong:
        last = (
            "nothing was handed over yet" if one.last_confirmed_at is None else f"last handed over {shown(one.last_confirmed_at)}"
        )
        yield ok(subject, f"{last}; {one.unsent:,} records unsent")


def collecting(examined: Examined) -> Iterator[Finding]:
    """Whether a collector is at work, by what it notes every ten seconds; and the units, where systemd has them."""
    from batchacct.doctor.units import unit_findings  # noqa: PLC0415 - of use here alone

    yield from unit_findings()
    read = [one.read_to_end_at for one in examined.state.progress if one.read_to_end_at is not None]
    if not read:
        yield not_applicable("collector", "no source was read to its end yet")
    elif (ago_s := max(examined.now - max(read), 0)) > NOT_READ_S:
        told = f"no source was read to its end for {duration(ago_s)}"
        yield warning("collector", told, "start batchacct-collect, or see that cron runs `batchacct collect --once`")
    else:
        yield ok("collector", f"a source was read to its end {duration(ago_s)} ago")
