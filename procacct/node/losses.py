"""What was lost on the way, gathered until a gap row tells of it: which source, how many, between which times."""

from __future__ import annotations

from dataclasses import dataclass

from procacct.node.rows import Row, Rows
from procacct.node.spool import Spool

TELL_EVERY_NS = 1_000_000_000
DOWN = "the daemon did not run"
HOST_DOWN = "the host went down while the daemon ran"
OVERFLOW = "events came faster than they were read"
UNSENT = "sensors could not send"
USAGE_LOST = "ends came faster than they were read"
SPOOL_FULL = "the spool was full or could not be written"


@dataclass(slots=True)
class _Source:
    seen_by: str
    reason: str
    told: int = 0
    clean_ns: int = 0
    last_ns: int = 0


class Losses:
    """Counts only grow; what they grew by since the last row is in the next one."""

    def __init__(self, rows: Rows, spool: Spool, now_ns: int, heard: list[str]) -> None:
        """`heard`: the sources that there are, of which rows that the spool lost were."""
        self._rows, self._spool, self._heard = rows, spool, heard
        self.gaps = 0
        self._sources = {
            reason: _Source(seen_by, reason, clean_ns=now_ns)
            for seen_by, reason in (("connector", OVERFLOW), ("sensor", UNSENT), ("taskstats", USAGE_LOST))
        }

    def forgive(self, reason: str, count: int) -> None:
        """So many were told in another way."""
        self._sources[reason].told = count

    def clean_ns(self, reason: str) -> int:
        """When nothing was missing last."""
        return self._sources[reason].clean_ns

    def note(self, reason: str, count: int, now_ns: int) -> Row | None:
        """A count as it is now; a row if it grew and one is due."""
        source = self._sources[reason]
        if count == source.told:
            source.clean_ns = now_ns
            return None
        if now_ns - source.last_ns < TELL_EVERY_NS:
            return None
        row = self._row(source.reason, [source.seen_by], source.clean_ns, now_ns, count - source.told)
        source.told, source.last_ns, source.clean_ns = count, now_ns, now_ns
        return row

    def down(self, from_ns: int, now_ns: int, lost: int) -> Row:
        """Nobody listened between these times."""
        return self._row(DOWN, self._heard, from_ns, now_ns, lost)

    def host_down(self, from_ns: int, until_ns: int) -> Row:
        """Of what happened between these times rows may not have come to the disk; nobody knows how many."""
        return self._row(HOST_DOWN, self._heard, from_ns, max(from_ns, until_ns), 0)

    def of_spool(self, now_ns: int) -> Row | None:
        """Rows that were given up, if the spool takes rows again."""
        if self._spool.failing is not None or (told := self._spool.take_untold()) is None:
            return None
        rows, since_ns = told
        return self._row(SPOOL_FULL, self._heard, min(since_ns, now_ns), now_ns, rows)

    def _row(self, reason: str, seen_by: list[str], from_ns: int, until_ns: int, lost: int) -> Row:
        self.gaps += 1
        return self._rows.gap(reason, seen_by, from_ns, until_ns, lost)
