"""What transports to receivers by HTTPS have in common: a client with deadlines, what answers mean, one exchange a message.

Each message is a request of its own. The next one goes when the answer is there; what is done about failures is the pipeline's
affair (`batchacct.brokers.pipeline`), to which an answer says one of these things:

| answer | said of |
|---|---|
| success, by the receiver's own rules | the message: it is there |
| 413 | the message: it is too large, and refused |
| 401, 403, 404, 405, 407, a redirection | the receiver, or our right to use it: the run ends |
| 408, 425, 429, 503, no connection | the moment: again after a pause, for as long as `retry_for` |
| 502, 504, no answer in time, a connection that is closed | the moment or the message: again after a pause, then set aside |
| any other | the message or the receiver: again, then set aside |

A certificate that is not accepted, theirs or ours, ends the run. Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`),
but not for this host's own addresses.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator

from batchacct.brokers.pipeline import Ended, Pipeline, Refused, Taken
from batchacct.config import Duration, Section
from batchacct.config import key as option
from batchacct.tls import Tls, TlsFiles, complaint, greet
from pub.transports.contract import Message, Receipt, Refusal

try:
    import requests
    from urllib3.exceptions import NewConnectionError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the library requests is not installed: pip install 'batchacct[http]'") from error

GRACE_S = 1.0
"""A request's own time limit is of single waits; the whole of it may take so much longer."""
GREETING_S = 3.0
"""So long we listen for what a receiver says to our certificate, once it has closed a connection without a word."""
LONGEST_TEXT = 500

_TOO_LARGE = 413
_LATER = frozenset({408, 425, 429, 503})
_AFTER_A_PAUSE = _LATER | {502, 504}
_FOR_GOOD = {
    401: "Is our certificate, or token, the right one?",
    403: "Has our certificate, or token, the right to write there?",
    404: "Is the address right?",
    405: "Is the address right?",
    407: "A proxy of the environment (HTTPS_PROXY) wants a login",
}

_Result = TypeVar("_Result")


def _url(value: str) -> str:
    parts = urlsplit(value)
    if not parts.hostname or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise ValueError(f"{value!r} is no address such as https://host:port/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a login does not belong into an address")
    if parts.scheme == "http" and not is_own(parts.hostname):
        raise ValueError("https:// is needed: by http:// only this host itself is reached (127.0.0.1, localhost)")
    _ = parts.port  # ValueError where it is none
    return value


def is_own(host: str) -> bool:
    """Whether it is an address of this host's own, which nobody listens to on the way."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


Url = Annotated[str, AfterValidator(_url)]


class WaitOptions(Section):
    """Options of all transports that exchange a request for an answer."""

    tls: Tls | None = option("other CA certificates than the system's, and our own certificate", None)
    timeout: Duration = option("longest wait for an answer, with connecting and sending", 60, ge=1, le=3600)
    retry_for: Duration = option("what fails is tried again for so long; then the run ends", 60)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    location: str | None = None

    @property
    def words(self) -> str:
        """What it says, in a line, without markup, and without characters that a database would not keep."""
        text = re.sub(r"<[^<>]*>", " ", self.body.decode("utf-8", "replace"))
        text = "".join(char if char.isprintable() else " " for char in text)
        return " ".join(text.split())[:LONGEST_TEXT] or "(nothing)"


def settled(receiver: str, message: Message, answer: Answer) -> Refused:
    """What an answer that is no success says of the message.  Raises: Ended where it need not be the message's own fault."""
    told = f"{receiver}: answered {answer.status}: {answer.words}"
    if answer.status == _TOO_LARGE:
        return Refused(message.name, f"{told}. Its {len(message.payload)} bytes are too many there: lower bunch")
    if 300 <= answer.status < 400:
        raise Ended(
            f"{receiver}: answered {answer.status}, go to {answer.location}: set the address that is meant", is_answer=True,
            for_good=True,
        )  # fmt: skip
    if answer.status in _FOR_GOOD:
        raise Ended(f"{told}. {_FOR_GOOD[answer.status]}", is_answer=True, for_good=True)
    raise Ended(told, is_answer=answer.status not in _AFTER_A_PAUSE, is_outage=answer.status in _LATER)


def too_large(message: Message, size: int, most: int) -> Refused | None:
    """The refusal of a message that has more bytes than the receiver is known to take."""
    if size <= most:
        return None
    return Refused(message.name, f"{size} bytes are more than max_bytes, {most}: lower bunch")


def one_by_one(
    messages: Iterable[Message],
    receiver: str,
    exchange: Callable[[Message], Taken | Refused],
    reset: Callable[[], None],
    retry_for_s: float,
) -> Iterator[Receipt | Refusal]:
    """Sends messages by an exchange each, which raises Ended where it fails; `reset` forgets connections.  Raises: PublishError."""
    return Pipeline(_Exchanges(receiver, exchange, reset), messages, 1, retry_for_s).outcomes()


class _Exchanges:
    """The pipeline's connection, and where it comes from: it holds as long as exchanges do."""

    stands = True

    def __init__(self, receiver: str, exchange: Callable[[Message], Taken | Refused], reset: Callable[[], None]) -> None:
        self.receiver = receiver
        self._exchange = exchange
        self._reset = reset
        self._message: Message | None = None

    def current(self) -> _Exchanges:
        return self

    def drop(self, *, is_answer: bool) -> None:
        if not is_answer:
            self._reset()

    def send(self, message: Message) -> None:
        self._message = message

    def answer(self) -> Taken | Refused:
        assert self._message is not None
        return self._exchange(self._message)


class Client:
    """Requests to one receiver, with a deadline each; a connection is kept from one to the next."""

    def __init__(self, url: str, tls: Tls | None, limit_s: float) -> None:
        """Raises: ConfigError for certificates that cannot be used."""
        self._url = url
        self._is_own = is_own(urlsplit(url).hostname or "")
        self._tls = TlsFiles(tls or Tls())
        self._limit_s = limit_s
        self._session: requests.Session | None = None

    def post(self, body: bytes, headers: Mapping[str, str], path: str = "") -> Answer:
        """POSTs to the receiver's address, with `path` after it.  Raises: Ended where there is no answer in time."""
        return self._answer("POST", path, body, headers)

    def get(self, path: str) -> Answer:
        """GETs what is at the receiver's address with `path` after it.  Raises: Ended where there is no answer in time."""
        return self._answer("GET", path, None, {})

    def close(self) -> None:
        """Closes the connection; the next request makes another."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _answer(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        if self._session is None:
            self._session = requests.Session()
            self._session.trust_env = not self._is_own
        session, url = self._session, f"{self._url}{path}"

        def ask() -> Answer:
            options = request_options(self._tls, self._limit_s)
            response = session.request(method, url, data=body, headers=dict(headers), **options)
            return Answer(response.status_code, response.content, response.headers.get("Location"))

        try:
            return within(self._limit_s + GRACE_S, ask)
        except OSError as error:
            self.close()
            raise failed(self._url, error, self._tls, self._limit_s) from error


def request_options(tls: TlsFiles, limit_s: float) -> dict[str, Any]:
    """What each request is made with: a certificate is verified whatever the environment says, and no redirection followed."""
    own = None if tls.certificate is None else (tls.certificate, tls.key)
    return {"timeout": limit_s, "allow_redirects": False, "verify": tls.ca, "cert": own}


def within(limit_s: float, work: Callable[[], _Result]) -> _Result:
    """What it returns, or raises.  Raises: TimeoutError when it has not ended in time; then it is left to itself."""
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, name="http-request", daemon=True).start()
    return future.result(limit_s)


def failed(url: str, error: BaseException, tls: TlsFiles, limit_s: float) -> Ended:
    """What it means that a request had no answer, as the pipeline is to know it."""
    found = list(_causes(error))
    for one in found:
        if isinstance(one, ssl.SSLError) and not isinstance(one, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return Ended(f"{url}: {complaint(one)}", for_good=True)
    if any(isinstance(one, requests.exceptions.ProxyError) for one in found):
        return Ended(f"{url}: the proxy of the environment (HTTPS_PROXY) failed: {_deepest(found)}", is_outage=True)
    if any(isinstance(one, TimeoutError | requests.Timeout) for one in found):
        return Ended(f"{url}: no answer within {limit_s:g} s")
    if any(isinstance(one, NewConnectionError) for one in found):
        return Ended(f"{url}: cannot be reached: {_deepest(found)}", is_outage=True)
    return _complaint_of_receiver(url, tls, limit_s) or Ended(f"{url}: the connection failed: {_deepest(found)}")


def _complaint_of_receiver(url: str, tls: TlsFiles, limit_s: float) -> Ended | None:
    """A receiver that does not accept our certificate may close before its word for it is read: it is listened to once more."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        try:
            greet((parts.hostname, parts.port or 443), tls, min(limit_s, GREETING_S))
        except ssl.SSLEOFError:
            pass
        except ssl.SSLError as error:
            return Ended(f"{url}: {complaint(error)}", for_good=True)
        except OSError:
            pass
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and all that it came of: libraries wrap them in several ways."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _deepest(found: list[BaseException]) -> str:
    """The words of the operating system, if it has any, or else the first library's."""
    told = [one.strerror for one in found if isinstance(one, OSError) and one.strerror]
    return " ".join((str(told[-1]) if told else str(found[-1]) or type(found[-1]).__name__).split())[:LONGEST_TEXT]
