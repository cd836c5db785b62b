"""Every parser on a log of its own (`benchmarks.logs`), beside APEL's for the same lines in the same run, where there is one.

Of APEL only the calls of `parse` are timed; of ours everything from the opened file to Arrow batches. Every measurement is in an
interpreter of its own, where nothing of this log was seen before; ours is `python -m benchmarks.parsers PARSER FILE THREADS`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast

from batchacct import memory
from batchacct.parsing import Block, Outcome, Source, registry
from batchacct.parsing.contract import UnitParser
from batchacct.parsing.reading import open_stream, read_blocks
from benchmarks import logs
from benchmarks.apel import MISSING, Apel
from benchmarks.figures import Figures, Taken, Throughput, median_of, timed
from benchmarks.parse import SOURCE, drain

ROUNDS = 3
WARM_UP_BYTES = 1 << 16
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
    """Both numbers of threads and APEL in turn."""
    parser = cast("UnitParser", registry.parser(log.parser))
    careful_s, left = _careful_lane(parser, log)
    taken: list[tuple[Taken, Taken, Taken | None]] = []
    for nth in range(ROUNDS):
        one, two = (_in_a_child(log, workers) for workers in (1, 2))
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


def _in_a_child(log: logs.Log, workers: int) -> Taken:
    command = [sys.executable, "-m", "benchmarks.parsers", log.parser, str(log.path), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return Taken(*json.loads(done.stdout))


def child(name: str, path: str, workers: str) -> None:
    """Prints the seconds of one pass; what is imported on first use, a small block has asked for before."""
    memory.keep_freed()
    parser = cast("UnitParser", registry.parser(name))
    with open_stream(path) as stream:
        first = list(islice(read_blocks(stream, parser.framing, block_bytes=WARM_UP_BYTES), 1))
    deque(parser.parse(first, SOURCE), maxlen=0)
    print(json.dumps(timed(lambda: drain(parser, Path(path), int(workers)))))


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


if __name__ == "__main__":
    child(*sys.argv[1:])
