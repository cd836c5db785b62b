"""Which benchmark and which VO a job goes out with, and what a change of the configuration does to them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from batchacct.errors import ConfigError
from batchacct.store.tables import benchmark, usage, vo_mapping
from cpuhours.query import usage_by
from tests.pub.fix_site import ON_SQLITE
from tests.pub.site import DAY, T0, Site, a_job, an_identity

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

    def test_of_hosts_all_must_match_and_what_is_unknown_or_mixed_has_that_of_whatever_hosts(self, site: Site) -> None:
        site.configure(
            cluster=CLUSTERS,
            publish=TEMPLATES,
            benchmark=[
                {"type": "HEPscore23", "value": 20.0, "hosts": ["node1*", "big"]},
                {"type": "HEPscore23", "value": 15.0, "hosts": ["node2*"]},
                {"type": "HEPscore23", "value": 12.0, "cluster": "c1"},
            ],
        )
        hosts = (
            '["4*node10"]',
            '["4*node10","2*big"]',
            '["node11"]',
            '["4*node10","4*node20"]',
            '["1*other"]',
            None,
            "[]",
            "no JSON",
        )
        site.jobs(*(a_job(n, exec_hosts=text) for n, text in enumerate(hosts)), a_job(99, cluster="c2", exec_hosts='["1*node20"]'))
        site.jobs(a_job(100, cluster="c2", exec_hosts='["1*node10","1*node20"]'))
        site.publish()
        assert self.used(site) == [20.0, 20.0, 20.0, 12.0, 12.0, 12.0, 12.0, 12.0, 15.0, None]

    def test_overlapping_ones_of_one_day_the_lowest(self, site: Site) -> None:
        overlapping = [
            {"type": "HEPscore23", "value": value, "hosts": [host]} for value, host in ((3.0, "n*"), (2.0, "n1"), (4.0, "*"))
        ]
        site.configure(benchmark=overlapping)
        site.jobs(a_job(1, exec_hosts='["1*n1"]'), a_job(2, exec_hosts='["1*n2"]'))
        site.publish()
        assert self.used(site) == [2.0, 3.0]

    def test_several_at_once_for_whoever_can_hold_them(self, site: Site) -> None:
        also = {"Si2k": 2850.5, "HEPSPEC": 11.4}
        site.configure(benchmark=[{"type": "HEPscore23", "value": 12.5, "also": also}], publish={"format": "apel-0.4"})
        site.jobs(a_job(1, queue="short"))
        site.publish()
        (taken,) = site.postbox.taken
        assert b"ServiceLevel: {hepscore23: 12.5, hepspec: 11.4, si2k: 2850.5}\n" in taken.payload
        ((record,),) = site.messages()
        assert (record["ServiceLevelType"], record["ServiceLevel"]) == ("hepscore23", 12.5)

    @ON_SQLITE
    @pytest.mark.parametrize(("form", "kind", "figure"), [("apel-0.2", "HEPSPEC", 11.4), ("apel-0.3", "HEPscore23", 12.5)])
    def test_an_older_format_gets_one_that_it_knows(self, site: Site, form: str, kind: str, figure: float) -> None:
        site.configure(benchmark=[{"type": "HEPscore23", "value": 12.5, "also": {"HEPSPEC": 11.4}}], publish={"format": form})
        site.jobs(a_job(1))
        site.identities(an_identity(1))
        site.publish()
        ((record,),) = site.messages()
        assert (record["ServiceLevelType"], record["ServiceLevel"]) == (kind, figure)

    def test_several_are_scaled_alike_and_what_becomes_nothing_is_left_out(self, site: Site) -> None:
        scaled = {"type": "HEPscore23", "value": 10.0, "also": {"HEPSPEC": 9.0, "Si2k": 0.3}, "per_host_factor": True}
        site.configure(benchmark=[scaled], publish={"format": "jsonl"})
        site.jobs(a_job(1, queue="short", host_factor=1.26))
        site.publish()
        record = json.loads(site.postbox.taken[0].payload)
        assert (record["service_level"], json.loads(record["service_levels"])) == (12.0, {"HEPscore23": 12.0, "HEPSPEC": 11.0})

    @ON_SQLITE
    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ([{"type": "HEPSPEC", "value": 1.0, "also": {"HEPscore23": 1.0}}], "takes the first of HEPscore23, HEPSPEC, Si2k"),
            (
                [{"type": "HEPSPEC", "value": 1.0}, {"type": "Si2k", "value": 1.0}],
                "other benchmarks of the same core belong into also",
            ),
            ([{"type": "HEPSPEC", "value": 1.0, "valid_until": dt.date(1970, 1, 1)}], "valid on no day"),
            ([{"type": "HEPSPEC", "value": 1.0, "also": {"Si2k": 0.0}}], "greater than 0"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, site: Site, wrong: list[dict[str, object]], told: str) -> None:
        with pytest.raises(ValidationError, match=told):
            site.configure(benchmark=wrong)

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

    def test_by_queue_and_by_odd_fqan(self, site: Site) -> None:
        site.configure(
            vo={
                "rule": [
                    {"vo": "cms", "fqan": "/VO=cms/*", "publish_fqan": "/cms/Role=pilot"},
                    {"vo": "dteam", "fqan": "/ops", "queue": "grid_b"},
                    {"vo": "short", "queue": "short"},
                ]
            }
        )
        site.jobs(*(a_job(n) for n in (1, 2, 3)), a_job(4, queue="grid_b"), a_job(5, queue="short"), a_job(6, queue="long"))
        odd: dict[str, object] = {
            "fqan": "/VO=cms/GROUP=/cms",
            "fqans": '["/VO=cms/GROUP=/cms","/VO=cms"]',
            "vo": "VO=cms",
            "vo_group": "/VO=cms",
        }
        ops: dict[str, object] = {"fqan": "/ops", "fqans": '["/ops"]', "vo": "ops", "vo_group": "/ops", "vo_role": None}
        site.identities(an_identity(1), {**an_identity(2), **odd}, {**an_identity(3), **ops}, {**an_identity(4), **ops})
        site.publish()
        said = {r["LocalJobId"]: (r["VO"], r["FQAN"], r.get("VOGroup"), r.get("VORole")) for read in site.messages() for r in read}
        assert said == {
            "1": ("atlas", "/atlas/Role=pilot", "/atlas", "Role=pilot"),
            "2": ("cms", "/cms/Role=pilot", "/cms", "Role=pilot"),
            "3": ("ops", "/ops", "/ops", None),
            "4": ("dteam", "/dteam", "/dteam", None),
            "5": ("local-short", "/local-short", None, None),
            "6": ("local-nonlcg", "/local-nonlcg", None, None),
        }
        assert usage_by(site.store, by="vo").set_index("vo")["jobs"].to_dict() == {vo: 1 for vo, *_ in said.values()}

    def test_only_what_a_rule_asks_for_makes_the_table_of_mappings_longer(self, site: Site) -> None:
        def jobs(first: int) -> None:
            site.jobs(*(a_job(first + n, queue=f"q{n}", submit_at=T0 + first) for n in range(6)))
            fqans = ((n, f"/atlas/{'odd' if n < 2 else 'g'}{n}") for n in range(6))
            site.identities(*(an_identity(first + n, fqan=f, fqans=json.dumps([f]), recorded_at=T0 + first) for n, f in fqans))

        rows = []
        for number, rules in enumerate(([], [{"vo": "a", "fqan": "*/odd?"}], [{"vo": "a", "queue": "q*"}])):
            site.configure(vo={"rule": rules})
            jobs(100 * (number + 1))
            site.publish()
            with site.store.reading() as connection:
                rows.append(connection.scalar(select(func.count()).select_from(vo_mapping)))
        assert rows == [1, 1 + 3, 1 + 3 + 6]

    @ON_SQLITE
    @pytest.mark.parametrize(
        ("rule", "told"),
        [
            ({"vo": "a", "publish_fqan": "/a"}, "publish_fqan is for a rule with fqan"),
            ({"vo": "local-a", "fqan": "/a"}, "a rule with fqan is for grid jobs"),
            ({"vo": "a", "fqan": "/a", "publish_fqan": "a"}, "pattern"),
        ],
    )
    def test_a_rule_that_makes_no_sense_is_refused(self, site: Site, rule: dict[str, object], told: str) -> None:
        with pytest.raises(ValidationError, match=told):
            site.configure(vo={"rule": [rule]})

    def test_other_rules_hold_from_then_on_and_change_nothing_that_is_out(self, site: Site) -> None:
        site.jobs(a_job(1, queue="short"))
        site.publish()
        site.configure(vo={"default": "new"})
        site.jobs(a_job(2, queue="short"))
        site.publish()
        assert [record["VO"] for read in site.messages() for record in read] == ["local-nonlcg", "local-new"]

    @ON_SQLITE
    @pytest.mark.parametrize("line", ["x_FOO", "x_FOO foo bar"])
    def test_a_vos_file_with_another_line_is_refused(self, site: Site, tmp_path: Path, line: str) -> None:
        (tmp_path / "vos").write_text(f"x_BAR bar\n{line}\n")
        site.configure(vo={"file": tmp_path / "vos"})
        with pytest.raises(ConfigError, match="line 2"):
            site.publish()
