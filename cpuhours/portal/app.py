"""The application: its pages, the headers each answer has, and what is said when something goes wrong."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Flask, Response, g, make_response, request
from werkzeug.exceptions import HTTPException

from batchacct.cli.common import is_numeric
from batchacct.clock import shown
from batchacct.errors import ArchiveError, ConfigError, IncompleteError, SchemaError, StoreError
from batchacct.store.read_only import was_too_long
from cpuhours.labels import amount_text
from cpuhours.portal.asked import ForbiddenError, check_none
from cpuhours.portal.desk import TooManyError
from cpuhours.portal.explore import explore
from cpuhours.portal.health import jobs_sheet, publishing_sheet, sources_sheet, units_sheet
from cpuhours.portal.jobs import jobs
from cpuhours.portal.login import NotUsableError, login
from cpuhours.portal.overview import overview
from cpuhours.portal.ran import ran
from cpuhours.portal.site import Site, page, site, viewer
from cpuhours.showing import cell_text

log = logging.getLogger(__name__)

LONGEST_BODY = 16_384
"""A form of a name and a password."""
AGAIN_S = "10"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def create_app(served: Site) -> Flask:
    """The application of a site."""
    app = Flask(__name__)
    app.config.update(MAX_CONTENT_LENGTH=LONGEST_BODY, MAX_FORM_MEMORY_SIZE=LONGEST_BODY)
    app.extensions["portal"] = served
    app.jinja_env.filters.update(instant=shown, amount=_amount, percent=_percent, duration=_duration, cell=cell_text, hosts=_hosts)
    app.jinja_env.globals["is_numeric"] = is_numeric
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    for part in (login, overview, explore, jobs, ran, health):
        app.register_blueprint(part)
    app.before_request(_begin)
    app.after_request(_finish)
    for kind, told in _TOLD.items():
        app.register_error_handler(kind, told)
    return app


# --- texts of values -----------------------------------------------------------------------------------------------------------


def _amount(value: float | None) -> str:
    return "unknown" if value is None else amount_text(float(value))


def _percent(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value * 100:,.{digits}f} %"


def _duration(seconds: int | None) -> str:
    """`2 d 03:04:05`, or a dash."""
    if seconds is None:
        return "-"
    days, rest = divmod(abs(seconds), 86_400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{'-' if seconds < 0 else ''}{f'{days} d ' if days else ''}{clock}"


def _hosts(text: str | None) -> str:
    """`n1 (8), n2 (8)` for `["8*n1","8*n2"]`."""
    try:
        each = [str(one).partition("*") for one in json.loads(text or "[]")]
    except ValueError:
        return text or ""
    return ", ".join(f"{host} ({slots})" if host else slots for slots, _, host in each)


# --- the pages that need no more than this --------------------------------------------------------------------------------------

health = Blueprint("health", __name__)


@health.get("/health")
def how_far() -> Response:
    """How far everything is: for officers the numbers, for administrators what was said of them, too."""
    who = viewer()
    if who.own_only:
        raise ForbiddenError("This page is for those who run the accounting.")
    check_none(request.args)
    state = site().watch.state()
    sheets = [
        ("sources", sources_sheet(state)),
        ("units", units_sheet(state)),
        ("jobs", jobs_sheet(state)),
        *((("publishing"), publishing_sheet(one)) for one in state.books.destinations),
    ]
    response = make_response(page("health.html", state=state, sheets=sheets, sees_texts=who.sees_texts))
    response.headers["Cache-Control"] = "private, no-store"
    return response


# --- every answer --------------------------------------------------------------------------------------------------------------


def _begin() -> None:
    g.began = time.perf_counter()


def _finish(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers[name] = value
    if site().desk.config.portal.https:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    response.headers["Vary"] = "Cookie" if site().desk.config.portal.login == "accounts" else site().desk.config.portal.user_header
    if request.endpoint == "static":
        response.headers["Cache-Control"] = "public, max-age=86400"
    elif "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "private, no-store"
    who = g.get("viewer")
    took_ms = (time.perf_counter() - g.get("began", time.perf_counter())) * 1000
    # the path alone: what is asked for may name people
    log.info(
        "%s %s %s: %d in %.0f ms", who.name if who else "-", request.method, repr(request.path[:80]), response.status_code, took_ms
    )
    return response


# --- what goes wrong -----------------------------------------------------------------------------------------------------------


def _error(title: str, message: str, status: int, again: str | None = None) -> Response:
    response = make_response(page("error.html", title=title, message=message), status)
    if again is not None:
        response.headers["Retry-After"] = again
    return response


def _wrong(error: ConfigError | IncompleteError) -> Response:
    """What was asked cannot be: the message says what to do; options of commands are fields here."""
    return _error("That cannot be asked", f"{error.message[:1].upper()}{error.message[1:]}.".replace("--", ""), 400)


def _forbidden(error: ForbiddenError) -> Response:
    return _error("Not for you to see", str(error), 403)


def _busy(_: TooManyError) -> Response:
    told = "Others are asking just now, as many as may at a time. Try again in a few seconds."
    return _error("Too many questions", told, 503, AGAIN_S)


def _not_answered(error: StoreError | SchemaError | ArchiveError) -> Response:
    if isinstance(error, StoreError) and was_too_long(error):
        seconds = site().desk.config.portal.deadline
        told = (
            f"The database was given {seconds} seconds for it, and needs more. Choose a shorter period, or larger bins, or some of "
            "the jobs by VO or queue; for large questions there is `batchacct report`."
        )
        return _error("That takes too long", told, 503)
    log.error("%s", error.message)
    told = (
        "The database, or its archive, cannot be read just now. Try again a little later; the administrators find why in the log."
    )
    return _error("No answer", told, 503, AGAIN_S)


def _not_usable(_: NotUsableError) -> Response:
    return _error("Nobody can be let in", "The accounts of this site have to be mended first: its log says how.", 503, AGAIN_S)


_HTTP = {
    404: ("Not found", "There is nothing here, or nothing that you may see. The overview leads everywhere."),
    405: ("Not done", "Nothing can be changed here."),
    413: ("Too much", "That is more than a form of this site has."),
}


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    title, told = _HTTP.get(status, ("That cannot be asked", "Go back, or begin at the overview."))
    return _error(title, told, status)


def _failed(error: Exception) -> Response:
    log.error("a page was not made, by an error of this program", exc_info=error)
    return _error("That failed", "This program failed at it. Its log says how; tell the administrators what you did.", 500)


_TOLD: Mapping[type[Exception], Callable[[Any], Response]] = {
    ConfigError: _wrong,
    IncompleteError: _wrong,
    ForbiddenError: _forbidden,
    TooManyError: _busy,
    StoreError: _not_answered,
    SchemaError: _not_answered,
    ArchiveError: _not_answered,
    NotUsableError: _not_usable,
    HTTPException: _http,
    Exception: _failed,
}
