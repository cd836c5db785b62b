"""What is collected, and what a collection did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from batchacct.errors import BatchacctError
from batchacct.feeding import Feed
from batchacct.following import TAIL_BYTES
from batchacct.parsing import Block, Parser, Source
from batchacct.store import Counts

PARSE_THREADS = 2

Progress = Callable[[int], None]
"""Told how many bytes (uncompressed) were read and stored since the last call."""


def no_progress(_count: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Collector:
    """One configured source with its parser; `feed` where it is asked rather than followed."""

    parser: Parser
    source: Source
    paths: tuple[str, ...]
    feed: Feed | None = None


@dataclass
class Collected:
    """What a collection did: unit counts as in the store's loads, files read, and what went wrong by file."""

    source: str
    counts: Counter[str] = field(default_factory=Counter)
    files: int = 0
    bytes_read: int = 0
    errors: list[BatchacctError] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    """Files that were not empty, and of which not one unit was whole: what is at their end may be half written."""
    waiting: list[str] = field(default_factory=list)
    """Files that look like copies still being written: they are looked at again later."""
    warnings: list[str] = field(default_factory=list)
    lost_bytes: int = 0
    """Bytes that were seen, and destroyed before they could be read."""
    again: bool = False
    """Something changed under the look: another one is due at once."""

    def add(self, counts: Counts) -> None:
        for name in ("units", "recorded", "merged", "known", "revised", "skipped", "rejected"):
            self.counts[name] += getattr(counts, name)

    def followed_by(self, later: Collected) -> Collected:
        """Both looks as one: what went wrong in the first may be well in the second."""
        return replace(
            later,
            counts=self.counts + later.counts,
            files=max(self.files, later.files),
            bytes_read=self.bytes_read + later.bytes_read,
            lost_bytes=self.lost_bytes + later.lost_bytes,
        )

    @property
    def read_to_end(self) -> bool:
        return not (self.errors or self.waiting or self.again)


def beginning(source: Source, head: bytes) -> Source:
    """The source, told how the file begins that is read; a header line that the configuration gives goes before that."""
    return replace(source, head=source.head or head)


def noting_tails(blocks: Iterable[Block], tails: dict[int, bytes], before: bytes) -> Iterator[Block]:
    """Passes blocks on, noting for each end offset the bytes before it, by which its file is known again."""
    tail = before
    for block in blocks:
        tail = b"" if block.dropped else (tail + block.data[-TAIL_BYTES:])[-TAIL_BYTES:]
        tails[block.end_offset] = tail
        yield block
