"""A daemon of the old kind: in the background, with a pid file, ended by SIGTERM.

These lines and not python-daemon, whose pid files are those of lockfile: that is no longer maintained, and a pid file which
a killed daemon left is in the way of the next one. Here the lock is the kernel's, and gone with its process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from batchacct.errors import BatchacctError, BusyError, ConfigError
from batchacct.signals import Signals

log = logging.getLogger(__name__)


def run_as_daemon(pidfile: Path, body: Callable[[Signals], None], check: Callable[[], None] = lambda: None) -> None:
    """Runs `body` in a daemon, with the signals it is to wait for; this process ends once the pid file is there.

    It ends with 0, or with 1 if the daemon failed before. What `check` raises is raised before any fork, too.
    Raises: BusyError if it is running already, ConfigError for a pid file that cannot be written; both before any fork.
    """
    pid_file = PidFile(pidfile.absolute())
    check()
    ready = _daemonise()
    try:
        with Signals() as signals:
            pid_file.write()
            os.write(ready, b"+")
            os.close(ready)
            log.info("started as process %d", os.getpid())
            body(signals)
            log.info("ended")
    except BatchacctError:
        raise
    except Exception:
        log.exception("ended by an error that was not foreseen")
        sys.exit(1)
    finally:
        pid_file.remove()


def _daemonise() -> int:
    """Goes on in a process without terminal, parent or standard streams; returns what to write to once it is ready."""
    told, ready = os.pipe()
    if first := os.fork():
        os.close(ready)
        _leave(first, told)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(told)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    os.close(nothing)
    return ready


def _leave(child: int, told: int) -> NoReturn:
    """Ends the process that was called, once the daemon is ready or has failed."""
    is_ready = os.read(told, 1)
    os.waitpid(child, 0)
    if not is_ready:
        sys.stderr.write("the daemon did not start: its log file says why\n")
        sys.stderr.flush()
    os._exit(0 if is_ready else 1)


class PidFile:
    """A pid file that its process keeps locked: one that is not locked is what a killed daemon left, and is replaced.

    The lock is taken at once, and handed on by fork. The pid appears in whole, by renaming a file locked before.
    Raises: BusyError if another process holds it, ConfigError if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = self._claimed()
        except OSError as error:
            raise ConfigError(f"pid file {path} cannot be written: {error.strerror}. Name another with --pidfile") from error

    def _claimed(self) -> int:
        while True:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            pid = os.read(handle, 20).decode("ascii", "replace").strip()
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(handle)
                raise BusyError(f"it is running already, as process {pid or '(starting)'} (pid file {self.path})") from error
            if self._is_at_path(handle):
                if pid:
                    log.warning("the pid file of process %s, which did not end as it should, is replaced: %s", pid, self.path)
                return handle
            os.close(handle)

    def _is_at_path(self, handle: int) -> bool:
        """Whether the file has still its name: another process may have removed or replaced it just before the lock."""
        try:
            return os.path.samestat(os.fstat(handle), self.path.lstat())
        except FileNotFoundError:
            return False

    def write(self) -> None:
        """Puts this process's pid into it."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.write(handle, f"{os.getpid()}\n".encode())
        temporary.rename(self.path)
        os.close(self._handle)
        self._handle = handle

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._handle)
