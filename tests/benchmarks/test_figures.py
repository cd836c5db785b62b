"""The table of parsers: what is short of the target is seen, and APEL, where it is there, reads the same lines."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks import logs, parsers
from benchmarks.apel import MISSING, SOURCE_VARIABLE, Apel
from benchmarks.figures import Figures, Taken, Throughput, median_of

if TYPE_CHECKING:
    from pathlib import Path

SGE = Throughput("sge", "lines", 200_000, 60_000_000, Taken(1.0, 0.9), Taken(0.5, 1.0), 10.0, 0.03, Taken(2.4, 2.25))


def test_a_parser_is_short_by_the_clock_with_two_threads() -> None:
    assert (SGE.ratio, SGE.cpu_ratio, SGE.is_short) == (4.8, 2.5, True)
    assert not replace(SGE, two_threads=Taken(0.48, 1.0)).is_short
    assert not replace(SGE, reference=None).is_short


def test_the_table_says_what_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    figures = Figures(200_000, 1)
    figures.parsers = [SGE, replace(SGE, log="gram", reference=None)]
    figures.show()
    told = capsys.readouterr().out
    short, alone = (next(line for line in told.splitlines() if f" {name} " in line) for name in ("sge", "gram"))
    cells = [cell.strip() for cell in short.split("│")[1:-1]]
    assert cells == [
        "sge", "200,000 lines", "60", "200,000", "400,000", "120", "222,222", "20,000", "3%", "83,333", "4.80", "2.50", "below 5"
    ]  # fmt: skip
    assert "below" not in alone


def test_figures_are_saved_with_their_ratios(tmp_path: Path) -> None:
    figures = Figures(200_000, 1, parsers=[SGE])
    figures.save(tmp_path / "figures.json")
    (saved,) = json.loads((tmp_path / "figures.json").read_bytes())["parsers"]
    assert (saved["log"], saved["ratio"], saved["cpu_ratio"], saved["two_threads"]) == ("sge", 4.8, 2.5, [0.5, 1.0])


def test_medians_are_those_of_each() -> None:
    assert median_of([Taken(1, 9), Taken(3, 7), Taken(2, 8)]) == (2, 8)


def test_without_apel_the_parsers_are_measured_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOURCE_VARIABLE, raising=False)
    monkeypatch.setattr(parsers, "ROUNDS", 1)
    figures = Figures(300, 1)
    parsers.measure(figures, ["sge", "lsf"], tmp_path, 300, 1)
    assert [(told.log, told.units, told.reference) for told in figures.parsers] == [("sge", 300, None), ("lsf", 300, None)]
    assert figures.notes == [MISSING]
    sge = figures.parsers[0]
    assert 0 <= sge.left < 0.5 and sge.careful_s > 0 and sge.size == logs.made("sge", tmp_path, 300, 1).size


@pytest.mark.skipif(Apel.installed() is None, reason="APEL_SRC names no checkout of apel/apel")
@pytest.mark.parametrize("name", [*logs.LARGE, *(name for name, form in logs.FORMATS.items() if form.apel)])
def test_apel_reads_the_same_lines(name: str, tmp_path: Path) -> None:
    log, apel = logs.made(name, tmp_path, 300, 1), Apel.installed()
    assert apel and log.apel
    told = apel.child("parse", log.apel, log.path)
    assert told["lines"] == log.units
    assert told["refused"] < log.units / 2
