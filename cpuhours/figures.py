"""Who answers a report's questions: the store, or whatever else has records of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from batchacct.archive.holdings import told_purged
from batchacct.store import Store
from cpuhours import query
from cpuhours.query import Gaps


class Figures(Protocol):
    """What a report asks; see the functions of `cpuhours.query`, whose answers these are."""

    def usage_by(
        self, *, by: Sequence[str], begin: int, end: int, vo: Sequence[str] = (), normalise: str | None = None
    ) -> pd.DataFrame: ...
    def benchmark_types(self) -> list[str]: ...
    def ends(self) -> tuple[int, int] | None: ...
    def logged_span(self) -> tuple[int, int] | None: ...
    def collection_gaps(self, begin: int, end: int) -> Gaps: ...
    def notes(self, period: tuple[int | None, int | None]) -> list[str]:
        """Sentences about what is not in the figures of a period, each side of which may be open (None)."""


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """Those of a store and its archive."""

    store: Store

    def usage_by(
        self, *, by: Sequence[str], begin: int, end: int, vo: Sequence[str] = (), normalise: str | None = None
    ) -> pd.DataFrame:
        return query.usage_by(self.store, by=by, begin=begin, end=end, vo=vo, normalise=normalise)

    def benchmark_types(self) -> list[str]:
        return query.benchmark_types(self.store)

    def ends(self) -> tuple[int, int] | None:
        return query.ends(self.store)

    def logged_span(self) -> tuple[int, int] | None:
        return query.logged_span(self.store)

    def collection_gaps(self, begin: int, end: int) -> Gaps:
        return query.collection_gaps(self.store, begin, end)

    def notes(self, period: tuple[int | None, int | None]) -> list[str]:
        with self.store.reading() as connection:
            return told_purged(connection, *period)
