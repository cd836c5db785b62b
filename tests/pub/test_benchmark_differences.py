"""What a change of the benchmarks concerns: against the plain reference, on random ledgers; and what the command shows of it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchacct.archive.months import month_of, named_month
from batchacct.config_mapping import Benchmark
from pub.benchmark_command import benchmarks as command
from pub.benchmark_differences import HOSTS_BEGIN, differences, periods_to_republish, touched_periods
from pub.benchmarks import valid_of
from pub.republishing import Period, decide_anew
from pub.summaries import months_with_jobs
from tests.pristine import with_schema
from tests.pub.mapping_reference import Settings, benchmark_of
from tests.pub.mapping_strategies import FACTORS, HOSTS, benchmarks
from tests.pub.site import DAY, T0, Site, a_job

EXAMPLES = {"sqlite": 50, "postgresql": 8, "mariadb": 6}
CLUSTERS = [{"name": "c1"}, {"name": "c2"}]
TEMPLATES = {"local_job_id": "{cluster}.{id}", "local_job_id_array": "{cluster}.{id}-{index}"}
MANY_HOSTS = json.dumps([f"2*node1{number}" for number in range(100)])
assert len(MANY_HOSTS) > HOSTS_BEGIN

Row = Mapping[str, object]


@st.composite
def runs(draw: st.DrawFn) -> dict[str, object]:
    days = draw(st.sampled_from([-40, -1, 0, 1, 2, 3, 4, 30]))
    end_at = T0 + days * DAY
    return {
        "cluster": draw(st.sampled_from(["c1", "c1", "c2"])),
        "submit_at": end_at - 7200,
        "start_at": end_at - 3600,
        "end_at": end_at,
        "queue": "short",
        "exec_hosts": draw(st.one_of(HOSTS, HOSTS, st.just(MANY_HOSTS))),
        "host_factor": draw(FACTORS),
        "cpu_duration_s": draw(st.integers(0, 5000)),
    }


def shown(figures: Mapping[str, float] | None) -> str | None:
    return None if figures is None else ", ".join(f"{name} {value:g}" for name, value in figures.items())


@pytest.mark.slow
def test_what_differs_is_what_the_reference_says(site: Site) -> None:
    @settings(max_examples=EXAMPLES[site.store.dialect.name], deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.tuples(benchmarks(), st.lists(runs(), max_size=5)), min_size=1, max_size=3), benchmarks())
    def check(history: list[tuple[list[Settings], list[dict[str, object]]]], now: list[Settings]) -> None:
        site.emptied()
        published: dict[int, tuple[Row, dict[str, float]]] = {}
        everything: list[Row] = []
        for in_force, rows in history:
            site.configure(cluster=CLUSTERS, publish=TEMPLATES, benchmark=in_force)
            loaded = [a_job(len(everything) + number, **row) for number, row in enumerate(rows)]
            everything += loaded
            if loaded:
                site.jobs(*loaded)
            site.publish(T0 + 60 * DAY)
            for number, run in enumerate(everything):
                figures = benchmark_of(run, in_force)
                if figures is not None:
                    published.setdefault(number, (run, figures))
        site.configure(cluster=CLUSTERS, publish=TEMPLATES, benchmark=now)
        expected: dict[tuple[object, ...], tuple[int, int]] = {}
        for run, figures in published.values():
            fitting = benchmark_of(run, now)
            if list((fitting or {}).items()) != list(figures.items()):
                end_at = run["end_at"]
                assert isinstance(end_at, int) and isinstance(run["cpu_duration_s"], int)
                key = (month_of(end_at), run["cluster"], shown(figures), shown(fitting))
                jobs, cpu_s = expected.get(key, (0, 0))
                expected[key] = jobs + 1, cpu_s + run["cpu_duration_s"]
        found = differences(site.store, site.config, months_with_jobs(site.store, site.clock))
        assert {(d.month, d.cluster, d.then, d.now): (d.jobs, d.cpu_s) for d in found} == expected
        for run, figures in published.values():
            if list((benchmark_of(run, now) or {}).items()) != list(figures.items()):
                assert any(first <= run["end_at"] <= last for first, last in periods_to_republish(found))  # type: ignore[operator]

    check()


def configured(site: Site, *of_cores: Settings) -> None:
    site.configure(cluster=CLUSTERS, publish=TEMPLATES, benchmark=list(of_cores))


def ended(number: int, day: dt.date, **columns: object) -> dict[str, object]:
    end_at = int(dt.datetime.combine(day, dt.time(12), dt.UTC).timestamp())
    return a_job(number, submit_at=end_at - 7200, start_at=end_at - 3600, end_at=end_at, queue="short", **columns)


def test_a_date_in_the_past_concerns_exactly_the_days_from_then_on(site: Site) -> None:
    old, new = {"type": "HEPSPEC", "value": 10.0}, {"type": "HEPSPEC", "value": 12.5, "valid_from": dt.date(2023, 9, 15)}
    configured(site, old)
    days = (dt.date(2023, 7, 31), dt.date(2023, 9, 14), dt.date(2023, 9, 15), dt.date(2023, 10, 3), dt.date(2023, 10, 9))
    site.jobs(*(ended(number, day, cpu_duration_s=3600) for number, day in enumerate(days)))
    site.publish()
    months = months_with_jobs(site.store, site.clock)
    assert differences(site.store, site.config, months) == []
    configured(site, old, new)
    found = differences(site.store, site.config, months)
    september, october = named_month("2023-09"), named_month("2023-10")
    assert [(d.month, d.jobs, d.then, d.now, d.normalised_then, d.normalised_now) for d in found] == [
        (september, 1, "HEPSPEC 10", "HEPSPEC 12.5", 36_000.0, 45_000.0),
        (october, 2, "HEPSPEC 10", "HEPSPEC 12.5", 72_000.0, 90_000.0),
    ]
    ((first, last),) = periods_to_republish(found)
    assert [dt.datetime.fromtimestamp(at, dt.UTC).date() for at in (first, last)] == [days[2], days[4]]
    decide_anew(site.store, site.config, Period(first, last + 1), site.clock)
    assert differences(site.store, site.config, months) == []
    site.publish()
    published = [(str(r["LocalJobId"]), r["ServiceLevel"]) for read in site.messages() for r in read]
    assert published == [*((f"c1.{n}", 10.0) for n in range(5)), *((f"c1.{n}", 12.5) for n in (2, 3, 4))]


def test_what_went_out_keeps_its_benchmark_and_a_warning_tells_of_it(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    configured(site, {"type": "HEPSPEC", "value": 10.0})
    site.jobs(a_job(1, queue="short"))
    site.publish()
    assert "the benchmarks were changed" not in caplog.text
    configured(site, {"type": "HEPSPEC", "value": 11.0})
    site.publish()
    assert caplog.text.count("the benchmarks were changed: what is published keeps its own") == 1
    site.publish()
    assert caplog.text.count("the benchmarks were changed") == 1
    assert [record["ServiceLevel"] for read in site.messages() for record in read] == [10.0]


def test_months_that_no_change_concerns_are_not_looked_at() -> None:
    old, new = ({"type": "HEPSPEC", "value": 10.0 + n, "valid_from": dt.date(2023 + n, 1, 1)} for n in (0, 1))
    one, other = (valid_of(Benchmark.model_validate(settings)) for settings in (old, new))
    begin, turn, end = one.valid_from, other.valid_from, one.valid_until
    assert touched_periods([one], [one]) == []
    assert touched_periods([one], [one, other]) == [(turn, end)]
    assert touched_periods([one, other], [one]) == [(turn, end)]
    assert touched_periods([one], []) == [(begin, end)]


def test_the_command(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/batchacct.db"
    store = with_schema(url)
    site = Site(store)
    configured(site, {"type": "HEPSPEC", "value": 10.0})
    site.jobs(*(ended(n, dt.date(2023, 10, n), exec_hosts='["1*node1"]', cluster="c1") for n in (3, 9)))
    site.publish()
    store.close()
    path = tmp_path / "b.toml"
    benchmark = '[[benchmark]]\ntype = "HEPSPEC"\nvalue = 10.0\n'
    head = f'site = "S"\n[database]\nurl = "{url}"\n'

    def told(text: str, *options: str) -> str:
        path.write_text(head + text)
        result = CliRunner().invoke(command, ["--config", str(path), *options], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    assert "Nothing is published with another benchmark than these give." in told(benchmark)
    changed = told(benchmark + '[[benchmark]]\nhosts = ["node*"]\ntype = "HEPscore23"\nvalue = 11\nalso = {HEPSPEC = 10}\n')
    assert "HEPscore23 11, HEPSPEC 10" in changed
    assert changed.rstrip().endswith("batchacct republish --from 2023-10-03 --to 2023-10-09")
    assert "none: not to be published" in told("")
    assert "Nothing is published" in told("", "--to", "2023-09")
