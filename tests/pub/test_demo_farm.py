"""The whole way on the demo farm: what the receiver reads, what the ledger says and what the logs say are the same numbers."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import case, func, select

from batchacct.cli.collecting import collector_of
from batchacct.cli.demonstration import END_AT, _configuration
from batchacct.collector import collect_once
from batchacct.config import MAIN, Config
from batchacct.demo.farm import VO_MAP, write_logs
from batchacct.ledger.books import read_books
from batchacct.store import Store
from batchacct.store.tables import identity, job, usage, vo_mapping
from pub.command import publish_once
from pub.formats.apel_summaries import SUMMARY_02
from pub.summaries import months_with_jobs, summaries
from tests.apel_reader import APEL, LAYOUT_2012, Job, read_as_documented, read_message
from tests.demo.independent import Reading, read_logs
from tests.pub.cells import added_up, as_cells
from tests.usage_record_reader import CAR, UR, URWG, assert_valid, read_as_apel, read_records

JOBS = 1500
NAMESPACES = {"ur-1.0": UR, "urwg-11": URWG, "car-1.2": CAR}
Totals = dict[str, tuple[int, int, int]]


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reading]:
    folder = tmp_path_factory.mktemp("farm")
    write_logs(folder / "logs", jobs=JOBS, seed=11, end_at=END_AT)
    return folder, read_logs(folder / "logs", VO_MAP, END_AT)


@pytest.mark.parametrize("message_format", ["apel-0.3", "apel-0.4", "batchacct-2012"])
def test_messages_ledger_and_logs_agree(store: Store, farm: tuple[Path, Reading], tmp_path: Path, message_format: str) -> None:
    assert_agreement(store, farm, tmp_path, message_format)


@pytest.mark.parametrize("message_format", NAMESPACES)
def test_valid_messages_in_xml_say_the_same(
    sqlite_store: Store, farm: tuple[Path, Reading], tmp_path: Path, message_format: str
) -> None:
    assert_agreement(sqlite_store, farm, tmp_path, message_format)


def assert_agreement(store: Store, farm: tuple[Path, Reading], tmp_path: Path, message_format: str) -> None:
    """The farm is collected and published; what was read of its messages is what the ledger and the logs say."""
    folder, reading = farm
    values = tomllib.loads(_configuration(folder))
    values["publish"] = {"path": tmp_path / "outgoing", "format": message_format, "bunch": 97}
    config = Config.model_validate(values)
    for source in config.source:
        collect_once(store, collector_of(config, source), lambda: END_AT)
    done = publish_once(store, config, lambda: END_AT)[1][MAIN]

    paths = [path for path in (tmp_path / "outgoing").rglob("*") if path.is_file()]
    records = [record for path in paths for record in read(path.read_bytes(), message_format)]
    assert (len(paths), len(records)) == (done.messages, done.records)
    assert len({(record["Site"], record["LocalJobId"], record["EndTime"]) for record in records}) == len(records)
    assert totals_of(records) == totals_in_ledger(store) == reading.as_tuples()
    assert_counts(store, reading.counts)
    if message_format.startswith("apel-"):
        found = summaries(store, config, months_with_jobs(store, END_AT), END_AT)
        payload = SUMMARY_02.message(SUMMARY_02.render(found.cells).records)
        assert as_cells(read_as_documented(payload, now=END_AT)) == added_up(records)


def read(payload: bytes, message_format: str) -> list[Job]:
    """A message as its receiver reads it; one in XML is valid by its schema."""
    if message_format in NAMESPACES:
        assert_valid(payload, NAMESPACES[message_format])
    if message_format == "car-1.2":
        return read_as_apel(payload, now=END_AT)
    if message_format in NAMESPACES:
        records = read_records(payload, NAMESPACES[message_format])
        names = {"Site": "Resource Site", "FQAN": "Resource FQAN", "VO": "ProjectName"}
        return [record | {name: record[told] for name, told in names.items()} for record in records]
    return read_message(payload, LAYOUT_2012 if message_format == "batchacct-2012" else APEL, now=END_AT)


def totals_of(records: list[Job]) -> Totals:
    totals: dict[str, Counter[str]] = {}
    for record in records:
        vo = str(record["FQAN"]).split("/")[1]
        assert record.get("VO") in (None, vo)
        one = totals.setdefault(vo, Counter())
        for name, value in (("jobs", 1), ("cpu", record["CpuDuration"]), ("wall", record["WallDuration"])):
            assert isinstance(value, int | float)
            one[name] += int(value)
    return {vo: (one["jobs"], one["cpu"], one["wall"]) for vo, one in sorted(totals.items())}


def totals_in_ledger(store: Store) -> Totals:
    vo = case((usage.c.identity_id.is_not(None), identity.c.vo), else_=vo_mapping.c.vo)
    query = (
        select(vo, func.count(), func.sum(job.c.cpu_duration_s), func.sum(job.c.wall_duration_s))
        .select_from(usage.join(job, job.c.id == usage.c.job_id))
        .outerjoin(identity, identity.c.id == usage.c.identity_id)
        .outerjoin(vo_mapping, vo_mapping.c.id == usage.c.mapping_id)
        .where(usage.c.outcome.in_(["joined", "local"]))
        .group_by(vo)
    )
    with store.reading() as connection:
        return {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in sorted(connection.execute(query).all())}


def assert_counts(store: Store, counts: Counter[str]) -> None:
    with store.reading() as connection:
        books = read_books(connection)
    assert books.balanced, books.problems
    jobs, sources = books.jobs, {source.name: source for source in books.sources}
    assert jobs.in_force == counts["lsf_jobs"] == JOBS
    assert jobs.total("joined") == counts["joined"]
    assert jobs.total("local") == counts["local"]
    assert jobs.total("waiting") == counts["waiting"] > 0
    assert jobs.outcomes["excluded", "never started"] == counts["never_started"] > 0
    assert jobs.outcomes["excluded", "unknown CPU time"] == counts["unknown_cpu"] > 0
    assert jobs.total("excluded") == counts["never_started"] + counts["unknown_cpu"]
    assert sources["lsf-master"].rejected == counts["lsf_rejected"] > 0
    assert sources["ce-blah"].rejected == counts["identity_rejected"] > 0
    assert sources["lsf-master"].known == counts["lsf_duplicates"] > 0
    assert sources["ce-blah"].recorded == counts["identities"]
    assert books.destinations[0].refused == {}
