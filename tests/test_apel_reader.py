"""The independent reader against the verdicts of the real loader."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.apel_reader import LAYOUT_2012, ORDER, Crashed, Job, Refused, as_stored, read_as_documented, read_message

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


AS_DOCUMENTED = ("job-v0.3-grid.txt", "summary-v0.2-whole.txt", "normalised-summary-v0.3-whole.txt", "egi-doc-sync-v0.1.txt")


@pytest.mark.parametrize("name", AS_DOCUMENTED)
def test_reads_what_is_as_documented(name: str) -> None:
    assert len(read_as_documented((SAMPLES / name).read_bytes())) == 1


def changed(name: str, old: str, new: str) -> bytes:
    text = (SAMPLES / name).read_text()
    assert old in text
    return text.replace(old, new).encode()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("job-v0.3-grid.txt", "Site: E", "Site: É"),
        ("job-v0.3-grid.txt", "message: v0.3", "message:v0.3"),
        ("job-v0.3-grid.txt", "message: v0.3", "message: v0.2"),
        ("job-v0.3-grid.txt", "Site: EXAMPLE-SITE\n", "Site: EXAMPLE-SITE\nSite: EXAMPLE-SITE\n"),
        ("summary-v0.2-whole.txt", "Month: 11\nYear: 2023\n", "Year: 2023\nMonth: 11\n"),
        ("egi-doc-job-v0.2.txt", "Si2k", "HEPscore23"),
    ],
)
def test_refuses_what_is_not_as_documented(name: str, old: str, new: str) -> None:
    text = changed(name, old, new)
    assert len(read_message(text)) == 1
    with pytest.raises(Refused):
        read_as_documented(text)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("summary-v0.2-whole.txt", "v0.2", "v0.1"),
        ("summary-v0.2-whole.txt", "InfrastructureType", "Infrastructure"),
        ("normalised-summary-v0.3-whole.txt", "Infrastructure", "InfrastructureType"),
        ("summary-v0.2-whole.txt", "Month: 11", "Month: 13"),
        ("summary-v0.2-whole.txt", "Month: 11", "Month: 12"),
        ("summary-v0.2-whole.txt", "Year: 2023", "Year: 9000"),
        ("summary-v0.2-whole.txt", "EarliestEndTime: 1698800400", "EarliestEndTime: 1701385201"),
        ("summary-v0.2-whole.txt", "WallDuration: 3600000", "WallDuration: -1"),
        ("summary-v0.2-whole.txt", "NumberOfJobs: 1000", "NumberOfJobs: 2147483648"),
        ("summary-v0.2-whole.txt", "NumberOfJobs: 1000", "NumberOfJobs: None"),
        ("normalised-summary-v0.4-dict.txt", "{hepscore23: 43750000}", "{hepspec: 43750000}"),
        ("normalised-summary-v0.3-whole.txt", "APEL-summary-job-message: v0.3", "APEL-normalised-summary-message: v0.3"),
        ("egi-doc-sync-v0.1.txt", "Month: 1\n", ""),
    ],
)
def test_refuses_other_summaries(name: str, old: str, new: str) -> None:
    with pytest.raises(Refused):
        read_message(changed(name, old, new))


@pytest.mark.parametrize(
    ("fqan", "vo", "group", "role"),
    [
        ("/atlas/Role=pilot/Capability=NULL;/atlas/Role=NULL/Capability=NULL", "atlas", "/atlas", "Role=pilot"),
        ("/atlas/higgs/Role=NULL", "atlas", "/atlas/higgs", "Role=NULL"),
        ("/local-atlas", "local-atlas", "/local-atlas", "None"),
        ("atlas", "atlas", "None", "None"),
        (None, "given", "None", "None"),
    ],
)
def test_keeps_the_vo_of_the_fqan(fqan: str | None, vo: str, group: str, role: str) -> None:
    job: Job = {"FQAN": fqan, "VO": "given", "ServiceLevel": 12.3456}
    stored = as_stored(job)
    assert (stored["VO"], stored["VOGroup"], stored["VORole"]) == (vo, group, role)
    assert (stored["Processors"], stored["ServiceLevel"]) == (0, 12.346)


def test_every_kind_has_its_documentation() -> None:
    assert len(ORDER) == 8
