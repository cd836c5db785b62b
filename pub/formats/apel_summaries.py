"""APEL summaries, normalised summaries and sync messages, as apel/apel 2.5.0 loads them.

A summary is a cell of a month: all jobs of one user, VO, submit host, benchmark and size. The receiver replaces a cell by what is
sent of it, so it is sent whole; what it knows a cell by are the fields up to Processors, so that a later change of what they are
made of (VO mapping, submit host, benchmark, whose names go out) leaves the old cells there until somebody deletes them. Records
of jobs and summaries of one month must not both be sent: the receiver adds them up where their cells differ.

Normalised durations are seconds times benchmark, whole, half a second rounded up, as the receiver does it; 250 Si2k are
1 HEPSPEC. Cells that differ in the benchmark's value alone are one then, in v0.3 also those that differ in its name, as the
receiver does not ask for it; in v0.4 the figure of Si2k goes under `hepspec`.

Sources: apel/apel (db/records/summary.py, normalised_summary.py, sync.py, schemas/server.sql), EGI documentation.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from pub.formats.contract import RenderedSummaries

if TYPE_CHECKING:
    from pub.summaries import Cell, Sums

MOST_JOBS = 2**31 - 1
MOST_SECONDS = 2**63 - 1
SI2K_PER_HEPSPEC = 250
_PARTS = 1000 * SI2K_PER_HEPSPEC
"""Benchmarks have three decimals: so many parts of a second are exact in any of them."""


@dataclass(frozen=True, slots=True)
class ApelSummaries:
    """Messages of one kind of summary."""

    name: str
    doc: str
    header: str
    normalised: bool = False
    benchmark_as_dictionary: bool = False

    def render(self, cells: Mapping[Cell, Sums]) -> RenderedSummaries:
        """The cells as records, in an order that depends on nothing else; one that the receiver could not keep is refused alone."""
        records: list[str] = []
        refused: Counter[str] = Counter()
        merged = self._merged(cells) if self.normalised else [(cell, sums, (0, 0)) for cell, sums in in_order(cells)]
        for cell, sums, parts in merged:
            wall, cpu = ((of + _PARTS // 2) // _PARTS for of in parts)
            if sums.jobs > MOST_JOBS:
                refused[f"NumberOfJobs is over {MOST_JOBS}"] += sums.jobs
            elif max(sums.wall_s, sums.cpu_s, wall, cpu) > MOST_SECONDS:
                refused[f"a duration is over {MOST_SECONDS}"] += sums.jobs
            else:
                records.append(_record(self._lines(cell, sums, wall, cpu)))
        return RenderedSummaries(records, refused)

    def message(self, records: Iterable[str]) -> bytes:
        """One message of these record texts (at least one)."""
        return message_of(self.header, records)

    def _merged(self, cells: Mapping[Cell, Sums]) -> list[tuple[Cell, Sums, tuple[int, int]]]:
        """Cells by what a normalised one is known by, with parts of normalised wall and CPU seconds."""
        merged: dict[Cell, Sums] = {}
        parts: dict[Cell, tuple[int, int]] = {}
        for cell, sums in cells.items():
            is_si2k = cell.service_level_type == "Si2k"
            kind = ("HEPSPEC" if is_si2k else cell.service_level_type) if self.benchmark_as_dictionary else ""
            key = cell._replace(service_level_type=kind, service_level="")
            weight = int(Decimal(cell.service_level) * 1000) * (1 if is_si2k else SI2K_PER_HEPSPEC)
            wall, cpu = parts.get(key, (0, 0))
            parts[key] = wall + sums.wall_s * weight, cpu + sums.cpu_s * weight
            if key in merged:
                merged[key].add(sums)
            else:
                merged[key] = replace(sums)
        return [(cell, sums, parts[cell]) for cell, sums in in_order(merged)]

    def _lines(self, cell: Cell, sums: Sums, wall: int, cpu: int) -> list[tuple[str, object]]:
        year, month = _year_and_month(cell.month)
        kind, level = cell.service_level_type, cell.service_level
        lines: list[tuple[str, object]] = [
            ("Site", cell.site),
            ("Month", month),
            ("Year", year),
            ("GlobalUserName", cell.global_user_name),
            ("VO", cell.vo),
            ("VOGroup", cell.vo_group),
            ("VORole", cell.vo_role),
            ("SubmitHost", cell.submit_host),
            ("Infrastructure" if self.normalised else "InfrastructureType", cell.infrastructure_type),
        ]
        if not self.normalised:
            as_it_is = [("ServiceLevelType", kind), ("ServiceLevel", level)]
            lines += [("ServiceLevel", _dictionary(kind, level))] if self.benchmark_as_dictionary else as_it_is
        lines += [
            ("NodeCount", cell.node_count),
            ("Processors", cell.processors),
            ("EarliestEndTime", sums.earliest),
            ("LatestEndTime", sums.latest),
            ("WallDuration", sums.wall_s),
            ("CpuDuration", sums.cpu_s),
        ]
        if self.normalised:
            figures = (_dictionary(kind, wall), _dictionary(kind, cpu)) if self.benchmark_as_dictionary else (wall, cpu)
            lines += zip(("NormalisedWallDuration", "NormalisedCpuDuration"), figures, strict=True)
        return [*lines, ("NumberOfJobs", sums.jobs)]


def in_order(cells: Mapping[Cell, Sums]) -> list[tuple[Cell, Sums]]:
    """The cells in an order of their own."""
    return sorted(cells.items(), key=lambda pair: [part if isinstance(part, int) else part or "" for part in pair[0]])


SYNC_HEADER = "APEL-sync-message: v0.1"


def sync_records(jobs: Mapping[tuple[str, str | None, int], int]) -> list[str]:
    """How many jobs by site, submit host and month (the Unix second it begins at) as records of a sync message."""
    records = []
    for (site, submit_host, at), count in sorted(jobs.items(), key=lambda pair: (pair[0][0], pair[0][1] or "", pair[0][2])):
        year, month = _year_and_month(at)
        lines = [("Site", site), ("SubmitHost", submit_host), ("NumberOfJobs", count), ("Month", month), ("Year", year)]
        records.append(_record(lines))
    return records


def message_of(header: str, records: Iterable[str]) -> bytes:
    """A message: the header line and the records; all of it is ASCII."""
    return f"{header}\n{''.join(records)}".encode("ascii")


def _record(lines: Iterable[tuple[str, object]]) -> str:
    return "".join(f"{label}: {value}\n" for label, value in lines if value is not None) + "%%\n"


def _dictionary(kind: str, figure: object) -> str:
    return f"{{{kind.lower()}: {figure}}}"


def _year_and_month(at: int) -> tuple[int, int]:
    begins = dt.datetime.fromtimestamp(at, dt.UTC)
    return begins.year, begins.month


SUMMARY_02 = ApelSummaries("apel-summary-0.2", "APEL summaries, v0.2: what every receiver takes", "APEL-summary-job-message: v0.2")
SUMMARY_04 = ApelSummaries(
    "apel-summary-0.4",
    "APEL summaries, v0.4: benchmark as a dictionary, for receivers of apel 2.3.0 and newer",
    "APEL-summary-job-message: v0.4",
    benchmark_as_dictionary=True,
)
NORMALISED_03 = ApelSummaries(
    "apel-normalised-summary-0.3",
    "APEL normalised summaries, v0.3: which benchmark it was is not told",
    "APEL-summary-job-message: v0.3",
    normalised=True,
)
NORMALISED_04 = ApelSummaries(
    "apel-normalised-summary-0.4",
    "APEL normalised summaries, v0.4: figures as dictionaries, for receivers of apel 2.3.0 and newer",
    "APEL-normalised-summary-message: v0.4",
    normalised=True,
    benchmark_as_dictionary=True,
)
