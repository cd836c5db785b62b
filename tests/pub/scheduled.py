"""`batchacct publish` with something in the place of its receiver or its clock: `main(["alone"])`, started by `tests.forks`.

`BATCHACCT_TEST_FOLDER` is where it leaves traces, and reads the step of its clock.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from batchacct.cli.main import main as batchacct
from batchacct.config import Section
from batchacct.parsing import registry
from pub import schedule
from pub.transports.contract import Envelope, Message, Receipt, Refusal

FOLDER = "BATCHACCT_TEST_FOLDER"


class _Options(Section):
    """None."""


class _Receiver:
    options: ClassVar[type[Section]] = _Options
    envelope: Envelope | None = None

    def __init__(self, options: Section) -> None:
        self._folder = Path(os.environ[FOLDER])

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        for message in messages:
            with (self._folder / "received").open("a", encoding="ascii") as file:
                file.write(f"{message.id}\n")
            yield Receipt(message.id, "received")

    def close(self) -> None:
        """Nothing is open."""


class Alone(_Receiver):
    """Leaves the file `two` if another process hands messages over at the same time."""

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        at_work = self._folder / "at-work"
        try:
            at_work.touch(exist_ok=False)
        except FileExistsError:
            (self._folder / "two").touch()
        try:
            for outcome in super().send(messages):
                time.sleep(0.05)
                yield outcome
        finally:
            at_work.unlink(missing_ok=True)


class Hanging(_Receiver):
    """Never answers."""

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        for _ in messages:
            (self._folder / "hangs").touch()
            threading.Event().wait()
        yield from ()


class Slow(_Receiver):
    """Takes three seconds for the first message."""

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        for outcome in super().send(messages):
            if outcome.message_id == 1:
                time.sleep(3)
            yield outcome


class Broken(_Receiver):
    """Fails in a way nobody foresaw, the first time."""

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        for outcome in super().send(messages):
            if not (self._folder / "broke").exists():
                (self._folder / "broke").touch()
                raise ZeroDivisionError
            yield outcome


RECEIVERS = {"alone": Alone, "hanging": Hanging, "slow": Slow, "broken": Broken}


def stepped_clock() -> int:
    """The time, set by the seconds in the file `step`, if there is one."""
    try:
        step = int((Path(os.environ[FOLDER]) / "step").read_text(encoding="ascii"))
    except FileNotFoundError:
        step = 0
    return int(time.time()) + step


def main(arguments: list[str]) -> int:
    """Publishes to the receiver that is named first; what follows are options of `publish`."""
    receiver, *options = arguments
    load = registry.load
    registry.load = lambda group, name: RECEIVERS[receiver] if group == registry.TRANSPORTS else load(group, name)
    schedule.wall_clock = stepped_clock
    sys.argv = ["batchacct", "publish", *options]
    batchacct()
    return 0
