"""The HTTP server: what it answers, and that no client, however slow or many, keeps the others waiting."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from batchacct.errors import ConfigError
from batchacct.httpd import Answer, Limits, Listener, Request, error_answer, is_loopback, load_certificate, server_context
from tests.services.certificates import Authority, Issued

QUICK = Limits(connections=4, at_once=2, wait_s=0.4, request_s=1.0, answer_s=2.0)
LARGE = 64 << 20
"""More than fits between a server and a client that does not read."""


@contextmanager
def listening(
    answer: Callable[[Request], Answer], limits: Limits | None = None, context: ssl.SSLContext | None = None
) -> Iterator[int]:
    with closing(Listener("127.0.0.1:0", answer, what="tests", setting="it", limits=limits, context=context)) as listener:
        yield listener.port


def echo(request: Request) -> Answer:
    return Answer(HTTPStatus.OK, "text/plain", f"{request.method} {request.path} {request.query}".encode(), {"X-More": "yes"})


def large(request: Request) -> Answer:
    return Answer(HTTPStatus.OK, "text/plain", b"x" * (LARGE if request.path == "/large" else 1))


def ask(port: int, path: str = "/", method: str = "GET", context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    made = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        if context is None
        else http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    )
    with closing(made) as connection:
        connection.request(method, path)
        got = connection.getresponse()
        return got.status, got.read()


def raw(port: int, sent: bytes) -> bytes:
    """What comes back for some bytes, until the server has ended the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        return all_of(connection)


def all_of(connection: socket.socket) -> bytes:
    got = b""
    try:
        while more := connection.recv(65_536):
            got += more
    except ConnectionResetError:
        pass
    return got


def test_what_is_answered() -> None:
    with listening(echo) as port:
        assert ask(port, "/a%20b?c=d%20e") == (200, b"GET /a b c=d%20e")
        assert ask(port, "/a", "HEAD") == (200, b"")
        got = raw(port, b"HEAD /a HTTP/1.1\r\n\r\n").split(b"\r\n")
        assert got[0] == b"HTTP/1.0 200 OK"
        assert {b"Server: batchacct", b"Content-Length: 8", b"Content-Type: text/plain", b"X-More: yes"} <= set(got)
        assert raw(port, b"GET http://elsewhere.example/a HTTP/1.1\r\n\r\n").endswith(b"GET /a ")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "X"])
def test_nothing_but_reading(method: str) -> None:
    with listening(echo) as port:
        status, body = ask(port, method=method)
        assert (status, json.loads(body)) == (405, {"error": "nothing can be changed here: ask by GET or HEAD"})


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b'GET "\\\x01 HTTP/9.x\r\n\r\n', 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET //[ HTTP/1.1\r\n\r\n", 200),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_what_is_no_request(sent: bytes, status: int) -> None:
    with listening(echo) as port:
        got = raw(port, sent)
        head, _, body = got.partition(b"\r\n\r\n")
        assert f" {status} ".encode() in head.split(b"\r\n")[0]
        if status != 200:
            assert list(json.loads(body)) == ["error"]
        assert ask(port)[0] == 200


def test_an_error_of_the_program_is_for_its_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    def fails(request: Request) -> Answer:
        raise ZeroDivisionError(f"a secret in {request.path}")

    with listening(fails) as port:
        status, body = ask(port, "/x")
    assert (status, json.loads(body)) == (500, {"error": "this program failed at it: its log says how, on its own host"})
    assert "a secret in /x" in caplog.text


# --- slow clients, and many -----------------------------------------------------------------------------------------------------


def ended_within(connection: socket.socket, seconds: float) -> float:
    """How long it took the server to end a connection."""
    began = time.monotonic()
    connection.settimeout(seconds)
    all_of(connection)
    return time.monotonic() - began


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nX: y\r\n"])
def test_who_does_not_ask_is_cut_off(sent: bytes) -> None:
    with listening(echo, QUICK) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sent)
        assert 0.5 < ended_within(connection, 60) < 50


def test_who_asks_a_byte_at_a_time_is_cut_off() -> None:
    with listening(echo, QUICK) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.monotonic()
        with pytest.raises(OSError):
            for n in range(1000):
                connection.sendall(b"G" if n == 0 else b"X")
                time.sleep(0.1)
        assert time.monotonic() - began < 50


def test_who_does_not_take_the_answer_is_cut_off() -> None:
    """... nor do those who take it slowly keep others from theirs for longer than they may."""
    with ExitStack() as stack:
        port = stack.enter_context(listening(large, QUICK))
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(QUICK.at_once)]
        for connection in slow:
            connection.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        time.sleep(0.3)
        status, body = ask(port)
        assert (status, "come again" in json.loads(body)["error"]) == (503, True)
        end = time.monotonic() + 60
        while ask(port)[0] != 200:
            assert time.monotonic() < end
        for connection in slow:
            assert len(all_of(connection)) < LARGE


def test_who_trickles_by_tls_is_cut_off(issued: Issued, authority: Authority) -> None:
    """A TLS socket counts its time-out anew with each piece: the deadline is of the connection."""
    context = server_context(issued.certificate, issued.key)
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    with listening(large, QUICK, context) as port:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
            trusting.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(b"GET /large HTTP/1.0\r\n\r\n")
            began, got = time.monotonic(), 0
            with pytest.raises((OSError, AssertionError)):
                while True:
                    more = connection.recv(50_000)
                    assert more
                    got += len(more)
                    time.sleep(0.05)
            assert got < LARGE
            assert time.monotonic() - began < 50
        assert ask(port, context=trusting)[0] == 200


def test_more_connections_than_there_are_places_wait() -> None:
    with ExitStack() as stack:
        port = stack.enter_context(listening(echo, QUICK))
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(3 * QUICK.connections)]
        assert ask(port)[0] == 200, "once those before it were cut off"
        for connection in idle:
            assert ended_within(connection, 20) < 15


def test_many_at_a_time_are_answered_or_told_to_come_again() -> None:
    at_work, most = list[int](), [0]
    lock = threading.Lock()

    def slowly(request: Request) -> Answer:
        with lock:
            at_work.append(1)
            most[0] = max(most[0], len(at_work))
        time.sleep(0.25)
        with lock:
            at_work.pop()
        return echo(request)

    statuses = list[int]()
    with listening(slowly, Limits(at_once=2, wait_s=0.4)) as port:
        threads = [threading.Thread(target=lambda: statuses.append(ask(port)[0])) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ask(port)[0] == 200
    assert most[0] == 2
    assert len(statuses) == 12
    assert set(statuses) == {200, 503}


def test_closing_waits_for_answers_and_not_for_ever() -> None:
    goes_on, is_asked = threading.Event(), threading.Event()

    def waits(request: Request) -> Answer:
        is_asked.set()
        goes_on.wait(20)
        return echo(request)

    for is_released in (True, False):
        goes_on.clear()
        is_asked.clear()
        got = list[tuple[int, bytes]]()
        listener = Listener("127.0.0.1:0", waits, what="tests", setting="it")

        def asks(port: int = listener.port, got: list[tuple[int, bytes]] = got) -> None:
            try:
                got.append(ask(port))
            except (OSError, http.client.HTTPException):
                got.append((0, b""))

        thread = threading.Thread(target=asks)
        thread.start()
        assert is_asked.wait(20)
        if is_released:
            threading.Timer(0.3, goes_on.set).start()
        listener.close(20 if is_released else 0.2)
        thread.join(20)
        goes_on.set()
        assert [status for status, _ in got] == [200 if is_released else 0]


# --- TLS ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.issue("server", host="127.0.0.1")


def test_by_tls(authority: Authority, issued: Issued, caplog: pytest.LogCaptureFixture) -> None:
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    context = server_context(issued.certificate, issued.key)
    with caplog.at_level(logging.INFO), listening(echo, context=context) as port:
        assert ask(port, "/a", context=trusting) == (200, b"GET /a ")
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(port, context=ssl.create_default_context())
        assert raw(port, b"GET / HTTP/1.0\r\n\r\n")[:4] != b"HTTP"
        assert ask(port, "/a", context=trusting)[0] == 200
        renewed = authority.issue("renewed", host="127.0.0.1")
        load_certificate(context, renewed.certificate, renewed.key)
        assert certificate_at(port, trusting) != issued.certificate.read_bytes()
        assert certificate_at(port, trusting) == renewed.certificate.read_bytes()
        with pytest.raises(ConfigError, match="belong together"):
            load_certificate(context, issued.certificate, renewed.key)
        assert certificate_at(port, trusting) == renewed.certificate.read_bytes()
    assert caplog.messages == [], "a client that has the wrong idea is no news"


def certificate_at(port: int, context: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        found = connection.getpeercert(binary_form=True)
    assert found is not None
    return ssl.DER_cert_to_PEM_cert(found).encode()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_an_old_tls_is_refused(authority: Authority, issued: Issued) -> None:
    old = ssl.create_default_context(cafile=str(authority.ca))
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with listening(echo, context=server_context(issued.certificate, issued.key)) as port, pytest.raises((ssl.SSLError, OSError)):
        ask(port, context=old)


def test_certificates_that_cannot_be_used(authority: Authority, issued: Issued, tmp_path: Path) -> None:
    other = authority.issue("other")
    issued.certificate.chmod(0o600)
    for key in (other.key, issued.certificate, tmp_path / "none"):
        with pytest.raises(ConfigError, match="belong together"):
            server_context(issued.certificate, key)
    issued.key.chmod(0o644)
    with pytest.raises(ConfigError, match="may be read by everybody: run `chmod o-r "):
        server_context(issued.certificate, issued.key)


@pytest.mark.filterwarnings("ignore")
def test_a_key_with_a_pass_phrase_is_not_asked_for(authority: Authority, issued: Issued, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

    key = load_pem_private_key(issued.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.touch(mode=0o600)
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(ConfigError, match="the key without a pass phrase"):
        server_context(issued.certificate, locked)


@pytest.mark.parametrize(
    ("address", "told"),
    [("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("127.8.9.1:1", True), ("0.0.0.0:1", False),
     ("[::]:1", False), ("192.0.2.1:1", False)],
)  # fmt: skip
def test_what_only_this_host_reaches(address: str, told: bool) -> None:
    assert is_loopback(address) is told


def test_an_address_that_is_none() -> None:
    with pytest.raises(ConfigError, match="no address to listen at"):
        is_loopback("no.such.host.invalid:1")


def test_error_answers_are_ascii_json() -> None:
    assert error_answer(HTTPStatus.BAD_REQUEST, 'ä"\n').body == b'{\n  "error": "\\u00e4\\"\\n"\n}\n'
