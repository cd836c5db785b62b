"""Forks commands of `batchacct` out of a process that has imported everything, so that one costs 20 ms and not a second.

`python -m tests.forkserver` reads one JSON object a line: what to start, or which process to bury (`tests.forks`
is the other end); its arguments are modules to import besides. It has no thread but that of Arrow's allocator when it forks.
At the end of its input it kills what still runs.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import importlib.util
import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from batchacct.clock import NOW_VARIABLE
from batchacct.parsing import registry
from batchacct.store import Store

IMPORTED = (
    "encodings.ascii", "encodings.idna", "alembic", "psycopg", "sqlalchemy.dialects.postgresql.psycopg",
    "batchacct.cli.collecting", "batchacct.cli.telling", "batchacct.cli.main", "batchacct.collector",
    "batchacct.archive.purging", "batchacct.archive.whole_months",
    "batchacct.completing", "batchacct.store.migrating", "loccol.acct", "loccol.lsf", "cecol.blah", "cecol.whisk",
    "pub.command", "pub.formats.apel", "pub.transports.ssm_directory", "pub.transports.stomp", "pub.smime",
)  # fmt: skip
_PR_SET_PDEATHSIG = 1


def serve() -> int:
    """Answers until the end of input; in a forked process, runs its command and returns that one's exit status."""
    _warm_up()
    _answer("ready")
    children: set[int] = set()
    while line := sys.stdin.readline():
        asked: dict[str, Any] = json.loads(line)
        if "bury" in asked:
            pid = asked["bury"]
            _answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            children.discard(pid)
            continue
        pid = os.fork()
        if pid == 0:
            return _run(**asked)
        children.add(pid)
        _answer(pid)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return 0


def _warm_up() -> None:
    """Imports what commands need, also what they import late: a process of another user may not read this one's installation."""
    for name in (*IMPORTED, *sys.argv[1:]):
        if importlib.util.find_spec(name) is not None:  # an earlier release has not all of them
            importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/batchacct.db")
        store.create()
        store.check()
        store.close()
    registry.parser("lsf")


def _answer(what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


def _run(
    *,
    arguments: list[str],
    environment: dict[str, str],
    log: str,
    folder: str,
    user: int | None,
    settings: dict[str, Any],
    clock: str | None,
) -> int:
    faulthandler.register(signal.SIGUSR1)  # where its threads are is told when a test has waited for it in vain
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream, handle in enumerate((nothing, output, output)):
        os.dup2(handle, stream)
    os.close(nothing)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for name, value in settings.items():
        module, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    if clock is not None:
        threading.Thread(target=_follow_clock, args=(Path(clock),), daemon=True).start()
    module = arguments[0]
    sys.argv = arguments
    if module == "batchacct":
        importlib.import_module("batchacct.cli.main").main()
        return 0
    status: int = importlib.import_module(module).main(arguments[1:])
    return status


def _follow_clock(path: Path) -> None:
    """Takes the time from a file, whenever that changes: a clock that a test can step."""
    never = threading.Event()
    while not never.wait(0.02):
        if text := path.read_text(encoding="ascii"):
            os.environ[NOW_VARIABLE] = text


if __name__ == "__main__":
    sys.exit(serve())
