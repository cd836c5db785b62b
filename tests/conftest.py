"""Fixtures are in modules by subject; this file lists them."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

from tests.servers import memory_or_disk

settings.register_profile("no-deadlines", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("no-deadlines")

os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory_or_disk()))  # for each commit of SQLite it would wait for the disk

pytest_plugins = [
    "tests.fix_stores",
    "tests.fix_counts",
    "tests.fix_forks",
    "tests.fix_oracle",
    "tests.faults.fix_farm",
    "tests.faults.fix_publisher",
    "tests.packaging.fix_previous",
    "tests.pub.fix_site",
    "tests.services.fix_brokers",
    "tests.services.fix_slurm",
    "tests.services.fix_spark",
]

LONG = (
    "crash/test_kill.py",
    "archive/test_kill.py",
    "procacct/test_shipping.py",
    "services/test_slurm_cluster.py",
    "procacct/test_archived_processes.py",
    "procacct/test_slurm_jobs.py",
    "archive/test_archive.py",
    "services/test_spark.py",
    "cpuhours/test_kept.py",
    "archive/test_invisible.py",
    "pub/test_pull.py",
    "store/test_loads_that_grow.py",
    "crash/test_under_load.py",
    "pub/test_destinations.py",
    "pub/test_benchmark_differences.py",
    "crash/test_kill_migrating.py",
    "faults/test_brokers.py",
    "backfill/test_kills.py",
    "procacct/test_truth.py",
    "store/test_migrations.py",
    "pub/test_schedule.py",
    "year/test_year.py",
    "ledger/test_tampering.py",
    "pub/test_stomp.py",
    "cpuhours/test_usage.py",
    "procacct/test_shipping_to_store.py",
    "pub/test_joining.py",
    "pub/test_globus_and_jobmap.py",
    "cecol/test_gram.py",
)
"""Files that take minutes, about the longest first; those that compute between those that wait."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Looks for no garbage in what is only made, which took a third of the time, nor in the same later."""
    gc.disable()
    found = yield
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()
    return found


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has long files begun first: begun last, one process would be at them when the others have nothing left to do."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get("/".join(item.path.parts[-2:]), len(LONG)))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """A report on its way to pytest-xdist, which is lost with its worker if a captured line has a name that is no UTF-8 in it."""
    report = yield
    sendable: dict[str, Any] | None = _sendable(report)
    return sendable


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _sendable(inner) for key, inner in value.items()}
    return type(value)(_sendable(inner) for inner in value) if isinstance(value, list | tuple) else value
