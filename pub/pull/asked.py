"""What a request asks for, read out of its address; whatever is wrong in it is told, with what to write instead."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import parse_qsl

from batchacct.config import Destination
from batchacct.httpd import Answer, error_answer
from batchacct.parsing.contract import printable

DAY_S = 86_400
_FORM = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d)Z)?", re.ASCII)


class RefusedError(Exception):
    """A request that gets no records; the answer says why."""

    def __init__(self, status: HTTPStatus, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(self) -> Answer:
        return error_answer(self.status, self.message, self.headers)


def wrong(message: str) -> RefusedError:
    """A request that has to be another one."""
    return RefusedError(HTTPStatus.BAD_REQUEST, message)


def shown(text: str) -> str:
    """What a client has written, in a message."""
    return repr(printable(text.encode(errors="replace"), 60))


def parameters(query: str, known: Collection[str]) -> dict[str, str]:
    """The parameters of a request, each of which may stand once.  Raises: RefusedError."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=2 * len(known))
    except ValueError as error:
        raise wrong(f"the parameters cannot be read ({error}): write them as name=value, with & in between") from error
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise wrong(f"there is no parameter {shown(name)} here{_nearest(name, known)}")
        if name in found:
            raise wrong(f"{name} stands twice: give it once")
        found[name] = value
    return found


def one_of(value: str, known: Collection[str], what: str) -> str:
    """A name that has to be one of those there are.  Raises: RefusedError."""
    if value in known:
        return value
    raise wrong(f"{what} {shown(value)} is none here{_nearest(value, known)}")


def _nearest(value: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(value, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known)) or 'none'}"


def destination(name: str | None, configured: Collection[Destination]) -> Destination:
    """The destination of a name; without one that of a site that has no other.  Raises: RefusedError."""
    by_name = {one.name: one for one in configured}
    if name is None and len(by_name) > 1:
        raise wrong(f"say of which destination: destination is one of {', '.join(by_name)}")
    return by_name[one_of(name, by_name, "destination") if name is not None else next(iter(by_name))]


def number(text: str | None, default: int, most: int) -> int:
    """`limit`.  Raises: RefusedError."""
    if text is None:
        return min(default, most)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise wrong(f"limit {shown(text)}: give a number from 1 to {most}")
    return int(text)


def period(first: str | None, last: str | None) -> tuple[int | None, int | None]:
    """`from` and `to` as Unix seconds, the second not included any more.  Raises: RefusedError."""
    since = None if first is None else _instant("from", first)
    until = None if last is None else _instant("to", last, days=1)
    if since is not None and until is not None and until <= since:
        raise wrong("`to` lies before `from`: give the first day, then the last")
    return since, until


def _instant(name: str, text: str, days: int = 0) -> int:
    """Of an instant itself, of a day its beginning, or that of one so many days later."""
    match = _FORM.fullmatch(text)
    try:
        if match is None:
            raise ValueError  # noqa: TRY301 - told as a date that there is not
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
        at = int(dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC).timestamp())
    except ValueError as error:
        raise wrong(
            f"{name} {shown(text)}: write a day, such as 2026-11-30, or an instant, such as 2026-11-30T12:00:00Z, in UTC"
        ) from error
    return at if match[4] else at + days * DAY_S
