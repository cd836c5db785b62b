"""Documents of JSON cut into the elements of their array: every layout, however the stream is cut, damaged at any place."""

from __future__ import annotations

import io
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchacct.parsing import Reject
from batchacct.parsing.json_framing import Frame, JsonElements, clean, element
from batchacct.parsing.reading import read_blocks

JOBS = JsonElements("jobs", first_key="account")
ARRAY = JsonElements()
FUZZ = int(os.environ.get("BATCHACCT_FUZZ", "100"))

ELEMENTS: list[dict[str, object]] = [
    {"account": "a", "job_id": 1, "association": {"account": "a"}, "steps": [{"time": {"end": [1, [2]]}}, {"time": {}}]},
    {"account": 'quote " { [ ', "job_id": 2, "name": "back\\slash\\", "errors": ["jobs", {"x": "}],"}]},
    {"account": "", "job_id": 3, "name": 'é \\" ,{"account": [1] , \\\\', "working_directory": "/home/u"},
]
META: dict[str, object] = {"meta": {"plugin": {"type": "x"}, "command": ["sacct", "--json"]}}


def document(elements: list[dict[str, object]], *, head: bool = False, indent: int | None = None) -> bytes:
    whole = META | {"jobs": elements, "errors": []} if head else {"jobs": elements, **META, "errors": [{"n": 1}]}
    return json.dumps(whole, indent=indent).encode()


def units(data: bytes, framing: JsonElements = JOBS) -> list[bytes]:
    return [data[start:end] for start, end in framing.spans(data)]


def read_in_pieces(data: bytes, size: int, framing: JsonElements) -> list[tuple[int, bytes]]:
    """(offset, content) of each unit, read `size` bytes at a time."""
    found = []
    for block in read_blocks(io.BytesIO(data), framing, block_bytes=size):
        found += [(block.offset + start, block.data[start:end]) for start, end in framing.spans(block.data)]
    return found


def objects(data: bytes, framing: JsonElements = JOBS) -> list[object]:
    """The elements of `data`; what is damaged is left out."""
    found: list[object] = []
    for unit in units(data, framing):
        try:
            read = element(unit)
        except Reject:
            continue
        if not isinstance(read, Frame):
            found.append(read)
    return found


@pytest.mark.parametrize("indent", [None, 1, 2, 4])
@pytest.mark.parametrize("head", [False, True])
def test_a_document(*, head: bool, indent: int | None) -> None:
    data = document(ELEMENTS, head=head, indent=indent)
    first, *middle, last = [element(unit) for unit in units(data)]
    assert middle == ELEMENTS
    assert isinstance(first, Frame) and isinstance(last, Frame)
    assert first.members == (META if head else {}) | {"jobs": []}
    assert first.skip.reason == "head of a document"
    assert last.members["errors"] == ([] if head else [{"n": 1}])
    assert last.skip.reason == "tail of a document"


@pytest.mark.parametrize("indent", [None, 2])
def test_documents_one_after_the_other(indent: int | None) -> None:
    for between in (b"", b"\n", b" \r\n\r\n", b",\n"):
        data = between.join(document(ELEMENTS, head=head, indent=indent) for head in (False, True, True, False))
        assert objects(data) == ELEMENTS * 4
        assert len(units(data)) == 4 * 5


@pytest.mark.parametrize("framing", [JOBS, ARRAY])
def test_an_array_that_is_the_whole_document(framing: JsonElements) -> None:
    for indent in (None, 2):
        data = json.dumps(ELEMENTS, indent=indent).encode()
        assert objects(data + b"\n" + data + data, framing) == ELEMENTS * 3
        assert objects(data.replace(b"},", b"}\n,\n"), framing) == ELEMENTS


@pytest.mark.parametrize("framing", [JOBS, ARRAY])
def test_json_lines(framing: JsonElements) -> None:
    lines = [json.dumps(e).encode() for e in ELEMENTS]
    for between in (b"\n", b"\r\n", b"\n\n", b" ", b""):
        assert objects(between.join(lines), framing) == ELEMENTS
    assert framing.cut(b"\n".join(lines) + b"\n", final=False) == sum(map(len, lines)) + 3


def test_documents_without_elements() -> None:
    assert [type(element(unit)) for unit in units(b'{"jobs": [], "meta": {}}')] == [Frame, Frame]
    assert [type(element(unit)) for unit in units(b'{"jobs": []}\n')] == [Frame, Frame]
    assert units(b'{"meta": {}, "errors": []}') == [b'{"meta": {}, "errors": []}']
    assert units(b"") == units(b" \n,\n ") == []
    assert units(b"[]", ARRAY) == [b"[", b"]"]


EDITS = st.tuples(
    st.floats(0, 1),
    st.integers(0, 30),
    st.sampled_from([b"", b'"', b"{", b"}", b"]", b"[", b"\\", b"\n", b",", b"\0", b"\xff", b"\n[", b"\n{"])
    | st.sampled_from([b'{"jobs": [', b'{"account":']),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Elements in one of the layouts, twice, with up to four places overwritten."""
    indent = draw(st.sampled_from([None, 2]))
    data = draw(
        st.sampled_from(
            [
                b"\n".join(json.dumps(e).encode() for e in ELEMENTS),
                json.dumps(ELEMENTS, indent=indent).encode(),
                document(ELEMENTS * 2, indent=indent),
                document(ELEMENTS * 2, indent=indent, head=True),
            ]
        )
    )
    data += b"\n" + data
    for place, length, piece in draw(st.lists(EDITS, max_size=4)):
        at = round(place * len(data))
        data = data[:at] + piece + data[at + length :]
    return data


@settings(deadline=None, max_examples=FUZZ)
@given(data=damaged(), size=st.integers(1, 400), region=st.integers(0, 300))
def test_however_a_stream_is_cut_its_units_are_the_same(data: bytes, size: int, region: int) -> None:
    for framing in (JOBS, ARRAY):
        whole = [(start, data[start:end]) for start, end in framing.spans(data)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("batchacct.parsing.json_framing.REGION_BYTES", region)
            assert read_in_pieces(data, size, framing) == whole


def test_nothing_between_the_units_is_lost() -> None:
    for data in (document(ELEMENTS, indent=2), document(ELEMENTS)[:-30] + document(ELEMENTS), b'x "{ [' + document(ELEMENTS)):
        between = data
        for unit in units(data):
            between = between.replace(unit, b"", 1)
        assert not between.strip(b" \t\r\n,")


@pytest.mark.parametrize("indent", [None, 2])
def test_a_document_cut_short_anywhere_costs_no_neighbour(indent: int | None) -> None:
    good = document(ELEMENTS, indent=indent)
    for head in (False, True):
        bad = document(ELEMENTS, head=head, indent=indent)
        for cut in range(len(bad)):
            found = objects(bad[:cut] + b"\n" + good)
            assert found[-3:] == ELEMENTS, cut
            whole = sum(bad[:cut].count(b'"account": ' + json.dumps(e["account"]).encode()) > 0 for e in ELEMENTS)
            assert len(found) >= 3 + whole - 1, cut


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("lost", [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\"])
def test_a_lost_byte_costs_one_element(lost: bytes, indent: int | None) -> None:
    data = document(ELEMENTS * 3, indent=indent)
    begin, end = list(JOBS.spans(data))[4]
    places = [
        at
        for at in range(begin + 1, end)
        if data[at : at + 1] == lost and not data.startswith(b'"account"', at - (lost == b'"') * 8)
    ]
    for at in places:
        damaged = data[:at] + data[at + 1 :]
        assert [e for e in objects(damaged) if e in ELEMENTS][-5:] == (ELEMENTS * 3)[4:], damaged[at - 10 : at + 10]
        assert [e for e in objects(damaged) if e in ELEMENTS][:3] == ELEMENTS


def test_what_stands_before_a_document_is_a_unit_of_its_own() -> None:
    data = (
        b'sacct: error: slurm_persist_conn_open: "x\n'
        + document(ELEMENTS)
        + b"\nsacct: error: [ { \n"
        + document(ELEMENTS, indent=2)
    )
    assert objects(data) == ELEMENTS * 2
    assert objects(b"\xef\xbb\xbf" + document(ELEMENTS)) == ELEMENTS


@pytest.mark.parametrize(
    "piece",
    [b'{"account":"', b'{"a":', b"{", b"[", b"]", b"}", b'"', b"\n", b"\n{", b'{"jobs":[', b"\\", b'\\"', b" ", b",", b"\0", b"],",
     b'"jobs":[', b'"account":'],
)  # fmt: skip
def test_no_repetition_takes_forever(piece: bytes) -> None:
    """Nothing is timed; what were quadratic would take hours."""
    data = piece * (500_000 // len(piece))
    assert JOBS.cut(data, final=False) <= len(data)
    assert sum(end - start for start, end in JOBS.spans(data)) <= len(data)


@pytest.mark.parametrize(
    ("unit", "reason"),
    [
        (b"17", "it is not a JSON object"),
        (b'{"a": 1', "it is not JSON: Expecting ',' delimiter"),
        (b"[1", "it is not JSON"),
        (b"1[", "it is not JSON"),
        (b'{"a": \0}', "it is not JSON: Expecting value"),
        (b'], "meta": {', "it is not JSON"),
        (b"]}]", "it is not JSON"),
        (b'{"a":' * 100_000, "it is not JSON"),
    ],
)
def test_rejects(unit: bytes, reason: str) -> None:
    with pytest.raises(Reject, match=reason):
        element(unit)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b"plain", "plain"), (b"\xc3\xa9", "é"), (b"caf\xe9", "caf\\xe9"), (b"\\ud800", "\\ud800"), (b"a\\u0000b", "a\\x00b")],
)
def test_text_is_made_valid(raw: bytes, expected: str) -> None:
    read = element(b'{"a": "' + raw + b'"}')
    assert isinstance(read, dict)
    assert clean(str(read["a"])) == expected
