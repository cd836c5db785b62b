"""Random histories, each the same for the same number, and the shortening of those that fail."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.following.histories import DONE_TO_FILES, History

_WRITING: tuple[tuple[int, Callable[[random.Random], list[str]]], ...] = (
    (10, lambda r: [f"write {r.choice((1, 1, 2, 3, 8, 20))}"]),
    (1, lambda r: [f"write {r.choice((60, 150, 300))}"]),
    (4, lambda r: [f"part {r.choice((3, 30, 70, 95, 99))}" for _ in range(r.choice((1, 1, 2)))]),
    (2, lambda r: ["rest"]),
    (2, lambda r: ["bad"]),
    (1, lambda r: ["comment"]),
    (1, lambda r: [f"long {r.choice((300, 5000, 19_000, 25_000))}"]),
)
_LOOKING: tuple[tuple[int, Callable[[random.Random], list[str]]], ...] = (
    (8, lambda r: ["look"]),
    (6, lambda r: ["told"]),
    (4, lambda r: [f"kill {_crash_point(r)}"]),
    (2, lambda r: [f"fail {_crash_point(r)}"]),
    (1, lambda r: ["restart"]),
    (3, lambda r: [f"during {_crash_point(r)} {_one(r, _WRITING)[0]}"]),
    (3, lambda r: [f"during {_crash_point(r)} {r.choice(_rotation(r))}"]),
    (3, lambda r: [f"during {_crash_point(r)} {' & '.join(_rotation(r))} & {_one(r, _WRITING)[0]}"]),
)
_STYLES: dict[str, Callable[[random.Random], list[str]]] = {
    "rename": lambda r: [f"rotate {r.randint(1, 4)} {r.randint(0, 1)}", *_late(r), f"reopen {_mostly(r)}"],
    "date": lambda r: [f"date {r.randint(0, 1)}", *_late(r), f"reopen {_mostly(r)}"],
    "copy": lambda r: [f"copy {r.choice((0, 40, 100))} {r.randint(1, 4)}", *_late(r), *_steps(r), *_late(r), "truncate"],
    "copydate": lambda r: [f"copydate {r.choice((0, 40, 100))}", *_late(r), *_steps(r), *_late(r), "truncate"],
    "newday": lambda r: [f"newday {_mostly(r)}"],
    "link": lambda r: [f"link {_mostly(r)}"],
    "delete": lambda r: ["delete", *_late(r), f"reopen {_mostly(r)}"],
    "moveout": lambda r: ["moveout", *_late(r), f"reopen {_mostly(r)}"],
}
_OTHERS: tuple[tuple[int, Callable[[random.Random], list[str]]], ...] = (
    (4, lambda r: [f"zip {r.randint(0, 3)} {r.choice((0, 50, 90, 100))}", *_late(r), "step", *_late(r), "step"]),
    (1, lambda r: ["truncate"]),
    (1, lambda r: ["prune"]),
    (1, lambda r: ["movein"]),
    (2, lambda r: ["edit"]),
    (1, lambda r: ["deny", *_late(r), "allow"]),
    (3, lambda r: [f"pause {r.choice((1, 10, 40, 61, 70, 300))}"]),
    (1, lambda r: [f"pause {r.choice((3500, 3700, 90_000))}"]),
    (1, lambda r: [f"clock {r.choice((-90_000, -3700, -70, 70, 3700, 90_000))}"]),
)
BACK = re.compile(r"clock -\d+")


def random_history(number: int) -> History:
    """A history of ten to sixty actions; most of one style of rotation, some of all."""
    chance = random.Random(number)
    odds = {"glob": 0.6, "appends": 0.7, "header": 0.2, "small": 0.4, "cron": 0.15}
    options = frozenset(name for name, odd in odds.items() if chance.random() < odd)
    styles = list(_STYLES) if chance.random() < 0.3 else [chance.choice(list(_STYLES))]
    actions: list[str] = []
    for _ in range(chance.randint(6, 22)):
        kind = chance.random()
        if kind < 0.4:
            actions += _one(chance, _WRITING)
        elif kind < 0.7:
            actions += _one(chance, _LOOKING)
        elif kind < 0.9:
            actions += _STYLES[chance.choice(styles)](chance)
        else:
            actions += _one(chance, _OTHERS)
    if "glob" not in options:  # what is new beside a path is told by its time, when the collector starts
        actions = [BACK.sub("clock -50", action) for action in actions]
    return History(options, tuple(actions))


def _one(chance: random.Random, choices: Sequence[tuple[int, Callable[[random.Random], list[str]]]]) -> list[str]:
    (made,) = chance.choices([make for _, make in choices], [weight for weight, _ in choices])
    return made(chance)


def _rotation(chance: random.Random) -> list[str]:
    """Steps of some rotation, without what is no step."""
    steps = _STYLES[chance.choice(list(_STYLES))](chance) + _one(chance, _OTHERS)
    return [step for step in steps if step.split()[0] in DONE_TO_FILES and not step.startswith("pause")] or ["truncate"]


def _late(chance: random.Random) -> list[str]:
    """What may come between two steps of a rotation."""
    kind = chance.random()
    if kind < 0.5:
        return []
    return _one(chance, _WRITING if kind < 0.75 else _LOOKING)


def _steps(chance: random.Random) -> list[str]:
    return ["step"] if chance.random() < 0.5 else []


def _crash_point(chance: random.Random) -> int:
    return min(chance.randint(1, 16), chance.randint(1, 16))


def _mostly(chance: random.Random) -> int:
    return int(chance.random() < 0.8)


def shortened(history: History, fails: Callable[[History], bool], most_tries: int = 400) -> History:
    """A part of a failing history that fails still, and of which no single action can be left out."""
    tries = 0
    size = max(len(history.actions) // 2, 1)
    while tries < most_tries:
        start, smaller = 0, False
        while start < len(history.actions) and tries < most_tries:
            tries += 1
            shorter = replace(history, actions=history.actions[:start] + history.actions[start + size :])
            if fails(shorter):
                history, smaller = shorter, True
            else:
                start += size
        if size == 1 and not smaller:
            break
        size = max(size // 2, 1)
    for option in sorted(history.options):
        simpler = replace(history, options=history.options - {option})
        if fails(simpler):
            history = simpler
    return history
