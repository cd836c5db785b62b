"""Facts: packed they lose nothing, whatever numbers jobs have; and groups are told apart, however many there could be."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from batchacct.archive.querying import duck_with
from batchacct.usage import in_facts
from batchacct.usage.bins import DAY_S, Bins
from batchacct.usage.in_facts import Numbered
from batchacct.usage.jobs import FACTS_SCHEMA
from batchacct.usage.narrowing import TIMES
from batchacct.usage.packs import FACTS, decoded, encoded, packed, unpacked
from batchacct.usage.summing import BEGINNINGS, ENDINGS, Asked

LEAST, MOST = -(1 << 63), (1 << 63) - 1
NEVER_UNKNOWN = ("day", "start_at", "end_at")


def chance_facts(seed: int, jobs: int) -> pa.Table:
    """Each column within its own bounds, up to those of 64 bits."""
    chance = random.Random(seed)
    columns: dict[str, list[Any]] = {}
    for field in FACTS_SCHEMA:
        most = 1 << chance.choice([1, 7, 8, 15, 16, 31, 32, 62])
        unknown = 0.0 if field.name in NEVER_UNKNOWN else chance.choice([0, 0, 0.3, 1])
        columns[field.name] = [None if chance.random() < unknown else drawn(chance, field.type, most) for _ in range(jobs)]
    return pa.table(columns, schema=FACTS_SCHEMA)


def drawn(chance: random.Random, kind: pa.DataType, most: int) -> object:
    if kind == pa.int64():
        return chance.randrange(-most, most)
    return chance.random() if kind == pa.float64() else f"n{chance.randrange(min(most, 300))}"


def in_order(table: pa.Table) -> list[Any]:
    return sorted(table.to_pylist(), key=repr)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_packed_comes_back(seed: int) -> None:
    table = chance_facts(seed, jobs=1 + seed * 7)
    content = packed(FACTS, encoded(table))
    assert in_order(unpacked(FACTS, content)) == in_order(table)
    for names in (["user", "end_at"], ["wall_duration_s"], ["user", "cpu_duration_s"]):
        assert in_order(unpacked(FACTS, content, names)) == in_order(table.select(sorted(names, key=FACTS_SCHEMA.names.index)))


def test_differences_of_more_than_64_bits() -> None:
    table = chance_facts(1, 3)
    for name in TIMES:
        table = table.set_column(table.column_names.index(name), name, pa.array([LEAST, MOST, 0]))
    assert in_order(unpacked(FACTS, packed(FACTS, encoded(table)))) == in_order(table)


@pytest.mark.parametrize("most", [1 << 62, 40])
def test_groups_are_told_apart(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Also where there could be more groups than 64 bits can number."""
    monkeypatch.setattr(in_facts, "_MOST", most)
    table, names = chance_facts(8, 200), ["user", "queue", "level_value", "state"]
    numbered = Numbered.of(encoded(table), names)
    numbers: Any = numbered.jobs.column("number").to_pylist()
    rows, groups = table.select(names).to_pylist(), numbered.groups.to_pylist()
    assert [groups[number] for number in numbers] == rows
    assert len(groups) == len({repr(row) for row in rows}) < 200


EDGE = 1_774_738_800
"""Midnight in Zurich, 2026-03-29: the clocks change that day."""


@pytest.mark.parametrize("seed", range(10))
def test_rates_of_the_jobs_of_several_bins_alone_come_to_the_same(seed: int) -> None:
    """Also of jobs that take no time, or end before they start, and that start or end where bins meet."""
    chance = random.Random(seed)
    rows = []
    for _ in range(300):
        end = EDGE + chance.choice([0, 1, -1, chance.randrange(-3 * DAY_S, 3 * DAY_S)])
        ran = chance.choice([0, -5, 1, end - EDGE, chance.randrange(3600), chance.randrange(3 * DAY_S)])
        amounts = {"cpu_duration_s": chance.choice([None, 0, 7, 10**6]), "wall_duration_s": max(ran, 0), "processors": 3}
        rows.append({"user": chance.choice("abc"), "start_at": end - ran, "end_at": end, "submit_at": end, **amounts})
    asked = Asked(
        ("user",), begin=chance.choice([None, EDGE - 4000]), end=chance.choice([None, EDGE + DAY_S]),
        bins=Bins("day", "Europe/Zurich"), counted="spread", summed_by_s=100,
    )  # fmt: skip
    numbered = Numbered.of(encoded(pa.Table.from_pylist(rows, FACTS_SCHEMA)), ["user"]).with_units(asked)
    with duck_with({}) as duck:
        for summed in (BEGINNINGS, ENDINGS):
            quick, plain = numbered.answered(duck, asked, summed), numbered.summed(duck, asked, summed)
            assert added_up(quick) == added_up(plain) != {}


def added_up(table: pa.Table) -> dict[tuple[object, ...], list[int]]:
    """The sums by user and unit, without those that are all zeros."""
    found: dict[tuple[object, ...], list[int]] = {}
    for user, unit, *sums in zip(*decoded(table).to_pydict().values(), strict=True):
        known = found.setdefault((user, unit), [0] * len(sums))
        found[user, unit] = [one + more for one, more in zip(known, sums, strict=True)]
    return {key: sums for key, sums in found.items() if any(sums)}
