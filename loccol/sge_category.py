"""What an SGE job asked for: the request summary (`category`) of an accounting record, taken apart.

    -U STAFF -u alice -q long.q -l gpu=1,h_rt=24:00:00,h_vmem=2500M -pe mpi 16 -P physics

Only the hard resource requests (`-l`) matter here; `-soft -l` is a wish. Sources: accounting(5), complex(5), sge_types(5).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

GPU_COMPLEXES = ("gpu", "gpus", "ngpus", "num_gpus", "gpu_count")
"""Common names of the complex that counts GPUs; a site can choose any."""

_ESCAPED_COLON = re.compile(rb"\xff|\xef\xbf\xbd|\xc3\xbf")
"""UGE writes 0xFF for a colon within a field; files that were re-encoded have U+FFFD or `ÿ` in its place."""

_COUNT = re.compile(r"([0-9]{1,6})(?:\.0{1,6})?(?:[(\[].*)?", re.DOTALL)
_CLOCK = re.compile(r"([0-9]{1,9}):([0-9]{1,9}):([0-9]{1,9})")
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([kKmMgGtT]?)")
_MULTIPLES = {"": 1}
_MULTIPLES |= {small: 1000**power for power, small in enumerate("kmgt", 1)}
_MULTIPLES |= {large: 1024**power for power, large in enumerate("KMGT", 1)}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits a job set itself; a CPU or memory limit is for each slot. None: not set, or unlimited."""

    wall_s: float | None = None
    cpu_s: float | None = None
    memory_bytes: float | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Request:
    """The hard requests: as a JSON object of texts (None if there are none), the GPUs among them, the limits among them."""

    text: str | None
    gpus: int | None
    limits: Limits


def colons_restored(raw: bytes) -> bytes:
    """A field of free text with the colons that UGE replaced by another byte."""
    return raw if raw.isascii() else _ESCAPED_COLON.sub(b":", raw)


@lru_cache(maxsize=1 << 14)
def request_of(category: str) -> Request:
    """The hard requests of a request summary."""
    asked: dict[str, str] = {}
    words = category.split(" ")
    for number, word in enumerate(words[:-1]):
        if word == "-l" and (number == 0 or words[number - 1] != "-soft"):
            asked |= pairs(words[number + 1])
    return Request(as_json(asked), gpus_of(asked), _limits(asked))


def pairs(listed: str) -> dict[str, str]:
    """`a=1,b` as {"a": "1", "b": "TRUE"}: a complex without a value is a truth value."""
    named = (entry.partition("=") for entry in listed.split(",") if entry)
    return {name: value if equals else "TRUE" for name, equals, value in named}


def as_json(asked: Mapping[str, str]) -> str | None:
    """The requests as a JSON object; None if there are none."""
    return json.dumps(asked, ensure_ascii=False, separators=(",", ":")) if asked else None


def gpus_of(asked: Mapping[str, str]) -> int | None:
    """The number of GPUs among some requests, `gpu=2` or `gpu=2(0 1)`; None if none is named."""
    for name in GPU_COMPLEXES:
        number = _COUNT.fullmatch(asked.get(name, ""))
        if number and int(number[1]):
            return int(number[1])
    return None


def _limits(asked: Mapping[str, str]) -> Limits:
    return Limits(
        _least(_seconds(asked.get(name, "")) for name in ("s_rt", "h_rt")),
        _least(_seconds(asked.get(name, "")) for name in ("s_cpu", "h_cpu")),
        _least(_bytes(asked.get(name, "")) for name in ("s_vmem", "h_vmem")),
    )


def _least(limits: Iterable[float | None]) -> float | None:
    known = [limit for limit in limits if limit]
    return min(known, default=None)


def _seconds(text: str) -> float | None:
    """`3600`, `1:00:00`; None for anything else, INFINITY among it."""
    if clock := _CLOCK.fullmatch(text):
        return int(clock[1]) * 3600.0 + int(clock[2]) * 60 + int(clock[3])
    return float(text) if _SECONDS.fullmatch(text) else None


def _bytes(text: str) -> float | None:
    """`2500M`: K, M, G, T are powers of 1024, k, m, g, t of 1000; None for anything else."""
    size = _MEMORY.fullmatch(text)
    return float(size[1]) * _MULTIPLES[size[2]] if size else None
