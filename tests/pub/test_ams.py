"""ARGO Messaging by its own library, against a receiver written from the source of AMS: what is published, whatever happens."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from batchacct.brokers import pipeline
from batchacct.errors import ConfigError, PublishError
from batchacct.store import Store
from batchacct.store.tables import message as message_table
from pub.command import publish_once
from pub.transports import http
from pub.transports.ams import Ams, AmsOptions
from pub.transports.contract import Message, Receipt, Refusal
from tests.apel_reader import read_message
from tests.pub.site import Site, a_job
from tests.servers import free_port
from tests.services.certificates import Authority, Issued
from tests.services.http_receivers import AmsReceiver, Fault, Reply

NOW = 1_793_534_400
RETRY_FOR_S = 20
SILENCES: list[Fault] = ["hang before", "hang after", "trickle"]
Outcomes = list[Receipt | Refusal]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    return authority.issue("publisher", with_rsa=True)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(http, "GREETING_S", 0.3)


@pytest.fixture
def receiver(authority: Authority) -> Iterator[AmsReceiver]:
    made = AmsReceiver(authority)
    yield made
    made.close()
    assert not made.broken, made.broken


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("s3cr3t\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def options(receiver: AmsReceiver, authority: Authority, own: Issued, token_file: Path) -> dict[str, Any]:
    """With a token from a file."""
    return {
        "host": f"127.0.0.1:{receiver.port}",
        "topic": "gLite-APEL",
        "token_file": token_file,
        "sign": {"certificate": own.certificate, "key": own.key},
        "tls": {"ca": authority.ca},
        "timeout": 10,
        "retry_for": RETRY_FOR_S,
    }


@pytest.fixture
def by_certificate(receiver: AmsReceiver, options: dict[str, Any], authority: Authority, own: Issued) -> dict[str, Any]:
    """With the token that is given for our certificate."""
    receiver.token_of = {"publisher": "t0"}
    receiver.tokens = {"t0"}
    tls = {"ca": authority.ca, "certificate": own.certificate, "key": own.key}
    return options | {"token_file": None, "token_port": receiver.port, "tls": tls}


def ams(options: dict[str, Any], **others: Any) -> Ams:
    return Ams(AmsOptions.model_validate(options | others))


def some(count: int = 5) -> list[Message]:
    return [Message(n, NOW + n, f"signed {n}\n".encode() * 50) for n in range(1, count + 1)]


def receipted(outcomes: Outcomes) -> list[int]:
    return [outcome.message_id for outcome in outcomes if isinstance(outcome, Receipt)]


def refused(outcomes: Outcomes) -> dict[int, str]:
    return {outcome.message_id: outcome.reason for outcome in outcomes if isinstance(outcome, Refusal)}


def failure(transport: Ams, messages: list[Message], outcomes: Outcomes | None = None) -> str:
    got: Outcomes = [] if outcomes is None else outcomes
    began = time.monotonic()
    with pytest.raises(PublishError) as raised:
        got += transport.send(messages)
    assert time.monotonic() - began < RETRY_FOR_S
    return raised.value.message


def assert_each_published(receiver: AmsReceiver, messages: list[Message]) -> None:
    """At least once, and whenever it was, under the same id with the same bytes."""
    assert {(name, data) for name, data in receiver.published} == {(one.name, one.payload) for one in messages}


class TestPublishing:
    def test_messages_arrive_as_they_are(self, receiver: AmsReceiver, options: dict[str, Any]) -> None:
        messages = some()
        outcomes = list(ams(options).send(messages))
        assert receipted(outcomes) == [1, 2, 3, 4, 5]
        assert receiver.published == [(one.name, one.payload) for one in messages]
        where = f"https://127.0.0.1:{receiver.port}/v1/projects/accounting/topics/gLite-APEL"
        assert outcomes[2] == Receipt(3, f"{where} message 2")
        assert {request.headers["x-api-key"] for request in receiver.requests} == {"s3cr3t"}
        assert {request.path for request in receiver.requests} == {"/v1/projects/accounting/topics/gLite-APEL:publish"}

    @pytest.mark.parametrize(
        "fault",
        [
            "cut before",
            "cut after",
            "hang before",
            "hang after",
            "half an answer",
            "trickle",
            Reply(500, b'{"error": {"code": 500, "message": "Backend Error"}}'),
            Reply(408, b'{"error": {"code": 408, "message": "late"}}'),
            Reply(502),
            Reply(503, b"<html><body>No server is available</body></html>"),
            Reply(504, b"[]"),
            Reply(200, b"{}"),
            Reply(200, b"welcome"),
            Reply(400, b'{"error": {"code": 400, "message": "Invalid Message Arguments"}}'),
        ],
        ids=str,
    )
    def test_after_a_fault_each_is_there(self, receiver: AmsReceiver, options: dict[str, Any], fault: Fault) -> None:
        messages = some(3)
        receiver.faults = [None, fault]
        limit_s = 1 if fault in SILENCES else 10
        assert sorted(receipted(list(ams(options, timeout=limit_s).send(messages)))) == [1, 2, 3]
        assert_each_published(receiver, messages)

    @pytest.mark.parametrize("fault", SILENCES)
    def test_the_deadline_is_kept(self, receiver: AmsReceiver, options: dict[str, Any], fault: Fault) -> None:
        receiver.faults = [None]
        receiver.always = fault
        outcomes: Outcomes = []
        began = time.monotonic()
        assert failure(ams(options, timeout=1, retry_for=0), some(2), outcomes).endswith("no answer within 1 s")
        assert time.monotonic() - began < 30
        assert receipted(outcomes) == [1]

    def test_too_large(self, receiver: AmsReceiver, options: dict[str, Any]) -> None:
        """Counted as AMS counts, in base64; AMS's own word for it counts, too."""
        messages = [some(1)[0], *(Message(n, NOW, b"x" * size) for n, size in ((2, 675_001), (3, 675_000), (4, 760_000)))]
        outcomes = list(ams(options).send(messages[:3]))
        assert receipted(outcomes) == [1, 3]
        assert refused(outcomes) == {2: "900004 bytes are more than max_bytes, 900000: lower bunch"}
        outcomes = list(ams(options, max_bytes=2_000_000).send([messages[3], messages[0]]))
        assert receipted(outcomes) == [1]
        assert "answered 413:" in refused(outcomes)[4]
        assert "Its 760000 bytes are too many there: lower bunch" in refused(outcomes)[4]

    def test_what_is_no_text_is_not_even_sent(self, receiver: AmsReceiver, options: dict[str, Any]) -> None:
        outcomes = list(ams(options).send([Message(1, NOW, "Zoë".encode()), Message(2, NOW, b"")]))
        assert refused(outcomes) == {1: "byte 2 of the message, 0xc3, is not ASCII", 2: "the message is empty"}
        assert receiver.requests == []

    def test_one_that_is_never_taken_is_refused(self, receiver: AmsReceiver, options: dict[str, Any]) -> None:
        receiver.faults = [Reply(400, b'{"error": {"code": 400, "message": "Invalid"}}')] * 4
        outcomes = list(ams(options).send(some(2)))
        assert receipted(outcomes) == [2]
        assert 'answered 400: {"error": {"code": 400, "message": "Invalid"}}' in refused(outcomes)[1]

    @pytest.mark.parametrize(
        ("others", "told"),
        [
            ({"topic": "other"}, "answered 404"),
            ({"project": "other"}, "answered 404"),
        ],
    )
    def test_a_topic_that_is_not_there(
        self, receiver: AmsReceiver, options: dict[str, Any], others: dict[str, str], told: str
    ) -> None:
        assert told in failure(ams(options, **others), some())
        assert len(receiver.requests) == 1


class TestTokens:
    def test_a_token_for_our_certificate(self, receiver: AmsReceiver, by_certificate: dict[str, Any]) -> None:
        """Asked for once, when there is something to send."""
        transport = ams(by_certificate)
        assert receiver.requests == []
        assert receipted(list(transport.send(some(2)))) == [1, 2]
        assert receipted(list(transport.send(some(3)[2:]))) == [3]
        paths = [request.path for request in receiver.requests]
        assert paths == [
            "/v1/service-types/ams/hosts/127.0.0.1:authx509",
            *["/v1/projects/accounting/topics/gLite-APEL:publish"] * 3,
        ]

    @pytest.mark.parametrize("fault", ["hang before", "cut before", Reply(503), Reply(500, b"[]"), Reply(200, b"[]")], ids=str)
    def test_faults_when_it_is_asked_for(self, receiver: AmsReceiver, by_certificate: dict[str, Any], fault: Fault) -> None:
        receiver.faults = [fault]
        if fault == Reply(200, b"[]"):
            assert "gave no token for our certificate: 200: []" in failure(ams(by_certificate), some(2))
        else:
            limit_s = 1 if fault in SILENCES else 10
            assert receipted(list(ams(by_certificate, timeout=limit_s).send(some(2)))) == [1, 2]

    def test_it_is_never_answered(self, receiver: AmsReceiver, by_certificate: dict[str, Any]) -> None:
        """The library's own call for it has no deadline."""
        receiver.always = "hang before"
        began = time.monotonic()
        assert failure(ams(by_certificate, timeout=1, retry_for=0), some(2)).endswith(":authx509: no answer within 1 s")
        assert time.monotonic() - began < 30

    def test_one_that_is_not_registered(self, receiver: AmsReceiver, by_certificate: dict[str, Any]) -> None:
        receiver.token_of = {}
        told = failure(ams(by_certificate), some(2))
        assert "gave no token for our certificate: 404" in told
        assert told.endswith("Is its subject registered there?")
        assert len(receiver.requests) == 1

    def test_one_that_was_replaced_is_asked_for_once_more(self, receiver: AmsReceiver, by_certificate: dict[str, Any]) -> None:
        transport = ams(by_certificate)
        assert receipted(list(transport.send(some(1)))) == [1]
        receiver.tokens, receiver.token_of = {"t1"}, {"publisher": "t1"}
        assert receipted(list(transport.send(some(3)))) == [1, 2, 3]
        receiver.tokens = {"t2"}
        assert "answered 401" in failure(transport, some(4)[3:])
        paths = [request.path.rpartition(":")[2] for request in receiver.requests]
        assert paths == ["authx509", "publish", "publish", "authx509", "publish", "publish", "publish", "publish", "authx509"]

    def test_one_of_a_file_is_read_anew(self, receiver: AmsReceiver, options: dict[str, Any], token_file: Path) -> None:
        transport = ams(options)
        assert receipted(list(transport.send(some(1)))) == [1]
        receiver.tokens = {"new"}
        assert "answered 401" in failure(transport, some(2))
        assert len(receiver.requests) == 2
        token_file.write_text("new\n")
        assert receipted(list(transport.send(some(2)))) == [1, 2]

    def test_one_that_is_wrong(self, receiver: AmsReceiver, options: dict[str, Any], token_file: Path) -> None:
        token_file.write_text("wrong\n")
        told = failure(ams(options), some())
        assert told.endswith("Is our certificate, or token, the right one?")
        assert len(receiver.requests) == 1

    @pytest.mark.parametrize(("mode", "text", "told"), [(0o644, "s3cr3t", "chmod o-r"), (0o600, "", "no token in its first line"),
                                                         (0o600, "a\tb", "no token in its first line")])  # fmt: skip
    def test_files_that_cannot_be_used(self, options: dict[str, Any], token_file: Path, mode: int, text: str, told: str) -> None:
        token_file.write_text(text)
        token_file.chmod(mode)
        with pytest.raises(ConfigError, match=told):
            ams(options)


class TestConnecting:
    def test_nobody_is_there(self, options: dict[str, Any]) -> None:
        told = failure(ams(options, host=f"127.0.0.1:{free_port()}", retry_for=1), some())
        assert told.endswith("cannot be reached: Connection refused")

    def test_one_whose_certificate_is_not_trusted(
        self, receiver: AmsReceiver, options: dict[str, Any], tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The token does not get there; the environment has no say."""
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca))
        for tls in ({"ca": Authority(tmp_path / "other", "Other CA").ca}, {}):
            assert "its certificate is not accepted" in failure(ams(options, tls=tls), some())
        assert receiver.requests == []

    def test_one_of_another_name(self, receiver: AmsReceiver, options: dict[str, Any]) -> None:
        assert "its certificate is not accepted" in failure(ams(options, host=f"localhost:{receiver.port}"), some())

    def test_our_expired_certificate(self, by_certificate: dict[str, Any], authority: Authority) -> None:
        own = authority.issue("expired", days=-2)
        tls = {"ca": authority.ca, "certificate": own.certificate, "key": own.key}
        told = failure(ams(by_certificate, tls=tls), some())
        assert "expired" in told
        assert "Is our certificate valid, and is its CA known there?" in told

    def test_a_redirection_is_not_followed(self, receiver: AmsReceiver, options: dict[str, Any]) -> None:
        """It would take the token with it."""
        other = f"https://127.0.0.1:{receiver.port}/elsewhere"
        receiver.always = Reply(307, b"", {"Location": other})
        assert f"answered 307, go to {other}: set the address that is meant" in failure(ams(options), some())
        assert len(receiver.requests) == 1


class TestOptions:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"sign": None}, "sign"),
            ({"host": "https://msg.argo.grnet.gr"}, "host"),
            ({"topic": "a/b"}, "topic"),
            ({"token_file": None}, "give token_file, or tls with the certificate"),
            ({"timeout": 0}, "timeout"),
        ],
    )
    def test_wrong_ones(self, change: dict[str, object], told: str) -> None:
        values = {"host": "msg.example.org", "topic": "a", "token_file": "/x", "sign": {"certificate": "/c", "key": "/k"}}
        with pytest.raises(ValidationError, match=told):
            AmsOptions.model_validate(values | change)


def test_from_the_store(
    lasting_sqlite: Store, receiver: AmsReceiver, options: dict[str, Any], authority: Authority, tmp_path: Path
) -> None:
    """Signed before it leaves, the same bytes on each attempt; openssl verifies them, and APEL reads the text."""
    site = Site(lasting_sqlite)
    site.emptied()
    told = {key: str(value) if isinstance(value, Path) else value for key, value in options.items() if not isinstance(value, dict)}
    told |= {key: {k: str(v) for k, v in value.items()} for key, value in options.items() if isinstance(value, dict)}
    site.configure(publish={"transport": "ams", "bunch": 2, "options": told | {"retry_for": 0}})
    site.jobs(*(a_job(n, queue="local") for n in range(1, 8)))
    receiver.faults = [None, "cut after"]
    with pytest.raises(PublishError):
        publish_once(site.store, site.config, lambda: site.clock)
    publish_once(site.store, site.config, lambda: site.clock)
    names = [name for name, _ in receiver.published]
    assert len(names) == 5
    assert names[1] == names[2]
    assert len(set(receiver.published)) == 4
    jobs = []
    for _, signed in sorted(set(receiver.published)):
        verified = subprocess.run(
            ["openssl", "smime", "-verify", "-CAfile", authority.ca, "-purpose", "any", "-text"], input=signed, capture_output=True,
            check=True,
        )  # fmt: skip
        jobs += read_message(verified.stdout.replace(b"\r\n", b"\n"), now=site.clock)
    assert [job["LocalJobId"] for job in jobs] == [str(n) for n in range(1, 8)]
    with site.store.reading() as connection:
        confirmed, kept = connection.execute(
            select(func.count(message_table.c.confirmed_at), func.count(message_table.c.sealed))
        ).one()
    assert (confirmed, kept) == (4, 0)
