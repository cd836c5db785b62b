"""Who somebody is: by a proxy's headers, or by a session that the login form began. Everything but that form is behind it."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, Response, g, make_response, redirect, request
from werkzeug.wrappers import Response as Answer

from batchacct.errors import ConfigError
from cpuhours.portal.accounts import Account
from cpuhours.portal.proxies import SECRET_HEADER, shows_secret
from cpuhours.portal.site import page, site
from cpuhours.portal.viewers import Role, Viewer, is_name

log = logging.getLogger(__name__)

login = Blueprint("login", __name__)

OPEN = frozenset({"login.form", "login.enter", "static"})
"""What is shown to anybody."""
HASHING = threading.Lock()
"""A password is looked at in turn: it takes memory and time on purpose."""
_PLACES = threading.BoundedSemaphore(3)
"""One that is looked at, and two that wait: each has a thread of the server, which others need for their pages."""
LONGEST_ADDRESS = 2000
_SAME_SITE = {"session": "Lax", "form": "Strict"}
"""A link from mail or chat comes with the session, so that it shows what it leads to: a GET changes nothing. A POST of another site
comes with neither, and without the token of the form."""


class NotUsableError(Exception):
    """The accounts cannot be read: nobody is let in until somebody mends it."""


@login.before_app_request
def know_viewer() -> Answer | None:
    """Nobody gets further unless it is known who it is."""
    if request.endpoint in OPEN:
        return None
    by_proxy = site().desk.config.portal.login == "proxy"
    g.viewer = _of_proxy() if by_proxy else _of_session()
    if g.viewer is not None:
        return None
    if by_proxy:
        return make_response(page("error.html", title="Not let in", message=_UNKNOWN), 403)
    if request.method != "GET":
        return make_response(page("error.html", title="Not logged in", message="Your login has ended: log in again."), 403)
    wanted = request.full_path.rstrip("?")
    return redirect("/login" if wanted == "/" else f"/login?{urlencode({'next': wanted})}", 303)


_UNKNOWN = "Nobody was named, or an account that may not look here. Ask the administrators of this site for an account."


def _of_proxy() -> Viewer | None:
    settings = site().desk.config.portal
    if not shows_secret(request.headers.get(SECRET_HEADER, ""), site().proxy_secret):
        log.warning("%s asks without the secret of the proxy, or with another one", request.remote_addr or "somebody")
        return None
    name = request.headers.get(settings.user_header, "")
    if not is_name(name):
        return None
    known = _named(name)
    return Viewer(name, Role.USER, (name,)) if known is None and settings.others == "user" else known


def _of_session() -> Viewer | None:
    token = request.cookies.get(_cookie("session"), "")
    session = site().sessions.of(token) if token else None
    if session is None:
        return None
    account = _account(session.name)
    if account is None or account.proof != session.proof:  # it is gone, or has another password or role: it may be another's by now
        site().sessions.end(token)
        return None
    g.session_token = token
    return _viewer(session.name, account)


def _named(name: str) -> Viewer | None:
    account = _account(name)
    return None if account is None else _viewer(name, account)


def _account(name: str) -> Account | None:
    with _usable():
        return site().accounts.named(name)


def _viewer(name: str, account: Account) -> Viewer:
    return account.viewer(name, sees_names=site().desk.config.portal.names == "shown")


@contextlib.contextmanager
def _usable() -> Iterator[None]:
    """Raises: NotUsableError for accounts that cannot be read; the log says why."""
    try:
        yield
    except ConfigError as error:
        log.error("%s", error.message)  # noqa: TRY400 - told to people, who need no traceback
        raise NotUsableError from error


# --- the form -------------------------------------------------------------------------------------------------------------------


@login.get("/login")
def form() -> Answer:
    return _form("", 200)


def _form(told: str, status: int) -> Answer:
    """The form, for a browser that has a cookie to go with its token."""
    if site().desk.config.portal.login == "proxy":
        return redirect("/", 303)
    nonce = request.cookies.get(_cookie("form")) or secrets.token_urlsafe(24)
    shown = page("login.html", told=told, next=_local(request.values.get("next", "")), login_token=site().tokens.of(nonce))
    response = make_response(shown, status)
    _set(response, "form", nonce, None)
    response.headers["Cache-Control"] = "private, no-store"
    return response


@login.post("/login")
def enter() -> Answer:
    if site().desk.config.portal.login == "proxy":
        return redirect("/", 303)
    name, password = request.form.get("name", "").strip(), request.form.get("password", "")
    if not site().tokens.fits(request.form.get("token", ""), request.cookies.get(_cookie("form"), "")):
        return _form("This form was open for too long, or cookies are switched off. Try again.", 400)
    known = name if is_name(name) else ""
    if not _PLACES.acquire(blocking=False):
        return _later("Others are logging in just now", 1)
    try:
        if (wait_s := site().guesses.wait_s(known)) > 0:
            return _later("Too many tries", int(wait_s) + 1)
        with HASHING, _usable():
            account = site().accounts.entered(known, password)
    finally:
        _PLACES.release()
    if account is None:
        log.warning("a wrong name or password, from %s", request.remote_addr or "a socket")
        return _form("The name or the password is wrong.", 403)
    site().guesses.forget(known)
    log.info("%s has logged in", known)
    with contextlib.suppress(KeyError):
        site().sessions.end(request.cookies[_cookie("session")])
    response = redirect(_local(request.form.get("next", "")), 303)
    _set(response, "session", site().sessions.begin(known, account.proof), site().desk.config.portal.session_life)
    return response


def _later(why: str, seconds: int) -> Answer:
    response = _form(f"{why}. Wait {seconds} second{'' if seconds == 1 else 's'}, then try again.", 429)
    response.headers["Retry-After"] = str(seconds)
    return response


@login.post("/logout")
def leave() -> Answer:
    token = g.get("session_token", "")
    if not site().tokens.fits(request.form.get("token", ""), token):
        return make_response(page("error.html", title="Not logged out", message="Use the button of this site to log out."), 400)
    site().sessions.end(token)
    response = redirect("/login", 303)
    response.delete_cookie(_cookie("session"), secure=_secure(), httponly=True, samesite=_SAME_SITE["session"])
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def _local(address: str) -> str:
    """An address of this site, or the first page."""
    if not address.isprintable() or "\\" in address or len(address) > LONGEST_ADDRESS:
        return "/"
    parts = urlsplit(address)
    is_local = address.startswith("/") and not address.startswith("//") and not (parts.scheme or parts.netloc)
    return address if is_local else "/"


def _secure() -> bool:
    return site().desk.config.portal.https


def _cookie(what: str) -> str:
    """With HTTPS a name that browsers let no other host, path or plain HTTP set."""
    return f"{'__Host-' if _secure() else ''}portal-{what}"


def _set(response: Response | Answer, what: str, value: str, life_s: int | None) -> None:
    response.set_cookie(_cookie(what), value, max_age=life_s, secure=_secure(), httponly=True, samesite=_SAME_SITE[what], path="/")
