"""The join against a plain reference: small random sites, records in any order, several runs with a clock that moves on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from batchacct.store.tables import identity, job, usage
from pub.joining import NO_VO_TOLD
from tests.pub.mapping_reference import Settings, benchmark_of, vo_of
from tests.pub.mapping_strategies import FACTORS, HOSTS, PROJECTS, benchmarks, told, voms
from tests.pub.site import DAY, HOUR, T0, Site, a_job, an_identity

Row = Mapping[str, object]
Verdict = tuple[str, str, str | None]

EXAMPLES = {"sqlite": 30, "postgresql": 8, "mariadb": 6}
GRACE, MAX_HOLD = DAY, 6 * DAY
CLUSTERS = [{"name": "c1", "grid_queues": ["grid_*"]}, {"name": "c2", "grid_queues": ["grid_*"]}]
TEMPLATES = {"local_job_id": "{cluster}.{id}", "local_job_id_array": "{cluster}.{id}-{index}"}


@dataclass
class Phase:
    """Loads that arrive, and a run of the publisher so long after the last one; `read`: the CE was read to its end before it."""

    loads: list[list[Row]]
    after_s: int
    read: bool


@dataclass
class Reference:
    """What docs/explanation/join.md says, for everything that has arrived, one job after the other."""

    then: str
    vo: Settings
    benchmarks: list[Settings]
    jobs: dict[object, list[Row]] = field(default_factory=dict)
    identities: dict[object, list[Row]] = field(default_factory=dict)

    def arrived(self, row: Row) -> None:
        """The last new content of a record is in force; content seen before changes nothing."""
        is_job = "end_at" in row
        known = self.jobs if is_job else self.identities
        revisions = known.setdefault(job_key(row) if is_job else identity_key(row), [])
        if row not in revisions:
            revisions.append(row)

    def verdicts(self, now: int, read_until: int) -> dict[object, Verdict]:
        return {key: self.verdict(revisions[-1], now, read_until) for key, revisions in self.jobs.items()}

    def identity_of(self, run: Row) -> tuple[int, Row | None]:
        """How many are equally near, and the nearest one if it is the only one."""
        fitting = [one for (*_, one) in self.identities.values() if fits(one, run)]
        best = min((nearness(one, run) for one in fitting), default=None)
        nearest = [one for one in fitting if nearness(one, run) == best]
        return len(nearest), nearest[0] if len(nearest) == 1 else None

    def excluded(self, run: Row) -> str | None:
        if run["start_at"] is None:
            return "never started"
        if run["cpu_duration_s"] is None:
            return "unknown CPU time"
        return "no benchmark" if benchmark_of(run, self.benchmarks) is None else None

    def verdict(self, run: Row, now: int, read_until: int) -> Verdict:
        nearest, who = self.identity_of(run)
        one = None if who is None else str(who["dn"])
        if (why := self.excluded(run)) is not None:
            return "excluded", why, one
        if who is not None:
            is_told = vo_of(run, who, self.vo)[2]
            return "joined", "nearest identity" if is_told else NO_VO_TOLD, one
        if nearest:
            return "waiting", "several identities fit equally well", None
        if not str(run["queue"]).startswith("grid_"):
            return "local", "local queue" if run["queue"] else "queue unknown", None
        end = seconds(run["end_at"])
        if end <= now - MAX_HOLD or (end <= now - GRACE and end < read_until):
            return ("local" if self.then == "local" else "waiting"), "no identity came", None
        return "waiting", "no identity yet", None


def seconds(value: object) -> int:
    assert isinstance(value, int)
    return value


def fits(who: Row, run: Row) -> bool:
    if (who["cluster"], str(who["lrms_job_id"]).split(".")[0]) != (run["cluster"], run["lrms_job_id"]):
        return False
    if who["array_index"] not in (None, run["array_index"]):
        return False
    t, e = seconds(who["recorded_at"]), seconds(run["end_at"])
    if who["time_kind"] == "end":
        return abs(t - e) <= DAY
    if run["submit_at"] is None:
        return t - DAY <= e < t + 28 * DAY
    s = seconds(run["submit_at"])
    return abs(t - s) <= DAY if who["time_kind"] == "submit" else s - 30 * DAY <= t <= s + HOUR


def nearness(who: Row, run: Row) -> tuple[int, bool, bool, bool]:
    to_end = who["time_kind"] == "end" or run["submit_at"] is None
    away = abs(seconds(who["recorded_at"]) - seconds(run["end_at"] if to_end else run["submit_at"]))
    other_spelling = who["lrms_job_id"] != run["lrms_job_id"]
    other_account = who["local_user"] is None or who["local_user"] not in (run["user_name"], str(run["user_id"]))
    other_queue = not str(who["ce_id"]).endswith(f"-{run['queue']}")
    return away, other_spelling, other_account, other_queue


def job_key(row: Row) -> object:
    return tuple(row[name] for name in ("cluster", "lrms_job_id", "array_index", "start_at", "end_at"))


def identity_key(row: Row) -> object:
    return row["record_key"], row["recorded_at"]


MOMENTS = st.builds(
    lambda days, exact: T0 + days * DAY + exact,
    st.sampled_from([0, 0, 0, 1, 2, 3, -1, 30]),
    st.sampled_from([0, 0, 0, 1, -1, HOUR, HOUR + 1, 7200]),
)


@st.composite
def jobs(draw: st.DrawFn) -> Row:
    start_at = draw(st.one_of(MOMENTS, MOMENTS, MOMENTS, st.none()))
    end_at = (start_at or T0) + draw(st.sampled_from([0, 1, HOUR, 2 * DAY, 28 * DAY]))
    return a_job(
        draw(st.sampled_from(["7", "7", "8"])),
        cluster=draw(st.sampled_from(["c1", "c1", "c2"])),
        array_index=draw(st.sampled_from([None, None, 1, 2])),
        submit_at=draw(st.one_of(MOMENTS, st.just(start_at))),
        start_at=start_at,
        end_at=end_at,
        user_name=draw(st.sampled_from(["alice", "bob", None])),
        user_id=draw(st.sampled_from([1001, 1002])),
        queue=draw(st.sampled_from(["grid_a", "grid_b", "GRID_a", "short", None])),
        cpu_duration_s=draw(st.sampled_from([900, 900, 901, None])),
        exec_hosts=draw(HOSTS),
        host_factor=draw(FACTORS),
        project=draw(PROJECTS),
    )


@st.composite
def identities(draw: st.DrawFn) -> Row:
    number = draw(st.sampled_from(["7", "7", "8"]))
    return an_identity(
        number,
        dn=f"/CN=User {draw(st.integers(1, 4))}",
        lrms_job_id=draw(st.sampled_from([number, f"{number}.server"])),
        join_id=number,
        cluster=draw(st.sampled_from(["c1", "c1", "c2"])),
        array_index=draw(st.sampled_from([None, None, None, 1])),
        time_kind=draw(st.sampled_from(["submit", "submit", "accept", "end"])),
        recorded_at=draw(MOMENTS),
        local_user=draw(st.sampled_from(["alice", "bob", "1001", None])),
        ce_id=draw(st.sampled_from(["ce1:8443/cream-lsf-grid_a", "ce2:8443/cream-lsf-grid_b", "ce3:8443/cream-lsf-gridxa", None])),
        **draw(told()),
    )


LOADS = st.lists(st.one_of(st.lists(jobs(), min_size=1, max_size=3), st.lists(identities(), min_size=1, max_size=3)), max_size=4)
PHASES = st.builds(Phase, LOADS, st.sampled_from([0, 1, HOUR, DAY, 3 * DAY, 7 * DAY]), st.booleans())


@pytest.mark.slow
def test_the_ledger_is_that_of_the_reference_whatever_the_order(site: Site) -> None:
    """Also: books balance at every moment, no job twice in the ledger, and the receiver ends with the ledger's records."""

    @settings(max_examples=EXAMPLES[site.store.dialect.name], deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(PHASES, min_size=1, max_size=3), st.sampled_from(["local", "hold"]), voms(), benchmarks(min_size=1))
    def check(history: list[Phase], then: str, vo: Settings, of_cores: list[Settings]) -> None:
        site.emptied()
        site.clock = T0
        join = {"grace": GRACE, "max_hold": MAX_HOLD, "then": then}
        ce = {"ce1*": "c1", "*": "c2"}
        site.configure(cluster=CLUSTERS, ce=ce, join=join, publish=TEMPLATES, vo=vo, benchmark=of_cores)
        play(site, history, Reference(then, vo, of_cores))

    check()


def play(site: Site, history: list[Phase], reference: Reference) -> None:
    read_until = 0
    for phase in history:
        for rows in phase.loads:
            (site.jobs if "end_at" in rows[0] else site.identities)(*rows)
            for row in rows:
                reference.arrived(row)
        books = site.books()
        assert books.balanced, books.problems
        site.clock += phase.after_s
        if phase.read:
            read_until = site.clock
            site.read_to_end(read_until)
        site.publish()
        site.assert_sound()
        expected = reference.verdicts(site.clock, read_until)
        assert found(site) == expected
        assert_received(site, reference, expected)


def found(site: Site) -> dict[object, Verdict]:
    columns = [job.c[name] for name in ("cluster", "lrms_job_id", "array_index", "start_at", "end_at")]
    query = select(*columns, usage.c.outcome, usage.c.reason, identity.c.dn).select_from(
        usage.join(job, job.c.id == usage.c.job_id).outerjoin(identity, identity.c.id == usage.c.identity_id)
    )
    with site.store.reading() as connection:
        return {tuple(row[:5]): (row[5], row[6], row[7]) for row in connection.execute(query)}


def assert_received(site: Site, reference: Reference, expected: Mapping[object, Verdict]) -> None:
    """Every record that goes out is what the receiver has, where its key is that of one job alone.

    One that ended too far ahead of the clock for the receiver goes out when its time has come.
    """
    received = site.received()
    owners: dict[tuple[str, object], list[object]] = {}
    for key, revisions in reference.jobs.items():
        owners.setdefault(receiver_key(revisions[-1]), []).append(key)
    for at_receiver, keys in owners.items():
        outcome, _, dn = expected[keys[0]]
        ahead = seconds(at_receiver[1]) > site.clock + 2 * DAY
        if ahead:
            assert at_receiver not in received
        elif len(keys) == 1 and outcome in ("joined", "local"):
            record = received[at_receiver]
            run = reference.jobs[keys[0]][-1]
            who = reference.identity_of(run)[1]
            figures = benchmark_of(run, reference.benchmarks)
            assert figures is not None
            assert (record["VO"], record["FQAN"]) == vo_of(run, who, reference.vo)[:2]
            assert (record["ServiceLevelType"], record["ServiceLevel"]) == next(iter(figures.items()))
            assert record["GlobalUserName"] == dn if dn else record.get("GlobalUserName") is None
            assert record["CpuDuration"] == run["cpu_duration_s"]
            assert record["InfrastructureType"] == ("grid" if dn else "local")


def receiver_key(run: Row) -> tuple[str, object]:
    index = "" if run["array_index"] is None else f"-{run['array_index']}"
    return f"{run['cluster']}.{run['lrms_job_id']}{index}", run["end_at"]
