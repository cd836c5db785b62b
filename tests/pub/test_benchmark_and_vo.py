"""Which benchmark and which VO a job goes out with, and what a change of the configuration does to them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from sqlalchemy import select

from batchacct.errors import ConfigError
from batchacct.store.tables import benchmark, usage, vo_mapping
from tests.pub.site import DAY, Site, a_job

CLUSTERS = [{"name": "c1"}, {"name": "c2"}, {"name": "c3"}]
TEMPLATES = {"local_job_id": "{cluster}.{id}", "local_job_id_array": "{cluster}.{id}.{index}"}


class TestBenchmark:
    def used(self, site: Site) -> list[float | None]:
        query = select(benchmark.c.value).select_from(usage.outerjoin(benchmark, benchmark.c.id == usage.c.benchmark_id))
        with site.store.reading() as connection:
            return list(connection.scalars(query.order_by(usage.c.job_id)))

    def test_it_is_valid_from_the_first_second_of_a_day_to_the_last(self, site: Site) -> None:
        begin = dt.date(2023, 11, 15)
        midnight = int(dt.datetime(2023, 11, 15, tzinfo=dt.UTC).timestamp())
        site.configure(
            benchmark=[{"type": "HEPSPEC", "value": 7.0, "valid_from": begin, "valid_until": begin + dt.timedelta(days=1)}]
        )
        site.jobs(*(a_job(n, end_at=midnight + s) for n, s in enumerate((-1, 0, DAY - 1, DAY))))
        site.publish()
        assert self.used(site) == [None, 7.0, 7.0, None]

    def test_that_of_the_cluster_goes_before_that_of_all_and_the_newer_one_before_the_older(self, site: Site) -> None:
        site.configure(
            cluster=CLUSTERS,
            publish=TEMPLATES,
            benchmark=[
                {"type": "HEPSPEC", "value": 1.0, "valid_from": dt.date(2023, 1, 1)},
                {"type": "HEPSPEC", "value": 2.0, "cluster": "c1"},
                {"type": "HEPSPEC", "value": 3.0, "cluster": "c1", "valid_from": dt.date(2022, 1, 1)},
                {"type": "HEPSPEC", "value": 4.0, "cluster": "c3"},
            ],
        )
        site.jobs(a_job(1), a_job(2, cluster="c2"))
        site.publish()
        assert self.used(site) == [3.0, 1.0]

    def test_per_host_it_is_multiplied_and_rounded_down_and_not_used_below_one(self, site: Site) -> None:
        site.configure(benchmark=[{"type": "Si2k", "value": 100.0, "per_host_factor": True}])
        factors = (2.999, 0.01, 0.0099, None, 1e9)
        site.jobs(*(a_job(n, queue="short", host_factor=f) for n, f in enumerate(factors)))
        site.publish()
        assert self.used(site) == [100.0, 100.0, None, None, 100.0]
        assert [record["ServiceLevel"] for record in site.messages()[0]] == [299.0, 1.0]

    def test_one_that_is_taken_out_of_the_configuration_stays_with_what_used_it(self, site: Site) -> None:
        site.jobs(a_job(1, queue="short"))
        site.publish()
        site.configure(benchmark=[{"type": "HEPscore23", "value": 20.0}])
        site.jobs(a_job(2, queue="short"))
        site.publish()
        assert self.used(site) == [10.0, 20.0]
        assert len(site.received()) == sum(map(len, site.messages())) == 2


class TestVo:
    RULES = (
        {"vo": "byuser", "user": "prd*"},
        {"vo": "byproject", "project": "higgs"},
        {"vo": "both", "group": "g_*", "user": "?ob"},
    )

    @pytest.mark.parametrize(
        ("columns", "vo", "rule"),
        [
            ({"user_name": "prd07", "project": "higgs"}, "local-byuser", "rule 1"),
            ({"project": "higgs"}, "local-byproject", "rule 2"),
            ({"group_name": "g_x", "user_name": "bob"}, "local-both", "rule 3"),
            ({"group_name": "g_x", "user_name": "rob2"}, "local-default", "default"),
            ({"group_name": "x_FOO"}, "local-foo", "group x_FOO"),
            ({"group_name": "x_foo"}, "local-default", "default"),
            ({"group_name": None, "user_name": None, "project": None}, "local-default", "default"),
        ],
    )
    def test_rules_then_the_vos_file_then_the_default(
        self, site: Site, tmp_path: Path, columns: dict[str, object], vo: str, rule: str
    ) -> None:
        (tmp_path / "vos").write_text("# groups\n\nx_FOO  foo\nx_BAR\tbar\n")
        site.configure(vo={"rule": list(self.RULES), "file": tmp_path / "vos", "default": "default"})
        site.jobs(a_job(queue="short", **columns))
        site.publish()
        ((record,),) = site.messages()
        assert (record["VO"], record["FQAN"], record["InfrastructureType"]) == (vo, f"/{vo}", "local")
        with site.store.reading() as connection:
            assert connection.scalar(select(vo_mapping.c.rule)) == rule

    def test_other_rules_hold_from_then_on_and_change_nothing_that_is_out(self, site: Site) -> None:
        site.jobs(a_job(1, queue="short"))
        site.publish()
        site.configure(vo={"default": "new"})
        site.jobs(a_job(2, queue="short"))
        site.publish()
        assert [record["VO"] for read in site.messages() for record in read] == ["local-nonlcg", "local-new"]

    @pytest.mark.parametrize("line", ["x_FOO", "x_FOO foo bar"])
    def test_a_vos_file_with_another_line_is_refused(self, site: Site, tmp_path: Path, line: str) -> None:
        (tmp_path / "vos").write_text(f"x_BAR bar\n{line}\n")
        site.configure(vo={"file": tmp_path / "vos"})
        with pytest.raises(ConfigError, match="line 2"):
            site.publish()
