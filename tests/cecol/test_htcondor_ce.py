"""Identities from HTCondor(-CE) ads: samples, proxies and tokens, which batch job they belong to, and damage."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.model import IDENTITY, LAST_INSTANT
from batchacct.parsing import Block, Parsed, Source
from cecol.htcondor_ce import JSON, PARSER
from loccol.htcondor import PARSER as JOB_PARSER

SAMPLES = Path(__file__).parent.parent / "samples"
PER_JOB_FILES = sorted((SAMPLES / "htcondor" / "gratia-perjob").iterdir())
GRID_JOB_IDS = (SAMPLES / "htcondor-ce" / "GridJobId.txt").read_text().splitlines()
SOURCE = Source("ce", site="SITE", cluster="pool")
FUZZ = int(os.environ.get("BATCHACCT_FUZZ", "100"))
ISSUER, SUBJECT = "https://atlas-auth.cern.ch/", "7dee38a3-6ab8-4fe2-9e4c-58039c21d817"
DN = "/DC=org/DC=doegrids/OU=People/CN=James Frey 259919"
ATTRIBUTES: dict[str, object] = {
    "ClusterId": 12,
    "ProcId": 0,
    "GlobalJobId": "ce.example.org#12.0#1700000000",
    "JobStatus": 4,
    "JobUniverse": 5,
    "CompletionDate": 1_700_001_100,
    "EnteredCurrentStatus": 1_700_001_105,
    "Owner": "alice",
    "x509userproxysubject": DN,
}
TOKEN: dict[str, object] = {
    "x509userproxysubject": None,
    "RoutedFromJobId": "7.0",
    "orig_AuthTokenIssuer": ISSUER,
    "orig_AuthTokenSubject": SUBJECT,
}

Row = dict[str, object]


def long_form(**changes: object) -> bytes:
    """An ad; an attribute given as None is left out."""
    given = {name: value for name, value in (ATTRIBUTES | changes).items() if value is not None}
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items()).encode()


def parse(data: bytes, source: Source = SOURCE) -> Parsed:
    parsed = PARSER.parse_block(Block(data, 0), source)
    assert parsed.records.schema.equals(IDENTITY.schema, check_metadata=True)
    assert parsed.units == len(list(PARSER.framing.spans(data)))
    return parsed


def one(**changes: object) -> Row:
    return one_of(SOURCE, changes)


def one_of(source: Source, changes: Row) -> Row:
    """The identity of an ad, the same from JSON."""
    parsed = parse(long_form(**changes), source)
    assert not parsed.rejects, parsed.rejects[0].reason
    (row,) = parsed.records.to_pylist()
    given = {name: value for name, value in (ATTRIBUTES | changes).items() if value is not None}
    (from_json,) = JSON.parse_block(Block(json.dumps(given).encode(), 0), source).records.to_pylist()
    for column in set(row) - {"content_hash", "native", "parser"}:
        assert row[column] == from_json[column], column
    found: Row = row
    return found


def skipped(**changes: object) -> str:
    parsed = parse(long_form(**changes))
    assert (parsed.records.num_rows, parsed.rejects) == (0, ())
    (found,) = parsed.skipped
    return found


def reason(data: bytes) -> str:
    (reject,) = parse(data).rejects
    return reject.reason


def test_the_gratia_samples() -> None:
    found = [parse(path.read_bytes()) for path in PER_JOB_FILES]
    rows = [row for parsed in found for row in parsed.records.to_pylist()]
    assert [parsed.skipped for parsed in found if parsed.skipped] == [{"no identity: a local job": 1}], "377283 has no proxy"
    assert len(rows) == 29
    expected = {
        "dn": DN,
        "fqan": "/vdt/Role=NULL/Capability=NULL",
        "fqans": '["/vdt/Role=NULL/Capability=NULL"]',
        "vo": "vdt",
        "vo_group": "/vdt",
        "vo_role": "Role=NULL",
        "local_user": "vdtuser03",
        "lrms": "HTCondor",
        "time_kind": "end",
        "cluster": "pool",
    }
    for row in rows:
        assert {name: row[name] for name in expected} == expected
        assert (row["ce_id"], row["global_job_id"], row["token_subject"]) == (None, None, None)
    assert rows[0]["recorded_at"] == dt.datetime.fromtimestamp(1290672370, dt.UTC)
    assert rows[0]["record_key"] == "htcondor-ce:pool:stress3.chtc.wisc.edu#377260.0#1290671437"


def test_it_spells_a_job_as_the_jobs_parser_does() -> None:
    for data in (*(path.read_bytes() for path in PER_JOB_FILES), long_form(ProcId=3), long_form(**TOKEN)):
        spelled = ("join_id", "lrms_job_id", "array_index", "cluster")
        jobs = JOB_PARSER.parse_block(Block(data + b"QDate = 1\nRemoteWallClockTime = 1\n", 0), SOURCE).records.to_pylist()
        for identity in parse(data).records.to_pylist():
            assert [[job[name] for name in spelled] for job in jobs] == [[identity[name] for name in spelled]]
            assert identity["recorded_at"] == jobs[0]["end_at"]


@pytest.mark.parametrize(
    ("grid_job_id", "lrms", "expected"),
    [
        (GRID_JOB_IDS[0], "PBS", ("1234.test.example.com", "1234", None)),
        (GRID_JOB_IDS[1], "PBS", ("3857720", "3857720", None)),
        (GRID_JOB_IDS[2], "HTCondor", ("128.0", "128", None)),
        ("condor a b 128.3", "HTCondor", ("128.3", "128.3", None)),
        ("batch slurm x slurm/20240101/12345@c1", "Slurm", ("12345@c1", "12345", None)),
        ("batch lsf x lsf/20240101/12345", "LSF", ("12345", "12345", None)),
        ("batch sge x sge/20240101/12345", "SGE", ("12345", "12345", None)),
        ("batch pbs x pbs/20240101/12[4].server", "PBS", ("12[4].server", "12", 4)),
        ("batch condor x condor/377260/queue/pool", "HTCondor", ("377260", "377260", None)),
        ("batch flux x flux/1/abc", "unknown", ("abc", "abc", None)),
    ],
)
def test_the_batch_job_of_a_ce(grid_job_id: str, lrms: str, expected: tuple[object, ...]) -> None:
    row = one(JobUniverse=9, GridJobId=grid_job_id, RoutedFromJobId="7.0")
    assert (row["lrms_job_id"], row["join_id"], row["array_index"]) == expected
    assert (row["lrms"], row["global_job_id"]) == (lrms, "7.0")
    assert one(JobUniverse=9, GridJobId=grid_job_id)["global_job_id"] == "ce.example.org#12.0#1700000000"


def test_the_ce_and_its_cluster() -> None:
    source = Source("ce", cluster=None, ce_clusters=(("ce.example.org:9619/*-pbs", "torque"), ("ce.example.org:*", "pool")))
    row = one_of(source, TOKEN)
    assert (row["ce_id"], row["cluster"]) == ("ce.example.org:9619/ce.example.org-condor", "pool")
    row = one_of(source, TOKEN | {"JobUniverse": 9, "GridJobId": GRID_JOB_IDS[1]})
    assert (row["ce_id"], row["cluster"]) == ("ce.example.org:9619/ce.example.org-pbs", "torque")
    assert "no cluster is configured" in parse(long_form(), source).rejects[0].reason
    assert one(**TOKEN | {"GlobalJobId": "s1@h.org#1.0#2"})["ce_id"] == "h.org:9619/h.org-condor"


def test_the_sample_of_a_ce_query() -> None:
    pairs = (SAMPLES / "htcondor-ce" / "condor_ce_q.gratia.txt").read_text().strip().split("\t")
    row = one(**dict(pair.split("=", 1) for pair in pairs), JobUniverse=9)
    assert (row["vo"], row["join_id"], row["lrms"]) == ("cms", "2635", "PBS")
    assert row["dn"] == "/DC=org/DC=doegrids/OU=People/CN=Brian Bockelman 504307"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (DN, None, None, None, None)),
        ({"x509userproxysubject": DN + "/CN=proxy"}, (DN, None, None, None, None)),
        ({"x509UserProxyVOName": "vdt"}, (DN, None, None, None, "vdt")),
        ({"x509UserProxyFirstFQAN": "/b/Role=x"}, (DN, None, None, ["/b/Role=x"], "b")),
        ({"x509UserProxyFQAN": DN + ",/b,/c&comma;d&amp;comma;,/b"}, (DN, None, None, ["/b", "/c,d&comma;"], "b")),
        ({"x509UserProxyFQAN": "x,/b,/c", "x509UserProxyFirstFQAN": "/c"}, (DN, None, None, ["/c", "/b"], "c")),
        ({"x509UserProxyFirstFQAN": "/c", "x509UserProxyVOName": "z"}, (DN, None, None, ["/c"], "c")),
        (TOKEN, (None, ISSUER, SUBJECT, None, None)),
        (TOKEN | {"AuthTokenIssuer": "https://router", "AuthTokenSubject": "r"}, (None, ISSUER, SUBJECT, None, None)),
        (TOKEN | {"orig_AuthTokenGroups": "/cms/uscms, /wlcg"}, (None, ISSUER, SUBJECT, ["/cms/uscms", "/wlcg"], "cms")),
        ({"AuthTokenIssuer": "https://i", "AuthTokenSubject": "s"}, (DN, "https://i", "s", None, None)),
        (TOKEN | {"x509userproxysubject": DN, "x509UserProxyFirstFQAN": "/b"}, (DN, ISSUER, SUBJECT, ["/b"], "b")),
    ],
)  # fmt: skip
def test_identities(changes: Row, expected: tuple[object, ...]) -> None:
    row = one(**changes)
    fqans = json.loads(str(row["fqans"])) if row["fqans"] else None
    assert (row["dn"], row["token_issuer"], row["token_subject"], fqans, row["vo"]) == expected
    assert row["fqan"] == (fqans[0] if fqans else None)


def test_when_it_ended() -> None:
    assert one(JobStatus=3, CompletionDate=0)["recorded_at"] == dt.datetime.fromtimestamp(1_700_001_105, dt.UTC)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"JobStatus": 2}, "still in the queue"),
        ({"JobUniverse": 7}, "it ran on the submit host"),
        ({"RoutedToJobId": "9.0", "GridJobId": GRID_JOB_IDS[0]}, "routed: its copy names identity and batch job"),
        ({"x509userproxysubject": None}, "no identity: a local job"),
        ({"JobUniverse": 9}, "it never reached the batch system"),
        ({"JobUniverse": 9, "GridJobId": "batch pbs ce#1.0#2"}, "it never reached the batch system"),
        ({"JobUniverse": 9, "GridJobId": "gt2 https://x/1/2"}, "a grid job of another kind than batch"),
    ],
)
def test_what_is_skipped(changes: Row, expected: str) -> None:
    assert skipped(**changes) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"JobStatus": None}, "JobStatus is missing"),
        ({"GlobalJobId": None}, "GlobalJobId is missing"),
        ({"ProcId": None}, "ClusterId or ProcId is missing"),
        ({"GridJobId": "condor a b c"}, "does not end in cluster.proc"),
        ({"GridJobId": "batch pbs x pbs/1/"}, "holds no job id"),
        ({"CompletionDate": LAST_INSTANT + 1}, "CompletionDate is impossible"),
        ({"CompletionDate": 0, "EnteredCurrentStatus": None}, "neither CompletionDate nor EnteredCurrentStatus"),
    ],
)
def test_rejects(changes: Row, expected: str) -> None:
    assert expected in reason(long_form(**changes))
    banner = b"*** Offset = 0 ClusterId = 12\n"
    parsed = parse(long_form() + banner + long_form(**changes) + banner + long_form() + banner)
    assert (parsed.records.num_rows, len(parsed.rejects)) == (2, 1)


def test_it_is_never_guessed() -> None:
    for path in SAMPLES.rglob("*"):
        if path.is_file():
            head = path.read_bytes()[:16384]
            assert not (PARSER.recognises(head) or JSON.recognises(head))


HISTORY = (
    long_form() + b"\n" + long_form(**TOKEN) + b"\n" + long_form(JobUniverse=9, GridJobId=GRID_JOB_IDS[1]) + b"*** Offset = 0\n"
)


@settings(deadline=None, max_examples=FUZZ)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(HISTORY)),
            st.integers(0, 30),
            st.sampled_from([b"", b"\n", b"=", b'"', b"\\", b"\0", b"\xff", b"/", b"-1", b"1e999"]) | st.binary(max_size=3),
        ),
        max_size=6,
    )
)
def test_no_damage_crashes_it(edits: list[tuple[int, int, bytes]]) -> None:
    data = HISTORY
    for at, length, piece in edits:
        data = data[:at] + piece + data[at + length :]
    assert not any("does not foresee" in reject.reason for reject in parse(data).rejects)
