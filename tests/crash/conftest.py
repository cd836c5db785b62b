"""The farm's logs, and what an uninterrupted run makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.site import Outcome, Site, farm_logs
from tests.forks import Forks

MakeSite = Callable[..., Site]


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return farm_logs(tmp_path_factory.mktemp("farm") / "logs")


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, logs: Path, forks: Forks) -> tuple[Outcome, float]:
    """What a run that nothing interrupts comes to, and how many seconds it takes."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    site = Site(folder, logs, f"sqlite:///{folder}/batchacct.db", forks)
    seconds = site.seconds()
    outcome = site.outcome()
    site.close()
    assert len(outcome.published) > 250
    return outcome, seconds


@pytest.fixture
def new_site(database_url: str, tmp_path: Path, logs: Path, forks: Forks) -> Iterator[MakeSite]:
    """Makes a site with an empty database, each time it is called."""
    made: list[Site] = []

    def make(outgoing: Path | None = None) -> Site:
        number = len(made)
        url = f"sqlite:///{tmp_path}/{number}.db" if database_url.startswith("sqlite") else database_url
        made.append(Site(tmp_path / f"site{number}", logs, url, forks, outgoing))
        return made[-1]

    yield make
    for site in made:
        site.close()
