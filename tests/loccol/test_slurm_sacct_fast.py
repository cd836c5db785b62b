"""The sacct parser's fast lane against its careful lane: the same records, parts, rejects and skips, of any bytes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from collections import Counter
from functools import partial
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batchacct.parsing import Block, Parsed, Source
from loccol.slurm_sacct import PARSER
from loccol.slurm_sacct_fast import fast_lane
from loccol.slurm_sacct_layout import RECOMMENDED, header_of
from tests.loccol.sacct_samples import NAMES, sample

SOURCE = Source("sacct", site="SITE", cluster="main", zone=ZoneInfo("Europe/Zurich"))
CAREFUL = dataclasses.replace(PARSER, fast_lane=None)
EXAMPLES = int(os.environ.get("BATCHACCT_FUZZ", "70"))

LAYOUTS = {
    "apel": "",
    "xdmod": "",
    "recommended": "",
    "header": RECOMMENDED.replace(",", "|"),
    "short": "JobID|Start|End|Elapsed|State|AllocGRES|ReqTRES|ReqMem|ReqNodes|NodeList|TotalCPU|UserCPU|SystemCPU|MaxRSS|",
    "raw last": "State;Restarts;Group;User;Partition;TRESUsageInMax;MaxRSS;MaxVMSize;Start;End;ElapsedRaw;JobID;JobIDRaw",
}
"""Header lines; of known lists none."""
FIELDS = {
    "apel": "JobID JobName User Group Start End Elapsed TotalCPU Partition NCPUS NNodes NodeList MaxRSS MaxVMSize State",
    "xdmod": "JobID JobIDRaw Cluster Partition QOS Account Group GID User UID Submit Eligible Start End Elapsed ExitCode State"
    " NNodes NCPUS ReqCPUS ReqMem ReqTRES AllocTRES Timelimit NodeList JobName",
    "recommended": RECOMMENDED.replace(",", " "),
}


def same(data: bytes, offset: int = 0) -> Parsed:
    """What both lanes make of a block, held equal."""
    both = PARSER.parse_block(Block(data, offset), SOURCE)
    careful = CAREFUL.parse_block(Block(data, offset), SOURCE)
    assert both.records.to_pylist() == careful.records.to_pylist()
    assert both.parts.to_pylist() == careful.parts.to_pylist()
    assert both.rejects == careful.rejects
    assert Counter(both.skipped) == Counter(careful.skipped)
    assert both.units == careful.units
    return both


@pytest.mark.parametrize("name", NAMES)
def test_lanes_agree_on_samples(name: str) -> None:
    data = sample(name)
    same(data, 10**12)
    same(data.rstrip(b"\n"))
    same(data + data)
    same(data.replace(b"\n", b"\r\n"))
    same(data.replace(b"\n", b"\n\n"))
    if b";" not in data:
        same(data.replace(b"|", b";"))


GENUINE = [sample(name) for name in NAMES if len(sample(name)) < 20_000]
PIECES = (
    *(b"|", b"||", b"\n", b"\n\n", b"\r\n", b"\0", b"\xc3", b"\xc3\xa9", b" ", b".batch", b".0", b".extern", b"_7", b"+1"),
    *(b"Unknown", b"None", b"None assigned", b"2025-10-26T02:30:00", b"2025-03-30T02:30:00", b"2024-02-30T00:00:00"),
    *(
        b"1700000000",
        b"000000000",
        b"0",
        b"-1",
        b"00:00:00",
        b"1-00:00:00",
        b"2-00:00:00",
        b"59:59.999",
        b"16?",
        b"1.5G",
        b"512K",
        b"20H",
    ),
    *(b"RUNNING", b"CANCELLED by 1", b"FOO", b"cpu=4,mem=8G,node=1", b"gres/gpu:a100=2", b"a[1-3]", b"a[", b"[1-3]"),
    *(b"JobID|State|Start|End|Elapsed\n", b"4294967294", b"3000Mc"),
)
EDITS = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.integers(0, 40), st.sampled_from(PIECES) | st.binary(max_size=4)), max_size=8
)


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(GENUINE), EDITS, st.integers(0, 10**12))
def test_lanes_agree_on_mutated_samples(data: bytes, edits: list[tuple[int, int, bytes]], offset: int) -> None:
    for at, length, piece in edits:
        start = at % (len(data) + 1)
        data = data[:start] + piece + data[start + length :]
    same(data, offset)


def generated(random: Random, layout: str, jobs: int, *, odd: float = 0.0) -> bytes:
    """Rows of a layout as sacct would write them; with `odd`, that share of values is one of another kind."""
    rows = [LAYOUTS[layout].encode()] if LAYOUTS[layout] else []
    for number in range(jobs):
        rows += _job(random, layout, 1000 + number, odd)
    return b"\n".join(rows) + b"\n"


def _fields(layout: str) -> list[str]:
    return FIELDS[layout].split() if layout in FIELDS else LAYOUTS[layout].replace(";", "|").split("|")


def _job(random: Random, layout: str, number: int, odd: float) -> list[bytes]:
    """The rows of a job and its steps."""
    pick = random.choice
    shown, raw = _ids(random, number)
    cpus, nodes = pick((1, 2, 64)), pick((1, 1, 3))
    start, elapsed = random.randrange(1_500_000_000, 1_800_000_000), pick((0, 1, 59, 3600, 90_000))
    job = {
        "JobID": shown,
        "JobIDRaw": raw,
        "Cluster": "c",
        "User": "alice",
        "UID": "1000",
        "Group": pick(("hep", "4294967294")),
        "GID": "100",
        "Account": "acc",
        "Partition": pick(("long", "short")),
        "QOS": pick(("normal", "")),
        "Submit": _time(random, start - 60),
        "Eligible": pick((_time(random, start - 50), "Unknown")),
        "Start": pick((_time(random, start),) * 8 + ("None", "Unknown", "")),
        "End": _time(random, start + elapsed),
        "Elapsed": _clock(elapsed),
        "ElapsedRaw": str(elapsed),
        "Suspended": "00:00:00",
        "State": pick(("COMPLETED", "COMPLETED", "FAILED", "CANCELLED by 7", "RUNNING")),
        "ExitCode": pick(("0:0", "1:0", "0:9", "-2:0")),
        "NCPUS": str(cpus),
        "NNodes": str(nodes),
        "ReqCPUS": str(cpus),
        "ReqNodes": str(nodes),
        "ReqMem": pick(("3000Mc", "4Gn", "128G", "0n", "")),
        "ReqTRES": f"cpu={cpus},mem=500M",
        "AllocTRES": pick((f"billing=4,cpu={cpus},gres/gpu:a100=2,mem=8G,node={nodes}", f"cpu={cpus},energy=7,mem=1.5G", "")),
        "AllocGRES": pick(("gpu:2", "")),
        "NodeList": pick(("a1", "b[1-3]", 'q"é', "None assigned")),
        "TotalCPU": _cpu(random),
        "UserCPU": _cpu(random),
        "SystemCPU": _cpu(random),
        "Timelimit": "1-00:00:00",
        "MaxRSS": pick(("", "", "100K")),
        "ConsumedEnergyRaw": pick(("0", "54156", "")),
        "Restarts": "1",
        "TRESUsageInTot": pick(("", "cpu=00:25:00,mem=5K")),
        "JobName": pick(("run", "é", "")),
        "SubmitLine": "sbatch x",
    }
    rows = [job]
    for step in pick(([], ["batch"], ["batch", "extern", "0"])):
        rss = pick(("0", "231092K", "1.40G", "438.50M", "1048576", ""))
        used = {"JobID": f"{shown}.{step}", "JobIDRaw": f"{raw}.{step}", "User": "", "Partition": "", "JobName": step, "QOS": ""}
        usage = pick(("cpu=00:00:01,energy=0,fs/disk=2012,mem=6288K,pages=0,vmem=146612K", ""))
        rows.append(job | used | {"MaxRSS": rss, "MaxVMSize": rss, "TRESUsageInTot": usage, "TRESUsageInMax": usage})
    delimiter = ";" if ";" in LAYOUTS[layout] else "|"
    return [delimiter.join(_odd(random, row.get(field, ""), odd) for field in _fields(layout)).encode() for row in rows]


def _ids(random: Random, number: int) -> tuple[str, str]:
    raw = str(number)
    return random.choice(((raw, raw), (f"9_{raw}", raw), (f"{raw}+1", raw), (f"8_{raw}+0", "77")))


def _time(random: Random, seconds: int) -> str:
    return random.choice((str(seconds), f"{dt.datetime.fromtimestamp(seconds, SOURCE.zone):%Y-%m-%dT%H:%M:%S}"))


def _clock(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    return (f"{days}-" if days else "") + f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"


def _cpu(random: Random) -> str:
    return random.choice(("00:00:00", "01:05.753", "00:00.500", "02:14:11", "451-06:00:24", "16:01.272", ""))


def _odd(random: Random, value: str, share: float) -> str:
    return random.choice(PIECES).decode("latin-1") if random.random() < share else value


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.randoms(use_true_random=False), st.sampled_from(sorted(LAYOUTS)), st.integers(0, 12), st.sampled_from([0.0, 0.0, 0.01, 0.1])
)
def test_lanes_agree_on_generated_rows(random: Random, layout: str, jobs: int, odd: float) -> None:
    same(generated(random, layout, jobs, odd=odd))


@example(b"")
@example(b"\n\n\n")
@example(b"|" * 1000)
@settings(deadline=None, max_examples=EXAMPLES)
@given(st.binary(max_size=400))
def test_lanes_agree_on_any_bytes(data: bytes) -> None:
    same(data)
    same(b"JobID|Start|End|Elapsed|State\n1|2020-01-01T00:00:00|2020-01-01T00:00:10|00:00:10|COMPLETED\n" + data)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_fast_lane_is_taken(layout: str) -> None:
    """Most jobs of a list are regular: those not that have no time elapsed, or no CPU time in their own row."""
    data = generated(Random(1), layout, 400)
    header = header_of(data.split(b"\n", 1)[0])
    regular = fast_lane(Block(data, 0), SOURCE, PARSER.label, header)
    assert len(regular.left) < 250
    assert regular.records.num_rows + sum(regular.skipped.values()) > 150


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_fast_lane_takes_jobs_that_never_started(layout: str) -> None:
    random = Random(2)
    rows = [LAYOUTS[layout].encode()] if LAYOUTS[layout] else []
    for number in range(50):
        job = {
            "JobID": str(1000 + number), "JobIDRaw": str(1000 + number), "User": "alice", "Partition": "long", "QOS": "normal",
            "Start": "None", "End": _time(random, 1_700_000_000 + number), "Elapsed": "00:00:00", "ElapsedRaw": "0",
            "State": "CANCELLED by 7", "ExitCode": "0:0", "NCPUS": "4", "NNodes": "0", "NodeList": "None assigned", "ReqMem": "4G",
        }  # fmt: skip
        delimiter = ";" if ";" in LAYOUTS[layout] else "|"
        rows.append(delimiter.join(job.get(field, "") for field in _fields(layout)).encode())
    data = b"\n".join(rows) + b"\n"
    regular = fast_lane(Block(data, 0), SOURCE, PARSER.label, header_of(rows[0]))
    assert regular.records["state"].to_pylist() == ["never_started"] * 50
    same(data)


def test_two_threads_and_blocks_under_headers_of_their_own() -> None:
    stretches = [generated(Random(seed), layout, 50) for seed, layout in enumerate(sorted(LAYOUTS))]
    data = b"".join(stretches)
    whole = same(data)
    blocks, offset = [], 0
    for stretch in stretches:
        blocks.append(Block(stretch, offset))
        offset += len(stretch)
    for workers in (1, 2):
        parsed = list(PARSER.parse(blocks, SOURCE, workers=workers))
        assert [row for one in parsed for row in one.records.to_pylist()] == whole.records.to_pylist()


def test_without_a_cluster_all_is_left() -> None:
    data = sample("xdmod-tests")
    assert len(partial(fast_lane, header=None)(Block(data, 0), Source("x", cluster=None), "slurm/1").left) == 4
