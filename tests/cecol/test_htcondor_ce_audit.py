"""AuditLog lines: both forms, connections between each other, what completes an identity and what must not, zones, damage."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.model import IDENTITY, PART
from batchacct.parsing import LINES, Block, Parsed, Row, Source, Whole
from batchacct.parsing.reading import read_blocks
from cecol.htcondor_ce_audit import PARSER, complete

SAMPLES = Path(__file__).parent.parent / "samples"
AUDIT, AUDIT_2014 = SAMPLES / "htcondor-ce" / "AuditLog", SAMPLES / "htcondor-ce" / "AuditLog.2014"
SOURCE = Source("ce01", site="SITE", cluster="pool")
FUZZ = int(os.environ.get("BATCHACCT_FUZZ", "100"))
OSG_DN = "/DC=org/DC=opensciencegrid/C=US/O=OSG Software/OU=People/CN=testuser"


def parse(data: bytes, source: Source = SOURCE) -> Parsed:
    parsed = PARSER.parse_block(Block(data, 0), source)
    assert not parsed.records.num_rows
    assert parsed.parts.schema.equals(PART.schema, check_metadata=True)
    assert parsed.units == len(list(LINES.spans(data)))
    return parsed


def parts_of(parsed: Parsed) -> list[dict[str, object]]:
    """Rows as stored: instants as Unix seconds."""
    rows = parsed.parts.to_pylist()
    return [{n: int(v.timestamp()) if isinstance(v, dt.datetime) else v for n, v in row.items()} for row in rows]


def completed(data: bytes, source: Source = SOURCE) -> list[dict[str, object]]:
    """The identities that the wholes of some lines make."""
    rows = parts_of(parse(data, source))
    found = []
    for key in dict.fromkeys(str(row["part_key"]) for row in rows):
        parts: list[Row] = sorted((row for row in rows if row["part_key"] == key), key=lambda row: str(row["logged_at"]))
        for whole in (Whole(key, tuple(parts)), Whole(key, tuple(parts[::-1]))):
            made = complete(whole)
            IDENTITY.batch([{n: v for n, v in _with_origin(c.record, c.origin).items() if n in IDENTITY.names} for c in made])
            assert [c.record for c in complete(whole)] == [c.record for c in made]
        found += [c.record for c in complete(Whole(key, tuple(parts)))]
    return found


def _with_origin(record: dict[str, object], origin: Row) -> dict[str, object]:
    return {**origin, **record}


def auth(cid: int | None, who: str, time: str = "10/15/21 17:52:32", method: str = "GSI") -> bytes:
    return line(cid, f"AuthMethod={method}, AuthId={who}, CondorId=u@d", time)


def submit(cid: int | None, job_id: str, time: str = "10/15/21 17:52:32") -> bytes:
    return line(cid, f"Submitting new job {job_id}", time)


def line(cid: int | None, message: str, time: str) -> bytes:
    return f"{time} {f'(cid:{cid}) (D_AUDIT) ' if cid is not None else ''}{message}\n".encode()


def dns(data: bytes) -> dict[object, object]:
    return {row["lrms_job_id"]: row["dn"] for row in completed(data)}


def test_the_sample() -> None:
    parsed = parse(AUDIT.read_bytes())
    assert (parsed.parts.num_rows, parsed.rejects) == (4, ())
    assert parsed.skipped == {"a command, and no authentication or submission": 2}
    assert completed(AUDIT.read_bytes()) == [
        {
            "record_key": "htcondor-ce-audit:pool:ce01:14:submitted:1.0:1634320352",
            "time_kind": "submit",
            "recorded_at": 1634320352,
            "lrms_job_id": "1.0",
            "join_id": "ce#1.0",
            "global_job_id": "1.0",
            "dn": OSG_DN,
            "local_user": "testuser",
        },
        {
            "record_key": "htcondor-ce-audit:pool:ce01:130:submitted:2.0:1634320448",
            "time_kind": "submit",
            "recorded_at": 1634320448,
            "lrms_job_id": "2.0",
            "join_id": "ce#2.0",
            "global_job_id": "2.0",
            "token_issuer": "https://demo.scitokens.org",
            "token_subject": "htcondor-ce-dev",
            "local_user": "testuser",
        },
    ]


def test_the_sample_of_2014() -> None:
    (row,) = completed(AUDIT_2014.read_bytes())
    assert (row["lrms_job_id"], row["local_user"], row["recorded_at"]) == ("234.0", "glow", 1412700737)
    assert row["dn"] == "/DC=com/DC=DigiCert-Grid/O=Open Science Grid/OU=People/CN=Brian Lin 1047"
    assert (row["fqans"], row["vo"], row["vo_role"]) == ('["/GLOW/Role=NULL/Capability=NULL"]', "GLOW", "Role=NULL")


def test_a_part_is_of_its_connection_and_its_source() -> None:
    first, second = parts_of(parse(AUDIT.read_bytes()))[:2]
    assert (first["part_key"], first["kind"], first["family"]) == ("ce01:14", "authenticated", "htcondor-ce-audit")
    assert (second["part_key"], second["kind"], second["record_type"]) == ("ce01:14", "submitted", "identity")
    assert json.loads(str(second["usage"])) == {"lrms_job_id": "1.0"}
    other = parts_of(parse(AUDIT.read_bytes(), Source("ce02", cluster="pool")))
    assert other[0]["part_key"] == "ce02:14"
    assert other[0]["record_key"] != first["record_key"]


def test_connections_between_each_other() -> None:
    data = auth(1, "/CN=A") + auth(2, "/CN=B") + submit(2, "5.0") + submit(1, "6.0") + submit(1, "6.1")
    assert dns(data) == {"5.0": "/CN=B", "6.0": "/CN=A", "6.1": "/CN=A"}


def test_a_number_that_comes_again_is_another_connection() -> None:
    data = auth(1, "/CN=A", "10/15/21 10:00:00") + submit(1, "5.0", "10/15/21 10:00:01")
    data += auth(1, "/CN=B", "10/15/21 10:30:00") + submit(1, "6.0", "10/15/21 10:30:01")
    data += submit(1, "7.0", "10/15/21 11:30:01")
    assert dns(data) == {"5.0": "/CN=A", "6.0": "/CN=B"}, "an hour later it is nobody's"


def test_nobody_is_guessed() -> None:
    assert dns(submit(1, "5.0")) == {}
    assert dns(submit(1, "5.0", "10/15/21 17:52:31") + auth(1, "/CN=A")) == {}
    assert dns(auth(1, "alice@example.org", method="FS") + submit(1, "5.0")) == {}
    assert dns(auth(None, "/CN=A") + auth(None, "/CN=B") + submit(None, "5.0")) == {}
    assert dns(auth(None, "/CN=A") + auth(None, "/CN=A") + submit(None, "5.0")) == {"5.0": "/CN=A"}
    assert dns(auth(None, "/CN=A", "10/15/21 17:52:31") + submit(None, "5.0")) == {}


@pytest.mark.parametrize(
    ("auth_id", "expected"),
    [
        ("/O=G, Inc./CN=a b", ("/O=G, Inc./CN=a b", None)),
        ("/O=G/CN=a/CN=proxy,/vo/Role=x,/vo", ("/O=G/CN=a", ["/vo/Role=x", "/vo"])),
        ("/O=G/CN=a, CondorId=x", ("/O=G/CN=a, CondorId=x", None)),
    ],
)
def test_certificates(auth_id: str, expected: tuple[object, ...]) -> None:
    (row,) = completed(auth(1, auth_id, method="SSL") + submit(1, "5.0"))
    assert (row["dn"], json.loads(str(row["fqans"])) if "fqans" in row else None) == expected


def test_the_time_is_the_hosts() -> None:
    zone = ZoneInfo("America/Chicago")
    source = Source("ce01", cluster="pool", zone=zone)
    (row,) = completed(AUDIT_2014.read_bytes(), source)
    assert row["recorded_at"] == int(dt.datetime(2014, 10, 7, 16, 52, 17, tzinfo=zone).timestamp())
    for time in ("11/07/21 01:30:00", "03/14/21 02:30:00"):
        (row,) = completed(auth(1, "/CN=A", time) + submit(1, "5.0", time), source)
        assert row["recorded_at"] == int(dt.datetime.strptime(time, "%m/%d/%y %H:%M:%S").replace(tzinfo=zone).timestamp())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"garbage", "does not begin with a time"),
        (b"\0" * 50, "does not begin with a time"),
        (line(1, "Submitting new job", "10/15/21 17:52:32"), "Submitting is not followed"),
        (line(1, "Submitting new job 5", "10/15/21 17:52:32"), "Submitting is not followed"),
        (line(1, "AuthMethod=GSI, AuthId=/CN=A", "10/15/21 17:52:32"), "AuthMethod is not followed"),
        (submit(1, "5.0", "13/15/21 17:52:32"), "the time does not exist"),
        (submit(1, "5.0", "10/15/21 24:00:00"), "the time does not exist"),
    ],
)
def test_rejects(data: bytes, expected: str) -> None:
    parsed = parse(submit(1, "1.0") + data.rstrip(b"\n") + b"\n" + submit(2, "2.0"))
    assert parsed.parts.num_rows == 2
    (reject,) = parsed.rejects
    assert expected in reject.reason


def test_no_cluster() -> None:
    parsed = parse(AUDIT.read_bytes(), Source("ce01", cluster=None))
    assert ["no cluster is configured" in reject.reason for reject in parsed.rejects] == [True] * 4


def test_recognised() -> None:
    for path in SAMPLES.rglob("*"):
        if path.is_file():
            assert PARSER.recognises(path.read_bytes()[:16384]) == (path in (AUDIT, AUDIT_2014)), path


LOG = AUDIT.read_bytes() + AUDIT_2014.read_bytes()
PIECES = st.sampled_from([b"", b"\n", b"\r\n", b"\0", b"\xff", b",", b", CondorId=", b"(cid:9) ", b"2.0", b"<", b"="])


@settings(deadline=None, max_examples=FUZZ)
@given(st.lists(st.tuples(st.integers(0, len(LOG)), st.integers(0, 30), PIECES | st.binary(max_size=3)), max_size=6))
def test_no_damage_crashes_it(edits: list[tuple[int, int, bytes]]) -> None:
    data = LOG
    for at, length, piece in edits:
        data = data[:at] + piece + data[at + length :]
    assert not any("does not foresee" in reject.reason for reject in parse(data).rejects)
    completed(data)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300))
def test_the_same_parts_however_it_is_cut(size: int) -> None:
    blocks = read_blocks(io.BytesIO(LOG), PARSER.framing, block_bytes=size)
    parts = [row for block in blocks for row in PARSER.parse_block(block, SOURCE).parts.to_pylist()]
    assert parts == parse(LOG).parts.to_pylist()
