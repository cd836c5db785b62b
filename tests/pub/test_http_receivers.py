"""SGAS, RUS and AUDITOR, each against a receiver written from its source: what is stored, whatever happens on the way.

`BATCHACCT_FAULTS=300` makes so many random runs of faults for each of them.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from pydantic import ValidationError
from sqlalchemy import select

from batchacct.brokers import pipeline
from batchacct.config import Section
from batchacct.errors import ConfigError, IncompleteError, PublishError
from batchacct.store import Store
from batchacct.store.tables import message as message_table
from batchacct.tls import Tls, TlsFiles
from pub.command import publish_once
from pub.formats.auditor import AUDITOR
from pub.formats.car import CAR_12
from pub.formats.contract import USAGE_RECORD, Format
from pub.formats.usage_record_xml import UR_10, URWG_11
from pub.transports import http
from pub.transports.auditor import Auditor, AuditorOptions
from pub.transports.contract import Message, Receipt, Refusal, Transport
from pub.transports.http import Answer
from pub.transports.rus import Rus, RusOptions
from pub.transports.sgas import Sgas, SgasOptions
from tests.pub.site import Site, a_job
from tests.pub.test_formats_xml import JOB
from tests.servers import free_port
from tests.services.certificates import Authority, Issued
from tests.services.http_receivers import (
    AuditorReceiver,
    CarReceiver,
    Fault,
    HttpReceiver,
    Reply,
    RusReceiver,
    SgasReceiver,
    soap,
    without,
)

FAULTS = int(os.environ.get("BATCHACCT_FAULTS", "3"))
NOW = 1_800_000_000
RETRY_FOR_S = 20
SILENCES: list[Fault] = ["hang before", "hang after", "trickle"]
Outcomes = list[Receipt | Refusal]


@dataclass(frozen=True)
class Kind:
    """A receiver, what sends to it, and in which format."""

    receiver: Callable[[Authority], HttpReceiver]
    transport: Callable[[Any], Transport]
    options: type[Section]
    format: Format
    path: str = ""


KINDS = {
    "sgas": Kind(SgasReceiver, Sgas, SgasOptions, UR_10, SgasReceiver.path),
    "sgas, car": Kind(CarReceiver, Sgas, SgasOptions, CAR_12, CarReceiver.path),
    "rus": Kind(RusReceiver, Rus, RusOptions, URWG_11, RusReceiver.path),
    "auditor": Kind(AuditorReceiver, Auditor, AuditorOptions, AUDITOR),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    return authority.issue("publisher")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(http, "GREETING_S", 0.3)


def started(made: HttpReceiver) -> Iterator[Any]:
    """Closed at the end; an error of its own fails the test."""
    yield made
    made.close()
    assert not made.broken, made.broken


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def receiver(kind: Kind, authority: Authority) -> Iterator[HttpReceiver]:
    """Of each kind in turn."""
    yield from started(kind.receiver(authority))


@pytest.fixture
def sgas(authority: Authority) -> Iterator[SgasReceiver]:
    yield from started(SgasReceiver(authority))


@pytest.fixture
def rus(authority: Authority) -> Iterator[RusReceiver]:
    yield from started(RusReceiver(authority))


@pytest.fixture
def auditor(authority: Authority) -> Iterator[AuditorReceiver]:
    yield from started(AuditorReceiver(authority))


@pytest.fixture
def tls(authority: Authority, own: Issued) -> dict[str, Any]:
    return {"ca": authority.ca, "certificate": own.certificate, "key": own.key}


def sender(kind: Kind, port: int, tls: dict[str, Any], **others: Any) -> Transport:
    values = {"url": f"https://127.0.0.1:{port}{kind.path}", "tls": tls, "timeout": 10, "retry_for": RETRY_FOR_S}
    return kind.transport(kind.options.model_validate(values | others))


def one(kind: Kind, number: int, records: int = 3, **columns: object) -> Message:
    """A message of jobs whose ids begin with its number."""
    rows = [JOB | {"job_id": n, "local_job_id": f"{number}-{n}"} | columns for n in range(1, records + 1)]
    rendered = kind.format.render(USAGE_RECORD.batch(rows), NOW)
    assert rendered.reasons.null_count == records, rendered.reasons
    return Message(number, NOW + number, kind.format.message(rendered.records))


def some(kind: Kind, count: int = 5) -> list[Message]:
    return [one(kind, number) for number in range(1, count + 1)]


def sent(transport: Transport, messages: list[Message]) -> Outcomes:
    try:
        return list(transport.send(messages))
    finally:
        transport.close()


def receipted(outcomes: Outcomes) -> list[int]:
    return [outcome.message_id for outcome in outcomes if isinstance(outcome, Receipt)]


def refused(outcomes: Outcomes) -> dict[int, str]:
    return {outcome.message_id: outcome.reason for outcome in outcomes if isinstance(outcome, Refusal)}


def failure(transport: Transport, messages: list[Message], outcomes: Outcomes | None = None) -> str:
    """What is said when nothing goes any more; it comes before everything was tried for as long as it may."""
    got: Outcomes = [] if outcomes is None else outcomes
    with pytest.raises(PublishError) as raised:
        got += transport.send(messages)
    transport.close()
    return raised.value.message


def keys(kind: Kind, messages: list[Message]) -> set[str]:
    """The ids of their records, read without what writes them."""
    if kind.format is AUDITOR:
        return {record["record_id"] for message in messages for record in json.loads(message.payload)}
    return {
        str(value) for message in messages for value in etree.fromstring(message.payload).xpath("//@*[local-name() = 'recordId']")
    }


def assert_each_stored(kind: Kind, receiver: HttpReceiver, messages: list[Message]) -> None:
    """All records of the messages, and no others; none is there twice, as it is kept by key."""
    assert set(receiver.stored) == keys(kind, messages)
    if kind.format in (AUDITOR, URWG_11):
        assert set(receiver.insertions.values()) <= {1}, "it adds, and does not replace"


class TestAll:
    """What holds for each of them."""

    def test_messages_arrive_as_they_are(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        messages = some(kind)
        outcomes = sent(sender(kind, receiver.port, tls), messages)
        assert receipted(outcomes) == [1, 2, 3, 4, 5]
        assert_each_stored(kind, receiver, messages)
        assert set(receiver.insertions.values()) == {1}
        assert {request.subject for request in receiver.requests} == {"publisher"}
        assert len(receiver.requests) == 5
        if kind.format is not URWG_11:
            assert [request.body for request in receiver.requests] == [message.payload for message in messages]
        assert isinstance(outcomes[0], Receipt)
        assert outcomes[0].receipt.startswith(f"https://127.0.0.1:{receiver.port}{kind.path} 3 records")

    @pytest.mark.parametrize(
        "fault",
        ["cut before", "cut after", "hang before", "hang after", "half an answer", "trickle", Reply(500), Reply(502), Reply(503)],
        ids=str,
    )
    def test_after_a_fault_each_record_is_there_once(
        self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any], fault: Fault
    ) -> None:
        messages = some(kind, 3)
        receiver.faults = [None, fault]
        outcomes = sent(sender(kind, receiver.port, tls, timeout=1 if fault in SILENCES else 10), messages)
        assert sorted(receipted(outcomes)) == [1, 2, 3]
        assert_each_stored(kind, receiver, messages)

    def test_many_faults(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        """At random, in and between runs: in the end all are receipted, and there once."""
        faults: list[Fault] = ["cut before", "cut after", "half an answer", Reply(500), Reply(503)]
        for number in range(FAULTS):
            chances = random.Random(number)
            messages = [one(kind, 100 * number + n) for n in range(1, 9)]
            receiver.stored.clear()
            receiver.insertions.clear()
            receiver.faults = [chances.choice([*faults, None, None, None]) for _ in range(chances.randrange(1, 9))]
            waiting, runs = messages, 0
            while waiting:
                transport = sender(kind, receiver.port, tls, retry_for=chances.choice([0, 2, RETRY_FOR_S]))
                outcomes: Outcomes = []
                try:
                    outcomes += transport.send(waiting)
                except PublishError:
                    runs += 1
                transport.close()
                waiting = [message for message in waiting if message.id not in receipted(outcomes)]
                assert runs <= 9
            assert_each_stored(kind, receiver, messages)

    def test_what_it_had_before_is_no_failure(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        """We were killed after it was stored, and before we knew."""
        messages = some(kind, 3)
        sent(sender(kind, receiver.port, tls), messages[:2])
        assert receipted(sent(sender(kind, receiver.port, tls), messages)) == [1, 2, 3]
        assert_each_stored(kind, receiver, messages)

    @pytest.mark.parametrize("fault", SILENCES)
    def test_the_deadline_is_kept(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any], fault: Fault) -> None:
        receiver.faults = [None]
        receiver.always = fault
        outcomes: Outcomes = []
        began = time.monotonic()
        told = failure(sender(kind, receiver.port, tls, timeout=1, retry_for=0), some(kind, 3), outcomes)
        assert time.monotonic() - began < 30
        assert told.endswith("no answer within 1 s")
        assert receipted(outcomes) == [1]

    def test_a_receiver_in_trouble_refuses_nothing(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        """500 to all: it is not the messages."""
        receiver.always = Reply(500, b"<html><body>out of\n<b>order</b></body></html>")
        outcomes: Outcomes = []
        told = failure(sender(kind, receiver.port, tls), some(kind, 9), outcomes)
        assert told == f"https://127.0.0.1:{receiver.port}{kind.path}: answered 500: out of order"
        assert outcomes == []
        assert len(receiver.requests) < 30

    def test_one_message_that_fails_alone_is_refused_with_the_reason(
        self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]
    ) -> None:
        messages = some(kind, 4)
        receiver.faults = [None, *[Reply(500, b"no such thing")] * 4]
        outcomes = sent(sender(kind, receiver.port, tls), messages)
        assert refused(outcomes) == {2: f"https://127.0.0.1:{receiver.port}{kind.path}: answered 500: no such thing"}
        assert sorted(receipted(outcomes)) == [1, 3, 4]
        assert_each_stored(kind, receiver, [messages[0], *messages[2:]])

    def test_an_outage_is_no_messages_fault(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        """However often one message meets it."""
        receiver.faults = [None, *[Reply(503, b"Database currently unavailable")] * 9]
        assert receipted(sent(sender(kind, receiver.port, tls), some(kind, 3))) == [1, 2, 3]

    def test_the_last_that_fails_is_not_refused(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        receiver.faults = [None]
        receiver.always = Reply(500, b"no such thing")
        outcomes: Outcomes = []
        told = failure(sender(kind, receiver.port, tls), some(kind, 2), outcomes)
        assert "no such thing (message 2, and nothing was taken after it)" in told
        assert receipted(outcomes) == [1]

    def test_too_large(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        """Each is refused by itself, and told what to set; the receiver's own limit counts, too."""
        messages = [one(kind, 1), one(kind, 2, 40), one(kind, 3), one(kind, 4)]
        receiver.faults = [None, Reply(413, b"too much")]
        outcomes = sent(sender(kind, receiver.port, tls, max_bytes=20_000), messages)
        assert receipted(outcomes) == [1, 4]
        reasons = refused(outcomes)
        assert reasons[2].endswith("bytes are more than max_bytes, 20000: lower bunch")
        assert f"answered 413: too much. Its {len(messages[2].payload)} bytes are too many there: lower bunch" in reasons[3]
        assert_each_stored(kind, receiver, [messages[0], messages[3]])

    @pytest.mark.parametrize(
        ("reply", "told"),
        [
            (Reply(401), "answered 401: (nothing). Is our certificate, or token, the right one?"),
            (Reply(403, b"no rights"), "answered 403: no rights. Has our certificate, or token, the right to write there?"),
            (Reply(404), "answered 404: (nothing). Is the address right?"),
            (Reply(302, b"", {"Location": "https://other/"}), "answered 302, go to https://other/: set the address that is meant"),
        ],
    )
    def test_what_will_not_get_better_ends_the_run(
        self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any], reply: Reply, told: str
    ) -> None:
        receiver.always = reply
        assert failure(sender(kind, receiver.port, tls), some(kind)) == f"https://127.0.0.1:{receiver.port}{kind.path}: {told}"
        assert len(receiver.requests) == 1

    def test_a_page_for_people_is_no_receipt(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        receiver.always = Reply(200, b"<html><body>Please log in</body></html>")
        assert "Please log in" in failure(sender(kind, receiver.port, tls), some(kind))

    def test_another_format(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        """What was built before the format was changed stays behind, and blocks nothing."""
        bad = [Message(1, NOW, b"APEL-individual-job-message: v0.3\n"), Message(2, NOW, b""), Message(3, NOW, b"<a/>"),
               Message(4, NOW, b"[]"), Message(5, NOW, b"[1]"), Message(6, NOW, b'{"a": 1}')]  # fmt: skip
        outcomes = sent(sender(kind, receiver.port, tls), [*bad, one(kind, 7)])
        assert receipted(outcomes) == [7]
        assert len(refused(outcomes)) == 6
        assert all("this transport is for the format" in reason for reason in refused(outcomes).values())

    def test_nothing_to_send_connects_to_nobody(self, kind: Kind, tls: dict[str, Any]) -> None:
        assert sent(sender(kind, free_port(), tls), []) == []

    def test_it_comes_back_while_we_try(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        receiver.faults = ["cut before", Reply(503), "cut after", Reply(429)]
        assert sorted(receipted(sent(sender(kind, receiver.port, tls), some(kind, 2)))) == [1, 2]

    def test_one_connection_is_used_again(self, kind: Kind, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        transport = sender(kind, receiver.port, tls)
        assert receipted(list(transport.send(some(kind, 3)))) == [1, 2, 3]
        assert receipted(list(transport.send([one(kind, 4)]))) == [4]
        assert len(receiver.open) == 1
        transport.close()
        transport.close()
        assert receipted(sent(transport, [one(kind, 5)])) == [5]
        assert len(receiver.open) == 2


class TestConnecting:
    """Each says what is wrong, and does not try again what cannot get better."""

    kind = KINDS["sgas"]

    def failure(self, port: int, tls: dict[str, Any], **others: Any) -> str:
        began = time.monotonic()
        told = failure(sender(self.kind, port, tls, **others), some(self.kind, 2))
        assert time.monotonic() - began < RETRY_FOR_S
        return told

    def test_nobody_is_there(self, tls: dict[str, Any]) -> None:
        port = free_port()
        told = self.failure(port, tls, retry_for=1)
        assert told == f"https://127.0.0.1:{port}/sgas/ur: cannot be reached: Connection refused"

    def test_an_expired_certificate(self, sgas: SgasReceiver, authority: Authority) -> None:
        own = authority.issue("expired", days=-2)
        told = self.failure(sgas.port, {"ca": authority.ca, "certificate": own.certificate, "key": own.key})
        assert "expired" in told
        assert "Is our certificate valid, and is its CA known there?" in told
        assert sgas.requests == []

    def test_a_certificate_of_another_ca(self, sgas: SgasReceiver, authority: Authority, tmp_path: Path) -> None:
        own = Authority(tmp_path / "other", "Other CA").issue("publisher")
        told = self.failure(sgas.port, {"ca": authority.ca, "certificate": own.certificate, "key": own.key})
        assert "TLS failed" in told
        assert "Is our certificate valid, and is its CA known there?" in told

    def test_a_receiver_that_closes_before_its_word_is_read(
        self, sgas: SgasReceiver, authority: Authority, tls: dict[str, Any]
    ) -> None:
        """It is asked once more, what it has against our certificate; if nothing, then it was the connection."""
        url, reset = f"https://127.0.0.1:{sgas.port}/sgas/ur", ConnectionResetError(104, "Connection reset by peer")
        expired = authority.issue("expired", days=-2)
        own = TlsFiles(Tls(ca=authority.ca, certificate=expired.certificate, key=expired.key))
        told = http.failed(url, reset, own, 10)
        assert told.for_good
        assert "expired" in told.why
        told = http.failed(url, reset, TlsFiles(Tls.model_validate(tls)), 10)
        assert (told.why, told.for_good) == (f"{url}: the connection failed: Connection reset by peer", False)

    def test_no_certificate(self, sgas: SgasReceiver, authority: Authority) -> None:
        assert "TLS failed" in self.failure(sgas.port, {"ca": authority.ca})

    @pytest.mark.parametrize("given", [True, False])
    def test_a_receiver_whose_certificate_is_not_trusted(
        self, sgas: SgasReceiver, tls: dict[str, Any], authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *,
        given: bool,
    ) -> None:  # fmt: skip
        """Also where no CA is given: then it is one of the system's, or nothing, whatever the environment says."""
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca))
        ca = {"ca": Authority(tmp_path / "other", "Other CA").ca} if given else {"ca": None}
        assert "its certificate is not accepted" in self.failure(sgas.port, tls | ca)
        assert sgas.requests == []

    def test_a_receiver_of_another_name(self, sgas: SgasReceiver, tls: dict[str, Any]) -> None:
        told = self.failure(sgas.port, tls, url=f"https://localhost:{sgas.port}/sgas/ur")
        assert "its certificate is not accepted" in told
        assert sgas.requests == []

    def test_a_receivers_expired_certificate(
        self, authority: Authority, tls: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        issue = authority.issue
        monkeypatch.setattr(authority, "issue", lambda name, **more: issue(name, days=-2, **more))
        for found in started(SgasReceiver(authority)):
            assert "its certificate is not accepted: certificate has expired" in self.failure(found.port, tls)

    def test_a_port_without_tls(self, authority: Authority, tls: dict[str, Any]) -> None:
        for plain in started(SgasReceiver(authority, secure=False)):
            assert "it speaks no TLS there" in self.failure(plain.port, tls)

    def test_without_tls_on_this_host_alone(self, authority: Authority) -> None:
        for plain in started(SgasReceiver(authority, secure=False)):
            transport = sender(self.kind, plain.port, {}, url=f"http://127.0.0.1:{plain.port}/sgas/ur")
            assert receipted(sent(transport, some(self.kind, 2))) == [1, 2]

    def test_ca_certificates_in_a_folder(
        self, sgas: SgasReceiver, tls: dict[str, Any], authority: Authority, tmp_path: Path
    ) -> None:
        (tmp_path / "ca").mkdir()
        (tmp_path / "ca/0a1b2c3d.0").write_bytes(authority.ca.read_bytes())
        assert receipted(sent(sender(self.kind, sgas.port, tls | {"ca": tmp_path / "ca"}), some(self.kind, 1))) == [1]

    def test_proxies_of_the_environment(self, sgas: SgasReceiver, tls: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """They are asked, but for this host's own addresses."""
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
        assert receipted(sent(sender(self.kind, sgas.port, tls), some(self.kind, 1))) == [1]
        told = self.failure(1, tls, url="https://receiver.example.org/sgas/ur", retry_for=0)
        assert told.endswith("the proxy of the environment (HTTPS_PROXY) failed: Connection refused")


class TestSgas:
    kind = KINDS["sgas"]

    def test_an_answer_that_leaves_one_out_is_no_receipt(self, sgas: SgasReceiver, tls: dict[str, Any]) -> None:
        messages = some(self.kind, 3)
        sgas.faults = [None, without(0), without(2)]
        assert sorted(receipted(sent(sender(self.kind, sgas.port, tls), messages))) == [1, 2, 3]
        assert len(sgas.requests) == 5
        assert_each_stored(self.kind, sgas, messages)

    def test_one_that_always_leaves_one_out(self, sgas: SgasReceiver, tls: dict[str, Any]) -> None:
        messages = some(self.kind, 2)
        sgas.faults = [without(1)] * 4
        outcomes = sent(sender(self.kind, sgas.port, tls), messages)
        (missing,) = (record_id for record_id in keys(self.kind, messages[:1]) if ":1-2:" in record_id)
        assert f"answered 200 without 1 of 3 recordIds, first {missing}" in refused(outcomes)[1]

    def test_a_machine_that_is_not_ours_is_set_aside(self, sgas: SgasReceiver, tls: dict[str, Any]) -> None:
        sgas.machines = {"lsf-master.example.org"}
        messages = [one(self.kind, 1), one(self.kind, 2, machine_name="other.example.org"), one(self.kind, 3)]
        outcomes = sent(sender(self.kind, sgas.port, tls), messages)
        assert sorted(receipted(outcomes)) == [1, 3]
        assert "answered 406: Subject publisher is not allowed to perform insertion for machines: other" in refused(outcomes)[2]

    def test_a_faulty_record_costs_its_message_alone(self, sgas: SgasReceiver, tls: dict[str, Any]) -> None:
        """As we refuse such a record ourselves, it has to be made."""
        messages = some(self.kind, 3)
        faulty = messages[1].payload.replace(b"<urf:MachineName>lsf-master.example.org</urf:MachineName>", b"", 1)
        outcomes = sent(sender(self.kind, sgas.port, tls), [messages[0], Message(2, NOW, faulty), messages[2]])
        assert sorted(receipted(outcomes)) == [1, 3]
        assert "answered 500" in refused(outcomes)[2]
        assert_each_stored(self.kind, sgas, [messages[0], messages[2]])

    def test_no_insert_rights(self, sgas: SgasReceiver, tls: dict[str, Any]) -> None:
        sgas.forbidden = {"publisher"}
        told = failure(sender(self.kind, sgas.port, tls), some(self.kind))
        assert "Rejecting job usage insert for publisher. No insert rights." in told

    def test_a_record_that_is_corrected_is_replaced(self, sgas: SgasReceiver, tls: dict[str, Any]) -> None:
        sent(sender(self.kind, sgas.port, tls), [one(self.kind, 1), Message(2, NOW, one(self.kind, 1, vo="cms").payload)])
        assert {record["ProjectName"] for record in sgas.stored.values()} == {"cms"}
        assert len(sgas.stored) == 3


class TestRus:
    kind = KINDS["rus"]

    def test_the_envelope(self, rus: RusReceiver, tls: dict[str, Any]) -> None:
        message = one(self.kind, 1)
        sent(sender(self.kind, rus.port, tls), [message])
        (request,) = rus.requests
        assert request.headers["soapaction"] == '""'
        assert request.headers["content-type"] == "text/xml; charset=utf-8"
        assert request.body.count(b"<?xml") == 1
        inner = etree.fromstring(request.body)[0][0][0]
        given = etree.fromstring(message.payload)
        assert etree.tostring(inner, method="c14n", exclusive=True) == etree.tostring(given, method="c14n", exclusive=True)

    def test_names_are_options(self, rus: RusReceiver, tls: dict[str, Any]) -> None:
        options = {"namespace": "urn:a", "operation": "Insert", "soap_action": "urn:a/Insert"}
        outcomes: Outcomes = []
        told = failure(sender(self.kind, rus.port, tls, **options), some(self.kind, 2), outcomes)
        assert "answered 500 with a fault: s:Client no such operation: {urn:a}Insert" in told
        assert rus.requests[0].headers["soapaction"] == '"urn:a/Insert"'

    @pytest.mark.parametrize("counts", [True, False])
    def test_with_and_without_counters(self, rus: RusReceiver, tls: dict[str, Any], counts: bool) -> None:
        rus.counts = counts
        (outcome,) = sent(sender(self.kind, rus.port, tls), [one(self.kind, 1)])
        assert isinstance(outcome, Receipt)
        assert outcome.receipt.endswith("3 records, Processed 3" if counts else "3 records, no counters")

    def test_records_that_are_invalid(self, rus: RusReceiver, tls: dict[str, Any]) -> None:
        """The others are there; the message is refused with the counts."""
        messages = some(self.kind, 3)
        faulty = messages[1].payload.replace(b"<urf:Processors>1</urf:Processors>", b"<urf:Processors>0</urf:Processors>", 1)
        outcomes = sent(sender(self.kind, rus.port, tls), [messages[0], Message(2, NOW, faulty), messages[2]])
        assert receipted(outcomes) == [1, 3]
        assert (
            "of 3 records Processed 2, Invalid 1; those that are not Processed or Duplicate are not there" in refused(outcomes)[2]
        )
        assert len(rus.requests) == 3
        assert len(rus.stored) == 8

    def test_all_denied_ends_the_run(self, rus: RusReceiver, tls: dict[str, Any]) -> None:
        rus.denied_machines = {"lsf-master.example.org"}
        told = failure(sender(self.kind, rus.port, tls), some(self.kind))
        assert "PermissionDenied 3. May our certificate insert records there?" in told
        assert len(rus.requests) == 1

    def test_some_denied(self, rus: RusReceiver, tls: dict[str, Any]) -> None:
        rus.denied_machines = {"other.example.org"}
        message = one(self.kind, 1)
        payload = message.payload.replace(b"lsf-master.example.org</urf:MachineName>", b"other.example.org</urf:MachineName>", 1)
        outcomes = sent(sender(self.kind, rus.port, tls), [Message(1, NOW, payload)])
        assert "of 3 records Processed 2, PermissionDenied 1" in refused(outcomes)[1]

    def test_duplicates_are_told(self, rus: RusReceiver, tls: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
        rus.faults = ["cut after"]
        (outcome,) = sent(sender(self.kind, rus.port, tls), [one(self.kind, 1)])
        assert isinstance(outcome, Receipt)
        assert outcome.receipt.endswith("3 records, Duplicate 3")
        assert "message=1: records it had already, and keeps as they were: 3" in caplog.text

    @pytest.mark.parametrize(
        ("inner", "told"),
        [
            ("<r:OperationResult xmlns:r='r'><r:Status>false</r:Status></r:OperationResult>", "Status false, no counters"),
            (
                "<r:OperationResult xmlns:r='r'><r:Status>true</r:Status><r:Processed>2</r:Processed></r:OperationResult>",
                "Status true, Processed 2, for 3 records",
            ),
        ],
    )
    def test_answers_that_say_too_little(self, rus: RusReceiver, tls: dict[str, Any], inner: str, told: str) -> None:
        rus.always = soap(200, inner)
        assert told in failure(sender(self.kind, rus.port, tls), some(self.kind))

    def test_no_result_and_no_fault_is_success(self, rus: RusReceiver, tls: dict[str, Any]) -> None:
        rus.always = soap(200, "<insertUsageRecordsResponse/>")
        assert receipted(sent(sender(self.kind, rus.port, tls), some(self.kind))) == [1, 2, 3, 4, 5]


class TestAuditor:
    kind = KINDS["auditor"]

    @pytest.mark.parametrize("ignores", [False, True])
    def test_known_records_are_looked_at(self, auditor: AuditorReceiver, tls: dict[str, Any], ignores: bool) -> None:
        """Of the message some are there, others not: one duplicate rolls back all, so they go one by one."""
        auditor.ignores_known = ignores
        sent(sender(self.kind, auditor.port, tls), [one(self.kind, 1, 2)])
        (outcome,) = sent(sender(self.kind, auditor.port, tls), [one(self.kind, 1, 5)])
        assert isinstance(outcome, Receipt)
        assert outcome.receipt.endswith("5 records, 2 of them there before")
        assert_each_stored(self.kind, auditor, [one(self.kind, 1, 5)])
        asked = [request.path for request in auditor.requests if request.method == "GET"]
        assert asked == [f"/record/EXAMPLE-SITE%3A1-{n}%3A1700003600" for n in (1, 2)]

    def test_one_that_is_there_with_other_values(self, auditor: AuditorReceiver, tls: dict[str, Any]) -> None:
        """A correction, which AUDITOR cannot take: never told as there, and the others of the message are."""
        sent(sender(self.kind, auditor.port, tls), [one(self.kind, 1, 1, vo="cms")])
        outcomes = sent(sender(self.kind, auditor.port, tls), [one(self.kind, 1, 3), one(self.kind, 2)])
        assert receipted(outcomes) == [2]
        assert (
            "of 3 records it has 1 with other values, first EXAMPLE-SITE:1-1:1700003600, and replaces nothing"
            in refused(outcomes)[1]
        )
        assert len(auditor.stored) == 6
        assert auditor.stored["EXAMPLE-SITE:1-1:1700003600"]["meta"]["group_id"] == ["cms"]

    @pytest.mark.parametrize(
        "change", [{"cpu_duration_s": 1}, {"start_at": 1_700_000_001}, {"service_level": 11.0}, {"fqan": None}]
    )
    def test_whatever_differs(self, auditor: AuditorReceiver, tls: dict[str, Any], change: dict[str, object]) -> None:
        sent(sender(self.kind, auditor.port, tls), [one(self.kind, 1, 1, **change)])
        assert "with other values" in refused(sent(sender(self.kind, auditor.port, tls), [one(self.kind, 1, 1)]))[1]

    def test_where_we_may_not_look(self, auditor: AuditorReceiver, tls: dict[str, Any]) -> None:
        auditor.forbidden = {"GET /record/"}
        sent(sender(self.kind, auditor.port, tls), [one(self.kind, 1, 1)])
        outcomes = sent(sender(self.kind, auditor.port, tls), [one(self.kind, 1, 3), one(self.kind, 2)])
        assert receipted(outcomes) == [2]
        assert "our certificate may not read it, to see if it is the same: let it GET /record/*" in refused(outcomes)[1]

    def test_faults_while_they_go_one_by_one(self, auditor: AuditorReceiver, tls: dict[str, Any]) -> None:
        sent(sender(self.kind, auditor.port, tls), [one(self.kind, 1, 2)])
        auditor.faults = [None, None, None, "cut after", None, None, None, None, None, "cut after", None, Reply(503)]
        assert receipted(sent(sender(self.kind, auditor.port, tls), [one(self.kind, 1, 5)])) == [1]
        assert_each_stored(self.kind, auditor, [one(self.kind, 1, 5)])

    def test_names_that_need_to_be_written_otherwise_in_an_address(self, auditor: AuditorReceiver, tls: dict[str, Any]) -> None:
        message = one(self.kind, 1, 1, local_job_id="a/b c?d%2F#é")
        for _ in range(2):
            assert receipted(sent(sender(self.kind, auditor.port, tls), [message])) == [1]
        assert_each_stored(self.kind, auditor, [message])

    def test_a_record_it_cannot_read(self, auditor: AuditorReceiver, tls: dict[str, Any]) -> None:
        bad = Message(1, NOW, one(self.kind, 1).payload.replace(b'"site_id":["EXAMPLE-SITE"]', b'"site_id":[" "]', 1))
        outcomes = sent(sender(self.kind, auditor.port, tls), [bad, one(self.kind, 2)])
        assert "answered 400: Json deserialize error: Invalid Name" in refused(outcomes)[1]


class TestOptions:
    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("sgas.example.org/sgas/ur", "is no address such as https://host:port/path"),
            ("ftp://sgas.example.org", "is no address"),
            ("https:///sgas/ur", "is no address"),
            ("https://sgas.example.org/ur?x=1", "is no address"),
            ("https://sgas.example.org:port/ur", "[Pp]ort"),
            ("https://me:secret@sgas.example.org/ur", "a login does not belong into an address"),
            ("http://sgas.example.org/ur", "https:// is needed"),
            ("http://192.0.2.1/ur", "https:// is needed"),
        ],
    )
    def test_addresses(self, url: str, told: str) -> None:
        for options in (SgasOptions, RusOptions, AuditorOptions):
            with pytest.raises(ValidationError, match=told):
                options.model_validate({"url": url})

    def test_files_that_cannot_be_used(self, tmp_path: Path) -> None:
        issued, other = (Authority(tmp_path / name).issue("sender") for name in ("one", "other"))
        pair = {"certificate": issued.certificate, "key": issued.key}
        for kind in KINDS.values():
            with pytest.raises(ConfigError, match="gives no CA certificates"):
                sender(kind, 1, {"ca": tmp_path / "none"})
            with pytest.raises(ConfigError, match="no certificate and its key"):
                sender(kind, 1, pair | {"key": other.key})
        issued.key.chmod(0o644)
        with pytest.raises(ConfigError, match="chmod o-r"):
            sender(KINDS["sgas"], 1, pair)

    def test_the_rest(self) -> None:
        wrong: list[tuple[type[Section], str, object]] = [
            (SgasOptions, "timeout", 0),
            (RusOptions, "operation", "a:b"),
            (RusOptions, "soap_action", 'a"b'),
            (AuditorOptions, "tls", {"certificate": "/x.pem"}),
        ]
        for options, key, value in wrong:
            with pytest.raises(ValidationError, match=key):
                options.model_validate({"url": "https://a.example.org/", key: value})


def test_an_answer_in_a_line() -> None:
    assert Answer(500, b"<html>\n<p class='x'>a &lt; b</p>\x00c\xff").words == "a &lt; b c\ufffd"
    assert len(Answer(500, b"x" * 900).words) == 500
    assert Answer(200, b"").words == "(nothing)"


class TestFromTheStore:
    """From joined jobs to the receiver, by the configuration."""

    def configure(self, site: Site, kind: Kind, name: str, receiver: HttpReceiver, tls: dict[str, Any]) -> None:
        options = {
            "url": f"https://127.0.0.1:{receiver.port}{kind.path}",
            "tls": {key: str(path) for key, path in tls.items()},
            "timeout": 10,
            "retry_for": RETRY_FOR_S,
        }
        site.configure(publish={"transport": name, "format": kind.format.name, "bunch": 2, "options": options})

    @pytest.mark.parametrize("name", ["sgas", "rus", "auditor"])
    def test_every_record_arrives_and_a_refusal_is_kept(
        self, lasting_sqlite: Store, authority: Authority, tls: dict[str, Any], name: str
    ) -> None:
        site, kind = Site(lasting_sqlite), KINDS[name]
        site.emptied()
        for receiver in started(kind.receiver(authority)):
            self.configure(site, kind, name, receiver, tls)
            site.jobs(*(a_job(n, queue="local") for n in range(1, 8)))
            receiver.faults = ["cut after", *[Reply(500, b"not this one")] * 4]
            with pytest.raises(IncompleteError, match="not this one"):
                publish_once(site.store, site.config, lambda: site.clock)
            with site.store.reading() as connection:
                found = connection.execute(select(message_table).order_by(message_table.c.id)).all()
            refusals = [row for row in found if row.refused_at is not None]
            assert [row.last_error is not None and "answered 500: not this one" in row.last_error for row in refusals] == [True]
            assert sum(row.confirmed_at is not None for row in found) == 3
            publish_once(site.store, site.config, lambda: site.clock, with_refused=True)
            assert len(receiver.stored) == 7
