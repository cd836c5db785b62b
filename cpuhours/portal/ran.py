"""What ran inside the jobs, and in groups of processes: pages that rooms and plug-ins have (`batchacct.portal_pages`)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, request

from batchacct.errors import IncompleteError
from batchacct.portal_pages import Asked, Choice, Page, Sheet
from cpuhours.portal.asked import PERIODS, ForbiddenError, check_known, one_of, period_asked, text_of
from cpuhours.portal.desk import Look
from cpuhours.portal.jobs import DATA, as_file
from cpuhours.portal.site import answered, page, site, unchanged, viewer

ran = Blueprint("ran", __name__)

MOST_SHOWN = 200


@ran.get("/ran/<name>")
def one(name: str) -> Response:
    shown, choices, asked = _asked(name, MOST_SHOWN)
    look = site().look()

    def make() -> str:
        kept = [(key, text) for key, text in request.args.items(multi=True) if text.strip()]
        others = [(key, text) for key, text in kept if key not in {"period", "begin", "end"}]
        words = request.args.get("period", "") or "-30d"
        return page(
            "ran.html",
            name=name,
            shown=shown,
            sheet=_sheet(look, name, shown, asked),
            choices=choices,
            chosen=asked.chosen,
            period=period_asked(request.args, look.desk.now(), look.config.portal),
            words={key: request.args.get(key, "") for key in ("period", "begin", "end", "zone")},
            periods=[
                (f"{request.path}?{urlencode([*others, ('period', one)])}", called, one == words) for one, called in PERIODS.items()
            ],
            query=urlencode(kept),
            downloads=DATA,
        )

    return answered(unchanged(look.state, asked), make)


@ran.get("/ran/<name>.<form>")
def download(name: str, form: str) -> Response:
    if form not in DATA:
        abort(404)
    shown, _, asked = _asked(name, site().desk.config.portal.most_rows)
    look = site().look()

    def make() -> tuple[bytes, str, str | None]:
        sheet = _sheet(look, name, shown, asked)
        if sheet is None or not sheet.values:
            raise IncompleteError("there is nothing to download: nothing is known of what ran in this time; choose another")
        return as_file([dict(row) for row in sheet.values], form), form, f"{name}.{form}"

    return answered(unchanged(look.state, asked, form), make)


def _asked(name: str, limit: int) -> tuple[Page, list[Choice], Asked]:
    """The page, what there is to choose on it, and what the address asks.  Raises: ConfigError, ForbiddenError."""
    shown = site().pages.get(name)
    who = viewer()
    if shown is None:
        abort(404)
    if not who.sees_people:
        raise ForbiddenError("Programs and their paths name people, who are not shown to your role.")
    period = period_asked(request.args, site().desk.now(), site().desk.config.portal)
    accounts = who.accounts if who.own_only else None
    choices = list(shown.choices(accounts))
    check_known(request.args, *(choice.name for choice in choices))
    chosen = {choice.name: _chosen(choice) for choice in choices}
    return shown, choices, Asked(period.begin, period.end, chosen, limit, accounts)


def _chosen(choice: Choice) -> str:
    if not choice.options:
        return text_of(request.args, choice.name, choice.default)
    return one_of(request.args, choice.name, choice.options, choice.default)


def _sheet(look: Look, name: str, shown: Page, asked: Asked) -> Sheet | None:
    """None if there is nothing to tell."""

    def ask() -> Sheet | str:
        try:
            return shown.sheet(look.desk.store, look.config, asked)
        except IncompleteError:
            return ""

    key: Mapping[str, str] = asked.chosen
    found = look.answer(("ran", name, asked.begin, asked.end, asked.limit, tuple(sorted(key.items()))), ask)
    return found if isinstance(found, Sheet) else None
