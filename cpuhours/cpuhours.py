"""The 2012 script: `python -m cpuhours.cpuhours`, with its own options, on the `job` table of today.

Written anew from the options and behaviour of jeromebelleman/batchacct:cpuhours/batchacct/cpuhours.py. As there: CPU time is in
DAYS (of one core, not hours, whatever the name says), multiplied by the batch system's host factor and by `factor` of
.cpuhours.cfg (3.9, the HEPSPEC06 of host factor 1) unless --nonorm; wall and waiting times likewise; jobs that never started or
whose CPU time is unknown are left out of everything, the latter counted on standard error. The data go to TITLE.data, `unixtime
value` a line, the picture to TITLE.png. `EPILOG` of the options says what differs.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, or_

from batchacct.archive.holdings import archived, told_purged
from batchacct.clock import day_text
from batchacct.connection import database_url
from batchacct.errors import BatchacctError, ConfigError
from batchacct.model import JOB
from batchacct.store import Store
from batchacct.store.plans import plan_of
from batchacct.store.spans import Period, when_ended
from batchacct.store.tables import job
from batchacct.usage.bins import HOUR_S
from batchacct.usage.dimensions import meant_by
from cpuhours.data_files import (
    BINS_S,
    OF_DAY,
    Series,
    Stored,
    all_bins,
    distribution_file,
    file_name,
    read_data,
    read_distribution,
    shortened,
    write_data,
    write_distribution,
)
from cpuhours.distribution import Chosen, Distribution, extent, histogram, wall_times
from cpuhours.notes import count_of
from cpuhours.options_2012 import factor, listed, options_of, period_of, title_of
from cpuhours.query import DAY_S, collection_gaps, logged_span
from cpuhours.series_2012 import LeftOut, distinct_names, ended_2012, series_2012, statement_2012

UNTOLD = "as in the file"
"""What the axis says of the values of a file of 2012."""
LONGEST_LIST = 1000
"""So many values may be in one list on Oracle (ORA-01795)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, that of the error, or 2 for options that are wrong."""
    options = options_of(sys.argv[1:] if arguments is None else arguments)
    try:
        if options.stack is not None:
            _stack(options)
        elif options.plan:
            _plan(options)
        elif options.walldist:
            _distribution(options)
        else:
            _single(options)
    except BatchacctError as error:
        _tell(error.message)
        return error.exit_code
    return 0


def _tell(sentence: str) -> None:
    sys.stderr.write(f"cpuhours: {sentence}\n")


def _wrote(picture: Path) -> None:
    sys.stdout.write(f"{picture}\n")


# --- pictures ------------------------------------------------------------------------------------------------------------------


def _single(options: argparse.Namespace) -> None:
    from cpuhours.plot import plot_series  # noqa: PLC0415 - slow to import: not for --help

    title = title_of(options)
    stored = read_data(title) if options.file else _query(options, title)
    values = stored.values
    if not values:
        raise _nothing(options, title)
    if options.measure == "cumuwaiting":
        values = dict(zip(values, itertools.accumulate(values.values()), strict=True))
    suffix = "" if options.measure == "cpu" else f"-{options.measure}"
    picture = Path(f"{file_name(title)}{suffix}.png")
    bins = all_bins(values, options.binning)
    style = {"bar": options.bar, "log": options.log, "colour": options.colour}
    plot_series(picture, values, bins, title=title, y_label=_label(options, stored.what), **style)
    _wrote(picture)


def _stack(options: argparse.Namespace) -> None:
    from cpuhours.plot import plot_stack  # noqa: PLC0415

    stored = {name: read_data(name) for name in (part.strip() for part in options.stack.split(","))}
    series = {name: one.values for name, one in stored.items()}
    picture = Path(f"{file_name(shortened(options.stack))}-stacked.pdf")
    bins = all_bins({at: 0.0 for values in series.values() for at in values}, options.binning)
    if not bins:
        raise ConfigError(f"there is nothing to draw: the data files of {options.stack} are empty")
    plot_stack(picture, series, bins, title=shortened(options.stack), y_label=_same(stored))
    _wrote(picture)


def _distribution(options: argparse.Namespace) -> None:
    from cpuhours.plot_distribution import Labels, plot_distribution  # noqa: PLC0415

    title = title_of(options)
    if options.file:
        found, told = read_distribution(title)
        notes = [f"Read from {distribution_file(title)}."]
        normalisation = f", {UNTOLD}" if told is None else told
    else:
        normalisation = "" if options.nonorm else _normalisation()
        found, notes = _query_distribution(options, title, normalisation)
    if options.crop is not None:
        found = found.cropped(options.crop)
    if not found.total:
        raise _nothing(options, title)
    picture = Path(f"{file_name(title)}-walldist.png")
    labels = Labels(title, normalisation, notes)
    plot_distribution(picture, found, labels, colour=options.colour, log=options.log, percent=options.percent)
    _wrote(picture)


def _nothing(options: argparse.Namespace, title: str) -> ConfigError:
    if options.file:
        why = "its data file is empty"
    else:
        begin, end = period_of(options)
        what = "job to show" if options.walldist else "record"
        why = f"no {what} from {day_text(begin)} to before {day_text(end)}"
    return ConfigError(f"there is nothing to draw for {title}: {why}")


def _label(options: argparse.Namespace, what: str | None) -> str:
    """What stands on the axis for values that are `what`, or of which their file does not say."""
    if options.measure == "cumuwaiting":
        return f"cumulative {what}" if what else f"cumulative, {UNTOLD}"
    return what or UNTOLD


def _same(stored: Mapping[str, Stored]) -> str:
    """What all files have.  Raises: ConfigError if they say different things."""
    said = {one.what: name for name, one in stored.items() if one.what is not None}
    if len(said) > 1:
        each = "; ".join(f"{name} is {what}" for what, name in said.items())
        raise ConfigError(f"these cannot stand on each other: {each}: stack data files of one measure")
    return next(iter(said)) if said and all(one.what for one in stored.values()) else UNTOLD.replace("file", "files")


def _what(options: argparse.Namespace) -> str:
    """What the values are that are asked for."""
    measure = _measure(options)
    if measure in {"count", "started"}:
        return f"number of {'finished' if measure == 'count' else 'started'} jobs"
    what = {"cpu": "CPU time", "walltime": "wall time", "waiting": "waiting time"}
    return f"{what[measure]} (days{'' if options.nonorm else _normalisation()})"


def _normalisation() -> str:
    return f" x host factor x {factor():g}"


# --- from the database ---------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[Store]:
    store = Store(database_url(Path(options.connfile).expanduser()))
    try:
        store.check()
        yield store
    finally:
        store.close()


def _query(options: argparse.Namespace, title: str) -> Stored:
    begin, end = period_of(options)
    with _opened(options) as store:
        values = _values(store, options, begin, end)
        _tell_purged(store, begin, end)
    stored = Stored(values, _what(options))
    write_data(title, values, _what(options))
    return stored


def _values(store: Store, options: argparse.Namespace, begin: int, end: int) -> Series:
    """The bins: what was found, and 0 where nothing was on a day that has records; of the other days there is none."""
    bin_s = _width_asked(options)
    only = _selection(store, options, begin, end)
    found, left_out = series_2012(store, _measure(options), begin=begin, end=end, bin_s=bin_s, factor=_factor(options), only=only)
    _tell_left_out(left_out)
    if not found:
        _tell("no job matches")
    known = found | dict.fromkeys(_idle_bins(store, begin, end, bin_s) - found.keys(), 0.0)
    if options.binning not in OF_DAY:
        return dict(sorted(known.items()))
    return _of_days(known, range(begin, end, DAY_S), options.binning)


def _of_days(known: Mapping[int, float], days: range, binning: str) -> Series:
    """Weeks or months of what days have; a sentence if some have days of which nothing is known."""
    bin_of = OF_DAY[binning]
    values: Series = {}
    for day, value in sorted(known.items()):
        values[bin_of(day)] = values.get(bin_of(day), 0.0) + value
    if partial := {bin_of(day) for day in days if day not in known} & values.keys():
        what = count_of(len(partial), "week" if binning == "WW" else "month")
        of_rest = "has days without any record, and is the sum of its other days"
        if len(partial) > 1:
            of_rest = "have days without any record, and are the sum of their other days"
        _tell(f"{what} {of_rest}")
    return values


def _width_asked(options: argparse.Namespace) -> int:
    return DAY_S if options.binning in OF_DAY else BINS_S[options.binning]


def _measure(options: argparse.Namespace) -> str:
    return "waiting" if options.measure == "cumuwaiting" else str(options.measure)


def _factor(options: argparse.Namespace) -> float | None:
    return None if options.nonorm else factor()


def _idle_bins(store: Store, begin: int, end: int, bin_s: int) -> set[int]:
    """The bins of days that have job records, between the oldest record and the newest: without a job they are truly 0."""
    span = logged_span(store)
    if span is None:
        return set()
    silent = set(collection_gaps(store, begin, end).days)
    read = (day for day in range(begin, end, DAY_S) if day not in silent)
    return {at for day in read for at in range(day, day + DAY_S, bin_s) if span[0] < at + bin_s and at <= span[1]}


def _query_distribution(options: argparse.Namespace, title: str, normalisation: str) -> tuple[Distribution, list[str]]:
    """The distribution, and what is to be said of it below the picture.  Raises: ConfigError if there is no job to show."""
    begin, end = period_of(options)
    with _opened(options) as store:
        chosen = Chosen(begin, end, _factor(options), _selection(store, options, begin, end))
        found = wall_times(store, chosen, options.crop)
        gaps = len(collection_gaps(store, begin, end).days)
        _tell_purged(store, begin, end)
    _tell_left_out(LeftOut(found.unknown_cpu, without_factor=found.without_factor))
    if found.negative:
        _tell(f"left out: {count_of(found.negative, 'job')} that ended before the start, by the records")
    if not found.total:
        raise _nothing(options, title)
    write_distribution(title, found, normalisation)
    notes = [f"Jobs that ended from {day_text(begin)} to before {day_text(end)} (UTC)."]
    if gaps:
        of_them = "1 of these days has" if gaps == 1 else f"{gaps} of these days have"
        notes.append(f"{of_them} no record: jobs that ended then are not in the figures.")
    return found, notes


def _tell_left_out(left_out: LeftOut) -> None:
    for number, why in (
        (left_out.unknown_cpu, "of unknown CPU time, as in 2012"),
        (left_out.unknown_submission, "of unknown time of submission"),
        (left_out.without_factor, "without host factor, which cannot be normalised: see --nonorm"),
    ):
        if number:
            _tell(f"left out: {count_of(number, 'job')} {why}")


def _tell_purged(store: Store, begin: int, end: int) -> None:
    with store.reading() as connection:
        for sentence in told_purged(connection, begin, end):
            _tell(sentence)


def _plan(options: argparse.Namespace) -> None:
    begin, end = period_of(options)
    with _opened(options) as store:
        only = _selection(store, options, begin, end)
        statements = _statements(options, begin, end, only)
        ended = (begin, end) if options.walldist else ended_2012(_measure(options), begin, end)
        with store.reading() as connection:
            period = when_ended(connection, *ended)
            plans = {what: plan_of(connection, statement(period)) for what, statement in statements.items()}
            months = sum(month.file is not None for month in archived(connection, JOB))
    for what, lines in plans.items():
        sys.stdout.write(f"The plan of the query for {what}, as {store.dialect.name} has it:\n\n")
        sys.stdout.writelines(f"  {line}\n" for line in lines)
        sys.stdout.write("\n")
    if months:
        sys.stdout.write(f"Besides, the files of {months} archived months are read, of which the database plans nothing.\n")
    sys.stdout.write("This is all that --plan does: nothing was summed, written or drawn.\n")


def _statements(
    options: argparse.Namespace, begin: int, end: int, only: Sequence[ColumnElement[bool]]
) -> dict[str, Callable[[Period], Select[Any]]]:
    if options.walldist:
        chosen = Chosen(begin, end, _factor(options), only)
        return {"the longest wall time": extent(chosen), "the histogram": histogram(chosen, HOUR_S, options.crop or 30 * DAY_S)}
    normalised = not options.nonorm
    statement = statement_2012(
        _measure(options), begin=begin, end=end, bin_s=_width_asked(options), normalised=normalised, only=only
    )
    return {"the sums": statement}


# --- which jobs ----------------------------------------------------------------------------------------------------------------


def _selection(store: Store, options: argparse.Namespace, begin: int, end: int) -> list[ColumnElement[bool]]:
    columns = ((options.users, job.c.user_name), (options.fromhosts, job.c.submit_host))
    chosen = [_one_of(store, column, listed(given), begin, end) for given, column in columns if given is not None]
    if options.what is not None:
        names = listed(options.what)
        groups = [name[1:].split("/")[0] for name in names if name.startswith("/")]
        queues = [name for name in names if not name.startswith("/")]
        of_both = ((job.c.group_name, groups), (job.c.queue, queues))
        chosen.append(or_(*(_one_of(store, column, given, begin, end) for column, given in of_both if given)))
    return chosen


def _one_of(store: Store, column: Column[Any], names: Sequence[str], begin: int, end: int) -> ColumnElement[bool]:
    """Wildcards are matched here, against the names there are: LIKE differs in upper and lower case between databases."""
    exact = {name for name in names if "%" not in name}
    if wild := [name for name in names if "%" in name]:
        meant = meant_by(wild)
        exact |= {name for name in distinct_names(store, column, begin, end) if meant(name)}
    wanted = sorted(exact)
    return or_(*(column.in_(wanted[i : i + LONGEST_LIST]) for i in range(0, max(len(wanted), 1), LONGEST_LIST)))


if __name__ == "__main__":
    sys.exit(main())
