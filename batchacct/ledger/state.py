"""Everything there is to tell of now: how far sources are read, what is missing, the books. `status` and the metrics show it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from batchacct.config import Config
from batchacct.ledger.books import Books, read_books
from batchacct.ledger.gaps import Gaps, duration, gaps_now
from batchacct.ledger.progress import Progress, read_progress, watched
from batchacct.store import Store, partitions
from batchacct.store.months import Month


@dataclass(frozen=True, slots=True)
class State:
    """As of `now` (Unix seconds), from one state of the database."""

    now: int
    progress: list[Progress]
    gaps: Gaps
    books: Books
    database_bytes: int | None
    without_partition: dict[str, list[Month]]
    """Months of rows in the catch-all of a table."""

    @property
    def warnings(self) -> list[str]:
        """What a person should look into, a sentence each; nothing of it makes the books wrong."""
        told = []
        for one in self.progress:
            if one.last_error is not None:
                since = "" if one.last_error_at is None else f" ({duration(max(self.now - one.last_error_at, 0))} ago)"
                told.append(f"source {one.source}, last error{since}: {one.last_error}")
            if one.warning is not None:
                told.append(f"source {one.source}: {one.warning}")
            if one.lost_bytes:
                told.append(f"source {one.source}: {one.lost_bytes:,} bytes were destroyed before they could be read")
        for table, months in self.without_partition.items():
            told.append(
                f"rows of table {table} of {', '.join(map(str, months))} are in the catch-all, not in a partition of their month, "
                "so that queries look through more than they have to: run `batchacct db partition`, as its timer or cron is to do "
                "every month"
            )
        return told + self.gaps.told

    def as_values(self) -> dict[str, object]:
        """Everything as JSON values; times are Unix seconds."""
        books = dataclasses.asdict(self.books)
        outcomes = sorted(self.books.jobs.outcomes.items())
        books["jobs"]["outcomes"] = [{"outcome": outcome, "reason": reason, "jobs": jobs} for (outcome, reason), jobs in outcomes]
        for one, values in zip(self.books.destinations, books["destinations"], strict=True):
            kept = sorted(one.kept_back.items())
            values["kept_back"] = [{"kind": kind, "reason": reason, "records": count} for (kind, reason), count in kept]
        return books | {
            "now": self.now,
            "balanced": self.books.balanced,
            "following": [dataclasses.asdict(one) for one in self.progress],
            "unread_bytes": {one.source: one.unread_bytes for one in self.progress if one.unread_bytes is not None},
            "gaps": dataclasses.asdict(self.gaps),
            "warnings": self.warnings,
            "database_bytes": self.database_bytes,
        }


def read_state(store: Store, config: Config, now: int) -> State:
    """Raises: StoreError if the database cannot be asked."""
    with store.reading() as connection:
        progress = read_progress(connection, config, now)
        gaps = gaps_now(connection, watched(config, progress, now), now)
        books = read_books(connection)
        waiting = partitions.waiting(store, connection, config.database.partitions_ahead, now)
    return State(now, progress, gaps, books, store.size_bytes(), waiting)
