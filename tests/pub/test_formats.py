"""Formats: what they write, what they refuse, and that the receiver takes all of what they write."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchacct.errors import ConfigError
from pub.formats.apel import APEL_02, APEL_03, APEL_04
from pub.formats.batchacct2012 import BATCHACCT_2012, Batchacct2012
from pub.formats.contract import USAGE_RECORD, Format, Rendered
from tests.apel_reader import LAYOUT_2012, ORDER, Job, read_as_documented, read_message

SAMPLES = Path(__file__).parents[1] / "samples" / "apel"
NOW = 1_800_000_000
FORMATS: list[Format] = [APEL_02, APEL_03, APEL_04, BATCHACCT_2012]

GRID_JOB: dict[str, object] = {
    "job_id": 7,
    "site": "EXAMPLE-SITE",
    "submit_host": "ce01.example.org:8443/cream-lsf-grid_atlas",
    "machine_name": "lsf-master.example.org",
    "queue": "grid_atlas",
    "local_job_id": "4242-1",
    "array_index": 1,
    "local_user_id": "atlas042",
    "global_user_name": "/DC=org/DC=example/CN=Test User",
    "fqan": "/atlas/Role=pilot/Capability=NULL;/atlas/Role=NULL/Capability=NULL",
    "vo": "atlas",
    "vo_group": "/atlas",
    "vo_role": "Role=pilot",
    "wall_duration_s": 3600,
    "cpu_duration_s": 3500,
    "processors": 1,
    "node_count": 1,
    "start_at": 1_700_000_000,
    "end_at": 1_700_003_600,
    "infrastructure_description": "BATCHACCT-CREAM-LSF",
    "infrastructure_type": "grid",
    "memory_real_kib": 1_048_576,
    "memory_virtual_kib": 2_097_152,
    "service_level_type": "hepscore23",
    "service_level": 12.5,
}

GRID_TEXT = """\
Site: EXAMPLE-SITE
SubmitHost: ce01.example.org:8443/cream-lsf-grid_atlas
MachineName: lsf-master.example.org
Queue: grid_atlas
LocalJobId: 4242-1
LocalUserId: atlas042
GlobalUserName: /DC=org/DC=example/CN=Test User
FQAN: /atlas/Role=pilot/Capability=NULL;/atlas/Role=NULL/Capability=NULL
VO: atlas
VOGroup: /atlas
VORole: Role=pilot
WallDuration: 3600
CpuDuration: 3500
Processors: 1
NodeCount: 1
StartTime: 1700000000
EndTime: 1700003600
InfrastructureDescription: BATCHACCT-CREAM-LSF
InfrastructureType: grid
MemoryReal: 1048576
MemoryVirtual: 2097152
ServiceLevelType: HEPscore23
ServiceLevel: 12.5
%%
"""

DN_255 = "/CN=" + "x" * 251
FQAN_255 = "/" + "v" * 254


def ordinary(by: Format) -> dict[str, object]:
    """The job, with a benchmark that the format knows."""
    return GRID_JOB | ({"service_level_type": "Si2k"} if by is APEL_02 else {})


def render(*changes: dict[str, object], by: Format = APEL_03) -> Rendered:
    return by.render(USAGE_RECORD.batch([GRID_JOB | change for change in changes]), NOW)


def only(rendered: Rendered) -> str:
    assert rendered.reasons.to_pylist() == [None]
    (text,) = rendered.records.to_pylist()
    assert isinstance(text, str)
    return text


def accepted(rendered: Rendered) -> list[str]:
    return [text for text in rendered.records.to_pylist() if text is not None]


def read(by: Format, records: list[str]) -> list[Job]:
    payload = by.message(pa.array(records, pa.string()))
    payload.decode("ascii")
    if by is BATCHACCT_2012 or not records:
        return read_message(payload, LAYOUT_2012, NOW)
    return read_as_documented(payload, NOW)


def test_writes_all_fields_in_order() -> None:
    rendered = render({})
    assert only(rendered) == GRID_TEXT
    assert rendered.left_out == {}
    assert (
        APEL_03.message(pa.array([GRID_TEXT, GRID_TEXT])) == f"APEL-individual-job-message: v0.3\n{GRID_TEXT}{GRID_TEXT}".encode()
    )


def test_v04_writes_the_benchmark_as_a_dictionary() -> None:
    assert only(render({}, by=APEL_04)) == GRID_TEXT.replace(
        "ServiceLevelType: HEPscore23\nServiceLevel: 12.5\n", "ServiceLevel: {hepscore23: 12.5}\n"
    )
    assert APEL_04.message(pa.array([GRID_TEXT])).startswith(b"APEL-individual-job-message: v0.4\nSite: ")


def test_v02_has_fewer_fields_and_benchmarks() -> None:
    text = only(render({"service_level_type": "si2k"}, by=APEL_02))
    kept = [line for line in GRID_TEXT.splitlines() if line.partition(":")[0] in ORDER[APEL_02.header] or line == "%%"]
    assert text.splitlines() == ["ServiceLevelType: Si2k" if line.startswith("ServiceLevelType") else line for line in kept]
    assert render({}, by=APEL_02).reasons.to_pylist() == ["ServiceLevelType is none of Si2k, HEPSPEC"]


def test_v02_equals_the_sample_of_the_documentation() -> None:
    job = {
        "site": "ExampleSite", "submit_host": "host.domain:port/queue", "local_job_id": "11111111", "local_user_id": "User1",
        "global_user_name": "/C=whatever/D=someDN", "fqan": "/voname/Role=NULL/Capability=NULL", "wall_duration_s": 234_256,
        "cpu_duration_s": 2345, "processors": 2, "node_count": 2, "start_at": 1_234_567_890, "end_at": 1_234_567_899,
        "memory_real_kib": 1000, "memory_virtual_kib": 2000, "service_level_type": "Si2k", "service_level": 1000.0,
    }  # fmt: skip
    text = only(render(job, by=APEL_02))
    assert APEL_02.message(pa.array([text])).split() == (SAMPLES / "egi-doc-job-v0.2.txt").read_bytes().split()


def test_equals_the_sample_of_a_grid_job() -> None:
    text = only(render(dict.fromkeys(("vo", "vo_group", "vo_role"))))
    assert APEL_03.message(pa.array([text])) == (SAMPLES / "job-v0.3-grid.txt").read_bytes()


def test_2012_layout_equals_its_sample() -> None:
    grid = {
        "site": "CERN-PROD",
        "submit_host": "ce103.example.org:8443/cream-lsf-grid_atlas",
        "local_job_id": "175281234-0",
        "start_at": 1_326_000_000,
        "end_at": 1_326_003_600,
        "memory_real_kib": 310_424,
        "memory_virtual_kib": 339_112,
        "service_level_type": "Si2k",
        "service_level": 2500.0,
    }
    local = grid | {
        "submit_host": "cluster-example",
        "local_job_id": "175281235-3",
        "fqan": "/local-atlas",
        "wall_duration_s": 60,
        "cpu_duration_s": 12,
        "end_at": 1_326_000_060,
        "memory_real_kib": 2048,
        "memory_virtual_kib": 4096,
        "infrastructure_type": "local",
    }
    records = accepted(render(grid, local, by=BATCHACCT_2012))
    assert BATCHACCT_2012.message(pa.array(records)) == (SAMPLES / "batchacct-2012-v1.1.txt").read_bytes()


def test_2012_layout_writes_the_selected_fields() -> None:
    selected = "ServiceLevel ServiceLevelType EndTime StartTime CpuDuration WallDuration LocalJobId LocalUserId Site"
    rendered = render({"fqan": None, "vo": None}, by=Batchacct2012(tuple(selected.split())))
    labels = [line.partition(":")[0] for line in only(rendered).splitlines()]
    in_order = "Site LocalJobId WallDuration CpuDuration StartTime EndTime ServiceLevelType ServiceLevel %%"
    assert labels == in_order.split()


@pytest.mark.parametrize("fields", [("Site", "Color"), ("Site", "LocalJobId")])
def test_2012_layout_refuses_other_selections(fields: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        Batchacct2012(fields)


@pytest.mark.parametrize("by", [APEL_02, BATCHACCT_2012], ids=lambda by: by.name)
@pytest.mark.parametrize("vo", ["ngs.ac.uk", "local-x_1"])
def test_a_layout_without_vo_says_it_by_the_fqan_of_its_members(by: Format, vo: str) -> None:
    benchmark: dict[str, object] = {"service_level_type": "Si2k"}
    text = only(render(benchmark | {"fqan": None, "vo": vo, "vo_group": None, "vo_role": None}, by=by))
    assert f"\nFQAN: /{vo}\n" in text
    kept = only(render(benchmark | {"vo": vo}, by=by))
    assert f"FQAN: {GRID_JOB['fqan']}\n" in kept


@pytest.mark.parametrize("vo", ["a/b", "a b", "/a", "", "a;b"])
def test_2012_layout_makes_no_fqan_of_what_is_no_vo(vo: str) -> None:
    rendered = render({"fqan": None, "vo": vo}, by=BATCHACCT_2012)
    assert rendered.reasons.to_pylist() == ["neither FQAN nor VO can be written"]


@pytest.mark.parametrize("by", FORMATS, ids=lambda by: by.name)
def test_an_absent_field_has_no_line(by: Format) -> None:
    required = {"job_id", "site", "local_job_id", "wall_duration_s", "cpu_duration_s", "start_at", "end_at",
                "service_level_type", "service_level", "fqan"}  # fmt: skip
    job = ordinary(by)
    batch = USAGE_RECORD.batch([job, {k: v for k, v in job.items() if k in required}])
    full, short = accepted(by.render(batch, NOW))
    assert "None" not in full + short
    assert set(short.splitlines()) < set(full.splitlines())
    assert [line.partition(":")[0] for line in short.splitlines()][:3] == ["Site", "LocalJobId", "FQAN"]
    assert len(read(by, [short, full])) == 2


def test_a_slice_is_rendered_as_the_rows_it_holds() -> None:
    batch = USAGE_RECORD.batch([GRID_JOB | {"local_job_id": f"é{n}", "queue": f"q{n} " if n % 2 else None} for n in range(9)])
    whole = APEL_03.render(batch, NOW).records.to_pylist()
    assert APEL_03.render(batch.slice(3, 0), NOW).records.to_pylist() == []
    assert APEL_03.render(batch.slice(3, 4), NOW).records.to_pylist() == whole[3:7]
    assert "\nQueue: q3\n" in str(whole[3])


REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"site": None}, "Site is missing"),
    ({"local_job_id": ""}, "LocalJobId is missing"),
    ({"site": "NoNe"}, "Site is `none` or `null`"),
    ({"local_job_id": "null"}, "LocalJobId is `none` or `null`"),
    ({"local_job_id": "x" * 256}, "LocalJobId is longer than 255"),
    ({"local_job_id": "é" * 32}, "LocalJobId is longer than 255"),
    ({"local_job_id": " 1"}, "LocalJobId begins or ends with a blank"),
    ({"site": "A "}, "Site begins or ends with a blank"),
    ({"wall_duration_s": None}, "WallDuration is missing"),
    ({"cpu_duration_s": -1}, "CpuDuration is negative or over"),
    ({"wall_duration_s": 2**31}, "WallDuration is negative or over"),
    ({"processors": -1}, "Processors is negative or over"),
    ({"node_count": 2**63 - 1}, "NodeCount is negative or over"),
    ({"start_at": None}, "StartTime is missing"),
    ({"end_at": None}, "EndTime is missing"),
    ({"start_at": 0}, "StartTime is not after 1970"),
    ({"start_at": 1_700_003_601}, "StartTime is after EndTime"),
    ({"end_at": NOW + 172_801}, "EndTime is more than 2 days ahead"),
    ({"service_level_type": None}, "ServiceLevelType is missing"),
    ({"service_level_type": "HEPSPEC06"}, "ServiceLevelType is none of"),
    ({"service_level": None}, "ServiceLevel is missing"),
    ({"service_level": 0.0}, "ServiceLevel is not a number from"),
    ({"service_level": 0.0004}, "ServiceLevel is not a number from"),
    ({"service_level": -1.0}, "ServiceLevel is not a number from"),
    ({"service_level": float("nan")}, "ServiceLevel is not a number from"),
    ({"service_level": float("inf")}, "ServiceLevel is not a number from"),
    ({"service_level": 9_999_999.9995}, "ServiceLevel is not a number from"),
    ({"fqan": None, "vo": None}, "neither FQAN nor VO can be written"),
    ({"fqan": "atlas", "vo": None}, "neither FQAN nor VO can be written"),
]


@pytest.mark.parametrize(("change", "start"), REFUSALS)
@pytest.mark.parametrize("by", [APEL_02, APEL_03, APEL_04], ids=lambda by: by.name)
def test_refuses_one_record_alone(by: Format, change: dict[str, object], start: str) -> None:
    rendered = by.render(USAGE_RECORD.batch([ordinary(by) | one for one in ({}, change, {"queue": None})]), NOW)
    before, reason, after = rendered.reasons.to_pylist()
    assert (before, after) == (None, None)
    assert reason is not None
    assert reason.startswith(start)
    assert rendered.records.is_valid().to_pylist() == [True, False, True]


LEFT_OUT: list[tuple[dict[str, object], str]] = [
    ({"queue": "q" * 101}, "Queue: longer than 100 characters"),
    ({"queue": "%%" * 21}, "Queue: longer than 100 characters"),
    ({"queue": "NULL"}, "Queue: `none` or `null`"),
    ({"queue": " none "}, "Queue: `none` or `null`"),
    ({"local_user_id": ""}, "LocalUserId: empty"),
    ({"local_user_id": "   "}, "LocalUserId: empty"),
    ({"global_user_name": DN_255 + "x"}, "GlobalUserName: longer than 255"),
    ({"infrastructure_type": "x" * 21}, "InfrastructureType: longer than 20"),
    ({"infrastructure_description": "x" * 101}, "InfrastructureDescription: longer than 100"),
    ({"memory_real_kib": 2**31}, "MemoryReal: negative or over"),
    ({"memory_virtual_kib": -1}, "MemoryVirtual: negative or over"),
    ({"memory_virtual_kib": None}, "MemoryVirtual: not known"),
    ({"fqan": "none"}, "FQAN: does not begin with `/`"),
    ({"fqan": FQAN_255 + "v;/b"}, "FQAN: longer than 255 characters"),
]


@pytest.mark.parametrize(("change", "start"), LEFT_OUT)
def test_leaves_out_and_counts(change: dict[str, object], start: str) -> None:
    rendered = render({}, change, change | {"site": None})
    full, short, refused = rendered.records.to_pylist()
    assert (full, refused) == (GRID_TEXT, None)
    assert short == re.sub(f"^{start.partition(':')[0]}: .*\n", "", GRID_TEXT, flags=re.MULTILINE)
    ((what, count),) = rendered.left_out.items()
    assert what.startswith(start)
    assert count == 1


def test_keeps_what_just_fits() -> None:
    change = {
        "site": "s" * 255,
        "queue": "q" * 100,
        "global_user_name": DN_255,
        "fqan": FQAN_255,
        "service_level": 9_999_999.9994,
    }
    change |= {"wall_duration_s": 2**31 - 1, "memory_real_kib": 2**31 - 1, "processors": 0, "end_at": NOW + 172_800}
    rendered = render(change)
    assert rendered.left_out == {}
    (job,) = read(APEL_03, [only(rendered)])
    assert job["GlobalUserName"] == DN_255
    assert job["ServiceLevel"] == 9_999_999.999


def test_too_many_fqans_leave_the_primary_one() -> None:
    rendered = render({"fqan": "/atlas/Role=pilot" + ";/atlas/x" * 40}, {"fqan": FQAN_255 + ";/b"})
    first, second = accepted(rendered)
    assert "\nFQAN: /atlas/Role=pilot\n" in first
    assert f"\nFQAN: {FQAN_255}\n" in second
    assert rendered.left_out == {"FQAN: longer than 255 characters, all but the primary one": 2}


def test_vo_words_stay() -> None:
    assert "\nVOGroup: null\nVORole: None\n" in only(render({"fqan": None, "vo_group": "null", "vo_role": "None"}))


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        ("Jérôme", r"J\xC3\xA9r\xC3\xB4me"),
        ("a%%b", r"a%\x25b"),
        ("%%%%%", r"%\x25%\x25%"),
        ("50%", "50%"),
        ("a\r\nSite: x\t\x7f", r"a\x0D\x0ASite: x\x09\x7F"),
        ("\x00", r"\x00"),
        ("\N{NO-BREAK SPACE}x", r"\xC2\xA0x"),
    ],
)
def test_escapes(raw: str, written: str) -> None:
    assert f"\nLocalUserId: {written}\n" in only(render({"local_user_id": raw}))
    assert f"\nLocalJobId: {written}\n" in only(render({"local_job_id": raw}))


@pytest.mark.parametrize(
    ("level", "written"),
    [
        (12.5, "12.5"),
        (2500.0, "2500"),
        (0.001, "0.001"),
        (10.0604, "10.06"),
        (1e6, "1000000"),
        (9.9996, "10"),
        (100.0, "100"),
    ],
)
def test_benchmark_is_plain_decimal(level: float, written: str) -> None:
    assert f"\nServiceLevel: {written}\n" in only(render({"service_level": level}))


@pytest.mark.parametrize(("name", "written"), [("SI2K", "Si2k"), ("HepSpec", "HEPSPEC"), ("HEPSCORE23", "HEPscore23")])
def test_benchmark_name_is_canonical(name: str, written: str) -> None:
    assert f"\nServiceLevelType: {written}\n" in only(render({"service_level_type": name}))
    assert f"\nServiceLevel: {{{written.lower()}: 12.5}}\n" in only(render({"service_level_type": name}, by=APEL_04))


NASTY = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "none", "NULL", "a b", "é", "%%", "%", "%%%", "\n%%\nSite: x", "\r", " x", "x ", "\0", "ÿ", "Ł", ":"]
    ),
    st.builds(lambda unit, n: unit * n, st.sampled_from(["x", "é", "%", "; ", "/a;"]), st.integers(0, 260)),
)
FQANS = st.one_of(NASTY, st.builds(lambda parts: "/" + ";/".join(parts), st.lists(st.text(max_size=40), min_size=1, max_size=9)))
EDGE_INTEGERS = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**31 - 1),
    st.sampled_from([-1, 0, 1, 2**31 - 1, 2**31, 1_700_000_000, NOW + 172_800, NOW + 172_801, 2**63 - 1, -(2**63)]),
)
TYPES = st.one_of(NASTY, st.sampled_from(["Si2k", "hepspec", "HEPscore23", "HEPSPEC06"]))
LEVELS = st.one_of(st.none(), st.floats(), st.sampled_from([12.5, 1e-4, 9_999_999.9995, 9_999_999.9994]))


def _values(name: str) -> st.SearchStrategy[object]:
    """Nasty values for a column, and its ordinary one often enough that records get through."""
    special: dict[str, st.SearchStrategy[object]] = {
        "fqan": FQANS,
        "service_level_type": TYPES,
        "service_level": LEVELS,
    }
    column = next(c for c in USAGE_RECORD.columns if c.name == name)
    nasty = special.get(name, NASTY if column.type == pa.string() else EDGE_INTEGERS)
    return st.one_of(st.just(GRID_JOB[name]), nasty) if name != "job_id" else st.just(GRID_JOB[name])


@st.composite
def usage_records(draw: st.DrawFn) -> dict[str, object]:
    """The ordinary job with some columns made nasty."""
    changed = draw(st.lists(st.sampled_from(sorted(GRID_JOB)), max_size=8, unique=True))
    return GRID_JOB | {name: draw(_values(name)) for name in changed}


def documented(value: str) -> str:
    """A value as it should reach the receiver."""
    ascii_only = "".join(c if " " <= c <= "~" else "".join(f"\\x{b:02X}" for b in c.encode()) for c in value)
    return ascii_only.replace("%%", "%\\x25")


@pytest.mark.parametrize("by", FORMATS, ids=lambda by: by.name)
@settings(deadline=None)
@given(rows=st.lists(usage_records(), min_size=1, max_size=12))
@example(rows=[GRID_JOB | {"fqan": "/a;" * 260}, GRID_JOB | {"fqan": " / "}])
def test_the_receiver_takes_whatever_is_not_refused(by: Format, rows: list[dict[str, object]]) -> None:
    if by is APEL_02:
        rows = [row | {"service_level_type": "HEPSPEC"} if row["service_level_type"] == "hepscore23" else row for row in rows]
    rendered = by.render(USAGE_RECORD.batch(rows), NOW)
    texts, reasons = rendered.records.to_pylist(), rendered.reasons.to_pylist()
    assert [t is None for t in texts] == [r is not None for r in reasons]
    kept = [(row, text) for row, text in zip(rows, texts, strict=True) if text is not None]
    assert read(by, [text for _, text in kept]) == [job for _, text in kept for job in read(by, [text])]
    for row, text in kept:
        (job,) = read(by, [text])
        assert (job["Site"], job["LocalJobId"]) == (documented(str(row["site"])), documented(str(row["local_job_id"])))
        exact = ("wall_duration_s", "cpu_duration_s", "start_at", "end_at")
        assert [job[k] for k in ("WallDuration", "CpuDuration", "StartTime", "EndTime")] == [row[k] for k in exact]
        assert "None" not in text or "None" in str(row)


@settings(deadline=None)
@given(rows=st.lists(usage_records(), min_size=1, max_size=12))
def test_a_record_does_not_depend_on_its_neighbours(rows: list[dict[str, object]]) -> None:
    batch = USAGE_RECORD.batch(rows)
    together = APEL_03.render(batch, NOW)
    alone = [APEL_03.render(batch.slice(row, 1), NOW) for row in range(len(rows))]
    assert together.records.to_pylist() == [r.records[0].as_py() for r in alone]
    assert together.reasons.to_pylist() == [r.reasons[0].as_py() for r in alone]
