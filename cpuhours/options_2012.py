"""The options of the 2012 script, what is said of them, and what they come to: dates, lists of names, title, factor."""

from __future__ import annotations

import argparse
import configparser
import errno
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from batchacct.cli.instants import instant
from batchacct.clock import day_text, unix_now
from batchacct.errors import ConfigError
from cpuhours.data_files import BINS_S, shortened
from cpuhours.query import DAY_S

SETTINGS = ".cpuhours.cfg"
FACTOR = 3.9
CONNECTION = "~/.batchacct/connection"
PAGE_WIDTH = 100

EPILOG = """\
What differs from 2012:

Gaps. Bins with no job were filled with 0 then. Here a bin is 0 only if job records of that day are
in the store; a day without any record is not drawn as zero: it has no line in TITLE.data, the curve
is interrupted, and the gap is hatched. So are bins that a file read with --file or --stack does not
have.

Left out. As then, jobs whose CPU time is unknown are in no figure of any measure, and jobs whose
submission is unknown in no waiting time. Now it is said on standard error how many they are.

Dates. Bins and the dates of --begin and --end are UTC, not local time; both are rounded down to
their day, as then, and --end itself is exclusive.

Names. In a wildcard, _ stands for itself. A group given as /NAME/... is compared by NAME, as the
store keeps the first part of the share account. A file of names may have them on lines of their
own. --table is accepted and has no effect: jobs are in one table.

Times. They are in days (of one core for CPU time) times host factor and factor, and the axis says
so: then it said days of wall and waiting times, whether or not they were normalised. Jobs without
host factor (batch systems other than LSF) are left out of normalised times, and counted on standard
error; see --nonorm. Cumulative waiting times are added up from TITLE.data too: then --file drew
what it read. A value may have more than six decimals.

Files. The first line of TITLE.data and TITLE-walldist.data is a comment, which says what the values
are: --file writes that on the axis, whatever the other options say, and "as in the file" where a
file of 2012 does not say. --stack refuses files that say different things. A title that was not
given by --title, and would be longer than 80 bytes, is shortened.

Distribution. --walldist writes TITLE-walldist.data, `begin end jobs` a line (seconds; `inf` for what
is beyond --crop), and no line a job into TITLE.data, which another view could not read; --file reads
it. A bin has its begin and not its end. --crop was rounded down to whole hours and chose among
pictures of 30 minutes, 3 hours, 24 hours or all; now the picture ends at --crop, rounded up to a
whole bin, and --percent is of all jobs, of those beyond too. Without --walldist the two are refused.

--plan prints the plan and ends; then it queried and drew as well. Of --count, --started, --walltime,
--waiting and --cumuwaiting one can be given; then the first of them won.
"""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Names of an option before its argument, once; the same in every version of Python."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        value = "" if action.nargs == 0 else f" {self._format_args(action, action.dest.upper())}"
        return ", ".join(action.option_strings) + value


def parser() -> argparse.ArgumentParser:
    """The options of 2012."""
    made = argparse.ArgumentParser(
        "cpuhours",
        usage="python -m cpuhours.cpuhours [OPTIONS]",
        description="Plots CPU time, by default normalised, or what one of the options below says.",
        epilog=EPILOG,
        formatter_class=lambda prog: _Help(prog, max_help_position=30, width=PAGE_WIDTH),
    )
    _add_question(made)
    _add_measures(made)
    _add_picture(made)
    return made


def _add_question(made: argparse.ArgumentParser) -> None:
    forms = "comma-separated list, or a file with one; %% is a wildcard; default all"
    add = made.add_argument_group("of what").add_argument
    add("-c", "--connfile", default=CONNECTION, metavar="FILE", help=f"connection file (default {CONNECTION})")
    dates = "2026-11-01, 2026-11, -2w, as `batchacct report` takes it, or Unix seconds; rounded down to its day"
    add("-b", "--begin", default="-14d", metavar="DATE", help=f"first day: {dates} (default two weeks ago)")
    add("-e", "--end", default="-0d", metavar="DATE", help="day after the last one (default today)")
    add("-x", "--what", metavar="NAMES", help=f"queues, or groups, which start with / ({forms})")
    add("-y", "--users", metavar="NAMES", help=f"users ({forms})")
    add("-m", "--fromhosts", metavar="NAMES", help=f"submit hosts ({forms})")
    add("-r", "--table", default="job", metavar="NAME", help="accepted for compatibility")
    add("-f", "--file", action="store_true", help="read TITLE.data instead of the database")
    add("-s", "--stack", metavar="TITLES", help="stack the TITLE.data of a comma-separated list, into TITLES-stacked.pdf")
    add("-p", "--plan", action="store_true", help="print the database's plan of the query; nothing is summed or drawn")


def _add_measures(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("what to show instead of CPU time")
    measure = group.add_mutually_exclusive_group()
    for short, name, what in (
        ("-n", "count", "number of finished jobs"),
        ("-o", "started", "number of started jobs"),
        ("-w", "walltime", "wall time"),
        ("-v", "waiting", "waiting time"),
        ("-u", "cumuwaiting", "cumulative waiting time"),
    ):
        measure.add_argument(short, f"--{name}", dest="measure", action="store_const", const=name, default="cpu", help=what)
    group.add_argument("--walldist", action="store_true", help="distribution of wall times, with the cumulative curve")
    group.add_argument("-q", "--percent", action="store_true", help="cumulative curve in percent (with --walldist)")
    group.add_argument("--crop", type=int, metavar="SECONDS", help="where the distribution ends (with --walldist; default all)")
    group.add_argument("-z", "--nonorm", action="store_true", help="do not normalise times")
    binning = "minute, hour, day, week of the year or month (default DDD)"
    group.add_argument("-a", "--binning", choices=list(BINS_S), metavar="|".join(BINS_S), default="DDD", help=binning)


def _add_picture(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("how it looks").add_argument
    add("-t", "--title", help="title (default what was asked for)")
    add("-k", "--colour", default="r", help="colour (default r)")
    add("-i", "--bar", action="store_true", help="bars instead of a line")
    add("-l", "--log", action="store_true", help="logarithmic scale")


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """The options, those that go together.  Ends the program with status 2 for wrong ones."""
    made = parser()
    options = made.parse_args(list(_dates_joined(arguments)))
    if not options.walldist and (options.percent or options.crop is not None):
        made.error(f"{'--percent' if options.percent else '--crop'} goes with --walldist")
    if options.walldist and options.measure not in {"cpu", "walltime"}:
        made.error(f"--walldist is the distribution of wall times: leave out --{options.measure}")
    if options.crop is not None and options.crop <= 0:
        made.error(f"--crop {options.crop}: a number of seconds greater than 0")
    if options.title is not None and not options.title.strip():
        made.error("--title '': a title is the name of files: write one, or leave the option out")
    if options.stack is not None and not all(part.strip() for part in options.stack.split(",")):
        made.error(f"--stack {options.stack!r}: write the titles of the data files, with a comma between two")
    if options.plan and (options.file or options.stack is not None):
        made.error(f"--plan is of a query, and there is none with {'--file' if options.file else '--stack'}")
    return options


def _dates_joined(arguments: Sequence[str]) -> Iterator[str]:
    """`--begin -2w` as `--begin=-2w`: argparse would take -2w for an option."""
    waiting = iter(arguments)
    for argument in waiting:
        if argument in {"-b", "--begin", "-e", "--end"} and (date := next(waiting, None)) is not None:
            yield f"{'--begin' if argument in {'-b', '--begin'} else '--end'}={date}"
        else:
            yield argument


def period_of(options: argparse.Namespace) -> tuple[int, int]:
    """From which midnight to before which one, Unix seconds.  Raises: ConfigError if there is no day between, or no such date."""
    now = unix_now()
    begin, end = (_unix_or_date(text, now) // DAY_S * DAY_S for text in (options.begin, options.end))
    if begin >= end:
        raise ConfigError(f"--begin {day_text(begin)} is not before --end {day_text(end)}, which itself is not counted")
    return begin, end


def _unix_or_date(text: str, now: int) -> int:
    """Any Unix time, as in 2012, but for what looks like a date without its hyphens."""
    return int(text) if re.fullmatch(r"\d{1,7}|\d{9,11}", text) else instant(text, now)


def title_of(options: argparse.Namespace) -> str:
    asked = "-".join(text for text in (options.what, options.users, options.fromhosts) if text is not None)
    return options.title if options.title is not None else shortened(asked) or "everything"


def listed(given: str) -> list[str]:
    """The names of a comma-separated list, or of a file that holds one.  Raises: ConfigError if there are none."""
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8").replace("\n", ",") if _is_file(path) else given
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the list {path} cannot be read: {error}") from error
    names = [name for part in text.split(",") if (name := part.strip())]
    if not names:
        raise ConfigError(f"{given!r} names nothing: leave the option out for all")
    return names


def _is_file(path: Path) -> bool:
    """A list may be longer than the name of any file.  Raises: OSError if it cannot be told."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


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
