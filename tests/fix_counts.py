"""Counts of what a test has gone through, summed over the tests and processes of a run, and told at its end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping

import pytest

RecordProperty = Callable[[str, object], None]
_PREFIX = "counts of "


def record_counts(record_property: RecordProperty, name: str, counts: Mapping[str, int]) -> None:
    """Adds to the counts that are told under `name` at the end of the run."""
    record_property(_PREFIX + name, json.dumps(dict(counts)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each name, such as `random histories on SQLite: 150 histories, 3,090 actions, ...`."""
    sums: dict[str, Counter[str]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name.startswith(_PREFIX):
                sums.setdefault(name.removeprefix(_PREFIX), Counter()).update(json.loads(str(value)))
    for name, counts in sorted(sums.items()):
        terminalreporter.write_line(f"{name}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
