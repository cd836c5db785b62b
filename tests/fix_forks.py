"""A server that forks processes, for all tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.forks import Forks, forking


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    with forking() as server:
        yield server
