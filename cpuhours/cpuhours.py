"""The 2012 script: `python -m cpuhours.cpuhours`, with its own options, on the `job` table of today.

Written anew from the options and behaviour of jeromebelleman/batchacct:cpuhours/batchacct/cpuhours.py. As there: CPU time is in
DAYS (of one core, not hours, whatever the name says), multiplied by the batch system's host factor and by `factor` of
.cpuhours.cfg (3.9, the HEPSPEC06 of host factor 1) unless --nonorm; wall and waiting times likewise; jobs that never started or
whose CPU time is unknown are left out of everything. The data go to TITLE.data, `unixtime value` a line, the picture to
TITLE.png. EPILOG says what differs.
"""

from __future__ import annotations

import argparse
import configparser
import datetime as dt
import itertools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, or_

from batchacct.clock import unix_now
from batchacct.connection import database_url
from batchacct.errors import BatchacctError, ConfigError
from batchacct.store import Store
from batchacct.store.tables import job
from cpuhours.query import DAY_S, collection_gaps, day_text, distinct_names, logged_span, series_2012

SETTINGS = ".cpuhours.cfg"
FACTOR = 3.9
CONNECTION = "~/.batchacct/connection"
BINS_S = {"MI": 60, "HH24": 3600, "DDD": DAY_S, "WW": 7 * DAY_S}
LATER = ("walldist", "percent", "crop", "plan")

EPILOG = """\
What differs from 2012: bins with no job were filled with 0 then. Here a bin is 0 only if job records of that day are in the
store; a day without any record is not drawn as zero: it has no line in TITLE.data, the curve is interrupted, and the gap is
hatched. So are bins that a file read with --file or --stack does not have. Bins and the dates of --begin and --end are UTC, not
local time, and --end itself is exclusive. In a wildcard, _ stands for itself. A group given as /NAME/... is compared by NAME, as
the store keeps the first part of the share account. --table is accepted and has no effect: jobs are in one table. Jobs without
host factor (batch systems other than LSF) are left out of normalised times, and counted on standard error; see --nonorm.
"""

Series = dict[int, float]


def parser() -> argparse.ArgumentParser:
    """The options of 2012."""
    midnight = unix_now() // DAY_S * DAY_S
    made = argparse.ArgumentParser(
        "cpuhours",
        description="Plot CPU time, by default normalised.",
        epilog=EPILOG,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = made.add_argument
    forms = "comma-separated list or file with one; %% is a wildcard; default all"
    add("-c", "--connfile", default=CONNECTION, help=f"connection file (default {CONNECTION})")
    add(
        "-b",
        "--begin",
        type=int,
        default=midnight - 14 * DAY_S,
        help="begin, Unix time, rounded down to its day (default two weeks ago)",
    )
    add("-e", "--end", type=int, default=midnight, help="end, Unix time, rounded down to its day (default today)")
    add("-x", "--what", help=f"queues, or groups, which start with / ({forms})")
    add("-y", "--users", help=f"users ({forms})")
    add("-m", "--fromhosts", help=f"submit hosts ({forms})")
    add("-t", "--title", help="title (default what was asked for)")
    add("-k", "--colour", default="r", help="colour (default r)")
    add("-i", "--bar", action="store_true", help="bars instead of a line")
    add("-l", "--log", action="store_true", help="logarithmic scale")
    add("-f", "--file", action="store_true", help="read TITLE.data instead of the database")
    add("-r", "--table", default="job", help="accepted for compatibility")
    add("-s", "--stack", metavar="TITLES", help="stack the TITLE.data of a comma-separated list, into TITLES-stacked.pdf")
    measure = made.add_mutually_exclusive_group()
    for short, name, what in (
        ("-n", "count", "number of finished jobs"),
        ("-o", "started", "number of started jobs"),
        ("-w", "walltime", "wall time"),
        ("-v", "waiting", "waiting time"),
        ("-u", "cumuwaiting", "cumulative waiting time"),
    ):
        measure.add_argument(
            short, f"--{name}", dest="measure", action="store_const", const=name, default="cpu", help=f"{what} instead of CPU time"
        )
    add("-a", "--binning", choices=list(BINS_S), default="DDD", help="minute, hour, day or week of the year (default DDD)")
    add("-z", "--nonorm", action="store_true", help="do not normalise")
    add("--crop", type=int, metavar="SECONDS", help="(later release)")
    add("--walldist", action="store_true", help="(later release)")
    add("-q", "--percent", action="store_true", help="(later release)")
    add("-p", "--plan", action="store_true", help="(later release)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, that of the error, or 2 for options that are wrong or come with a later release."""
    options = parser().parse_args(arguments)
    if asked := [name for name in LATER if getattr(options, name) not in (None, False)]:
        parser().error(f"--{asked[0]} comes with a later release")
    try:
        if options.stack is not None:
            _stack(options)
        else:
            _single(options)
    except BatchacctError as error:
        sys.stderr.write(f"cpuhours: {error.message}\n")
        return error.exit_code
    return 0


def _single(options: argparse.Namespace) -> None:
    from cpuhours.plot import plot_series  # noqa: PLC0415 - slow to import: not for --help

    asked = "-".join(text for text in (options.what, options.users, options.fromhosts) if text is not None)
    title = options.title if options.title is not None else asked or "everything"
    values = read_data(title) if options.file else _query(options, title)
    if not values:
        period = f"from {day_text(options.begin)} to before {day_text(options.end)}"
        raise ConfigError(
            f"there is nothing to draw for {title}: " + ("its data file is empty" if options.file else f"no record {period}")
        )
    if options.measure == "cumuwaiting":
        values = dict(zip(values, itertools.accumulate(values.values()), strict=True))
    suffix = "" if options.measure == "cpu" else f"-{options.measure}"
    picture = Path(f"{file_name(title)}{suffix}.png")
    bins = all_bins(values, options.binning)
    style = {"bar": options.bar, "log": options.log, "colour": options.colour}
    plot_series(picture, values, bins, title=title, y_label=_y_label(options), **style)
    sys.stdout.write(f"{picture}\n")


def _stack(options: argparse.Namespace) -> None:
    from cpuhours.plot import plot_stack  # noqa: PLC0415

    series = {name: read_data(name) for name in (part.strip() for part in options.stack.split(","))}
    picture = Path(f"{file_name(options.stack)}-stacked.pdf")
    bins = all_bins({at: 0.0 for values in series.values() for at in values}, options.binning)
    if not bins:
        raise ConfigError(f"there is nothing to draw: the data files of {options.stack} are empty")
    plot_stack(picture, series, bins, title=options.stack, y_label=_y_label(options))
    sys.stdout.write(f"{picture}\n")


def _y_label(options: argparse.Namespace) -> str:
    if options.measure in {"count", "started"}:
        return f"number of {'finished' if options.measure == 'count' else 'started'} jobs"
    what = {"cpu": "CPU time", "walltime": "wall time", "waiting": "waiting time", "cumuwaiting": "cumulative waiting time"}
    unit = "days" if options.nonorm else f"days x host factor x {factor():g}"
    return f"{what[options.measure]} ({unit})"


def factor() -> float:
    """Normalisation by .cpuhours.cfg in the home folder, then in this one.  Raises: ConfigError if it is no positive number."""
    settings = configparser.RawConfigParser()
    settings.read_dict({"main": {"factor": str(FACTOR)}})
    try:
        settings.read([Path.home() / SETTINGS, SETTINGS], encoding="utf-8")
        value = settings.getfloat("main", "factor")
    except (configparser.Error, ValueError, OSError) as error:
        raise ConfigError(f"{SETTINGS}: [main] factor cannot be read: {error}") from error
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{SETTINGS}: [main] factor is {value}, and has to be a positive number")
    return value


# --- from the database ---------------------------------------------------------------------------------------------------------


def _query(options: argparse.Namespace, title: str) -> Series:
    begin, end = (at // DAY_S * DAY_S for at in (options.begin, options.end))
    if begin >= end:
        raise ConfigError(f"--begin {day_text(begin)} is not before --end {day_text(end)}")
    store = Store(database_url(Path(options.connfile).expanduser()))
    try:
        store.check()
        values = _values(store, options, begin, end)
    finally:
        store.close()
    write_data(title, values)
    return values


def _values(store: Store, options: argparse.Namespace, begin: int, end: int) -> Series:
    """The bins: what was found, and 0 where nothing was on a day that has records; of the other days there is none."""
    weekly = options.binning == "WW"
    bin_s = DAY_S if weekly else BINS_S[options.binning]
    measure = "waiting" if options.measure == "cumuwaiting" else options.measure
    norm = None if options.nonorm else factor()
    only = _selection(store, options, begin, end)
    found, without = series_2012(store, measure, begin=begin, end=end, bin_s=bin_s, factor=norm, only=only)
    if without:
        sys.stderr.write(f"cpuhours: {without:,} jobs without host factor cannot be normalised and are left out: see --nonorm\n")
    if not found:
        sys.stderr.write("cpuhours: no job matches\n")
    known = found | dict.fromkeys(_idle_bins(store, begin, end, bin_s) - found.keys(), 0.0)
    if not weekly:
        return dict(sorted(known.items()))
    weeks: Series = {}
    for day, value in sorted(known.items()):
        weeks[week_of(day)] = weeks.get(week_of(day), 0.0) + value
    if partial := {week_of(day) for day in range(begin, end, DAY_S) if day not in known} & weeks.keys():
        sys.stderr.write(f"cpuhours: {len(partial)} weeks have days without any record, and are the sum of their other days\n")
    return weeks


def _idle_bins(store: Store, begin: int, end: int, bin_s: int) -> set[int]:
    """The bins of days that have job records, between the oldest record and the newest: without a job they are truly 0."""
    span = logged_span(store)
    if span is None:
        return set()
    silent = set(collection_gaps(store, begin, end).days)
    read = (day for day in range(begin, end, DAY_S) if day not in silent)
    return {at for day in read for at in range(day, day + DAY_S, bin_s) if span[0] < at + bin_s and at <= span[1]}


def week_of(day: int) -> int:
    """The begin of a day's week, as Oracle's TRUNC(..., 'WW') had it: weeks are counted from 1 January, the last one is short."""
    year = dt.datetime.fromtimestamp(day, dt.UTC).year
    new_year = int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp())
    return new_year + (day - new_year) // BINS_S["WW"] * BINS_S["WW"]


def _selection(store: Store, options: argparse.Namespace, begin: int, end: int) -> list[ColumnElement[bool]]:
    columns = ((options.users, job.c.user_name), (options.fromhosts, job.c.submit_host))
    chosen = [_one_of(store, column, _listed(given), begin, end) for given, column in columns if given is not None]
    if options.what is not None:
        names = _listed(options.what)
        groups = [name[1:].split("/")[0] for name in names if name.startswith("/")]
        queues = [name for name in names if not name.startswith("/")]
        of_both = ((job.c.group_name, groups), (job.c.queue, queues))
        chosen.append(or_(*(_one_of(store, column, given, begin, end) for column, given in of_both if given)))
    return chosen


def _listed(given: str) -> list[str]:
    """The names of a comma-separated list, or of a file that holds one.  Raises: ConfigError if there are none."""
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else given
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the list {path} cannot be read: {error}") from error
    names = [name for part in text.split(",") if (name := part.strip())]
    if not names:
        raise ConfigError(f"{given!r} names nothing: leave the option out for all")
    return names


def _one_of(store: Store, column: Column[Any], names: Sequence[str], begin: int, end: int) -> ColumnElement[bool]:
    """Wildcards are matched here, against the names there are: LIKE differs in upper and lower case between databases."""
    exact = {name for name in names if "%" not in name}
    patterns = [re.compile(".*".join(map(re.escape, name.split("%"))), re.DOTALL) for name in names if "%" in name]
    if patterns:
        exact |= {name for name in distinct_names(store, column, begin, end) if any(p.fullmatch(name) for p in patterns)}
    return column.in_(sorted(exact))


# --- the data file -------------------------------------------------------------------------------------------------------------


def file_name(title: str) -> str:
    """A title as the name of a file, without suffix."""
    return title.replace("/", "_")


def write_data(title: str, values: Mapping[int, float]) -> None:
    """TITLE.data.  Raises: ConfigError if it cannot be written."""
    path = Path(f"{file_name(title)}.data")
    try:
        path.write_text("".join(f"{at} {value:f}\n" for at, value in sorted(values.items())), encoding="ascii")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from error


def read_data(title: str) -> Series:
    """TITLE.data, in order of time.  Raises: ConfigError naming the line that is not `unixtime value`."""
    path = Path(f"{file_name(title)}.data")
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data file {path} cannot be read: {error}") from error
    values: Series = {}
    for number, line in enumerate(lines, 1):
        try:
            at, value = line.split()
            values[int(float(at))] = float(value)
        except ValueError as error:
            raise ConfigError(f"data file {path}, line {number}: a line is a Unix time and a number, not {line!r}") from error
    return dict(sorted(values.items()))


def all_bins(values: Mapping[int, float], binning: str) -> list[int]:
    """Bins from the first to the last of `values`, those it does not have put in between: they are the gaps.

    Distances decide, since files of 2012 have local midnights, which summer time shifts by an hour.
    """
    bins: list[int] = []
    for at in sorted(values):
        while bins and at - bins[-1] > 1.5 * BINS_S[binning]:
            bins.append(bins[-1] + BINS_S[binning])
        bins.append(at)
    return bins


if __name__ == "__main__":
    sys.exit(main())
