"""The state of a source as `status` shows it: when it was read to its end, and what is wrong with it."""

from __future__ import annotations

import logging

from batchacct.collector.collecting import Collected, Collector
from batchacct.crashpoints import crash_point
from batchacct.store import Store, note_state

log = logging.getLogger(__name__)

STATE_S = 10
"""How often it is noted that the source was read to its end."""


class SourceState:
    """Written when something changes, else every STATE_S; each error is logged once, at `level`, until it is over."""

    def __init__(self, store: Store, collector: Collector, level: int) -> None:
        self._store, self._name, self._record_type = store, collector.source.name, collector.parser.record_type.name
        self._level = level
        self._written: tuple[str | None, str | None] | None = None
        self._noted_at = float("-inf")
        self._logged: set[str] = set()

    def forget(self) -> None:
        """Another process may have written it meanwhile."""
        self._written = None

    def note(self, done: Collected, read_to_end_at: int | None, *, now: int, ticks: float) -> None:
        """`read_to_end_at`: when that was, if it was (Unix seconds).  Raises: StoreError."""
        self._log(done)
        state = (done.errors[-1].message if done.errors else None, "; ".join(done.warnings) or None)
        is_due = read_to_end_at is not None and ticks - self._noted_at >= STATE_S
        if state == self._written and not done.lost_bytes and not is_due:
            return
        values: dict[str, object] = {"record_type": self._record_type, "last_error": state[0], "warning": state[1]}
        values["last_error_at"] = None if state[0] is None else now
        if read_to_end_at is not None:
            values["read_to_end_at"] = read_to_end_at
        crash_point("follow.state")
        note_state(self._store, self._name, values, done.lost_bytes)
        self._written, self._noted_at = state, ticks

    def _log(self, done: Collected) -> None:
        told = {error.message: self._level for error in done.errors} | dict.fromkeys(done.warnings, logging.WARNING)
        for message, level in told.items():
            if message not in self._logged:
                log.log(level, "source=%s %s", self._name, message)
        if self._logged and not told:
            log.info("source=%s is read again", self._name)
        self._logged = set(told)
