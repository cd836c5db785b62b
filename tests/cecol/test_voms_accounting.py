"""The NGS VOMS accounting log: its sample with glued records, the VO of an identity, rejects, chunking, mutations."""

from __future__ import annotations

import itertools
import json
import zoneinfo
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchacct.parsing.contract import Source
from cecol import gram
from cecol.voms_accounting import NO_JOB_MANAGER, PARSER
from tests.cecol.gram_wholes import FUZZED, Row, identities, in_pieces, parse, parts_of, reasons, sample, utc
from tests.cecol.test_gram import FOR, HAS, INCA, JM, MAPPED

ALL = sample("ngs-voms-accounting-2010.log")
LONDON = Source("voms", site="SITE", cluster="main", zone=zoneinfo.ZoneInfo("Europe/London"))


def record(
    jid: str = f"{JM}.jobmanager-pbs", dn: str = INCA, uid: str = "5236", vos: str = 'vo0:"vomss://v:8443/voms/ngs.ac.uk" '
) -> bytes:
    return f'jid:{jid} dn:"{dn}" uid:{uid} {vos}poolindex:"%2fc%3duk"\n'.encode()


def identity(voms: bytes, job: bytes = FOR + MAPPED + HAS) -> Row:
    (found,) = identities([*parts_of(gram.PARSER, job), *parts_of(PARSER, voms)])
    return found


def test_sample() -> None:
    """13 lines, 15 records: the last line holds three, two of them ssh."""
    parsed = parse(PARSER, ALL, LONDON)
    assert ALL.count(b"\n") in (12, 13)
    assert (parsed.units, parsed.rejects, parsed.skipped) == (15, (), {NO_JOB_MANAGER: 2})
    parts = parts_of(PARSER, ALL, LONDON)
    assert len({p["part_key"] for p in parts}) == len(parts) == 13
    services = Counter(p["native"].decode().partition(" ")[0].rpartition(".")[2] for p in parts)
    assert services == {"jobmanager-pbs": 6, "jobmanager-fork": 5, "jobmanager": 2}
    told = {"dn": INCA, "uid": 618, "vos": ["ngs.ac.uk"]}
    assert [json.loads(p["usage"]) for p in parts] == [told] * 13
    first = parts[0]
    assert (first["part_key"], first["kind"]) == ("2010-05-30.00:24:11.0000012793.0000000000", "voms")
    assert first["logged_at"] == utc("2010-05-29 23:24:11")
    assert identities(parts) == []


def test_the_vo_of_an_identity() -> None:
    found = identity(record())
    assert (found["vo"], found["fqan"], found["fqans"], found["vo_group"], found["vo_role"]) == (
        "ngs.ac.uk",
        None,
        None,
        None,
        None,
    )
    assert (found["dn"], found["local_user"]) == (INCA, "shiv")


def test_without_the_job_managers_word_for_it() -> None:
    found = identity(record(), HAS)
    assert (found["dn"], found["local_user"], found["vo"]) == (INCA, "5236", "ngs.ac.uk")


def test_several_vos_in_their_order_and_the_first_record_counts() -> None:
    vos = 'vo2:"vomss://v:1/voms/third" vo0:"vomss://v:1/voms/first" vo1:"vomss://v:1/voms/second/" '
    (part,) = parts_of(PARSER, record(vos=vos))
    assert json.loads(part["usage"])["vos"] == ["first", "second", "third"]
    assert identity(record(vos=vos) + record())["vo"] == "first"
    both = parts_of(PARSER, record(vos=vos) + record())
    jobs = parts_of(gram.PARSER, FOR + HAS)
    assert {identities(order)[0]["vo"] for order in itertools.permutations([*both, *jobs])} == {"first"}


def test_another_users_vo_is_not_taken() -> None:
    assert identity(record(dn="/CN=Somebody else"))["vo"] is None
    assert identity(record(dn="/CN=Somebody else") + record())["vo"] == "ngs.ac.uk"
    assert identity(record(uid="618"))["vo"] is None, "the uid of another account"
    assert identity(record(dn=INCA.replace("emailAddress", "Email").upper()))["vo"] == "ngs.ac.uk"
    assert identity(record(dn=INCA + "/CN=limited proxy"))["vo"] == "ngs.ac.uk"


def test_without_a_vo() -> None:
    found = identity(record(vos=""))
    assert (found["vo"], found["dn"]) == (None, INCA)


@pytest.mark.parametrize("service", ["ssh", "gsiftp"])
def test_a_login_is_no_job(service: str) -> None:
    assert parse(PARSER, record(f"{JM}.{service}")).skipped == {NO_JOB_MANAGER: 1}


@pytest.mark.parametrize("between", [b"", b" ", b"\n", b"\r\n", b"\n\n"])
def test_records_run_into_each_other(between: bytes) -> None:
    parts = parts_of(PARSER, between.join([record().strip()] * 3))
    assert [p["native"].strip() for p in parts] == [record().strip()] * 3


def test_a_record_that_lost_its_end_costs_only_itself() -> None:
    whole = record().strip()
    for cut in range(1, len(whole)):
        parsed = parse(PARSER, whole[:cut] + whole)
        assert parsed.parts["native"].to_pylist()[-1] == whole
        assert len(parsed.rejects) == 1, whole[:cut]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"hello\n", "begins with jid:"),
        (record("2010-05-30.jobmanager"), "begins with jid:"),
        (record(JM), "begins with jid:"),
        (record(f"{JM.replace('-05-', '-15-')}.jobmanager"), "does not exist"),
        (record(uid="x"), "text that is not name"),
        (record(uid='"x"'), "uid is not a number"),
        (record(dn="CN=A"), "DN does not begin with"),
        (record(vos='vo0:"" '), "a VO has no name"),
        (record(vos='vo0:"a" vo0:"b" '), "a field is there twice"),
        (record().replace(b" dn", b" cn"), "dn is missing"),
        (record().rstrip()[:-1], "text that is not name"),
        (record().partition(b" poolindex")[0], "poolindex is missing"),
        (record().replace(b'" uid', b'"uid'), "text that is not name"),
    ],
)
def test_rejects(data: bytes, expected: str) -> None:
    (reason,) = reasons(PARSER, data)
    assert expected in reason
    around = parse(PARSER, record() + data.rstrip(b"\n") + b"\n" + record())
    assert (around.parts.num_rows, len(around.rejects)) == (2, 1)


def test_recognised() -> None:
    assert PARSER.recognises(ALL)
    assert not PARSER.recognises(HAS)


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
            st.sampled_from([b'"', b"jid:", b"jid:2", b"\n", b"\r\n", b"\0", b"\xff", b" ", b'vo1:"x/y" ', b"uid:"])
            | st.binary(max_size=4),
        ),
        max_size=8,
    ),
    st.lists(st.integers(1, 2000), min_size=1, max_size=20),
)
def test_mutated_records_in_any_chunking(edits: list[tuple[int, int, bytes]], sizes: list[int]) -> None:
    data = ALL
    for at, length, piece in edits:
        data = data[:at] + piece + data[at + length :]
    parse(PARSER, data)
    assert in_pieces(PARSER, data, sizes) == in_pieces(PARSER, data, [len(data)])


@pytest.mark.parametrize("unit", [b"jid:" * 300_000, record().rstrip() * 5000, b'jid:2 dn:"' * 100_000, b"\0" * 2_000_000])
def test_a_long_line_costs_what_it_is_long(unit: bytes) -> None:
    parsed = parse(PARSER, record() + unit + b"\n" + record())
    assert parsed.parts["native"].to_pylist()[0] == record().rstrip()
    assert parsed.parts["native"].to_pylist()[-1] == record().rstrip()
