"""HTTP at one address, and nowhere else: GET and HEAD, one request a connection, each in a thread of its own.

The standard library's server, with what it lacks: whoever has not sent a request, or not taken the answer, within its time is cut
off; connections beyond the places there are wait until one is free, requests beyond those that are answered at a time are told to
come again. What goes wrong is told as JSON, `{"error": "..."}`, without a trace of the program.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import math
import socket
import ssl
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import unquote, urlsplit

from batchacct.addresses import host_and_port
from batchacct.config import Serve
from batchacct.connection import secret_line
from batchacct.errors import ConfigError

log = logging.getLogger(__name__)

SHORTEST_TOKEN = 16
LONGEST_LINE = 65_536
LONGEST_REST = 1 << 20
"""What a client sends beyond its request is read up to here, and thrown away."""
LINGER_S = 2.0
POLL_S = 0.5
"""Overdue connections are looked for so often."""
AGAIN_S = 5
"""Whoever finds all places taken is asked to come again after so long."""
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks: `path` is decoded, `query` as it came; names of headers in any case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    client: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What it gets; `kind` is the content type."""

    status: HTTPStatus
    kind: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def error_answer(status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """What went wrong and what to do, as JSON."""
    return json_answer({"error": message}, status, headers)


def json_answer(value: object, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, JSON, json.dumps(value, indent=2).encode() + b"\n", headers or {})


@dataclass(frozen=True, slots=True)
class Limits:
    """Connections at a time; requests answered at a time, for one of which others wait `wait_s`; the time a client has to send
    its request (a TLS handshake before it), and then to take the answer, making it included."""

    connections: int = 64
    at_once: int = 64
    wait_s: float = 5.0
    request_s: float = 10.0
    answer_s: float = 60.0


class Listener:
    """Answers at `address`, `host:port`, until it is closed; `port` is the one it has, of use where 0 was asked for.

    `answer` is called by several threads at a time. With a `context` it is HTTPS.
    """

    def __init__(
        self,
        address: str,
        answer: Callable[[Request], Answer],
        *,
        what: str,
        setting: str,
        limits: Limits | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Raises: ConfigError, naming `what` is served and the `setting` to change, for an address it cannot listen at."""
        try:
            host, port = host_and_port(address)
            family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._server = _Server(family, place, answer, limits or Limits(), context)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{what} cannot be served at {address}: {error}. Choose another {setting}") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name=what, daemon=True)
        self._thread.start()

    def accepts(self) -> bool:
        """Whether the thread that takes connections runs."""
        return self._thread.is_alive()

    def close(self, wait_s: float = 0.0) -> None:
        """Stops listening; answers under way have so long to be done, and are cut off then."""
        self._server.is_closing = True
        self._server.shutdown()
        self._thread.join()
        end = time.monotonic() + wait_s
        while self._server.is_busy() and time.monotonic() < end:
            time.sleep(0.05)
        self._server.cut_off(math.inf)
        self._server.server_close()


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        family: socket.AddressFamily,
        place: Any,
        answer: Callable[[Request], Answer],
        limits: Limits,
        context: ssl.SSLContext | None,
    ) -> None:
        self.address_family = family
        self.answer, self.limits, self.is_closing = answer, limits, False
        self.turns = threading.BoundedSemaphore(limits.at_once)
        self._context = context
        self._places = threading.BoundedSemaphore(limits.connections)
        self._turn = threading.Lock()
        self._until: dict[socket.socket, float] = {}
        super().__init__(place[:2], _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Waits for a place, in the thread that accepts: who comes later is accepted later."""
        while not self._places.acquire(timeout=POLL_S):
            self.service_actions()
            if self.is_closing:
                self.shutdown_request(request)
                return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the thread of the connection: a handshake that is slow keeps nobody else waiting."""
        request.settimeout(self.limits.request_s)
        if self._context is None:
            with self._watched(request):
                _Handler(request, client_address, self)
                self._let_go(request)
            return
        with self._context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secured, self._watched(secured):
            secured.do_handshake()
            _Handler(secured, client_address, self)
            self._let_go(secured)

    def _let_go(self, connection: socket.socket) -> None:
        """Waits a moment for the client to end: closed with something of it unread, a connection may lose its answer."""
        self.allow(connection, LINGER_S)
        connection.settimeout(LINGER_S)
        socket.socket.shutdown(connection, socket.SHUT_WR)
        left = LONGEST_REST
        while left > 0 and (rest := connection.recv(min(left, LONGEST_LINE))):
            left -= len(rest)

    @contextlib.contextmanager
    def _watched(self, connection: socket.socket) -> Iterator[None]:
        self.allow(connection, self.limits.request_s)
        try:
            yield
        finally:
            with self._turn:
                self._until.pop(connection, None)

    def allow(self, connection: socket.socket, more_s: float) -> None:
        """Gives a connection so long from now on."""
        with self._turn:
            self._until[connection] = time.monotonic() + more_s

    def is_busy(self) -> bool:
        with self._turn:
            return bool(self._until)

    def service_actions(self) -> None:
        self.cut_off(time.monotonic())

    def cut_off(self, now: float) -> None:
        """Ends the connections whose time was over by then; a thread that reads from one, or writes to it, sees that."""
        with self._turn:
            late = [connection for connection, until in self._until.items() if until < now]
        for connection in late:
            with contextlib.suppress(OSError):
                # of the base class: that of SSLSocket forgets first that it is one, and another thread might write plain text
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            log.debug("%s: %s", client_address[0], error)
        else:
            log.error("%s: its connection ended by an error of this program", client_address[0], exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "batchacct", ""
    default_request_version = "HTTP/1.0"

    def handle(self) -> None:
        self.requestline, self.request_version, self.command = "", "HTTP/1.0", ""
        self.raw_requestline = self.rfile.readline(LONGEST_LINE + 1)
        if len(self.raw_requestline) > LONGEST_LINE:
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG, "the address asked for is too long")
            return
        if not self.raw_requestline or not self.parse_request():
            return
        limits = self.server.limits
        self.connection.settimeout(limits.wait_s + limits.answer_s)
        self.server.allow(self.connection, limits.wait_s + limits.answer_s)
        if self.command not in {"GET", "HEAD"}:
            told = "nothing can be changed here: ask by GET or HEAD"
            self._send(error_answer(HTTPStatus.METHOD_NOT_ALLOWED, told, {"Allow": "GET, HEAD"}))
            return
        if not self.server.turns.acquire(timeout=limits.wait_s):
            told = "too many requests are being answered just now: come again a little later"
            self._send(error_answer(HTTPStatus.SERVICE_UNAVAILABLE, told, {"Retry-After": str(AGAIN_S)}))
            return
        try:
            self._send(self._answer())
        finally:
            self.server.turns.release()

    def _answer(self) -> Answer:
        try:
            asked = urlsplit(self.path)
            path = unquote(asked.path)
        except ValueError:
            return error_answer(HTTPStatus.BAD_REQUEST, "this is no address: see /v1/")
        try:
            return self.server.answer(Request(self.command, path, asked.query, self.headers, self.client_address[0]))  # type: ignore[arg-type]
        except Exception:
            log.exception("%s: a request was not answered, by an error of this program", self.client_address[0])
            return error_answer(HTTPStatus.INTERNAL_SERVER_ERROR, "this program failed at it: its log says how, on its own host")

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.kind, "Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        status = HTTPStatus(code)
        self._send(error_answer(status, message or status.description))

    def version_string(self) -> str:
        return self.server_version

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Who answers tells of what is worth it."""


def is_loopback(address: str) -> bool:
    """Whether only this host reaches what listens at `host:port`.  Raises: ConfigError for what is no such address."""
    try:
        host, port = host_and_port(address)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return all(ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback for *_, place in found)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{address} is no address to listen at: {error}") from error


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What HTTPS is served with.  Raises: ConfigError, as `load_certificate`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Takes a certificate, perhaps in the place of another one: connections from now on have it.

    Raises: ConfigError if the files cannot be used together, or if everybody may read the key.
    """
    try:
        if key.stat().st_mode & stat.S_IROTH:
            raise ConfigError(f"key {key} may be read by everybody: run `chmod o-r {key}`")
        for one in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):  # what fails half-way would spoil the one that is in use
            one.load_cert_chain(certificate, key, password=lambda: "")  # it is not asked for at a terminal
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"certificate {certificate} and key {key} cannot be used: {error}. Both are PEM, the key without a pass phrase, and "
            "belong together"
        ) from error


def token_of(settings: Serve) -> bytes | None:
    """What clients have to show; None: nothing.

    Raises: ConfigError if it cannot be used, or if there is none and other hosts reach the address.
    """
    if settings.token_file is None:
        if not is_loopback(settings.address):
            raise ConfigError(
                f"[serve] address {settings.address} is reached by other hosts, and records name people: write a token into a file "
                "that only this user can read (`openssl rand -hex 32`), and name it as [serve] token_file"
            )
        return None
    token = secret_line(settings.token_file, "token file")
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"token file {settings.token_file}: its first line has to be a token of {SHORTEST_TOKEN} characters or more, ASCII "
            "without blanks, such as `openssl rand -hex 32` writes"
        )
    return token.encode()
