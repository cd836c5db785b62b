"""The independent readers of XML against the schemas and the verdicts of the real loader."""

from __future__ import annotations

import csv

import pytest

from tests.apel_reader import Refused
from tests.usage_record_reader import CAR, SAMPLES, UR, URWG, assert_valid, is_valid, read_as_apel, read_as_sgas, read_records

NOW = 1_800_000_000
with (SAMPLES / "outcomes.tsv").open(encoding="utf-8", newline="") as _file:
    OUTCOMES = list(csv.DictReader(_file, delimiter="\t", quoting=csv.QUOTE_NONE))

VALID = {
    "apel-test-car1.xml": CAR,
    "car-1.2-comment-first.xml": CAR,
    "car-1.2-cpu-all.xml": CAR,
    "car-1.2-cpu-user-system.xml": CAR,
    "emicar-detailed-full.xml": CAR,
    "emicar-detailed-minimal.xml": CAR,
    "safe-record.0.xml": URWG,
    "safe-valid-eg1.xml": UR,
    "urf-gfd98-job.xml": UR,
}
NOT_VALID = {
    "apel-test-car2.xml": CAR,
    "apel-test-car3.xml": CAR,
    "unicore-car-single-line.xml": CAR,
    "sgas-cur.xml": UR,
    "sgas-ur1.xml": UR,
}


@pytest.mark.parametrize("name", VALID)
def test_valid_samples_are_valid(name: str) -> None:
    payload = (SAMPLES / name).read_bytes()
    assert_valid(payload, VALID[name])
    assert len(read_records(payload, VALID[name])) == 1


@pytest.mark.parametrize("name", NOT_VALID)
def test_others_are_not(name: str) -> None:
    assert not is_valid((SAMPLES / name).read_bytes(), NOT_VALID[name])


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome["file"])
def test_agrees_with_the_loader(outcome: dict[str, str]) -> None:
    text = (SAMPLES / outcome["file"]).read_bytes()
    if outcome["verdict"] == "accept":
        assert f"{len(read_as_apel(text, NOW))} record(s)" == outcome["detail"]
        return
    with pytest.raises(Refused) as refusal:
        read_as_apel(text, NOW)
    assert refusal.value.stage == outcome["stage"]


@pytest.mark.parametrize(("name", "cpu_s"), [("cpu-all", 3500), ("cpu-user-system", 3400)])
def test_apel_takes_the_total_or_what_comes_first(name: str, cpu_s: int) -> None:
    (job,) = read_as_apel((SAMPLES / f"car-1.2-{name}.xml").read_bytes(), NOW)
    assert (job["CpuDuration"], job["WallDuration"], job["EndTime"]) == (cpu_s, 3600, 1_700_003_600)


def test_apel_converts_times_to_utc() -> None:
    (job,) = read_as_apel((SAMPLES / "apel-test-car3.xml").read_bytes(), NOW)
    assert (job["StartTime"], job["Processors"]) == (1_361_545_125, 2)


@pytest.mark.parametrize(("name", "records"), [("sgas-ur1.xml", 1), ("sgas-cur.xml", 2), ("safe-valid-eg1.xml", 1)])
def test_sgas_takes_its_samples(name: str, records: int) -> None:
    assert len(read_as_sgas((SAMPLES / name).read_bytes())) == records


def test_sgas_adds_cpu_times() -> None:
    ((record_id, record),) = read_as_sgas((SAMPLES / "urf-gfd98-job.xml").read_bytes()).items()
    assert (record_id, record["CPU"]) == ("lsf-master.example.org:4242-1:1700003600", 3500)


def test_sgas_refuses_the_older_namespace() -> None:
    with pytest.raises(Refused):
        read_as_sgas((SAMPLES / "safe-record.0.xml").read_bytes())
