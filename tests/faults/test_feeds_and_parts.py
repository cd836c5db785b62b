"""What is asked rather than followed, and what is made of parts, while the collector runs."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import select

from batchacct.store.tables import identity, job
from tests.cecol.test_arc import Arex, changed
from tests.faults.farm import Farm

PBS = Path(__file__).parents[1] / "samples/pbs/epcc-safe.log"


def asked(farm: Farm, database: Path) -> str:
    return (
        f'\n[[source]]\nname = "arc"\nparser = "arc-db"\nfeed = "arc-db"\npaths = ["{database}"]\ncluster = "lsf1"\n'
        'feed_options = {window = "1d"}\n'
    )


def test_a_feed_is_asked_at_its_pace_and_again_when_it_can_be(sqlite_farm: Farm) -> None:
    farm = sqlite_farm
    now = int(time.time())
    arex = Arex(farm.folder / "accounting.db", 2)
    farm.configure(asked(farm, arex.path), collect={"feed_interval": "1s"})
    process = farm.start()
    for number in range(3):
        arex.add(changed(f"job{number}", SubmitTime=now - 600, EndTime=int(time.time())))
        farm.until(f"job{number} is stored", lambda number=number: farm.count(identity) == number + 1)  # type: ignore[misc]
    away = arex.path.rename(farm.folder / "away.db")
    farm.until("the error is told", lambda: "does not exist" in str(farm.state("arc").get("last_error")))
    away.rename(arex.path)
    arex.add(changed("job3", SubmitTime=now - 600, EndTime=int(time.time())))
    farm.until("job3 is stored", lambda: farm.count(identity) == 4)
    farm.until("the error is over", lambda: farm.state("arc").get("last_error") is None)
    assert process.terminate(within_s=60) == 0, farm.said()


def test_records_are_made_of_parts_as_they_come_and_when_it_ends(sqlite_farm: Farm, tmp_path: Path) -> None:
    """What a collector that follows makes of a PBS log that is written line by line is what one look makes of the whole."""
    farm = sqlite_farm
    log = farm.logs / "20130101"
    farm.configure(f'\n[[source]]\nname = "pbs"\nparser = "pbs"\npaths = ["{log}"]\ncluster = "lsf1"\n')
    log.write_bytes(b"")
    process = farm.start()
    lines = PBS.read_bytes().splitlines(keepends=True)
    for first in range(0, len(lines), 7):
        with log.open("ab") as file:
            file.write(b"".join(lines[first : first + 7]))
    farm.until("all is read", lambda: _units(farm) == len(lines))
    assert process.terminate(within_s=60) == 0, farm.said()
    live = _jobs(farm)
    whole = Farm(tmp_path / "whole", f"sqlite:///{tmp_path}/whole.db", farm.forks)
    whole.configure(f'\n[[source]]\nname = "pbs"\nparser = "pbs"\npaths = ["{log}"]\ncluster = "lsf1"\n')
    assert whole.run("batchacct", "collect", "--once", output="once.log").wait() == 0, whole.said("once.log")
    assert live == _jobs(whole)
    assert live
    whole.close()


def _units(farm: Farm) -> int:
    return sum(int(source["units"]) for source in farm.status()["sources"])


def _jobs(farm: Farm) -> set[tuple[object, ...]]:
    columns = (job.c.record_key, job.c.state, job.c.wall_duration_s, job.c.cpu_duration_s, job.c.processors, job.c.source_offset)
    with farm.store.reading() as connection:
        return {tuple(row) for row in connection.execute(select(*columns).where(job.c.superseded_by.is_(None)))}
