"""A Slurm cluster for the session, and what jobs of every kind left in its accounts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import REQUIRED, MissingServerError
from tests.services.slurm import SlurmCluster, slurm
from tests.services.slurm_jobs import run_jobs


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[SlurmCluster]:
    """One cluster for the session; its tests skip where it cannot be, unless services are required."""
    try:
        with slurm() as cluster:
            yield cluster
    except MissingServerError as missing:
        if REQUIRED:
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def slurm_jobs(slurm_cluster: SlurmCluster) -> dict[str, int]:
    """Kind to id of the jobs that ran on the cluster: all have ended but `held`."""
    return run_jobs(slurm_cluster)
