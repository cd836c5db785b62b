"""A plan, lived through and held against what was written."""

from __future__ import annotations

import datetime as dt
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.services.brokers import Broker
from tests.year.books import books_of, differences, disagreements
from tests.year.ledger import ledger
from tests.year.plan import Plan
from tests.year.runs import Truth
from tests.year.simulation import Simulation
from tests.year.site import Site, small_disk

DISK = "768m"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Trial:
    """How it ended."""

    simulation: Simulation
    ledger: str
    wrong: list[str]


def tried(
    plan: Plan, folder: Path, url: str | None, broker: Broker, *, seed: int, progress: Callable[[str], None] = lambda _: None
) -> Trial:
    """Lives through the plan; `url`: an empty database, by default one of SQLite on a disk of its own in the folder."""
    truth = Truth(((dt.date(1970, 1, 1), 12.5), (plan.benchmark_from, 13.25)))
    queue = f"/queue/year.{os.getpid()}.{next(_numbers)}"
    disk = folder / "disk"
    disk.mkdir()
    with small_disk(disk, DISK) as is_small:
        site = Site(folder, url or f"sqlite:///{disk}/batchacct.db", (broker.port, queue), plan, truth)
        site.disk = disk if is_small and url is None else None
        simulation = Simulation(plan, site, truth, broker=broker, queue=queue, seed=seed)
        simulation.run(progress)
        books = books_of(site)
    wrong = [
        *differences(simulation.receiver.table, truth.records), *simulation.rejects.explained(simulation.damages)[1],
        *disagreements(books, truth),
    ]  # fmt: skip
    return Trial(simulation, ledger(simulation, books, wrong), wrong)
