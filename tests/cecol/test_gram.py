"""JMA lines and the gatekeeper log: every sample, what is skipped, held and rejected, clocks, chunking, mutations.

Where this differs from the samples' description: `globus-gatekeeper.osg-2009.log` is said to hold one identity. It is of a fork
job, has no batch job, and so is a part that is held; the ping before it is another.
"""

from __future__ import annotations

import functools
import itertools
import zoneinfo
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchacct.parsing.contract import Block, Source
from cecol import gram
from cecol.gram import PARSER
from tests.cecol.gram_wholes import FUZZED, SOURCE, identities, in_pieces, parse, parts_of, reasons, sample, utc

LONDON = Source("gram", site="SITE", cluster="main", zone=zoneinfo.ZoneInfo("Europe/London"))
NGS = "gram-accounting.ngs-2010.log"
INCA = "/C=UK/O=eScience/OU=CLRC/L=RAL/CN=inca2.ngs.ac.uk/emailAddress=support@grid-support.ac.uk"
JM = "2010-05-30.00:14:02.0000024252.0000000000"
PBS_JOBS = [
    ("2010-05-30.00:14:02.0000024252.0000000000", "695392.sdb", "00:14:04"),
    ("2010-05-30.00:14:02.0000024260.0000000000", "695393.sdb", "00:14:04"),
    ("2010-05-30.00:14:02.0000024265.0000000000", "695394.sdb", "00:14:05"),
    ("2010-05-30.00:14:03.0000024290.0000000000", "695395.sdb", "00:14:05"),
    ("2010-05-30.00:16:02.0000027019.0000000000", "695396.sdb", "00:16:03"),
    ("2010-05-30.00:42:17.0000006894.0000000000", "695417.sdb", "00:42:18"),
    ("2010-05-30.00:42:18.0000006912.0000000000", "695418.sdb", "00:42:19"),
    ("2010-05-30.00:42:21.0000006952.0000000000", "695419.sdb", "00:42:22"),
    ("2010-05-30.00:42:25.0000007854.0000000000", "695420.sdb", "00:42:26"),
    ("2010-05-30.00:46:02.0000011256.0000000000", "695423.sdb", "00:46:02"),
    ("2010-05-30.00:54:02.0000016781.0000000000", "695424.sdb", "00:54:03"),
    ("2010-05-30.00:58:02.0000018794.0000000000", "695428.sdb", "00:58:04"),
]


def jma(said: str, *, jm: str = JM, time: str = "2010/05/30 00:14:04") -> bytes:
    return f"JMA {time} GATEKEEPER_JM_ID {jm} {said}\n".encode()


FOR = jma(f"for {INCA} on 163.1.124.1")
MAPPED = jma("mapped to shiv (5236, 1008)")
HAS = jma("has GRAM_SCRIPT_JOB_ID 695392.sdb manager type pbs")


def test_ngs_sample() -> None:
    parsed = parse(PARSER, sample(NGS), LONDON)
    assert parsed.units == 144
    assert parsed.skipped == {gram.EXITING: 36}
    assert Counter(parsed.parts["kind"].to_pylist()) == {"user": 36, "account": 36, "job": 12, "fork": 24}
    found = identities(parts_of(PARSER, sample(NGS), LONDON))
    told = [(r["global_job_id"], r["lrms_job_id"], r["recorded_at"]) for r in found]
    assert told == [(jm, job, utc(f"2010-05-29 23:{time[3:]}")) for jm, job, time in PBS_JOBS]
    assert [r["join_id"] for r in found] == [job.removesuffix(".sdb") for _, job, _ in PBS_JOBS]
    assert {(r["dn"], r["local_user"], r["lrms"], r["time_kind"], r["site"], r["cluster"]) for r in found} == {
        (INCA, "shiv", "PBS", "submit", "SITE", "main")
    }
    assert {(r.get("ce_id"), r["fqan"], r["vo"], r["array_index"]) for r in found} == {(None, None, None, None)}
    assert found[0]["native"] == sample(NGS).splitlines()[18]
    assert found[0]["record_key"] == f"gram:main:{JM}:job:{utc('2010-05-29 23:14:04')}:695392.sdb"
    user = parsed.parts.to_pylist()[0]
    assert (user["kind"], user["part_key"]) == ("user", "2010-05-30.00:00:08.0000018423.0000000000")
    assert user["usage"] == f'{{"dn": "{INCA}", "peer": "163.1.124.1"}}'


def test_a_condor_job_in_syslog() -> None:
    (found,) = identities(parts_of(PARSER, sample("gridinfo-syslog.osg-2006.log")))
    assert found["dn"] == "/DC=gov/DC=fnal/O=Fermilab/OU=People/CN=Charles C. Polly/UID=polly"
    assert (found["lrms_job_id"], found["join_id"], found["lrms"], found["local_user"]) == (
        "507209",
        "507209",
        "HTCondor",
        "minboone",
    )
    assert found["global_job_id"] == "2006-08-20.14:37:43.0000010457.0000000000"
    assert found["recorded_at"] == utc("2006-08-20 14:37:48")


def test_without_a_user_the_job_is_held() -> None:
    parts = parts_of(PARSER, sample("gram-accounting.nersc-sge-2008.log"))
    assert [(p["kind"], p["lrms"]) for p in parts] == [("account", "unknown"), ("job", "SGE")]
    assert identities(parts) == []
    user = jma("for /CN=A on 1.2.3.4", jm="2008-10-24.11:33:45.0000019999.0000000000", time="2008/10/24 11:33:47")
    (found,) = identities([*parts, *parts_of(PARSER, user)])
    assert (found["lrms_job_id"], found["join_id"], found["local_user"], found["dn"]) == ("9636173", "9636173", "jmatykie", "/CN=A")


def test_a_gatekeeper_log_without_batch_jobs() -> None:
    parsed = parse(PARSER, sample("globus-gatekeeper.osg-2009.log"))
    parts = parts_of(PARSER, sample("globus-gatekeeper.osg-2009.log"))
    assert [(p["kind"], p["part_key"], p["logged_at"]) for p in parts] == [
        ("connection", "2009-07-29.00:14:01.0000007531.0000000000", utc("2009-07-29 00:14:01")),
        ("connection", "2009-07-29.00:14:01.0000007614.0000000000", utc("2009-07-29 00:14:01")),
    ]
    assert parts[1]["usage"] == '{"dn": "/DC=org/DC=doegrids/OU=Services/CN=rsv/grolsch.lbl.gov", "peer": "131.243.2.182"}'
    assert identities(parts) == []
    assert set(parsed.skipped) == {gram.TIME, gram.NOTICE, gram.FAILURE}
    assert parsed.skipped[gram.FAILURE] == 2


def test_failures_of_a_gatekeeper_tell_of_nobody() -> None:
    parsed = parse(PARSER, sample("globus-gatekeeper.failures.log"))
    assert (parsed.parts.num_rows, parsed.records.num_rows, parsed.rejects) == (0, 0, ())
    assert parsed.skipped[gram.FAILURE] == 9
    assert set(parsed.skipped) == {gram.TIME, gram.NOTICE, gram.FAILURE, gram.TEXT}


@pytest.mark.parametrize("name", ["gridftp-auth.osg-2009.log", "gram5-user-job-manager.log"])
def test_logs_of_other_daemons_are_skipped(name: str) -> None:
    parsed = parse(PARSER, sample(name))
    assert set(parsed.skipped) == {gram.TEXT}
    assert (parsed.parts.num_rows, parsed.rejects) == (0, ())
    assert not PARSER.recognises(sample(name))


def test_the_gatekeeper_serves_where_the_job_manager_does_not_name_the_user() -> None:
    told = f" PID: 24252 -- Notice: 0: GATEKEEPER_JM_ID {JM} for /CN=Gate on 163.1.124.1\n".encode()
    (found,) = identities(parts_of(PARSER, b"TIME: Sun May 30 00:14:02 2010\n" + told + MAPPED + HAS))
    assert (found["dn"], found["local_user"], found["lrms_job_id"]) == ("/CN=Gate", "shiv", "695392.sdb")
    (found,) = identities(parts_of(PARSER, told + FOR + MAPPED + HAS))
    assert found["dn"] == INCA


@pytest.mark.parametrize(
    "head", ["", "Notice: 0: ", " PID: 1 -- Notice: 0: ", "PID: 1 -- Notice: 0: ", "Dec  2 10:12:43 h gatekeeper[7]: "]
)
def test_heads_of_the_gatekeeper(head: str) -> None:
    (part,) = parts_of(PARSER, f"{head}GATEKEEPER_JM_ID {JM} for /CN=A on ::1".encode())
    assert (part["kind"], part["part_key"], part["logged_at"]) == ("connection", JM, utc("2010-05-30 00:14:02"))


@pytest.mark.parametrize("head", ["Aug 20 14:37:48 h gridinfo[1]: ", "2010-05-30T00:14:04.123456+01:00 h jma: "])
def test_heads_of_syslog(head: str) -> None:
    data = head.encode() + HAS
    assert PARSER.recognises(data)
    assert parts_of(PARSER, data)[0]["record_key"] == parts_of(PARSER, HAS)[0]["record_key"]
    forged = b"Aug 20 14:37:48 h sshd[1]: Invalid user : " + HAS
    assert parse(PARSER, forged).skipped == {gram.TEXT: 1}


def test_one_job_manager_of_gram5_serves_many_jobs() -> None:
    jobs = [jma(f"has GRAM_SCRIPT_JOB_ID {n}.sdb manager type pbs", time=f"2010/05/30 0{n}:00:00") for n in range(1, 5)]
    found = identities(parts_of(PARSER, FOR + MAPPED + b"".join(jobs)))
    assert [(r["join_id"], r["dn"]) for r in found] == [(str(n), INCA) for n in range(1, 5)]
    assert [r["recorded_at"] for r in found] == [utc(f"2010-05-30 0{n}:00:00") for n in range(1, 5)]


def test_a_line_repeated_by_a_restarted_job_manager() -> None:
    later = HAS.replace(b"00:14:04", b"09:00:00")
    found = identities(parts_of(PARSER, FOR + MAPPED + HAS + HAS + later))
    assert [(r["join_id"], r["recorded_at"]) for r in found] == [
        ("695392", utc("2010-05-30 00:14:04")),
        ("695392", utc("2010-05-30 09:00:00")),
    ]


def test_the_order_of_arrival_changes_nothing() -> None:
    parts = parts_of(PARSER, FOR + MAPPED + HAS + HAS.replace(b"695392", b"7") + FOR.replace(b"00:14:04", b"00:14:09"))
    made = {str(identities(order)) for order in itertools.permutations(parts)}
    assert len(made) == 1


@pytest.mark.parametrize(
    ("raw", "manager", "expected"),
    [
        ("695392.sdb", "pbs", ("695392.sdb", "695392", None, "PBS")),
        ("12[3].sdb", "lcgpbs", ("12[3].sdb", "12", 3, "PBS")),
        ("9636173|/u/a b/stdout|/u/stderr", "sge", ("9636173", "9636173", None, "SGE")),
        ("507209", "condor", ("507209", "507209", None, "HTCondor")),
        ("007.000.000,007.001.000", "condor", ("007.000.000,007.001.000", "7", None, "HTCondor")),
        ("4530990", "lcglsf", ("4530990", "4530990", None, "LSF")),
        ("77", "slurm", ("77", "77", None, "Slurm")),
        ("node.12.0", "loadleveler", ("node.12.0", "node.12.0", None, "unknown")),
    ],
)
def test_batch_ids(raw: str, manager: str, expected: tuple[object, ...]) -> None:
    (found,) = identities(parts_of(PARSER, FOR + jma(f"has GRAM_SCRIPT_JOB_ID {raw} manager type {manager}")))
    assert (found["lrms_job_id"], found["join_id"], found["array_index"], found["lrms"]) == expected


def test_without_a_jm_id_nothing_is_guessed() -> None:
    data = FOR + MAPPED + HAS + HAS.replace(b"695392", b"7")
    parsed = parse(PARSER, data.replace(JM.encode(), b"none"))
    assert parsed.skipped == {gram.NO_JM_ID: 2}
    parts = parts_of(PARSER, data.replace(JM.encode(), b"none"))
    assert len({p["part_key"] for p in parts}) == 2
    assert identities([*parts, *parts_of(PARSER, FOR)]) == []


def test_an_unknown_user_is_no_user() -> None:
    assert parse(PARSER, jma("for unknown on unknown") + HAS).skipped == {gram.NO_USER: 1}
    assert identities(parts_of(PARSER, jma("for unknown on unknown") + HAS)) == []


def test_a_name_may_hold_what_separates() -> None:
    data = jma("for /O=G/CN=man on duty on 1.2.3.4/CN=proxy on 10.0.0.1") + HAS
    assert identities(parts_of(PARSER, data))[0]["dn"] == "/O=G/CN=man on duty on 1.2.3.4"
    assert identities(parts_of(PARSER, jma("for /CN=\u00e9 on 10.0.0.1") + HAS))[0]["dn"] == "/CN=\u00e9"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (jma("exit codes follow"), gram.UNKNOWN_VERB),
        (jma("summary:"), gram.SUMMARY),
        (b"JMA -- end of summary\n", gram.SUMMARY),
        (b"Job <1>, User <a>, Status <DONE>\n", gram.TEXT),
        (b" PID: 1 -- Failure: ping successful\n", gram.FAILURE),
        (b"Failure: ping successful\n", gram.FAILURE),
        (b"JMAX\n", gram.TEXT),
    ],
)
def test_skips(data: bytes, reason: str) -> None:
    assert parse(PARSER, data).skipped == {reason: 1}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"JMA \n", "without time and GATEKEEPER_JM_ID"),
        (b"JMA 2010/05/30 00:14:04 GATEKEEPER\n", "without time and GATEKEEPER_JM_ID"),
        (jma("JM exiting", jm="2010-05-30"), "GATEKEEPER_JM_ID is not"),
        (jma("JM exiting", time="2010/02/30 00:00:00"), "does not exist"),
        (jma("JM exiting", time="1969/12/30 00:00:00"), "not between 1970 and 2099"),
        (jma("JM exiting", time="2100/12/30 00:00:00"), "not between 1970 and 2099"),
        (jma("JM exi"), "is cut before"),
        (jma(""), "is cut before"),
        (jma("has GRAM_SCRIPT_JOB_ID 695392"), "manager type is missing"),
        (jma("has GRAM_SCRIPT_JOB_ID 695392.sdb manager type"), "manager type is missing"),
        (jma("has GRAM_SCRIPT_JOB_ID  manager type pbs"), "batch job id is missing"),
        (jma("has GRAM_SCRIPT_JOB_ID |a|b manager type pbs"), "batch job id is missing"),
        (jma("has GRAM_SCRIPT_JOB_ID 1 2 manager type pbs"), "holds a blank"),
        (jma(f"has GRAM_SCRIPT_JOB_ID {'9' * 256} manager type pbs"), "longer than 255"),
        (jma("mapped to shiv (5236, "), "not followed by account"),
        (jma("mapped to shiv (-1, 10)"), "not followed by account"),
        (jma("for /CN=a"), "address of the peer is missing"),
        (jma("for /CN=a on duty"), "address of the peer is missing"),
        (jma("for CN=a on 1.2.3.4"), "DN does not begin with"),
        (f"GATEKEEPER_JM_ID {JM} fo".encode(), "without its user"),
        (b" PID: 1 -- Notice: 0: GATEKEEPER_JM_ID 2010 for /CN=a on 1.2.3.4", "GATEKEEPER_JM_ID is not"),
        (f"GATEKEEPER_JM_ID {JM.replace('-05-', '-15-')} for /CN=a on 1.2.3.4".encode(), "does not exist"),
    ],
)
def test_rejects(data: bytes, expected: str) -> None:
    (reason,) = reasons(PARSER, data)
    assert expected in reason
    around = parse(PARSER, HAS + data.rstrip(b"\n") + b"\n" + FOR)
    assert (around.parts.num_rows, len(around.rejects)) == (2, 1)


def test_the_clock_is_that_of_the_host() -> None:
    """In the hour that comes twice the first one; a time that is left out in spring moves on."""
    (part,) = parts_of(PARSER, jma("has GRAM_SCRIPT_JOB_ID 1 manager type pbs", time="2010/10/31 01:30:00"), LONDON)
    assert part["logged_at"] == utc("2010-10-31 00:30:00")
    (part,) = parts_of(PARSER, jma("has GRAM_SCRIPT_JOB_ID 1 manager type pbs", time="2010/03/28 01:30:00"), LONDON)
    assert part["logged_at"] == utc("2010-03-28 01:30:00")


def test_the_cluster_is_that_of_the_source() -> None:
    parsed = parse(PARSER, HAS, Source("gram", cluster=None))
    assert ["no cluster is configured" in reject.reason for reject in parsed.rejects] == [True]


ALL = b"".join(
    sample(n) for n in (NGS, "gridinfo-syslog.osg-2006.log", "globus-gatekeeper.osg-2009.log", "globus-gatekeeper.failures.log")
)
FEW = (
    b"".join(ALL.splitlines(keepends=True)[12:28])
    + sample("gridinfo-syslog.osg-2006.log")
    + sample("globus-gatekeeper.failures.log")
)


@FUZZED
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=20))
def test_any_chunking_gives_the_same(sizes: list[int]) -> None:
    assert in_pieces(PARSER, ALL, sizes) == in_one_piece()


@functools.cache
def in_one_piece() -> object:
    return in_pieces(PARSER, ALL, [len(ALL)])


def test_the_fast_lane_is_taken() -> None:
    assert PARSER.fast_lane is not None
    data = sample(NGS)
    for block in (data, data.rstrip(b"\n"), data.replace(b"\n", b"\r\n"), data + b"\n \n"):
        regular = PARSER.fast_lane(Block(block, 7), LONDON, "gram/1")
        assert (regular.left, regular.parts.num_rows) == ([], 108)
        assert regular.parts["source_offset"][0].as_py() == 7


PIECES = (
    *(b"", b"\n", b"\r\n", b"\0", b"\xff", b" ", b" on ", b"|", b"JMA ", b"none", b"unknown", b" manager type fork", b"2010/02/30"),
    *(
        b"GATEKEEPER_JM_ID ",
        b"for ",
        b"has GRAM_SCRIPT_JOB_ID ",
        b"[3]",
        b"007.000.000,",
        b"Failure: ",
        b"TIME: ",
        b"\xc3\xa9",
        b'"\\',
    ),
)


@FUZZED
@given(
    st.lists(st.tuples(st.integers(0, len(FEW)), st.integers(0, 40), st.sampled_from(PIECES) | st.binary(max_size=4)), max_size=8),
    st.sampled_from([SOURCE, LONDON]),
)
def test_mutated_lines(edits: list[tuple[int, int, bytes]], source: Source) -> None:
    """Any bytes: both lanes agree, every unit is somewhere, and what is made of the parts fits the store."""
    data = FEW
    for at, length, piece in edits:
        data = data[:at] + piece + data[at + length :]
    parsed = parse(PARSER, data, source)
    lines = [line for line in data.split(b"\n") if line.strip()]
    assert parsed.units == len(lines)
    assert all(part["native"] in lines or part["native"] + b"\r" in lines for part in parsed.parts.to_pylist())


@pytest.mark.parametrize("unit", [b"JMA " * 500_000, HAS.rstrip() * 20_000, b"\0" * 2_000_000, FOR[:80] + b" on " * 500_000])
def test_a_long_line_costs_what_it_is_long(unit: bytes) -> None:
    parsed = parse(PARSER, FOR + unit + b"\n" + HAS)
    assert parsed.parts.num_rows == 2
    assert len(parsed.rejects) + sum(parsed.skipped.values()) == 1


@pytest.mark.parametrize(
    "name", [NGS, "globus-gatekeeper.osg-2009.log", "globus-gatekeeper.failures.log", "gridinfo-syslog.osg-2006.log"]
)
def test_recognised(name: str) -> None:
    assert PARSER.recognises(sample(name))
    assert not PARSER.recognises(b"Aug 20 14:37:48 h sshd[1]: JMA\n")
