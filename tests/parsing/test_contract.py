"""The parser contract: one bad unit costs only itself, origins are right, results come in order."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchacct.errors import ConfigError
from batchacct.model import JOB, Record, content_hash
from batchacct.parsing import Block, Completion, Outcome, Parsed, Part, Reject, Skip, Source, unit_parser
from batchacct.parsing.contract import REJECT_BYTES_KEPT, RejectedUnit, in_order, merge_by_offset, printable

SOURCE = Source("farm", site="SITE", cluster="c1", ce_clusters=(("ce01.*", "c1"), ("ce02.*", "c2")))


def reject(reason: str) -> None:
    raise Reject(reason)


NOTHING: dict[str, Any] = {}
WRONG_WORDS: dict[str, Callable[[str], object]] = {
    "bad": lambda word: reject("not a word"),
    "key": lambda word: NOTHING[word],
    "index": lambda word: word.split()[1],
    "number": int,
    "zero": lambda word: 1 // len(NOTHING),
    "none": lambda word: NOTHING.get(word).upper(),  # type: ignore[union-attr]
    "next": lambda word: next(iter(NOTHING)),
    "late": lambda word: dt.datetime.fromtimestamp(10**17, dt.UTC),
    "deep": lambda word: json.loads("[" * 100_000),
}


@unit_parser("words", "job", lrms="Test", version=3, completion=Completion("words", JOB, lambda whole: []))
def words(unit: bytes, source: Source) -> Outcome:
    """A word a line; some do what a careless parser does."""
    word = unit.decode("ascii")
    if word in WRONG_WORDS:
        WRONG_WORDS[word](word)
    if word == "comment":
        return Skip("comment")
    if word == "step":
        return Part({"record_key": word, "part_key": "p", "kind": "step", "logged_at": 5})
    record: Record = {"record_key": word, "lrms_job_id": word, "join_id": word, "logged_at": 5, "state": "completed"}
    misfits: dict[str, Record] = {
        "misfit": {"processors": "many"},
        "unknown": {"colour": "red"},
        "lacking": {"state": None},
        "huge": {"user_id": 1 << 63},
        "surrogate": {"queue": "\ud800"},
        "naive": {"end_at": dt.datetime(2026, 1, 1)},  # noqa: DTZ001
    }
    return record | misfits.get(word, {})


WRONG = ("bad", "key", "index", "number", "zero", "none", "next", "late", "deep", "\x80",
         "misfit", "unknown", "lacking", "huge", "surrogate", "naive")  # fmt: skip


def parse(*blocks: Block, workers: int = 1) -> list[Parsed]:
    return list(words.parse(blocks, SOURCE, workers=workers))


def one_block(*units: str) -> Block:
    return Block("\n".join(units).encode("latin-1") + b"\n", 1000)


def test_what_the_contract_fills_in() -> None:
    (done,) = parse(one_block("alpha", "", "step"))
    (record,), (part,) = done.records.to_pylist(), done.parts.to_pylist()
    wanted = {"site": "SITE", "cluster": "c1", "lrms": "Test", "source": "farm", "parser": "words/3"}
    assert {name: record[name] for name in wanted} == {name: part[name] for name in wanted} == wanted
    assert (part["family"], part["record_type"]) == ("words", "job")
    assert (record["source_offset"], record["native"], record["content_hash"]) == (1000, b"alpha", content_hash(b"alpha"))
    assert (part["source_offset"], part["native"], part["content_hash"]) == (1007, b"step", content_hash(b"step"))
    assert (done.start_offset, done.end_offset, done.units) == (1000, 1012, 2)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("word", WRONG)
def test_a_unit_the_parser_fails_on_costs_only_itself(word: str, workers: int) -> None:
    first, second = parse(one_block("alpha", word, "beta", "comment"), Block(b"gamma\n", 2000), workers=workers)
    assert first.records.column("record_key").to_pylist() == ["alpha", "beta"]
    (rejected,) = first.rejects
    assert (rejected.offset, rejected.length, rejected.unit) == (1006, len(word), word.encode("latin-1"))
    assert rejected.reason
    assert dict(first.skipped) == {"comment": 1}
    assert first.units == 4
    assert second.records.column("record_key").to_pylist() == ["gamma"]


def test_the_reason_is_the_parsers_own_or_says_what_was_not_foreseen() -> None:
    (done,) = parse(one_block("bad", "key", "misfit", "lacking"))
    reasons = [r.reason for r in done.rejects]
    assert reasons[0] == "not a word"
    assert reasons[1] == "the parser does not foresee this unit (KeyError: 'key')"
    assert reasons[2].startswith("column processors of a job record takes int64")
    assert reasons[3].startswith("a job record needs a value for state")


@given(st.lists(st.sampled_from([*WRONG, "comment", "step", "w1", "w2", "w3"]), max_size=12))
def test_every_unit_becomes_one_thing_and_rejects_are_in_order(units: list[str]) -> None:
    (done,) = parse(one_block(*units))
    assert done.units == len(units)
    assert [r.unit.decode("latin-1") for r in done.rejects] == [u for u in units if u in WRONG]


def test_an_error_that_is_none_of_a_unit_ends_the_parsing() -> None:
    @unit_parser("broken", "job", lrms="Test")
    def broken(unit: bytes, source: Source) -> Outcome:
        raise MemoryError

    for workers in (1, 2):
        with pytest.raises(MemoryError):
            list(broken.parse([one_block("a")], SOURCE, workers=workers))


def test_of_a_long_unit_a_reject_keeps_the_beginning() -> None:
    (done,) = parse(Block(b"\x80" * 100_000 + b"\nalpha\n", 7))
    assert done.rejects[0].length == 100_000
    assert done.rejects[0].unit == b"\x80" * REJECT_BYTES_KEPT


def test_a_unit_too_long_to_be_read_is_a_reject() -> None:
    (done,) = parse(Block(b"x" * 500, 70, dropped=20_000_000))
    assert done.rejects == (RejectedUnit(70, 20_000_500, b"x" * 500, "a unit of 20000500 bytes is longer than is read"),)
    assert (done.units, done.end_offset) == (1, 20_000_570)


def test_the_decorator_makes_a_parser_of_a_function() -> None:
    assert (words.name, words.label, words.record_type.name, words.lrms) == ("words", "words/3", "job", "Test")
    assert words.doc == "A word a line; some do what a careless parser does."
    assert not words.recognises(b"alpha\n")
    with pytest.raises(ConfigError, match="record type 'part' is none of job, identity, process, object, process_group"):
        unit_parser("x", "part", lrms="Test")(words.parse_unit)


def test_the_cluster_behind_a_computing_element() -> None:
    assert [SOURCE.cluster_of_ce(ce) for ce in ("ce01.example.org", "ce02.example.org", "ce03.example.org", None)] == [
        "c1", "c2", "c1", "c1",
    ]  # fmt: skip
    with pytest.raises(Reject, match="no cluster is configured for CE ce03"):
        Source("farm", cluster=None).cluster_of_ce("ce03.example.org")


def test_merging_puts_records_in_the_order_of_their_units() -> None:
    (even,), (odd,) = parse(one_block("a", "comment", "c")), parse(Block(b"b\n", 1002))
    merged = merge_by_offset(even.records, odd.records)
    assert merged.column("source_offset").to_pylist() == [1000, 1002, 1010]
    assert merged.column("record_key").to_pylist() == ["a", "b", "c"]
    assert merge_by_offset(even.records, odd.records.slice(0, 0)) is even.records
    assert merge_by_offset(odd.records.slice(0, 0), even.records) is even.records


# --- in threads ---------------------------------------------------------------------------------------------------------


def test_results_of_threads_come_in_the_order_of_their_blocks() -> None:
    """The first block is done only after the second: its result comes first all the same."""
    second_done = threading.Event()

    def parse_block(block: Block) -> Parsed:
        if block.offset == 0:
            assert second_done.wait(30)
        if block.offset == 1:
            second_done.set()
        return words.parse_block(block, SOURCE)

    done = list(in_order(parse_block, [Block(b"w%d\n" % n, n) for n in range(20)], 2))
    assert [p.start_offset for p in done] == list(range(20))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("error", [ValueError("block 3"), StopIteration("block 3")])
def test_an_error_in_a_block_is_raised_after_the_results_before_it(workers: int, error: Exception) -> None:
    def parse_block(block: Block) -> Parsed:
        if block.offset == 3:
            raise error
        return words.parse_block(block, SOURCE)

    done = []
    with pytest.raises((ValueError, RuntimeError)) as caught:
        for parsed in in_order(parse_block, (Block(b"w\n", n) for n in range(9)), workers):
            done.append(parsed.start_offset)  # noqa: PERF401 - those before the error are what this is about
    assert "block 3" in str(caught.value) + str(caught.value.__cause__)
    assert done == [0, 1, 2]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_reading_is_raised(workers: int) -> None:
    def blocks() -> Iterator[Block]:
        yield Block(b"w\n", 0)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(words.parse(blocks(), SOURCE, workers=workers))


def test_no_more_blocks_are_read_ahead_than_there_are_threads() -> None:
    read = []

    def blocks() -> Iterator[Block]:
        for n in range(100):
            read.append(n)
            yield Block(b"w\n", n)

    first = next(results := in_order(lambda block: words.parse_block(block, SOURCE), blocks(), 2))
    assert first.start_offset == 0
    assert len(read) <= 3
    assert isinstance(results, Iterator)


def test_what_is_shown_of_a_unit() -> None:
    assert printable(b"a\tb\xff\0") == "a\\x09b\\xff\\x00"
    assert printable(b"x" * 500, 10) == "xxxxxxxxxx..."
