"""Reports of a folder of Parquet files, without a database: those of the store with the same records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest

from batchacct.archive.layout import countable_files, remove, sums_path
from batchacct.backfill.to_parquet import Sizes
from batchacct.demo.farm import write_logs
from batchacct.errors import ArchiveError, ConfigError, IncompleteError
from batchacct.model import JOB
from batchacct.store import Store
from batchacct.usage import answering, beside, recorded
from cpuhours.figures import StoreFigures
from cpuhours.query import Bins, Source, collection_gaps, usage_by
from cpuhours.question import Question
from cpuhours.report import make_report
from cpuhours.showing import as_values
from tests.archive.farms import archive, left
from tests.archive.test_purge import APRIL, JULY, MARCH, site_of
from tests.backfill.folders import NOW, TOLD, append_files, backfill
from tests.cli.runner import batchacct

QUESTIONS = [Question("vo"), Question("day", MARCH + 86_400 // 2, APRIL, {"vo": ("atlas",)})]


def answer(source: Source, question: Question) -> dict[str, object]:
    return as_values(make_report(StoreFigures(source), question))


def test_back_filled(sqlite_store: Store, tmp_path: Path) -> None:
    write_logs(tmp_path / "logs", jobs=500, end_at=NOW)
    logs = sorted((tmp_path / "logs").glob("lsb*"))
    backfill(logs, tmp_path / "out", replace(TOLD, parser="lsf"), sizes=Sizes())
    append_files(sqlite_store, [(path, "lsf") for path in logs])
    whole = answer(sqlite_store, Question("queue"))
    assert len(str(whole["rows"])) > 500
    assert answer(tmp_path / "out", Question("day")) == answer(sqlite_store, Question("day"))
    some = Question("user", NOW - 5 * 86_400, NOW - 86_400)
    assert answer(tmp_path / "out", some) == answer(sqlite_store, some)
    as_from_rows(tmp_path / "out", NOW - 5 * 86_400, NOW)
    done = batchacct("report", "--archive", tmp_path / "out", "--by", "queue", "--format", "json")
    assert (done.status, json.loads(done.out)) == (0, whole)


def test_archived(sqlite_store: Store, tmp_path: Path) -> None:
    """VOs by identities and by the VO map, both of which the files tell."""
    site = site_of(sqlite_store, tmp_path)
    before = [answer(sqlite_store, question) for question in QUESTIONS]
    archive(site, JULY)
    assert left(sqlite_store)["job"] == 0
    assert [answer(site.config.archive.path, question) for question in QUESTIONS] == before
    assert {row["vo"] for row in before[0]["rows"]} > {"atlas"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("--archive", "/nowhere"), IncompleteError, "/nowhere has no records of jobs"),
        (("--master", "spark://x:1"), ConfigError, "say which by --archive FOLDER"),
    ],
)
def test_what_is_no_folder(words: tuple[str, ...], error: type[IncompleteError | ConfigError], said: str) -> None:
    done = batchacct("report", *words)
    assert done.status == error.exit_code
    assert said in done.err


def test_a_folder_has_no_benchmarks(sqlite_store: Store, tmp_path: Path) -> None:
    site = site_of(sqlite_store, tmp_path)
    archive(site, JULY)
    with pytest.raises(ConfigError, match="there are none"):
        make_report(StoreFigures(site.config.archive.path), Question("vo", normalise="HEPscore23"))


def test_sums_beside_files(sqlite_store: Store, tmp_path: Path) -> None:
    folder = archived_months(sqlite_store, tmp_path)
    as_from_rows(folder, MARCH, JULY)
    assert batchacct("db", "summarise", "--archive", folder).out == "0 of 2 files summed anew\n"
    assert batchacct("db", "summarise", "--archive", folder, "--check").out.startswith("2 of 2 files have sums, which are as")


def archived_months(store: Store, folder: Path) -> Path:
    site = site_of(store, folder)
    archive(site, JULY)
    return site.config.archive.path


def as_from_rows(folder: Path, begin: int, end: int) -> None:
    """Whatever is asked, in whatever bins, is answered from sums as from the rows, which nobody looks at; and so are gaps."""
    some = {"begin": begin + 4_321, "where": {"user": ["%e%"], "host": ["%1%"]}}
    week = Bins("week", "Europe/Zurich")
    asked: list[dict[str, Any]] = [
        {"by": "vo", "bins": Bins("day"), "counted": "spread"},
        {"by": ("user", "host"), **some},
        {"by": "user", "bins": week, "counted": "started"},
        {"by": "user", "bins": week, "counted": "spread", **some},
    ]
    expected = [usage_by(folder, **words) for words in asked], collection_gaps(folder, begin, end)
    files = len(countable_files(folder, JOB))
    done = batchacct("db", "summarise", "--archive", folder)
    assert (done.status, done.out) == (0, f"{files} of {files} files summed anew\n")
    with (
        mock.patch.object(answering, "rows_of_files", side_effect=AssertionError("rows are read")),
        mock.patch.object(recorded, "rows_of_files", side_effect=AssertionError("rows are read")),
    ):
        for words, frame in zip(asked, expected[0], strict=True):
            pd.testing.assert_frame_equal(usage_by(folder, **words), frame, obj=str(words))
        assert collection_gaps(folder, begin, end) == expected[1]


def test_sums_of_another_file_are_not_believed(sqlite_store: Store, tmp_path: Path) -> None:
    folder = archived_months(sqlite_store, tmp_path)
    assert beside.summarise(folder) == 2
    before = usage_by(folder, by="user")
    first, second = [sums_path(file) for file, _ in countable_files(folder, JOB)]
    of_first, of_second = first.read_bytes(), second.read_bytes()
    first.write_bytes(of_second)
    second.write_bytes(b"PAR1 damaged")
    pd.testing.assert_frame_equal(usage_by(folder, by="user"), before)
    assert beside.summarise(folder) == 2
    assert (first.read_bytes(), second.read_bytes()) == (of_first, of_second)
    first.write_bytes(of_first.replace(of_first[4:60], b"?" * 56))
    with pytest.raises(ArchiveError, match=r"is damaged .* delete it, and run"):
        usage_by(folder, by="user", bins=Bins("day"))
    remove(first.with_suffix(".parquet"))
    assert not first.exists()


def test_sums_that_are_not_as_their_rows_are_found(sqlite_store: Store, tmp_path: Path) -> None:
    folder = archived_months(sqlite_store, tmp_path)
    beside.summarise(folder)
    (file, manifest), other = countable_files(folder, JOB)
    sums_path(file).write_bytes(beside.written(beside.made_of_file(*other), manifest))
    done = batchacct("db", "summarise", "--archive", folder, "--check")
    assert (done.status, done.out.partition(": ")[0]) == (IncompleteError.exit_code, str(file))
    assert batchacct("db", "summarise", "--archive", folder, "--rebuild").out == "2 of 2 files summed anew\n"
    assert batchacct("db", "summarise", "--archive", folder, "--check").status == 0
