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
    """Written when something changes, else every STATE_S; what is wrong is logged once."""

    def __init__(self, store: Store, collector: Collector) -> None:
        self._store, self._name, self._record_type = store, collector.source.name, collector.parser.record_type.name
        self._told: tuple[str | None, str | None] | None = None
        self._noted_at = float("-inf")

    def note(self, done: Collected, read_to_end_at: int | None, *, now: int, ticks: float) -> None:
        """`read_to_end_at`: when that was, if it was (Unix seconds).  Raises: StoreError."""
        told = (done.errors[-1].message if done.errors else None, "; ".join(done.warnings) or None)
        if told != self._told:
            for message in dict.fromkeys(e.message for e in done.errors):
                log.error("source=%s %s", self._name, message)
            for message in done.warnings:
                log.warning("source=%s %s", self._name, message)
        is_due = read_to_end_at is not None and ticks - self._noted_at >= STATE_S
        if told == self._told and not done.lost_bytes and not is_due:
            return
        values: dict[str, object] = {"record_type": self._record_type, "last_error": told[0], "warning": told[1]}
        if told[0] is not None:
            values["last_error_at"] = now
        if read_to_end_at is not None:
            values["read_to_end_at"] = read_to_end_at
        crash_point("follow.state")
        note_state(self._store, self._name, values, done.lost_bytes)
        self._told, self._noted_at = told, ticks
