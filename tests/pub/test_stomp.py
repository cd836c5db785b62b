"""STOMP to a real ActiveMQ and a real RabbitMQ: a consumer counts what arrives, whatever happens on the way.

`BATCHACCT_FAULTS=300` cuts connections so many times in each of the tests that do.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import func, insert, select

from batchacct.config import Config
from batchacct.doctor import Examined, Finding, Level
from batchacct.errors import ConfigError, PublishError
from batchacct.options import checked
from batchacct.store import Store
from batchacct.store.payload import packed
from batchacct.store.tables import message as message_table
from pub.checks import receivers
from pub.formats.apel import APEL_03
from pub.outbox import Outbox
from pub.sending import Way, send
from pub.transports.contract import Message, Receipt, Refusal
from pub.transports.stomp import Stomp, StompOptions
from tests.pub.site import BASE
from tests.scripts_2012 import Site as ScriptSite
from tests.servers import free_port
from tests.services.brokers import LARGEST_BYTES, PASSCODE, USER, Broker
from tests.services.certificates import Authority
from tests.services.consumer import contents, drained
from tests.services.proxy import Proxy, proxy_to

FAULTS = int(os.environ.get("BATCHACCT_FAULTS", "2"))
NOW = 1_793_534_400
RETRY_FOR_S = 20
_numbers = itertools.count(1)


@pytest.fixture
def queue() -> str:
    """One that no other test uses."""
    return f"/queue/test.{os.getpid()}.{next(_numbers)}"


@pytest.fixture
def passcode_file(tmp_path: Path) -> Path:
    path = tmp_path / "passcode"
    path.write_text(f"{PASSCODE}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    with proxy_to(broker.port) as made:
        yield made


@pytest.fixture
def options(queue: str, passcode_file: Path) -> dict[str, Any]:
    """Options of a sender but for the brokers; its deadlines are short."""
    return {
        "destination": queue,
        "login": USER,
        "passcode_file": passcode_file,
        "timeout": 3,
        "retry_for": RETRY_FOR_S,
        "heart_beat": 1,
    }


def stomp_to(options: dict[str, Any], *ports: int, **others: Any) -> Stomp:
    return Stomp(StompOptions(brokers=[f"127.0.0.1:{port}" for port in ports], **{**options, **others}))


def messages(count: int, size: int = 2000) -> list[Message]:
    return [Message(n, NOW + n // 7, f"message {n}\n".encode() * (size // 12)) for n in range(1, count + 1)]


def sent(stomp: Stomp, some: list[Message]) -> list[Receipt | Refusal]:
    try:
        return list(stomp.send(some))
    finally:
        stomp.close()


def receipted(outcomes: list[Receipt | Refusal]) -> list[int]:
    return [outcome.message_id for outcome in outcomes if isinstance(outcome, Receipt)]


def assert_each_arrived(broker: Broker, queue: str, some: list[Message]) -> None:
    """At least once, and whenever it did, under the same id with the same bytes."""
    assert contents(drained(broker, queue)) == {one.name: {one.payload} for one in some}


def test_the_doctor_logs_in(broker: Broker, options: dict[str, Any], tmp_path: Path) -> None:
    def told(ports: list[int], **others: Any) -> list[Finding]:
        given = {**options, "passcode_file": str(options["passcode_file"]), **others, "brokers": [f"127.0.0.1:{p}" for p in ports]}
        publish = {"transport": "stomp", "options": given}
        config = Config.model_validate({**BASE, "database": {"url": "sqlite:////nowhere"}, "publish": publish})
        return list(receivers(Examined(config, NOW)))

    assert [one.level for one in told([broker.port])] == [Level.OK]
    assert [one.level for one in told([free_port(), broker.port])] == [Level.OK, Level.WARNING]
    (wrong := tmp_path / "wrong").write_text("not it\n")
    wrong.chmod(0o600)
    (refused,) = told([broker.port], passcode_file=str(wrong))
    assert refused.level is Level.ERROR


class TestSending:
    def test_by_tls_with_a_client_certificate(self, broker: Broker, options: dict[str, Any], queue: str) -> None:
        own = broker.authority.issue("sender")
        tls = {"ca": broker.authority.ca, "certificate": own.certificate, "key": own.key}
        some = messages(120)
        outcomes = sent(stomp_to(options, broker.tls_port, tls=tls), some)
        assert receipted(outcomes) == [one.id for one in some]
        assert isinstance(outcomes[0], Receipt)
        assert outcomes[0].receipt == f"127.0.0.1:{broker.tls_port} {some[0].name}"
        found = drained(broker, queue)
        assert [(one.empa_id, one.body) for one in found] == [(one.name, one.payload) for one in some]
        assert {one.headers["persistent"] for one in found} == {"true"}
        assert {int(one.headers["content-length"]) for one in found} == {len(one.payload) for one in some}

    def test_ca_certificates_in_a_folder(self, broker: Broker, options: dict[str, Any], queue: str, tmp_path: Path) -> None:
        """As /etc/grid-security/certificates has them."""
        Authority(tmp_path / "ca", "another")
        (tmp_path / "ca/0a1b2c3d.0").write_bytes(broker.authority.ca.read_bytes())
        (tmp_path / "ca/0a1b2c3d.r0").write_text("a CRL\n")
        own = broker.authority.issue("sender")
        tls = {"ca": tmp_path / "ca", "certificate": own.certificate, "key": own.key}
        assert receipted(sent(stomp_to(options, broker.tls_port, tls=tls), messages(1))) == [1]
        assert_each_arrived(broker, queue, messages(1))

    def test_a_session_is_used_again_and_made_again(
        self, broker: Broker, options: dict[str, Any], queue: str, proxy: Proxy
    ) -> None:
        some = messages(9)
        stomp = stomp_to(options, proxy.port)
        assert receipted(list(stomp.send(some[:3]))) == [1, 2, 3]
        assert receipted(list(stomp.send(some[3:5]))) == [4, 5]
        proxy.cut()
        assert receipted(list(stomp.send(some[5:7]))) == [6, 7]
        stomp.close()
        assert receipted(list(stomp.send(some[7:]))) == [8, 9]
        stomp.close()
        stomp.close()
        assert_each_arrived(broker, queue, some)

    def test_nothing_to_send_connects_to_nobody(self, options: dict[str, Any]) -> None:
        assert sent(stomp_to(options, free_port()), []) == []

    def test_it_stays_ahead_of_the_receipts(self, broker: Broker, options: dict[str, Any], queue: str, proxy: Proxy) -> None:
        """And no further than the window: messages are asked for as they are sent."""
        proxy.delay_s = 0.05
        drawn: list[int] = []

        def noting() -> Iterator[Message]:
            for one in messages(30):
                drawn.append(one.id)
                yield one

        stomp = stomp_to(options, proxy.port, window=10)
        ahead = [max(drawn) - outcome.message_id for outcome in stomp.send(noting())]
        stomp.close()
        assert 5 <= max(ahead) <= 10
        assert_each_arrived(broker, queue, messages(30))


class TestFaults:
    @pytest.mark.parametrize("when", ["cut_before", "cut_after"])
    def test_cut_around_a_receipt(self, broker: Broker, options: dict[str, Any], queue: str, proxy: Proxy, when: str) -> None:
        """Again and again, at any distance: every message arrives, and all are told so."""
        moments = random.Random(7)
        some = messages(40)
        for number in range(FAULTS):
            setattr(proxy, when, moments.randrange(1, 25))
            outcomes = sent(stomp_to(options, proxy.port, window=moments.choice([1, 7, 50])), some)
            assert receipted(outcomes) == [one.id for one in some]
            assert proxy.cuts == number + 1
            assert_each_arrived(broker, queue, some)

    def test_what_comes_last_is_the_last_message(self, rabbitmq: Broker, options: dict[str, Any], queue: str) -> None:
        """RabbitMQ gives receipts of small messages before those of large ones: what goes again does not go after a later one."""
        moments = random.Random(9)
        some = [Message(n, NOW, b"x" * (60_000 if n % 7 == 1 else 300)) for n in range(1, 101)]
        with proxy_to(rabbitmq.port) as proxy:
            for _ in range(FAULTS):
                proxy.cut_before = moments.randrange(2, 50)
                assert receipted(sent(stomp_to(options, proxy.port, window=100), some)) == [one.id for one in some]
                last = {one.empa_id: place for place, one in enumerate(drained(rabbitmq, queue))}
                assert sorted(last, key=last.__getitem__) == [one.name for one in some]

    def test_killed_and_started_again(self, broker: Broker, options: dict[str, Any], queue: str) -> None:
        """What it gave receipts for is on its disk; the rest is sent again."""
        some = messages(60)
        own = broker.authority.issue("sender")
        tls = {"ca": broker.authority.ca, "certificate": own.certificate, "key": own.key}
        stomp = stomp_to(options, broker.tls_port, tls=tls, window=10, retry_for=60)
        outcomes = stomp.send(some)
        got = [next(outcomes)]
        time.sleep(3)  # a killed RabbitMQ may have lost a queue, with all that is in it, that was made a moment before
        got += [next(outcomes) for _ in range(19)]
        broker.kill()
        restart = threading.Thread(target=broker.begin)
        restart.start()
        try:
            got += list(outcomes)
        finally:
            stomp.close()
            restart.join()
            broker.wait()
        assert sorted(receipted(got)) == [one.id for one in some]
        assert_each_arrived(broker, queue, some)

    def test_the_next_broker_takes_over(self, brokers: dict[str, Any], options: dict[str, Any], queue: str, activemq: Broker,
                                        rabbitmq: Broker) -> None:  # fmt: skip
        """The first is not there, the second goes away under the messages, the third takes the rest."""
        some = messages(50)
        with proxy_to(activemq.port) as proxy:
            stomp = stomp_to(options, free_port(), proxy.port, rabbitmq.port, window=5)
            outcomes = stomp.send(some)
            got = [next(outcomes) for _ in range(10)]
            proxy.refuses = True
            proxy.cut()
            got += list(outcomes)
            stomp.close()
        assert sorted(receipted(got)) == [one.id for one in some]
        first, then = drained(activemq, queue), drained(rabbitmq, queue)
        assert len(first) >= 10
        assert len(then) >= 30
        assert contents(first + then) == {one.name: {one.payload} for one in some}

    def test_a_slow_broker(self, broker: Broker, options: dict[str, Any], queue: str, proxy: Proxy) -> None:
        proxy.delay_s = 0.4
        some = messages(4)
        assert receipted(sent(stomp_to(options, proxy.port, timeout=1, window=4), some)) == [one.id for one in some]
        assert_each_arrived(broker, queue, some)

    def test_a_broker_that_takes_nothing_more(self, broker: Broker, options: dict[str, Any], queue: str, proxy: Proxy) -> None:
        """It ends by the deadline, whatever is in the buffers on the way; what got its receipt is told before."""
        some = messages(40, 200_000)
        stomp = stomp_to(options, proxy.port, timeout=1, retry_for=1, heart_beat=0, window=5)
        outcomes = stomp.send(some)
        got = [next(outcomes) for _ in range(3)]
        proxy.stalled = True
        began = time.monotonic()
        with pytest.raises(PublishError, match=r"within 1 s|could not be sent|was closed before it answered"):
            got += list(outcomes)
        stomp.close()
        assert time.monotonic() - began < 60
        proxy.stalled = False
        assert {outcome.message_id for outcome in got} == set(receipted(got))
        time.sleep(0.2)
        found = contents(drained(broker, queue))
        assert {some[n - 1].name for n in receipted(got)} <= set(found)
        assert all(found[one.name] == {one.payload} for one in some if one.name in found)

    def test_heart_beats_that_stop(self, broker: Broker, options: dict[str, Any], queue: str, proxy: Proxy) -> None:
        """Noticed long before the deadline for receipts."""
        proxy.delay_s = 0.1
        stomp = stomp_to(options, proxy.port, timeout=60, retry_for=0, window=1)
        outcomes = stomp.send(messages(100))
        next(outcomes)
        proxy.delay_s = 3600.0
        with pytest.raises(PublishError, match=r"heart-beats stopped|was closed"):
            list(outcomes)
        proxy.cut()
        stomp.close()


class TestRefusals:
    def test_what_the_broker_does_not_take_is_found_among_the_others(
        self, broker: Broker, options: dict[str, Any], queue: str
    ) -> None:
        some = messages(30)
        some[11] = Message(12, NOW, b"x" * (LARGEST_BYTES + 200_000))
        some[12] = Message(13, NOW, b"y" * (LARGEST_BYTES + 200_000))
        outcomes = sent(stomp_to(options, broker.port), some)
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        assert [outcome.message_id for outcome in refused] == [12, 13]
        assert sorted(receipted(outcomes)) == [one.id for one in some if one.id not in {12, 13}]
        assert all(f"broker 127.0.0.1:{broker.port}: " in outcome.reason for outcome in refused)
        assert_each_arrived(broker, queue, [one for one in some if one.id not in {12, 13}])

    def test_with_nothing_taken_after_it_nothing_is_refused(self, broker: Broker, options: dict[str, Any]) -> None:
        """It may be the broker that is in trouble."""
        large = Message(2, NOW, b"x" * (LARGEST_BYTES + 200_000))
        outcomes = stomp_to(options, broker.port).send([messages(1)[0], large])
        got: list[Receipt | Refusal] = []
        with pytest.raises(PublishError, match=r"message 2, and nothing was taken after it"):
            got += outcomes
        assert receipted(got) == [1]

    def test_a_queue_that_may_not_be_written(self, rabbitmq: Broker, options: dict[str, Any]) -> None:
        """All fail, so it is nothing about the messages."""
        stomp = stomp_to({**options, "destination": "/queue/amq.reserved"}, rabbitmq.port, window=4)
        outcomes: list[Receipt | Refusal] = []
        with pytest.raises(PublishError, match="ERROR"):
            outcomes += stomp.send(messages(20))
        stomp.close()
        assert outcomes == []

    def test_what_is_no_text_or_too_large_is_not_even_sent(self, broker: Broker, options: dict[str, Any], queue: str) -> None:
        bad = [Message(2, NOW, "Zoë".encode()), Message(3, NOW, b""), Message(4, NOW, b"x" * 5001)]
        some = [messages(1)[0], *bad, Message(5, NOW, b"x" * 5000)]
        outcomes = sent(stomp_to(options, broker.port, max_bytes=5000), some)
        assert receipted(outcomes) == [1, 5]
        reasons = {outcome.message_id: outcome.reason for outcome in outcomes if isinstance(outcome, Refusal)}
        assert reasons == {
            2: "byte 2 of the message, 0xc3, is not ASCII",
            3: "the message is empty",
            4: "5001 bytes are more than max_bytes, 5000: lower [publish] bunch",
        }
        assert_each_arrived(broker, queue, [some[0], some[4]])

    def test_such_alone_connect_to_nobody(self, options: dict[str, Any]) -> None:
        (outcome,) = sent(stomp_to(options, free_port()), [Message(1, NOW, b"")])
        assert isinstance(outcome, Refusal)


class TestConnecting:
    """Each says what is wrong, and does not try again what cannot get better."""

    def failure(self, stomp: Stomp) -> str:
        began = time.monotonic()
        with pytest.raises(PublishError) as raised:
            sent(stomp, messages(2))
        assert time.monotonic() - began < RETRY_FOR_S
        return raised.value.message

    def test_nobody_is_there(self, options: dict[str, Any]) -> None:
        one, other = free_port(), free_port()
        told = self.failure(stomp_to(options, one, other, retry_for=1))
        assert f"broker 127.0.0.1:{one}: cannot be reached" in told
        assert f"broker 127.0.0.1:{other}: cannot be reached" in told

    def test_the_wrong_passcode(self, broker: Broker, options: dict[str, Any], passcode_file: Path) -> None:
        passcode_file.write_text("wrong\n")
        assert "did not accept the login" in self.failure(stomp_to(options, broker.port))

    def test_an_expired_certificate(self, broker: Broker, options: dict[str, Any]) -> None:
        own = broker.authority.issue("expired", days=-2)
        tls = {"ca": broker.authority.ca, "certificate": own.certificate, "key": own.key}
        assert "TLS failed" in self.failure(stomp_to(options, broker.tls_port, tls=tls))

    def test_a_certificate_of_another_ca(self, broker: Broker, options: dict[str, Any], tmp_path: Path) -> None:
        own = Authority(tmp_path / "other", "Other CA").issue("sender")
        tls = {"ca": broker.authority.ca, "certificate": own.certificate, "key": own.key}
        assert "TLS failed" in self.failure(stomp_to(options, broker.tls_port, tls=tls))

    def test_no_certificate(self, broker: Broker, options: dict[str, Any]) -> None:
        assert "TLS failed" in self.failure(stomp_to(options, broker.tls_port, tls={"ca": broker.authority.ca}))

    @pytest.mark.parametrize("given", [True, False])
    def test_a_broker_whose_certificate_is_not_trusted(
        self, broker: Broker, options: dict[str, Any], tmp_path: Path, given: bool
    ) -> None:
        """Also where no CA is given: then it is one of the system's, or nothing."""
        own = broker.authority.issue("sender")
        ca = {"ca": Authority(tmp_path / "other", "Other CA").ca} if given else {}
        told = self.failure(stomp_to(options, broker.tls_port, tls={**ca, "certificate": own.certificate, "key": own.key}))
        assert "its certificate is not accepted" in told

    def test_a_broker_of_another_name(self, broker: Broker, options: dict[str, Any]) -> None:
        own = broker.authority.issue("sender")
        tls = {"ca": broker.authority.ca, "certificate": own.certificate, "key": own.key}
        values = {**options, "brokers": [f"localhost:{broker.tls_port}"], "tls": tls}
        stomp = Stomp(StompOptions.model_validate(values))
        assert "its certificate is not accepted" in self.failure(stomp)

    def test_the_port_for_tls_without_tls(self, broker: Broker, options: dict[str, Any]) -> None:
        told = self.failure(stomp_to(options, broker.tls_port, retry_for=1))
        assert "Is this its port for STOMP, and not the one for TLS" in told

    def test_tls_to_the_plain_port(self, broker: Broker, options: dict[str, Any]) -> None:
        told = self.failure(stomp_to(options, broker.port, tls={"ca": broker.authority.ca}, retry_for=0, timeout=1))
        assert f"broker 127.0.0.1:{broker.port}: " in told

    def test_one_broker_that_refuses_does_not_stop_the_other(
        self, options: dict[str, Any], queue: str, activemq: Broker, rabbitmq: Broker
    ) -> None:
        options = {**options, "login": None, "passcode_file": None}
        assert receipted(sent(stomp_to(options, activemq.port, rabbitmq.port), messages(3))) == [1, 2, 3]
        assert_each_arrived(rabbitmq, queue, messages(3))


class TestOptions:
    @pytest.mark.parametrize(
        ("key", "value", "told"),
        [
            ("brokers", [], "brokers"),
            ("brokers", ["mq1"], "no address and port"),
            ("destination", "gLite-APEL", "destination"),
            ("destination", "/topic/a", "destination"),
            ("destination", "/queue/a/b", "destination"),
            ("window", 0, "window"),
            ("timeout", 0, "timeout"),
            ("broker", ["mq1:1"], "broker"),
            ("encrypt_to", "/x.pem", "encrypt_to needs sign"),
            ("tls", {"certificate": "/x.pem"}, "certificate and key go together"),
        ],
    )
    def test_wrong_ones(self, key: str, value: object, told: str) -> None:
        with pytest.raises(ValidationError, match=told):
            StompOptions.model_validate({"brokers": ["mq:61613"], "destination": "/queue/a", key: value})

    def test_an_unknown_key_is_told_with_file_and_key(self, tmp_path: Path) -> None:
        values = {"brokers": ["mq:61613"], "destination": "/queue/a", "tls": {"certificat": "/x.pem"}, "windw": 3}
        with pytest.raises(ConfigError) as raised:
            checked(StompOptions, values, "publish.options", tmp_path / "batchacct.toml")
        assert raised.value.message.splitlines() == [
            f"configuration {tmp_path}/batchacct.toml:",
            "  publish.options.tls.certificat: there is no such key; did you mean certificate?",
            "  publish.options.windw: there is no such key; did you mean window?",
        ]

    def test_files_that_cannot_be_used(self, tmp_path: Path, options: dict[str, Any], passcode_file: Path) -> None:
        issued, other = (Authority(tmp_path / name).issue("sender") for name in ("one", "other"))
        (tmp_path / "empty").mkdir()
        cases: list[tuple[dict[str, Any], str]] = [
            ({"ca": tmp_path / "none"}, "gives no CA certificates"),
            ({"ca": tmp_path / "empty"}, "gives no CA certificates"),
            ({"ca": issued.key}, "gives no CA certificates"),
            ({"certificate": tmp_path / "none", "key": issued.key}, "no certificate and its key"),
            ({"certificate": issued.certificate, "key": other.key}, "no certificate and its key"),
        ]
        for tls, told in cases:
            with pytest.raises(ConfigError, match=told):
                stomp_to(options, 1, tls=tls)
        for path in (issued.key, passcode_file):
            path.chmod(0o644)
        with pytest.raises(ConfigError, match="chmod o-r"):
            stomp_to(options, 1)
        passcode_file.chmod(0o600)
        with pytest.raises(ConfigError, match="chmod o-r"):
            stomp_to(options, 1, tls={"certificate": issued.certificate, "key": issued.key})


def way_to(store: Store, stomp: Stomp) -> Way:
    """The one destination, with what another run has left for it."""
    config = Config.model_validate(BASE)
    return Way(Outbox(config, config.destinations[0], store.dialect, APEL_03, NOW), stomp)


class TestOutbox:
    """From the store to the broker and back: what is confirmed has arrived, and what leaves twice is the same."""

    @pytest.fixture
    def stored(self, sqlite_store: Store) -> Store:
        rows = [
            {"destination": "main", "format": "apel-0.3", "records": 1, "created_at": NOW, "payload": packed(one.payload)}
            for one in messages(70)
        ]
        with sqlite_store.writing() as connection:
            connection.execute(insert(message_table), rows)
        return sqlite_store

    def test_each_attempt_has_the_same_bytes(
        self, stored: Store, broker: Broker, options: dict[str, Any], queue: str, proxy: Proxy
    ) -> None:
        """Also where they are signed and encrypted, which comes out differently each time."""
        signer, receiver = (broker.authority.issue(name, with_rsa=True) for name in ("signer", "receiver"))
        signing = {"sign": {"certificate": signer.certificate, "key": signer.key}, "encrypt_to": receiver.certificate}
        for receipts in (0, 17):
            proxy.cut_before = receipts
            stomp = stomp_to(options, proxy.port, retry_for=0, **signing)
            with pytest.raises(PublishError, match=r"was closed|could not be sent"):
                send(stored, way_to(stored, stomp), lambda: NOW)
            stomp.close()
        stomp = stomp_to(options, proxy.port, **signing)
        send(stored, way_to(stored, stomp), lambda: NOW)
        stomp.close()
        found = drained(broker, queue)
        assert len(found) > 70
        by_id = contents(found)
        assert len(by_id) == 70
        assert {len(bodies) for bodies in by_id.values()} == {1}
        with stored.reading() as connection:
            confirmed, kept = connection.execute(
                select(func.count(message_table.c.confirmed_at), func.count(message_table.c.sealed))
            ).one()
        assert (confirmed, kept) == (70, 0)

    def test_where_no_message_is_taken_the_first_has_the_error(
        self, stored: Store, rabbitmq: Broker, options: dict[str, Any]
    ) -> None:
        with pytest.raises(PublishError):
            stomp = stomp_to({**options, "destination": "/queue/amq.x"}, rabbitmq.port, window=2)
            send(stored, way_to(stored, stomp), lambda: NOW)
        with stored.reading() as connection:
            errors = connection.execute(select(message_table.c.id, message_table.c.last_error, message_table.c.refused_at)).all()
        assert errors[0].last_error and "ERROR" in errors[0].last_error
        assert {(row.last_error, row.refused_at) for row in errors[1:]} == {(None, None)}


def test_msgbroker_of_the_2012_join(rabbitmq: Broker, tmp_path: Path, sqlite_url: str) -> None:
    from tests.pub import test_join_script as script

    site = ScriptSite(tmp_path, sqlite_url, now=script.END_AT)
    site.done(script.CREATE, "-c", "conn")
    script.settings(site)
    site.write("vos", "x_FOO foo\n")
    script.write_known_logs(site)
    site.done(script.ACCT, "-c", "conn", "-a", "lsb.acct")
    site.done(script.WHISK, "-c", "conn", "-a", ".")
    outcome = site.done(script.JOIN, "-a", "conn", "-c", "pub.conf", "-v", "vos", "-m", f"127.0.0.1:{rabbitmq.port}")
    assert "Published 4 records in 1 messages, 1 handed over" in outcome.err
    (delivered,) = drained(rabbitmq, "/queue/apel")
    assert delivered.body.startswith(b"APEL-individual-job-message: v1.1\nSite: EXAMPLE-SITE\n")
    assert re.fullmatch(r"[0-9a-f]{8}/[0-9a-f]{14}", delivered.empa_id)
