"""What holds for every registered parser, over all samples: the guess, the books of units, any chunking, and mutated lines."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.parsing import Block, Parsed, Parser, Source, registry
from batchacct.parsing.reading import open_stream, read_blocks

SAMPLES = Path(__file__).parents[1] / "samples"
RECOGNISED: dict[str, tuple[str, ...]] = {
    "apel-identities": ("importing/apel-identities.jsonl",),
    "apel-jobs": ("importing/apel-jobs.jsonl",),
    "app-accounting": ("app-accounting/*.yaml",),
    "arc-db": ("arc/feed.jsonl",),
    "arc-joblog": ("arc/gm-jobs.log.*",),
    "blah": ("blah/*.log*", "blah/grid-jobmap.*", "blah/blah-*"),
    "ce-2012": ("importing/ce-2012.jsonl",),
    "gram": (
        "gram/gram-accounting.*",
        "gram/globus-gatekeeper.*",
        "gram/gridinfo-syslog.*",
        "globus-site/accounting.log",
        "globus-site/globus-gatekeeper.log",
    ),
    "gram-audit": ("gram/*.gramaudit",),
    "htcondor": ("htcondor/*.history", "htcondor/*.ad", "htcondor/gratia-perjob/*"),
    "htcondor-apel": ("htcondor/*.htcondor", "htcondor-ce/batch-*"),
    "htcondor-ce-audit": ("htcondor-ce/AuditLog*",),
    "htcondor-json": ("htcondor/*.json",),
    "lcmaps": ("gram/lcas_lcmaps.log", "gram/lcmaps.*", "gram/messages.*", "globus-site/messages"),
    "loc-2012": ("importing/loc-2012.jsonl",),
    "lsf": ("lsf/*.acct",),
    "ogrt": ("ogrt/*.bin", "ogrt/*.jsonl"),
    "pacct": ("pacct/*.bin",),
    "pbs": ("pbs/*.log", "pbs/*.bz2", "globus-site/pbs-*"),
    "procs": ("procs/processes.jsonl",),
    "procs-groups": ("procs/groups.jsonl",),
    "procs-objects": ("procs/objects.jsonl",),
    "sge": ("sge/*.acct",),
    "sge-json": ("sge/*.jsonl",),
    "slurm": ("slurm/*.sacct",),
    "slurm-jobcomp": ("slurm-jobcomp/*.filetxt",),
    "slurm-jobcomp-json": ("slurm-jobcomp/*.jsonl",),
    "slurm-json": ("slurm-json/*.json",),
    "voms-accounting": ("gram/ngs-voms-accounting-*", "globus-site/voms.log"),
    "xalt": ("xalt/run_*.json", "xalt/*.txt"),
}
"""By parser: the samples (patterns below tests/samples) that are its own; all others are no parser's."""
UNGUESSED = {"htcondor-ce": "htcondor", "htcondor-ce-json": "htcondor-json", "htcondor-perjob": "htcondor"}
"""Parsers that have to be named, since their files are those of another one, too."""

MUTATIONS = int(os.environ.get("BATCHACCT_FUZZ", "50"))
"""Of each parser; the long run takes a million."""


@functools.cache
def content(path: Path) -> bytes:
    with open_stream(str(path)) as stream:
        return stream.read()


def samples_of(name: str) -> list[Path]:
    patterns = RECOGNISED[UNGUESSED.get(name, name)]
    return sorted(path for pattern in patterns for path in SAMPLES.glob(pattern))


EVERY = sorted({*RECOGNISED, *UNGUESSED})


def units_in(parser: Parser, blocks: Iterable[Block]) -> int | None:
    """How many units the framing sees; None for sacct's rows, which are put together by their header line."""
    return None if parser.name == "slurm" else sum(1 for block in blocks for _ in parser.framing.spans(block.data))


def files() -> list[Path]:
    return sorted(path for path in SAMPLES.rglob("*") if path.is_file())


def shown(path: Path) -> str:
    return str(path.relative_to(SAMPLES))


def source_of(data: bytes) -> Source:
    return Source("s", "SITE", "c1", head=data[: registry.HEAD_BYTES])


def parse(parser: Parser, data: bytes, pieces: Iterable[int] = ()) -> list[Parsed]:
    """`data` through the parser, read in pieces of these sizes and then of 64 KiB."""
    stream = _Pieces(data, iter(pieces))
    return list(parser.parse(read_blocks(stream, parser.framing), source_of(data)))


class _Pieces:
    def __init__(self, data: bytes, sizes: Iterator[int]) -> None:
        self._stream, self._sizes = io.BytesIO(data), sizes

    def read(self, size: int = -1, /) -> bytes:
        return self._stream.read(next(self._sizes, 1 << 16))


def told(parsed: Iterable[Parsed]) -> tuple[object, ...]:
    """Everything but which block it came from."""
    done = list(parsed)
    skipped: dict[str, int] = {}
    for one in done:
        for reason, count in one.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
    return (
        [row for one in done for row in one.records.to_pylist()],
        [row for one in done for row in one.parts.to_pylist()],
        [dataclasses.astuple(reject) for one in done for reject in one.rejects],
        skipped,
    )


def test_every_parser_has_samples() -> None:
    assert {*RECOGNISED, *UNGUESSED} == set(registry.names(registry.PARSERS))
    for name in EVERY:
        assert samples_of(name), name


@pytest.mark.parametrize("path", files(), ids=shown)
def test_the_guess_is_right_for_every_sample(path: Path) -> None:
    expected = {name for name in RECOGNISED if path in samples_of(name)}
    head = content(path)[: registry.HEAD_BYTES]
    assert {name for name in EVERY if registry.parser(name).recognises(head)} == expected
    assert len(expected) <= 1


@pytest.mark.parametrize("name", EVERY)
def test_units_are_accounted_for_wherever_the_blocks_end(name: str) -> None:
    """Every unit is one record, part, skip or reject, and they are the same however the file is cut.

    (sacct's rows are records or parts by where a group of them is cut; its own test compares them once they are completed.)
    """
    parser = registry.parser(name)
    for path in samples_of(name):
        data = content(path)[: 1 << 17]
        whole = parse(parser, data)
        units = sum(one.units for one in whole)
        assert units_in(parser, read_blocks(io.BytesIO(data), parser.framing)) in (units, None)
        rng = random.Random(shown(path))
        for _ in range(3 if name != "slurm" else 0):
            pieces = [rng.choice((1, 7, 100, 1000, 5000)) for _ in range(400)]
            assert told(parse(parser, data, pieces)) == told(whole), shown(path)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few damages: bytes changed, cut out, doubled, or put in."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(damaged) + 1)
        length = rng.choice((1, 2, 8, 50))
        kind = rng.randrange(5)
        if kind == 0:
            damaged[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del damaged[at : at + length]
        elif kind == 2:
            damaged[at:at] = damaged[at : at + length]
        elif kind == 3:
            damaged[at:at] = rng.choice((b'"', b"\\", b"\0", b"\n", b"{", b"[", b";", b"=", b"|", b":", b"\xff", b"-1", b"9" * 30))
        else:
            damaged[at:at] = rng.choice((b"\r\n", b"\xc3", b"nan", b"1e400", b"%s", b"../", b"  "))
    return bytes(damaged)


@pytest.mark.parametrize("name", EVERY)
def test_mutated_lines_are_accounted_for(name: str) -> None:
    """No damage ends the parsing, and what it costs is counted: units = records + parts + skips + rejects."""
    parser = registry.parser(name)
    rng = random.Random(f"{name} {MUTATIONS}")
    samples = [content(path) for path in samples_of(name)]
    for _ in range(MUTATIONS):
        data = rng.choice(samples)
        at = rng.randrange(max(1, len(data) - 4000))
        excerpt = data[data.find(b"\n", at) + 1 :][:8000] if at else data[:8000]
        damaged = mutated(rng, excerpt)
        source = source_of(data)
        for block in read_blocks(io.BytesIO(damaged), parser.framing):
            (parsed,) = parser.parse([block], source)
            assert units_in(parser, [block]) in (parsed.units, None)
            assert all(reject.reason for reject in parsed.rejects)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("byte", [b"a", b'"', b"\\", b"(", b"{", b"=", b" ", b"\0", b"9"], ids=repr)
def test_a_very_long_line_takes_time_in_proportion(name: str, byte: bytes) -> None:
    """A megabyte of one byte, alone and within a real line: nothing that is tried again and again on it ends within the minute."""
    parser = registry.parser(name)
    line = content(samples_of(name)[0])[:3000].split(b"\n")[-2:][0][:1000]
    begun = time.process_time()
    for unit in (
        byte * 1_000_000,
        line[:20] + byte * 1_000_000,
        line[: len(line) // 2] + byte * 1_000_000 + line[len(line) // 2 :],
    ):
        for block in read_blocks(io.BytesIO(unit + b"\n" + line + b"\n"), parser.framing):
            (parsed,) = parser.parse([block], source_of(content(samples_of(name)[0])))
            assert units_in(parser, [block]) in (parsed.units, None)
    assert time.process_time() - begun < 60


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_no_parser_takes_offence_at_anything(data: bytes) -> None:
    for name in EVERY:
        parser = registry.parser(name)
        assert parser.recognises(data) in (True, False)
        (parsed,) = parser.parse([Block(data, 0)], source_of(data))
        assert units_in(parser, [Block(data, 0)]) in (parsed.units, None)
