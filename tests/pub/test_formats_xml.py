"""Usage records in XML: valid by their schemas, read back as what the record said, and taken by SGAS and APEL."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchacct.model import JOB_STATES
from batchacct.parsing import registry
from pub.formats.apel import APEL_03
from pub.formats.car import CAR_12
from pub.formats.contract import ON_REQUEST, USAGE_RECORD, Format, Rendered
from pub.formats.markup import STATUS
from pub.formats.usage_record_xml import UR_10, URWG_11
from pub.usage_records import GATHERED, gathered_for
from tests.pub.site import Site, a_job, an_identity
from tests.pub.test_formats import EDGE_INTEGERS, FQANS, GRID_JOB, LEVELS, NASTY, NOW, TYPES, documented
from tests.usage_record_reader import CAR, SAMPLES, UR, URWG, Record, assert_valid, read_as_apel, read_as_sgas, read_records

NAMESPACES: dict[str, str] = {"ur-1.0": UR, "urwg-11": URWG, "car-1.2": CAR}
FORMATS: list[Format] = [UR_10, URWG_11, CAR_12]

JOB: dict[str, object] = GRID_JOB | {
    "global_job_id": "https://ce01.example.org:8443/CREAM123456789",
    "job_name": "reco",
    "state": "completed",
    "exit_code": 0,
    "submit_at": 1_699_999_900,
    "cpu_user_s": 3400.25,
    "cpu_system_s": 99.75,
    "exec_hosts": '["8*node0001.example.org","4*node0002.example.org"]',
    "gpu_count": 2,
    "gpu_model": "NVIDIA A100",
}

UR_TEXT = """\
<urf:JobUsageRecord>
<urf:RecordIdentity urf:createTime="2027-01-15T08:00:00Z" urf:recordId="lsf-master.example.org:4242-1:1700003600"/>
<urf:JobIdentity><urf:LocalJobId>4242-1</urf:LocalJobId></urf:JobIdentity>
<urf:UserIdentity><urf:LocalUserId>atlas042</urf:LocalUserId>
<urf:GlobalUserName>/DC=org/DC=example/CN=Test User</urf:GlobalUserName>
</urf:UserIdentity>
<urf:JobName>reco</urf:JobName>
<urf:Status>completed</urf:Status>
<urf:Memory urf:type="physical" urf:metric="max" urf:storageUnit="KB">1048576</urf:Memory>
<urf:Memory urf:type="virtual" urf:metric="max" urf:storageUnit="KB">2097152</urf:Memory>
<urf:TimeInstant urf:type="submit">2023-11-14T22:11:40Z</urf:TimeInstant>
<urf:ServiceLevel urf:type="HEPscore23">12.5</urf:ServiceLevel>
<urf:WallDuration>PT3600S</urf:WallDuration>
<urf:CpuDuration>PT3500S</urf:CpuDuration>
<urf:NodeCount>1</urf:NodeCount>
<urf:Processors>1</urf:Processors>
<urf:EndTime>2023-11-14T23:13:20Z</urf:EndTime>
<urf:StartTime>2023-11-14T22:13:20Z</urf:StartTime>
<urf:MachineName>lsf-master.example.org</urf:MachineName>
<urf:SubmitHost>ce01.example.org</urf:SubmitHost>
<urf:Queue>grid_atlas</urf:Queue>
<urf:ProjectName>atlas</urf:ProjectName>
<urf:Host urf:primary="true">node0001.example.org</urf:Host>
<urf:Host>node0002.example.org</urf:Host>
<urf:ConsumableResource urf:description="GPU" urf:units="GPUs">2</urf:ConsumableResource>
<urf:Resource urf:description="Site">EXAMPLE-SITE</urf:Resource>
<urf:Resource urf:description="Infrastructure">grid</urf:Resource>
<urf:Resource urf:description="InfrastructureDescription">BATCHACCT-CREAM-LSF</urf:Resource>
<urf:Resource urf:description="CE">ce01.example.org:8443/cream-lsf-grid_atlas</urf:Resource>
<urf:Resource urf:description="GlobalJobId">https://ce01.example.org:8443/CREAM123456789</urf:Resource>
<urf:Resource urf:description="FQAN">/atlas/Role=pilot/Capability=NULL;/atlas/Role=NULL/Capability=NULL</urf:Resource>
<urf:Resource urf:description="VOGroup">/atlas</urf:Resource>
<urf:Resource urf:description="VORole">Role=pilot</urf:Resource>
<urf:Resource urf:description="GPUModel">NVIDIA A100</urf:Resource>
</urf:JobUsageRecord>
"""

CAR_TEXT = """\
<urf:UsageRecord>
<urf:RecordIdentity urf:createTime="2027-01-15T08:00:00Z" urf:recordId="lsf-master.example.org 4242-1 1700003600"/>
<urf:JobIdentity>
<urf:GlobalJobId>https://ce01.example.org:8443/CREAM123456789</urf:GlobalJobId>
<urf:LocalJobId>4242-1</urf:LocalJobId>
</urf:JobIdentity>
<urf:UserIdentity>
<urf:GlobalUserName urf:type="opensslCompat">/DC=org/DC=example/CN=Test User</urf:GlobalUserName>
<urf:Group>atlas</urf:Group>
<urf:GroupAttribute urf:type="FQAN">/atlas/Role=pilot/Capability=NULL;/atlas/Role=NULL/Capability=NULL</urf:GroupAttribute>
<urf:GroupAttribute urf:type="vo-group">/atlas</urf:GroupAttribute>
<urf:GroupAttribute urf:type="vo-role">Role=pilot</urf:GroupAttribute>
<urf:LocalUserId>atlas042</urf:LocalUserId>
</urf:UserIdentity>
<urf:JobName>reco</urf:JobName>
<urf:Status>completed</urf:Status>
<urf:ExitStatus>0</urf:ExitStatus>
<urf:Infrastructure urf:type="grid" urf:description="BATCHACCT-CREAM-LSF"/>
<urf:WallDuration>PT3600S</urf:WallDuration>
<urf:CpuDuration urf:usageType="user">PT3400.25S</urf:CpuDuration>
<urf:CpuDuration urf:usageType="system">PT99.75S</urf:CpuDuration>
<urf:CpuDuration urf:usageType="all">PT3500S</urf:CpuDuration>
<urf:ServiceLevel urf:type="HEPscore23">12.5</urf:ServiceLevel>
<urf:Memory urf:type="physical" urf:metric="max" urf:storageUnit="KB">1048576</urf:Memory>
<urf:Memory urf:type="shared" urf:metric="max" urf:storageUnit="KB">2097152</urf:Memory>
<urf:TimeInstant urf:type="Ctime">2023-11-14T22:11:40Z</urf:TimeInstant>
<urf:NodeCount>1</urf:NodeCount>
<urf:Processors>1</urf:Processors>
<urf:EndTime>2023-11-14T23:13:20Z</urf:EndTime>
<urf:StartTime>2023-11-14T22:13:20Z</urf:StartTime>
<urf:MachineName>lsf-master.example.org</urf:MachineName>
<urf:SubmitHost>ce01.example.org:8443/cream-lsf-grid_atlas</urf:SubmitHost>
<urf:Queue>grid_atlas</urf:Queue>
<urf:Site urf:type="gocdb">EXAMPLE-SITE</urf:Site>
<urf:Host urf:primary="true">node0001.example.org</urf:Host>
<urf:Host>node0002.example.org</urf:Host>
<urf:ConsumableResource urf:description="GPU" urf:units="GPUs">2</urf:ConsumableResource>
<urf:Resource urf:description="GPUModel">NVIDIA A100</urf:Resource>
</urf:UsageRecord>
"""


def render(by: Format, *changes: dict[str, object]) -> Rendered:
    return by.render(USAGE_RECORD.batch([JOB | change for change in changes]), NOW)


def read(by: Format, texts: list[str]) -> list[Record]:
    """The records of one message, which is ASCII and valid by its schema."""
    payload = by.message(pa.array(texts, pa.string()))
    payload.decode("ascii")
    assert_valid(payload, NAMESPACES[by.name])
    return read_records(payload, NAMESPACES[by.name])


def only(rendered: Rendered) -> str:
    assert rendered.reasons.to_pylist() == [None]
    (text,) = rendered.records.to_pylist()
    assert isinstance(text, str)
    return text


def one(by: Format, **change: object) -> Record:
    (record,) = read(by, [only(render(by, change))])
    return record


@pytest.mark.parametrize(("by", "text"), [(UR_10, UR_TEXT), (CAR_12, CAR_TEXT)], ids=["ur", "car"])
def test_writes_all_elements_in_order(by: Format, text: str) -> None:
    rendered = render(by, {})
    assert only(rendered) == text
    assert rendered.left_out == {}
    assert by.message(pa.array([text, text])) == (
        f'<?xml version="1.0"?>\n<urf:UsageRecords xmlns:urf="{NAMESPACES[by.name]}">\n{text}{text}</urf:UsageRecords>\n'.encode()
    )


def test_the_older_namespace_has_the_dn_as_key() -> None:
    in_ur, in_urwg = one(UR_10), one(URWG_11)
    assert in_urwg.pop("X509SubjectName") == in_ur.pop("GlobalUserName") == "/DC=org/DC=example/CN=Test User"
    assert in_ur == in_urwg


def test_says_what_the_sample_of_gfd98_says() -> None:
    (sample,) = read_records((SAMPLES / "urf-gfd98-job.xml").read_bytes(), UR)
    ours = one(UR_10)
    assert ours["CpuDuration"] == sample.pop("CpuDuration user") + sample.pop("CpuDuration system")  # type: ignore[operator]
    for told in ("RecordIdentity createTime", "X509SubjectName", "MachineName description", "GlobalJobId", "Host"):
        sample.pop(told)
    assert {name: ours[name] for name in sample} == sample


def test_says_what_the_sample_of_car_says() -> None:
    (sample,) = read_records((SAMPLES / "car-1.2-cpu-all.xml").read_bytes(), CAR)
    ours = one(CAR_12, cpu_user_s=3400.0, cpu_system_s=100.0, fqan="/atlas/Role=pilot/Capability=NULL")
    for told in ("RecordIdentity createTime", "Processors metric"):
        sample.pop(told)
    assert {name: ours[name] for name in sample} == sample


def test_a_local_job_has_no_ce() -> None:
    local = {"infrastructure_type": "local", "submit_host": "c1.example.org", "global_job_id": None}
    record = one(UR_10, **local)
    assert (record["SubmitHost"], record["Resource Infrastructure"]) == ("c1.example.org", "local")
    assert "Resource CE" not in record
    record = one(CAR_12, **local)
    assert "SubmitHost" not in record
    assert record["Infrastructure type"] == "local"


@pytest.mark.parametrize(
    ("ce", "host"),
    [
        ("ce01.example.org:8443/cream-lsf-grid_atlas", "ce01.example.org"),
        ("gsiftp://arc.example.org:2811/jobs", "arc.example.org"),
        ("ce01.example.org", "ce01.example.org"),
        ("ce01/jobmanager-pbs", "ce01"),
        ("ce_1.example.org:8443/x", None),
        ("a.example.org", None),
        ("", None),
        ("é.example.org", None),
        ("ce01.example.org\n", None),
        ("x" * 201, None),
    ],
)
def test_the_host_of_a_ce_id(ce: str, host: str | None) -> None:
    record = one(UR_10, submit_host=ce)
    assert record.get("SubmitHost") == host
    assert record.get("Resource CE") == (ce or None)


def test_personal_names_that_are_withheld_are_not_there() -> None:
    withheld: dict[str, object] = {"local_user_id": None, "global_user_name": None, "job_name": None}
    assert not one(UR_10, **withheld).keys() & {"LocalUserId", "GlobalUserName", "JobName"}
    record = one(CAR_12, **withheld)
    assert record["LocalUserId"] == ""
    assert "<urf:UserIdentity>" not in only(render(UR_10, withheld))
    (job,) = read_as_apel(CAR_12.message(pa.array([only(render(CAR_12, withheld))], pa.string())), NOW)
    assert job["LocalUserId"] is None


@pytest.mark.parametrize("by", FORMATS, ids=lambda by: by.name)
def test_an_absent_value_has_no_element(by: Format) -> None:
    required = {"job_id", "site", "local_job_id", "wall_duration_s", "cpu_duration_s", "start_at", "end_at", "machine_name",
                "service_level_type", "service_level", "fqan", "infrastructure_type", "submit_host"}  # fmt: skip
    batch = USAGE_RECORD.batch([JOB, {k: v for k, v in JOB.items() if k in required}])
    full, short = by.render(batch, NOW).records.to_pylist()
    assert full is not None
    assert short is not None
    assert "None" not in full + short
    assert len(short) < len(full) * 0.7
    assert len(read(by, [short, full])) == 2


def test_every_state_has_a_status() -> None:
    assert tuple(STATUS) == JOB_STATES
    assert set(STATUS.values()) <= {"aborted", "completed", "failed", "held", "queued", "started", "suspended"}
    for state, status in (*STATUS.items(), (None, "completed"), ("odd", "completed")):
        assert (one(UR_10, state=state)["Status"], one(CAR_12, state=state)["Status"]) == (status, status)


REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"machine_name": None}, "MachineName is missing"),
    ({"machine_name": ""}, "MachineName is no domain name"),
    ({"machine_name": "lsf_master"}, "MachineName is no domain name"),
    ({"machine_name": "m.example.org"}, "MachineName is no domain name"),
    ({"machine_name": "x" * 256}, "MachineName is no domain name"),
    ({"local_job_id": None}, "LocalJobId is missing"),
    ({"local_job_id": "1  2"}, "LocalJobId has white space"),
    ({"wall_duration_s": None}, "WallDuration is missing"),
    ({"wall_duration_s": 2**31}, "WallDuration is negative or over"),
    ({"cpu_duration_s": -1}, "CpuDuration is negative or over"),
    ({"processors": -1}, "Processors is negative or over"),
    ({"start_at": None}, "StartTime is missing"),
    ({"start_at": 0}, "StartTime is not after 1970"),
    ({"end_at": 2**63 - 1}, "EndTime is more than 2 days ahead"),
    ({"start_at": 1_700_003_601}, "StartTime is after EndTime"),
    ({"service_level_type": "HEPSPEC06"}, "ServiceLevelType is none of"),
    ({"service_level": float("nan")}, "ServiceLevel is not a number"),
]
UR_REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"local_job_id": "/x"}, "LocalJobId begins with `/`"),
    ({"local_job_id": "x" * 121}, "LocalJobId is longer than 120"),
    ({"local_job_id": "a\tb"}, "LocalJobId has white space"),
    ({"local_job_id": "a "}, "LocalJobId has white space"),
    ({"machine_name": "x" * 201}, "MachineName is no domain name"),
]
CAR_REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"site": None}, "Site is missing"),
    ({"local_job_id": "none"}, "LocalJobId is `none` or `null`"),
    ({"infrastructure_type": None}, "InfrastructureType is neither grid nor local"),
    ({"infrastructure_type": "cloud"}, "InfrastructureType is neither grid nor local"),
    ({"submit_host": None}, "SubmitHost is missing"),
    ({"submit_host": "x" * 256}, "SubmitHost is missing"),
    ({"fqan": None, "vo": None}, "neither FQAN nor VO can be written"),
]


@pytest.mark.parametrize(
    ("by", "change", "start"),
    [(by, *refusal) for by, more in ((UR_10, UR_REFUSALS), (CAR_12, CAR_REFUSALS)) for refusal in REFUSALS + more],
)
def test_refuses_one_record_alone(by: Format, change: dict[str, object], start: str) -> None:
    rendered = render(by, {}, change, {"queue": None})
    before, reason, after = rendered.reasons.to_pylist()
    assert (before, after) == (None, None)
    assert reason is not None
    assert reason.startswith(start)
    assert rendered.records.is_valid().to_pylist() == [True, False, True]


LEFT_OUT: list[tuple[dict[str, object], str, str]] = [
    ({"memory_real_kib": 0}, "MemoryReal: not above 0", "<urf:Memory urf:type=.physical"),
    ({"memory_virtual_kib": None}, "MemoryVirtual: not known", "<urf:Memory urf:type=.(virtual|shared)"),
    ({"processors": 0}, "Processors: not above 0", "<urf:Processors"),
    ({"node_count": 0}, "NodeCount: not above 0", "<urf:NodeCount"),
    ({"gpu_count": -1}, "GPU: negative", "<urf:ConsumableResource"),
    ({"submit_at": -1}, "TimeInstant: not within", "<urf:TimeInstant"),
    ({"submit_at": 2**63 - 1}, "TimeInstant: not within", "<urf:TimeInstant"),
    ({"exec_hosts": '["4*node_1"]'}, "Host: no domain name", "<urf:Host"),
    ({"exec_hosts": "node0001"}, "Host: no domain name", "<urf:Host"),
    ({"exec_hosts": "[1]"}, "Host: no domain name", "<urf:Host"),
    ({"job_name": ""}, "JobName: empty", "<urf:JobName"),
]
UR_LEFT_OUT: list[tuple[dict[str, object], str, str]] = [
    ({"queue": "q" * 201}, "Queue: longer than 200", "<urf:Queue"),
    ({"vo": "q" * 201}, "ProjectName: longer than 200", "<urf:ProjectName"),
    ({"submit_host": "ce_1:8443/x"}, "SubmitHost: no domain name", "<urf:SubmitHost"),
    ({"exec_hosts": json.dumps([f"node{n:08}" for n in range(208)])}, "Host: longer than 2700", "<urf:Host"),
]
CAR_LEFT_OUT: list[tuple[dict[str, object], str, str]] = [
    ({"exit_code": 2**31}, "ExitStatus: not of 32 bits", "<urf:ExitStatus"),
    ({"cpu_user_s": float("nan")}, "CpuDuration user: no time", "<urf:CpuDuration urf:usageType=.(user|system)"),
    ({"cpu_system_s": -0.5}, "CpuDuration system: no time", "<urf:CpuDuration urf:usageType=.(user|system)"),
    ({"job_name": "None"}, "JobName: `none` or `null`", "<urf:JobName"),
]


@pytest.mark.parametrize(
    ("by", "change", "start", "element"),
    [(by, *left) for by, more in ((UR_10, UR_LEFT_OUT), (CAR_12, CAR_LEFT_OUT)) for left in LEFT_OUT + more],
)
def test_leaves_out_and_counts(by: Format, change: dict[str, object], start: str, element: str) -> None:
    rendered = render(by, {}, change, change | {"machine_name": None})
    full, short, refused = rendered.records.to_pylist()
    assert full is not None
    assert refused is None
    gone = [line for line in full.splitlines() if re.match(element, line)]
    assert gone
    assert {*full.splitlines()} - {*str(short).splitlines()} >= {*gone}
    assert not [line for line in str(short).splitlines() if re.match(element, line)]
    ((what, count),) = rendered.left_out.items()
    assert what.startswith(start)
    assert count == 1
    read(by, [str(short)])


def test_a_host_that_is_no_domain_name_leaves_the_others() -> None:
    rendered = render(UR_10, {"exec_hosts": '["4*n1","4*node_2","n3"]'})
    (record,) = read(UR_10, [only(rendered)])
    assert record["Host"] == [("n1", True), ("n3", False)]
    assert rendered.left_out == {"Host: no domain name": 1}


def test_apel_and_sgas_keep_what_just_fits() -> None:
    fits: dict[str, object] = {"local_job_id": "é" * 120, "machine_name": "x" * 200, "queue": "&" * 200, "local_user_id": "<" * 100}
    ((record_id, record),) = read_as_sgas(UR_10.message(pa.array([only(render(UR_10, fits))]))).items()
    assert record_id == f"{'x' * 200}:{'é' * 120}:1700003600"
    assert (record["Queue"], record["LocalUserId"]) == ("&" * 200, "<" * 100)
    fits = {"site": "s" * 255, "queue": "&" * 100, "machine_name": "x" * 255}
    fits |= {"wall_duration_s": 2**31 - 1, "memory_real_kib": 2**53}
    (job,) = read_as_apel(CAR_12.message(pa.array([only(render(CAR_12, fits))])), NOW)
    assert (job["Site"], job["Queue"], job["WallDuration"]) == ("s" * 255, "&" * 100, 2**31 - 1)


@pytest.mark.parametrize(
    ("raw", "in_text", "read_back"),
    [
        ("Jérôme", "J&#233;r&#244;me", "Jérôme"),
        ("a<b>&\"c'", "a&lt;b&gt;&amp;&quot;c'", "a<b>&\"c'"),
        ("a\r\n\tb", "a&#13;&#10;&#9;b", "a\r\n\tb"),
        ("a\x00\x1bb", r"a\x00\x1Bb", r"a\x00\x1Bb"),
        ("\uffff\ufffe", r"\xEF\xBF\xBF\xEF\xBF\xBE", r"\xEF\xBF\xBF\xEF\xBF\xBE"),
        ("\x7f\x85\u2028", "&#127;&#133;&#8232;", "\x7f\x85\u2028"),
        ("\N{GRINNING FACE}", "&#128512;", "\N{GRINNING FACE}"),
        (" ]]> ", " ]]&gt; ", " ]]> "),
    ],
)
def test_escapes(raw: str, in_text: str, read_back: str) -> None:
    text = only(render(UR_10, {"queue": raw}))
    assert f"<urf:Queue>{in_text}</urf:Queue>\n" in text
    assert one(UR_10, queue=raw)["Queue"] == read_back
    as_text = documented(raw).strip()
    assert f"\nQueue: {as_text}\n" in only(APEL_03.render(USAGE_RECORD.batch([JOB | {"queue": raw}]), NOW))
    assert one(CAR_12, queue=raw)["Queue"] == as_text


def test_a_job_has_one_key_at_apel_as_text_and_as_car() -> None:
    for odd in ("é-1", "a%%b", "1\x01", "4242[7]", "&<"):
        text = only(APEL_03.render(USAGE_RECORD.batch([JOB | {"local_job_id": odd}]), NOW))
        (job,) = read_as_apel(CAR_12.message(pa.array([only(render(CAR_12, {"local_job_id": odd}))])), NOW)
        assert f"\nLocalJobId: {job['LocalJobId']}\n" in text


def test_a_record_sent_again_later_has_the_same_id() -> None:
    for by in FORMATS:
        batch = USAGE_RECORD.batch([JOB])
        (before,), (after,) = (by.render(batch, at).records.to_pylist() for at in (NOW, NOW + 86_400))
        differing = [(a, b) for a, b in zip(str(before).splitlines(), str(after).splitlines(), strict=True) if a != b]
        ((one_line, other_line),) = differing
        assert re.sub('createTime=.[^"]*', "", one_line) == re.sub('createTime=.[^"]*', "", other_line)


# What any record becomes.

SUBMISSIONS = st.one_of(
    st.sampled_from(["ce01.example.org:8443/cream-lsf-q", "gsiftp://arc.example.org:2811/jobs", "ce_1/x", "n1", "a.b", "ab."]),
    NASTY,
)
MACHINES = st.one_of(st.sampled_from(["lsf-master.example.org", "m_1", "m", "m1.", "it's", "x" * 200, "x" * 201, "x" * 256]), NASTY)
NAMES = st.one_of(st.sampled_from(["n1", "node0001.example.org", "n_1", "", "n", "é"]), st.text(max_size=5))
HOST_LISTS = st.one_of(
    st.builds(lambda hosts: json.dumps([f"8*{name}" for name in hosts]), st.lists(NAMES, max_size=4)),
    st.sampled_from(["[]", "{}", "[1]", "n1", "null", '["n1"]', json.dumps([f"node{n:08}" for n in range(300)])]),
    NASTY,
)
SPECIAL: dict[str, st.SearchStrategy[object]] = {
    "fqan": FQANS,
    "service_level_type": TYPES,
    "service_level": LEVELS,
    "cpu_user_s": st.one_of(st.none(), st.floats(), st.floats(0, 1e6)),
    "cpu_system_s": st.one_of(st.none(), st.floats(), st.floats(0, 1e6)),
    "submit_host": SUBMISSIONS,
    "machine_name": MACHINES,
    "exec_hosts": HOST_LISTS,
    "state": st.one_of(st.sampled_from(JOB_STATES), NASTY),
    "infrastructure_type": st.one_of(st.sampled_from(["grid", "local"]), NASTY),
}
TYPE_OF = {column.name: column.type for column in USAGE_RECORD.columns}


@st.composite
def usage_records(draw: st.DrawFn) -> dict[str, object]:
    """The ordinary job with some columns made nasty."""
    changed = draw(st.lists(st.sampled_from(sorted(JOB.keys() - {"job_id"})), max_size=8, unique=True))
    strategies = {name: SPECIAL.get(name, NASTY if TYPE_OF[name] == pa.string() else EDGE_INTEGERS) for name in changed}
    return JOB | {name: draw(st.one_of(st.just(JOB[name]), strategy)) for name, strategy in strategies.items()}


def without_nulls(record: Record) -> Record:
    return {name: value for name, value in record.items() if value is not None}


def holdable(value: object, limit: int = 2**31) -> str | None:
    """A text as a usage record may hold it: characters that XML does not know as their bytes."""
    if value is None:
        return None
    kept = "".join(c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff") else documented_byte(c) for c in str(value))
    return kept if 0 < len(kept) <= limit else None


def documented_byte(character: str) -> str:
    return "".join(f"\\x{byte:02X}" for byte in character.encode())


def is_domain(name: object, limit: int = 255) -> bool:
    """The schema's pattern, label by label; a final dot may stand."""
    *labels, last = str(name).split(".")
    every = [*labels, last] if last or not labels else labels
    return 0 < len(str(name)) <= limit and all(re.fullmatch("[A-Za-z0-9][A-Za-z0-9'-]*[A-Za-z0-9]", label) for label in every)


def expected_hosts(value: object, limit: int) -> list[tuple[str, bool]] | None:
    try:
        names = [entry.split("*", 1)[-1] or entry for entry in json.loads(str(value))]
    except (ValueError, TypeError, AttributeError):
        return None
    fit = [(name, place == 0) for place, name in enumerate(names) if is_domain(name)]
    return fit if fit and len(",".join(names)) <= limit else None


def above_zero(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def expected_in_both(row: dict[str, object]) -> Record:
    benchmark = {"si2k": "Si2k", "hepspec": "HEPSPEC", "hepscore23": "HEPscore23"}[str(row["service_level_type"]).lower()]
    submitted, gpus, level = row["submit_at"], row["gpu_count"], row["service_level"]
    assert isinstance(level, float)
    return {
        "RecordIdentity createTime": NOW,
        "Status": STATUS.get(str(row["state"]), "completed"),
        "Memory physical max KB": above_zero(row["memory_real_kib"]),
        "TimeInstant": submitted if isinstance(submitted, int) and 0 <= submitted <= 253_402_300_799 else None,
        f"ServiceLevel {benchmark}": pytest.approx(level, abs=0.00051),
        "WallDuration": row["wall_duration_s"],
        "CpuDuration": row["cpu_duration_s"],
        "NodeCount": above_zero(row["node_count"]),
        "Processors": above_zero(row["processors"]),
        "StartTime": row["start_at"],
        "EndTime": row["end_at"],
        "MachineName": row["machine_name"],
        "ConsumableResource GPU GPUs": float(gpus) if isinstance(gpus, int) and gpus >= 0 else None,
    }


def renamed(record: Record, names: dict[str, str]) -> Record:
    return {names.get(name, name): value for name, value in record.items()}


def expected_ur(row: dict[str, object]) -> Record:
    given_host = str(row["submit_host"])
    host = re.split("[:/]", re.sub("^[A-Za-z][A-Za-z0-9+.-]*://", "", given_host))[0]
    record: Record = renamed(expected_in_both(row), {"TimeInstant": "TimeInstant submit"}) | {
        "RecordIdentity recordId": f"{row['machine_name']}:{holdable(row['local_job_id'])}:{row['end_at']}",
        "Memory virtual max KB": above_zero(row["memory_virtual_kib"]),
        "SubmitHost": host if row["submit_host"] is not None and is_domain(host, 200) else None,
        "Host": expected_hosts(row["exec_hosts"], 2700),
        "Resource CE": holdable(row["submit_host"]) if row["infrastructure_type"] == "grid" else None,
    }
    texts = {
        "LocalJobId": ("local_job_id", 120),
        "LocalUserId": ("local_user_id", 100),
        "GlobalUserName": ("global_user_name", 1000),
        "JobName": ("job_name", 1000),
        "Queue": ("queue", 200),
        "ProjectName": ("vo", 200),
        "Resource Site": ("site", 2**31),
        "Resource Infrastructure": ("infrastructure_type", 2**31),
        "Resource InfrastructureDescription": ("infrastructure_description", 2**31),
        "Resource GlobalJobId": ("global_job_id", 2**31),
        "Resource FQAN": ("fqan", 2**31),
        "Resource VOGroup": ("vo_group", 2**31),
        "Resource VORole": ("vo_role", 2**31),
        "Resource GPUModel": ("gpu_model", 2**31),
    }
    return without_nulls(record | {name: holdable(row[column], limit) for name, (column, limit) in texts.items()})


def as_apel_text(value: object, limit: int = 255, *, null_words: bool = False) -> str | None:
    if value is None:
        return None
    text = documented(str(value)).strip(" ")
    said = null_words or text.lower() not in ("none", "null")
    return text if said and 0 < len(text) <= limit else None


def expected_car(row: dict[str, object]) -> Record:
    fqans = documented(str(row["fqan"] or "")).strip(" ")
    if len(fqans) > 255:
        fqans = fqans.split(";")[0].strip(" ")
    split = [row[f"cpu_{kind}_s"] for kind in ("user", "system")]
    known = all(isinstance(part, float) and 0 <= part <= 2**31 - 1 for part in split)
    exit_code = row["exit_code"]
    record = renamed(expected_in_both(row), {"TimeInstant": "TimeInstant Ctime", "CpuDuration": "CpuDuration all"}) | {
        "RecordIdentity recordId": f"{row['machine_name']} {documented(str(row['local_job_id']))} {row['end_at']}",
        "GlobalJobId": as_apel_text(row["global_job_id"], 1000),
        "LocalJobId": documented(str(row["local_job_id"])),
        "GlobalUserName opensslCompat": as_apel_text(row["global_user_name"]),
        "Group": as_apel_text(row["vo"], null_words=True),
        "GroupAttribute FQAN": fqans if fqans.startswith("/") and len(fqans) <= 255 else None,
        "GroupAttribute vo-group": as_apel_text(row["vo_group"], null_words=True),
        "GroupAttribute vo-role": as_apel_text(row["vo_role"], null_words=True),
        "LocalUserId": as_apel_text(row["local_user_id"]) or "",
        "JobName": as_apel_text(row["job_name"], 1000),
        "ExitStatus": exit_code if isinstance(exit_code, int) and -(2**31) <= exit_code < 2**31 else None,
        "Infrastructure type": row["infrastructure_type"],
        "Infrastructure description": as_apel_text(row["infrastructure_description"], 100),
        "CpuDuration user": pytest.approx(split[0], abs=0.00051) if known else None,
        "CpuDuration system": pytest.approx(split[1], abs=0.00051) if known else None,
        "Memory shared max KB": above_zero(row["memory_virtual_kib"]),
        "SubmitHost": as_apel_text(row["submit_host"]) if row["infrastructure_type"] == "grid" else None,
        "Queue": as_apel_text(row["queue"], 100) or "",
        "Site gocdb": documented(str(row["site"])),
        "Host": expected_hosts(row["exec_hosts"], 2**31),
        "Resource GPUModel": as_apel_text(row["gpu_model"], 1000),
    }
    return without_nulls(record)


def rendered_rows(by: Format, rows: list[dict[str, object]]) -> list[tuple[dict[str, object], str]]:
    """Those that are not refused, with their texts; the others have a reason."""
    rendered = by.render(USAGE_RECORD.batch(rows), NOW)
    texts, reasons = rendered.records.to_pylist(), rendered.reasons.to_pylist()
    assert [t is None for t in texts] == [r is not None for r in reasons]
    return [(row, text) for row, text in zip(rows, texts, strict=True) if text is not None]


@settings(deadline=None)
@given(rows=st.lists(usage_records(), min_size=1, max_size=6))
@example(rows=[JOB | {"exec_hosts": None, "job_name": "\x00", "queue": ""}, JOB | {"submit_host": None, "processors": 0}])
def test_a_usage_record_is_refused_or_valid_and_read_back(rows: list[dict[str, object]]) -> None:
    if kept := rendered_rows(UR_10, rows):
        texts = [text for _, text in kept]
        assert read(UR_10, texts) == [expected_ur(row) for row, _ in kept]
        stored = read_as_sgas(UR_10.message(pa.array(texts)))
        assert stored.keys() == {expected_ur(row)["RecordIdentity recordId"] for row, _ in kept}
    if kept := rendered_rows(URWG_11, rows):
        assert read(URWG_11, [text for _, text in kept]) == [
            renamed(expected_ur(row), {"GlobalUserName": "X509SubjectName"}) for row, _ in kept
        ]


@settings(deadline=None)
@given(rows=st.lists(usage_records(), min_size=1, max_size=6))
@example(rows=[JOB | {"exec_hosts": None, "job_name": "\x00", "queue": ""}, JOB | {"fqan": "/a;" * 260, "processors": 0}])
def test_a_car_is_refused_or_valid_and_read_back(rows: list[dict[str, object]]) -> None:
    if kept := rendered_rows(CAR_12, rows):
        texts = [text for _, text in kept]
        assert read(CAR_12, texts) == [expected_car(row) for row, _ in kept]
        jobs = read_as_apel(CAR_12.message(pa.array(texts)), NOW)
        for (row, _), job in zip(kept, jobs, strict=True):
            assert job["LocalJobId"] == documented(str(row["local_job_id"]))
            exact = ("wall_duration_s", "cpu_duration_s", "start_at", "end_at")
            assert [job[k] for k in ("WallDuration", "CpuDuration", "StartTime", "EndTime")] == [row[k] for k in exact]


@settings(deadline=None, max_examples=15)
@given(rows=st.lists(usage_records(), min_size=1, max_size=5))
def test_a_record_does_not_depend_on_its_neighbours(rows: list[dict[str, object]]) -> None:
    batch = USAGE_RECORD.batch(rows)
    for by in FORMATS:
        together = by.render(batch, NOW)
        alone = [by.render(batch.slice(row, 1), NOW) for row in range(len(rows))]
        assert together.records.to_pylist() == [r.records[0].as_py() for r in alone]
        assert together.reasons.to_pylist() == [r.reasons[0].as_py() for r in alone]
        assert by.render(batch.slice(0, 0), NOW).records.to_pylist() == []


# What is read from the store for them.

RICH: dict[str, object] = {
    "job_name": "räco <1>\n",
    "state": "timeout",
    "exit_code": 137,
    "cpu_user_s": 800.125,
    "cpu_system_s": 100.25,
    "exec_hosts": '["8*n1","4*n2"]',
    "gpu_count": 2,
    "gpu_model": "NVIDIA A100,MIG 1g.5gb",
}


def test_every_format_wants_columns_that_there_are() -> None:
    for name in registry.names(registry.FORMATS):
        wants = registry.load(registry.FORMATS, name).wants  # type: ignore[attr-defined]
        assert wants <= {column.name for column in ON_REQUEST}
        assert gathered_for(wants).names == [*GATHERED.names, *(column.name for column in ON_REQUEST if column.name in wants)]
    assert gathered_for(APEL_03.wants) == GATHERED


def test_wanted_columns_come_from_the_store(site: Site) -> None:
    site.configure(publish={"format": "car-1.2"})
    site.jobs(a_job(1, **RICH), a_job(2, queue="short", **RICH), a_job(3, queue="short"))
    site.identities(an_identity(1, global_job_id="https://ce01/CREAM1"))
    site.read_to_end(site.clock)
    site.publish()
    (taken,) = site.postbox.taken
    assert_valid(taken.payload, CAR)
    grid, local, bare = sorted(read_records(taken.payload, CAR), key=lambda record: str(record["LocalJobId"]))
    told = {
        "Status": "aborted",
        "ExitStatus": 137,
        "CpuDuration user": 800.125,
        "CpuDuration system": 100.25,
        "CpuDuration all": 900,
        "Host": [("n1", True), ("n2", False)],
        "ConsumableResource GPU GPUs": 2,
        "Resource GPUModel": "NVIDIA A100,MIG 1g.5gb",
        "TimeInstant Ctime": 1_700_000_000,
    }
    assert {name: grid[name] for name in told} == {name: local[name] for name in told} == told
    assert (grid["GlobalJobId"], grid["JobName"]) == ("https://ce01/CREAM1", documented("räco <1>\n"))
    assert not local.keys() & {"GlobalJobId", "JobName"}, "names of local jobs' people do not go out by default"
    assert bare["Status"] == "completed"
    assert not bare.keys() & {"ExitStatus", "CpuDuration user", "Host", "ConsumableResource GPU GPUs", "Resource GPUModel"}
    site.assert_sound()
