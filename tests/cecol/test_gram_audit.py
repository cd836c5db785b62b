"""GRAM audit records: Globus' own test records, what is skipped and rejected, chunking, mutations.

Where this differs from the samples' description: all four records are of fork jobs, whose id is a process, so that the good ones
(`ok`, `non-existing-username`) are skipped as they are. Their values are compared with the manager's type changed.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchacct.parsing.contract import Source
from cecol.gram import FORK
from cecol.gram_audit import FIELDS, NEVER_SUBMITTED, NO_SUBJECT, PARSER, fields
from tests.cecol.gram_wholes import FUZZED, SAMPLES, in_pieces, parse, reasons, sample, utc

OK = sample("ok.gramaudit").rstrip()
PBS = OK.replace(b'"fork"', b'"pbs"')
DN = "/DC=org/DC=doegrids/OU=People/CN=Martin Feller 807394"


def changed(**values: str) -> bytes:
    """The good record with other values."""
    texts = PBS[1:-1].decode().split('","')
    return ('"' + '","'.join(values.get(name, text) for name, text in zip(FIELDS, texts, strict=False)) + '"').encode()


def one(data: bytes) -> dict[str, Any]:
    parsed = parse(PARSER, data)
    assert (parsed.rejects, parsed.skipped, parsed.parts.num_rows) == ((), {}, 0)
    (row,) = parsed.records.to_pylist()
    return dict(row)


def test_a_good_record() -> None:
    assert parse(PARSER, OK).skipped == {FORK: 1}
    row = one(PBS)
    assert {name: value for name, value in row.items() if value is not None and name != "content_hash"} == {
        "record_key": f"gram-audit:main:https://localhost:49516/15835/1219088898/:{utc('2008-08-18 19:48:19')}",
        "site": "SITE",
        "cluster": "main",
        "lrms": "PBS",
        "time_kind": "submit",
        "recorded_at": row["recorded_at"],
        "lrms_job_id": "15843",
        "join_id": "15843",
        "global_job_id": "https://localhost:49516/15835/1219088898/",
        "dn": DN,
        "local_user": "__CURRENT_USER__",
        "native": PBS,
        "source": "gram",
        "source_offset": 0,
        "parser": "gram-audit/1",
    }
    assert int(row["recorded_at"].timestamp()) == utc("2008-08-18 19:48:19")
    values = fields(OK)
    assert (values["success_flag"], values["finished_flag"], values["idempotence_id"]) == ("false", "true", None)
    assert values["creation_time"] == "Mon Aug 18 19:48:18 UTC 2008"
    assert '("GLOBUSRUN_GASS_URL" "https://localhost:49512" )' in str(values["job_description"])


def test_a_user_that_does_not_exist_is_the_business_of_others() -> None:
    data = sample("non-existing-username.gramaudit")
    assert parse(PARSER, data).skipped == {FORK: 1}
    assert one(data.replace(b'"fork"', b'"pbs"'))["local_user"] == "ihopefullydontexist"


def test_the_bad_samples() -> None:
    assert reasons(PARSER, sample("invalid-queued-timestamp.gramaudit")) == [
        "queued_time is not a time like Mon Aug 18 19:48:18 UTC 2008"
    ]
    assert reasons(PARSER, sample("too-few-fields.gramaudit")) == ["15 or 16 fields are due, there are 14"]


def test_gram5_adds_a_field() -> None:
    assert one(PBS + b',"NULL"')["dn"] == DN
    assert fields(PBS + b',"alice"')["gateway_user"] == "alice"


def test_values() -> None:
    assert one(changed(local_job_id="695392.sdb"))["join_id"] == "695392"
    assert one(changed(local_job_id="12|/a/stdout|/b", resource_manager_type="SGE"))["lrms"] == "SGE"
    assert one(changed(subject_name="/CN=a &quot;b&quot;/CN=proxy"))["dn"] == '/CN=a "b"'
    row = one(changed(queued_time="NULL", username="NULL"))
    assert int(row["recorded_at"].timestamp()) == utc("2008-08-18 19:48:18")
    assert row["local_user"] is None
    assert int(one(changed(queued_time="Fri Feb  1 09:08:07 UTC 2008"))["recorded_at"].timestamp()) == utc("2008-02-01 09:08:07")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (changed(local_job_id="NULL"), NEVER_SUBMITTED),
        (changed(subject_name="NULL"), NO_SUBJECT),
        (changed(resource_manager_type="Fork", local_job_id="NULL"), FORK),
    ],
)
def test_skips(data: bytes, reason: str) -> None:
    assert parse(PARSER, data).skipped == {reason: 1}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (PBS[:-1], "does not begin and end with a quote"),
        (b'"', "does not begin and end with a quote"),
        (PBS + b',"x","y"', "there are 17"),
        (changed(job_description='a"b'), "a quote within a field"),
        (changed(creation_time="Mon Aug 18 19:48:18 UTC 08"), "creation_time is not a time like"),
        (changed(creation_time="Mon Aug 32 19:48:18 UTC 2008"), "creation_time is a time that does not exist"),
        (changed(queued_time="Mon Xxx 18 19:48:18 UTC 2008"), "queued_time is a time that does not exist"),
        (changed(queued_time="Mon Aug 18 19:48:18 UTC 2108"), "queued_time is not between 1970 and 2099"),
        (changed(queued_time="NULL", creation_time="NULL"), "both times are missing"),
        (changed(job_grid_id="NULL"), "job_grid_id, resource_manager_type or both times are missing"),
        (changed(finished_flag="tru"), "finished_flag is neither true nor false"),
        (changed(subject_name="Martin"), "DN does not begin with"),
        (changed(local_job_id="|a|b"), "batch job id is missing"),
    ],
)
def test_rejects(data: bytes, expected: str) -> None:
    (reason,) = reasons(PARSER, data)
    assert expected in reason
    around = parse(PARSER, PBS + b"\n" + data + b"\n" + PBS)
    assert (around.records.num_rows, len(around.rejects)) == (2, 1)


def test_a_source_without_a_cluster() -> None:
    assert "no cluster is configured" in parse(PARSER, PBS, Source("a", cluster=None)).rejects[0].reason


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.gramaudit")), ids=lambda path: path.stem)
def test_recognised(path: object) -> None:
    assert PARSER.recognises(path.read_bytes())  # type: ignore[attr-defined]
    assert not PARSER.recognises(b'"JOB_FINISH" "7.06" 1000000000 x')


ALL = b"\n".join((PBS, OK, sample("too-few-fields.gramaudit").rstrip(), PBS + b',"alice"', b"", PBS))


@FUZZED
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=20))
def test_any_chunking_gives_the_same(sizes: list[int]) -> None:
    assert in_pieces(PARSER, ALL, sizes) == in_pieces(PARSER, ALL, [len(ALL)])


@FUZZED
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(ALL)),
            st.integers(0, 30),
            st.sampled_from([b'"', b'","', b"NULL", b"\n", b"\r\n", b"\0", b"\xff", b" UTC", b"fork", b"&quot;"])
            | st.binary(max_size=4),
        ),
        max_size=8,
    )
)
def test_mutated_records(edits: list[tuple[int, int, bytes]]) -> None:
    data = ALL
    for at, length, piece in edits:
        data = data[:at] + piece + data[at + length :]
    parse(PARSER, data)
