"""Records held against their units: over the samples of every parser nothing differs, and whatever is changed then is told."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from sqlalchemy import Connection, Table, func, select, update

from batchacct.collector import Collector, collect_once
from batchacct.completing import complete_parts, rules_of
from batchacct.ledger import rereading
from batchacct.ledger.reading_rows import ASKED, Reader
from batchacct.ledger.rereading import Reread, reread
from batchacct.model import INSTANT, RECORD_TYPES, TEXT, Column
from batchacct.parsing import Parser, Source, registry
from batchacct.store import Store
from batchacct.store.tables import RECORD_TABLES, ROWS_PER_LOAD, job, load
from benchmarks.logs import FORMATS
from benchmarks.logs.jobs import jobs
from tests.cli.site import ENDED, lsf
from tests.parsing.test_every_parser import EVERY, content, samples_of
from tests.records import NOW

SOURCE = Source("s", "SITE", "c1")
FIRST = 1 << 20
EVER = (0, 2**32)
MADE, LONGEST = 100, 300_000
UNTOLD = {"site", "cluster", "parser", "source_offset", "content_hash"}
"""Columns of which a change is told in some records only; tests of their own stand below."""


def collected(store: Store, parser: Parser, folder: Path, source: Source = SOURCE) -> dict[str, Reader]:
    done = collect_once(store, Collector(parser, source, (f"{folder}/*",)), lambda: NOW)
    assert done.counts["recorded"] + done.counts["merged"] > 0, done.errors
    complete_parts(store, rules_of([(source.name, parser)]), NOW)
    return {source.name: Reader(source, parser)}


def told(store: Store, readers: dict[str, Reader], change: Callable[[Connection], object] = lambda c: None) -> Reread:
    """What is told after a change, which is undone."""
    with store.engine.execution_options(writing=True).connect() as connection, connection.begin() as transaction:
        change(connection)
        found = reread(connection, readers, *EVER)
        transaction.rollback()
    return found


@pytest.fixture
def samples(request: pytest.FixtureRequest, tmp_path: Path, sqlite_store: Store) -> tuple[Store, Parser, dict[str, Reader]]:
    """All samples of a parser and a generated log, each a file; compressed, so that nothing more is awaited at their ends."""
    parser = registry.parser(request.param)
    (tmp_path / "logs").mkdir()
    written = [data for path in samples_of(request.param) if len(data := content(path)) < LONGEST]
    if request.param in FORMATS:
        written.append(b"".join(piece for piece, _ in FORMATS[request.param].pieces(list(islice(jobs(7), MADE)), 1 << 30)))
    for number, data in enumerate(written):
        (tmp_path / "logs" / f"{number}.gz").write_bytes(gzip.compress(data))
    return sqlite_store, parser, collected(sqlite_store, parser, tmp_path / "logs")


@pytest.mark.parametrize("samples", EVERY, indirect=True)
def test_samples_are_as_their_units_say_and_changes_are_told(samples: tuple[Store, Parser, dict[str, Reader]]) -> None:
    store, _, readers = samples
    found = told(store, readers)
    assert found.problems == []
    assert sum(found.compared.values()) > 0
    reasons = {reason for by_reason in found.not_compared.values() for reason in by_reason}
    assert {reason.partition(";")[0] for reason in reasons} <= {rereading.BY_ITSELF, "an earlier state of a record made of parts"}
    with patch.object(rereading, "NAMED", 10**6):
        for name, record_type in RECORD_TYPES.items():
            for numbers in _by_kind(store, RECORD_TABLES[name]):
                for start in range(0, len(record_type.columns), len(numbers)):
                    changed = dict(zip(numbers, record_type.columns[start : start + len(numbers)], strict=False))
                    _assert_changes_are_told(store, readers, RECORD_TABLES[name], changed)


def _by_kind(store: Store, table: Table) -> Iterator[list[int]]:
    """Numbers of records in force: some that were read from a unit, some that were made of parts, if there are any."""
    for kind in (load.c.completed == 0, load.c.completed > 0):
        joined = table.join(load, load.c.id == table.c.id // ROWS_PER_LOAD)
        query = select(table.c.id).select_from(joined).where(kind, table.c.superseded_by.is_(None)).order_by(table.c.id.desc())
        with store.reading() as connection:
            numbers = connection.scalars(query.limit(50)).all()
        if numbers:
            yield list(numbers)


def _assert_changes_are_told(store: Store, readers: dict[str, Reader], table: Table, changed: dict[int, Column]) -> None:
    def change(connection: Connection) -> None:
        for number, column in changed.items():
            old = connection.scalar(select(table.c[column.name]).where(table.c.id == number))
            connection.execute(update(table).where(table.c.id == number).values({column.name: _other(column, old)}))

    found = told(store, readers, change)
    for number, column in changed.items():
        problems = [problem for problem in found.problems if f"(record {number}): " in problem]
        if column.name in UNTOLD:
            continue
        assert len(problems) == 1, (column.name, number, problems)
        longer = [f"begins within that of record {n}," for n, other in changed.items() if other.name in {"native", "source_offset"}]
        instead = ("no parts make it", *longer)  # units of one length have nothing between them
        assert column.name in problems[0] or any(why in problems[0] for why in instead) or column.name == "native", problems


def _other(column: Column, old: object) -> object:
    """Another value of a column, of the same kind."""
    if column.type == TEXT:
        return f"{old or ''}x"
    if column.type == pa.binary():
        return b"x" + bytes(old) if isinstance(old, bytes) else b"x"
    if column.type == INSTANT:
        return 60 + int(str(old or 0))
    return 1 if old is None else int(float(str(old))) + 1


LINES = tuple(lsf(number, end=ENDED + number) for number in range(1, 6))


@pytest.fixture
def five(tmp_path: Path, sqlite_store: Store) -> Iterator[tuple[Store, dict[str, Reader]]]:
    """Five LSF jobs, records 1048576 to 1048580."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "lsb.acct").write_bytes(b"".join(LINES))
    yield sqlite_store, collected(sqlite_store, registry.parser("lsf"), tmp_path / "logs")


def changed(number: int, **values: object) -> Callable[[Connection], object]:
    return lambda c: c.execute(update(job).where(job.c.id == FIRST + number).values(values))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"site": "OTHER"}, "site is 'OTHER', its unit says 'SITE'"),
        ({"cluster": "c2"}, "cluster is 'c2', its unit says 'c1' ("),
        ({"source": "t"}, "source is 't', its load 1 is of 's'"),
        ({"source_offset": 10**6}, "source_offset is 1,000,000, its load 1 has read bytes 0 to "),
        ({"source_offset": 1}, "its unit begins within that of record 1048577, or before it"),
        ({"content_hash": 1}, "its unit, or its content_hash, was changed: the hash of the unit is another"),
        ({"native": None}, "its unit is not there any more, though the names are"),
    ],
)
def test_where_a_record_is_of(five: tuple[Store, dict[str, Reader]], values: dict[str, object], said: str) -> None:
    (problem,) = told(*five, changed(2, **values)).problems
    assert problem.startswith(f"job 3 (record {FIRST + 2}): {said}")


@pytest.mark.parametrize("values", [{"site": "OTHER"}, {"cluster": "c2", "record_key": "lsf:c2:"}])
def test_all_of_a_load_under_another_configuration_is_not_compared(
    five: tuple[Store, dict[str, Reader]], values: dict[str, str]
) -> None:
    def change(connection: Connection) -> None:
        new = {name: value for name, value in values.items() if name != "record_key"}
        key = func.replace(job.c.record_key, "lsf:c1:", values.get("record_key", "lsf:c1:"))
        connection.execute(update(job).values(**new, record_key=key))

    found = told(*five, change)
    assert (found.problems, found.not_compared["job"]) == ([], {rereading.OTHER_PLACE: 5})


def test_another_version_that_reads_differently_is_told_apart(five: tuple[Store, dict[str, Reader]]) -> None:
    found = told(*five, changed(2, parser="lsf/0"))
    assert (found.problems, found.compared["job"]) == ([], 5)
    found = told(*five, changed(2, parser="lsf/0", cpu_duration_s=7))
    label = registry.parser("lsf").label
    assert (found.problems, found.not_compared["job"]) == ([], {f"read differently by parser {label} now (then lsf/0)": 1})


@pytest.mark.parametrize(
    ("readers", "reason"),
    [
        ({}, rereading.NOT_CONFIGURED),
        ({"s": Reader(SOURCE, registry.parser("lsf"), ASKED)}, ASKED),
        ({"s": Reader(SOURCE, None, "parser 'lsf' is not installed")}, "parser 'lsf' is not installed"),
    ],
)
def test_what_cannot_be_read_is_counted(five: tuple[Store, dict[str, Reader]], readers: dict[str, Reader], reason: str) -> None:
    found = told(five[0], readers, changed(2, cpu_duration_s=7))
    assert (found.problems, found.compared["job"], found.not_compared["job"]) == ([], 0, {reason: 5})
    assert len(told(five[0], readers, changed(2, native=LINES[0])).problems) == 1, "the hash is compared all the same"


def test_a_header_line_of_sacct_is_known_again(sqlite_store: Store, tmp_path: Path) -> None:
    """Two files with headers of their own; the second is asked for by its records alone. A file with two headers leaves it open."""
    rows = b"%d|n|2026-10-01T00:00:00|2026-10-01T00:00:00|2026-10-01T01:00:00|COMPLETED|u|g|1\n"
    header = b"JobID|JobName|Submit|Start|End|State|User|Group|AllocCPUS\n"
    turned = b"JobID|JobName|Submit|Start|End|State|Group|User|AllocCPUS\n"
    (tmp_path / "logs").mkdir()
    for name, data in {"a": header + rows % 1, "b": turned + rows % 2, "c": header + rows % 3 + turned + rows % 4}.items():
        (tmp_path / "logs" / f"{name}.gz").write_bytes(gzip.compress(data))
    readers = collected(sqlite_store, registry.parser("slurm"), tmp_path / "logs")
    found = told(sqlite_store, readers)
    assert (found.problems, found.compared["job"]) == ([], 3)
    assert found.not_compared["job"] == {rereading.SEVERAL_HEADERS: 1}
