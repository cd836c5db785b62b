"""The books of a period: every figure a sum one can do by hand, and what does not add up is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, literal, select, update

from batchacct.config import MAIN
from batchacct.errors import PublishError
from batchacct.ledger.audit import Audit, Sums, read_audit
from batchacct.ledger.gaps import Watched
from batchacct.ledger.silence import HOUR, Silence
from batchacct.store import Store
from batchacct.store.payload import packed
from batchacct.store.sent import GOES_OUT
from batchacct.store.tables import destination, job, kept_back, load, message, source_state, usage
from tests.cli.runner import batchacct
from tests.cli.site import NOW, blah, lsf
from tests.cli.site import Site as CliSite
from tests.pub.site import DAY, T0, Site, a_job, an_identity

WEEK = 7 * DAY
DAYS = (T0 // DAY * DAY, T0 // DAY * DAY + 3 * DAY)


def audit(site: Site, since: int = DAYS[0], until: int = DAYS[1], watched: tuple[Watched, ...] = ()) -> Audit:
    with site.store.reading() as connection:
        return read_audit(connection, watched, since, until, site.clock)


def busy(site: Site) -> None:
    """Two grid jobs, one of them known; a local one, one without CPU time, and one of the week after."""
    site.jobs(
        a_job(1, processors=4),
        a_job(2),
        a_job(3, queue="local", group_name="physics"),
        a_job(4, queue="local", cpu_duration_s=None),
        a_job(5, queue="local", submit_at=T0 + WEEK),
    )
    site.identities(an_identity(1))


def test_before_anything_is_joined(site: Site) -> None:
    busy(site)
    found = audit(site)
    assert found.balanced, found.problems
    assert found.in_force == Sums(4, 4000, 7000, 2700, 1)
    assert found.outcomes == {("not joined yet", ""): found.in_force}
    assert (found.vos, found.published) == ({}, {})
    told = {(s.name, s.record_type): (s.records, s.replaced, s.first_at, s.last_at) for s in found.sources}
    assert told == {("lsf", "job"): (4, 0, T0 + 1100, T0 + 1100), ("ce", "identity"): (1, 0, T0, T0)}


def test_outcomes_vos_and_publishing(site: Site) -> None:
    busy(site)
    site.postbox.fails_at = 0
    with pytest.raises(PublishError):
        site.publish()
    found = audit(site)
    assert found.balanced, found.problems
    one = Sums(1, 1000, 1000, 900, 0)
    assert found.outcomes == {
        ("excluded", "unknown CPU time"): Sums(1, 1000, 1000, 0, 1),
        ("joined", "nearest identity"): Sums(1, 1000, 4000, 900, 0),
        ("local", "local queue"): one,
        ("waiting", "no identity yet"): one,
    }
    assert {vo: sums.jobs for vo, sums in found.vos.items()} == {"atlas": 1, "local-nonlcg": 1}
    assert found.unmapped == {"physics": 1}
    assert found.published == {MAIN: {"confirmed": 0, "unsent": 2, "refused": 0, "not in a message yet": 0}}
    site.postbox.fails_at = None
    site.publish()
    assert audit(site).published == {MAIN: {"confirmed": 2, "unsent": 0, "refused": 0, "not in a message yet": 0}}
    assert audit(site).vos["atlas"] == Sums(1, 1000, 4000, 900, 0)
    later = audit(site, DAYS[0] + WEEK, DAYS[1] + WEEK)
    assert (later.in_force, later.published[MAIN]["confirmed"]) == (one, 1)


def test_a_correction_is_counted_when_it_was_made_and_the_job_once(site: Site) -> None:
    busy(site)
    site.publish()
    site.jobs(a_job(3, queue="local", cpu_duration_s=950, record_key=_key_of(site, 3)))
    between = audit(site)
    assert between.balanced, between.problems
    assert between.outcomes["not joined yet", ""].jobs == 1
    assert between.in_force.jobs == 4
    assert between.unmapped == {}
    site.publish()
    found = audit(site)
    assert found.unmapped == {"physics": 1}
    assert found.balanced, found.problems
    assert found.in_force.cpu_s == between.in_force.cpu_s
    assert next(s for s in found.sources if s.name == "lsf").replaced == 1
    assert found.corrections == {}
    day = site.clock // DAY * DAY
    assert sum(audit(site, day, day + DAY).corrections.values()) == 1


def test_a_clock_that_was_set_back_between_two_publications_is_no_problem(site: Site) -> None:
    site.jobs(a_job(1, queue="local"))
    site.clock += DAY
    site.publish()
    site.clock -= DAY
    site.jobs(a_job(2, queue="local"))
    site.publish()
    found = audit(site)
    assert found.published == {MAIN: {"confirmed": 2, "unsent": 0, "refused": 0, "not in a message yet": 0}}
    assert found.problems == []


def _key_of(site: Site, number: int) -> str:

    with site.store.reading() as connection:
        return str(connection.scalar(select(job.c.record_key).where(job.c.lrms_job_id == str(number))))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda c: c.execute(delete(message)),
            (
                "destination main: 2 records are in no message, though the destination has come past them: "
                "job 1 (record 1048576), job 3 (record 1048578)"
            ),
        ),
        (
            lambda c: c.execute(insert(kept_back).from_select([column.name for column in kept_back.c], _sent())),
            (
                "destination main: 2 records are in several messages at once, or in one and kept back as well: "
                "job 1 (record 1048576), job 3 (record 1048578)"
            ),
        ),
        (
            lambda c: c.execute(update(message).values(payload=packed(b"another"))),
            "message 1 to main: its payload was changed since it was built",
        ),
        (
            lambda c: c.execute(update(message).values(payload=packed(b"another" * 9)[:-2])),
            "message 1 to main: its payload is damaged (decompression error: did not decompress full frame)",
        ),
        (
            lambda c: c.execute(update(message).values(records=4)),
            "message 1 to main: it is said to have 4 records, and has 3 jobs",
        ),
        (
            lambda c: c.execute(update(destination).values(done_step=0)),
            (
                "destination main: 2 records are in a message, though the destination has not come to them: "
                "job 1 (record 1048576), job 3 (record 1048578)"
            ),
        ),
        (
            lambda c: c.execute(insert(usage).values(job_id=7, logged_at=T0, outcome="waiting")),
            "the ledger has 5 rows of the period, of which 4 are of jobs that there are",
        ),
    ],
)
def test_what_does_not_add_up_is_told(site: Site, damage: Any, told: str) -> None:
    busy(site)
    site.publish()
    assert audit(site).balanced
    with site.store.writing() as connection:
        first = connection.scalar(select(func.min(message.c.id)))  # a transaction that was undone may have used up numbers
        damage(connection)
    assert told.replace("message 1 ", f"message {first} ") in audit(site).problems


def _sent() -> Any:
    kept = literal(MAIN), usage.c.job_id, usage.c.step, literal("refused"), literal("x"), literal(1)
    return select(*kept).where(GOES_OUT, usage.c.logged_at < T0 + DAY)


def test_what_the_books_as_a_whole_say_is_told(site: Site) -> None:
    busy(site)
    with site.store.writing() as connection:
        connection.execute(update(load).values(units=load.c.units + 1))
    assert "the books as a whole: source lsf: units read are not accounted for" in audit(site).problems


def test_gaps_of_the_period(site: Site) -> None:
    """Hourly jobs for four weeks; two days of the third were silent, and 48 ids are missing."""
    begin = DAYS[0] - 21 * DAY
    hours = [hour for hour in range(28 * 24) if not 15 * 24 <= hour < 17 * 24]
    site.jobs(*(a_job(1000 + hour, submit_at=begin + hour * HOUR, queue="local") for hour in hours))
    site.read_to_end(site.clock, "lsf")
    with site.store.writing() as connection:
        connection.execute(update(source_state).values(record_type="job"))
    watched = (Watched("lsf", begin + 28 * DAY),)
    quiet = audit(site, begin, begin + 14 * DAY, watched).gaps
    assert (quiet.silences, quiet.holes) == ([], [])
    found = audit(site, begin + 14 * DAY, begin + 18 * DAY, watched).gaps
    last, first = begin + (15 * 24 - 1) * HOUR + 1100, begin + 17 * 24 * HOUR + 1100
    assert found.silences == [Silence("lsf", last, first, 3 * HOUR + 2 * HOUR, goes_on=False)]
    (hole,) = found.holes
    assert (hole.cluster, hole.span.first, hole.span.last, hole.span.missing) == ("c1", 1360, 1407, 48)
    behind = audit(site, begin + 20 * DAY, begin + 24 * DAY, watched).gaps
    assert (behind.silences, behind.holes) == ([], [])


@pytest.fixture
def cli_site(tmp_path: Any) -> CliSite:
    made = CliSite(tmp_path)
    (tmp_path / "logs").mkdir()
    made.configure(ce='"ce01.example.org:8443/*" = "lsf1"')
    made.write([lsf(1), lsf(2), b"bad\n"], [blah(1)])
    made.good("db", "create")
    made.good("collect", "--once")
    made.good("publish", "--once")
    return made


def test_the_command(cli_site: CliSite) -> None:
    text = cli_site.good("audit", "--from", "2026-10-01", "--to", "2026-10-29")
    assert text.startswith("Books of 2026-10-01 to 2026-10-29 (UTC, both days included), by when it was logged\n")
    assert "The books balance.\n" in text
    assert "No gaps were found in the period." in text
    assert "No VO rule fits 1 of them, which have the default VO; their local groups: " in text
    values = json.loads(cli_site.good("audit", "--from", "2026-10-29", "--to", "2026-10-29", "--json"))
    assert (values["in_force"]["jobs"], values["in_force"]["cpu_s"], values["balanced"]) == (2, 1200, True)
    assert values["until"] - values["since"] == DAY
    assert {o["outcome"]: o["jobs"] for o in values["outcomes"]} == {"joined": 1, "local": 1}
    assert json.loads(cli_site.good("audit", "--from", "2026-10-30", "--to", "2026-10-30", "--json"))["in_force"]["jobs"] == 0
    assert [
        s["rejects"] for s in json.loads(cli_site.good("audit", "--from", "2026-11-01", "--to", "2026-11-01", "--json"))["sources"]
    ] == [0, 1]
    this_month = json.loads(cli_site.good("audit", "--json"))
    assert (this_month["since"], this_month["until"]) == (NOW // DAY * DAY, NOW // DAY * DAY + DAY)
    assert values["since"] + 3 * DAY == this_month["since"]


def test_the_status_of_books_that_do_not_balance(cli_site: CliSite) -> None:
    store = Store(f"sqlite:///{cli_site.folder}/batchacct.db")
    with store.writing() as connection:
        connection.execute(delete(message))
    store.close()
    done = cli_site.run("audit", "--from", "2026-10-29")
    assert done.status == 13
    assert "THE BOOKS DO NOT BALANCE" in done.out
    assert "2 records are in no message, though the destination has come past them" in done.err


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--from", "2026-10-30", "--to", "2026-10-29"), 3, "--to lies before --from"),
        (("--from", "yesterday"), 2, "does not match the format"),
        (("--to", "2026-10-29"), 3, "--to lies before --from"),
    ],
)
def test_a_period_that_is_none(cli_site: CliSite, arguments: tuple[str, ...], status: int, told: str) -> None:
    done = cli_site.run("audit", *arguments)
    assert (done.status, told in done.err) == (status, True), done
    assert batchacct("audit", "--help").status == 0
