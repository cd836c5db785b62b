"""The statements that partition tables on Oracle, of which no server runs here, and how ranges without a lower bound are split."""

from __future__ import annotations

from typing import Any, cast

import pytest

from batchacct.store.dialects.oracle_partitions import OraclePartitions
from batchacct.store.dialects.partitioning import Layout, Partition
from batchacct.store.dialects.ranges import from_bounds, pieces_of, splits
from batchacct.store.months import Month

MAY, JUNE, JULY = (Month(2026, number) for number in (5, 6, 7))


class Catalogue:
    """A connection that knows the partitions of one table."""

    def __init__(self, *bounds: tuple[str, int | None]) -> None:
        self._bounds = bounds

    def execute(self, _asked: object, _parameters: object) -> list[tuple[str, str]]:
        return [(name.upper(), "MAXVALUE" if end is None else f" {end}") for name, end in self._bounds]


def added(*bounds: tuple[str, int | None], months: list[Month]) -> list[str]:
    return OraclePartitions().add(cast("Any", Catalogue(*bounds)), "job", "logged_at", months)


def dropped(*bounds: tuple[str, int | None], month: Month) -> list[str]:
    return OraclePartitions().drop(cast("Any", Catalogue(*bounds)), "job", month)


def test_a_table_becomes_a_partitioned_one() -> None:
    assert OraclePartitions().convert(Layout("job", "logged_at", ("logged_at",)))[-1] == (
        "ALTER TABLE job MODIFY PARTITION BY RANGE (logged_at) (PARTITION rest VALUES LESS THAN (MAXVALUE)) ONLINE"
    )
    suffix, following = OraclePartitions().clause("mine", "logged_at", [MAY])
    assert suffix == (
        f"PARTITION BY RANGE (logged_at) (PARTITION rest_{MAY.start} VALUES LESS THAN ({MAY.start}), "
        f"PARTITION mine{MAY.end} VALUES LESS THAN ({MAY.end}), PARTITION rest VALUES LESS THAN (MAXVALUE))"
    )
    assert following == []


def test_months_are_split_off_the_catch_all() -> None:
    split = "ALTER TABLE job SPLIT PARTITION rest AT ({0}) INTO (PARTITION {1}, PARTITION rest) UPDATE INDEXES"
    assert added(("rest", None), months=[MAY, JUNE]) == [
        split.format(MAY.start, f"rest_{MAY.start}"),
        split.format(MAY.end, MAY.partition("job")),
        split.format(JUNE.end, JUNE.partition("job")),
    ]
    there = (f"rest_{MAY.start}", MAY.start), (MAY.partition("job"), MAY.end), ("rest", None)
    assert added(*there, months=[MAY, JUNE]) == [split.format(JUNE.end, JUNE.partition("job"))]


def test_a_month_in_a_gap() -> None:
    gap = f"rest_{JUNE.end}"
    there = (
        (f"rest_{MAY.start}", MAY.start),
        (MAY.partition("job"), MAY.end),
        (gap, JUNE.end),
        (JULY.partition("job"), JULY.end),
        ("rest", None),
    )
    assert added(*there, months=[JUNE]) == [f"ALTER TABLE job RENAME PARTITION {gap} TO {JUNE.partition('job')}"]


def test_a_month_that_is_dropped_leaves_a_catch_all() -> None:
    there = (f"rest_{MAY.start}", MAY.start), (MAY.partition("job"), MAY.end), (JUNE.partition("job"), JUNE.end), ("rest", None)
    assert dropped(*there, month=MAY) == [
        f"ALTER TABLE job TRUNCATE PARTITION {MAY.partition('job')} UPDATE INDEXES",
        f"ALTER TABLE job MERGE PARTITIONS rest_{MAY.start}, {MAY.partition('job')} INTO PARTITION rest_{MAY.end} UPDATE INDEXES",
    ]
    assert dropped(*there, month=JUNE)[1] == f"ALTER TABLE job RENAME PARTITION {JUNE.partition('job')} TO rest_{JUNE.end}"


@pytest.mark.parametrize("months", [[MAY], [JULY, MAY], [MAY, JUNE, JULY]])
def test_splitting_is_complete(months: list[Month]) -> None:
    """The partitions that a catch-all becomes follow one another, the months are among them, and each is there once."""
    made = from_bounds((piece.name, piece.end) for piece in pieces_of("job", months))
    assert (made[0].start, made[-1].end) == (None, None)
    assert [one.end for one in made[:-1]] == [one.start for one in made[1:]]
    assert [one.month for one in made if one.month is not None] == sorted(months)
    assert list(splits(made, "job", months)) == []
    ((around, pieces),) = splits(made, "job", [Month(2031, 1)])
    assert (around.name, len(pieces)) == ("rest", 3)


def test_a_catch_all_of_a_month_s_length_is_none() -> None:
    assert Partition(MAY.partition("job"), MAY.start, MAY.end).month == MAY
    assert Partition(f"rest_{MAY.end}", MAY.start, MAY.end).month is None
    assert Partition("rest", None, None).month is None
