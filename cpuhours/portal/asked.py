"""What an address asks: a period in words, what to sum by, of which jobs. Everything in it is a stranger's, and checked here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from werkzeug.datastructures import MultiDict

from batchacct.cli.instants import end_of, instant, period_of
from batchacct.config import Config
from batchacct.config_portal import Portal
from batchacct.errors import ConfigError
from cpuhours.measures import MEASURES
from cpuhours.portal.viewers import Viewer
from cpuhours.question import DEFAULT_MEASURES, NAMED, TIMES, Question, hyphened
from cpuhours.selecting import names_in
from cpuhours.spans import SHORT, usual_size

DAY_S = 86_400
USUAL_PERIOD = "-30d"
LONGEST_TEXT = 2000
"""Characters of one parameter."""
MOST_NAMES = 200
MOST_WILDCARDS = 10
"""`%` in one name: a database tries what is between them at each place of each text."""
TOPS = (5, 7, 10, 20, 40)
USUAL_TOP = 20
PERIODS = {
    "today": "today",
    "yesterday": "yesterday",
    "this week": "this week",
    "last week": "last week",
    "this month": "this month",
    "last month": "last month",
    "-30d": "30 days",
    "-365d": "365 days",
}
"""Periods that are offered as links, and what they are called."""
SIZES = {hyphened(size): size for size in TIMES}
DIMENSIONS = tuple(NAMED)
"""What jobs can be chosen by."""


Arguments = MultiDict[str, str]
"""Those of an address, of which each may stand several times."""


class ForbiddenError(Exception):
    """Something this viewer may not ask; the message says what, and nothing about what there is."""


@dataclass(frozen=True, slots=True)
class Period:
    """From `begin` to before `end` (Unix seconds), as it was written, days being those of `zone`."""

    begin: int
    end: int
    zone: str
    words: Mapping[str, str] = field(default_factory=dict)
    """The parameters of an address that say it."""

    @property
    def days(self) -> float:
        return (self.end - self.begin) / DAY_S


def text_of(arguments: Arguments, name: str, default: str = "") -> str:
    """A parameter without blanks around it.  Raises: ConfigError for one that is longer than any could be."""
    text = arguments.get(name, "").strip()
    if len(text) > LONGEST_TEXT:
        raise ConfigError(f"{name} is too long: {LONGEST_TEXT:,} characters are the most")
    return text or default


def period_asked(arguments: Arguments, now: int, settings: Portal) -> Period:
    """`period`, or `begin` and `end`, in `zone`; without any, the last 30 days.  Raises: ConfigError.

    Of `-30d` today is the last day.
    """
    name = text_of(arguments, "zone", settings.zone)
    zone = _zone(name)
    begin, end = text_of(arguments, "begin"), text_of(arguments, "end")
    if (begin or end) and text_of(arguments, "period"):
        raise ConfigError("that is a period, and a begin or end as well: leave the one or the other empty")
    words = text_of(arguments, "period", "" if begin or end else USUAL_PERIOD)
    kept = {"zone": name} if name != settings.zone else {}
    if begin or end:
        until = instant(end, now, zone) if end else end_of("today", now, zone)
        since = instant(begin, now, zone) if begin else instant(USUAL_PERIOD, until, zone)
        kept |= {key: text for key, text in (("begin", begin), ("end", end)) if text}
    elif words.startswith("-"):
        until = now if words.endswith(("h", "H")) else end_of("today", now, zone)
        since = instant(words, until, zone)
        kept |= {"period": words}
    else:
        since, until = period_of(words, now, zone)
        kept |= {"period": words}
    if since >= until:
        raise ConfigError("the period has no time in it: its begin is not before its end, which is not included")
    if until - since > settings.longest_period:
        days = settings.longest_period // DAY_S
        raise ConfigError(f"a question here covers {days:,} days at most: choose a shorter period, or ask `batchacct report`")
    return Period(since, until, name, kept)


def check_known(arguments: Arguments, *names: str) -> None:
    """Raises: ConfigError for a parameter that a page of a period has none of: its answer would not be to what was asked."""
    _check(arguments, {"period", "begin", "end", "zone", *names})


def check_none(arguments: Arguments) -> None:
    """The same of a page that there is nothing to ask of."""
    _check(arguments, set())


def _check(arguments: Arguments, known: set[str]) -> None:
    if odd := [name for name in arguments if name not in known]:
        what = f"use {', '.join(sorted(known))}" if known else "leave it out"
        raise ConfigError(f"{odd[0][:60]!r} is nothing to ask here: {what}")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"there is no time zone {name}: use a name of the IANA database, such as Europe/Zurich") from error


def where_asked(arguments: Arguments, viewer: Viewer) -> dict[str, tuple[str, ...]]:
    """Of which jobs: names by dimension.  Raises: ForbiddenError for a dimension or account that is not the viewer's to ask for."""
    found: dict[str, tuple[str, ...]] = {}
    for name in DIMENSIONS:
        given = [text for text in arguments.getlist(name) if text.strip()]
        if not given:
            continue
        if name not in viewer.dimensions:
            raise ForbiddenError("People are not shown to your role, nor can jobs be chosen by them.")
        names = tuple(dict.fromkeys(one for text in given for one in names_in(text[: LONGEST_TEXT + 1])))
        if len(names) > MOST_NAMES or any(len(one) > LONGEST_TEXT for one in names):
            raise ConfigError(f"{name} has more than {MOST_NAMES} names, or a very long one: use a pattern with %")
        if any(one.count("%") > MOST_WILDCARDS for one in names):
            raise ConfigError(f"{name} has a name with more than {MOST_WILDCARDS} %: leave some out, one stands for any text")
        if name == "user" and viewer.own_only and not set(names) <= set(viewer.accounts):
            raise ForbiddenError("You see your own jobs: leave out the name of another account.")
        found[name] = names
    return found


def one_of(arguments: Arguments, name: str, known: Iterable[str], default: str) -> str:
    """Raises: ConfigError for what is none of those there are."""
    chosen = text_of(arguments, name, default)
    if chosen not in (known := [*known]):
        raise ConfigError(f"{name} is one of {', '.join(one for one in known if one)}, and {chosen[:60]!r} is none of them")
    return chosen


@dataclass(frozen=True, slots=True)
class Offered:
    """What a site can tell: benchmarks its jobs were given, measures, and at most how many bins at once."""

    benchmarks: Sequence[str]
    measures: Sequence[str]
    most_bins: int


def question_asked(arguments: Arguments, viewer: Viewer, period: Period, offered: Offered) -> Question:
    """A question about usage.  Raises: ConfigError for what cannot be asked, ForbiddenError for what this viewer may not."""
    by = _unhyphened(text_of(arguments, "by", "vo"))
    if by in DIMENSIONS and by not in viewer.dimensions:
        raise ForbiddenError("People are not shown to your role: choose something else to sum by.")
    if by not in (*viewer.dimensions, *TIMES):
        raise ConfigError(f"usage is summed by {', '.join(map(hyphened, (*viewer.dimensions, *TIMES)))}, not by {by[:60]!r}")
    size = SIZES.get(one_of(arguments, "bins", ("", *SIZES), ""))
    measure = one_of(arguments, "measure", offered.measures, "cpu")
    compare = one_of(arguments, "compare", ("", "previous"), "")
    top = one_of(arguments, "top", ("", *map(str, TOPS), "all"), "")
    most = None if top == "all" or by in TIMES else int(top) if top else USUAL_TOP
    normalise = one_of(arguments, "normalise", ("", *offered.benchmarks), "") or None
    counted = one_of(arguments, "counted", ("", "ended", "spread"), "ended")
    chosen = (measure, *(one for one in ("jobs", *DEFAULT_MEASURES) if one != measure))
    question = Question(
        by, period.begin, period.end, where_asked(arguments, viewer), normalise, chosen, size if by not in TIMES else None,
        period.zone, counted == "spread", most, compare == "previous" and by not in TIMES and size is None,
    )  # fmt: skip
    _check_bins(question, period, offered.most_bins)
    return question


def _unhyphened(text: str) -> str:
    return {hyphened(name): name for name in (*DIMENSIONS, *TIMES)}.get(text, text)


def _check_bins(question: Question, period: Period, most: int) -> None:
    """Raises: ConfigError for more bins than may be asked for at once."""
    size = question.size
    if size is None:
        return
    length = {**SHORT, "day": DAY_S, "week": 7 * DAY_S, "month": 28 * DAY_S}[size]
    bins = -(-(period.end - period.begin) // length)
    if bins > most:
        a_size = f"an {size}" if size == "hour" else f"a {size}"
        larger = hyphened(usual_size(period.begin, period.end))
        raise ConfigError(
            f"that is {bins:,} bins of {a_size}, and {most:,} are the most here: choose {larger}, or a shorter period"
        )


def measures_of(config: Config) -> list[str]:
    """The measures that a site can tell."""
    left_out = {*(() if config.capacity else ("utilisation",)), *(() if config.energy else ("co2e",))}
    return [name for name in MEASURES if name not in left_out]
