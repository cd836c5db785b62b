"""BLAH lines: samples of each writer, what is rejected, cut lines, a round trip, and both lanes against each other."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.model import IDENTITY, LAST_INSTANT, content_hash
from batchacct.parsing.contract import Block, Parsed, Reject, Source
from batchacct.parsing.framing import LINES
from cecol.blah import PARSER, batch_id, fields, lrms_of_ce, recognise, who

if TYPE_CHECKING:
    from random import Random

SAMPLES = Path(__file__).parent.parent / "samples" / "blah"
SOURCE = Source("ce01", site="SITE", cluster="main")
CAREFUL = dataclasses.replace(PARSER, fast_lane=None)
JOINED = (
    *("record_key", "cluster", "lrms", "time_kind", "recorded_at", "ce_id", "lrms_job_id", "array_index", "join_id"),
    *("dn", "fqan", "fqans", "vo", "vo_group", "vo_role", "token_issuer", "token_subject"),
)

Row = dict[str, object]


def parse(data: bytes, source: Source = SOURCE) -> Parsed:
    """One block through both lanes, once more through the careful one alone: they agree."""
    parsed = PARSER.parse_block(Block(data, 0), source)
    careful = CAREFUL.parse_block(Block(data, 0), source)
    assert parsed.records.to_pylist() == careful.records.to_pylist()
    assert parsed.records.schema.equals(IDENTITY.schema, check_metadata=True)
    assert parsed.rejects == careful.rejects
    assert parsed.skipped == careful.skipped
    assert parsed.units == len(list(LINES.spans(data)))
    return parsed


def rows(data: bytes, source: Source = SOURCE) -> list[Row]:
    parsed = parse(data, source)
    assert not parsed.rejects
    found: list[Row] = parsed.records.to_pylist()
    return found


def sample(name: str) -> list[Row]:
    return rows((SAMPLES / name).read_bytes())


def line(**changes: str | None) -> bytes:
    """A BLAH line; a changed key has another value, or with None is left out."""
    values = {
        "timestamp": "2012-05-20 23:59:47",
        "userDN": "/O=Grid/CN=A",
        "userFQAN": "/atlas/Role=pilot",
        "ceID": "ce:8443/cream-lsf-long",
        "jobID": "CREAM1",
        "lrmsID": "123",
        "localUser": "500",
    } | changes
    return " ".join(f'"{key}={value}"' for key, value in values.items() if value is not None).encode() + b"\n"


def one(data: bytes) -> Row:
    (row,) = rows(data)
    return row


def reason(data: bytes) -> str:
    parsed = parse(data)
    assert not parsed.records.num_rows
    (reject,) = parsed.rejects
    return reject.reason


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def test_apel_sample() -> None:
    data = (SAMPLES / "apel_test.log").read_bytes()
    first, second, third, fourth = rows(data)
    production = "/atlas/Role=production/Capability=NULL"
    key = "blah:main:2012-05-20 23:59:47:cream-2-fzk.gridka.de:8443/cream-pbs-atlasXL:9575064.lrms1"
    assert {name: value for name, value in first.items() if value is not None} == {
        "record_key": key,
        "content_hash": content_hash(data.splitlines()[0]),
        "site": "SITE",
        "cluster": "main",
        "lrms": "PBS",
        "time_kind": "submit",
        "recorded_at": utc("2012-05-20 23:59:47"),
        "ce_id": "cream-2-fzk.gridka.de:8443/cream-pbs-atlasXL",
        "lrms_job_id": "9575064.lrms1",
        "join_id": "9575064",
        "global_job_id": "CREAM410741480",
        "dn": "/O=GermanGrid/OU=UniWuppertal/CN=Torsten Harenberg",
        "fqan": production,
        "fqans": json.dumps([production]),
        "vo": "atlas",
        "vo_group": "/atlas",
        "vo_role": "Role=production",
        "local_user": "11999",
        "native": data.splitlines()[0],
        "source": "ce01",
        "source_offset": 0,
        "parser": "blah/1",
    }
    assert (second["vo"], second["vo_group"], second["vo_role"]) == ("wlcg", "/wlcg", None)
    assert second["record_key"] == key
    assert second["content_hash"] != first["content_hash"]
    assert [r["recorded_at"] for r in (third, fourth)] == [utc("2014-05-18 00:00:58"), utc("2014-05-18 00:03:00")]
    assert [r["lrms_job_id"] for r in (third, fourth)] == ["15876368.ce1.triumf.ca", "15876480.ce1.triumf.ca"]
    assert [r["join_id"] for r in (third, fourth)] == ["15876368", "15876480"]
    assert third["dn"] == "/C=CA/O=Grid/OU=triumf.ca/CN=Asoka De Silva GC1"
    assert str(fourth["dn"]).endswith("/CN=atlpilo2/CN=531497/CN=Robot: ATLAS Pilot2")
    groups = ["/atlas/Role=pilot", "/atlas/Role=NULL", "/atlas/ca/Role=NULL", "/atlas/lcg1/Role=NULL"]
    assert json.loads(str(third["fqans"])) == [f"{group}/Capability=NULL" for group in groups]
    for row in (third, fourth):
        assert (row["vo"], row["vo_group"], row["vo_role"]) == ("atlas", "/atlas", "Role=pilot")
        assert (row["local_user"], row["ce_id"]) == ("41200", "ce1.triumf.ca:8443/cream-pbs-atlas")
    assert [r["native"] for r in (first, second, third, fourth)] == data.splitlines()


def test_apel_invalid_sample() -> None:
    parsed = parse((SAMPLES / "apel_test_invalid.log").read_bytes())
    assert parsed.records.num_rows == 0
    first, second = (reject.reason for reject in parsed.rejects)
    assert "timestamp is not YYYY-MM-DD HH:MM:SS: 2012-05-20A23:59:47" in first
    assert 'no blank after the field: "jobID=CREAM410741480"&sd"lrmsID' in second


def test_batchacct_2012_sample() -> None:
    (row,) = sample("batchacct2012_test.log")
    assert row["recorded_at"] == dt.datetime.fromtimestamp(24403320, dt.UTC)
    assert (row["lrms_job_id"], row["join_id"], row["local_user"]) == ("42", "42", "42")
    assert (row["fqan"], row["vo"], row["vo_group"], row["vo_role"]) == ("theUserFQAN", "theUserFQAN", None, None)
    assert (row["ce_id"], row["global_job_id"], row["lrms"]) == ("theCEID", "theJobID", "unknown")
    assert (row["dn"], row["token_subject"]) == (None, "theUserDN")


def test_gratia_samples() -> None:
    third = sample("blahp.log-20110203")
    assert sorted(str(r["join_id"]) for r in third) == [str(n) for n in range(377230, 377280)]
    times = [r["recorded_at"] for r in third]
    assert (min(times), max(times)) == (utc("2011-02-03 21:19:16"), utc("2011-02-03 23:05:06"))  # type: ignore[type-var]
    assert len({r["dn"] for r in third}) == 1
    assert {(r["vo"], r["vo_role"], r["lrms"], r["local_user"]) for r in third} == {("vdt", "Role=NULL", "HTCondor", "1003")}
    fourth = {r["join_id"]: r for r in sample("blahp.log-20110204")}
    assert sorted(map(str, fourth)) == [str(n) for n in range(377280, 377290)]
    assert str(fourth["377283"]["dn"]).endswith("/CN=Not James Frey 259919-a")
    assert Counter(r["vo"] for r in fourth.values()) == {"vdt": 9, "vdt-cream": 1}
    assert fourth["377283"]["vo_group"] == "/vdt-cream"


def test_grid_jobmap_samples() -> None:
    found = sample("grid-jobmap.template")
    assert [r["join_id"] for r in found] == ["280876", "280877", "280878", "280880"]
    times = ["19:52:53", "20:02:58", "20:12:53", "20:12:53"]
    assert [r["recorded_at"] for r in found] == [utc(f"2009-01-25 {time}") for time in times]
    assert [r["vo"] for r in found] == ["dteam", "dteam", "biomed", "biomed"]
    assert {(len(json.loads(str(r["fqans"]))), r["lrms"], r["time_kind"]) for r in found} == {(2, "PBS", "submit")}
    assert found[3]["global_job_id"] is None
    template = (SAMPLES / "grid-jobmap.template.lsf").read_bytes()
    assert len(parse(template).rejects) == 3
    for n in (b"1", b"2", b"3"):
        template = template.replace(b"$timestamp" + n, b"2009-01-2" + n + b" 10:00:00")
    found = rows(template)
    assert [r["join_id"] for r in found] == ["4530990", "4532648", "4535228"]
    assert [r["local_user"] for r in found] == ["3003", "5603", "5504"]
    assert [r["vo"] for r in found] == ["cms", "lhcb", "atlas"]
    assert [len(json.loads(str(r["fqans"]))) for r in found] == [3, 3, 4]
    assert {(r["vo_role"], r["lrms"]) for r in found} == {("Role=production", "LSF")}
    assert [r["global_job_id"] is None for r in found] == [False, False, True]


def test_htcondor_ce_sample() -> None:
    (row,) = sample("blah-20190501")
    assert (row["recorded_at"], row["time_kind"], row["lrms"]) == (utc("2019-05-01 23:56:01"), "end", "HTCondor")
    assert row["lrms_job_id"] == row["join_id"] == "1_hepgrid6.ph.liv.ac.uk"
    assert (row["global_job_id"], row["local_user"]) == ("1.0_hepgrid6.ph.liv.ac.uk", "dteam001")
    assert (row["dn"], row["vo"]) == ("/C=UK/O=eScience/OU=Liverpool/L=CSD/CN=stephen jones", "dteam")


def test_a_token_job_of_htcondor_ce() -> None:
    row = one(line(userDN="dunepilot@fnal.gov", userFQAN=None, lrmsID="ce.example.org#12.3#1435671643"))
    assert (row["token_subject"], row["token_issuer"], row["dn"]) == ("dunepilot@fnal.gov", None, None)
    assert (row["fqan"], row["fqans"], row["vo"]) == (None, None, None)
    assert (row["join_id"], row["time_kind"]) == ("ce.example.org#12.3#1435671643", "end")


def test_a_pool_job_of_htcondor_ce_is_skipped() -> None:
    parsed = parse(line(userDN=None, userFQAN=None, jobID="undefined_ce01", lrmsID="schedd#1.0#1435671643"))
    assert (parsed.records.num_rows, parsed.rejects, sum(parsed.skipped.values())) == (0, (), 1)


@pytest.mark.parametrize("ce_id", ["ce:2811/nordugrid-torque-long", "ce:2811/own", "ce/nordugrid-SLURM-grid"])
def test_an_arc_line(ce_id: str) -> None:
    row = one(line(ceID=ce_id, userDN=r"/O=Grid/CN=a \"b\" c\\d", userFQAN="/None/Role=NULL", localUser="alice"))
    assert (row["time_kind"], row["local_user"]) == ("accept", "alice")
    assert row["dn"] == '/O=Grid/CN=a "b" c\\d'
    assert (row["fqan"], row["fqans"], row["vo"]) == (None, None, None)


def test_fqans_in_order_each_once() -> None:
    row = one(line(userFQAN='/b" "userFQAN=/a/Role=x" "userFQAN=/b" "userFQAN=/c /d;/a'))
    assert json.loads(str(row["fqans"])) == ["/b", "/a/Role=x", "/c", "/d", "/a"]
    assert row["fqan"] == "/b"


@pytest.mark.parametrize("job_id", [None, "", "none", "NONE", "None"])
def test_no_job_id(job_id: str | None) -> None:
    assert one(line(jobID=job_id))["global_job_id"] is None


def test_what_may_be_absent_or_empty() -> None:
    for value in (None, ""):
        row = one(line(userDN=value, userFQAN=value, ceID=value, jobID=value, localUser=value))
        given = {name for name, content in row.items() if content is not None}
        assert given == {
            *("record_key", "content_hash", "site", "cluster", "lrms", "time_kind", "recorded_at", "lrms_job_id"),
            *("join_id", "native", "source", "source_offset", "parser"),
        }


def test_blanks_escapes_and_unknown_keys() -> None:
    data = b' "timestamp=2012/05/20 23:59:47"\t "lrmsID=7" "x-y=a=b"  "note=\\"q\\" \\\\ \\n" "userDN=/CN=\xe9\x00" '
    row = one(data)
    assert row["recorded_at"] == utc("2012-05-20 23:59:47")
    assert row["record_key"] == "blah:main:2012-05-20 23:59:47::7"
    assert row["dn"] == "/CN=\\xe9\\x00"
    assert row["native"] == data
    assert fields(data)[2:4] == [("x-y", "a=b"), ("note", '"q" \\ \\n')]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("123", ("123", "123", None, False, None)),
        ("123[4]", ("123[4]", "123", 4, False, None)),
        ("123[4].server", ("123[4].server", "123", 4, False, None)),
        ("123_4", ("123_4", "123", 4, False, None)),
        ("123_4@c", ("123_4@c", "123_4@c", None, True, None)),
        ("123_4@55", ("123_4@55", "123", 4, False, None)),
        ("123[].server", ("123[].server", "123", None, False, None)),
        ("9575064.lrms1", ("9575064.lrms1", "9575064", None, False, None)),
        ("12345@cluster", ("12345@cluster", "12345", None, False, None)),
        ("lsf/20120101/123", ("123", "123", None, False, "LSF")),
        ("pbs/20160211/3857720.host", ("3857720.host", "3857720", None, False, "PBS")),
        ("slurm/20160211/12@c", ("12@c", "12", None, False, "Slurm")),
        ("condor/377260/queue/pool", ("377260", "377260", None, False, "HTCondor")),
        ("nqs/55.host", ("55.host", "55", None, False, None)),
        ("1_host.org", ("1_host.org", "1_host.org", None, True, None)),
        ("1.0_host.org", ("1.0_host.org", "1.0_host.org", None, True, None)),
        ("a.org#2376.0#71589", ("a.org#2376.0#71589", "a.org#2376.0#71589", None, True, None)),
        ("pod-a.b", ("pod-a.b", "pod-a.b", None, False, None)),
        ("1" * 30, ("1" * 30, "1" * 30, None, False, None)),
    ],
)
def test_lrms_ids(raw: str, expected: tuple[object, ...]) -> None:
    assert dataclasses.astuple(batch_id(raw)) == expected
    row = one(line(lrmsID=raw))
    assert (row["lrms_job_id"], row["join_id"], row["array_index"]) == expected[:3]


@pytest.mark.parametrize(
    ("ce_id", "lrms"),
    [
        (None, None),
        ("theCEID", None),
        ("ce:8443/cream-lsf-grid_alice", "LSF"),
        ("ce:2119/jobmanager-lcgpbs-short", "PBS"),
        ("ce:2119/jobmanager-lcglsf-cms", "LSF"),
        ("ce:2119/blah-sge-all.q", "SGE"),
        ("ce:8443/cream-slurm", "Slurm"),
        ("ce:8443/cream-pbs-condor", "PBS"),
        ("ce:8443/cream-lsfx-q", None),
        ("ce:9619/ce-condor", "HTCondor"),
        ("ce:8443/cream-nqs-condor", None),
        ("ce:2811/nordugrid-torque-q", None),
        ("ce:2811/nordugrid-SLURM-q", "Slurm"),
    ],
)
def test_lrms_of_ce(ce_id: str | None, lrms: str | None) -> None:
    assert lrms_of_ce(ce_id) == lrms


@pytest.mark.parametrize(
    ("user_dn", "expected"),
    [
        ("/O=G/CN=a/CN=proxy", ("/O=G/CN=a", None, None)),
        ("/O=G/CN=a/CN=limited proxy/CN=proxy", ("/O=G/CN=a", None, None)),
        ("/O=G/CN=a/CN=12345", ("/O=G/CN=a/CN=12345", None, None)),
        ("/O=G/CN=proxy/CN=a", ("/O=G/CN=proxy/CN=a", None, None)),
        ("/CN=proxy", (None, None, None)),
        ("", (None, None, None)),
        ("7dee38a3-6ab8", (None, None, "7dee38a3-6ab8")),
        ("https://atlas-auth.cern.ch//7dee", (None, "https://atlas-auth.cern.ch/", "7dee")),
        ("https://cilogon.org/dune/p@fnal.gov", (None, "https://cilogon.org/dune", "p@fnal.gov")),
        ("https://cilogon.org", (None, None, "https://cilogon.org")),
    ],
)
def test_who(user_dn: str, expected: tuple[str | None, ...]) -> None:
    assert who(user_dn) == expected
    row = one(line(userDN=user_dn))
    assert (row["dn"], row["token_issuer"], row["token_subject"]) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (line(timestamp=None), "timestamp is missing"),
        (line(lrmsID=None), "lrmsID is missing"),
        (line(lrmsID=""), "lrmsID is empty"),
        (line(lrmsID="N/A"), "lrmsID is N/A"),
        (line(lrmsID="lsf/20120101/"), "holds no job id"),
        (line(timestamp=""), "timestamp is empty"),
        (line(timestamp="2012-02-30 00:00:00"), "does not exist"),
        (line(timestamp="2012-13-01 00:00:00"), "does not exist"),
        (line(timestamp="2012-01-01 24:00:00"), "does not exist"),
        (line(timestamp="0000-01-01 00:00:00"), "does not exist"),
        (line(timestamp="1969-12-31 23:59:59"), "not between 1970 and 2099"),
        (line(timestamp="1970-01-01 00:00:00"), "not between 1970 and 2099"),
        (line(timestamp="2100-01-01 00:00:00"), "not between 1970 and 2099"),
        (line(timestamp="2012-01-01T00:00:00"), "timestamp is not"),
        (line(timestamp="2012-01/01 00:00:00"), "timestamp is not"),
        (line(timestamp="2012-01-01 00:00"), "timestamp is not"),
        (line().rstrip()[:-1], "a quote is not closed"),
        (line().rstrip() + b'"', "no blank after the field"),
        (line().rstrip() + b" \xff", "text outside the quotes"),
        (b"*" + line(), "text outside the quotes"),
        (line().replace(b'" "', b'""'), "no blank after the field"),
        (line().replace(b'"jobID=CREAM1"', b'"jobID"'), "a field has no `=`"),
        (line().replace(b'"jobID=', b'"/CN=x,/atlas/Role='), "no key before its `=`"),
        (line().rstrip() + b" " + line(lrmsID="124"), "lrmsID has two values: two lines run together"),
        (line().rstrip() + b' "userDN=/O=Grid/CN=B"', "userDN has two values"),
        (b"\0" * 50, "text outside the quotes"),
    ],
)
def test_rejects(data: bytes, expected: str) -> None:
    assert expected in reason(data)
    good = line(lrmsID="900")
    around = parse(good + data.rstrip(b"\n") + b"\n" + good)
    assert [r["join_id"] for r in around.records.to_pylist()] == ["900", "900"]


def test_cluster_by_ce() -> None:
    source = Source("ce", cluster=None, ce_clusters=(("ce1:*", "one"), ("ce2:*-lsf-*", "two")))
    data = b"".join(line(ceID=f"{ce}/cream-lsf-q") for ce in ("ce2:1", "ce3:1", "ce1:1")) + line(ceID=None)
    parsed = parse(data, source)
    assert [r["cluster"] for r in parsed.records.to_pylist()] == ["two", "one"]
    assert ["no cluster is configured for CE" in r.reason for r in parsed.rejects] == [True, True]


@pytest.mark.parametrize("name", ["apel_test.log", "grid-jobmap.template", "blahp.log-20110203", "blah-20190501"])
def test_recognised(name: str) -> None:
    data = (SAMPLES / name).read_bytes()
    assert recognise(data)
    assert recognise(data[200:])
    assert PARSER.recognises(b'"lrmsID=7" "timestamp=2012-05-20 23:59:47"')
    assert not PARSER.recognises(b'"JOB_FINISH" "7.06" 1000000000 x')


CUT = [
    (SAMPLES / "apel_test.log").read_bytes().splitlines()[3],
    (SAMPLES / "blah-20190501").read_bytes().splitlines()[0],
    (SAMPLES / "grid-jobmap.template").read_bytes().splitlines()[0],
]


@pytest.mark.parametrize("whole", CUT)
def test_cut_at_every_position(whole: bytes) -> None:
    """A line that lost its end is a reject, or, cut just between two fields, the right record without what was lost.

    In the three orders these can only be localUser and clientID: every joined column is that of the whole line.
    """
    full = one(whole)
    for row in parse(b"\n".join(whole[:cut] for cut in range(1, len(whole)))).records.to_pylist():
        assert row["native"].rstrip().endswith(b'"')
        assert {name: row[name] for name in JOINED} == {name: full[name] for name in JOINED}
        assert row["global_job_id"] == full["global_job_id"]
        assert row["local_user"] in (None, full["local_user"])


@pytest.mark.parametrize("whole", CUT[:2])
def test_without_its_beginning_it_is_a_reject(whole: bytes) -> None:
    """The writers that are alive put the timestamp first: what lost its beginning lost a required field."""
    parsed = parse(b"\n".join(whole[cut:] for cut in range(1, len(whole))))
    assert len(parsed.rejects) == len(whole) - 1


@pytest.mark.parametrize("whole", CUT)
def test_a_fragment_run_into_the_line_is_a_reject_or_the_line(whole: bytes) -> None:
    """A fragment seen before its own line (batchacct of 2012 doubled FQANs then) never changes what the line says."""
    full = one(whole)
    cuts = [whole[:cut] + between + whole for cut in range(1, len(whole) + 1) for between in (b"", b" ")]
    parsed = parse(b"\n".join(cuts))
    assert parsed.records.num_rows > 0
    for row in parsed.records.to_pylist():
        assert {name: row[name] for name in JOINED} == {name: full[name] for name in JOINED}


_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=12)
_FQANS = st.lists(st.sampled_from(["/atlas", "/atlas/Role=pilot", "/cms/a.b/Role=NULL/Capability=NULL"]), unique=True)


@settings(deadline=None)
@given(
    seconds=st.integers(1, LAST_INSTANT),
    user_dn=_VALUES.map("/CN=x{}".format),
    fqans=_FQANS,
    number=st.integers(0, 10**9),
    user=_VALUES,
    client=_VALUES,
    random=st.randoms(use_true_random=False),
)
def test_round_trip(*, seconds: int, user_dn: str, fqans: list[str], number: int, user: str, client: str, random: Random) -> None:
    """What a writer that escapes as ARC does writes, in any order of keys, comes back."""
    time = dt.datetime.fromtimestamp(seconds, dt.UTC)
    pairs = [("timestamp", f"{time:%Y-%m-%d %H:%M:%S}"), ("userDN", user_dn), ("lrmsID", f"{number}.server")]
    pairs += [("localUser", user), ("clientID", client), ("jobID", f"J{number}")]
    random.shuffle(pairs)
    at = random.randrange(len(pairs) + 1)
    pairs[at:at] = [("userFQAN", fqan) for fqan in fqans]
    escaped = [(key, value.replace("\\", r"\\").replace('"', r"\"")) for key, value in pairs]
    data = " ".join(f'"{key}={value}"' for key, value in escaped).encode()
    assert fields(data) == pairs
    row = one(data)
    assert row["recorded_at"] == time
    assert (row["dn"], row["join_id"], row["global_job_id"]) == (user_dn, str(number), f"J{number}")
    assert row["local_user"] == (user or None)
    assert row["fqans"] == (json.dumps(fqans) if fqans else None)


FILES = ("apel_test.log", "blah-20190501", "grid-jobmap.template")
GENUINE = b"".join((SAMPLES / name).read_bytes() for name in FILES)
PIECES = (
    *(b'"', b'" "', b'"userFQAN=/x" ', b"\\", b"\r", b"\r\n", b"\n", b"\n\n", b" ", b"\0", b"\xc3", b"none", b"_h"),
    *(b"#", b"31", b"[3]", b"_3", b"/", b".", b'"timestamp=2012-02-30 00:00:00" ', b"1969", b"", b'" "clientID=x'),
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(GENUINE)), st.integers(0, 30), st.sampled_from(PIECES) | st.binary(max_size=4)),
        max_size=8,
    ),
    st.integers(0, 10**12),
)
def test_lanes_agree_on_mutated_blocks(edits: list[tuple[int, int, bytes]], offset: int) -> None:
    data = GENUINE
    for at, length, piece in edits:
        data = data[:at] + piece + data[at + length :]
    both = PARSER.parse_block(Block(data, offset), SOURCE)
    careful = CAREFUL.parse_block(Block(data, offset), SOURCE)
    assert both.records.to_pylist() == careful.records.to_pylist()
    assert (both.rejects, both.skipped, both.units) == (careful.rejects, careful.skipped, careful.units)


def test_the_fast_lane_is_taken() -> None:
    assert PARSER.fast_lane is not None
    for name in ("apel_test.log", "blahp.log-20110203", "blah-20190501"):
        data = (SAMPLES / name).read_bytes()
        for block in (data, data.rstrip(b"\n"), data.replace(b"\n", b"\r\n")):
            assert not PARSER.fast_lane(Block(block, 0), SOURCE, "blah/1").left
    with pytest.raises(Reject):
        fields(b"x")
