"""`acc_run COMMAND...` and `acc_bash`: a command, or bash, with the sensor preloaded; nothing else about it is changed.

The command takes the place of this program, so that its pid, its exit status and its signals are its own. What the interpreter of
Python changes is undone: the command gets the environment that this program was started with (PEP 538 sets LC_CTYPE), and the
default action of SIGPIPE and SIGXFSZ, which the interpreter ignores.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from batchacct.errors import BatchacctError
from procacct.sensor.building import library, preload_path

USAGE = """Usage: acc_run COMMAND [ARGUMENTS]...

Runs the command with the sensor of batchacct preloaded, so that it and the programs it starts are recorded.
BATCHACCT_SENSOR_LIBRARY names another library than the installed one. Without any, the command runs unrecorded.
"""
NOT_EXECUTABLE, NOT_FOUND, WRONG_USAGE = 126, 127, 2
"""Exit statuses: as of a shell, and of click."""


def acc_run() -> NoReturn:
    """Runs the command given by the arguments in this process's place."""
    command = sys.argv[1:]
    if command[:1] in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        sys.exit(0)
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        sys.stderr.write(USAGE)
        sys.exit(WRONG_USAGE)
    run(command)


def acc_bash() -> NoReturn:
    """Runs bash, with the arguments given, in this process's place."""
    run(["bash", *sys.argv[1:]])


def run(command: list[str]) -> NoReturn:
    """Executes the command, searched for in PATH, with the sensor preloaded."""
    environment = started_with()
    if path := _library(environment):
        environment[b"LD_PRELOAD"] = preloading(environment.get(b"LD_PRELOAD", b""), os.fsencode(path))
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - what this program is for
    except OSError as error:
        sys.stderr.write(f"{Path(sys.argv[0]).name}: {command[0]}: {error.strerror}\n")
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)


def started_with() -> dict[bytes, bytes]:
    """The environment this process was given, and not what the interpreter made of it."""
    try:
        block = Path("/proc/self/environ").read_bytes()
    except OSError:
        return dict(os.environb)
    pairs = (variable.partition(b"=") for variable in block.split(b"\0") if variable)
    return {name: value for name, equals, value in pairs if equals}


def preloading(present: bytes, path: bytes) -> bytes:
    """A value of LD_PRELOAD: the sensor after what is there, once."""
    names = present.replace(b":", b" ").split()
    return present if path in names else b":".join([*names, path])


def _library(environment: dict[bytes, bytes]) -> Path | None:
    if given := environment.get(b"BATCHACCT_SENSOR_LIBRARY"):
        return Path(os.fsdecode(given))
    try:
        return preload_path(library())
    except (BatchacctError, OSError) as error:
        sys.stderr.write(f"{Path(sys.argv[0]).name}: not recorded: {error}\n")
        return None
