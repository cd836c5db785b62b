"""Sending by STOMP with receipts, beside a bare sender: the library alone, the same messages, no receipt but that of its goodbye.

Both send persistent messages of a thousand records, in turn, to a broker that was started for it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from pathlib import Path

import stomp

from benchmarks.figures import Figures, alternating, seconds
from pub.transports.contract import Message, Receipt
from pub.transports.stomp import Stomp, StompOptions
from tests.servers import MissingServerError
from tests.services.brokers import PASSCODE, USER, ActiveMq, Broker, RabbitMq, started

MESSAGES, RECORDS = 60, 1000
RECORD = b"""\
Site: BENCH-SITE
SubmitHost: ce01.example.org:8443/cream-lsf-grid_atlas
MachineName: lsf-master.example.org
Queue: grid_atlas
LocalJobId: %09d
LocalUserId: atlas042
GlobalUserName: /DC=org/DC=example/OU=Users/CN=A User of some length
FQAN: /atlas/Role=pilot/Capability=NULL;/atlas/Role=NULL/Capability=NULL
VO: atlas
VOGroup: /atlas
VORole: Role=pilot
WallDuration: 3600
CpuDuration: 3500
Processors: 8
NodeCount: 1
StartTime: 1700000000
EndTime: 1700003600
InfrastructureDescription: BATCHACCT-CREAM-LSF
InfrastructureType: grid
MemoryReal: 1048576
MemoryVirtual: 2097152
ServiceLevelType: HEPscore23
ServiceLevel: 12.5
%%%%
"""


def measure(figures: Figures, workdir: Path) -> None:
    """One line a broker."""
    some = [_message(number) for number in range(1, MESSAGES + 1)]
    for kind in (ActiveMq, RabbitMq):
        try:
            kind.check_installed()
        except MissingServerError as missing:
            figures.note(str(missing))
            continue
        with started([kind]) as (broker,):
            _measure(figures, workdir, broker, some)


def _measure(figures: Figures, workdir: Path, broker: Broker, some: Sequence[Message]) -> None:
    passcode = workdir / "passcode"
    passcode.touch(mode=0o600)
    passcode.write_text(PASSCODE)
    numbers = itertools.count(1)
    ours_s, bare_s = alternating(
        lambda: seconds(lambda: _ours(broker, some, f"/queue/ours{next(numbers)}", passcode)),
        lambda: seconds(lambda: _bare(broker, some, f"/queue/bare{next(numbers)}")),
    )
    what = "a bare stomp.py sender, without receipts"
    records = len(some) * RECORDS
    figures.add(f"STOMP with receipts, {broker.name}", records / ours_s, "records/s", records / bare_s, what)


def _message(number: int) -> Message:
    first = number * RECORDS
    records = b"".join(RECORD % n for n in range(first, first + RECORDS))
    return Message(number, 1_700_000_000 + number, b"APEL-individual-job-message: v0.3\n" + records)


def _ours(broker: Broker, some: Sequence[Message], queue: str, passcode: Path) -> None:
    address = f"127.0.0.1:{broker.port}"
    transport = Stomp(StompOptions(brokers=[address], destination=queue, login=USER, passcode_file=passcode))
    receipts = [outcome for outcome in transport.send(some) if isinstance(outcome, Receipt)]
    transport.close()
    if len(receipts) != len(some):
        raise RuntimeError(f"{len(receipts)} of {len(some)} messages were taken")


class _Goodbye(stomp.ConnectionListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.said = threading.Event()

    def on_disconnected(self) -> None:
        self.said.set()


def _bare(broker: Broker, some: Sequence[Message], queue: str) -> None:
    connection = stomp.Connection12([("127.0.0.1", broker.port)], try_loopback_connect=False, vhost="/")
    listener = _Goodbye()
    connection.set_listener("goodbye", listener)
    connection.connect(USER, PASSCODE, wait=True)
    for one in some:
        connection.send(queue, one.payload, content_type="text/plain", headers={"persistent": "true", "empa-id": one.name})
    connection.disconnect()
    if not listener.said.wait(120):
        raise RuntimeError("the broker did not answer the goodbye of the bare sender")
