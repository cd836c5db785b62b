"""A receiver that counts: it keeps records as APEL does, and remembers what came under which name."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from tests.apel_reader import read_message
from tests.faults.world import Key, Row
from tests.services.brokers import Broker
from tests.services.consumer import drained

Delivered = tuple[str, bytes]
"""A message's name and what came under it."""


class Letterbox(Protocol):
    """Where messages arrive."""

    def emptied(self) -> list[Delivered]:
        """All that is there, in the order a receiver gets it; then it is there no more."""


class Folder:
    """The outgoing directory of an SSM sender, which takes its messages away in the order of their names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def emptied(self) -> list[Delivered]:
        found = []
        for path in sorted(path for path in self.path.rglob("*") if path.is_file() and path.suffix != ".tmp"):
            found.append((str(path.relative_to(self.path)), path.read_bytes()))
            path.unlink()
        return found


class Queue:
    """A queue of a broker."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker, self.name = broker, name

    def emptied(self) -> list[Delivered]:
        return [(one.empa_id, one.body) for one in drained(self._broker, self.name)]


def as_it_is(body: bytes) -> bytes:
    return body


def verified_by(ca: Path) -> Callable[[bytes], bytes]:
    """Takes the text out of a signed message, as openssl sees it."""
    command = ["openssl", "smime", "-verify", "-CAfile", str(ca), "-purpose", "any", "-text"]

    def verified(body: bytes) -> bytes:
        done = subprocess.run(command, input=body, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.replace(b"\r\n", b"\n")

    return verified


class Receiver:
    """A record takes the place of one with the same site, job id and end; `unsealed` takes the text out of what arrives."""

    def __init__(self, letterbox: Letterbox, unsealed: Callable[[bytes], bytes] = as_it_is) -> None:
        self._letterbox, self._unsealed = letterbox, unsealed
        self.table: dict[Key, Row] = {}
        self._messages: dict[str, tuple[bytes, list[tuple[Key, Row]]]] = {}
        self._deliveries = 0
        self._altered: list[str] = []

    def take(self, now: int) -> int:
        """Takes what has arrived, and says how many messages that were."""
        delivered = self._letterbox.emptied()
        for name, body in delivered:
            if name not in self._messages:
                self._messages[name] = body, list(_records(self._unsealed(body), now))
            known, records = self._messages[name]
            if known != body:
                self._altered.append(name)
                records = list(_records(self._unsealed(body), now))
            self.table.update(records)
        self._deliveries += len(delivered)
        return len(delivered)

    def counts(self, truth: Mapping[Key, Row]) -> Counter[str]:
        """What arrived, and how its table differs from the truth.

        `doubled`: rows the truth does not have, records that are the same in two messages, messages that came with other bytes
        under the same name.
        """
        held = Counter(record for _, records in self._messages.values() for record in records)
        again = sum(times - 1 for times in held.values())
        return Counter({
            "messages": len(self._messages),
            "came twice": self._deliveries - len(self._messages),
            "records": held.total(),
            "lost": sum(self.table.get(key) != row for key, row in truth.items()),
            "doubled": len(self.table.keys() - truth.keys()) + again + len(self._altered),
        })  # fmt: skip


def _records(text: bytes, now: int) -> Iterable[tuple[Key, Row]]:
    for record in read_message(text, now=now):
        key = record["Site"], record["LocalJobId"], record["EndTime"]
        names = ("CpuDuration", "WallDuration", "InfrastructureType", "GlobalUserName", "FQAN")
        yield key, tuple(record.get(name) for name in names)
