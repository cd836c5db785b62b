"""The independent reader against the verdicts of the real loader."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.apel_reader import LAYOUT_2012, Crashed, Refused, read_message

SAMPLES = Path(__file__).parent / "samples" / "apel"
with (SAMPLES / "outcomes.tsv").open(encoding="utf-8", newline="") as _file:
    OUTCOMES = list(csv.DictReader(_file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome["file"])
def test_agrees_with_the_loader(outcome: dict[str, str]) -> None:
    text = (SAMPLES / outcome["file"]).read_bytes()
    if outcome["verdict"] == "accept":
        assert f"{len(read_message(text))} record(s)" == outcome["detail"]
        return
    with pytest.raises(Refused) as refusal:
        read_message(text)
    assert refusal.value.stage == outcome["stage"]
    assert isinstance(refusal.value, Crashed) == (outcome["verdict"] == "crash")


def test_every_sample_has_a_verdict() -> None:
    assert {o["file"] for o in OUTCOMES} == {p.name for p in SAMPLES.glob("*.txt")}


def test_reads_the_2012_layout() -> None:
    jobs = read_message((SAMPLES / "batchacct-2012-v1.1.txt").read_bytes(), LAYOUT_2012)
    assert [(j["LocalJobId"], j["Infrastructure"], j["ServiceLevel"]) for j in jobs] == [
        ("175281234-0", "grid", 2500.0),
        ("175281235-3", "local", 2500.0),
    ]


def test_header_alone_is_no_job() -> None:
    assert read_message(b"APEL-individual-job-message: v0.3\n") == []


@pytest.mark.parametrize("value", ['{"hepscore23": 12.5}', "{}", "{hepscore23: 1,}", "12.5", "{si2k: 1, si2k: 1}"])
def test_refuses_other_dictionaries(value: str) -> None:
    text = (SAMPLES / "job-v0.4-dict.txt").read_text().replace("{hepscore23: 12.5, hepspec: 11.9}", value)
    with pytest.raises(Refused):
        read_message(text.encode())
