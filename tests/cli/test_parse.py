"""`batchacct parse`: every input, every output, every way it can fail."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest
import zstandard

from tests.cli.runner import batchacct
from tests.cli.site import blah, lsf

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}
PROGRAM = str(Path(sys.executable).with_name("batchacct"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "lsb.acct"
    path.write_bytes(lsf(1) + lsf(2, user="Jörg".encode()))
    return path


def _jsonl(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_jsonl(log: Path) -> None:
    done = batchacct("parse", log, "--site", "S", "--cluster", "c")
    assert (done.status, done.err) == (0, "2 records, 0 parts, 0 skipped, 0 rejected\n")
    first, second = _jsonl(done.output)
    assert (first["lrms_job_id"], first["site"], first["cluster"], first["cpu_duration_s"]) == ("1", "S", "c", 600)
    assert (first["end_at"], first["wall_duration_s"]) == ("2026-10-29T12:00:00Z", 3600)
    assert (second["user_name"], second["source_offset"]) == ("Jörg", len(lsf(1)))
    assert first["native"].encode() + b"\n" == lsf(1)
    assert "array_index" not in first


def test_the_three_outputs_say_the_same(log: Path, tmp_path: Path) -> None:
    for output in ("csv", "jsonl", "parquet"):
        assert batchacct("parse", log, "--output", output, "--to", tmp_path / output).status == 0
        assert batchacct("parse", log, "--output", output).output == (tmp_path / output).read_bytes()
    rows = _jsonl((tmp_path / "jsonl").read_bytes())
    table = pq.read_table(tmp_path / "parquet")
    with (tmp_path / "csv").open(newline="") as file:
        from_csv = list(csv.DictReader(file))
    assert len(rows) == len(from_csv) == table.num_rows == 2
    for row, cells, values in zip(rows, from_csv, table.to_pylist(), strict=True):
        assert set(cells) == set(values)
        for name, value in values.items():
            told = row.get(name)
            if name.endswith("_at"):
                shown = value.strftime("%Y-%m-%dT%H:%M:%SZ") if value else None
                assert told == shown
            else:
                assert told == (value.decode() if isinstance(value, bytes) else value)
            if told is None:
                assert cells[name] == ""
            elif not isinstance(told, list):
                assert cells[name] == str(told) or float(cells[name]) == told


def test_a_raw_line_that_is_no_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "lsb.acct").write_bytes(lsf(1, user=b"J\xf6rg"))
    (row,) = _jsonl(batchacct("parse", tmp_path / "lsb.acct").output)
    assert row["native"].startswith("base64:")
    assert "rg" in row["user_name"]


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_compressed_file_and_standard_input(log: Path, tmp_path: Path, kind: str) -> None:
    packed = COMPRESSIONS[kind](log.read_bytes())
    path = tmp_path / f"old.{kind}"
    path.write_bytes(packed)
    plain = _without_source(batchacct("parse", log).output)
    assert _without_source(batchacct("parse", path).output) == plain
    assert _without_source(batchacct("parse", "-", stdin=packed).output) == plain
    assert _without_source(batchacct("parse", "--parser", "lsf", "-", stdin=packed).output) == plain


def _without_source(output: bytes) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "source"} for row in _jsonl(output)]


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_a_compressed_file_that_is_cut_short(log: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"lsb.acct.{kind}"
    path.write_bytes(COMPRESSIONS[kind](log.read_bytes() * 50)[:-30])
    done = batchacct("parse", "--parser", "lsf", path)
    assert done.status == 10
    assert f"{path} cannot be read to its end" in done.err


def test_standard_input_plain(log: Path) -> None:
    assert [r["source"] for r in _jsonl(batchacct("parse", "-", stdin=log.read_bytes()).output)] == ["-", "-"]


def test_several_files_and_patterns_oldest_first(tmp_path: Path) -> None:
    for name, job in (("lsb.acct", 3), ("lsb.acct.1", 2), ("lsb.acct.2.gz", 1)):
        content = lsf(job)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    done = batchacct("parse", f"{tmp_path}/lsb.acct*", tmp_path / "lsb.acct")
    assert [r["lrms_job_id"] for r in _jsonl(done.output)] == ["1", "2", "3"]


def test_guessing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(blah(7))
    (row,) = _jsonl(batchacct("parse", tmp_path / "a").output)
    assert (row["lrms_job_id"], row["dn"]) == ("7", "/DC=ch/DC=cern/CN=Ada Lovelace")
    (tmp_path / "b").write_bytes(b"neither\n")
    done = batchacct("parse", tmp_path / "b")
    assert done.status == 11
    assert "no parser recognises it; say which with --parser (apel-identities, " in done.err


def test_a_parser_that_is_not_there(log: Path) -> None:
    done = batchacct("parse", "--parser", "lfs", log)
    assert (done.status, done.err) == (11, "batchacct: parser 'lfs' is not installed; did you mean lsf?\n")


def test_mixed_record_types_are_not_mixed(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "zz"
    other.write_bytes(blah(7))
    done = batchacct("parse", log, other)
    assert done.status == 13
    assert len(_jsonl(done.output)) == 2
    assert f"{other} holds identity records, the files before it others: parse them apart" in done.err


def test_one_bad_file_among_good_ones(log: Path, tmp_path: Path) -> None:
    done = batchacct("parse", log, tmp_path / "none", tmp_path)
    assert done.status == 13
    assert len(_jsonl(done.output)) == 2
    assert f"{tmp_path}/none does not exist" in done.err
    assert f"{tmp_path} is a folder: name the files in it" in done.err
    assert "2 of 3 files could not be parsed, see above; the others were" in done.err


def test_files_that_cannot_be_parsed_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for name, status, told in (
        ("none", 10, "does not exist: check the path"),
        (".", 10, "is a folder"),
        ("empty", 3, "is empty: nothing to guess the parser from, say which with --parser"),
        ("no*match", 3, "no file matches"),
    ):
        done = batchacct("parse", f"{tmp_path}/{name}")
        assert (done.status, done.output) == (status, b""), done
        assert told in done.err


def test_an_empty_file_with_a_parser_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    done = batchacct("parse", "--parser", "lsf", "--output", "parquet", "--to", tmp_path / "p", tmp_path / "empty")
    assert done.status == 0
    assert pq.read_table(tmp_path / "p").num_rows == 0


def test_a_reject_is_told_with_file_and_offset(tmp_path: Path) -> None:
    path = tmp_path / "lsb.acct"
    path.write_bytes(lsf(1) + b'"JOB_FINISH" "10.1" 12\n' + lsf(2))
    done = batchacct("parse", path)
    assert done.status == 13
    assert [r["lrms_job_id"] for r in _jsonl(done.output)] == ["1", "2"]
    assert f"{path}:{len(lsf(1))}: rejected: " in done.err
    assert "1 unit was rejected, see above; every other one was parsed" in done.err


def test_output_that_cannot_be_written(log: Path, tmp_path: Path) -> None:
    before = log.read_bytes()
    done = batchacct("parse", log, "--to", tmp_path / "none/x")
    assert (done.status, done.err) == (3, f"batchacct: --to {tmp_path}/none/x cannot be written: No such file or directory\n")
    assert batchacct("parse", log, "--to", tmp_path).status == 3
    done = batchacct("parse", log, "--to", log)
    assert (done.status, log.read_bytes()) == (3, before)
    assert "would be overwritten" in done.err


@pytest.mark.parametrize("output", ["csv", "jsonl", "parquet"])
def test_a_full_disk(log: Path, output: str) -> None:
    done = batchacct("parse", log, "--output", output, "--to", "/dev/full")
    assert done.status == 13
    assert "/dev/full cannot be written: No space left on device; its content is not complete" in done.err


def test_parquet_to_a_terminal(log: Path) -> None:
    with mock.patch("tests.cli.runner.Stream.isatty", lambda stream: True):
        done = batchacct("parse", log, "--output", "parquet")
    assert (done.status, done.output) == (3, b"")
    assert "parquet is no text: name a file with --to" in done.err


def test_a_file_whose_name_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / b"l\xff".decode("utf-8", "surrogateescape")
    path.write_bytes(lsf(1) + b"bad\n")
    done = batchacct("parse", "--parser", "lsf", path)
    assert done.status == 13
    assert _jsonl(done.output)[0]["source"].endswith("l\\xff")


def test_a_pipe_whose_reader_leaves_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "lsb.acct").write_bytes(b"".join(lsf(n) for n in range(1, 2001)))
    command = f"{PROGRAM} parse {tmp_path}/lsb.acct | head -c 10; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("141\n")
    assert done.stderr == ""


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("parser", ["lsf", "blah"])
def test_fuzz(tmp_path: Path, parser: str, seed: int) -> None:
    """Whatever the bytes, every unit is accounted for, and good neighbours are there."""
    path = tmp_path / "f"
    path.write_bytes(noise(random.Random(seed), lsf(1) if parser == "lsf" else blah(1)))
    done = batchacct("parse", "--parser", parser, path)
    records, _, _, rejected = (int(part.split()[0]) for part in done.err.splitlines()[-2 if done.status else -1].split(", "))
    assert done.status == (13 if rejected else 0)
    assert len(_jsonl(done.output)) == records
    assert "Traceback" not in done.err


def noise(chance: random.Random, good: bytes) -> bytes:
    """Good lines, lines with bytes changed, cut or doubled, and plain rubbish."""
    lines = []
    for _ in range(40):
        line = bytearray(good)
        for _ in range(chance.choice([0, 1, 1, 5])):
            at = chance.randrange(len(line) - 1)
            line[at : at + chance.randrange(3)] = chance.choice([b"", b'"', b"\\", b"\0", b" ", b"-", b"\xff", b"9" * 30, b'""'])
        lines.append(bytes(line) if chance.random() < 0.8 else chance.randbytes(200))
    return b"".join(lines)
