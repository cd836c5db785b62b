"""Running sacct: its output as a stream that ends only if the answer is whole, and no process left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from batchacct.errors import SourceError
from batchacct.parsing.contract import printable
from batchacct.parsing.reading import Readable

log = logging.getLogger(__name__)

SETTINGS = {"TZ": "UTC", "SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
"""Times as Unix seconds, and lists of array tasks in whole, however long."""
LONGEST_HEADER = 16_384

_TOLD_BYTES = 1000
_PIECE_BYTES = 65_536
_ENDING_S = 60
"""How long sacct may take to end once it has closed its output."""


def printed(command: Sequence[str], timeout_s: int) -> str:
    """What a short call prints.  Raises: SourceError if it cannot be run, fails, or takes longer."""
    with _run(command, timeout_s) as output:
        return b"".join(iter(lambda: output.piece(_PIECE_BYTES), b"")).decode("utf-8", "replace")


@contextmanager
def answering(command: Sequence[str], fields: Sequence[str], timeout_s: int) -> Iterator[Readable]:
    """sacct's rows below a header of `fields`, as a stream.

    Its end is read only where the answer is whole.  Raises: SourceError in reading, and on leaving before the end was read.
    """
    with _run(command, timeout_s) as output:
        yield _Answer(output, b"|".join(field.encode() for field in fields))
        output.must_have_ended()


class _Output:
    """What a process prints, piece by piece, and what it complained of."""

    def __init__(self, command: Sequence[str], process: subprocess.Popen[bytes], complaints: IO[bytes], timeout_s: int) -> None:
        self._command = shlex.join(command)
        self._process = process
        self._complaints = complaints
        self._timeout_s = timeout_s
        self._ended = False

    def piece(self, size: int) -> bytes:
        """Some bytes, at most `size`; none once the process has ended well.  Raises: SourceError."""
        if self._ended:
            return b""
        assert self._process.stdout
        stream = self._process.stdout.fileno()
        waiting = select.poll()
        waiting.register(stream, select.POLLIN | select.POLLHUP)
        if not waiting.poll(self._timeout_s * 1000):
            raise self.failure(
                f"said nothing for {self._timeout_s} s and was ended; is slurmdbd busy? See the options timeout, window"
            )
        data = os.read(stream, size)
        if not data:
            self._end()
        return data

    def _end(self) -> None:
        try:
            status = self._process.wait(min(self._timeout_s, _ENDING_S))
        except subprocess.TimeoutExpired as error:
            raise self.failure("closed its output but did not end") from error
        if status:
            raise self.failure(f"ended with status {status}" if status > 0 else f"was ended by signal {-status}")
        self._ended = True
        if told := self.told():
            log.warning("%s said: %s", self._command, told)

    def must_have_ended(self) -> None:
        """Raises: SourceError if the output was not read to its end."""
        if not self._ended:
            raise self.failure("was not read to its end")

    def told(self) -> str:
        """The end of what it said on standard error."""
        length = self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, length - _TOLD_BYTES))
        return self._complaints.read().decode("utf-8", "replace").strip()

    def failure(self, what: str) -> SourceError:
        told = self.told()
        return SourceError(f"{self._command}: it {what}" + (f". It said: {told}" if told else ""))


class _Answer:
    """The output as a stream with its header checked; the blocks that are read are as long as those of a file."""

    def __init__(self, output: _Output, header: bytes) -> None:
        self._output = output
        self._header = header
        self._head: bytes | None = b""
        self._has_rows = False

    def read(self, size: int = -1, /) -> bytes:
        pieces = []
        left = size
        while left:
            piece = self._output.piece(min(left, _PIECE_BYTES) if left > 0 else _PIECE_BYTES)
            self._check(piece)
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece) if left > 0 else 0
        return b"".join(pieces)

    def _check(self, piece: bytes) -> None:
        if self._head is None:
            self._has_rows = self._has_rows or bool(piece)
        else:
            self._head += piece
            line, newline, rows = self._head.partition(b"\n")
            self._has_rows = bool(rows)
            if newline or not piece or len(line) > LONGEST_HEADER:
                self._check_header(line.rstrip(b"\r"))
        if not piece and not self._has_rows and "error:" in self._output.told():
            raise self._output.failure("ended with status 0, but without a row")

    def _check_header(self, line: bytes) -> None:
        if line.lower() != self._header.lower():
            shown = f"began with {printable(line, 100)}" if line else "printed nothing"
            raise self._output.failure(f"{shown}, where the header {self._header.decode()} was due")
        self._head = None


@contextmanager
def _run(command: Sequence[str], timeout_s: int) -> Iterator[_Output]:
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(  # noqa: S603 - the program is the administrator's choice
                command, env=os.environ | SETTINGS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            told = f'{command[0]} cannot be run: {error.strerror}. Name the program in feed_options, sacct = "/path/of/sacct"'
            raise SourceError(told) from error
        try:
            yield _Output(command, process, complaints, timeout_s)
        finally:
            _end_all(process)


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """Ends what still runs: sacct, and whatever a script around it started, which share a process group of their own."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.stdout:
        process.stdout.close()
    process.wait()
