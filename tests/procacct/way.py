"""The way of spools to a central host: nodes that ship, a host that receives, in this process or in ones that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchacct.brokers.keys import Receive
from batchacct.notify import Notifier
from batchacct.signals import Signals
from procacct.shipping.config import Ship
from procacct.shipping.receiver import Receiver
from procacct.shipping.shipper import Sent, Shipper, broker_links
from procacct.shipping.spool import Spool, boot8
from tests.procacct.spools import NodeSpool, mirrored
from tests.services.brokers import PASSCODE, USER

ROOT = Path(__file__).parents[2]


@dataclass
class Node:
    """A node with its spool, and what `[ship]` says there."""

    spool: NodeSpool
    keys: dict[str, Any]
    config: Path

    def ship(self, **others: Any) -> Sent:
        """All there is, in this process."""
        shipper = self.shipper(**others)
        try:
            return shipper.round(everything=True)
        finally:
            shipper.close()

    def shipper(self, **others: Any) -> Shipper:
        keys = Ship.model_validate(self.keys | others)
        return Shipper(keys, self.spool.host, Spool(self.spool.folder, boot8()), broker_links(keys))


@dataclass
class Way:
    """Nodes, a queue, a central folder."""

    folder: Path
    brokers: list[str]
    queue: str
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def mirror(self) -> Path:
        return self.folder / "mirror"

    def login(self) -> dict[str, Any]:
        passcode = self.folder / "passcode"
        if not passcode.exists():
            passcode.write_text(PASSCODE)
            passcode.chmod(0o600)
        return {"login": USER, "passcode_file": str(passcode), "timeout": 5, "heart_beat": 2}

    def node(self, host: str, **others: Any) -> Node:
        """A node of that name, with an empty spool of this boot."""
        folder = self.folder / host
        keys = {
            "brokers": self.brokers, "destination": self.queue, "state": str(folder / "sent.json"), "message_bytes": 8000,
            "wait": 0, **self.login(), **others,
        }  # fmt: skip
        spool = NodeSpool(folder / "spool", host, boot=boot8())
        config = folder / "procacctd.toml"
        config.write_text(
            f'host = "{host}"\nspool.path = "{folder}/spool"\n'
            + "".join(f"ship.{name} = {json.dumps(value)}\n" for name, value in keys.items())
        )
        self.nodes[host] = Node(spool, keys, config)
        return self.nodes[host]

    def receive_keys(self, **others: Any) -> dict[str, Any]:
        place = {"brokers": self.brokers, "destination": self.queue, "folder": str(self.mirror)}
        return place | self.login() | others

    def receive(self, idle_s: float = 1.5, **others: Any) -> Receiver:
        """What there is, in this process."""
        receiver = Receiver(Receive.model_validate(self.receive_keys(**others)))
        with Signals() as signals:
            receiver.run(signals, Notifier(None), idle_s=idle_s)
        return receiver

    def central_config(self, **others: Any) -> Path:
        path = self.folder / "batchacct.toml"
        keys = "".join(f"receive.{name} = {json.dumps(value)}\n" for name, value in self.receive_keys(**others).items())
        path.write_text(f'site = "TEST"\ndatabase.url = "sqlite:///{self.folder}/batchacct.db"\n{keys}')
        return path

    def assert_mirrored(self) -> None:
        """Each file of each node is there byte for byte, and nothing else."""
        assert sorted(path.name for path in self.mirror.glob("[!.]*")) == sorted(self.nodes)
        for host, node in self.nodes.items():
            found = mirrored(self.mirror, host)
            assert {name: len(content) for name, content in found.items()} == {
                name: len(content) for name, content in node.spool.written.items()
            }
            assert found == node.spool.written
            assert list(self.mirror.glob(f"{host}/.ahead/*")) == []


class Program:
    """`procacct` as a process of its own."""

    def __init__(self, log: Path, *words: object, crash_at: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "BATCHACCT_CRASH_AT": crash_at}
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "procacct.shipping.commands", *map(str, words)], cwd=ROOT, env=environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    def ended(self, within_s: float = 90) -> int:
        try:
            return self._process.wait(within_s)
        finally:
            self.kill()

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(60)
