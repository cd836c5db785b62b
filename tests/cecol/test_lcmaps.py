"""LCMAPS lines: what is taken of a job, that glexec and lines without a job are not, chunking, mutations.

The samples hold no line with both a JM id and a final message: the heads here are theirs, and so are the messages.
"""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cecol import gram, lcmaps, voms_accounting
from cecol.lcmaps import PARSER
from tests.cecol.gram_wholes import FUZZED, Row, identities, in_pieces, parse, parts_of, reasons, sample, utc
from tests.cecol.test_gram import FOR, HAS, INCA, JM, MAPPED
from tests.cecol.test_voms_accounting import record

ROY = "/DC=org/DC=doegrids/OU=People/CN=Alain Roy 424511"
SYSLOG = "Dec  2 10:12:43 fermicloud081 l_l_gt4[2051]: "
HEADS = (
    *(SYSLOG, "Dec  2 10:12:43 fermicloud081 gatekeeper[2051]: lcmaps: ", "2011-12-02T10:12:43.1+01:00 h l_l_gt4[2051]: "),
    *(
        "LCMAPS 5: ",
        "LCAS   1: ",
        "lcmaps[3944231]  LOG_NOTICE: 2018-03-15.16:09:37Z: ",
        "gk:lcmaps[1]  LOG_INFO: 2018-03-15.16:09:37Z: ",
    ),
)


def line(said: str, head: str = SYSLOG, between: str = " : ") -> bytes:
    return f"{head}{JM}{between}{said}\n".encode()


def final(dn: str = INCA, uid: int = 5236) -> bytes:
    return line(f"LCMAPS CRED FINAL: DN:\"{dn}\"->mapped uid:'{uid}',pgid:'1008',sgid:'1008',sgid:'65000'")


def fqan(text: str) -> bytes:
    return line(f'LCMAPS CRED FINAL: FQAN:"{text}"->mapped group:1008(ngs)')


def first(text: str, dn: str = INCA) -> bytes:
    return line(
        f'lcmaps_plugin_scas_client-plugin_run(): User "{dn}" with first FQAN "{text}" Permitted at endpoint "https://g:8443/x"'
    )


def identity(*logs: bytes, job: bytes = FOR + MAPPED + HAS) -> Row:
    (found,) = identities([*parts_of(gram.PARSER, job), *parts_of(PARSER, b"".join(logs))])
    return found


@pytest.mark.parametrize("head", HEADS)
def test_heads(head: str) -> None:
    said = f"LCMAPS CRED FINAL: DN:\"{ROY}\"->mapped uid:'46661',pgid:'46661'"
    for between in (" : ", ": "):
        data = line(said, head, between)
        assert PARSER.recognises(data) or "gatekeeper" in head or between == ": "
        (part,) = parts_of(PARSER, data)
        assert (part["kind"], part["part_key"], part["logged_at"]) == ("mapping", JM, utc("2010-05-30 00:14:02"))
        assert json.loads(part["usage"]) == {"dn": ROY, "uid": 46661}


def test_fqans_in_order() -> None:
    role, group = "/ngs.ac.uk/Operations/Role=NULL/Capability=NULL", "/ngs.ac.uk"
    found = identity(final(), fqan(role), fqan(group), fqan(role))
    assert json.loads(found["fqans"]) == [role, group]
    assert (found["fqan"], found["vo"], found["vo_group"], found["vo_role"]) == (
        role,
        "ngs.ac.uk",
        "/ngs.ac.uk/Operations",
        "Role=NULL",
    )
    assert (found["dn"], found["local_user"]) == (INCA, "shiv")
    assert json.loads(identity(fqan(role), fqan(group), first(group))["fqans"]) == [group, role]


def test_an_fqan_comes_before_the_name_of_a_vo() -> None:
    parts = [
        *parts_of(gram.PARSER, FOR + HAS),
        *parts_of(PARSER, fqan("/atlas/Role=pilot")),
        *parts_of(voms_accounting.PARSER, record()),
    ]
    made = {str(identities(order)) for order in itertools.permutations(parts)}
    assert len(made) == 1
    (found,) = identities(parts)
    assert (found["vo"], found["fqan"]) == ("atlas", "/atlas/Role=pilot")


def test_who_where_nobody_else_says() -> None:
    found = identity(final(), job=HAS)
    assert (found["dn"], found["local_user"]) == (INCA, "5236")
    assert identities(parts_of(gram.PARSER, HAS) + parts_of(PARSER, line("LCMAPS CRED FINAL: mapped uid:'1',pgid:'2'"))) == []
    assert identity(first("/a"), job=HAS)["dn"] == INCA


def test_a_payload_mapped_in_the_pilots_environment_is_not_taken() -> None:
    found = identity(final(), fqan("/atlas/Role=pilot"), final(ROY, 1), fqan("/Engage"))
    assert (found["dn"], found["fqan"], found["vo"]) == (INCA, None, None)
    unnamed = line("LCMAPS CRED FINAL: mapped uid:'46661',pgid:'46661'")
    assert identity(fqan("/atlas/Role=pilot"), unnamed, fqan("/Engage"))["fqan"] is None
    payload = final(ROY).replace(b"l_l_gt4", b"glexec") + fqan("/Engage").replace(b"l_l_gt4", b"glexec.mon")
    assert parse(PARSER, payload).skipped == {lcmaps.GLEXEC: 2}


@pytest.mark.parametrize(
    ("name", "reasons_skipped"),
    [
        ("glexec_log", {lcmaps.GLEXEC: 4}),
        ("glexec_monitor.log", {lcmaps.GLEXEC: 15}),
        ("gums_interface.log", {lcmaps.GLEXEC: 9}),
        ("messages.glexec-2012.log", {lcmaps.GLEXEC: 17}),
        ("lcas_lcmaps.log", {lcmaps.NO_JM_ID: 28}),
        ("lcmaps.argus-gridpp-2018.log", {lcmaps.NO_JM_ID: 2}),
        ("messages.gatekeeper-lcmaps-2011.log", {lcmaps.NO_JM_ID: 3, lcmaps.MESSAGE: 1}),
        ("gridmapdir.listing", {lcmaps.NO_JM_ID: 4}),
    ],
)
def test_samples_tell_of_no_job(name: str, reasons_skipped: dict[str, int]) -> None:
    parsed = parse(PARSER, sample(name))
    assert (parsed.skipped, parsed.rejects, parsed.parts.num_rows) == (reasons_skipped, (), 0)


def test_the_job_of_a_failed_mapping_has_no_part() -> None:
    failed = sample("messages.gatekeeper-lcmaps-2011.log").splitlines()[1]
    assert b"2011-12-02.10:06:26.0000002051.0000000000 : lcmaps_plugin_scas_client" in failed
    assert parse(PARSER, failed).skipped == {lcmaps.MESSAGE: 1}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (line("LCMAPS CRED FINAL: "), "the line is cut"),
        (line('LCMAPS CRED FINAL: DN:"/CN=a"->mapped uid:\'1'), "the line is cut"),
        (line("LCMAPS CRED FINAL: mapped uid:'<UID>',pgid:'<GID>'"), "the line is cut"),
        (line("LCMAPS CRED FINAL: DN:\"CN=a\"->mapped uid:'1'"), "DN does not begin with"),
        (fqan("ngs"), "FQAN does not begin with"),
        (first("ngs"), "FQAN does not begin with"),
        (final().replace(b"2010-05-30", b"2010-15-30"), "does not exist"),
    ],
)
def test_rejects(data: bytes, expected: str) -> None:
    (reason,) = reasons(PARSER, data)
    assert expected in reason
    assert parse(PARSER, final() + data + final()).parts.num_rows == 2


def test_a_pool_index_is_passed_over() -> None:
    assert parse(PARSER, line('LCMAPS CRED FINAL: POOL_INDEX:"(void)"')).skipped == {lcmaps.MESSAGE: 1}


@pytest.mark.parametrize("name", ["lcas_lcmaps.log", "lcmaps.argus-gridpp-2018.log", "messages.gatekeeper-lcmaps-2011.log"])
def test_recognised(name: str) -> None:
    assert PARSER.recognises(sample(name))
    assert not PARSER.recognises(FOR)


ALL = (
    final()
    + fqan("/a/Role=x")
    + first("/a")
    + b"".join(sample(n) for n in ("lcas_lcmaps.log", "messages.gatekeeper-lcmaps-2011.log"))
)
FEW = final() + fqan("/a/Role=x") + first("/a") + sample("messages.gatekeeper-lcmaps-2011.log") + sample("messages.glexec-2012.log")


@FUZZED
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=20))
def test_any_chunking_gives_the_same(sizes: list[int]) -> None:
    assert in_pieces(PARSER, ALL, sizes) == in_pieces(PARSER, ALL, [len(ALL)])


@FUZZED
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(FEW)),
            st.integers(0, 30),
            st.sampled_from([b'"', JM.encode(), b" : ", b"\n", b"\r\n", b"\0", b"\xff", b" ", b"glexec[", b"'"])
            | st.binary(max_size=4),
        ),
        max_size=8,
    )
)
def test_mutated_lines(edits: list[tuple[int, int, bytes]]) -> None:
    data = FEW
    for at, length, piece in edits:
        data = data[:at] + piece + data[at + length :]
    parse(PARSER, data)


@pytest.mark.parametrize(
    "unit", [b"LCMAPS 5: " * 100_000, line(",sgid:'1'" * 100_000).rstrip(), b"\0" * 2_000_000, first("/a").rstrip() * 5000]
)
def test_a_long_line_costs_what_it_is_long(unit: bytes) -> None:
    parsed = parse(PARSER, final() + unit + b"\n" + final())
    assert parsed.parts["native"].to_pylist()[-1] == final().rstrip()
