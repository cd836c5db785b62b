"""The publisher is killed, and its farm goes on: every record arrives, each message with one content, and corrections come last.

`make faults` kills 300 times (BATCHACCT_KILLS), over all databases and transports, and prints the table of faults.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from typing import Any

import pytest

from batchacct.errors import BusyError
from tests.faults.fix_publisher import NewPublisher
from tests.faults.publisher import Publisher
from tests.faults.receiver import Folder, Queue, Receiver, as_it_is, verified_by
from tests.fix_counts import RecordProperty, record_fault
from tests.services.brokers import Broker

POINTS = {"join.before-commit": 2, "build.before-commit": 3, "send.sealed": 3, "send.handed-over": 3, "send.before-confirm": 3}
"""Named places, and the how manyeth time that a run comes there it is killed; messages are sealed where they are signed."""
SIGNED = "rabbitmq"
DATABASES = ("sqlite", "postgresql", "mariadb")
TRANSPORTS = ("ssm-directory", "activemq", "rabbitmq")
KILLS = int(os.environ.get("BATCHACCT_KILLS", "6"))
LONG = KILLS >= 50
PAIRS = list(itertools.product(DATABASES, TRANSPORTS)) if LONG else list(zip(DATABASES, TRANSPORTS, strict=True))
SIGKILLED = -9
_numbers = itertools.count(1)


def connected(publisher: Publisher, transport: str, brokers: dict[str, Broker | str]) -> Receiver:
    """Configures it for the transport, and gives what receives there; to RabbitMQ messages go signed and by TLS."""
    if transport == "ssm-directory":
        outgoing = publisher.folder / "outgoing"
        publisher.configure(publisher.to_folder(outgoing))
        return Receiver(Folder(outgoing))
    broker = brokers[transport]
    if isinstance(broker, str):
        pytest.skip(broker)
    queue, port = f"/queue/kills.{os.getpid()}.{next(_numbers)}", broker.port
    more: dict[str, Any] = {}
    if transport == SIGNED:
        own, signer = broker.authority.issue("sender"), broker.authority.issue("signer", with_rsa=True)
        tls = {"ca": broker.authority.ca, "certificate": own.certificate, "key": own.key}
        more = {"tls": tls, "sign": {"certificate": signer.certificate, "key": signer.key}}
        port = broker.tls_port
    publisher.configure(publisher.to_queue(queue, port, **more))
    return Receiver(Queue(broker, queue), verified_by(broker.authority.ca) if more else as_it_is)


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A database and a transport."""
    found: tuple[str, str] = request.param
    return found


def test_killed_at_every_point(
    new_publisher: NewPublisher, pair: tuple[str, str], brokers: dict[str, Broker | str], record_property: RecordProperty
) -> None:
    """In the long run twice in a row, the second time at once; what was handed over may have been taken away meanwhile."""
    database, transport = pair
    publisher = new_publisher(database)
    receiver = connected(publisher, transport, brokers)
    before = Counter[str]()
    for point, times in POINTS.items():
        if point == "send.sealed" and transport != SIGNED:
            continue
        for is_taken in (True, False) if LONG else (True,):
            publisher.go_on(40)
            publisher.publish(crash_at=f"{point}:{times}", expected=SIGKILLED)
            if is_taken:
                receiver.take(publisher.now)
            if LONG:
                publisher.publish(crash_at=point, expected=SIGKILLED)
            counts = settled(publisher, receiver)
        since = {name: counts[name] - before[name] for name in counts}
        record_fault(record_property, f"publisher killed at `{point}`", pair, {"injected": 4 if LONG else 1, **since})
        assert (counts["lost"], counts["doubled"]) == (0, 0)
        before = counts


def test_killed_at_any_moment(
    new_publisher: NewPublisher, pair: tuple[str, str], brokers: dict[str, Broker | str], record_property: RecordProperty
) -> None:
    """Over all the time a run takes; identities come late, and records are replaced, between a kill and the next run."""
    moments = random.Random(PAIRS.index(pair))
    publisher = new_publisher(pair[0], seed=PAIRS.index(pair))
    receiver = connected(publisher, pair[1], brokers)
    publisher.go_on()
    began = time.monotonic()
    publisher.publish()
    takes_s = time.monotonic() - began
    kills, wanted = 0, -(-KILLS // len(PAIRS))
    while kills < wanted:
        publisher.go_on(moments.choice([0, 20, 40]))
        process = publisher.start()
        if process.has_ended(within_s=takes_s * moments.random()):
            assert process.wait() in {0, BusyError.exit_code}
            takes_s *= 0.97
            continue
        process.kill()
        kills += 1
        if moments.random() < 0.5:
            receiver.take(publisher.now)
        if moments.random() < 0.4:
            publisher.publish_all()
    counts = settled(publisher, receiver)
    record_fault(record_property, "publisher killed at any moment", pair, {"injected": kills, **counts})
    assert (counts["lost"], counts["doubled"]) == (0, 0)


def settled(publisher: Publisher, receiver: Receiver) -> Counter[str]:
    """Publishes the rest, and holds what has arrived against what was written."""
    publisher.go_on(5)
    publisher.publish_all(receiver)
    publisher.assert_balanced()
    return receiver.counts(publisher.world.truth())
