"""Parsing alone: bytes of a file to Arrow batches, beside Python's `csv` module taking the same file apart into texts.

The `csv` module is the floor of what a careful parser could cost: written in C, it splits at blanks and undoes doubled quotes,
and converts, checks and names nothing.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast

from batchacct.parsing import Parsed, Parser, Source, registry
from batchacct.parsing.contract import UnitParser
from batchacct.parsing.reading import open_stream, read_blocks
from benchmarks.farm import Logs
from benchmarks.figures import Figures, alternating, seconds

CAREFUL_LINES = 20_000
"""The careful lane is measured on so many lines at the beginning."""

SOURCE = Source("bench", "BENCH-SITE", "lsf1")


def parsed_file(parser: Parser, path: Path, workers: int = 1) -> Iterator[Parsed]:
    """A whole file through a parser, block by block."""
    with open_stream(str(path)) as stream:
        yield from parser.parse(read_blocks(stream, parser.framing), SOURCE, workers=workers)


def measure(figures: Figures, logs: Logs, workdir: Path) -> None:
    """LSF and BLAH: the fast lane with one thread and two, the careful lane on a sample."""
    for name, path in (("lsf", logs.acct), ("blah", logs.blah)):
        parser = cast("UnitParser", registry.parser(name))
        lines = _lines_of(path)
        for workers in (1, 2):
            taken = alternating(lambda: seconds(lambda: drain(parser, path, workers)), lambda: seconds(lambda: _lex(path)))  # noqa: B023
            _add(figures, f"parse {name}, {workers} thread{'s' * (workers > 1)}", lines, taken)
        sample = workdir / f"sample.{name}"
        _write_head(path, sample, CAREFUL_LINES)
        careful = replace(parser, fast_lane=None)
        taken = alternating(lambda: seconds(lambda: drain(careful, sample, 1)), lambda: seconds(lambda: _lex(sample)), times=1)  # noqa: B023
        _add(figures, f"parse {name}, careful lane alone", min(lines, CAREFUL_LINES), taken)
        sample.unlink()


def _add(figures: Figures, step: str, lines: int, taken: tuple[float, float]) -> None:
    figures.add(step, lines / taken[0], "lines/s", lines / taken[1], "Python's csv module, splitting only, one thread")


def drain(parser: Parser, path: Path, workers: int) -> None:
    """Parse it all, and keep nothing.  Raises: RuntimeError if any of it is rejected."""
    for parsed in parsed_file(parser, path, workers):
        if parsed.rejects:
            raise RuntimeError(f"the benchmark's own {path.name} has rejects: {parsed.rejects[0].reason}")


def _lex(path: Path) -> None:
    with path.open(encoding="latin-1", newline="") as text:
        deque(csv.reader(text, delimiter=" ", quotechar='"', doublequote=True), maxlen=0)


def _lines_of(path: Path) -> int:
    with path.open("rb") as raw:
        return sum(piece.count(b"\n") for piece in iter(lambda: raw.read(1 << 22), b""))


def _write_head(path: Path, target: Path, lines: int) -> None:
    with path.open("rb") as raw, target.open("wb") as head:
        head.writelines(islice(raw, lines))
