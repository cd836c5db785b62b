"""The files in which the 2012 script keeps what it draws: TITLE.data, TITLE-walldist.data; and which bins a picture has."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchacct.archive.months import month_of, next_month
from batchacct.errors import ConfigError
from batchacct.usage.bins import HOUR_S
from cpuhours.distribution import Distribution
from cpuhours.query import DAY_S

BINS_S = {"MI": 60, "HH24": HOUR_S, "DDD": DAY_S, "WW": 7 * DAY_S, "MM": 31 * DAY_S}
"""What -a takes, by Oracle's names, and how long the longest of these bins is, in seconds."""
CLOCK_CHANGE_S = 2 * HOUR_S
"""So much the local midnights in files of 2012 may be off."""

COMMENT = "#"

Series = dict[int, float]
"""Unix second at which a bin begins -> value."""


LONGEST_BYTES = 80
"""So long a title that nobody chose may be: it is the name of files, and stands on a picture."""


def file_name(title: str) -> str:
    """A title as the name of a file, without suffix."""
    return title.replace("/", "_")


def shortened(title: str) -> str:
    """The title, or its beginning and what tells it from others with the same beginning."""
    if len(title.encode()) <= LONGEST_BYTES:
        return title
    which = hashlib.sha256(title.encode()).hexdigest()[:8]
    return title.encode()[: LONGEST_BYTES - 12].decode(errors="ignore") + f"...-{which}"


@dataclass(frozen=True, slots=True)
class Stored:
    """What a data file has: the values, and what they are (`CPU time (days)`), which files of 2012 do not say."""

    values: Series
    what: str | None


# --- TITLE.data ----------------------------------------------------------------------------------------------------------------


def write_data(title: str, values: Mapping[int, float], what: str) -> None:
    """TITLE.data: what it is behind a `#`, then a line a bin, `unixtime value`.  Raises: ConfigError if it cannot be written."""
    lines = (f"{at} {_decimals(value)}" for at, value in sorted(values.items()))
    _write(Path(f"{file_name(title)}.data"), [f"{COMMENT} {what}", *lines])


def _decimals(value: float) -> str:
    """Six decimals as in 2012, and more where there are: a second is 0.000012 days with six."""
    text = f"{value:.12f}"
    return text[:-6] + text[-6:].rstrip("0")


def read_data(title: str) -> Stored:
    """TITLE.data, in order of time.  Raises: ConfigError naming the line that is not `unixtime value`."""
    path = Path(f"{file_name(title)}.data")
    values: Series = {}
    what, lines = _what_and_lines(path)
    for number, line in lines:
        try:
            at, value = map(float, line.split())
            ok = math.isfinite(at) and math.isfinite(value)
        except ValueError:
            ok = False
        if not ok:
            raise ConfigError(f"data file {path}, line {number}: a line is a Unix time and a number, not {line!r}")
        values[int(at)] = value
    return Stored(dict(sorted(values.items())), what)


def _what_and_lines(path: Path) -> tuple[str | None, list[tuple[int, str]]]:
    """What the first comment says, and the lines that are none, with their numbers."""
    lines = list(enumerate(_read(path), 1))
    comments = [line.removeprefix(COMMENT).strip() for _, line in lines if line.startswith(COMMENT)]
    return next(iter(comments), None), [(number, line) for number, line in lines if not line.startswith(COMMENT)]


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


_WALL_TIME = "wall time (seconds"


def distribution_file(title: str) -> Path:
    return Path(f"{file_name(title)}-walldist.data")


def write_distribution(title: str, found: Distribution, normalisation: str) -> None:
    """TITLE-walldist.data: what it is behind a `#`, then a line a bin, `begin end jobs`, begin and end in seconds (times what
    `normalisation` says, ` x host factor x 3.9`); the last is what is beyond the right edge.

    Raises: ConfigError if it cannot be written.
    """
    bins = [f"{at} {at + found.bin_s} {count}" for at, count in sorted(found.jobs.items())]
    what = f"{COMMENT} {_WALL_TIME}{normalisation})"
    _write(distribution_file(title), [what, *bins, f"{found.right_s} inf {found.beyond}"])


def read_distribution(title: str) -> tuple[Distribution, str | None]:
    """What `write_distribution` wrote, and the normalisation if the file says.  Raises: ConfigError naming a line that is wrong."""
    path = distribution_file(title)
    jobs: dict[int, int] = {}
    widths: set[int] = set()
    what, lines = _what_and_lines(path)
    normalisation = what.removeprefix(_WALL_TIME).removesuffix(")") if what and what.startswith(_WALL_TIME) else None
    for number, line in lines:
        try:
            begin, end, count = line.split()
            at, jobs_of_bin = int(begin), int(count)
            if end == "inf" and number == lines[-1][0]:
                return Distribution(widths.pop() if widths else HOUR_S, at, jobs, jobs_of_bin), normalisation
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
