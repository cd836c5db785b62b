"""The first page: today, this month, by VO, the trend, what needs a look; of a user, how the own jobs have fared."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pandas as pd
from flask import Blueprint, Response, request

from batchacct.cli.instants import end_of, instant, period_of
from batchacct.usage.bins import DAY_S, HOUR_S, Bins
from cpuhours.portal.asked import check_none
from cpuhours.portal.desk import Look
from cpuhours.portal.health import attention
from cpuhours.portal.job_rows import JobRow, Wanted, jobs_of
from cpuhours.portal.site import answered, page, site, unchanged
from cpuhours.portal.viewers import Viewer
from cpuhours.query import efficiency

overview = Blueprint("overview", __name__)

TREND = {"by": "vo", "period": "-30d", "bins": "day", "top": "7"}
LATEST_SHOWN = 10
_SUMS = ("jobs", "cpu_s", "core_s", "both_cpu_s", "both_core_s", "cpu_unknown_jobs")


@dataclass(frozen=True, slots=True)
class Figure:
    """What jobs of some days came to; `efficiency` None where it is not known."""

    jobs: int
    cpu_h: float
    core_h: float
    efficiency: float | None
    cpu_unknown_jobs: int

    @classmethod
    def of(cls, usage: pd.DataFrame) -> Figure:
        sums = usage[list(_SUMS)].sum().to_frame().T
        share = efficiency(sums).iloc[0]
        jobs, cpu_s, core_s, unknown = (int(sums[name].iloc[0]) for name in ("jobs", "cpu_s", "core_s", "cpu_unknown_jobs"))
        return cls(jobs, cpu_s / HOUR_S, core_s / HOUR_S, None if pd.isna(share) else float(share), unknown)


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure of a period, and the address of more of it; `change`: by how much its core hours are more than those of `before`."""

    title: str
    days: str
    figure: Figure
    address: str
    change: float | None = None
    before: str = ""
    days_missing: int = 0
    """Days (UTC) of the period of which nothing is known, as there is no record of any job."""


@dataclass(frozen=True, slots=True)
class OfVo:
    """A VO this month, and in the same days of last month."""

    name: str
    figure: Figure
    core_h_before: float | None
    """None if nothing is known of some of these days."""
    address: str

    @property
    def change(self) -> float | None:
        return _change(self.figure.core_h, self.core_h_before)


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of the page: of days of the zone, whose names are kept to be shown."""

    tiles: Sequence[Tile]
    vos: Sequence[OfVo]
    states: Sequence[tuple[str, int, str]]
    same_days: str
    latest: Sequence[JobRow]

    @property
    def most_core_h(self) -> float:
        return max((one.figure.core_h for one in self.vos), default=0.0)


@overview.get("/")
def first() -> Response:
    check_none(request.args)
    look, now = site().look(), site().desk.now()
    who, settings = look.viewer, look.config.portal
    zone = ZoneInfo(settings.zone)
    today = instant("today", now, zone)
    watched = None if who.own_only else site().watch.state()
    needs = [] if watched is None else attention(watched, all_texts=who.sees_texts)

    def make() -> str:
        found = look.answer(("overview", today), lambda: summary(look, now))
        return page("overview.html", found=found, needs=needs, watched=watched, zone=settings.zone, trend=urlencode(TREND))

    return answered(unchanged(look.state, today, needs), make)


def summary(look: Look, now: int) -> Summary:
    """Of few questions: by VO and day from the begin of last month on, by state this month, and days of which nothing is known."""
    name, who, figures = look.config.portal.zone, look.viewer, look.figures
    zone = ZoneInfo(name)
    month, before = period_of("this month", now, zone), period_of("last month", now, zone)
    tomorrow = end_of("today", now, zone)
    daily = figures.usage_by(by=("vo",), begin=before[0], end=tomorrow, bins=Bins("day", name))
    daily = daily.assign(at=[int(moment.timestamp()) for moment in daily["bin"]])
    until = before[0] + (tomorrow - month[0])
    same = (before[0], min(_day_of(until, zone), before[1]))
    missing = figures.collection_gaps(before[0], now).days
    by_state = figures.usage_by(by=("state",), begin=month[0], end=tomorrow)
    states = sorted(zip(by_state["state"], by_state["jobs"], strict=True), key=lambda one: -one[1])
    latest = jobs_of(look.desk.store, who, Wanted(before[0], tomorrow, all_of_them=True), LATEST_SHOWN)[0] if who.own_only else []
    return Summary(
        _tiles(daily, now, zone, same, missing),
        _vos(daily, (month[0], tomorrow), None if _missing(same, missing) else same, who),
        [(str(state), int(jobs), f"/jobs?{urlencode({'period': 'this month', 'state': state})}") for state, jobs in states],
        _days_text(*same, zone),
        latest,
    )


def _day_of(at: int, zone: ZoneInfo) -> int:
    """The begin of the day that is nearest to an instant: months differ in summer time."""
    day = dt.datetime.fromtimestamp(at + 12 * HOUR_S, zone).date()
    return int(dt.datetime.combine(day, dt.time(), zone).timestamp())


def _within(daily: pd.DataFrame, period: tuple[int, int]) -> pd.DataFrame:
    return daily[(daily["at"] >= period[0]) & (daily["at"] < period[1])]


def _missing(period: tuple[int, int], days: Sequence[int]) -> int:
    """How many UTC days that a period touches are missing."""
    return sum(day < period[1] and day + DAY_S > period[0] for day in days)


def _tiles(daily: pd.DataFrame, now: int, zone: ZoneInfo, same: tuple[int, int], missing: Sequence[int]) -> list[Tile]:
    tiles = []
    for title, words in (
        ("Today", "today"),
        ("Yesterday", "yesterday"),
        ("This month", "this month"),
        ("Last month", "last month"),
    ):
        begin, end = period_of(words, now, zone)
        figure = Figure.of(_within(daily, (begin, end)))
        address = f"/explore?{urlencode({'by': 'vo', 'period': words})}"
        gone = _missing((begin, min(end, now)), missing)
        if words == "this month":
            earlier = None if _missing(same, missing) else Figure.of(_within(daily, same)).core_h
            change, before = _change(figure.core_h, earlier), _days_text(*same, zone)
            tiles.append(Tile(title, _days_text(begin, end_of("today", now, zone), zone), figure, address, change, before, gone))
        else:
            tiles.append(Tile(title, _days_text(begin, end, zone), figure, address, days_missing=gone))
    return tiles


def _vos(daily: pd.DataFrame, month: tuple[int, int], same: tuple[int, int] | None, who: Viewer) -> list[OfVo]:
    """`same`: the same days of last month, if something is known of all of them."""
    now = _within(daily, month)
    before = {} if same is None else dict(_within(daily, same).groupby("vo")["core_s"].sum() / HOUR_S)
    found = [
        OfVo(str(name), Figure.of(rows), None if same is None else float(before.get(name, 0.0)), _of_vo(str(name), who))
        for name, rows in now.groupby("vo", sort=True)
    ]
    return sorted(found, key=lambda one: (-one.figure.core_h, one.name))


def _of_vo(name: str, who: Viewer) -> str:
    by = "user" if who.sees_people and not who.own_only else "queue"
    return f"/explore?{urlencode({'by': by, 'period': 'this month', 'vo': name.replace(',', chr(92) + ',')})}"


def _change(now: float, before: float | None) -> float | None:
    return None if not before else (now - before) / before


def _days_text(begin: int, end: int, zone: ZoneInfo) -> str:
    """`1 to 28 November 2026`."""
    first, last = (dt.datetime.fromtimestamp(at, zone) for at in (begin, end - 1))
    if first.date() == last.date():
        return f"{first.day} {first:%B %Y}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} to {last.day} {last:%B %Y}"
    return f"{first.day} {first:%B %Y} to {last.day} {last:%B %Y}"
