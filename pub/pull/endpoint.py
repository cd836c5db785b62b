"""What is answered below /v1/: a description, pages of usage records, summaries of months. Nothing is written by reading.

Bodies are what a message of the format would be; what else there is to say stands in headers, `Batchacct-...`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hmac
import ipaddress
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import cast
from urllib.parse import urlencode

from batchacct import __version__
from batchacct.addresses import host_and_port
from batchacct.archive.months import named_month
from batchacct.config import Config
from batchacct.errors import ArchiveError, ConfigError, IncompleteError, PluginError, SchemaError, StoreError
from batchacct.httpd import Answer, Request, json_answer
from batchacct.parsing import registry
from batchacct.store import Store
from pub.formats.contract import SUMMARY_FORMATS, Format, SummaryFormat
from pub.pull.asked import RefusedError, destination, number, one_of, parameters, period, wrong
from pub.pull.cursor import Cursor, CursorError, read_cursor
from pub.pull.pages import NotThereError, Page, Question, read_page
from pub.summaries import DEFAULT_FORMAT, require_begun, require_whole, summaries

log = logging.getLogger(__name__)

RECORDS_FORMAT = "jsonl"
USUAL_PAGE = 1000
AGAIN_S = "30"
REASONS_TOLD = 20
RECORDS = ("from", "to", "destination", "format", "after", "limit")
SUMMARIES = ("month", "format")
_KINDS = (
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"<", "application/xml"),
    (b"{", "application/json"),
    (b"[", "application/json"),
)


class Endpoint:
    """Answers requests, of several threads at a time. `token`: what a client has to show; None: only this host can ask."""

    def __init__(self, store: Store, config: Config, token: bytes | None, clock: Callable[[], int]) -> None:
        self._store, self._clock = store, clock
        self.use(config, token)

    def use(self, config: Config, token: bytes | None) -> None:
        """Answers by this configuration from now on."""
        self._config, self._token = config, token

    def answer(self, request: Request) -> Answer:
        began = time.monotonic()
        try:
            answer = self._answer(request)
        except RefusedError as refused:
            answer = refused.answer()
        what = (request.client, request.method, repr(request.path[:60]), answer.status.value, len(answer.body))
        log.info("%s %s %s: %d, %d bytes in %.2f s", *what, time.monotonic() - began)
        return dataclasses.replace(answer, headers={**answer.headers, "Cache-Control": "no-store"})

    def _answer(self, request: Request) -> Answer:
        self._require_right(request)
        ways: dict[str, Callable[[str], Answer]] = {"records": self._records, "summaries": self._summaries, "": self._description}
        head, _, name = request.path.removesuffix("/").removeprefix("/").partition("/")
        if head != "v1" or name not in ways:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here: /v1/ says what there is")
        try:
            return ways[name](request.query)
        except (StoreError, SchemaError, ArchiveError) as error:
            log.warning("%s", error.message)
            told = "the database, or its archive, cannot be read just now: come again; the log of this service says why"
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, told, Retry_After=AGAIN_S) from error

    def _require_right(self, request: Request) -> None:
        """Raises: RefusedError unless the client may ask."""
        if self._token is None:
            _require_this_host(request.headers, self._config.serve.address)
            return
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        is_known = hmac.compare_digest(shown.strip().encode(errors="replace"), self._token)
        if scheme.lower() != "bearer" or not is_known:
            log.warning("%s asks without the token, or with another one", request.client)
            told = "show the token you were given, as `Authorization: Bearer TOKEN`; the site's administrators have it"
            raise RefusedError(HTTPStatus.UNAUTHORIZED, told, WWW_Authenticate="Bearer")

    # --- what there is -------------------------------------------------------------------------------------------------

    def _description(self, query: str) -> Answer:
        parameters(query, ())
        config = self._config
        places = {one.name: {"vos": one.vos, "infrastructure": one.infrastructure} for one in config.destinations}
        told = {
            "site": config.site,
            "program": f"batchacct {__version__}",
            "records": {
                "address": "/v1/records",
                "from": "first day, or instant (2026-11-30T12:00:00Z), by when jobs ended; UTC; default: from the first job on",
                "to": "last day, included, or instant, not included; default: to the last job",
                "destination": {"default": config.destinations[0].name if len(places) == 1 else None, "one_of": places},
                "format": {"default": RECORDS_FORMAT, "one_of": registry.names(registry.FORMATS)},
                "after": "where to go on: Batchacct-Next of the answer before; default: from the beginning",
                "limit": {"default": min(USUAL_PAGE, config.serve.longest_page), "most": config.serve.longest_page},
            },
            "summaries": {
                "address": "/v1/summaries",
                "month": "a whole month by when jobs ended, UTC, such as 2026-11",
                "format": {"default": DEFAULT_FORMAT, "one_of": registry.names(SUMMARY_FORMATS)},
            },
        }
        return json_answer(told)

    # --- records -------------------------------------------------------------------------------------------------------

    def _records(self, query: str) -> Answer:
        asked = parameters(query, RECORDS)
        config = self._config
        form = cast("Format", _loaded(registry.FORMATS, asked.get("format", RECORDS_FORMAT)))
        since, until = period(asked.get("from"), asked.get("to"))
        question = Question(destination(asked.get("destination"), config.destinations), form, since, until)
        most = number(asked.get("limit"), USUAL_PAGE, config.serve.longest_page)
        try:
            cursor = read_cursor(asked["after"], question.digest()) if "after" in asked else Cursor()
            page = read_page(self._store, config, question, cursor, most, now=self._clock())
        except CursorError as error:
            raise wrong(str(error)) from error
        except NotThereError as error:
            told = (
                "the database does not know of what this cursor has had: it was restored from a backup, or is another one. "
                "Ask again after its next run of the join, or begin anew, without `after`, and replace what you have"
            )
            raise RefusedError(HTTPStatus.GONE, told) from error
        except ConfigError as error:
            log.warning("%s", error.message)
            told = "the configuration of this service has to be corrected first; its log says how"
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, told, Retry_After=AGAIN_S) from error
        body = page.content(form)
        return Answer(
            HTTPStatus.OK, content_type(form.name, body), body, _told_of(page, asked, page.cursor.text(question.digest()))
        )

    # --- summaries -----------------------------------------------------------------------------------------------------

    def _summaries(self, query: str) -> Answer:
        asked = parameters(query, SUMMARIES)
        if "month" not in asked:
            raise wrong("say of which month: month=2026-11")
        form = cast("SummaryFormat", _loaded(SUMMARY_FORMATS, asked.get("format", DEFAULT_FORMAT)))
        now = self._clock()
        try:
            months = [named_month(asked["month"])]
            require_begun(months, now)
        except ConfigError as error:
            raise wrong(error.message) from error
        try:
            found = summaries(self._store, self._config, months, now)
            require_whole(found)
        except IncompleteError as error:
            raise RefusedError(HTTPStatus.CONFLICT, error.message) from error
        rendered = form.render(found.cells)
        body = form.message(rendered.records) if rendered.records else b""
        refused = found.refused + Counter(rendered.refused)
        headers = {"Batchacct-Records": str(len(rendered.records)), **_refusals(refused, found.left_out)}
        return Answer(HTTPStatus.OK, content_type(form.name, body), body, headers)


def _told_of(page: Page, asked: Mapping[str, str], following: str) -> dict[str, str]:
    """What a page says of itself, and of the next one."""
    return {
        "Batchacct-Records": str(page.records),
        "Batchacct-Next": following,
        "Batchacct-More": "yes" if page.more else "no",
        "Link": f'</v1/records?{urlencode({**asked, "after": following})}>; rel="next"',
        "Batchacct-Not-For-It": str(page.not_for_it),
        "Batchacct-Published-Elsewhere": str(page.elsewhere),
        **_refusals(page.refused, page.left_out),
        "Batchacct-To-Be-Tried-Again": str(len(page.cursor.jobs)),
        "Batchacct-Given-Up": str(page.given_up),
    }


def _refusals(refused: Counter[str], left_out: Counter[str]) -> dict[str, str]:
    told = {"Batchacct-Refused": str(refused.total())}
    for name, counts in (("Batchacct-Reasons", refused), ("Batchacct-Left-Out", left_out)):
        if counts:
            told[name] = json.dumps(dict(counts.most_common(REASONS_TOLD)))
    return told


@functools.cache
def _format_named(group: str, name: str) -> object:
    return registry.load(group, name)


def _loaded(group: str, name: str) -> object:
    """A format.  Raises: RefusedError if there is none of that name, or if it is broken."""
    one_of(name, registry.names(group), "format")
    try:
        return _format_named(group, name)
    except PluginError as error:
        log.warning("%s", error.message)
        told = f"format {name} is broken on this host, and its log says how: ask for another one"
        raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, told) from error


def content_type(form: str, body: bytes) -> str:
    """By the name of the format, and what its messages begin with."""
    if form == RECORDS_FORMAT:
        return "application/jsonl"
    return next((kind for begin, kind in _KINDS if body.startswith(begin)), "text/plain; charset=utf-8")


def _require_this_host(headers: Mapping[str, str], address: str) -> None:
    """Without a token a request has to be to this host by name: a page in a browser can make one by another name that leads here.

    Raises: RefusedError.
    """
    asked = headers.get("Host")
    if asked is None:
        return
    name, _, port = asked.rpartition(":")
    host = (name if port.isdigit() else asked).removeprefix("[").removesuffix("]").lower()
    if host not in {"localhost", host_and_port(address)[0].lower()} and not _is_loopback(host):
        raise RefusedError(HTTPStatus.FORBIDDEN, "ask by the name localhost or by its address: there is no token here")


def _is_loopback(host: str) -> bool:
    """Whether it is an address of this host's own; a name is none, however it begins (127.0.0.1.example.org)."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
