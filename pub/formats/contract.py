"""What a format of messages is, and of summaries; that of messages is the core's (`batchacct.usage_record`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from batchacct.usage_record import ON_REQUEST as ON_REQUEST  # noqa: PLC0414 - exported, as the next three are
from batchacct.usage_record import USAGE_RECORD as USAGE_RECORD  # noqa: PLC0414
from batchacct.usage_record import Format as Format  # noqa: PLC0414
from batchacct.usage_record import Rendered as Rendered  # noqa: PLC0414

if TYPE_CHECKING:
    from pub.summaries import Cell, Sums

SUMMARY_FORMATS = "batchacct.summary_formats"
"""The group of entry points of formats of summaries."""


@dataclass(frozen=True, slots=True)
class RenderedSummaries:
    """Cells as a format writes them: one text a record, and how many jobs are in cells that are refused, by reason."""

    records: list[str]
    refused: Mapping[str, int]


class SummaryFormat(Protocol):
    """Anything registered under `SUMMARY_FORMATS`."""

    @property
    def name(self) -> str: ...
    @property
    def doc(self) -> str: ...

    def render(self, cells: Mapping[Cell, Sums]) -> RenderedSummaries:
        """The cells as records, always in the same order, each checked against what the receiver can keep."""

    def message(self, records: Iterable[str]) -> bytes:
        """One message of these record texts (at least one)."""
