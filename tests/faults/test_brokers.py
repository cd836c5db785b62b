"""Brokers that are killed, slow, silent, full, or do not let the publisher in: nothing is lost, and nothing counts twice.

`make faults` injects each 10 times (BATCHACCT_FAULTS), a broker restarted or full a third as often, and prints the table of faults.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from batchacct.errors import PublishError
from tests.faults.fix_publisher import NewPublisher
from tests.faults.publisher import Publisher
from tests.faults.receiver import Folder, Queue, Receiver
from tests.fix_counts import RecordProperty, record_fault
from tests.servers import REQUIRED, MissingServerError
from tests.services.brokers import PASSCODE, Broker, RabbitMq, SmallActiveMq, started
from tests.services.proxy import Proxy, proxy_to

FAULTS = int(os.environ.get("BATCHACCT_FAULTS", "1"))
RESTARTS = max(1, FAULTS // 3)
AWAY = PublishError.exit_code
_numbers = itertools.count(1)

Settled = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Line:
    """A broker behind a proxy, a queue that no other test uses, and who reads that."""

    broker: Broker
    proxy: Proxy
    queue: str
    receiver: Receiver


@contextmanager
def line_to(broker: Broker) -> Iterator[Line]:
    queue = f"/queue/faults.{os.getpid()}.{next(_numbers)}"
    with proxy_to(broker.port) as proxy:
        yield Line(broker, proxy, queue, Receiver(Queue(broker, queue)))


@pytest.fixture
def line(broker: Broker) -> Iterator[Line]:
    """To each broker in turn."""
    with line_to(broker) as made:
        yield made


@pytest.fixture
def on_rabbitmq(rabbitmq: Broker) -> Iterator[Line]:
    with line_to(rabbitmq) as made:
        yield made


@pytest.fixture
def settled(record_property: RecordProperty) -> Settled:
    """Publishes the rest, and holds what has arrived against what was written."""

    def settle(publisher: Publisher, fault: str, injected: int, receivers: Mapping[str, Receiver]) -> None:
        publisher.go_on(5)
        publisher.publish_all(*receivers.values())
        truth = publisher.world.truth()
        counts = sum((receiver.counts(truth) for receiver in receivers.values()), Counter[str]())
        record_fault(record_property, fault, list(receivers), {"injected": injected, **counts})
        assert (counts["lost"], counts["doubled"]) == (0, 0)
        publisher.assert_balanced()

    return settle


@pytest.mark.parametrize("when", ["before", "after"])
def test_cut_around_a_receipt(new_publisher: NewPublisher, line: Line, when: str, settled: Settled) -> None:
    """The run goes on over another connection."""
    moments = random.Random(3)
    publisher, proxy, receiver = new_publisher(), line.proxy, line.receiver
    publisher.configure(publisher.to_queue(line.queue, proxy.port))
    for number in range(FAULTS):
        publisher.go_on(40)
        setattr(proxy, f"cut_{when}", moments.randrange(1, 8))
        publisher.publish()
        assert proxy.cuts == number + 1
        receiver.take(publisher.now)
    settled(publisher, f"connection cut {when} a receipt", FAULTS, {line.broker.name: receiver})


def test_killed_and_started_again(new_publisher: NewPublisher, line: Line, settled: Settled) -> None:
    """While messages are on their way. What it gave receipts for is on its disk."""
    moments = random.Random(5)
    publisher, proxy, receiver = new_publisher(), line.proxy, line.receiver
    publisher.configure(publisher.to_queue(line.queue, proxy.port, retry_for=90))
    publisher.go_on()
    publisher.publish_all(receiver)
    time.sleep(3)  # a killed RabbitMQ may have lost a queue, with all that is in it, that was made a moment before
    for _ in range(RESTARTS):
        publisher.go_on(60)
        proxy.delay_s = 0.02
        wanted = proxy.receipts + moments.randrange(1, 12)
        process = publisher.start()
        while proxy.receipts < wanted:
            assert not process.has_ended(within_s=0.002)
        line.broker.kill()
        restart = threading.Thread(target=line.broker.begin)
        restart.start()
        publisher.go_on(10)
        restart.join()
        line.broker.wait()
        assert process.wait(120) == 0
        proxy.delay_s = 0
        publisher.publish_all(receiver)
    settled(publisher, "broker killed and started again", RESTARTS, {line.broker.name: receiver})


def test_slow(new_publisher: NewPublisher, line: Line, settled: Settled) -> None:
    """Every frame takes its time, less than the deadline all the same: it takes long, and works."""
    publisher, proxy, receiver = new_publisher(), line.proxy, line.receiver
    publisher.configure(publisher.to_queue(line.queue, proxy.port, timeout=2, window=3))
    for delay_s in itertools.islice(itertools.cycle([0.1, 0.3]), FAULTS):
        publisher.go_on(20)
        proxy.delay_s = delay_s
        publisher.publish()
        receiver.take(publisher.now)
    settled(publisher, "slow broker", FAULTS, {line.broker.name: receiver})


def test_silent(new_publisher: NewPublisher, line: Line, settled: Settled) -> None:
    """It does not answer, or takes nothing more. The run ends by its deadline, and the next one sends what has no receipt."""
    publisher, proxy, receiver = new_publisher(), line.proxy, line.receiver
    publisher.configure(publisher.to_queue(line.queue, proxy.port, timeout=3, retry_for=0, heart_beat=0))
    for says_nothing in itertools.islice(itertools.cycle([True, False]), FAULTS):
        publisher.go_on(40)
        wanted = proxy.receipts + 2
        proxy.delay_s = 0.02
        process = publisher.start()
        while proxy.receipts < wanted:
            assert not process.has_ended(within_s=0.002)
        proxy.stalled, proxy.delay_s = not says_nothing, 3600.0 if says_nothing else 0
        assert process.wait(60) == AWAY
        publisher.go_on(10)
        proxy.stalled, proxy.delay_s = False, 0
        proxy.cut()
        publisher.publish_all(receiver)
    settled(publisher, "silent broker", FAULTS, {line.broker.name: receiver})


class TestFull:
    """Messages wait, nothing is lost, and they go once there is room."""

    def filled(self, publisher: Publisher, receiver: Receiver) -> None:
        """Publishes until nothing more is taken, then lets the receiver make room; more comes meanwhile."""
        told = publisher.publish(expected=AWAY)
        assert "broker 127.0.0.1:" in told
        publisher.go_on(10)
        publisher.publish(expected=AWAY)
        assert receiver.take(publisher.now) > 0

    def test_a_disk(self, new_publisher: NewPublisher, settled: Settled) -> None:
        try:
            SmallActiveMq.check_installed()
        except MissingServerError as missing:
            if REQUIRED:
                raise
            pytest.skip(str(missing))
        with started([SmallActiveMq]) as (broker,), line_to(broker) as line:
            publisher = new_publisher()
            publisher.configure(publisher.to_queue(line.queue, broker.port, bunch=200, timeout=2, retry_for=0))
            for _ in range(RESTARTS):
                publisher.go_on(5000)
                self.filled(publisher, line.receiver)
                publisher.publish_all(line.receiver)
            settled(publisher, "broker's disk full, until messages are taken away", RESTARTS, {"activemq": line.receiver})

    def test_an_alarm(self, new_publisher: NewPublisher, rabbitmq: RabbitMq, on_rabbitmq: Line, settled: Settled) -> None:
        """Of its memory: RabbitMQ takes one message a connection, and reads nothing more."""
        publisher, receiver = new_publisher(), on_rabbitmq.receiver
        publisher.configure(publisher.to_queue(on_rabbitmq.queue, rabbitmq.port, timeout=1, retry_for=0))
        for _ in range(RESTARTS):
            publisher.go_on()
            publisher.publish_all(receiver)
            publisher.go_on(15)
            rabbitmq.control("set_vm_memory_high_watermark", "0")
            try:
                status, told = publisher.run()
                assert status in {0, AWAY}
                assert "no receipt came within" in told
                publisher.go_on(4)
            finally:
                rabbitmq.control("set_vm_memory_high_watermark", "0.4")
            publisher.publish_all(receiver)
        settled(publisher, "broker's memory full", RESTARTS, {"rabbitmq": receiver})

    def test_a_queue(self, new_publisher: NewPublisher, rabbitmq: RabbitMq, on_rabbitmq: Line, settled: Settled) -> None:
        """That takes no more than so many messages."""
        publisher, receiver, queue = new_publisher(), on_rabbitmq.receiver, on_rabbitmq.queue
        publisher.configure(publisher.to_queue(queue, rabbitmq.port, timeout=1, retry_for=0))
        limit = '{"max-length": 10, "overflow": "reject-publish"}'
        rabbitmq.control("set_policy", "small", queue.removeprefix("/queue/"), limit, "--apply-to", "queues")
        try:
            for _ in range(RESTARTS):
                publisher.go_on(80)
                self.filled(publisher, receiver)
                publisher.publish_all(receiver)
        finally:
            rabbitmq.control("clear_policy", "small")
        settled(publisher, "broker's queue full, until messages are taken away", RESTARTS, {"rabbitmq": receiver})


class TestNotLetIn:
    """Nothing leaves, it is said why, and what was held up leaves once that is mended."""

    def test_the_wrong_passcode(self, new_publisher: NewPublisher, line: Line, settled: Settled) -> None:
        publisher, broker, receiver = new_publisher(), line.broker, line.receiver
        publisher.configure(publisher.to_queue(line.queue, broker.port))
        for _ in range(FAULTS):
            publisher.give_passcode("wrong")
            publisher.go_on()
            assert "did not accept the login" in publisher.publish(expected=AWAY)
            assert receiver.take(publisher.now) == 0
            publisher.give_passcode(PASSCODE)
            publisher.publish_all(receiver)
        settled(publisher, "wrong password", FAULTS, {line.broker.name: receiver})

    def test_an_expired_certificate(self, new_publisher: NewPublisher, line: Line, settled: Settled) -> None:
        publisher, broker, receiver = new_publisher(), line.broker, line.receiver
        for days, expected in [(-2, AWAY), (30, 0)] * FAULTS:
            own = broker.authority.issue("own", days=days)
            tls = {"ca": broker.authority.ca, "certificate": own.certificate, "key": own.key}
            publisher.configure(publisher.to_queue(line.queue, broker.tls_port, tls=tls))
            publisher.go_on()
            told = publisher.publish(expected=expected)
            assert ("TLS failed" in told) == (expected == AWAY)
            assert (receiver.take(publisher.now) > 0) == (expected == 0)
        settled(publisher, "expired certificate", FAULTS, {line.broker.name: receiver})


def test_a_second_destination_that_fails(new_publisher: NewPublisher, line: Line, settled: Settled) -> None:
    """The first has everything meanwhile, and nothing of it again; the second has it all in the end."""
    publisher, proxy = new_publisher(), line.proxy
    outgoing = publisher.folder / "outgoing"
    first, second = Receiver(Folder(outgoing)), line.receiver
    behind = publisher.to_queue(line.queue, proxy.port, name="second", retry_for=0)
    publisher.configure(publisher.to_folder(outgoing, name="first"), behind)
    for _ in range(FAULTS):
        proxy.refuses = True
        for _ in range(2):
            publisher.go_on(20)
            assert "destination second: broker 127.0.0.1:" in publisher.publish(expected=AWAY)
            first.take(publisher.now)
            assert first.counts(publisher.world.truth())["lost"] == 0
        proxy.refuses = False
        publisher.publish_all(first, second)
    assert first.counts({})["came twice"] == 0
    settled(publisher, "second destination away", FAULTS, {"ssm-directory": first, line.broker.name: second})
