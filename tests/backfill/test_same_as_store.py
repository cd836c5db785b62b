"""A folder holds what a store would: every parser, over all its samples, cut into tiny pieces."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from batchacct.backfill.to_parquet import Sizes
from batchacct.parsing import registry
from batchacct.store import Store
from tests.backfill.folders import SMALL, TOLD, append_files, backfill, comparable, rows_in, stored_rows
from tests.parsing.test_every_parser import EVERY, content, samples_of

FAMILIES = {"job": ("job", "part"), "identity": ("identity", "part")}


@pytest.mark.parametrize("name", EVERY)
def test_every_parser_on_all_its_samples(name: str, tmp_path: Path, sqlite_store: Store) -> None:
    """In pieces of some lines, all samples and copies of some of them: the records in force are those of a store."""
    files = []
    for number, sample in enumerate(samples_of(name)):
        for copy in range(1 + number % 2):
            path = tmp_path / "logs" / f"{number:03d}-{copy}"
            path.parent.mkdir(exist_ok=True)
            data = content(sample)[: 1 << 16]
            path.write_bytes(gzip.compress(data) if copy else data)
            files.append((path, name))
    books = backfill([tmp_path / "logs"], tmp_path / "out", replace(TOLD, parser=name), sizes=_sizes(name))
    stored = append_files(sqlite_store, files)
    assert {column: getattr(books, column) for column in ("units", "recorded", "merged", "known", "skipped", "rejected")} == {
        column: count for column, count in stored.items() if column != "revised"
    }
    own = registry.parser(name).record_type.name
    for type_name in FAMILIES.get(own, (own,)):
        assert comparable(rows_in(tmp_path / "out", type_name)) == comparable(stored_rows(sqlite_store, type_name)), type_name


def _sizes(name: str) -> Sizes:
    """Rows of sacct are put together by where a block ends: there as large ones as everywhere else."""
    return replace(SMALL, block_bytes=2 << 20) if name == "slurm" else SMALL
