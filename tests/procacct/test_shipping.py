"""From the spools of nodes to the central host over a real ActiveMQ and a real RabbitMQ, whatever happens on the way."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchacct.brokers.keys import Receive
from batchacct.brokers.pipeline import Ended
from batchacct.brokers.stomp_session import Login, Session
from batchacct.errors import ConfigError, PublishError, SourceError
from batchacct.notify import Notifier
from batchacct.signals import Signals
from procacct.shipping.ranges import CONTENT_TYPE, Range, SpoolName
from procacct.shipping.receiver import Receiver
from procacct.shipping.spool import boot8
from tests.procacct.node_daemon import wait_for
from tests.procacct.spools import line, mirrored
from tests.procacct.way import Program, Way
from tests.servers import free_port
from tests.services.brokers import PASSCODE, USER, Broker
from tests.services.consumer import drained
from tests.services.proxy import proxy_to

SHIP_POINTS = ("ship.receipt:3", "ship.state-saved", "ship.removed")
RECEIVE_POINTS = ("receive.written", "receive.synced", "receive.acknowledged:3")
_numbers = itertools.count(1)


@pytest.fixture
def queue() -> str:
    """One that no other test uses."""
    return f"/queue/test.processes.{os.getpid()}.{next(_numbers)}"


@pytest.fixture
def way(broker: Broker, tmp_path: Path, queue: str) -> Way:
    return Way(tmp_path, [f"127.0.0.1:{broker.port}"], queue)


def put(broker: Broker, queue: str, *messages: tuple[dict[str, str], bytes]) -> None:
    """Sends what a node might send that is not as it should be."""
    session = Session("127.0.0.1", broker.port, Login("/", USER, PASSCODE, None, 10, 0))
    for number, (headers, body) in enumerate(messages):
        session.put(queue, f"m{number}", body, CONTENT_TYPE, headers)
        session.answer()
    session.close()


class TestMirroring:
    def test_two_nodes_with_the_same_file_names(self, way: Way) -> None:
        """Rotated files and the one that is written to; what is confirmed is deleted, but for the last; again: nothing new."""
        for host in ("n1.example.org", "n2.example.org"):
            node = way.node(host)
            node.spool.write(400)
            sent = node.ship()
            assert sent.ranges > 10
            assert sent.files_removed == len(node.spool.written) - 1 >= 2
            assert [path.name for path in node.spool.folder.iterdir()] == [node.spool.file]
        names = [set(node.spool.written) for node in way.nodes.values()]
        assert len(names[0] & names[1]) >= 3
        first = way.receive()
        way.assert_mirrored()
        assert first.counts["known"] == 0
        for node in way.nodes.values():
            assert node.ship().ranges == 0
            node.spool.write(30)
            assert node.ship().ranges > 0
        way.receive()
        way.assert_mirrored()

    def test_without_its_state_all_is_sent_again_and_known(self, way: Way) -> None:
        node = way.node("n1", remove=False)
        node.spool.write(100)
        node.ship(message_bytes=8000)
        (way.folder / "n1/sent.json").unlink()
        node.ship(message_bytes=5000)
        counts = way.receive().counts
        assert counts["known"] > counts["written"] > 3
        way.assert_mirrored()

    def test_what_a_broker_has_lost_is_sent_again(self, broker: Broker, way: Way, queue: str) -> None:
        node = way.node("n1", remove=False)
        node.spool.write(30)
        file = SpoolName.of(node.spool.file)
        assert file is not None
        node.ship()
        assert drained(broker, queue)
        shipper = node.shipper()
        assert shipper.round(everything=True).ranges == 0
        shipper.send_again(file)
        assert shipper.round(everything=True).ranges > 0
        with pytest.raises(
            SourceError, match=r"is not in the spool .* `procacct missing --give-up n1 processes-[^ ]*-000002.jsonl`"
        ):
            shipper.send_again(replace(file, number=2))
        shipper.close()
        way.receive()
        way.assert_mirrored()

    def test_cut_short_on_the_way(self, way: Way) -> None:
        """Sent anew, as a file of its own: nothing of either content is missing at the other side."""
        node = way.node("n1")
        node.spool.write(20)
        node.ship()
        path, before = node.spool.folder / node.spool.file, node.spool.written[node.spool.file]
        for again in (2, 3):
            after = b"".join(line("n1", 1000 * again + n) for n in range(20))
            path.write_bytes(after)
            node.ship()
            node.spool.written[node.spool.file.replace(".jsonl", f"-{again}.jsonl")] = after
        way.receive()
        way.assert_mirrored()
        assert mirrored(way.mirror, "n1")[node.spool.file] == before

    def test_lines_wait_for_others(self, way: Way) -> None:
        node = way.node("n1", wait=3600)
        node.spool.append(line("n1", 1))
        shipper = node.shipper()
        assert shipper.round().ranges == 0
        assert shipper.round(everything=True).ranges == 1
        node.spool.append(b"".join(line("n1", n) for n in range(25)))
        assert shipper.round().ranges == 1, "a message that is full does not wait"
        node.spool.rotate()
        assert shipper.round().ranges == 1, "nor does what a finished file ends with"
        shipper.close()

    def test_by_tls_and_who_sent_is_who_it_says(self, broker: Broker, way: Way) -> None:
        own = broker.authority.issue("node")
        tls = {name: str(path) for name, path in (("ca", broker.authority.ca), ("certificate", own.certificate), ("key", own.key))}
        secured: dict[str, Any] = {"brokers": [f"127.0.0.1:{broker.tls_port}"], "tls": tls}
        header = "user-id" if broker.name == "rabbitmq" else "JMSXUserID"
        for host in (f"{USER}.example.org", "other.example.org"):
            node = way.node(host, **secured)
            node.spool.write(30)
            node.ship()
        receiver = way.receive(sender_header=header, sender="{short}", hosts=["*.example.org"], **secured)
        refused = [json.loads(path.read_bytes().partition(b"\n")[0]) for path in way.mirror.glob(".refused/*")]
        assert receiver.counts["refused"] == len(refused) >= 1
        assert {one["reason"] for one in refused} == {f"user '{USER}' is not host other.example.org, as [receive] sender says"}
        del way.nodes["other.example.org"]
        way.assert_mirrored()


class TestFaults:
    def test_the_other_broker_and_what_comes_ahead(self, tmp_path: Path, queue: str, activemq: Broker, rabbitmq: Broker) -> None:
        """The first broker goes away with messages in it: those of the second are kept until it is back."""
        with proxy_to(activemq.port) as proxy:
            way = Way(tmp_path, [f"127.0.0.1:{proxy.port}", f"127.0.0.1:{rabbitmq.port}"], queue)
            node = way.node("n1")
            node.spool.rotate_bytes = 10**9
            node.spool.write(60)
            node.ship()
            proxy.refuses = True
            proxy.cut()
            node.spool.write(200)
            node.ship()
            first = way.receive()
            assert first.counts["ahead"] > 5
            assert first.counts["written"] >= 0
            held = sum(path.stat().st_size for path in way.mirror.glob("n1/.ahead/*"))
            assert held > 30_000
            proxy.refuses = False
            way.receive(idle_s=4)
            way.assert_mirrored()

    def test_no_broker(self, tmp_path: Path, queue: str) -> None:
        way = Way(tmp_path, [f"127.0.0.1:{free_port()}"], queue)
        node = way.node("n1", retry_for=0)
        node.spool.write(5)
        with pytest.raises(PublishError, match="cannot be reached"):
            node.ship()
        assert node.spool.folder.joinpath(node.spool.file).exists()

    def test_what_is_no_range_is_kept_and_told_and_holds_up_nobody(
        self, broker: Broker, way: Way, queue: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        node = way.node("n1")
        node.spool.write(30)
        good, body = Range("n2", SpoolName("processes", boot8(), 1), 0, line("n2", 1), 1).packed()
        damaged = good | {"sha256": "0" * 64}
        put(
            broker,
            queue,
            ({"x": "y"}, b"hello"),
            (good | {"host": "../n2"}, body),
            (damaged, body),
            (good | {"host": "x.org"}, body),
            (good | {"host": "n3"}, body),
        )
        node.ship()
        receiver = way.receive(hosts=["n*"], idle_s=4)
        way.assert_mirrored()
        reasons = sorted(json.loads(path.read_bytes().partition(b"\n")[0])["reason"] for path in way.mirror.glob(".refused/*"))
        assert reasons == sorted([
            "'' is no host name", "'../n2' is no host name", "host x.org is none of [receive] hosts",
            "the bytes are not those that length and sha256 tell of",
            f"{SpoolName('processes', boot8(), 1)} has a row of host 'n2', which is not n3, as [receive] rows says",
        ])  # fmt: skip
        assert receiver.counts["refused"] == 5
        assert "damaged" in caplog.text, "it is put back once"
        assert drained(broker, queue) == []

    def test_too_much_ahead_stays_with_the_broker(
        self, broker: Broker, way: Way, queue: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Until what is missing comes, which is behind it in the queue."""
        monkeypatch.setattr("procacct.shipping.receiver.PAUSE_S", 0.5)
        monkeypatch.setattr("procacct.shipping.receiver.DEFER_S", 1.0)
        name, content = SpoolName("processes", boot8(), 1), b"x" * 400_000 + b"\n"
        ranges = [Range("n1", name, len(content) * n, content, n + 1) for n in range(6)]
        put(broker, queue, *(one.packed() for one in ranges[1:]))
        receiver = way.receive(idle_s=1.2, ahead_bytes=1 << 20)
        assert (receiver.counts["ahead"], receiver.counts["put back"]) == (2, 3)
        put(broker, queue, ranges[0].packed())
        way.receive(idle_s=5, ahead_bytes=1 << 20)
        assert mirrored(way.mirror, "n1") == {str(name): content * 6}

    def test_a_session_that_ends_while_it_waits(self, broker: Broker, queue: str) -> None:
        with proxy_to(broker.port) as proxy:
            session = Session("127.0.0.1", proxy.port, Login("/", USER, PASSCODE, None, 5, 1))
            session.subscribe(queue, 10)
            assert session.received(0.1) is None
            proxy.cut()
            with pytest.raises(Ended, match="was closed"):
                session.received(10)
            session.abandon()


class TestKills:
    def test_killed_at_each_point(self, broker: Broker, way: Way) -> None:
        """Both sides, one point after the other, while more is written each time."""
        node = way.node("n1")
        central = way.central_config()
        for point in (*SHIP_POINTS, *RECEIVE_POINTS):
            node.spool.write(150)
            side = ["ship", "--config", node.config] if point in SHIP_POINTS else ["receive", "--config", central]
            if point in RECEIVE_POINTS:
                node.ship()
            assert Program(way.folder / "log", *side, crash_at=point).ended() == -9, (way.folder / "log").read_text()
        node.ship()
        way.receive(idle_s=3)
        way.assert_mirrored()

    def test_a_receiver_goes_on_by_another_configuration(self, way: Way) -> None:
        """One with an error in it is refused before, and changes nothing."""
        node, log = way.node("n1"), way.folder / "log"
        central = way.central_config(hosts=["n2"])
        program = Program(log, "receive", "--config", central)
        try:
            wait_for(lambda: "taking from" in log.read_text(), "the receiver to listen")
            way.central_config(hosts=[])
            program.tell(signal.SIGHUP)
            wait_for(lambda: "the configuration stays as it was" in log.read_text(), "the refusal")
            assert "receive.hosts" in log.read_text()
            way.central_config(hosts=["n1"], ahead_bytes=2 << 20)
            program.tell(signal.SIGHUP)
            wait_for(lambda: "configuration read again" in log.read_text(), "the receiver to go on")
            node.spool.write(20)
            node.ship()
            wait_for(lambda: mirrored(way.mirror, "n1") == node.spool.written, "what was sent after that")
        finally:
            program.kill()

    def test_a_configuration_that_is_refused_in_a_pause_is_no_end_of_listening(self, tmp_path: Path) -> None:
        def broken() -> Receive:
            raise ConfigError("it is broken")

        way = Way(tmp_path, [f"127.0.0.1:{free_port()}"], "/queue/none")
        receiver = Receiver(Receive.model_validate(way.receive_keys()), broken)
        with Signals() as signals:
            receiver._pause_s = 0.5
            os.kill(os.getpid(), signal.SIGHUP)
            assert not receiver._paused(signals, Notifier(None))
            assert receiver._consumers._threads
            receiver._consumers.stop()

    def test_a_sender_goes_on_by_another_configuration(self, way: Way) -> None:
        node, log = way.node("n1", remove=False), way.folder / "log"
        text = node.config.read_text()
        program = Program(log, "ship", "--config", node.config)
        try:
            node.spool.write(400)
            wait_for(lambda: "sent: " in log.read_text(), "the sender to send")
            node.config.write_text(text.replace("ship.wait = 0", "ship.wait = 7200"))
            program.tell(signal.SIGHUP)
            wait_for(lambda: "the configuration stays as it was" in log.read_text(), "the refusal")
            assert "ship.wait" in log.read_text()
            assert len(list(node.spool.folder.iterdir())) == len(node.spool.written) > 1
            changed = text.replace("ship.remove = false", "ship.remove = true").replace("sent.json", "other.json")
            node.config.write_text(changed)
            program.tell(signal.SIGHUP)
            wait_for(lambda: len(list(node.spool.folder.iterdir())) == 1, "what was sent to be taken away")
            assert "[ship] state changed: that is for the next start" in log.read_text()
            assert not (way.folder / "n1/other.json").exists()
        finally:
            program.kill()
        way.receive()
        way.assert_mirrored()

    @pytest.mark.slow
    def test_killed_at_any_moment(self, broker: Broker, way: Way) -> None:
        """Ship, receive and the broker, at random, while two nodes write."""
        moments = random.Random(11)
        central = way.central_config()
        log = way.folder / "log"
        hosts = ("n1", "n2")
        sides = [["receive", "--config", central]] + [["ship", "--config", way.node(host).config] for host in hosts]
        running = [Program(log, *words) for words in sides]
        stop = threading.Event()

        def write() -> None:
            while not stop.wait(0.1):
                for node in way.nodes.values():
                    node.spool.write(12)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            time.sleep(4)  # a killed RabbitMQ may have lost a queue that was made a moment before
            for number in range(8):
                time.sleep(moments.uniform(0.3, 2.0))
                which = moments.randrange(len(sides))
                running[which].kill()
                if number in {3, 6}:
                    broker.kill()
                    broker.begin()
                    broker.wait()
                running[which] = Program(log, *sides[which])
        finally:
            stop.set()
            writer.join()
            for program in running:
                program.kill()
        for node in way.nodes.values():
            node.ship()
        way.receive(idle_s=4)
        way.assert_mirrored()
        assert min(len(node.spool.written) for node in way.nodes.values()) > 2, "files were rotated meanwhile"
