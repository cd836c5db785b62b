"""The values of Slurm's accounting, against the vectors in tests/samples/slurm and against sacct(1)."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import json
import math
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchacct.model import JOB_STATES
from batchacct.parsing import Reject
from loccol import slurm_values as values
from loccol.slurm_values import JobId

SAMPLES = Path(__file__).parent.parent / "samples" / "slurm"
LIMIT_FORMS = {"3-10:00", "3-13", "10"}
"""What sbatch reads and nothing prints: rejected, because `10` is more likely seconds where it does occur."""


def vectors(name: str) -> list[list[str]]:
    with (SAMPLES / name).open(encoding="utf-8", newline="") as lines:
        return [row for row in csv.reader(lines, delimiter="\t") if row]


@pytest.mark.parametrize(("text", "expected"), [row[:2] for row in vectors("durations.tsv")])
def test_durations(text: str, expected: str) -> None:
    if text in LIMIT_FORMS:
        with pytest.raises(Reject, match="Elapsed is no duration"):
            values.duration_us(text, "Elapsed")
        return
    microseconds = values.duration_us(text, "Elapsed")
    assert microseconds == (int(Decimal(expected) * 1_000_000) if expected else None)


def test_durations_that_are_none() -> None:
    assert values.duration_us("00:01:05", "x") == 65_000_000
    assert values.duration_us("01:05.753", "x") == 65_753_000
    for text in ("1:2:3:4", "-00:01:00", "1.5", "00:00:00.1234567", "a", "1-00", "\u0660:00", "999999999-00:00:00" + "0" * 9):
        with pytest.raises(Reject):
            values.duration_us(text, "x")


@pytest.mark.parametrize(("text", "expected"), [(row[0], row[1]) for row in vectors("memory-kib.tsv")])
def test_memory(text: str, expected: str) -> None:
    if text.endswith(("c", "n")):
        assert values.requested_kib(text, 1, 1) == (int(expected) or None)
        return
    assert values.memory_kib(text, "MaxRSS") == (math.floor(Decimal(expected)) if expected else None)


def test_memory_asked_for() -> None:
    assert values.requested_kib("3000Mc", 16, 2) == 16 * 3_072_000
    assert values.requested_kib("62.50Gn", 16, 2) == 2 * 65_536_000
    assert values.requested_kib("128G", 16, 2) == values.requested_kib("131072", 16, 2) == 134_217_728
    assert values.requested_kib("3000Mc", None, 2) is None
    assert values.requested_kib("", 1, 1) is values.requested_kib("0", 1, 1) is None
    assert values.memory_kib("1048577", "MaxRSS") == 1024
    assert values.memory_kib("449024", "MaxRSS", bare="K") == 449024
    for text in ("20H", "54J", "-1K", "1e3K", "K", "9" * 20 + "P", "1.K"):
        with pytest.raises(Reject):
            values.memory_kib(text, "MaxRSS")


@pytest.mark.parametrize(("expression", "count", "hosts"), [(*row, "", "")[:3] for row in vectors("hostlists.tsv")])
def test_node_lists(expression: str, count: str, hosts: str) -> None:
    nodes = values.node_list(expression)
    assert nodes.count == int(count)
    assert list(nodes.names) == hosts.split()


def test_node_lists_with_more_than_one_bracket_and_of_any_size() -> None:
    assert values.node_list("c-[1-2]-x[1,03]y,z").names == ("c-1-x1y", "c-1-x03y", "c-2-x1y", "c-2-x03y", "z")
    huge = values.node_list("n[1-99999][1-9999],m")
    assert (huge.count, huge.names) == (99999 * 9999 + 1, ())
    assert len(values.node_list(f"n[1-{values.MOST_HOSTS}]").names) == values.MOST_HOSTS
    for broken in (
        "a[",
        "a[1",
        "a[1-",
        "a[]",
        "a]",
        "a[2-1]",
        "a[x]",
        "a[1]]",
        ",a",
        "a,,b",
        "[[1]]",
        "a[1-2-3]",
        "a" + "[1]" * 9,
        "a[1-99999999999]",
    ):
        with pytest.raises(Reject, match="NodeList"):
            values.node_list(broken)
    assert values.exec_hosts(values.node_list("a1"), 8) == '["8*a1"]'
    assert values.exec_hosts(values.node_list("a[1-2]"), 8) == '["a1","a2"]'
    assert values.exec_hosts(values.node_list("None assigned"), 8) is None


@pytest.mark.parametrize(("text", "number", "index", "step"), [(*row, "", "")[:4] for row in vectors("slurm2sql-jobid.tsv")])
def test_job_ids(text: str, number: str, index: str, step: str) -> None:
    job = values.job_id(text)
    assert (job.number, job.array_index, job.step) == (int(number), int(index) if index else None, step or None)


def test_job_ids_of_arrays_and_components() -> None:
    assert values.job_id("12_[1-9%2]") == JobId(12, None, "[1-9%2]")
    assert values.job_id("12_[1,3,...]") == JobId(12, None, "[1,3,...]")
    assert values.job_id("12_3+1.batch") == JobId(12, 3, None, 1, "batch")
    assert values.id_columns(JobId(12, 3)) == {"lrms_job_id": "12", "array_index": 3, "join_id": "12"}
    assert values.id_columns(JobId(12, None, None, 1)) == {"lrms_job_id": "12+1", "array_index": None, "join_id": "12"}
    keys = {
        values.record_key("c", *key)
        for key in (
            (JobId(12), 12, 1, 2), (JobId(12, 3), 15, 1, 2), (JobId(12, 3), None, 1, 2), (JobId(12), 12, None, 2),
            (JobId(12), 12, 1, 3), (JobId(12, None, "[1-3]"), 12, None, 2), (JobId(12, None, None, 1), None, 1, 2),
        )
    }  # fmt: skip
    assert len(keys) == 7
    for text in ("", "0", "12.", "12_", "12_a", "12.foo", "a12", "12 ", "12\n", "99999999999", "12_[1", "12+", "12.batch.0"):
        with pytest.raises(Reject, match="JobID is no job id"):
            values.job_id(text)


@pytest.mark.parametrize(("text", "gpus"), [(row[0], row[1]) for row in vectors("xdmod-alloc-tres-gpu.tsv")])
def test_gpus(text: str, gpus: str) -> None:
    assert values.gpus(values.tres(text))[0] == (int(gpus) or None)


def test_resources() -> None:
    amounts = values.tres("billing=4,cpu=4,energy=1439089,gres/gpu=3,gres/gpu:a100_1g.5gb=2,gres/gpu:h100=1,mem=320.5G,node=1")
    columns = values.resource_columns(amounts)
    assert (columns["gpu_count"], columns["gpu_model"], columns["energy_j"]) == (3, "a100_1g.5gb,h100", 1439089.0)
    resources = json.loads(str(columns["resources"]))
    assert resources == amounts
    assert json.loads(str(values.resource_columns(amounts, "long")["resources"])) == amounts | {"qos": "long"}
    assert values.resource_columns({})["resources"] is None
    assert (resources["mem"], resources["cpu"], resources["gres/gpu:h100"]) == ("320.5G", 4, 1)
    assert values.gpus(values.tres("gres/gpu:a100=2,gres/gpu:v100=1")) == (3, "a100,v100")
    assert values.gpus(values.tres("gres/gpu=2")) == (2, None)
    assert values.gpus(values.tres("gres/gpu=0,gres/mps=50")) == (None, None)
    assert values.gpus(values.gres("gpu:k80:2,mic:1,gpu:1")) == (1, "k80")
    assert values.gpus(values.gres("gpu:k80:2(IDX:0,2),gpu:p4:1")) == (3, "k80,p4")
    assert values.gres("") == values.tres("") == {}
    for energy in (0, "", None, "0", 2**64 - 2, str(2**64 - 2), 2**64 - 3, 2**32 - 2):
        assert values.energy_j(energy) is None
    for broken in ("cpu", "cpu=", "=4", "cpu=4,,mem=1G", "cpu=4,"):
        with pytest.raises(Reject, match="AllocTRES"):
            values.tres(broken)


ZURICH = ZoneInfo("Europe/Zurich")


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2015-06-26T13:57:00", dt.UTC, 1435327020),
        ("2012-06-12T17:37:43", ZoneInfo("Europe/Stockholm"), 1339515463),
        ("2025-10-26T02:30:00", ZURICH, 1761438600),
        ("2025-03-30T02:30:00", ZURICH, 1743298200),
        ("2023-02-21T14:37:02+0100", dt.UTC, 1676986622),
        ("2023-02-21T14:37:02+01:00", ZURICH, 1676986622),
        ("2023-02-21T09:07:02-04:30", ZURICH, 1676986622),
        ("2023-02-21T13:37:02Z", ZURICH, 1676986622),
        ("1652870039", ZURICH, 1652870039),
        ("Unknown", ZURICH, None),
        ("None", ZURICH, None),
        ("", ZURICH, None),
        ("0", ZURICH, None),
    ],
)
def test_times(text: str, zone: dt.tzinfo, expected: int | None) -> None:
    assert values.instant(text, zone, "Start") == expected


@pytest.mark.parametrize(
    "text",
    ["4 Sep 11:18", "2023-02-30T00:00:00", "2023-01-01T24:00:00", "2023-01-01 00:00:00", "2023-01-01T00:00:00+2500",
     "1960-01-01T00:00:00", "0000-01-01T00:00:00", "2100-01-01T00:00:00", "9999-12-31T23:59:59-2359", "4102444800", "9" * 30,
     "-1", "2023-01-01T00:00:00+0160"],
)  # fmt: skip
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(Reject, match="Start"):
        values.instant(text, dt.UTC, "Start")


def test_a_time_in_the_hour_that_comes_twice() -> None:
    assert values.instants("2025-10-26T02:30:00", ZURICH, "End") == (1761438600, 1761442200)
    assert values.instants("2025-10-26T03:00:00", ZURICH, "End") == (1761444000,)
    assert values.instants("2025-03-30T02:30:00", ZURICH, "End") == (1743298200,)
    assert values.instants("Unknown", ZURICH, "End") == ()


def test_states() -> None:
    assert values.ended_state("CANCELLED by 1000") == "cancelled"
    assert values.ended_state("OUT_OF_MEMORY") == "out_of_memory"
    assert values.ended_state("RUNNING") is values.ended_state("PENDING") is None
    assert {values.ended_state(word) for word in values.ENDED} <= set(JOB_STATES)
    for text in ("FOO", "", "CANCELLED+", "completed", "COMPLETED\t"):
        with pytest.raises(Reject, match="State is no state"):
            values.ended_state(text)


def test_exit_codes() -> None:
    assert values.exit_columns("1:0") == {"exit_code": 1, "exit_signal": None}
    assert values.exit_columns("0:9") == {"exit_code": 0, "exit_signal": 9}
    assert values.exit_columns("-2:0") == {"exit_code": None, "exit_signal": None}
    assert values.exit_columns("0:125") == {"exit_code": 0, "exit_signal": None}
    assert values.exit_columns("") == values.exit_columns("1") == {}


def test_cpu_time() -> None:
    assert values.cpu_columns(None, None, None) == values.cpu_columns(1, None, None) == {}
    assert values.cpu_columns(1_500_000, 1_000_000, None) == {"cpu_user_s": 1.5, "cpu_system_s": 1.0, "cpu_duration_s": 2}
    assert values.cpu_columns(1_500_000, 1_000_000, None)["cpu_duration_s"] == 2
    assert values.cpu_columns(2_500_000, 1_000_000, None)["cpu_duration_s"] == 4
    assert values.cpu_columns(None, None, 65_753_000) == values.cpu_columns(1, None, 65_753_000) == {"cpu_duration_s": 66}
    assert values.cpu_columns(0, 0, 65_753_000) == {"cpu_duration_s": 66}
    assert values.cpu_columns(1_000_000, 0, 65_753_000)["cpu_duration_s"] == 1
    assert values.cpu_columns(0, 0, 0) == values.cpu_columns(0, 0, None) == {}


@given(st.integers(0, 10**15))
def test_rounding_is_half_to_even(microseconds: int) -> None:
    assert values.whole_seconds(microseconds) == round(Decimal(microseconds) / 1_000_000)


@given(st.text(st.sampled_from("ab[]-,019_+.:% ="), max_size=30))
def test_any_text_is_a_value_or_a_reject(text: str) -> None:
    for read in (values.job_id, values.node_list, values.tres, values.gres, values.ended_state, values.exit_columns):
        with contextlib.suppress(Reject):
            read(text)
    for measure in (values.duration_us, values.memory_kib):
        with contextlib.suppress(Reject):
            measure(text, "x")
