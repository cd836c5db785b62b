"""A real APEL loader on a real MariaDB with the server's schema: its tables say what our store says, and nothing is rejected.

Needs a checkout of apel/apel: see CONTRIBUTING.md.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.apel_reader import Job, as_stored, read_message
from tests.cli.site import Site, blah, lsf
from tests.interop.apel import SIGNER, Loader
from tests.interop.farm import END_AT, HEPSCORE, MONTHS, Farm, Messages, waiting_in
from tests.usage_record_reader import read_as_apel

pytestmark = pytest.mark.usefixtures("apel")

SAMPLES = Path(__file__).parents[1] / "samples/apel"
HEPSPEC, SI2K = ("HEPSPEC", 11.4), ("Si2k", 2503.7)

TEXTS = {
    "Site": "site",
    "SubmitHost": "submit_host",
    "MachineName": "machine_name",
    "Queue": "queue",
    "LocalJobId": "local_job_id",
    "LocalUserId": "local_user_id",
    "GlobalUserName": "global_user_name",
    "FQAN": "fqan",
    "VO": "vo",
    "VOGroup": "vo_group",
    "VORole": "vo_role",
    "InfrastructureDescription": "infrastructure_description",
    "InfrastructureType": "infrastructure_type",
    "ServiceLevelType": "service_level_type",
}
NUMBERS = {
    "WallDuration": "wall_duration_s",
    "CpuDuration": "cpu_duration_s",
    "Processors": "processors",
    "NodeCount": "node_count",
    "MemoryReal": "memory_real_kib",
    "MemoryVirtual": "memory_virtual_kib",
    "ServiceLevel": "service_level",
}
TIMES = {"StartTime": "start_at", "EndTime": "end_at"}
SINCE_03 = ("MachineName", "Queue", "InfrastructureDescription", "InfrastructureType")


KEY = ("Site", "LocalJobId", "EndTime")
CELL = (
    *("Site", "Month", "Year", "GlobalUserName", "VO", "VOGroup", "VORole", "SubmitHost", "InfrastructureType", "Infrastructure"),
    *("ServiceLevel", "NodeCount", "Processors"),
)


def by_key(rows: Iterable[Job], names: Sequence[str] = KEY) -> dict[tuple[object, ...], Job]:
    """Rows by what no two of them have in common."""
    found: dict[tuple[object, ...], Job] = {}
    for row in rows:
        key = tuple(row.get(name) for name in names)
        assert key not in found
        found[key] = row
    return found


def expected(record: Mapping[str, object], message_format: str) -> Job:
    """What the server is to keep of a record of our store."""
    job: Job = {label: _ascii(record.get(name)) for label, name in TEXTS.items()}
    job |= {label: record.get(name) for label, name in NUMBERS.items()}
    job |= {label: int(dt.datetime.fromisoformat(str(record[name])).timestamp()) for label, name in TIMES.items()}
    if message_format == "apel-0.2":
        job |= dict.fromkeys(SINCE_03)
        job["FQAN"] = job["FQAN"] or f"/{job['VO']}"
    if message_format == "apel-0.4":
        job["ServiceLevelType"] = str(job["ServiceLevelType"]).lower()
    if message_format == "car-1.2":
        job |= dict.fromkeys(("MemoryReal", "MemoryVirtual"))
        job["SubmitHost"] = job["SubmitHost"] if job["InfrastructureType"] == "grid" else None
    return as_stored(job)


def _ascii(value: object) -> str | None:
    if value is None:
        return None
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02X}" for byte in str(value).encode()).replace("%%", "%\\x25")


def read(payload: bytes, message_format: str) -> list[Job]:
    jobs = read_as_apel(payload, now=END_AT) if message_format == "car-1.2" else read_message(payload, now=END_AT)
    return [as_stored(job) for job in jobs]


@pytest.mark.parametrize(
    ("message_format", "benchmark"),
    [("apel-0.2", HEPSPEC), ("apel-0.2", SI2K), ("apel-0.3", HEPSCORE), ("apel-0.3", SI2K), ("apel-0.4", HEPSCORE),
     ("apel-0.4", SI2K), ("car-1.2", HEPSCORE)],
)  # fmt: skip
def test_its_jobs_are_ours(farm: Farm, loader: Loader, tmp_path: Path, message_format: str, benchmark: tuple[str, float]) -> None:
    """Field by field; and when all of it comes a second time nothing changes."""
    messages = farm.messages(tmp_path / "site", message_format, benchmark)
    records = farm.records(tmp_path / "records", benchmark)
    loader.load(messages)
    assert loader.spool.rejected == []
    assert [one.empa_id for one in loader.spool.accepted] == [name for name, _ in messages]
    rows = by_key(loader.rows("VJobRecords"))
    assert rows == by_key(expected(record, message_format) for record in records)
    assert rows == by_key(job for _, payload in messages for job in read(payload, message_format))
    assert loader.publishers() == {SIGNER}
    loader.load(messages)
    assert loader.spool.rejected == []
    assert by_key(loader.rows("VJobRecords")) == rows


@pytest.mark.parametrize("together", [False, True], ids=["one after the other", "both at once"])
def test_a_correction_leaves_one_row(loader: Loader, tmp_path: Path, together: bool) -> None:
    """A job goes out as local, then its identity comes, then its record is logged again: always the same key."""
    site = small_site(tmp_path)
    ran: dict[str, Any] = {"submit": END_AT - 7200, "start": END_AT - 3600, "end": END_AT - 1800}
    site.write([lsf(1, **ran), lsf(2, **ran)])
    sent: Messages = []
    states: list[list[Job]] = []

    def publish(hours: int) -> None:
        for command in ("collect", "publish"):
            done = site.run(command, "--once", now=END_AT + 3600 * hours)
            assert done.status == 0, done
        new = [one for one in waiting_in(site.folder / "outgoing") if one not in sent]
        sent.extend(new)
        if not together:
            loader.load(new)
            states.append(sorted(loader.rows("VJobRecords"), key=lambda row: str(row["LocalJobId"])))

    publish(0)
    at = dt.datetime.fromtimestamp(END_AT - 7200, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    site.write([lsf(1, **ran), lsf(2, **ran)], [blah(1, at=at)])
    publish(1)
    longer = lsf(1, **ran).replace(b" 590.0 10.0 ", b" 700.0 50.0 ")
    site.lsf_log.write_bytes(site.lsf_log.read_bytes() + longer)
    publish(2)
    if together:
        loader.load(sent)
        states.append(sorted(loader.rows("VJobRecords"), key=lambda row: str(row["LocalJobId"])))

    assert loader.spool.rejected == []
    assert len(sent) == 3
    first, second = states[-1]
    assert (first["LocalJobId"], second["LocalJobId"]) == ("1", "2")
    assert (first["InfrastructureType"], first["GlobalUserName"], first["VO"]) == (
        "grid",
        "/DC=ch/DC=cern/CN=Ada Lovelace",
        "atlas",
    )
    assert (first["CpuDuration"], second["CpuDuration"]) == (750, 600)
    assert (second["InfrastructureType"], second["GlobalUserName"]) == ("local", "None")
    if not together:
        assert [[job["InfrastructureType"] for job in jobs] for jobs in states] == [["local"] * 2, *[["grid", "local"]] * 2]
        assert [jobs[0]["CpuDuration"] for jobs in states] == [600, 600, 750]


def small_site(folder: Path) -> Site:
    (folder / "logs").mkdir()
    site = Site(folder)
    site.configure(ce='"ce01.example.org:8443/*" = "lsf1"')
    site.write([])
    site.good("db", "create")
    return site


@pytest.mark.parametrize("benchmark", [HEPSCORE, SI2K], ids=lambda value: value[0])
def test_its_sums_are_ours(farm: Farm, loader: Loader, tmp_path: Path, benchmark: tuple[str, float]) -> None:
    """The server sums up the jobs itself; our summaries of them, in whichever format, are the same cells with the same figures.

    It compares the benchmark's name without regard to case, so that summaries v0.4 replace those of v0.2; normalised ones v0.3
    say no name, and are kept under `None` beside those of v0.4.
    """
    site = farm.published(tmp_path / "site", f'format = "apel-0.3"\npath = "{tmp_path}/outgoing"\n', benchmark)
    loader.load(waiting_in(tmp_path / "outgoing"))
    loader.call("SummariseJobs")
    theirs = loader.rows("VSuperSummaries")
    for form, spelled in (("apel-summary-0.2", benchmark[0]), ("apel-summary-0.4", benchmark[0].lower())):
        loader.load(summaries(site, tmp_path, form))
        ours = loader.rows("VSummaries")
        assert cells(ours) == cells(theirs)
        assert {row["ServiceLevelType"] for row in ours} == {spelled}

    normalised = loader.rows("VNormalisedSuperSummaries")
    in_dictionary = "hepspec" if benchmark == SI2K else benchmark[0].lower()
    for form, spelled in (("apel-normalised-summary-0.3", "None"), ("apel-normalised-summary-0.4", in_dictionary)):
        loader.load(summaries(site, tmp_path, form))
        ours = [row for row in loader.rows("VNormalisedSummaries") if row["ServiceLevelType"] == spelled]
        assert cells(ours) == cells(normalised)
    assert len(loader.rows("VNormalisedSummaries")) == 2 * len(normalised)
    assert loader.spool.rejected == []


def summaries(site: Site, folder: Path, form: str) -> Messages:
    months = [word for month in MONTHS for word in ("--month", month)]
    done = site.run("summaries", *months, "--format", form, "--write-to", folder / form, now=END_AT)
    assert done.status == 0, done
    return [(path.name, path.read_bytes()) for path in sorted(folder.glob(f"{form}*"))]


def cells(rows: Iterable[Job]) -> dict[tuple[object, ...], Job]:
    """Summaries by what makes them cells, without the benchmark's name, which is the same for all, and what we do not send."""
    left = [
        {name: value for name, value in row.items() if name not in {"ServiceLevelType", "InfrastructureDescription"}}
        for row in rows
    ]
    return by_key(left, CELL)


@pytest.mark.parametrize("message_format", ["apel-0.3", "car-1.2"])
def test_its_counts_are_ours(farm: Farm, loader: Loader, tmp_path: Path, message_format: str) -> None:
    """What a sync message tells is what the server counts; but by CAR local jobs have no submit host, and count under `None`."""
    site = farm.published(tmp_path / "site", f'format = "{message_format}"\npath = "{tmp_path}/outgoing"\n')
    loader.load(waiting_in(tmp_path / "outgoing"))
    loader.call("SummariseJobs")
    done = site.run("sync", "--write-to", tmp_path / "sync", now=END_AT)
    assert done.status == 0, done
    loader.load([("sync", (tmp_path / "sync").read_bytes())])
    assert loader.spool.rejected == []
    theirs, told = counted(loader.rows("VSuperSummaries")), counted(loader.rows("VSyncRecords"))
    if message_format == "car-1.2":
        told = Counter({(*key[:2], "None" if key[2] == "lsf-master.example.org" else key[2]): told[key] for key in told})
    assert told == theirs
    assert len(told) > 2


def counted(rows: Iterable[Job]) -> Counter[tuple[object, ...]]:
    """Jobs by year, month and submit host."""
    jobs: Counter[tuple[object, ...]] = Counter()
    for row in rows:
        jobs[row["Year"], row["Month"], row["SubmitHost"]] += int(str(row["NumberOfJobs"]))
    return jobs


def verdicts() -> dict[str, dict[str, str]]:
    with (SAMPLES / "outcomes.tsv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}


def test_its_verdicts_are_those_of_our_reader(loader: Loader) -> None:
    """What `tests/apel_reader.py` is held to is what the loader says today."""
    told = verdicts()
    crashing = [name for name, row in told.items() if row["verdict"] == "crash"]
    loader.load((name, (SAMPLES / name).read_bytes()) for name in told if name not in crashing)
    accepted = {one.empa_id for one in loader.spool.accepted}
    rejected = {one.empa_id: one.error for one in loader.spool.rejected}
    assert accepted == {name for name, row in told.items() if row["verdict"] == "accept"}
    assert rejected == {name: f"Parsing unsuccessful: {row['detail']}" for name, row in told.items() if row["verdict"] == "reject"}


def test_it_dies_of_one_and_comes_back_to_it(loader: Loader) -> None:
    """A v0.4 job without a benchmark, of which we refuse to make one: whoever sends it stops the receiver for all."""
    (name,) = (name for name, row in verdicts().items() if row["verdict"] == "crash")
    with pytest.raises(AssertionError, match="KeyError: 'ServiceLevelType'"):
        loader.load([(name, (SAMPLES / name).read_bytes())])
    loader.stop()
    assert [one.empa_id for one in loader.spool.incoming] == [name]
    loader.begin()
    with pytest.raises(AssertionError, match="the daemon has ended"):
        loader.settle()
