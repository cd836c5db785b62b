"""Where one unit of a stream ends and the next begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable


class Framing(Protocol):
    """How a format divides its bytes into units. Both methods see bytes that begin at the start of a unit."""

    def cut(self, data: bytes, *, final: bool) -> int:
        """Length of the prefix of `data` that is whole units; 0 if it holds not even one.

        `final`: nothing will follow, so an unfinished unit at the end is as whole as it will ever be.
        """

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """(start, end) of each unit of `data` (what `cut` measured off), without the separator; empty units are left out."""


@runtime_checkable
class MarkedFraming(Framing, Protocol):
    """A framing whose units need not end with a line, so that it alone can say where to go on behind one that is too long."""

    def next_start(self, data: bytes, after: int) -> int:
        """Where, behind the byte `after`, a unit surely begins; -1 if nowhere in `data`."""


@runtime_checkable
class SplittableFraming(Framing, Protocol):
    """A framing that can tell from the middle of a stream where a unit begins: a large file is read in several places at once."""

    def split_after(self, data: bytes, after: int) -> int:
        """Where, behind the byte `after`, a unit surely begins, whatever stands before `data`, and the unit before surely ends;
        -1 if nowhere in `data`."""


@runtime_checkable
class WholeFiles(Framing, Protocol):
    """A framing of files that are complete as soon as they are there (written aside and renamed): what is at their end is whole."""

    files_are_complete: bool


class LineFraming:
    """A line is a unit; `\\n` ends it, a `\\r` before it is dropped, empty lines are none."""

    def cut(self, data: bytes, *, final: bool) -> int:
        return len(data) if final else data.rfind(b"\n") + 1

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        start = 0
        while start < len(data):
            newline = data.find(b"\n", start)
            stop = len(data) if newline < 0 else newline
            end = stop - 1 if data[start:stop].endswith(b"\r") else stop
            if data[start:end].strip():
                yield start, end
            start = stop + 1

    def split_after(self, data: bytes, after: int) -> int:
        return data.find(b"\n", after) + 1 or -1


LINES = LineFraming()
