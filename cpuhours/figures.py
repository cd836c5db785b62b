"""Who answers a report's questions: the store, or whatever else has records of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Unpack

import pandas as pd

from batchacct.archive.holdings import told_purged
from batchacct.archive.layout import Manifest, countable_files
from batchacct.errors import IncompleteError
from batchacct.model import JOB
from cpuhours import query
from cpuhours.query import Gaps, How, Source


class Figures(Protocol):
    """What a report asks; see the functions of `cpuhours.query`, whose answers these are."""

    def usage_by(self, *, by: str | Sequence[str], **how: Unpack[How]) -> pd.DataFrame: ...
    def benchmark_types(self) -> list[str]: ...
    def ends(self) -> tuple[int, int] | None: ...
    def first_start(self) -> int | None: ...
    def logged_span(self) -> tuple[int, int] | None: ...
    def collection_gaps(self, begin: int, end: int) -> Gaps: ...
    def notes(self, period: tuple[int | None, int | None]) -> list[str]:
        """Sentences about what is not in the figures of a period, each side of which may be open (None)."""


def files_of_jobs(folder: Path) -> list[tuple[Path, Manifest]]:
    """The files of a folder whose jobs are counted.  Raises: as `countable_files`; IncompleteError if there are none."""
    files = countable_files(folder, JOB)
    if not files:
        raise IncompleteError(f"there is nothing to report: {folder} has no records of jobs")
    return files


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """Those of a store and its archive, or of a folder of Parquet files, summed on this machine."""

    source: Source

    def usage_by(self, *, by: str | Sequence[str], **how: Unpack[How]) -> pd.DataFrame:
        return query.usage_by(self.source, by=by, **how)

    def benchmark_types(self) -> list[str]:
        return query.benchmark_types(self.source)

    def ends(self) -> tuple[int, int] | None:
        return query.ends(self.source)

    def first_start(self) -> int | None:
        return query.first_start(self.source)

    def logged_span(self) -> tuple[int, int] | None:
        return query.logged_span(self.source)

    def collection_gaps(self, begin: int, end: int) -> Gaps:
        return query.collection_gaps(self.source, begin, end)

    def notes(self, period: tuple[int | None, int | None]) -> list[str]:
        if isinstance(self.source, Path):
            return []
        with self.source.reading() as connection:
            return told_purged(connection, *period)
