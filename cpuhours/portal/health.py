"""How far everything is: what `batchacct status` shows, read at most once a minute, however many look."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from batchacct.cli.status import following_rows
from batchacct.clock import shown
from batchacct.errors import BatchacctError
from batchacct.ledger.books import DestinationBooks
from batchacct.ledger.state import State, read_state
from batchacct.portal_pages import Sheet
from cpuhours.portal.desk import Desk

log = logging.getLogger(__name__)

FRESH_S = 60.0


class Watch:
    """The state of everything. Who asks gets what was read last, while it is read anew; only the first one waits."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._turn = desk, threading.Lock()
        self._state: State | None = None
        self._read_at = 0.0

    def state(self) -> State:
        """Raises: StoreError if the database cannot be asked, and was never read."""
        with self._turn:
            known, is_old = self._state, time.monotonic() - self._read_at > FRESH_S
            if known is not None and is_old:
                self._read_at = time.monotonic()  # nobody else shall begin, too
                threading.Thread(target=self._again, name="state", daemon=True).start()
            if known is None:
                self._read()
                known = self._state
        assert known is not None
        return known

    def _again(self) -> None:
        try:
            self._read()
        except BatchacctError as error:
            log.warning("the state of everything stays as it was read before: %s", error.message)
        except Exception:  # at the top of a thread: what was read before stays
            log.exception("the state of everything could not be read")

    def _read(self) -> None:
        self._state = read_state(self._desk.store, self._desk.config, self._desk.now())
        self._read_at = time.monotonic()


@dataclass(frozen=True, slots=True)
class Attention:
    """Something a person should look into: a sentence, and where more of it stands."""

    text: str
    address: str
    is_wrong: bool = False


def attention(state: State, *, all_texts: bool) -> list[Attention]:
    """What needs a look, the worst first; without `all_texts` numbers alone, and no text that a log or a receiver wrote."""
    books, found = state.books, []
    if not books.balanced:
        found.append(Attention("The books do not balance: a figure may be wrong.", "/health#books", is_wrong=True))
    failing = [one for one in state.progress if one.last_error is not None]
    if failing:
        found.append(Attention(f"{_counted(len(failing), 'source')} cannot be read.", "/health#sources", is_wrong=True))
    found += [
        Attention(f"Publishing to {one.name} fails.", "/health#publishing", is_wrong=True)
        for one in books.destinations
        if one.last_error
    ]
    if books.open_rejects:
        found.append(
            Attention(
                f"{_counted(books.open_rejects, 'line')} could not be read, and {'is' if books.open_rejects == 1 else 'are'} kept.",
                "/health#units",
            )
        )
    unsent = sum(one.unsent for one in books.destinations if one.retired_at is None)
    if unsent:
        found.append(
            Attention(f"{_counted(unsent, 'record')} {'is' if unsent == 1 else 'are'} not handed over yet.", "/health#publishing")
        )
    if books.jobs.not_joined:
        found.append(
            Attention(
                f"{_counted(books.jobs.not_joined, 'job')} not joined yet: they have no VO until the next `batchacct publish`.",
                "/health#jobs",
            )
        )
    warnings = state.warnings
    if warnings and all_texts:
        found += [Attention(f"{text[:1].upper()}{text[1:]}", "/health#warnings") for text in warnings[:5]]
    elif warnings:
        found.append(Attention(f"{_counted(len(warnings), 'warning')} about sources, for the administrators.", "/health"))
    return found


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def sources_sheet(state: State) -> Sheet:
    """A row a source: what is read, how much is left, for how long."""
    columns, rows = following_rows(state)
    return _sheet("Sources: how far each is read", columns, rows)


def units_sheet(state: State) -> Sheet:
    columns = ("source", "units read", "recorded", "merged", "known already", "skipped", "rejected", "completed")
    rows = [(s.name, s.units, s.recorded, s.merged, s.known, s.skipped, s.rejected, s.completed) for s in state.books.sources]
    return _sheet("Units read: each was recorded, merged, known already, skipped or rejected", columns, rows)


def jobs_sheet(state: State) -> Sheet:
    jobs = state.books.jobs
    rows: list[tuple[object, ...]] = [(outcome, reason or "", count) for (outcome, reason), count in sorted(jobs.outcomes.items())]
    rows.append(("not joined yet", "the next `publish` does", jobs.not_joined))
    title = f"Jobs: {jobs.in_force:,} in force, {jobs.superseded:,} replaced by newer records"
    return _sheet(title, ("outcome", "why", "jobs"), rows)


def publishing_sheet(one: DestinationBooks) -> Sheet:
    rows: list[tuple[object, ...]] = [
        ("confirmed", "", one.confirmed),
        ("unsent", f"in {one.messages_unsent:,} messages", one.unsent),
    ]
    rows += [(kind, reason if reason != kind else "", count) for (kind, reason), count in sorted(one.kept_back.items())]
    rows.append(("not in a message yet", "the next `publish` does", one.not_in_message))
    gone = "" if one.retired_at is None else f", not configured any more since {shown(one.retired_at)}"
    title = f"Publishing to {one.name}: {one.publishable:,} records, {one.messages:,} messages{gone}"
    return _sheet(title, ("state", "why", "records"), rows)


def _sheet(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Sheet:
    cells = [[one if isinstance(one, int | float | str) or one is None else str(one) for one in row] for row in rows]
    return Sheet(title, columns, cells, [dict(zip(columns, row, strict=True)) for row in cells])
