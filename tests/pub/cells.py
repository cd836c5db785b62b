"""The reference for summaries: records of jobs, as another program reads them, summed by what a receiver knows a summary by."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from tests.apel_reader import Job, as_stored

Key = tuple[object, ...]
Figures = tuple[int, int, int, int, int]
"""Jobs, wall and CPU seconds, first and last end."""

KEY = (
    *("GlobalUserName", "VO", "VOGroup", "VORole", "SubmitHost", "InfrastructureType", "ServiceLevelType", "ServiceLevel"),
    *("NodeCount", "Processors"),
)
FIGURES = ("NumberOfJobs", "WallDuration", "CpuDuration", "EarliestEndTime", "LatestEndTime")


def whole(value: object) -> int:
    assert isinstance(value, int)
    return value


def added_up(jobs: Iterable[Job]) -> dict[Key, Figures]:
    """Records of jobs as the server keeps them, summed."""
    cells: dict[Key, list[tuple[int, int, int]]] = {}
    for job in map(as_stored, jobs):
        ended = dt.datetime.fromtimestamp(whole(job["EndTime"]), dt.UTC)
        key = (job["Site"], ended.year, ended.month, *(lower(name, job[name]) for name in KEY))
        cells.setdefault(key, []).append((whole(job["WallDuration"]), whole(job["CpuDuration"]), whole(job["EndTime"])))
    return {
        key: (
            len(some),
            sum(one[0] for one in some),
            sum(one[1] for one in some),
            min(one[2] for one in some),
            max(one[2] for one in some),
        )
        for key, some in cells.items()
    }


def lower(name: str, value: object) -> object:
    return str(value).lower() if name == "ServiceLevelType" else value


def as_cells(records: Iterable[Job]) -> dict[Key, Figures]:
    """Records of summaries in the same way; what is missing is what the server puts there."""
    cells: dict[Key, Figures] = {}
    for record in records:
        values = ("None" if record.get(name) is None else lower(name, record[name]) for name in KEY)
        key = (record["Site"], record["Year"], record["Month"], *values)
        assert key not in cells, "one would replace the other"
        jobs, wall, cpu, first, last = (whole(record[name]) for name in FIGURES)
        cells[key] = (jobs, wall, cpu, first, last)
    return cells
