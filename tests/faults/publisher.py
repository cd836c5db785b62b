"""A site that publishes: its runs as processes that can be killed, in steps so small that there is much to interrupt."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchacct.cli.collecting import collector_of
from batchacct.clock import NOW_VARIABLE
from batchacct.collector import collect_once
from batchacct.config import MAIN, PATH_VARIABLE, load_config
from batchacct.errors import BusyError, PublishError
from batchacct.ledger.books import read_books
from pub.command import publish_once
from tests.faults.receiver import Receiver
from tests.faults.world import SITE, World
from tests.forks import Forked, Forks
from tests.pristine import with_schema
from tests.services.brokers import PASSCODE, USER

CONFIGURATION = """\
site = "{site}"

[database]
url = "{url}"

[[source]]
name = "lsf"
parser = "lsf"
paths = ["{logs}/lsb.acct*"]
cluster = "lsf1"

[[source]]
name = "blah"
parser = "blah"
paths = ["{logs}/blahp.log-*"]

[ce]
"*.example.org:8443/cream-lsf-*" = "lsf1"

[[cluster]]
name = "lsf1"
machine_name = "lsf-master.example.org"
grid_queues = ["grid_*"]

[[benchmark]]
type = "HEPscore23"
value = 12.5

[join]
grace = 0
max_hold = 0
"""
SMALL_STEPS = {
    "pub.joining.RECORDS_PER_STEP": 20,
    "pub.outbox.RECORDS_PER_STEP": 12,
    "pub.sending.CONFIRM_EVERY": 3,
    "pub.sending.READ_AT_ONCE": 2,
}
BUNCH = 4
FIRST_RUN_AT = 1_794_000_000
PATIENCE_S = 120.0


class Publisher:
    """`folder` takes everything; `url` is of a database, which is made anew."""

    def __init__(self, folder: Path, url: str, forks: Forks, seed: int = 1) -> None:
        self.folder = folder
        self.world = World(folder / "logs", seed)
        self.store = with_schema(url)
        self._url, self._forks = url, forks
        self._configuration = folder / "batchacct.toml"
        self._runs = 0
        self._started: list[Forked] = []
        self.passcode_file = folder / "passcode"
        self.give_passcode(PASSCODE)

    def give_passcode(self, passcode: str) -> None:
        self.passcode_file.touch(mode=0o600)
        self.passcode_file.write_text(f"{passcode}\n")

    def configure(self, *destinations: str) -> None:
        """`destinations` are such as `to_queue` gives."""
        text = CONFIGURATION.format(site=SITE, url=self._url, logs=self.folder / "logs")
        self._configuration.write_text(text + "".join(destinations), encoding="utf-8")

    def to_queue(self, queue: str, port: int, *, name: str = MAIN, bunch: int = BUNCH, **options: object) -> str:
        """A destination behind a broker's port; its deadlines are short."""
        values = {
            "brokers": [f"127.0.0.1:{port}"], "destination": queue, "login": USER, "passcode_file": self.passcode_file,
            "timeout": 5, "retry_for": 20, "heart_beat": 1, "window": 10, **options,
        }  # fmt: skip
        return _destination({"name": name, "transport": "stomp", "bunch": bunch}, values)

    def to_folder(self, path: Path, *, name: str = MAIN) -> str:
        """A destination behind an SSM sender."""
        return _destination({"name": name, "transport": "ssm-directory", "path": path, "bunch": BUNCH}, {})

    @property
    def now(self) -> int:
        """The time it is: each run is a while after the one before."""
        return FIRST_RUN_AT + 7 * self._runs

    def go_on(self, jobs: int = 30) -> None:
        """The farm goes on, and what it logged is collected."""
        self.world.go_on(jobs)
        self._runs += 1
        config = load_config(self._configuration)
        for source in config.source:
            collect_once(self.store, collector_of(config, source), lambda: self.now)

    def start(self, crash_at: str = "") -> Forked:
        """A run of the publisher."""
        return self._start(crash_at)[0]

    def run(self, crash_at: str = "") -> tuple[int, str]:
        """A run of the publisher to its end: its status, -9 if it was killed, and what it said."""
        status, told = self._ended(self._start(crash_at))
        deadline = time.monotonic() + PATIENCE_S
        while status == BusyError.exit_code:  # a server may notice late that a killed process is gone, and its lock is free
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
            status, told = self._ended(self._start(crash_at))
        return status, told

    def publish(self, *, expected: int = 0, crash_at: str = "") -> str:
        """A run of the publisher, which ends with that status; what it said."""
        status, told = self.run(crash_at)
        assert status == expected, f"it ended with {status}: {told}"
        return told

    def publish_all(self, *receivers: Receiver) -> None:
        """Publishes all there is, in as many runs as that needs, and has the receivers take it."""
        config = load_config(self._configuration)
        deadline = time.monotonic() + PATIENCE_S
        is_through = False
        while not is_through:
            self._runs += 1
            try:
                publish_once(self.store, config, lambda: self.now)
                is_through = True
            except (BusyError, PublishError):
                assert time.monotonic() < deadline
            for receiver in receivers:
                receiver.take(self.now)

    def assert_balanced(self) -> None:
        """The books balance, and nothing waits."""
        with self.store.reading() as connection:
            books = read_books(connection)
        assert books.balanced, books.problems
        for one in books.destinations:
            assert one.confirmed == one.publishable > 0

    def _start(self, crash_at: str = "") -> tuple[Forked, Path]:
        self._runs += 1
        output = self.folder / f"publish-{self._runs}.log"
        environment = {PATH_VARIABLE: str(self._configuration), NOW_VARIABLE: str(self.now), "BATCHACCT_CRASH_AT": crash_at}
        started = self._forks.start(
            "batchacct", "publish", "--once", log=output, environment=environment, folder=self.folder, settings=SMALL_STEPS
        )
        self._started.append(started)
        return started, output

    @staticmethod
    def _ended(started: tuple[Forked, Path]) -> tuple[int, str]:
        process, output = started
        status = process.wait(PATIENCE_S)
        return status, output.read_text(encoding="utf-8")

    def close(self) -> None:
        """Kills what still runs."""
        for process in self._started:
            if process.status is None:
                process.kill()
        self.store.close()


def _destination(keys: Mapping[str, object], options: Mapping[str, object]) -> str:
    lines = [f"{name} = {_toml(value)}" for name, value in keys.items()]
    lines += ["[destination.options]", *(f"{name} = {_toml(value)}" for name, value in options.items())] if options else []
    return "\n".join(["\n[[destination]]", *lines, ""])


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + " }"
    return json.dumps(str(value) if isinstance(value, Path) else value)
