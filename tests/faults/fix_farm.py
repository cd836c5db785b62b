"""A farm with an empty database of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.farm import Farm
from tests.forks import Forks


@pytest.fixture
def farm(tmp_path: Path, database_url: str, forks: Forks) -> Iterator[Farm]:
    """A farm with a database of each kind."""
    made = Farm(tmp_path / "farm", database_url, forks)
    yield made
    made.close()


@pytest.fixture
def sqlite_farm(tmp_path: Path, sqlite_url: str, forks: Forks) -> Iterator[Farm]:
    made = Farm(tmp_path / "farm", sqlite_url, forks)
    yield made
    made.close()
