"""Sites that publish, on an empty database of a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.publisher import Publisher
from tests.forks import Forks

NewPublisher = Callable[..., Publisher]


@pytest.fixture
def new_publisher(request: pytest.FixtureRequest, tmp_path: Path, forks: Forks) -> Iterator[NewPublisher]:
    """Makes one on SQLite, or on `database`."""
    made: list[Publisher] = []

    def make(database: str = "sqlite", seed: int = 1) -> Publisher:
        folder = tmp_path / f"publisher{len(made)}"
        url = f"sqlite:///{folder}/batchacct.db"
        folder.mkdir()
        if database != "sqlite":
            url = request.getfixturevalue(f"{database}_url")
        made.append(Publisher(folder, url, forks, seed))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()
