"""Kill it anywhere, start it again: what it comes to is what a run that nothing interrupts comes to."""

from __future__ import annotations

import os
import random

import pytest

from tests.crash.conftest import MakeSite
from tests.crash.site import Outcome

POINTS = (
    "append.after-position",
    "append.before-commit",
    "append.after-commit",
    "build.before-commit",
    "send.handed-over",
    "send.before-confirm",
)
KILLS = max(10, int(os.environ.get("BATCHACCT_KILLS", "0")) // 10)
"""More than a few: `make crash`."""
KILLS_A_DATABASE = 10


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(new_site: MakeSite, uninterrupted: tuple[Outcome, float], point: str) -> None:
    site = new_site()
    assert site.run(crash_at=f"{point}:3")[0] == -9
    assert site.run(crash_at=point)[0] == -9, "twice in a row, the second time at the first chance"
    status, told = site.run()
    assert status == 0, told
    assert site.outcome() == uninterrupted[0]


def test_running_again_changes_nothing(new_site: MakeSite, uninterrupted: tuple[Outcome, float]) -> None:
    site = new_site()
    for _ in range(2):
        status, told = site.run()
        assert status == 0, told
        messages = site.messages()
        assert site.outcome() == uninterrupted[0]
    assert site.messages() == messages
    assert site.status()["balanced"] is True


@pytest.mark.slow
def test_killed_at_any_moment(new_site: MakeSite, uninterrupted: tuple[Outcome, float]) -> None:
    """Evenly over the time the work takes; after some of them, or at its end, a new site."""
    wanted, seconds = uninterrupted
    moments = random.Random(7)
    shares = [(n + moments.random()) / KILLS for n in range(KILLS)]
    moments.shuffle(shares)
    kills = databases = 0
    while shares:
        site = new_site()
        databases += 1
        for share in shares[:KILLS_A_DATABASE]:
            if not site.killed_after(share * seconds):
                if share == shares[0]:
                    seconds *= 0.9  # this host has become faster since the time was taken
                break
            shares.remove(share)
            kills += 1
        status, told = site.run()
        assert status == 0, told
        assert site.outcome() == wanted
    assert kills == KILLS
    assert databases >= KILLS // KILLS_A_DATABASE
