"""A Spark cluster for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import REQUIRED, MissingServerError
from tests.services.spark import BRIEFLY, spark_cluster


@pytest.fixture(scope="session")
def spark_master() -> Iterator[str]:
    """The URL of a standalone cluster; its tests skip where it cannot be, unless services are required."""
    try:
        with spark_cluster(BRIEFLY) as cluster:
            yield cluster.master
    except MissingServerError as missing:
        if REQUIRED:
            raise
        pytest.skip(str(missing))
