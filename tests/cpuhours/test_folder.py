"""Reports of a folder of Parquet files, without a database: those of the store with the same records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from batchacct.backfill.to_parquet import Sizes
from batchacct.demo.farm import write_logs
from batchacct.errors import ConfigError, IncompleteError
from batchacct.store import Store
from cpuhours.figures import StoreFigures
from cpuhours.query import Source
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
