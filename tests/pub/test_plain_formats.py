"""JSON lines, Parquet and AUDITOR: what is written, read back by others, is what was given; what could not be is refused alone."""

from __future__ import annotations

import datetime as dt
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pub.formats.auditor import AUDITOR
from pub.formats.contract import USAGE_RECORD, Format, Rendered
from pub.formats.plain import JSON_LINES, PARQUET
from tests.pub.site import DAY, T0, Site, a_job, an_identity
from tests.pub.test_formats import EDGE_INTEGERS, GRID_JOB, NASTY, NOW, usage_records

FORMATS: list[Format] = [JSON_LINES, PARQUET, AUDITOR]
INSTANTS = ("start_at", "end_at")
KEY = ("site", "local_job_id", "end_at")
TEXTS = [c.name for c in USAGE_RECORD.columns if c.type == pa.string()]


def rendered(by: Format, *changes: dict[str, object]) -> Rendered:
    return by.render(USAGE_RECORD.batch([GRID_JOB | change for change in changes]), NOW)


def read_lines(payload: bytes) -> list[dict[str, Any]]:
    text = payload.decode("ascii")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


def read_parquet(payload: bytes) -> list[dict[str, Any]]:
    return pq.read_table(io.BytesIO(payload)).to_pylist()


def as_instant(value: object) -> object:
    return dt.datetime.fromtimestamp(value, dt.UTC) if isinstance(value, int) else value


def read_auditor(payload: bytes) -> list[dict[str, Any]]:
    """An array that AUDITOR takes: its own checks of names, amounts, scores and times."""
    payload.decode("ascii")
    records: list[dict[str, Any]] = json.loads(payload, object_pairs_hook=_no_key_twice)
    assert records
    for record in records:
        assert set(record) == {"record_id", "meta", "components", "start_time", "stop_time"}
        names = [record["record_id"], *record["meta"], *(value for values in record["meta"].values() for value in values)]
        assert all(values for values in record["meta"].values())
        for component in record["components"]:
            assert set(component) == {"name", "amount", "scores"}
            assert isinstance(component["amount"], int)
            assert 0 <= component["amount"] < 2**63
            names += [component["name"], *(score["name"] for score in component["scores"])]
            assert all(score["value"] >= 0 for score in component["scores"])
        assert all(name.strip() and len(name) <= 256 and "\0" not in name for name in names)
        start, stop = (dt.datetime.fromisoformat(record[name]) for name in ("start_time", "stop_time"))
        assert start.tzinfo == stop.tzinfo == dt.UTC
        assert start <= stop
    return records


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_a_line_is_an_object_of_the_record() -> None:
    lines = rendered(JSON_LINES, {}, {"queue": 'a "b"\\\né', "memory_real_kib": None, "service_level": 0.1})
    first, second = read_lines(JSON_LINES.message(lines.records))
    times = {"start_at": "2023-11-14T22:13:20Z", "end_at": "2023-11-14T23:13:20Z"}
    assert first == GRID_JOB | times
    expected = GRID_JOB | times | {"queue": 'a "b"\\\né', "service_level": 0.1}
    del expected["memory_real_kib"]
    assert second == expected
    assert list(first) == [c.name for c in USAGE_RECORD.columns if c.name in GRID_JOB]


def test_a_parquet_message_is_a_file_of_the_records() -> None:
    changes: list[dict[str, object]] = [{"queue": None}, {"site": None}, {"start_at": None, "local_job_id": "é"}]
    found = rendered(PARQUET, *changes)
    assert found.reasons.to_pylist() == [None, "site is missing", None]
    payload = PARQUET.message(found.records.drop_null())
    kept = [GRID_JOB | change for change in changes if change.get("site", "") is not None]
    names = [c.name for c in USAGE_RECORD.columns]
    expected = [{name: as_instant(row.get(name)) if name in INSTANTS else row.get(name) for name in names} for row in kept]
    assert read_parquet(payload) == expected
    schema = pq.read_schema(io.BytesIO(payload))
    assert schema.field("end_at").type == pa.timestamp("ms", "UTC")
    assert schema.field("wall_duration_s").metadata == {b"unit": b"s"}


def test_a_slice_of_a_parquet_message_is_a_file() -> None:
    changes: list[dict[str, object]] = [{"local_job_id": str(n)} for n in range(10)]
    found = rendered(PARQUET, *changes)
    payload = PARQUET.message(found.records.slice(3, 4))
    assert [row["local_job_id"] for row in read_parquet(payload)] == ["3", "4", "5", "6"]


def test_auditors_record() -> None:
    (record,) = read_auditor(AUDITOR.message(rendered(AUDITOR, {}).records))
    assert record == {
        "record_id": "EXAMPLE-SITE:4242-1:1700003600",
        "meta": {
            "site_id": ["EXAMPLE-SITE"],
            "job_id": ["4242-1"],
            "headnode": ["ce01.example.org:8443/cream-lsf-grid_atlas"],
            "machine_name": ["lsf-master.example.org"],
            "queue": ["grid_atlas"],
            "infrastructure": ["grid"],
            "user_id": ["atlas042"],
            "subject": ["/DC=org/DC=example/CN=Test User"],
            "group_id": ["atlas"],
            "voms": ["/atlas/Role=pilot/Capability=NULL", "/atlas/Role=NULL/Capability=NULL"],
        },
        "components": [
            {"name": "TotalCPU", "amount": 3_500_000, "scores": []},
            {"name": "WallDuration", "amount": 3600, "scores": []},
            {"name": "Cores", "amount": 1, "scores": [{"name": "HEPscore23", "value": 12.5}]},
            {"name": "NNodes", "amount": 1, "scores": []},
            {"name": "MemoryReal", "amount": 1_048_576, "scores": []},
        ],
        "start_time": "2023-11-14T22:13:20Z",
        "stop_time": "2023-11-14T23:13:20Z",
    }


REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"site": None}, "site is missing"),
    ({"local_job_id": ""}, "local_job_id is missing"),
    ({"local_job_id": " "}, "local_job_id is missing"),
    ({"local_job_id": "\0"}, "local_job_id has a NUL"),
    ({"local_job_id": "é" * 233}, "record_id is longer than 256 characters"),
    ({"start_at": None}, "start_at is missing"),
    ({"end_at": 0}, "end_at is not between"),
    ({"start_at": 1_700_003_601}, "start_at is after end_at"),
    ({"cpu_duration_s": -1}, "cpu_duration_s is negative"),
    ({"cpu_duration_s": None}, "cpu_duration_s is missing"),
    ({"wall_duration_s": None}, "wall_duration_s is missing"),
    ({"service_level": None}, "ServiceLevel is missing"),
]


@pytest.mark.parametrize(("change", "start"), REFUSALS)
def test_auditor_refuses_one_record_alone(change: dict[str, object], start: str) -> None:
    found = rendered(AUDITOR, {}, change, {"queue": None})
    before, reason, after = found.reasons.to_pylist()
    assert (before, after) == (None, None)
    assert str(reason).startswith(start)
    assert len(read_auditor(AUDITOR.message(found.records.drop_null()))) == 2


def test_auditor_keeps_the_longest_name() -> None:
    found = rendered(AUDITOR, {"local_job_id": "é" * 231 + '"'})
    (record,) = read_auditor(AUDITOR.message(found.records))
    assert len(record["record_id"]) == 256


LEFT_OUT: list[tuple[dict[str, object], str, str]] = [
    ({"queue": " \t"}, "queue", "queue: empty"),
    ({"queue": "é" * 257}, "queue", "queue: longer than 256 characters"),
    ({"local_user_id": "a\0"}, "user_id", "local_user_id: has a NUL in it"),
    ({"fqan": "/" + "x" * 256}, "voms", "fqan: empty, longer"),
    ({"processors": None}, "Cores", "processors: not known"),
    ({"node_count": -1}, "NNodes", "node_count: negative"),
]


@pytest.mark.parametrize(("change", "what", "start"), LEFT_OUT)
def test_auditor_leaves_out_and_counts(change: dict[str, object], what: str, start: str) -> None:
    found = rendered(AUDITOR, change, change | {"site": None})
    (record,) = read_auditor(AUDITOR.message(found.records.drop_null()))
    assert what not in {*record["meta"], *(component["name"] for component in record["components"])}
    ((told, count),) = found.left_out.items()
    assert told.startswith(start)
    assert count == 1


def test_one_fqan_that_is_too_long_does_not_cost_the_others() -> None:
    found = rendered(AUDITOR, {"fqan": "/a;/" + "x" * 256 + ";/b"})
    (record,) = read_auditor(AUDITOR.message(found.records))
    assert record["meta"]["voms"] == ["/a", "/b"]
    assert sum(found.left_out.values()) == 1


@pytest.mark.parametrize("by", FORMATS, ids=lambda by: by.name)
@pytest.mark.parametrize("rows", [[], [{"site": None}], [{"site": None, "cpu_duration_s": None}] * 3])
def test_nothing_to_write(by: Format, rows: list[dict[str, object]]) -> None:
    found = rendered(by, *rows)
    assert found.records.null_count == len(found.records) == len(rows)
    assert found.reasons.null_count == 0


@given(rows=st.lists(usage_records(), min_size=1, max_size=12))
def test_what_is_written_is_what_was_given(rows: list[dict[str, object]]) -> None:
    batch = USAGE_RECORD.batch(rows)
    lines, structs = JSON_LINES.render(batch, NOW), PARQUET.render(batch, NOW)
    assert lines.reasons.to_pylist() == structs.reasons.to_pylist()
    assert lines.left_out == structs.left_out
    kept = [row for row, reason in zip(rows, lines.reasons.to_pylist(), strict=True) if reason is None]
    assert all(row[name] is not None for row in kept for name in KEY)
    if not kept:
        return
    for row, line, struct in zip(
        kept,
        read_lines(JSON_LINES.message(lines.records.drop_null())),
        read_parquet(PARQUET.message(structs.records.drop_null())),
        strict=True,
    ):
        assert {name for name, value in struct.items() if value is not None} == set(line)
        for name, value in struct.items():
            if value is None:
                assert row.get(name) is None or name in (*INSTANTS, "service_level")
            elif name in INSTANTS:
                assert value == as_instant(row[name]) == dt.datetime.fromisoformat(line[name])
            else:
                assert value == row[name] == line[name]


@given(rows=st.lists(usage_records(), min_size=1, max_size=12))
def test_auditor_takes_whatever_is_not_refused(rows: list[dict[str, object]]) -> None:
    found = AUDITOR.render(USAGE_RECORD.batch(rows), NOW)
    kept = [row for row, reason in zip(rows, found.reasons.to_pylist(), strict=True) if reason is None]
    records = read_auditor(AUDITOR.message(found.records.drop_null())) if kept else []
    for row, record in zip(kept, records, strict=True):
        assert record["record_id"] == f"{row['site']}:{row['local_job_id']}:{row['end_at']}"
        amounts = {component["name"]: component["amount"] for component in record["components"]}
        assert amounts["TotalCPU"] == int(str(row["cpu_duration_s"])) * 1000
        assert amounts["WallDuration"] == row["wall_duration_s"]
        assert amounts.get("Cores") in (None, row["processors"])


@given(st.lists(st.fixed_dictionaries({"local_job_id": NASTY, "end_at": EDGE_INTEGERS}), min_size=1, max_size=5))
def test_a_key_is_kept_as_it_is(changes: list[dict[str, object]]) -> None:
    found = rendered(JSON_LINES, *changes)
    for change, text in zip(changes, found.records.to_pylist(), strict=True):
        assert text is None or json.loads(text)["local_job_id"] == change["local_job_id"]


@pytest.mark.parametrize("by", ["jsonl", "parquet", "auditor"])
def test_published(sqlite_store: Any, by: str) -> None:
    """The whole way: several messages, and a record that is refused by itself."""
    site = Site(sqlite_store, publish={"format": by, "bunch": 2})
    site.jobs(*(a_job(n, queue="short") for n in range(3)), a_job(9, gpu_count=2, state="failed", job_name="mine"))
    site.identities(an_identity(9, global_job_id="https://ce/1"))
    _, done = site.publish(T0 + 30 * DAY)
    assert (done.records, done.messages, done.refused) == (4, 2, {})
    read = {"jsonl": read_lines, "parquet": read_parquet, "auditor": read_auditor}[by]
    records = [record for message in site.postbox.taken for record in read(message.payload)]
    ids = [record["meta"]["job_id"][0] if by == "auditor" else record["local_job_id"] for record in records]
    assert ids == ["0", "1", "2", "9"]
    last = records[-1]
    if by == "auditor":
        assert last["meta"]["global_job_id"] == ["https://ce/1"]
        assert {"name": "GPUs", "amount": 2, "scores": []} in last["components"]
    else:
        wanted = ("gpu_count", "state", "job_name", "global_job_id", "submit_at")
        at = as_instant(T0) if by == "parquet" else "2023-11-14T22:13:20Z"
        assert [last[name] for name in wanted] == [2, "failed", "mine", "https://ce/1", at]
    site.assert_sound()
