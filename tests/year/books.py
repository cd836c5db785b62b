"""What the program has in its books, held against what was written and against what the receiver has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from batchacct.ledger.books import Books, read_books
from tests.apel_reader import read_message
from tests.year.damage import SOURCES, Damage
from tests.year.runs import Key, Row, Truth
from tests.year.site import Site


@dataclass(frozen=True, slots=True)
class Reject:
    """A reject as it was stored."""

    source: str
    path: str
    offset: int
    unit: bytes
    reason: str


@dataclass(slots=True)
class Rejects:
    """All of them, remembered from day to day: `db purge` takes the units out in the end."""

    by_id: dict[int, Reject] = field(default_factory=dict)

    def read(self, site: Site) -> int:
        """How many are new since it was read last."""
        before = len(self.by_id)
        store = site.store()
        asked = text("SELECT id, source, path, source_offset, unit, reason FROM reject WHERE id > :last")
        with store.engine.connect() as connection:
            for number, *values in connection.execute(asked, {"last": max(self.by_id, default=0)}):
                self.by_id[number] = Reject(*values)
        store.close()
        return len(self.by_id) - before

    def copy(self) -> Rejects:
        return Rejects(dict(self.by_id))

    def explained(self, damages: Iterable[Damage]) -> tuple[Counter[tuple[str, str, str]], list[str]]:
        """How often there is each (source, what was done to the line, reason); and what nobody injected, or what is not there."""
        wanted = Counter((source, damage.unit) for damage in damages for source in SOURCES[damage.log])
        kinds = {damage.unit: damage.kind for damage in damages}
        found: Counter[tuple[str, str, str]] = Counter()
        for one in self.by_id.values():
            unit = bytes(one.unit).rstrip(b"\n")
            wanted[one.source, unit] -= 1
            found[one.source, kinds.get(unit, "NOT INJECTED"), one.reason.split(": ")[0][:80]] += 1
        wrong = [f"{source}: {count:+d} times {unit[:200]!r}" for (source, unit), count in wanted.items() if count]
        return found, wrong


def sums_of_month(site: Site, month: str, now: int) -> Counter[tuple[object, str]]:
    """Jobs, wallclock and CPU by VO, as the summaries of the month have them."""
    output = site.folder / "summaries"
    for path in [output, *site.folder.glob("summaries.*")]:
        path.unlink(missing_ok=True)
    site.good("summaries", "--month", month, "--write-to", str(output), now=now)
    sums: Counter[tuple[object, str]] = Counter()
    for path in sorted(site.folder.glob("summaries*")):
        for record in read_message(Path(path).read_bytes(), now=now):
            for name, column in (("jobs", "NumberOfJobs"), ("wall", "WallDuration"), ("cpu", "CpuDuration")):
                value = record[column]
                assert isinstance(value, int)
                sums[record["VO"], name] += value
    return sums


def differences(table: dict[Key, Row], truth: dict[Key, Row]) -> list[str]:
    """How the receiver's table differs from what was written; empty if in = out."""
    lost = [f"lost: {key} {truth[key]}" for key in truth.keys() - table.keys()]
    more = [f"never written: {key} {table[key]}" for key in table.keys() - truth.keys()]
    other = [f"{key}: {table[key]} instead of {truth[key]}" for key in truth.keys() & table.keys() if table[key] != truth[key]]
    return sorted(lost) + sorted(more) + sorted(other)


def books_of(site: Site) -> Books:
    store = site.store()
    with store.reading() as connection:
        books = read_books(connection)
    store.close()
    return books


def disagreements(books: Books, truth: Truth) -> list[str]:
    """How the books differ from what was written; empty if they are right."""
    (destination,) = books.destinations
    wanted = {
        "jobs in force": (sum(truth.jobs.values()), books.jobs.in_force),
        "records published": (len(truth.records), destination.confirmed),
        "records unsent": (0, destination.unsent + destination.not_in_message),
        "jobs waiting": (0, books.jobs.total("waiting") + books.jobs.not_joined),
        "kept back": (truth.unpublished["in the future"], sum(destination.kept_back.values())),
        "excluded": (truth.unpublished.total() - truth.unpublished["in the future"], books.jobs.total("excluded")),
        "bytes lost": (0, sum(source.lost_bytes for source in books.sources)),
    }
    return books.problems + [f"{what}: {there:,} instead of {right:,}" for what, (right, there) in wanted.items() if right != there]
