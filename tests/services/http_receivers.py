"""Receivers by HTTPS that are not to be had here: real servers, which store by key and answer as each real one does by its source.

A test tells what goes wrong at which request (`faults`), as with the proxy of the brokers. Sources: sgas/luts3-service
(insertresource.py, jobinsertresource.py, ursplitter.py, its nginx site), ALU-Schumacher/AUDITOR (auditor/src/routes, domain), GWD-R
draft-ggf-wsi-rus and its types, ARGOeu/argo-messaging (handlers, brokers/kafka.go).
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote
from xml.etree.ElementTree import ParseError

from lxml import etree

from tests.apel_reader import Refused
from tests.services.certificates import Authority
from tests.usage_record_reader import CAR, URWG, Record, is_valid, read_as_sgas, read_records

LONGEST_S = 30.0
"""So long a request is held that is never to be answered."""
MIB = 1 << 20


@dataclass(frozen=True)
class Request:
    """What was asked; `subject` is the common name in the client's certificate."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    subject: str | None


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Fault = (
    Literal["cut before", "cut after", "hang before", "hang after", "half an answer", "trickle"] | Reply | Callable[[Reply], Reply]
)
"""before, after: the request is stored; a Reply is given in place of storing anything, a function changes the one that is due."""


class HttpReceiver:
    """A server on a free port of 127.0.0.1. `faults` are used up a request each, None for none; then `always` holds."""

    demands_certificate = True

    def __init__(self, authority: Authority, *, secure: bool = True, host: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self.faults: list[Fault | None] = []
        self.always: Fault | None = None
        self.forbidden: set[str] = set()
        self.insertions: Counter[str] = Counter()
        self.stored: dict[str, Any] = {}
        self.broken: list[BaseException] = []
        self.open: list[socket.socket] = []
        self.lock = threading.Lock()
        self.is_closing = threading.Event()
        self._server = _Server(self, self._context(authority, host) if secure else None)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self.is_closing.set()
        self._server.shutdown()
        self._thread.join()
        for one in self.open:
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)  # that of TLS takes from a thread what it may be reading by
        self._server.server_close()

    def handled(self, request: Request) -> Reply:
        """What the real one does, one request at a time."""
        raise NotImplementedError

    def next_fault(self) -> Fault | None:
        with self.lock:
            return self.faults.pop(0) if self.faults else self.always

    def keep(self, key: str, value: object) -> None:
        self.insertions[key] += 1
        self.stored[key] = value

    def _context(self, authority: Authority, host: str) -> ssl.SSLContext:
        own = authority.issue(f"receiver {host}", host=host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.certificate, own.key)
        context.load_verify_locations(authority.ca)
        context.verify_mode = ssl.CERT_REQUIRED if self.demands_certificate else ssl.CERT_OPTIONAL
        return context


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that all have ended when it is closed

    def __init__(self, receiver: HttpReceiver, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.receiver = receiver
        self._context = context

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = self.socket.accept()
        plain.settimeout(LONGEST_S)
        one = plain
        if self._context is not None:
            one = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self.receiver.open.append(one)  # here, not in its thread: who closes the server has to know of all that were let in
        return one, address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle(self) -> None:
        try:
            if isinstance(self.connection, ssl.SSLSocket):
                self.connection.do_handshake()
            super().handle()
        except OSError:
            self.close_connection = True  # the client has gone, or was not let in
        except Exception as error:
            self.server.receiver.broken.append(error)
            raise

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_POST(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body, self._subject())
        receiver.requests.append(request)
        fault = receiver.next_fault()
        if fault in ("cut before", "hang before"):
            return self._no_answer(hangs=fault == "hang before")
        if isinstance(fault, Reply):
            return self._answer(fault)
        with receiver.lock:
            reply = receiver.handled(request)
        if fault in ("cut after", "hang after"):
            return self._no_answer(hangs=fault == "hang after")
        if fault == "trickle":
            return self._trickle()
        if fault == "half an answer":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            return self._no_answer(hangs=False)
        return self._answer(fault(reply) if callable(fault) else reply)

    def _answer(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def _no_answer(self, *, hangs: bool) -> None:
        if hangs:
            self.server.receiver.is_closing.wait(LONGEST_S)
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _trickle(self) -> None:
        """A byte now and then, so that no single wait is long."""
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.server.receiver.is_closing.wait(0.2):
            self.wfile.write(b"X-Patience: 1\r\n")

    def _subject(self) -> str | None:
        if not isinstance(self.connection, ssl.SSLSocket):
            return None
        found: Any = self.connection.getpeercert() or {}
        names = {name: value for part in found.get("subject", ()) for name, value in part}
        return names.get("commonName")


class SgasReceiver(HttpReceiver):
    """SGAS behind its nginx; `machines` are those for which records may be inserted, None for all."""

    path = "/sgas/ur"

    def __init__(self, authority: Authority, **more: Any) -> None:
        super().__init__(authority, **more)
        self.machines: set[str] | None = None

    def handled(self, request: Request) -> Reply:
        if len(request.body) > 2 * MIB:
            return Reply(413, b"<html><head><title>413 Request Entity Too Large</title></head></html>")
        if request.path != self.path:
            return Reply(404, b"<html><body><h1>No Such Resource</h1></body></html>")
        if request.subject in self.forbidden:
            return Reply(403, f"Rejecting job usage insert for {request.subject}. No insert rights.".encode())
        try:
            records = self.read(request.body)
        except (Refused, ParseError) as error:
            return Reply(500, f"<html><head><title>web.Server Traceback</title></head><p>{error!r}</p></html>".encode())
        machines = {str(record["MachineName"]) for record in records.values()}
        if self.machines is not None and not machines <= self.machines:
            told = f"Subject {request.subject} is not allowed to perform insertion for machines: {','.join(machines)}"
            return Reply(406, told.encode())
        for record_id, record in records.items():
            self.keep(record_id, record)
        rows = {record_id: str(row) for row, record_id in enumerate(records, 1)}
        return Reply(200, json.dumps(rows).encode())

    def read(self, body: bytes) -> dict[str, Record]:
        return read_as_sgas(body)


class CarReceiver(SgasReceiver):
    """One of the same protocol that takes CAR; none is known."""

    def read(self, body: bytes) -> dict[str, Record]:
        records = read_records(body, CAR)
        return {str(record["RecordIdentity recordId"]): record for record in records}


class AuditorReceiver(HttpReceiver):
    """AUDITOR; `ignores_known` is its setting `ignore_record_exists_error`, `forbidden` what we may not, as `METHOD /path`."""

    def __init__(self, authority: Authority, **more: Any) -> None:
        super().__init__(authority, **more)
        self.ignores_known = False

    def handled(self, request: Request) -> Reply:
        if any(f"{request.method} {request.path}".startswith(one) for one in self.forbidden):
            return Reply(403, b"Access denied by RBAC policy")
        if request.method == "POST" and request.path in {"/record", "/records"}:
            return self._added(request)
        if request.method == "GET" and (found := re.fullmatch(r"/record/([^/]+)", request.path)):
            record = self.stored.get(unquote(found[1]))
            if record is None:
                return Reply(500, json.dumps({"error": "Unexpected error: A database error was encountered"}).encode())
            return Reply(200, json.dumps(record, sort_keys=True).encode(), {"Content-Type": "application/json"})
        return Reply(404, b"The requested resource was not found. 404 Not Found")

    def _added(self, request: Request) -> Reply:
        if len(request.body) > 2 * MIB:
            return Reply(413, b"JSON payload (allocated buffer) has exceeded limit")
        try:
            told = json.loads(request.body)
            records = [_auditors(record) for record in (told if request.path == "/records" else [told])]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return Reply(400, f"Json deserialize error: {error}".encode())
        ids = [record["record_id"] for record in records]
        if len(set(ids)) < len(ids) or not self.stored.keys().isdisjoint(ids):
            if not self.ignores_known:
                return Reply(500, b"RECORD_EXISTS")
            return Reply(200, json.dumps({"warning": "One or more records already exist, but the error was ignored"}).encode())
        for record in records:
            self.keep(record["record_id"], record)
        return Reply(200)


def _auditors(record: dict[str, Any]) -> dict[str, Any]:
    """As its database gives it back.  Raises: ValueError, KeyError, TypeError for what is no record."""
    names = [record["record_id"], *record["meta"], *(value for values in record["meta"].values() for value in values)]
    names += [component["name"] for component in record["components"]]
    if not all(isinstance(name, str) and name.strip() and len(name) <= 256 for name in names):
        raise ValueError("Invalid Name")
    if not all(type(component["amount"]) is int and component["amount"] >= 0 for component in record["components"]):
        raise ValueError("Invalid Amount")
    start, stop = (dt.datetime.fromisoformat(record[name]) for name in ("start_time", "stop_time"))
    told = {name: record[name] for name in ("record_id", "meta", "components", "start_time", "stop_time")}
    return told | {"runtime": int((stop - start).total_seconds())}


class RusReceiver(HttpReceiver):
    """A RUS; of `machines` it takes no records, `counts` is whether it tells how many it took."""

    path = "/rus/services/ResourceUsageService"

    def __init__(self, authority: Authority, **more: Any) -> None:
        super().__init__(authority, **more)
        self.denied_machines: set[str] = set()
        self.counts = True

    def handled(self, request: Request) -> Reply:
        if request.path != self.path:
            return Reply(404, b"no such service")
        try:
            operation = self._operation(request)
        except (ValueError, etree.XMLSyntaxError) as error:
            return soap(500, f"<s:Fault><faultcode>s:Client</faultcode><faultstring>{error}</faultstring></s:Fault>")
        counters: Counter[str] = Counter()
        for one in operation:
            counters[self._outcome(one)] += 1
        order = ("Processed", "PermissionDenied", "NonExistent", "Invalid", "Duplicate")
        told = "".join(f"<ns3:{name}>{counters[name]}</ns3:{name}>" for name in order if self.counts and counters[name])
        status = "true" if counters["Processed"] else "false"
        return soap(
            200, f"<ns3:OperationResult xmlns:ns3='urn:of-its-own'><ns3:Status>{status}</ns3:Status>{told}</ns3:OperationResult>"
        )

    def _operation(self, request: Request) -> Any:
        if "soapaction" not in request.headers or not request.headers["content-type"].startswith("text/xml"):
            raise ValueError("no SOAP 1.1")
        root = etree.fromstring(request.body)
        if root.tag != "{http://schemas.xmlsoap.org/soap/envelope/}Envelope" or len(root) != 1 or len(root[0]) != 1:
            raise ValueError("no envelope with a body of one operation")
        operation = root[0][0]
        if operation.tag != "{http://www.gridforum.org/2005/rus-wg/types}insertUsageRecords":
            raise ValueError(f"no such operation: {operation.tag}")
        if len(operation) != 1 or operation[0].tag != f"{{{URWG}}}UsageRecords":
            raise ValueError("no usage records")
        return operation[0]

    def _outcome(self, element: Any) -> str:
        document = b"<u:UsageRecords xmlns:u='%s'>%s</u:UsageRecords>" % (URWG.encode(), etree.tostring(element))
        if not is_valid(document, URWG):
            return "Invalid"
        (record,) = read_records(document, URWG)
        if record["MachineName"] in self.denied_machines:
            return "PermissionDenied"
        record_id = str(record["RecordIdentity recordId"])
        if record_id in self.stored:
            return "Duplicate"
        self.keep(record_id, record)
        return "Processed"


def soap(status: int, inner: str) -> Reply:
    text = f"<?xml version='1.0'?><s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>{inner}</s:Body></s:Envelope>"
    return Reply(status, text.encode(), {"Content-Type": "text/xml"})


class AmsReceiver(HttpReceiver):
    """ARGO Messaging with one topic, and what gives tokens for certificates; it stores a message as often as it is published."""

    demands_certificate = False
    topic = "/v1/projects/accounting/topics/gLite-APEL"
    most_bytes = 1_000_000

    def __init__(self, authority: Authority, **more: Any) -> None:
        super().__init__(authority, **more)
        self.tokens = {"s3cr3t"}
        self.token_of: dict[str, str] = {}
        self.published: list[tuple[str, bytes]] = []

    def handled(self, request: Request) -> Reply:
        if request.path == "/v1/service-types/ams/hosts/127.0.0.1:authx509":
            token = self.token_of.get(request.subject or "")
            return _json(200, {"token": token}) if token else _ams_error(404, "Binding was not found")
        if request.headers.get("x-api-key") not in self.tokens:
            return _ams_error(401, "Unauthorized")
        if request.method != "POST" or request.path != f"{self.topic}:publish":
            return _ams_error(404, "Topic doesn't exist")
        try:
            messages = json.loads(request.body)["messages"]
            read = [(one["attributes"]["empaid"], base64.b64decode(one["data"], validate=True)) for one in messages]
        except (ValueError, KeyError, TypeError):
            return _ams_error(400, "Invalid Message Arguments")
        if any(len(json.dumps(one)) > self.most_bytes for one in messages):
            return _ams_error(413, "Message size is too large")
        first = len(self.published)
        self.published += read
        for name, data in read:
            self.keep(name, data)
        return _json(200, {"messageIds": [str(first + n) for n in range(len(read))]})


def _json(status: int, told: object) -> Reply:
    return Reply(status, json.dumps(told).encode(), {"Content-Type": "application/json; charset=utf-8"})


def _ams_error(status: int, message: str) -> Reply:
    return _json(status, {"error": {"code": status, "message": message, "status": message.upper().replace(" ", "_")}})


def without(key_number: int) -> Callable[[Reply], Reply]:
    """The reply with one key of its JSON object left out."""

    def changed(reply: Reply) -> Reply:
        told = json.loads(reply.body)
        del told[sorted(told)[key_number]]
        return replace(reply, body=json.dumps(told).encode())

    return changed


@contextmanager
def running(made: HttpReceiver) -> Iterator[HttpReceiver]:
    """Closed at the end; an error of its own fails the test."""
    try:
        yield made
    finally:
        made.close()
    assert not made.broken, made.broken
