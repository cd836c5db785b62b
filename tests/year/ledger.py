"""The ledger of a simulated year, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from batchacct.ledger.books import Books
from tests.year.runs import Key, Row, Truth, month_of
from tests.year.simulation import Simulation


def ledger(simulation: Simulation, books: Books, wrong: list[str]) -> str:
    """All tables; `wrong` is what does not agree."""
    return "\n".join([
        *_months(simulation), "", *_sums(simulation.truth.records, simulation.receiver.table), "", *_rejects(simulation), "",
        *_unpublished(simulation.truth, books), "", *_events(simulation), "",
        "```", *simulation.doctor.splitlines(), "```", "", *_verdict(wrong),
    ])  # fmt: skip


def _row(*cells: object) -> str:
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells) + " |"


def _head(*cells: str, texts: int = 1) -> list[str]:
    return [_row(*cells), "|" + "---|" * texts + "---:|" * (len(cells) - texts)]


def _months(simulation: Simulation) -> Iterator[str]:
    truth = simulation.truth
    yield from _head(
        "month", "lines written", "jobs written", "of them to publish", "records received", "messages", "corrections",
        "records again", "rejects", "killed", "in = out",
    )  # fmt: skip
    published = Counter(month_of(int(str(end_at))) for _, _, end_at in truth.records)
    received = Counter(month_of(int(str(end_at))) for _, _, end_at in simulation.receiver.table)
    total: Counter[str] = Counter()
    for name, month in sorted(simulation.months.items()):
        counts = month.counts
        killed = counts["collect killed"] + counts["publish killed"]
        yield _row(
            name, counts["lines"], truth.jobs[name], published[name], received[name], counts["messages"], counts["corrected"],
            counts["repeated"], counts["rejects"], killed, _agree(published[name], received[name]),
        )  # fmt: skip
        total += counts
    killed = total["collect killed"] + total["publish killed"]
    yield _row(
        "**all**", total["lines"], sum(truth.jobs.values()), published.total(), received.total(), total["messages"],
        total["corrected"], total["repeated"], total["rejects"], killed, _agree(published.total(), received.total()),
    )  # fmt: skip


def _agree(written: int, received: int) -> str:
    return "yes" if written == received else "**NO**"


def _sums(truth: dict[Key, Row], table: dict[Key, Row]) -> Iterator[str]:
    yield from _head("VO", "jobs in", "jobs out", "wallclock in, s", "wallclock out, s", "CPU in, s", "CPU out, s", "in = out")
    written, received = _by_vo(truth.values()), _by_vo(table.values())
    for vo in sorted({name for name, _ in written | received}):
        pairs = [(written[vo, what], received[vo, what]) for what in ("jobs", "wall", "cpu")]
        yield _row(vo, *(number for pair in pairs for number in pair), "yes" if all(a == b for a, b in pairs) else "**NO**")


def _by_vo(rows: Iterable[Row]) -> Counter[tuple[str, str]]:
    sums: Counter[tuple[str, str]] = Counter()
    for row in rows:
        vo = str(row[6])
        sums.update({(vo, "jobs"): 1, (vo, "wall"): int(str(row[1])), (vo, "cpu"): int(str(row[2]))})
    return sums


def _rejects(simulation: Simulation) -> Iterator[str]:
    yield from _head("source", "what was done to the line", "reason that is told", "rejects", texts=3)
    found, _ = simulation.rejects.explained(simulation.damages)
    for (source, kind, reason), count in sorted(found.items()):
        yield _row(source, kind, reason.replace("|", "\\|"), count)


def _unpublished(truth: Truth, books: Books) -> Iterator[str]:
    yield from _head("jobs that are not published", "written", "in the books", texts=1)
    (destination,) = books.destinations
    excluded = {reason: jobs for (outcome, reason), jobs in books.jobs.outcomes.items() if outcome == "excluded"}
    yield _row(
        f"excluded ({'; '.join(sorted(excluded))})",
        truth.unpublished.total() - truth.unpublished["in the future"],
        sum(excluded.values()),
    )
    yield _row(
        f"kept back ({'; '.join(destination.refused)})", truth.unpublished["in the future"], sum(destination.kept_back.values())
    )


def _events(simulation: Simulation) -> Iterator[str]:
    yield from _head("month", "day: what happened", texts=2)
    for name, month in sorted(simulation.months.items()):
        if month.events:
            yield _row(name, "; ".join(month.events))


def _verdict(wrong: list[str]) -> Iterator[str]:
    yield "Everything agrees, and the audit of all days finds nothing." if not wrong else f"**{len(wrong)} things do not agree**:"
    yield from (f"- {one}" for one in wrong[:40])
