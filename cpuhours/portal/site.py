"""The site: what is asked (a desk), who may ask (accounts, sessions), and what every page of it has in common."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from flask import Response, current_app, g, make_response, render_template, request

from batchacct.config import Config
from batchacct.errors import ConfigError, PluginError
from batchacct.parsing import registry
from batchacct.portal_pages import JOB_SHEETS, PAGES, JobSheets, Page
from batchacct.store import Store
from cpuhours.portal.accounts import Accounts
from cpuhours.portal.desk import Desk, Look
from cpuhours.portal.health import Watch
from cpuhours.portal.proxies import secret_of
from cpuhours.portal.sessions import FormTokens, Guesses, Sessions
from cpuhours.portal.viewers import Viewer

log = logging.getLogger(__name__)

SALT = secrets.token_hex(8)
"""Of this process: what browsers keep of another one, an older version perhaps, is not taken for what this one would say."""

KINDS = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "md": "text/markdown; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "png": "image/png",
    "svg": "image/svg+xml",
}
"""What can be downloaded, and its content type."""


@dataclass
class Site:
    """Everything the pages need. `desk` and `watch` are replaced when the configuration is read anew."""

    desk: Desk
    accounts: Accounts
    sessions: Sessions
    proxy_secret: bytes | None
    watch: Watch
    pages: Mapping[str, Page]
    job_sheets: Sequence[JobSheets]
    tokens: FormTokens = field(default_factory=FormTokens)
    guesses: Guesses = field(default_factory=Guesses)

    @classmethod
    def of(cls, store: Store, config: Config) -> Site:
        """Without pages that are broken, which the log tells.  Raises: ConfigError for accounts or a secret that cannot be used."""
        settings = config.portal
        accounts = Accounts(settings.accounts_file)
        if settings.login == "accounts" and not accounts.is_there():
            raise ConfigError(
                f"nobody could log in: {settings.accounts_file} has no account. Make one with `batchacct portal passwd NAME --role "
                'administrator`, or let a proxy say who somebody is ([portal] login = "proxy")'
            )
        desk = Desk(store, config)
        pages = cast("dict[str, Page]", _registered(PAGES))
        sheets = cast("list[JobSheets]", [*_registered(JOB_SHEETS).values()])
        return cls(desk, accounts, Sessions(settings.session_life), secret_of(settings), Watch(desk), pages, sheets)

    def look(self) -> Look:
        """Of whoever has asked."""
        return self.desk.look(viewer())

    def use(self, config: Config) -> None:
        """Goes by another configuration from now on; who is logged in stays so.  Raises: ConfigError, and nothing has changed."""
        accounts, secret = Accounts(config.portal.accounts_file), secret_of(config.portal)
        desk = Desk(self.desk.store, config)
        self.accounts, self.proxy_secret, self.desk, self.watch = accounts, secret, desk, Watch(desk)
        self.sessions.life_s = config.portal.session_life


def _registered(kind: str) -> dict[str, object]:
    """What is registered under an entry point group and works, by name."""
    found: dict[str, object] = {}
    for name in registry.names(kind):
        try:
            found[name] = registry.load(kind, name)
        except PluginError as error:
            log.error("%s: it is left out", error.message)  # noqa: TRY400 - told to people, who need no traceback
    return found


def site() -> Site:
    return cast("Site", current_app.extensions["portal"])


def viewer() -> Viewer:
    """Who has asked; no page is made for anybody else."""
    return cast("Viewer", g.viewer)


def page(template: str, **values: object) -> str:
    """A page, with what all of them show."""
    settings = site().desk.config
    who = g.get("viewer")
    common = {
        "site_name": settings.site,
        "viewer": who,
        "nav": _navigation(who) if who else [],
        "can_log_out": settings.portal.login == "accounts",
        "form_token": site().tokens.of(g.get("session_token", "")),
        "css": style_address(),
    }
    return render_template(template, **common, **values)


def _navigation(who: Viewer) -> list[tuple[str, str, bool]]:
    """Address, name, and whether it is the one that is shown."""
    places = [("/", "Overview"), ("/explore", "Explore"), ("/jobs", "Jobs")]
    if who.sees_people:
        places += [(f"/ran/{name}", one.title) for name, one in sorted(site().pages.items(), reverse=True)]
    if not who.own_only:
        places.append(("/health", "Health"))
    return [(path, name, request.path.split(".")[0] == path) for path, name in places]


def style_address() -> str:
    return f"/static/portal.css?{SALT}"


def unchanged(state: str, *more: object) -> str:
    """The entity tag of an answer that changes with the records, with who looks, and with what the address means by now."""
    told = repr((SALT, state, viewer(), g.get("session_token"), request.full_path, more))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def answered(tag: str, make: Callable[[], str | tuple[bytes, str, str | None]]) -> Response:
    """An answer that the browser may keep and has to ask about: made only if it has another one, or none.

    `make` gives a page; or content, its kind (one of `KINDS`), and the name of the file if it is to be one.
    """
    if request.if_none_match.contains_weak(tag):
        return _private(make_response("", 304), tag)
    made = make()
    if isinstance(made, str):
        return _private(make_response(made), tag)
    content, kind, name = made
    response = make_response(content)
    response.content_type = KINDS[kind]
    if name is not None:
        response.headers.set("Content-Disposition", "attachment", filename=name)
    return _private(response, tag)


def _private(response: Response, tag: str) -> Response:
    response.set_etag(tag)
    response.headers["Cache-Control"] = "private, no-cache"
    return response
