"""Counts of what a test has gone through, summed over the tests and processes of a run, and told at its end.

Faults that were injected are told as one table, failed tests included: a zero in it is one that was counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest

RecordProperty = Callable[[str, object], None]
_PREFIX = "counts of "
_FAULT = "fault: "
COLUMNS = ("injected", "messages", "records", "lost", "doubled", "came twice")
HEADINGS = ("times injected", "messages", "records sent", "records lost", "doubled at the receiver", "messages that came twice")


def record_counts(record_property: RecordProperty, name: str, counts: Mapping[str, int]) -> None:
    """Adds to the counts that are told under `name` at the end of the run."""
    record_property(_PREFIX + name, json.dumps(dict(counts)))


def record_fault(record_property: RecordProperty, fault: str, where: Sequence[str], counts: Mapping[str, int]) -> None:
    """Adds to the row of a fault, with counts for each of `COLUMNS`; `where`: databases and transports it was injected with."""
    record_property(_FAULT + fault, json.dumps({"where": where, **counts}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each name, such as `random histories on SQLite: 150 histories, 3,090 actions, ...`."""
    sums: dict[str, Counter[str]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name.startswith(_PREFIX):
                sums.setdefault(name.removeprefix(_PREFIX), Counter()).update(json.loads(str(value)))
    for name, counts in sorted(sums.items()):
        terminalreporter.write_line(f"{name}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
    if rows := _faults(terminalreporter):
        terminalreporter.section("faults")
        for line in rows:
            terminalreporter.write_line(line)


def _faults(terminalreporter: pytest.TerminalReporter) -> list[str]:
    """The table of faults, as Markdown."""
    sums: dict[str, Counter[str]] = {}
    places: dict[str, set[str]] = {}
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, value in report.user_properties:
            if name.startswith(_FAULT):
                fault, counts = name.removeprefix(_FAULT), json.loads(str(value))
                places.setdefault(fault, set()).update(counts.pop("where"))
                sums.setdefault(fault, Counter()).update(counts)
    if not sums:
        return []
    total = sum(sums.values(), Counter())
    table = [(fault, ", ".join(sorted(places[fault])), counts) for fault, counts in sorted(sums.items())]
    lines = [f"| fault | where | {' | '.join(HEADINGS)} |", "|---|---|" + "---:|" * len(COLUMNS)]
    for fault, where, counts in (*table, ("**all**", "", total)):
        lines.append(f"| {fault} | {where} | " + " | ".join(f"{counts[name]:,}" for name in COLUMNS) + " |")
    return lines
