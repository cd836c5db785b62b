"""Every parser on a log of its own (`benchmarks.logs`), beside APEL's for the same lines in the same run, where there is one.

Of APEL only the calls of `parse` are timed, in an interpreter of its own; of ours everything from the opened file to Arrow batches.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast

from batchacct.parsing import Block, Outcome, Source, registry
from batchacct.parsing.contract import UnitParser
from batchacct.parsing.reading import open_stream, read_blocks
from benchmarks import logs
from benchmarks.apel import MISSING, Apel
from benchmarks.figures import Figures, Taken, Throughput, median_of, timed
from benchmarks.parse import SOURCE, drain

ROUNDS = 3
SAMPLE_BLOCKS, SAMPLE_BLOCK_BYTES = 2, 1 << 20
"""Of this much of a log the careful lane alone is measured, and how much the fast lane leaves to it."""


def names(installed: Sequence[str] | None = None) -> list[str]:
    """The logs there are whose parser is installed."""
    known = registry.names(registry.PARSERS) if installed is None else installed
    return [*(name for name in logs.LARGE if name in known), *(name for name, form in logs.FORMATS.items() if form.parser in known)]


def measure(figures: Figures, chosen: Sequence[str], workdir: Path, units: int, seed: int) -> None:
    """A row of the second table each."""
    apel = Apel.installed()
    if apel is None:
        figures.note(MISSING)
    for name in chosen:
        print(f"{time.strftime('%H:%M:%S')}   {name}", file=sys.stderr, flush=True)
        log = logs.made(name, workdir, units, seed)
        figures.parsers.append(_measured(figures, log, apel if log.apel else None))


def _measured(figures: Figures, log: logs.Log, apel: Apel | None) -> Throughput:
    """Sample first, which warms up; then both numbers of threads and APEL in turn."""
    parser = cast("UnitParser", registry.parser(log.parser))
    careful_s, left = _careful_lane(parser, log)
    taken: list[tuple[Taken, Taken, Taken | None]] = []
    for nth in range(ROUNDS):
        one, two = (timed(lambda: drain(parser, log.path, workers)) for workers in (1, 2))  # noqa: B023
        theirs = None
        if apel and log.apel:
            told = apel.child("parse", log.apel, log.path)
            theirs = Taken(told["elapsed_s"], told["cpu_s"])
            if told["refused"] and not nth:
                figures.note(f"{log.name}: APEL's parser refused {told['refused']:,.0f} of {told['lines']:,.0f} lines")
        taken.append((one, two, theirs))
    return Throughput(
        log=log.name,
        unit=log.unit,
        units=log.units,
        size=log.size,
        one_thread=median_of(one for one, _, _ in taken),
        two_threads=median_of(two for _, two, _ in taken),
        careful_s=careful_s,
        left=left,
        reference=median_of(theirs for _, _, theirs in taken if theirs) if apel else None,
    )


def _careful_lane(parser: UnitParser, log: logs.Log) -> tuple[float, float]:
    """Seconds the careful lane alone would take for the log, and which share of units the fast lane leaves to it."""
    with open_stream(str(log.path)) as stream:
        blocks = list(islice(read_blocks(stream, parser.framing, block_bytes=SAMPLE_BLOCK_BYTES), SAMPLE_BLOCKS))
    taken = timed(lambda: deque(replace(parser, fast_lane=None).parse(blocks, SOURCE), maxlen=0))
    careful_s = taken.wall_s * log.size / sum(len(block.data) for block in blocks)
    return careful_s, _share_left(parser, blocks) if parser.fast_lane else 1.0


def _share_left(parser: UnitParser, blocks: list[Block]) -> float:
    left = 0

    def counted(unit: bytes, source: Source) -> Outcome:
        nonlocal left
        left += 1
        return parser.parse_unit(unit, source)

    units = sum(parsed.units for parsed in replace(parser, parse_unit=counted).parse(blocks, SOURCE))
    return left / units
