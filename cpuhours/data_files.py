"""The files in which the 2012 script keeps what it draws: TITLE.data, TITLE-walldist.data; and which bins a picture has."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from batchacct.archive.months import month_of, next_month
from batchacct.errors import ConfigError
from cpuhours.distribution import HOUR_S, Distribution
from cpuhours.query import DAY_S

BINS_S = {"MI": 60, "HH24": HOUR_S, "DDD": DAY_S, "WW": 7 * DAY_S, "MM": 31 * DAY_S}
"""What -a takes, by Oracle's names, and how long the longest of these bins is, in seconds."""
CLOCK_CHANGE_S = 2 * HOUR_S
"""So much the local midnights in files of 2012 may be off."""

Series = dict[int, float]
"""Unix second at which a bin begins -> value."""


def file_name(title: str) -> str:
    """A title as the name of a file, without suffix."""
    return title.replace("/", "_")


# --- TITLE.data ----------------------------------------------------------------------------------------------------------------


def write_data(title: str, values: Mapping[int, float]) -> None:
    """TITLE.data: a line a bin, `unixtime value`.  Raises: ConfigError if it cannot be written."""
    _write(Path(f"{file_name(title)}.data"), (f"{at} {_decimals(value)}" for at, value in sorted(values.items())))


def _decimals(value: float) -> str:
    """Six decimals as in 2012, and more where there are: a second is 0.000012 days with six."""
    text = f"{value:.12f}"
    return text[:-6] + text[-6:].rstrip("0")


def read_data(title: str) -> Series:
    """TITLE.data, in order of time.  Raises: ConfigError naming the line that is not `unixtime value`."""
    path = Path(f"{file_name(title)}.data")
    values: Series = {}
    for number, line in enumerate(_read(path), 1):
        try:
            at, value = line.split()
            values[int(float(at))] = float(value)
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"data file {path}, line {number}: a line is a Unix time and a number, not {line!r}") from error
    return dict(sorted(values.items()))


def _write(path: Path, lines: Iterable[str]) -> None:
    try:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from error


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data file {path} cannot be read: {error}") from error


# --- TITLE-walldist.data -------------------------------------------------------------------------------------------------------


def distribution_file(title: str) -> Path:
    return Path(f"{file_name(title)}-walldist.data")


def write_distribution(title: str, found: Distribution) -> None:
    """TITLE-walldist.data: a line a bin, `begin end jobs`, begin and end in seconds; the last is what is beyond the right edge.

    Raises: ConfigError if it cannot be written.
    """
    bins = [f"{at} {at + found.bin_s} {count}" for at, count in sorted(found.jobs.items())]
    _write(distribution_file(title), [*bins, f"{found.right_s} inf {found.beyond}"])


def read_distribution(title: str) -> Distribution:
    """What `write_distribution` wrote.  Raises: ConfigError naming the line that is wrong."""
    path = distribution_file(title)
    jobs: dict[int, int] = {}
    widths: set[int] = set()
    lines = _read(path)
    for number, line in enumerate(lines, 1):
        try:
            begin, end, count = line.split()
            at, jobs_of_bin = int(begin), int(count)
            if end == "inf" and number == len(lines):
                return Distribution(widths.pop() if widths else HOUR_S, at, jobs, jobs_of_bin)
            widths.add(int(end) - at)
            jobs[at] = jobs_of_bin
            ok = len(widths) == 1 and min(widths) > 0 and jobs_of_bin > 0
        except ValueError:
            ok = False
        if not ok:
            raise ConfigError(
                f"data file {path}, line {number}: a line is begin and end of a bin in seconds and its jobs, not {line!r}"
            )
    raise ConfigError(f"data file {path}: the last line, what is beyond the right edge, is missing: have it written again")


# --- bins of time --------------------------------------------------------------------------------------------------------------


def week_of(day: int) -> int:
    """The begin of a day's week, as Oracle's TRUNC(..., 'WW') had it: weeks are counted from 1 January, the last one is short."""
    year = dt.datetime.fromtimestamp(day, dt.UTC).year
    new_year = int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp())
    return new_year + (day - new_year) // BINS_S["WW"] * BINS_S["WW"]


OF_DAY: Mapping[str, Callable[[int], int]] = {"WW": week_of, "MM": month_of}
"""Bins that are of days, and not all of one length: the begin of a day's bin."""


def next_bin(at: int, binning: str) -> int:
    """Where the bin after one begins. A file of 2012 has local midnights: its bins are as long as those of the UTC day near by."""
    if binning == "WW":
        midnight = (at + DAY_S // 2) // DAY_S * DAY_S
        return at + week_of(midnight + BINS_S["WW"]) - midnight
    if binning == "MM":
        month = month_of(at + DAY_S // 2)
        return at + next_month(month) - month
    return at + BINS_S[binning]


def all_bins(values: Mapping[int, float], binning: str) -> list[int]:
    """Bins from the first to the last of `values`, those it does not have put in between: they are the gaps.

    What is off by an hour or two is the same bin: local midnights, which summer time shifts.
    """
    off_s = min(BINS_S[binning] // 2, CLOCK_CHANGE_S)
    bins: list[int] = []
    for at in sorted(values):
        while bins and at > (following := next_bin(bins[-1], binning)) + off_s:
            bins.append(following)
        bins.append(at)
    return bins
