"""What survives the daemon: the processes that run, and how far it had heard and written when it was last seen alive.

`open.json`: one JSON object, put in the place of the former one, so that it is the old one or the new one, whole, also after a
power cut. It is written every few seconds, by a thread, as a disk may take its time; the rows that were written before it are on
the disk first. What a killed daemon wrote into the spool after that is read again from there, so that no row is written twice.
`alive.json`: the time, and the last sequence number of each CPU, written in place each second: from these a restart tells how
long nobody listened, and how many events came meanwhile.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from batchacct.durable import replace_file
from batchacct.errors import BusyError, ConfigError
from procacct.node.batch_jobs import NOTHING, BatchJob, Found
from procacct.node.proc_files import forks_since_boot
from procacct.node.processes import Belonging, Process
from procacct.node.spool import Spool
from procacct.node.taskstats import Usage
from procacct.node.told import Told
from procacct.program_files import Marks

log = logging.getLogger(__name__)

FORMAT = 1
OPEN, ALIVE = "open.json", "alive.json"
ALIVE_BYTES = 8192
UNCHANGED_NS = 60_000_000_000
"""What has not changed is written again after so long: it says how far all is known."""

_PLAIN = (
    "pid", "parent_pid", "fork_mono", "fork_ns", "start_mono", "start_ns", "seen", "n", "executed", "is_kernel", "user_id",
    "group_id", "program", "command", "terminal", "threads", "live_threads", "leader_status", "start_ticks", "owns_job",
    "weight",
)  # fmt: skip


@dataclass(slots=True)
class Saved:
    """What an earlier daemon left. Times are Unix ns."""

    boot_id: str
    position: tuple[int, int]
    processes: list[Process]
    alive_ns: int
    last_seen: dict[int, int] = field(default_factory=dict)
    forks: int | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    """Of the last spool file of each kind."""
    untold: int = 0
    """Rows that were given up, of which no gap row tells."""
    sums: dict[str, int] = field(default_factory=dict)
    """Executions in sums that were not written, by the keys of their rows."""
    saved_ns: int = 0
    """Rows of what happened before are on the disk."""
    stopped: bool = True
    """Whether the daemon had ended as it should."""


class State:
    """The two files.  Raises: BusyError if another daemon has them, ConfigError if the folder cannot be made or written to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._touched_ns = max(filter(None, (_modified_ns(folder / name) for name in (OPEN, ALIVE))), default=None)
        self._writer: Thread | None = None
        self._written, self._written_ns = b"", 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._alive = os.open(folder / ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the state folder {folder} cannot be written: {error.strerror}. Let the user that runs procacctd write there, "
                "or set another state"
            ) from error
        try:
            fcntl.flock(self._alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._alive)
            raise BusyError(f"a daemon uses the state folder {folder} already: stop it first (`jobmng stop`)") from error
        self.unsaved: str | None = None

    def load(self) -> Saved | None:
        """None if there is nothing that could be used."""
        try:
            kept = json.loads((self.folder / OPEN).read_bytes())
            if kept["format"] != FORMAT:
                return None
            saved = Saved(kept["boot_id"], tuple(kept["position"]), [_process(one) for one in kept["processes"]], kept["saved_ns"])
            saved.untold, saved.numbers, saved.sums = kept["untold"], kept["numbers"], kept["sums"]
            saved.saved_ns, saved.stopped = kept["saved_ns"], kept.get("stopped", True)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be used, and is given up: %s. What runs is looked at anew", self.folder / OPEN, error)
            return None
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            alive = self._last_sign()
            if alive["boot_id"] == saved.boot_id:
                saved.alive_ns = max(alive["at_ns"], saved.alive_ns)
                saved.forks = alive["forks"]
                saved.last_seen = {int(cpu): int(seq) for cpu, seq in alive["seqs"].items()}
        return saved

    def last_alive_ns(self) -> int | None:
        """When a daemon was last alive here, whether or not it left what can be loaded; None if none ever was.

        If nothing that it wrote can be read, it was when it wrote last.
        """
        with suppress(OSError, ValueError, KeyError, TypeError):
            return int(self._last_sign()["at_ns"])
        return self._touched_ns

    def _last_sign(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(os.pread(self._alive, ALIVE_BYTES, 0))
        return told

    def save(
        self, boot_id: str, spool: Spool, processes: Iterable[Process], now_ns: int, sums: dict[str, int], *, stopped: bool
    ) -> None:
        """Takes down what runs, and how far the spool is; on the disk it is a little later, with `stopped` at once.

        A fault is told once, and tried again the next time.
        """
        if self._writer is not None and self._writer.is_alive() and not stopped:
            return
        self.wait()
        kept = {
            "format": FORMAT,
            "boot_id": boot_id,
            "stopped": stopped,
            "position": spool.position,
            "numbers": spool.numbers,
            "untold": spool.untold,
            "sums": sums,
            "processes": [_kept(one) for one in processes],
        }
        text = json.dumps(kept, separators=(",", ":")).encode()
        if text == self._written and 0 <= now_ns - self._written_ns < UNCHANGED_NS:
            return
        self._writer = Thread(target=self._put, args=(text, now_ns, spool.to_disk()), name="state", daemon=True)
        self._writer.start()
        if stopped:
            self.wait()

    def _put(self, text: bytes, now_ns: int, rows_to_disk: Callable[[], None]) -> None:
        """`text`: an object of JSON, which gets the time."""
        try:
            rows_to_disk()
            replace_file(self.folder / OPEN, b'{"saved_ns":%d,' % now_ns + text[1:])
        except OSError as error:
            if self.unsaved is None:
                log.warning(
                    "the state cannot be written to %s: %s. A restart would not know what runs", self.folder, error.strerror
                )
            self.unsaved = error.strerror or str(error)
        else:
            self.unsaved = None
            self._written, self._written_ns = text, now_ns

    def alive(self, boot_id: str, now_ns: int, last_seen: dict[int, int]) -> None:
        """Notes that it lives, and what it has heard."""
        text = json.dumps({"boot_id": boot_id, "at_ns": now_ns, "forks": forks_since_boot(), "seqs": last_seen}).encode()
        with suppress(OSError):
            os.pwrite(self._alive, text.ljust(ALIVE_BYTES), 0)

    def wait(self) -> None:
        """Until what was saved is on the disk."""
        if self._writer is not None:
            self._writer.join()

    def close(self) -> None:
        self.wait()
        os.close(self._alive)


def _modified_ns(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return None


def _kept(process: Process) -> dict[str, Any]:
    kept = {name: getattr(process, name) for name in _PLAIN}
    found = process.belonging.resolved()
    kept["identity"] = process.identity
    kept["arguments"] = process.arguments
    kept["marks"] = process.marks
    kept["usage"] = None if process.usage is None else asdict(process.usage)
    kept["told"] = None if process.told is None else asdict(process.told)
    kept["job"] = None if found.job is None else [asdict(found.job), found.job_from, found.claims]
    return kept


def _process(kept: dict[str, Any]) -> Process:
    process = Process(kept["pid"], kept["parent_pid"], kept["fork_mono"], kept["fork_ns"], kept["seen"])
    for name in _PLAIN:
        setattr(process, name, kept[name])
    process.identity = None if kept["identity"] is None else (kept["identity"][0], kept["identity"][1])
    process.arguments = None if kept["arguments"] is None else tuple(kept["arguments"])
    process.marks = Marks(*kept["marks"])
    if (usage := kept.get("usage")) is not None:
        process.usage = Usage(**usage)
    if (told := kept.get("told")) is not None:
        rusage = told["rusage"]
        process.told = Told(**{**told, "rusage": None if rusage is None else tuple(rusage)})
    process.belonging = Belonging(None)
    found = NOTHING
    if kept["job"] is not None:
        job, job_from, claims = kept["job"]
        found = Found(BatchJob(**job), job_from, tuple((source, said) for source, said in claims))
    process.belonging.found = found
    return process
