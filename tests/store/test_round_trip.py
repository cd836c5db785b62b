"""What goes in comes out: odd values through each backend's bulk path, straight and through the staging table."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from batchacct.model import BYTES, IDENTITY, INSTANT, INTEGER, JOB, LAST_INSTANT, PROCESS, REAL, TEXT, Column, Record, RecordType
from batchacct.store import Store, append
from batchacct.store.append import Origin
from batchacct.store.tables import RECORD_TABLES
from tests.records import NOW, ORIGIN, holdings, job, parsed, rows

ODD_TEXTS = (
    "", " ", "\\N", "\\.", "\n\\.\n", "\\", "\\x00", '"', '""', "'", ",", "\t", "\n", "\r\n", "\r", "NULL", "a,b\n\"c'", "{}",
    "%s%%", ":x", "Grüße", "\U0001d51e\U0001f6f0", "\x01\x7f", "\ufeff", "e\u0301",
)  # fmt: skip
INTEGERS = st.sampled_from([0, -1, 1, 2**31, -(2**63), 2**63 - 1]) | st.integers(-(2**63), 2**63 - 1)
VALUES = {
    TEXT: st.sampled_from(ODD_TEXTS) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    INTEGER: INTEGERS,
    REAL: st.sampled_from([0.0, 1e-308, 5e-324, 1.7e308, 0.1, -2.5]) | st.floats(allow_nan=False, allow_infinity=False),
    INSTANT: st.integers(0, LAST_INSTANT),
    BYTES: st.sampled_from([b"", b"\\", b"\\000", bytes(range(256)), b"\\x41", b"plain"]) | st.binary(max_size=300),
}


def records_of(record_type: RecordType) -> st.SearchStrategy[list[Record]]:
    def column(c: Column) -> st.SearchStrategy[object]:
        values = VALUES[c.type] if c.most is None else st.integers(0, c.most)
        return values if c.required else st.none() | values

    record = st.fixed_dictionaries({c.name: column(c) for c in record_type.columns})
    return st.lists(record, min_size=1, max_size=5)


def check_round_trip(store: Store, record_type: RecordType, records: list[Record], *, staged: bool) -> None:
    """`staged` puts a known record before them, so that the batch goes the slow way."""
    for record in records:
        record["record_key"] = f"{uuid.uuid4()}{record['record_key']}"
    known = {**records[0], "record_key": f"{uuid.uuid4()}"}
    origin = Origin("s", record_type.name, "test/1", "p")
    if staged:
        append(store, origin, parsed([known], record_type=record_type), NOW)
    batch = [known, *records] if staged else records
    counts, _ = append(store, origin, parsed(batch, record_type=record_type), NOW)
    assert counts.known == staged
    table = RECORD_TABLES[record_type.name]
    with store.reading() as connection:
        found = connection.execute(select(table).where(table.c.id >= counts.load_id << 20).order_by(table.c.id)).mappings()
        assert [{name: row[name] for name in record_type.schema.names} for row in found] == records


few = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@few
@given(records=records_of(JOB), staged=st.booleans())
def test_odd_values_of_a_job_survive(store: Store, records: list[Record], staged: bool) -> None:
    check_round_trip(store, JOB, records, staged=staged)


@few
@given(records=records_of(PROCESS), staged=st.booleans())
def test_odd_values_of_a_process_survive(store: Store, records: list[Record], staged: bool) -> None:
    check_round_trip(store, PROCESS, records, staged=staged)


@few
@given(records=records_of(IDENTITY), staged=st.booleans())
def test_odd_values_of_an_identity_survive(store: Store, records: list[Record], staged: bool) -> None:
    check_round_trip(store, IDENTITY, records, staged=staged)


def test_each_odd_text_and_each_byte_survives(store: Store) -> None:
    values = [ODD_TEXTS[n % len(ODD_TEXTS)] for n in range(256)]
    records = [job(n, bytes([n]) + b"\\", job_name=value, command=value) for n, value in enumerate(values)]
    append(store, ORIGIN, parsed(records), NOW)
    stored = rows(store, RECORD_TABLES["job"])
    assert [row["job_name"] for row in stored] == [r["job_name"] for r in records]
    assert [row["native"] for row in stored] == [bytes([n]) + b"\\" for n in range(256)]


def test_null_in_every_nullable_column(store: Store) -> None:
    records = [job(1, native=None), job(2)]
    append(store, ORIGIN, parsed(records), NOW)
    nullable = [c.name for c in JOB.columns if not c.required and c.name != "native"]
    for row in rows(store, RECORD_TABLES["job"]):
        assert {name: row[name] for name in nullable} == dict.fromkeys(nullable)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_no_finite_number_is_stored_as_unknown(store: Store, value: str) -> None:
    """One of them would make NaN, or infinity, of every sum it enters; MariaDB cannot hold it."""
    append(store, ORIGIN, parsed([job(1, cpu_user_s=float(value)), job(2, cpu_user_s=1.5), job(3)]), NOW)
    assert [row["cpu_user_s"] for row in rows(store, RECORD_TABLES["job"])] == [None, 1.5, None]


def test_a_nul_in_a_text_is_escaped_and_stops_nothing(store: Store) -> None:
    """PostgreSQL cannot hold it: it would refuse the block, and every block after it, for ever."""
    append(store, ORIGIN, parsed([job(1, b"\0", job_name="a\0b"), job(2)]), NOW)
    first, _ = rows(store, RECORD_TABLES["job"])
    assert (first["job_name"], first["native"]) == ("a\\x00b", b"\0")
    assert holdings(store)["job"] == 2


def test_the_readable_views_show_instants_as_people_write_them(store: Store) -> None:
    instants = {"submit_at": 0, "start_at": 951_782_399, "end_at": None, "logged_at": LAST_INSTANT}
    append(store, ORIGIN, parsed([{**job(1), **instants}]), NOW)
    identity: Record = {c.name: "x" if c.type == TEXT else 0 for c in IDENTITY.columns if c.required}
    block = parsed([identity | {"recorded_at": 1_792_000_000}], record_type=IDENTITY)
    append(store, Origin("s", "identity", "test/1", "p"), block, NOW)
    with store.reading() as connection:
        row = connection.execute(text("SELECT * FROM job_readable")).mappings().one()
        shown = connection.scalar(text("SELECT recorded_at FROM identity_readable"))
    assert [row[name] for name in instants] == [
        "1970-01-01T00:00:00Z", "2000-02-28T23:59:59Z", None, "2099-12-31T23:59:59Z",
    ]  # fmt: skip
    assert (row["lrms_job_id"], shown) == ("1", "2026-10-14T17:46:40Z")
