"""A control socket that is served in a thread, over groups that a test feeds."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from procacct.node.control import ControlServer, Limits
from procacct.node.control_requests import Requests
from procacct.node.group_memory import GroupMemory
from procacct.node.group_model import Record
from procacct.node.groups import Groups

BOOT = "1f3a9c2e-0000-4000-8000-000000000000"


@dataclass
class Served:
    """What is served, and where; `lock` is held while the server is at work."""

    path: Path
    groups: Groups
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)
    records: list[Record] = field(default_factory=list)


@contextmanager
def served(folder: Path, limits: Limits | None = None) -> Iterator[Served]:
    """A server in a folder of its own."""
    memory = GroupMemory(folder / "state")
    groups = Groups(BOOT, "node1", memory=memory)
    groups.begin(time.time_ns())
    here = Served(folder / "control", groups)
    requests = Requests(groups, stop=here.ended.set, more_status=lambda: {"spooled": 7})
    server = ControlServer(here.path, requests.answer, limits)
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            select.select([server], [], [], 0.02)
            with here.lock:
                server.turn()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield here
    finally:
        done.set()
        thread.join()
        server.close()
        memory.close()
