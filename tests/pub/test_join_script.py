"""join of 2012, run as a process on what acct and whisk have read: the message, field by field; settings; refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from dirq.QueueSimple import QueueSimple
from sqlalchemy import select

from batchacct.demo.farm import VO_MAP, write_logs
from batchacct.demo.lines import EXIT, BlahIdentity, LsfJob, blah_line, lsf_line
from batchacct.errors import ConfigError
from batchacct.store import Store, sent
from batchacct.store.tables import message
from pub.settings2012 import Settings2012, read_settings
from tests.apel_reader import LAYOUT_2012, Job, read_message
from tests.demo.independent import read_logs
from tests.scripts_2012 import Site

CREATE, ACCT, WHISK, JOIN = "loccol.create", "loccol.acct", "cecol.whisk", "pub.join"
JOIN_ALL = (JOIN, "-a", "conn", "-c", "pub.conf", "-v", "vos", "-s", "outgoing")
END_AT = 1_335_614_400
START_AT = END_AT - 200_000
FIELDS = (
    "Site SubmitHost LocalJobId LocalUserId GlobalUserName FQAN WallDuration CpuDuration Processors NodeCount StartTime "
    "EndTime MemoryReal MemoryVirtual ServiceLevelType ServiceLevel Infrastructure"
)
SETTINGS = {
    "site": "EXAMPLE-SITE",
    "unit": "Si2k",
    "factorConstant": "255",
    "fields": FIELDS,
    "cluster": "lsf-master.example.org",
}
CE = "ce01.example.org:8443/cream-lsf-grid_atlas"


@pytest.fixture
def site(tmp_path: Path, sqlite_url: str) -> Site:
    """A site with everything but logs, and an empty database."""
    made = Site(tmp_path, sqlite_url, now=END_AT)
    assert made.call(CREATE, "-c", "conn").status == 0
    settings(made)
    made.write("vos", "# local groups\nx_FOO foo\natlasgrp   atlas\n")
    return made


def settings(site: Site, **changes: str | None) -> None:
    values = SETTINGS | changes
    site.write("pub.conf", "".join(f"{key}  \t {value}\n" for key, value in values.items() if value is not None))


def ran(job_id: int, queue: str, saap: str, wall_s: int, **other: object) -> LsfJob:
    values: dict[str, object] = {
        "exec_hosts": ("lxb0001.example.org",), "cpu_us": (1_000_400_000, 200_000), "memory_kib": 1_500, "swap_kib": 2_500,
        "host_factor": 9.5, **other,
    }  # fmt: skip
    return LsfJob(queue, "anna", 20_410, START_AT + wall_s, START_AT - 60, START_AT, job_id, saap=saap, **values)  # type: ignore[arg-type]


def write_known_logs(site: Site) -> None:
    hosts = ("lxb0001.example.org", "lxb0001.example.org", "lxb0002.example.org", "lxb0002.example.org")
    jobs = [
        ran(101, "grid_atlas", "/atlas/atlas001", 108_000),
        ran(102, "normal", "/x_FOO/anna", 600, index=7, job_name="sim[1-9]"),
        ran(103, "normal", "/x_NOWHERE/anna", 600, processors=4, exec_hosts=hosts, host_factor=10.1),
        ran(104, "normal", "", 600),
        ran(105, "grid_atlas", "/atlas/atlas001", 600),
        ran(106, "normal", "/x_FOO/anna", 600, cpu_us=None),
        LsfJob("normal", "anna", 20_410, START_AT, START_AT - 60, 0, 107, status=EXIT, saap="/x_FOO/anna"),
    ]
    (site.folder / "lsb.acct").write_bytes(b"".join(map(lsf_line, jobs)))
    fqans = ("/atlas/Role=production/Capability=NULL", "/atlas/Role=NULL/Capability=NULL")
    known = BlahIdentity(START_AT - 60, "/DC=ch/CN=Ada", fqans, CE, 41, 101, 30_001)
    (site.folder / "blahp.log-20120426").write_bytes(blah_line(known))


def collected(site: Site) -> None:
    site.ok(ACCT, "-c", "conn", "-a", "lsb.acct")
    site.ok(WHISK, "-c", "conn", "-a", ".")


def messages(site: Site) -> list[bytes]:
    queue = QueueSimple(str(site.folder / "outgoing"))
    return [Path(queue.path, name).read_bytes() for name in queue]


def jobs_of(texts: list[bytes]) -> list[Job]:
    return [found for text in texts for found in read_message(text, LAYOUT_2012, END_AT)]


def test_create_acct_whisk_join_field_by_field(site: Site) -> None:
    write_known_logs(site)
    collected(site)
    outcome = site.ok(*JOIN_ALL)
    assert "Published 4 records in 1 messages, 1 handed over" in outcome.err
    assert "1 jobs waiting: no identity came" in outcome.err
    shared = "CpuDuration: 1001\nProcessors: {n}\nNodeCount: {nodes}\nStartTime: 1335414400\nEndTime: {end}\n"
    shared += "MemoryReal: 1500\nMemoryVirtual: 2500\nServiceLevelType: Si2k\nServiceLevel: {level}\nInfrastructure: {kind}\n%%\n"
    local = "Site: EXAMPLE-SITE\nSubmitHost: lsf-master.example.org\nLocalJobId: {id}\nFQAN: {fqan}\nWallDuration: 600\n"
    one = shared.format(n=1, nodes=1, end=1335415000, level=2422, kind="local")
    expected = (
        "APEL-individual-job-message: v1.1\n"
        f"Site: EXAMPLE-SITE\nSubmitHost: {CE}\nLocalJobId: 101-0\n"
        "FQAN: /atlas/Role=production/Capability=NULL;/atlas/Role=NULL/Capability=NULL\nWallDuration: 108000\n"
        + shared.format(n=1, nodes=1, end=1335522400, level=2422, kind="grid")
        + local.format(id="102-7", fqan="/local-foo")
        + one
        + local.format(id="103-0", fqan="/local-nonlcg")
        + shared.format(n=4, nodes=2, end=1335415000, level=2575, kind="local")
        + local.format(id="104-0", fqan="/local-nonlcg")
        + one
    )
    assert messages(site) == [expected.encode()]
    assert len(jobs_of(messages(site))) == 4
    assert "Published 0 records" in site.ok(*JOIN_ALL).err
    assert messages(site) == [expected.encode()]


def test_grid_job_is_held_until_its_identity_comes(site: Site) -> None:
    write_known_logs(site)
    site.done(ACCT, "-c", "conn", "-a", "lsb.acct")
    site.done(*JOIN_ALL)
    site.now = END_AT + 100 * 86_400
    assert "Published 0 records" in site.done(*JOIN_ALL).err, "not even after the longest hold"
    site.done(WHISK, "-c", "conn", "-a", ".")
    assert "Published 1 records" in site.done(*JOIN_ALL).err
    assert [job["LocalJobId"] for job in jobs_of(messages(site))] == ["102-7", "103-0", "104-0", "101-0"]


def test_a_whole_farm(site: Site) -> None:
    summary = write_logs(site.folder, jobs=600, seed=5, end_at=END_AT)
    site.write("vos", "".join(f"{group} {vo}\n" for group, vo in VO_MAP.items()))
    collected(site)
    site.ok(*JOIN_ALL, "--bunch", "200", "--logfile", "join.log")
    reading = read_logs(site.folder, VO_MAP, END_AT)
    found = jobs_of(messages(site))
    held = summary.counts["identity_lost"]
    assert len(found) == reading.counts["joined"] + reading.counts["local"] - held
    assert [text.count(b"%%\n") for text in messages(site)] == [200] * (len(found) // 200) + [len(found) % 200]
    assert {job["Infrastructure"] for job in found} == {"grid", "local"}
    assert sum(job["Infrastructure"] == "grid" for job in found) == reading.counts["joined"]
    for vo, total in reading.totals.items():
        if vo.startswith("local-") and vo != "local-nonlcg" and vo.removeprefix("local-") not in {"atlas", "cms", "lhcb"}:
            of_vo = [job for job in found if job["FQAN"] == f"/{vo}"]
            assert len(of_vo) == total.jobs
            assert sum(int(str(job["CpuDuration"])) for job in of_vo) == total.cpu_s
    assert f"Published {len(found)} records" in site.text("join.log")


def test_fields_are_those_of_the_settings_in_the_order_of_the_layout(site: Site) -> None:
    write_known_logs(site)
    site.done(ACCT, "-c", "conn", "-a", "lsb.acct")
    settings(site, fields="EndTime StartTime LocalJobId Site ServiceLevel ServiceLevelType CpuDuration WallDuration GlobalUserName")
    site.done(*JOIN_ALL)
    labels = [line.partition(":")[0] for line in messages(site)[0].decode().split("%%")[1].strip().splitlines()]
    order = "Site LocalJobId WallDuration CpuDuration StartTime EndTime ServiceLevelType ServiceLevel"
    assert labels == order.split()


def test_cluster_of_a_configured_source(site: Site) -> None:
    write_known_logs(site)
    paths = f'["{site.folder}/*"]'
    sources = "".join(f'[[source]]\nname = "{p}1"\nparser = "{p}"\npaths = {paths}\ncluster = "lsf1"\n' for p in ("lsf", "blah"))
    head = 'site = "EXAMPLE-SITE"\n[database]\nurl = "sqlite:////nowhere.db"\n'
    site.write("batchacct.toml", f'{head}{sources}[[cluster]]\nname = "lsf1"\n')
    site.done(ACCT, "-c", "conn", "-a", "lsb.acct")
    site.done(WHISK, "-c", "conn", "-a", ".")
    site.done(*JOIN_ALL)
    found = jobs_of(messages(site))
    assert [job["SubmitHost"] for job in found] == [CE, *["lsf-master.example.org"] * 3]
    (site.folder / "batchacct.toml").unlink()
    (site.folder / "lsb.acct.1").write_bytes(lsf_line(ran(201, "normal", "/x_FOO/anna", 600)))
    site.done(ACCT, "-c", "conn", "-a", "lsb.acct.1")
    outcome = site.call(*JOIN_ALL)
    assert outcome.status == 3
    assert "default, lsf1" in outcome.err


def test_what_join_cannot_do(site: Site) -> None:
    cases = [
        ((*JOIN_ALL, "-m", "broker"), 3, "one of them"),
        ((JOIN, "-a", "conn", "-c", "pub.conf", "-m", "broker:stomp"), 2, "no address and port"),
        ((JOIN, "-a", "conn", "-c", "pub.conf"), 3, "--ssm"),
        ((*JOIN_ALL, "-b", "0"), 2, "1 to 5000"),
        ((JOIN, "-a", "conn", "-s", "outgoing"), 2, "--conf"),
        ((JOIN, "-a", "conn", "-c", "nothing", "-s", "outgoing"), 3, "nothing cannot be read"),
        ((JOIN, "-a", "conn", "-c", "pub.conf", "-v", "nothing", "-s", "outgoing"), 3, "vos file nothing"),
        ((JOIN, "-a", "nothing", "-c", "pub.conf", "-s", "outgoing"), 3, "connection file nothing"),
    ]
    for arguments, status, words in cases:
        outcome = site.call(*arguments)
        assert (outcome.status, words in outcome.err) == (status, True), outcome
    settings(site, fields="Site Nonsense")
    assert site.call(*JOIN_ALL).status == 3
    site.write("conn", "postgresql://u:hunter2@localhost/d\n").chmod(0o644)
    settings(site)
    assert "chmod o-r" in site.call(*JOIN_ALL).err


def test_message_stays_in_the_outbox_when_the_folder_cannot_be_written(site: Site) -> None:
    write_known_logs(site)
    site.done(ACCT, "-c", "conn", "-a", "lsb.acct")
    outcome = site.call(JOIN, "-a", "conn", "-c", "pub.conf", "-v", "vos", "-s", "no/such/outgoing", "-l", "join.log")
    assert outcome.status == 9
    assert "no/such" in outcome.err
    assert "no/such" in site.text("join.log")
    store = Store(site.url)
    with store.reading() as connection:
        assert connection.scalars(select(message.c.confirmed_at)).all() == [None]
        assert [len(one.jobs) for one in sent.sent(connection)] == [3]
    store.close()
    assert "Published 0 records in 0 messages, 1 handed over" in site.done(*JOIN_ALL).err


def test_settings(tmp_path: Path) -> None:
    path = tmp_path / "pub"
    path.write_text("\n# ours\nsite A SITE \nunit HEPSPEC06\nfactorConstant\t4\nfields  Site  EndTime\ncluster c\n")
    assert read_settings(path) == Settings2012("A SITE", "HEPSPEC", 4, ("Site", "EndTime"), "c")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("sites X", "line 6: there is no key sites; did you mean site?"),
        ("site X", "line 6: site is given twice"),
        ("zzz", "line 6: there is no key zzz"),
        ("-unit", "unit is missing"),
        ("-site", "site is missing"),
        ("-unit unit", "line 5: unit has no value"),
        ("-unit unit foo", "unit: foo is none of Si2k, HEPSPEC, HEPscore23"),
        ("-factorConstant factorConstant 2.5", "factorConstant: 2.5 is no whole number above 0"),
        ("-factorConstant factorConstant 0", "factorConstant: 0 is no whole number above 0"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, line: str, told: str) -> None:
    lines = [f"{key} {value}" for key, value in SETTINGS.items()]
    if line.startswith("-"):
        key, _, line = line[1:].partition(" ")
        lines = [kept for kept in lines if not kept.startswith(key)]
    path = tmp_path / "pub"
    path.write_text("\n".join([*lines, line]))
    with pytest.raises(ConfigError) as raised:
        read_settings(path)
    assert told in raised.value.message


def test_wrong_settings_are_told_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pub"
    path.write_text("sites X\nunit foo\nfactorConstant x\n")
    with pytest.raises(ConfigError) as raised:
        read_settings(path)
    assert len(raised.value.message.splitlines()) == 6
