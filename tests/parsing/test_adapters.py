"""A generator of dictionaries as a parser: each line is accounted for, whatever the generator does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchacct.errors import ConfigError, PluginError
from batchacct.parsing import Block, Parsed, Reject, Source, registry
from batchacct.parsing.adapters import NO_RECORD, generator_parser

SOURCE = Source("farm", "SITE", "c1")


def ours(lines: Iterator[str]) -> Iterator[dict[str, object]]:
    """Our batch system: `id end cpu`."""
    for line in lines:
        if line.startswith("#"):
            continue
        if line == "stop":
            return
        if line == "odd":
            raise Reject("an odd line")
        if line == "twice":
            yield {"lrms_job_id": "1", "logged_at": 1}
        if line in ("list", "twice"):
            yield ["no", "dictionary"]  # type: ignore[misc]
            continue
        number, end, cpu = line.split()
        yield {"lrms_job_id": number, "end_at": int(end), "logged_at": int(end), "cpu_duration_s": int(cpu)}


PARSER = generator_parser("ours", ours)


def parse(*lines: str, offset: int = 1000) -> Parsed:
    (done,) = PARSER.parse([Block("".join(f"{line}\n" for line in lines).encode(), offset)], SOURCE)
    return done


def test_a_record_bears_the_origin_of_its_line() -> None:
    done = parse("# id end cpu", "7 100 5", "8 101 x", "9 102 6")
    first, second = done.records.to_pylist()
    wanted = {"record_key": "ours:c1:7:::100", "join_id": "7", "cluster": "c1", "site": "SITE", "source": "farm",
              "state": "unknown", "source_offset": 1013, "native": b"7 100 5", "parser": "ours/1", "cpu_duration_s": 5}  # fmt: skip
    assert {name: first[name] for name in wanted} == wanted
    assert second["lrms_job_id"] == "9"
    assert [(r.offset, r.unit) for r in done.rejects] == [(1021, b"8 101 x")]
    assert done.rejects[0].reason.startswith("the parser does not foresee this line (ValueError")
    assert (dict(done.skipped), done.units) == ({NO_RECORD: 1}, 4)


def test_wrong_yields_are_rejects() -> None:
    done = parse("list", "odd", "twice", "7 100 5")
    assert [r.reason for r in done.rejects] == [
        "the parser yields a list, and not a dictionary of column name to value",
        "an odd line",
        "the parser yields a list, and not a dictionary of column name to value",
    ]
    assert done.records.num_rows == 1


def test_a_generator_that_yields_before_it_takes_a_line() -> None:
    def early(lines: Iterator[str]) -> Iterator[dict[str, object]]:
        yield {"lrms_job_id": "1", "logged_at": 1}

    with pytest.raises(ConfigError, match="yields a record before it has taken a line"):
        list(generator_parser("early", early).parse([Block(b"x\n", 0)], SOURCE))


@given(st.lists(st.sampled_from(["7 100 5", "8 101 x", "# c", "stop", "odd", "list", "twice", ""]), max_size=12))
def test_every_line_is_accounted_for(lines: list[str]) -> None:
    done = parse(*lines)
    assert done.units == sum(bool(line) for line in lines)
    assert done.records.num_rows == lines.count("7 100 5")


def test_named_in_the_configuration() -> None:
    found = registry.parser("tests.parsing.test_adapters:ours")
    assert (found.name, found.record_type.name) == ("ours", "job")
    with pytest.raises(PluginError, match=r"tests\.nosuch:ours.*is broken: ModuleNotFoundError"):
        registry.parser("tests.nosuch:ours")
    with pytest.raises(PluginError, match="neither a UnitParser nor a generator"):
        registry.parser("tests.parsing.test_adapters:SOURCE")


def test_another_record_type() -> None:
    def people(lines: Iterator[str]) -> Iterator[dict[str, object]]:
        for line in lines:
            yield {"lrms_job_id": line, "recorded_at": 5, "dn": "/CN=x"}

    people.record_type = "identity"  # type: ignore[attr-defined]
    (done,) = generator_parser("people", people).parse([Block(b"7\n", 0)], SOURCE)
    assert done.records.to_pylist()[0]["time_kind"] == "submit"
    people.record_type = "person"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="neither job nor identity"):
        generator_parser("people", people)


def test_a_line_too_long_to_be_taken_is_a_reject() -> None:
    (done,) = PARSER.parse([Block(b"7 100 5" * 10, 0, dropped=10**8)], SOURCE)
    assert (done.records.num_rows, len(done.rejects)) == (0, 1)


def test_a_generator_that_yields_for_ever_or_no_column_names() -> None:
    def endless(lines: Iterator[str]) -> Iterator[dict[object, object]]:
        for line in lines:
            while True:
                yield {2: line}

    parser = generator_parser("endless", endless)  # type: ignore[arg-type]
    (done,) = parser.parse([Block(b"a\nb\n", 0)], SOURCE)
    assert [reject.reason for reject in done.rejects] == ["the parser yields two records of one line"] * 2
