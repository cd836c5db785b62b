"""`batchacct` as a user runs it, in this process: through main(), with real file descriptors, and its exit status."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from batchacct.cli import main


class Stream(io.TextIOWrapper):
    """A standard stream; a test may take it for a terminal."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it wrote."""

    status: int
    output: bytes
    err: str

    @property
    def out(self) -> str:
        return self.output.decode()


def batchacct(*arguments: object, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
    """Runs one command. What main() does not turn into an exit status is raised, and so fails the test."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("BATCHACCT_")} | dict(env or {})
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        streams: dict[str, Any] = {
            "stdin": io.TextIOWrapper(io.BufferedReader(io.FileIO(given.fileno(), closefd=False))),
            "stdout": _writable(out.fileno()),
            "stderr": _writable(err.fileno(), "backslashreplace"),
        }
        with (
            mock.patch.multiple(sys, argv=["batchacct", *map(str, arguments)], **streams),
            mock.patch.dict(os.environ, variables, clear=True),
            _logging_as_it_was(),
        ):
            try:
                main()
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
        for stream in streams.values():
            stream.close()
        return Done(status, _content(out.fileno()), _content(err.fileno()).decode())


@contextmanager
def _logging_as_it_was() -> Iterator[None]:
    """Afterwards: a daemon's command has it written to a standard error that is closed when it has ended."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level


def _writable(descriptor: int, errors: str = "strict") -> Stream:
    return Stream(io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)), "utf-8", errors)


def _content(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return Path(f"/proc/self/fd/{descriptor}").read_bytes()
