"""Fixtures are in modules by subject; this file lists them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("no-deadlines", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("no-deadlines")

pytest_plugins = [
    "tests.fix_stores",
    "tests.fix_counts",
    "tests.fix_forks",
    "tests.fix_oracle",
    "tests.faults.fix_farm",
    "tests.faults.fix_publisher",
    "tests.pub.fix_site",
    "tests.services.fix_brokers",
    "tests.services.fix_slurm",
    "tests.services.fix_spark",
]

LONG = (
    "archive/test_invisible.py",
    "archive/test_kill.py",
    "backfill/test_kills.py",
    "crash/test_kill.py",
    "crash/test_kill_migrating.py",
    "crash/test_under_load.py",
    "procacct/test_truth.py",
    "services/test_slurm_cluster.py",
    "services/test_spark.py",
    "store/test_loads_that_grow.py",
)
"""Files that take minutes."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has long files begun first: begun last, one process would be at them when the others have nothing left to do."""
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONG))


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
