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


@runtime_checkable
class FixedFraming(Framing, Protocol):
    """A framing of units of one length, which begin at multiples of it from the beginning of the file, whatever is in them."""

    unit_bytes: int


def unit_bytes(framing: Framing) -> int:
    """At multiples of how many bytes from the beginning of a file units begin: of whatever number but for a `FixedFraming`."""
    return framing.unit_bytes if isinstance(framing, FixedFraming) else 1


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


class BinaryFraming:
    """Records of one length, without separators; what is left at the end of a file that will not grow is a unit, too."""

    def __init__(self, unit_bytes: int) -> None:
        self.unit_bytes = unit_bytes

    def cut(self, data: bytes, *, final: bool) -> int:
        return len(data) if final else len(data) // self.unit_bytes * self.unit_bytes

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        for start in range(0, len(data), self.unit_bytes):
            yield start, min(start + self.unit_bytes, len(data))


LINES = LineFraming()
