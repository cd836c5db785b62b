"""The lines of APEL's HTCondor scripts: every sample's values, columns that are missing, and both lanes against each other.

Where the values differ from those APEL's own tests expect (test_htcondor_parser.py):

| value              | APEL                         | here                         | reason                               |
|--------------------|------------------------------|------------------------------|--------------------------------------|
| wall, cpu of x 1.5 | 28, 39; 430, 178; 6, 0; 3, 0 | 19, 26; 287, 119; 4, 0; 2, 0 | the factor stands apart, host_factor |
| NodeCount          | 0                            | null                         | the line does not tell it            |
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.model import JOB, LAST_INSTANT
from batchacct.parsing import LINES, Block, Parsed, Source
from batchacct.parsing.reading import read_blocks
from cecol.blah import batch_id
from loccol.htcondor_apel import PARSER

SAMPLES = Path(__file__).parent.parent / "samples"
APEL, FACTOR = SAMPLES / "htcondor" / "apel-tests.htcondor", SAMPLES / "htcondor" / "apel-tests-cputmult.htcondor"
RAL, GRIDKA = SAMPLES / "htcondor-ce" / "batch-apel-ral", SAMPLES / "htcondor-ce" / "batch-gridka-2021"
SOURCE = Source("apel", site="SITE", cluster="pool")
CAREFUL = dataclasses.replace(PARSER, fast_lane=None)
FUZZ = int(os.environ.get("BATCHACCT_FUZZ", "100"))
LINE = b"arcce.rl.ac.uk#2376.0#71589|tatls011|287|107|11|1435671643|1435671930|26636|26832|1"

Row = dict[str, object]


def parse(data: bytes, offset: int = 0) -> Parsed:
    """One block through both lanes, once more through the careful one alone: they agree."""
    parsed = PARSER.parse_block(Block(data, offset), SOURCE)
    careful = CAREFUL.parse_block(Block(data, offset), SOURCE)
    assert parsed.records.to_pylist() == careful.records.to_pylist()
    assert parsed.records.schema.equals(JOB.schema, check_metadata=True)
    assert (parsed.rejects, parsed.skipped) == (careful.rejects, careful.skipped)
    assert parsed.units == len(list(LINES.spans(data)))
    return parsed


def rows(data: bytes) -> list[Row]:
    parsed = parse(data)
    assert not parsed.rejects
    found: list[Row] = parsed.records.to_pylist()
    return found


def reason(data: bytes) -> str:
    parsed = parse(data)
    assert not parsed.records.num_rows
    (reject,) = parsed.rejects
    return reject.reason


def utc(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def shown(row: Row) -> tuple[object, ...]:
    times = (row["start_at"], row["end_at"])
    start, end = (int(time.timestamp()) if isinstance(time, dt.datetime) else None for time in times)
    amounts = (row["wall_duration_s"], row["cpu_duration_s"], start, end, row["memory_real_kib"], row["memory_virtual_kib"])
    return (row["lrms_job_id"], row["user_name"], *amounts, row["processors"], row["host_factor"])


def test_apel_tests() -> None:
    assert [shown(row) for row in rows(APEL.read_bytes())] == [
        ("1234567", "opssgm", 19, 26, 1412688273, 1412708199, 712944, 2075028, 1, None),
        ("arcce.rl.ac.uk#2376.0#1589", "tatls011", 287, 118, 1435671643, 1435671930, 26636, 26832, 1, 1.0),
        ("arcce.rl.ac.uk#2486.0#1888", "t2k016", 4, 0, 1435671919, 1435671922, 0, 11, 1, 1.0),
        ("arcce.rl.ac.uk#2478.0#1874", "snoplus014", 2, 0, 1435671918, 1435671920, 0, 11, 1, 1.0),
        ("arcce.rl.ac.uk#2376.0#71589", "tatls011", 287, 118, 1435671643, 1435671930, 26636, 26832, 1, None),
    ]


def test_apel_tests_with_a_factor() -> None:
    found = rows(FACTOR.read_bytes())
    assert [shown(row) for row in found] == [
        ("1234567", "opsgm", 19, 26, 1412688273, 1412708199, 712944, 2075028, 1, 1.5),
        ("ce.ac.uk#7", "l011", 287, 119, 1435671643, 1435671930, 6636, 6832, 1, 1.5),
        ("ce.ac.uk#2486.0", "t2k016", 4, 0, 1435671919, 1435671922, 0, 11, 1, 1.5),
        ("ce.ac.uk#278.0", "snoplus014", 2, 0, 1435671918, 1435671920, 0, 11, 1, 1.5),
    ]
    apels = [(28, 39), (430, 178), (6, 0), (3, 0)]
    times = [(int(1.5 * int(str(r["wall_duration_s"]))), int(1.5 * int(str(r["cpu_duration_s"])))) for r in found]
    assert times == apels


def test_the_files_of_htcondor_ce() -> None:
    (ral,) = rows(RAL.read_bytes())
    assert shown(ral) == ("arcce.rl.ac.uk#2376.0#71589", "tatls011", 287, 118, 1435671643, 1435671930, 26636, 26832, 1, 1.0)
    found = rows(GRIDKA.read_bytes())
    assert [row["wall_duration_s"] for row in found] == [47738, 23975, 22693, 20630]
    assert [row["processors"] for row in found] == [1, 8, 8, 8]
    assert [row["cpu_duration_s"] for row in found] == [43132, 183513, 179460, 165000]
    assert [row["host_factor"] for row in found] == [1.069035087719298, 0.9114035087719299, 0.9151754385964912, 0.9151754385964912]
    assert found[0]["record_key"] == "htcondor:pool:3099992.0_htcondor-ce-1-kit.gridka.de:1612071724:1612119462"
    for row in (ral, *found):
        assert row["join_id"] == row["lrms_job_id"] == batch_id(str(row["lrms_job_id"])).join_id, "the blah file spells it so"


def test_a_whole_record() -> None:
    (row,) = rows(LINE + b"|1.5|\n")
    assert {name: value for name, value in row.items() if value is not None} == {
        "record_key": "htcondor:pool:arcce.rl.ac.uk#2376.0#71589",
        "content_hash": row["content_hash"],
        "site": "SITE",
        "cluster": "pool",
        "lrms": "HTCondor",
        "lrms_job_id": "arcce.rl.ac.uk#2376.0#71589",
        "join_id": "arcce.rl.ac.uk#2376.0#71589",
        "user_name": "tatls011",
        "submit_host": "arcce.rl.ac.uk",
        "start_at": utc(1435671643),
        "end_at": utc(1435671930),
        "logged_at": utc(1435671930),
        "wall_duration_s": 287,
        "cpu_user_s": 107.0,
        "cpu_system_s": 11.0,
        "cpu_duration_s": 118,
        "processors": 1,
        "memory_real_kib": 26636,
        "memory_virtual_kib": 26832,
        "state": "unknown",
        "host_factor": 1.5,
        "native": LINE + b"|1.5|",
        "source": "apel",
        "source_offset": 0,
        "parser": "htcondor-apel/1",
    }


@pytest.mark.parametrize("end", [b"", b"|", b"|1.5", b"|1.5|", b"||"])
def test_each_end_of_a_line(end: bytes) -> None:
    (row,) = rows(LINE + end)
    assert row["host_factor"] == (1.5 if b"1.5" in end else None)


def test_numbers_with_fractions_and_a_job_that_never_started() -> None:
    (row,) = rows(b"a#1.0#1|u|1.5|2.25|0.25|1435671643|1435671930|1|2|1|2e0|\n")
    assert (row["wall_duration_s"], row["cpu_user_s"], row["cpu_system_s"], row["cpu_duration_s"]) == (2, 2.25, 0.25, 2)
    assert row["host_factor"] == 2.0
    (row,) = rows(b"a#1.0#1||0|0|0|0|1435671930|0|0|1|1|\n")
    assert (row["state"], row["start_at"], row["user_name"]) == ("never_started", None, None)
    assert (row["wall_duration_s"], row["cpu_duration_s"], row["processors"]) == (None, None, None)


def test_a_docker_jobs_image_in_mib_is_no_shift() -> None:
    (row,) = rows(b"a#1.0#1|u|10|2|1|1435671643|1435671930|819200|800|8|\n")
    assert (row["memory_real_kib"], row["memory_virtual_kib"], row["processors"]) == (819200, 800, 8)


@pytest.mark.parametrize("end", [b"1|1.069035087719298|", b"8|1.069035087719298|", b"8|1|", b"8|1.0|", b"8|", b"8|1", b"8|1.069"])
@pytest.mark.parametrize("missing", range(10))
def test_a_column_that_is_missing_is_a_reject(end: bytes, missing: int) -> None:
    """But for one that leaves no trace: before a factor of just `1`, a missing RequestCpus reads as one processor."""
    whole = b"a.org#12.0#1435671600|alice|47738|42537|595|1612071724|1612119462|2046508|6599748|" + end
    fields = whole.split(b"|")
    data = b"|".join(fields[:missing] + fields[missing + 1 :])
    if missing == 9 and end in (b"8|1|", b"8|1"):
        (row,) = rows(data)
        assert (row["processors"], row["host_factor"]) == (1, None)
        return
    assert reason(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"x", "10 or 11 columns are due"),
        (LINE + b"|1|2|", "10 or 11 columns are due"),
        (LINE + b"|1||", "10 or 11 columns are due"),
        (LINE[:-1], "10 or 11 columns are due"),
        (LINE.replace(b"|287", b""), "10 or 11 columns are due"),
        (b"|" + LINE.partition(b"|")[2], "10 or 11 columns are due"),
        (LINE + b"|x|", "the eleventh column is no factor"),
        (LINE + b"|0|", "the eleventh column is no factor"),
        (LINE + b"|-1|", "the eleventh column is no factor"),
        (LINE.replace(b"287", b"-287"), "RemoteWallClockTime is no number"),
        (LINE.replace(b"287", b"2000000000"), "RemoteWallClockTime is impossible"),
        (LINE.replace(b"|11|", b"|undefined|"), "RemoteSysCpu is no number"),
        (LINE.replace(b"1435671643", b"1435671943"), "ended before it started"),
        (LINE.replace(b"1435671930", b"1"), "ended before it started"),
        (LINE.replace(b"1435671930", b"0").replace(b"1435671643", b"0"), "EnteredCurrentStatus is 0"),
        (LINE.replace(b"1435671930", str(LAST_INSTANT + 1).encode()), "EnteredCurrentStatus is impossible"),
        (LINE.replace(b"26636", b"1.5"), "ResidentSetSize_RAW is no whole number"),
        (LINE.replace(b"26636", b"9" * 20), "ResidentSetSize_RAW is impossible"),
        (LINE[:-1] + b"0", "RequestCpus is 0"),
        (LINE.replace(b"26832", b"8"), "ImageSize_RAW is no size of an image"),
        (b"\0" * 20, "10 or 11 columns are due"),
    ],
)
def test_rejects(data: bytes, expected: str) -> None:
    assert expected in reason(data)
    around = parse(LINE + b"\n" + data + b"\n" + LINE)
    assert (around.records.num_rows, len(around.rejects)) == (2, 1)


def test_recognised() -> None:
    ours = {APEL, FACTOR, RAL, GRIDKA}
    for path in SAMPLES.rglob("*"):
        if path.is_file():
            assert PARSER.recognises(path.read_bytes()[:16384]) == (path in ours), path


def test_the_fast_lane_is_taken() -> None:
    assert PARSER.fast_lane is not None
    for path in (APEL, FACTOR, RAL, GRIDKA):
        data = path.read_bytes()
        for block in (data, data.rstrip(b"\n"), data.replace(b"\n", b"\r\n")):
            assert not PARSER.fast_lane(Block(block, 0), SOURCE, "x/1").left


GENUINE = b"".join(path.read_bytes() for path in (APEL, FACTOR, RAL, GRIDKA))
PIECES = (
    *(b"|", b"||", b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"\0", b"\xc3", b"\xc3\xa9", b"#", b"@", b"-", b".", b"", b"0", b"00"),
    *(b"1e5", b"0.5", b"1.", b"|1|", b"4102444799", b"4102444800", b"9999999999", b"99999999999999999999", b"|1435671643|"),
)


@settings(deadline=None, max_examples=FUZZ)
@given(
    st.lists(
        st.tuples(st.integers(0, len(GENUINE)), st.integers(0, 12), st.sampled_from(PIECES) | st.binary(max_size=3)), max_size=8
    ),
    st.integers(0, 10**12),
)
def test_lanes_agree_on_mutated_blocks(edits: list[tuple[int, int, bytes]], offset: int) -> None:
    data = GENUINE
    for at, length, piece in edits:
        data = data[:at] + piece + data[at + length :]
    parsed = parse(data, offset)
    assert not any("does not foresee" in reject.reason for reject in parsed.rejects)


NUMBERS = st.integers(0, 10**11).map(str) | st.sampled_from(["", "0", "00", "1.5", "1", "x", "8", "1435671643", "1435671930"])


@settings(deadline=None, max_examples=FUZZ)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a#1.0#2", "a@b#1.0#2", "7", "1.0_h", "#", "@#x", "a#b@c#d", "é"]),
            st.sampled_from(["u", "", "ü", "a b"]),
            st.lists(NUMBERS, min_size=8, max_size=8),
            st.sampled_from(["", "|", "|1", "|1|", "|0.5|", "|01|", "|1e1|", "||", "|1|1", "|0|"]),
        ),
        max_size=5,
    )
)
def test_lanes_agree_on_made_lines(lines: list[tuple[str, str, list[str], str]]) -> None:
    parse("\n".join("|".join([job_id, owner, *numbers]) + end for job_id, owner, numbers, end in lines).encode())


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 400))
def test_the_same_records_however_it_is_cut(size: int) -> None:
    records: list[Row] = []
    rejects: Counter[str] = Counter()
    data = GENUINE.replace(b"|595|", b"||")
    for block in read_blocks(io.BytesIO(data), PARSER.framing, block_bytes=size):
        parsed = PARSER.parse_block(block, SOURCE)
        records += parsed.records.to_pylist()
        rejects.update(reject.reason for reject in parsed.rejects)
    whole = parse(data)
    assert records == whole.records.to_pylist()
    assert rejects == Counter(reject.reason for reject in whole.rejects)
