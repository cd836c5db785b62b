"""The rules of the join, one by one: which identity, how long a job waits, what is not published and why, corrections."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import select

from batchacct.store.tables import load
from tests.pub.site import DAY, HOUR, T0, Site, a_job, an_identity

LATER = T0 + 10 * DAY
CLUSTERS = [{"name": "c1", "grid_queues": ["grid_*"]}, {"name": "c2"}, {"name": "c3"}]
TEMPLATES = {"local_job_id": "{cluster}.{id}", "local_job_id_array": "{cluster}.{id}.{index}"}


@pytest.mark.parametrize(
    ("kind", "before_s", "after_s"),
    [("submit", DAY, DAY), ("accept", 30 * DAY, HOUR), ("end", DAY - 1100, DAY + 1100)],
)
def test_an_identity_joins_up_to_the_borders_of_its_window(site: Site, kind: str, before_s: int, after_s: int) -> None:
    offsets = (-before_s, -before_s - 1, after_s, after_s + 1)
    site.jobs(*(a_job(n) for n in range(4)))
    site.identities(*(an_identity(n, time_kind=kind, recorded_at=T0 + s) for n, s in enumerate(offsets)))
    site.publish(LATER)
    assert site.outcomes() == ["joined", "waiting", "joined", "waiting"]


def test_without_a_submit_time_the_end_is_from_a_day_before_to_28_days_after_the_identity(site: Site) -> None:
    ends = (T0 - DAY, T0 - DAY - 1, T0 + 28 * DAY - 1, T0 + 28 * DAY)
    site.jobs(*(a_job(n, submit_at=None, start_at=end - 10, end_at=end) for n, end in enumerate(ends)))
    site.identities(*(an_identity(n) for n in range(4)))
    site.publish(T0 + 28 * DAY)
    assert site.names() == ["/CN=Alice", None, "/CN=Alice", None]


def test_an_identity_told_after_the_end_of_a_short_job_joins(site: Site) -> None:
    site.jobs(a_job())
    site.identities(an_identity(recorded_at=T0 + 2 * HOUR))
    site.publish()
    assert site.outcomes() == ["joined"]


def test_the_nearest_identity_is_taken(site: Site) -> None:
    site.jobs(a_job())
    site.identities(an_identity(dn="/CN=Far", recorded_at=T0 - 11), an_identity(dn="/CN=Near", recorded_at=T0 + 10))
    site.publish()
    assert site.names() == ["/CN=Near"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"lrms_job_id": "1", "local_user": "bob"}, {"lrms_job_id": "1.server", "join_id": "1"}),
        ({"local_user": "alice", "ce_id": "ce:1/cream-lsf-other"}, {"local_user": "bob"}),
        ({"local_user": "1001"}, {"local_user": "1002"}),
        ({"local_user": "alice"}, {"local_user": None}),
        ({}, {"ce_id": "ce:1/cream-lsf-gridxa"}),
        ({}, {"ce_id": "ce:1/cream-lsf-GRID_A"}),
        ({}, {"ce_id": "grid_a"}),
        ({}, {"ce_id": None}),
    ],
)
def test_equally_near_ones_are_told_apart_by_spelling_then_account_then_queue(
    site: Site, right: dict[str, object], wrong: dict[str, object]
) -> None:
    site.jobs(a_job())
    site.identities(an_identity(dn="/CN=Wrong", **wrong), an_identity(dn="/CN=Right", **right))
    site.publish()
    assert site.names() == ["/CN=Right"]


@pytest.mark.parametrize("queue", ["grid%", "100%_a", "back\\slash", "a[1]"])
def test_a_queue_is_compared_as_it_is_whatever_a_database_takes_for_a_wildcard(site: Site, queue: str) -> None:
    near_miss = queue.replace("%", "xx").replace("_", "y").replace("\\", "").replace("[1]", "1")
    site.jobs(a_job(queue=queue))
    site.identities(
        an_identity(dn="/CN=Wrong", ce_id=f"ce:1/cream-lsf-{near_miss}"),
        an_identity(dn="/CN=Right", ce_id=f"ce:1/cream-lsf-{queue}"),
    )
    site.publish()
    assert site.names() == ["/CN=Right"]


def test_a_tie_is_held_however_long_it_takes(site: Site) -> None:
    site.jobs(a_job())
    site.identities(an_identity(dn="/CN=One"), an_identity(dn="/CN=Two"))
    site.publish(T0 + 400 * DAY)
    assert site.ledger() == [("waiting", "several identities fit equally well", None)]
    assert site.messages() == []


def test_a_tie_is_resolved_by_a_nearer_identity(site: Site) -> None:
    site.jobs(a_job())
    site.identities(an_identity(dn="/CN=One", recorded_at=T0 + 1), an_identity(dn="/CN=Two", recorded_at=T0 - 1))
    site.publish()
    site.identities(an_identity(dn="/CN=Near"))
    site.publish()
    assert site.names() == ["/CN=Near"]


def test_one_identity_serves_all_elements_and_all_runs_of_its_job(site: Site) -> None:
    requeued = a_job(2, start_at=T0 + 5000)
    site.jobs(*(a_job(1, array_index=n) for n in (1, 2, 3)), a_job(2), requeued)
    site.identities(an_identity(1), an_identity(2, dn="/CN=Bob"))
    site.publish()
    assert site.names() == ["/CN=Alice"] * 3 + ["/CN=Bob"] * 2


def test_an_identity_of_one_element_is_not_that_of_another(site: Site) -> None:
    site.jobs(*(a_job(array_index=n) for n in (1, 2)), a_job())
    site.identities(an_identity(array_index=2))
    site.publish(T0 + HOUR)
    assert site.outcomes() == ["waiting", "joined", "waiting"]


def test_a_recycled_id_joins_its_own_identity(site: Site) -> None:
    """Gratia's sample: the same ids 70 days apart are different jobs."""
    site.jobs(a_job(), a_job(submit_at=T0 + 70 * DAY))
    site.identities(an_identity(recorded_at=T0 + 70 * DAY + 1))
    site.publish(T0 + 100 * DAY)
    assert site.names() == [None, "/CN=Alice"]


def test_clusters_are_id_spaces_of_their_own(site: Site) -> None:
    site.configure(cluster=CLUSTERS, publish=TEMPLATES)
    site.jobs(a_job(), a_job(cluster="c2"))
    site.identities(an_identity(cluster="c2"))
    site.publish(LATER)
    assert site.names() == [None, "/CN=Alice"]
    assert site.outcomes() == ["waiting", "joined"]


class TestWaiting:
    """A job ends at T0 + 1100; `site` has one identity source, `ce`."""

    @pytest.mark.parametrize(("queue", "outcome"), [("grid_a", "waiting"), ("short", "local"), (None, "local")])
    def test_only_jobs_of_grid_queues_wait(self, site: Site, queue: str | None, outcome: str) -> None:
        site.jobs(a_job(queue=queue))
        site.publish(T0 + HOUR)
        assert site.outcomes() == [outcome]

    def test_a_pattern_for_every_queue_holds_for_a_job_without_one(self, site: Site) -> None:
        site.configure(cluster=[{"name": "c1", "grid_queues": ["*"]}])
        site.jobs(a_job(queue=None))
        site.publish(T0 + HOUR)
        assert site.outcomes() == ["waiting"]

    def test_a_bracket_in_a_pattern_is_a_bracket(self, site: Site) -> None:
        site.configure(cluster=[{"name": "c1", "grid_queues": ["grid[1]*"]}])
        site.jobs(a_job(1, queue="grid[1]a"), a_job(2, queue="grid1a"))
        site.publish(T0 + HOUR)
        assert site.outcomes() == ["waiting", "local"]

    @pytest.mark.parametrize(
        ("read_at", "now", "outcome"),
        [
            (T0 + 1101, T0 + 1100 + DAY, "local"),
            (T0 + 1101, T0 + 1100 + DAY - 1, "waiting"),
            (T0 + 1100, T0 + 1100 + DAY, "waiting"),
            (None, T0 + 1100 + 14 * DAY - 1, "waiting"),
            (None, T0 + 1100 + 14 * DAY, "local"),
        ],
    )
    def test_grace_and_reading_to_the_end_release_it_or_max_hold_alone(
        self, site: Site, read_at: int | None, now: int, outcome: str
    ) -> None:
        site.jobs(a_job())
        if read_at:
            site.read_to_end(read_at)
        site.publish(T0 + 1200)
        site.publish(now)
        assert site.outcomes() == [outcome]

    def test_whether_an_unknown_queue_was_a_grid_queue_nobody_can_say(self, site: Site) -> None:
        site.jobs(a_job(queue=None), a_job(cluster="c2", lrms_job_id="2", queue=None))
        site.publish(LATER)
        assert site.ledger() == [("local", "queue unknown", None), ("local", "local queue", None)]

    def test_every_identity_source_of_the_cluster_counts(self, site: Site) -> None:
        sources = [{"name": n, "parser": "blah", "paths": ["/x"]} for n in ("ce", "ce2")]
        site.configure(source=[*sources, {"name": "lsf", "parser": "lsf", "paths": ["/x"], "cluster": "c1"}])
        site.jobs(a_job())
        site.read_to_end(LATER)
        site.publish(LATER)
        assert site.outcomes() == ["waiting"]
        site.read_to_end(LATER, "ce2")
        site.publish()
        assert site.outcomes() == ["local"]

    def test_a_cluster_without_identity_sources_waits_for_grace_alone(self, site: Site) -> None:
        site.configure(source=[], ce={})
        site.jobs(a_job())
        site.publish(T0 + 1100 + DAY)
        assert site.ledger() == [("local", "no identity came", None)]

    def test_then_hold_waits_for_ever(self, site: Site) -> None:
        site.configure(join={"then": "hold"})
        site.jobs(a_job())
        site.publish(T0 + 400 * DAY)
        assert site.ledger() == [("waiting", "no identity came", None)]


class TestExcluded:
    @pytest.mark.parametrize(
        ("columns", "reason"),
        [
            ({"start_at": None, "cpu_duration_s": None, "state": "never_started"}, "never started"),
            ({"end_at": None, "logged_at": T0 + 1}, "not ended"),
            ({"cpu_duration_s": None}, "unknown CPU time"),
        ],
    )
    def test_what_is_no_usage_is_excluded_even_with_an_identity(self, site: Site, columns: dict[str, object], reason: str) -> None:
        site.jobs(a_job(**columns))
        site.identities(an_identity())
        site.publish()
        assert site.ledger() == [("excluded", reason, "/CN=Alice")]
        assert site.messages() == []
        site.assert_sound()

    def test_unknown_cpu_can_go_out_as_zero(self, site: Site) -> None:
        site.configure(join={"unknown_cpu": "zero"})
        site.jobs(a_job(queue="short", cpu_duration_s=None))
        site.publish()
        ((record,),) = site.messages()
        assert record["CpuDuration"] == 0

    def test_without_a_benchmark_it_waits_for_one_to_be_configured(self, site: Site) -> None:
        site.configure(benchmark=[])
        site.jobs(a_job())
        site.identities(an_identity())
        site.publish()
        assert site.ledger() == [("excluded", "no benchmark", "/CN=Alice")]
        site.configure()
        joined, _ = site.publish()
        assert joined == {("joined", "nearest identity"): 1}
        ((record,),) = site.messages()
        assert record["ServiceLevel"] == 10.0

    def test_the_reason_follows_the_record(self, site: Site) -> None:
        """Nothing else than the reason differs: it must not stay behind."""
        site.configure(benchmark=[], join={"unknown_cpu": "zero"})
        site.jobs(a_job(cpu_duration_s=None))
        site.publish()
        site.configure(benchmark=[{"type": "Si2k", "value": 1.0, "valid_until": dt.date(2000, 1, 1)}])
        site.publish()
        assert site.ledger() == [("excluded", "unknown CPU time", None)]


class TestCorrections:
    def test_an_identity_that_comes_after_the_job_went_out_as_local_corrects_it(self, site: Site) -> None:
        site.jobs(a_job(queue="short"))
        site.publish()
        assert site.received()["1", T0 + 1100]["InfrastructureType"] == "local"
        site.identities(an_identity())
        site.publish()
        assert [(outcome, number) for _, outcome, number, _ in site.history()] == [("local", 1)]
        assert len(site.messages()) == 2
        assert site.received()["1", T0 + 1100]["GlobalUserName"] == "/CN=Alice"
        site.assert_sound()

    def test_a_nearer_identity_that_comes_later_takes_the_place_of_the_first(self, site: Site) -> None:
        site.jobs(a_job())
        site.identities(an_identity(dn="/CN=First", recorded_at=T0 + 60))
        site.publish()
        site.identities(an_identity(dn="/CN=Second", recorded_at=T0 + 1))
        site.publish()
        assert site.received()["1", T0 + 1100]["GlobalUserName"] == "/CN=Second"
        assert [(outcome, number) for _, outcome, number, _ in site.history()] == [("joined", 1)]

    def test_a_farther_identity_changes_nothing(self, site: Site) -> None:
        site.jobs(a_job())
        site.identities(an_identity())
        site.publish()
        site.identities(an_identity(dn="/CN=Late", recorded_at=T0 + 60))
        joined, done = site.publish()
        assert (dict(joined), done.records, site.history()) == ({}, 0, [])

    def test_a_newer_record_of_a_published_job_goes_out_under_the_same_key(self, site: Site) -> None:
        site.jobs(a_job(queue="short"))
        site.publish()
        site.jobs(a_job(queue="short", cpu_duration_s=950))
        assert site.books().balanced
        assert site.books().jobs.not_joined == 1
        site.publish()
        assert [(outcome, number, why) for _, outcome, number, why in site.history()] == [("local", 1, "job record replaced")]
        assert [(key, record["CpuDuration"]) for key, record in site.received().items()] == [(("1", T0 + 1100), 950)]
        site.assert_sound()

    def test_two_newer_records_at_once_count_once(self, site: Site) -> None:
        site.jobs(a_job(queue="short"))
        site.publish()
        site.jobs(a_job(queue="short", cpu_duration_s=950), a_job(queue="short", cpu_duration_s=960))
        site.jobs(a_job(queue="short", cpu_duration_s=970))
        assert (site.books().balanced, site.books().jobs.superseded) == (True, 3)
        site.publish()
        assert site.received()["1", T0 + 1100]["CpuDuration"] == 970
        assert len(site.history()) == 1
        site.assert_sound()

    def test_a_waiting_job_with_a_newer_record_is_looked_at_once(self, site: Site) -> None:
        site.jobs(a_job())
        site.publish(T0 + HOUR)
        site.jobs(a_job(cpu_duration_s=950))
        joined, _ = site.publish()
        assert joined == {("waiting", "no identity yet"): 1}
        site.assert_sound()

    def test_a_newer_record_of_an_identity_is_what_joins(self, site: Site) -> None:
        site.jobs(a_job())
        site.identities(an_identity(vo="atlas"))
        site.publish()
        site.identities(an_identity(vo="cms", fqan="/cms", fqans='["/cms"]'))
        site.publish()
        assert site.received()["1", T0 + 1100]["VO"] == "cms"
        assert len(site.history()) == 1
        site.assert_sound()

    def test_a_late_tie_takes_the_job_back_until_it_is_resolved(self, site: Site) -> None:
        site.jobs(a_job())
        site.identities(an_identity(dn="/CN=One"))
        site.publish()
        site.identities(an_identity(dn="/CN=Two"))
        site.publish()
        assert site.outcomes() == ["waiting"]
        assert len(site.history()) == 1
        site.assert_sound()


def test_what_was_there_already_is_not_counted_again(site: Site) -> None:
    """An identity is seen both by the look at waiting jobs and by its own load: the job is one job all the same."""
    site.jobs(a_job(1), a_job(2))
    assert site.publish(T0 + HOUR)[0] == {("waiting", "no identity yet"): 2}
    site.identities(an_identity(1))
    assert site.publish()[0] == {("joined", "nearest identity"): 1}
    assert site.publish()[0] == {}


def test_many_loads_are_joined_in_several_steps(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pub.joining.RECORDS_PER_STEP", 3)
    for n in range(5):
        site.identities(an_identity(n), an_identity(n + 100))
        site.jobs(a_job(n), a_job(n + 100))
    site.publish()
    assert site.outcomes() == ["joined"] * 10
    with site.store.reading() as connection:
        assert set(connection.scalars(select(load.c.joined_at))) == {site.clock}
    site.assert_sound()


def test_a_job_of_the_epoch_is_joined(site: Site) -> None:
    """A time of 0 is a time, and none that is not known."""
    site.identities(an_identity(recorded_at=0))
    site.jobs(a_job(submit_at=0, start_at=100, end_at=40 * DAY))
    site.publish()
    assert site.names() == ["/CN=Alice"]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("days", [20, 60, 4000])
def test_a_job_that_was_logged_long_before_its_submission(site: Site, days: int, late: bool) -> None:
    """The clocks are wrong, and the identity belongs to it whenever it comes, on each database."""
    records = [a_job(logged_at=T0 - days * DAY), a_job(2, submit_at=T0 + 200 * DAY)]
    if late:
        site.jobs(*records)
        site.publish(T0 + 300 * DAY)
        assert site.outcomes() == ["local"] * 2
        site.identities(an_identity())
    else:
        site.identities(an_identity())
        site.jobs(*records)
    site.publish()
    assert site.names() == ["/CN=Alice", None]


class TestRequeued:
    """Slurm writes the time of the requeue for the submit time of the runs that follow."""

    def run(self, number: int, submit_at: int, end_at: int, **columns: object) -> dict[str, object]:
        times = {"submit_at": submit_at, "start_at": submit_at + 10, "end_at": end_at}
        return a_job(number, **{"lrms": "Slurm", "state": "requeued", **times, **columns})

    def test_each_run_has_the_identity_of_the_first_submission(self, site: Site) -> None:
        second, third = T0 + 2 * DAY, T0 + 4 * DAY
        site.identities(an_identity(recorded_at=T0 + 5))
        site.jobs(self.run(1, T0, second), self.run(1, second + 2, third), self.run(1, third - 1, third + HOUR, state="completed"))
        site.publish()
        assert site.names() == ["/CN=Alice"] * 3

    @pytest.mark.parametrize("kind", ["submit", "accept"])
    def test_a_late_identity_is_that_of_each_run(self, site: Site, kind: str) -> None:
        second, third = T0 + 2 * DAY, T0 + 40 * DAY
        runs = [self.run(1, T0, second), self.run(1, second + 2, third), self.run(1, third - 1, third + HOUR, state="completed")]
        of_others = [
            self.run(1, third + 3 * HOUR, third + 4 * HOUR),
            self.run(2, second, third),
            self.run(1, T0, second, cluster="c2"),
        ]
        element = self.run(1, third, third + HOUR, array_index=3)
        site.configure(cluster=CLUSTERS, publish=TEMPLATES)
        site.jobs(*runs, *of_others, element)
        site.publish(third + 90 * DAY)
        assert site.names() == [None] * 7
        site.identities(an_identity(recorded_at=T0 + 5, time_kind=kind))
        site.publish()
        late = site.ledger()
        assert site.names() == ["/CN=Alice"] * 3 + [None] * 4
        site.emptied()
        site.identities(an_identity(recorded_at=T0 + 5, time_kind=kind))
        site.jobs(*runs, *of_others, element)
        site.publish()
        assert site.ledger() == late
        site.assert_sound()

    def test_a_late_first_run_tells_the_next_ones_whose_they_are(self, site: Site) -> None:
        second, third = T0 + 2 * DAY, T0 + 40 * DAY
        site.identities(an_identity(recorded_at=T0 + 5))
        site.jobs(self.run(1, second + 2, third), self.run(1, third - 1, third + HOUR, state="completed"))
        site.publish(third + 90 * DAY)
        assert site.names() == [None] * 2
        site.jobs(self.run(1, T0, second))
        site.publish()
        assert site.names() == ["/CN=Alice"] * 3
        site.assert_sound()

    def test_a_recycled_id_is_another_job(self, site: Site) -> None:
        second = T0 + 2 * DAY
        site.identities(an_identity(recorded_at=T0 + 5))
        site.jobs(
            self.run(1, T0, second),
            self.run(1, second + 2 * HOUR, second + 3 * HOUR, state="completed"),
            self.run(2, T0, second, state="completed"),
            self.run(2, second, second + HOUR, state="completed"),
        )
        site.publish()
        assert site.names() == ["/CN=Alice", None, None, None]

    def test_of_other_batch_systems_the_submit_time_stands(self, site: Site) -> None:
        second = T0 + 2 * DAY
        site.identities(an_identity(recorded_at=T0 + 5))
        site.jobs(self.run(1, T0, second, lrms="PBS"), self.run(1, second, second + HOUR, lrms="PBS"))
        site.publish()
        assert site.names() == ["/CN=Alice", None]
