"""What `why` and `trace` tell: every fate of a job, every way to write its id, every byte of a unit."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from batchacct.cli.collecting import collector_of
from batchacct.cli.demonstration import END_AT, _configuration
from batchacct.collector import collect_once
from batchacct.config import Config
from batchacct.demo.farm import write_logs
from batchacct.errors import ConfigError, PublishError
from batchacct.ledger import stories
from batchacct.ledger.job_ids import JobId
from batchacct.store import Store
from batchacct.store.tables import identity, job, load, reject
from pub.command import publish_once
from tests.pristine import with_schema
from tests.pub.site import DAY, HOUR, T0, Site, a_job, an_identity

LOCAL = {"queue": "short"}


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    folder = tmp_path_factory.mktemp("farm")
    write_logs(folder / "logs", jobs=600, seed=5, end_at=END_AT)
    store = with_schema(f"sqlite:///{folder}/batchacct.db")
    values = tomllib.loads(_configuration(folder))
    config = Config.model_validate(values)
    for source in config.source:
        collect_once(store, collector_of(config, source), lambda: END_AT)
    publish_once(store, config, lambda: END_AT)
    yield store, folder / "logs" / "lsb.acct"
    store.close()


def why(site: Site, job_id: str) -> str:
    with site.store.reading() as connection:
        return "\n".join(stories.why(connection, JobId.of(job_id)))


def trace(store: Store, path: object, offset: int) -> str:
    with store.reading() as connection:
        return "\n".join(stories.trace_unit(connection, str(path), offset))


@pytest.mark.parametrize(
    ("text", "join_id", "index"),
    [
        ("1234", "1234", None),
        (" 1234 ", "1234", None),
        ("1234[5]", "1234", 5),
        ("1234-5", "1234", 5),
        ("1234.server.example.org", "1234", None),
        ("1234[5].server", "1234", 5),
        ("1234[].server", "1234", None),
        ("1234.0", "1234.0", None),
        ("name-of-job", "name-of-job", None),
        ("1[9223372036854775807]", "1", 2**63 - 1),
        ("1[9223372036854775808]", "1[9223372036854775808]", None),
    ],
)
def test_a_job_id_as_people_write_it(text: str, join_id: str, index: int | None) -> None:
    assert JobId.of(text) == JobId(join_id, index, text.strip())


def test_no_job_id_is_told(site: Site) -> None:
    with pytest.raises(ConfigError):
        why(site, "  ")


class TestWhy:
    def test_a_published_job_from_byte_to_receipt(self, site: Site) -> None:
        site.jobs(a_job())
        site.identities(an_identity())
        site.publish()
        told = why(site, "1")
        for part in ("job 1 on c1", "joined: nearest identity", "/CN=Alice, /atlas/Role=pilot", "benchmark HEPscore23 10",
                     "message 1 to main (apel-0.3)", "receipt 1", "byte 0"):  # fmt: skip
            assert part in told

    def test_a_vo_by_the_rule_of_an_fqan_and_a_benchmark_of_hosts(self, site: Site) -> None:
        hosts = {"type": "HEPSPEC", "value": 7.0, "hosts": ["n1", "n2*"]}
        site.configure(vo={"rule": [{"vo": "pilots", "fqan": "*pilot"}]}, benchmark=[hosts])
        site.jobs(a_job(exec_hosts='["1*n1"]'))
        site.identities(an_identity())
        site.publish()
        told = why(site, "1")
        assert "VO in place of atlas: VO pilots by rule 1" in told
        assert "benchmark HEPSPEC 7, of hosts n1, n2*" in told

    def test_texts_of_others_are_left_out_for_who_may_not_see_them(self, site: Site) -> None:
        def told(*, texts: bool) -> str:
            with site.store.reading() as connection:
                run = connection.execute(select(job).where(job.c.join_id == "1")).one()
                return "\n".join(stories.why_run(connection, run, texts=texts))

        site.jobs(a_job(**LOCAL))
        site.postbox.fails_at = 0
        with pytest.raises(PublishError):
            site.publish()
        assert "the broker is away" in told(texts=True)
        assert "not handed over yet" in told(texts=False)
        assert "away" not in told(texts=False)
        site.postbox.fails_at = None
        site.publish()
        assert "receipt" in told(texts=True)
        assert "handed over" in told(texts=False)
        assert "receipt" not in told(texts=False)

    def test_a_message_that_has_not_left(self, site: Site) -> None:
        site.jobs(a_job(**LOCAL))
        site.postbox.fails_at = 0
        with pytest.raises(PublishError):
            site.publish()
        assert "not handed over yet: the broker is away" in why(site, "1")
        assert "VO local-nonlcg by default (group physics)" in why(site, "1")

    def test_a_waiting_job_and_what_it_waits_for(self, site: Site) -> None:
        site.jobs(a_job())
        site.read_to_end(T0)
        site.publish(T0 + HOUR)
        assert "waiting: no identity yet" in why(site, "1")
        assert "identity source ce was read to its end at 2023-11-14 22:13:20Z" in why(site, "1")

    def test_a_job_not_looked_at_yet(self, site: Site) -> None:
        site.jobs(a_job())
        assert "not joined yet" in why(site, "1")

    def test_an_excluded_job(self, site: Site) -> None:
        site.jobs(a_job(cpu_duration_s=None))
        site.publish()
        assert "excluded: unknown CPU time" in why(site, "1")
        assert "CPU unknown" in why(site, "1")

    def test_a_refused_job(self, site: Site) -> None:
        site.jobs(a_job(site=" ", **LOCAL))
        site.publish()
        assert "refused for publishing: Site begins or ends with a blank" in why(site, "1")

    def test_a_replaced_record_and_its_successor(self, site: Site) -> None:
        site.jobs(a_job(**LOCAL))
        site.publish()
        site.jobs(a_job(cpu_duration_s=950, **LOCAL))
        site.publish()
        told = why(site, "1")
        assert "replaced: the same run was logged again" in told
        assert "earlier: local (local queue) in message 1; job record replaced" in told
        assert "message 2 to main (apel-0.3)" in told

    def test_a_corrected_job(self, site: Site) -> None:
        site.jobs(a_job(**LOCAL))
        site.publish()
        site.identities(an_identity())
        site.publish()
        assert "earlier: local (local queue) in message 1; another identity or outcome" in why(site, "1")
        assert "message 2" in why(site, "1")

    def test_an_identity_without_a_job(self, site: Site) -> None:
        site.identities(an_identity(77))
        assert "identity 77: /CN=Alice" in why(site, "77")
        assert "no batch record of this job has been read" in why(site, "77")

    def test_a_job_never_seen(self, site: Site) -> None:
        site.jobs(a_job())
        told = why(site, "4711[3]")
        assert told.startswith("job 4711[3]: no source has told of it")
        assert "source lsf was last read" in told

    @pytest.mark.parametrize("form", ["5[2]", "5-2"])
    def test_one_element(self, site: Site, form: str) -> None:
        site.jobs(*(a_job(5, array_index=n) for n in (1, 2)))
        assert [line for line in why(site, form).splitlines() if line.startswith("job")] == [
            "job 5[2] on c1: completed, user alice, queue grid_a"
        ]
        assert why(site, "5").count("job 5[") == 2

    def test_every_run_of_a_recycled_id(self, site: Site) -> None:
        site.jobs(a_job(), a_job(submit_at=T0 + 9 * DAY))
        assert why(site, "1").count("job 1 on c1") == 2


class TestTraceMessage:
    def test_its_records_and_those_replaced_since(self, site: Site) -> None:
        site.jobs(a_job(1, **LOCAL), a_job(2, array_index=3, **LOCAL))
        site.publish()
        site.identities(an_identity(1))
        site.publish()
        with site.store.reading() as connection:
            first, second = (list(stories.trace_message(connection, n)) for n in (1, 2))
        assert "job 1: local, replaced since" in first
        assert "job 2[3]: local" in first
        assert "  insert" not in first[0]
        assert second[2] == "job 1: joined"
        assert "source ce" in second[4]

    def test_one_that_does_not_exist(self, site: Site) -> None:
        with site.store.reading() as connection:
            assert list(stories.trace_message(connection, 99)) == []


class TestTraceUnit:
    def test_first_byte_last_byte_and_separator_are_the_units_own(self, farm: tuple[Store, Path]) -> None:
        store, path = farm
        query = select(job).join(load, load.c.id == job.c.id.op(">>")(20)).where(load.c.path == str(path))
        with store.reading() as connection:
            runs = connection.execute(query.order_by(job.c.source_offset)).all()
        content = path.read_bytes()
        for run in runs[:40]:
            end = run.source_offset + len(run.native)
            assert content[run.source_offset : end] == run.native
            for offset in (run.source_offset, end - 1, end):
                told = [line for line in trace(store, path, offset).splitlines() if line.startswith("  read from")]
                assert told == [f"  read from {path}, byte {run.source_offset} (source lsf-master, record {run.id})"]

    def test_a_rejected_unit(self, farm: tuple[Store, Path]) -> None:
        store, _ = farm
        with store.reading() as connection:
            bad = connection.execute(select(reject).order_by(reject.c.id.desc())).first()
        assert bad is not None
        for offset in (bad.source_offset, bad.source_offset + bad.length - 1, bad.source_offset + bad.length):
            assert f"rejected: {bad.reason} (`batchacct rejects show {bad.id}`)" in trace(store, bad.path, offset)

    def test_an_identity_leads_to_the_jobs_it_was_joined_with(self, farm: tuple[Store, Path]) -> None:
        store, _ = farm
        with store.reading() as connection:
            one = connection.execute(
                select(identity, load.c.path.label("path"))
                .join(load, load.c.id == identity.c.id.op(">>")(20))
                .join(job, job.c.join_id == identity.c.join_id)
                .where(job.c.start_at.is_not(None))
                .order_by(identity.c.id)
            ).first()
        assert one is not None
        told = trace(store, one.path, one.source_offset)
        assert f"identity for job {one.lrms_job_id}" in told

    def test_a_byte_nobody_has_read(self, farm: tuple[Store, Path]) -> None:
        store, path = farm
        assert "no load has read it" in trace(store, path, path.stat().st_size)
        assert "no load has read it" in trace(store, "/other", 0)


def test_trace_unit_on_both_databases(site: Site) -> None:
    """The length of the raw unit is asked of the database."""
    site.jobs(a_job())
    told = trace(site.store, "lsf", 0)
    assert "job 1 on c1" in told
