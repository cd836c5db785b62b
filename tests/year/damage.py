"""Lines as a full disk or a crash of their host leaves them: each is to be a reject, and costs no other line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

SOURCES = {
    "lsf": ("lsf",), "pbs": ("pbs",), "sge": ("sge",), "slurm": ("slurm",), "condor": ("condor", "condor-ce"), "blah": ("blah",),
    "arc": ("arc",), "gram": ("gram",),
}  # fmt: skip
"""Who reads a log: of each source its rejects. LCMAPS logs whatever it does, and a line that is none of ours is skipped."""
OF_A_STAMP = 15
"""Bytes of a line that begins with a time, of which that is cut."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What was put into a log: a unit without its line's end."""

    log: str
    kind: str
    unit: bytes


def cut_short(line: bytes) -> bytes:
    """The disk of who wrote it was full."""
    return line[: min(OF_A_STAMP, len(line) // 4)] if line[:2].isdigit() else line[: len(line) * 3 // 10]


def overwritten(line: bytes) -> bytes:
    """A block of zeros, which a crash of the host leaves behind."""
    return line[:20] + bytes(64) + line[84:]


KINDS: dict[str, Callable[[bytes], bytes]] = {"cut short": cut_short, "zeros in it": overwritten}


def damaged(log: str, content: bytes, chance: Random) -> Damage:
    """What is left of the first line written, or of an ad."""
    if log == "condor":
        return Damage(log, "zeros in it", overwritten(content).rstrip(b"\n"))
    line = content.split(b"\n")[0]
    kind = chance.choice(list(KINDS))
    return Damage(log, kind, KINDS[kind](line))
