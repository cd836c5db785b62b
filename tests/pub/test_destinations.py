"""Several destinations: each has its filter, its progress and its failures; corrections reach them all, each job once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import insert, select, update

from batchacct.archive.closing import why_held
from batchacct.archive.months import month_of
from batchacct.errors import ConfigError, IncompleteError, PublishError
from batchacct.ledger.books import DestinationBooks
from batchacct.ledger.job_ids import JobId
from batchacct.ledger.outgoing import read_outgoing
from batchacct.ledger.stories import why
from batchacct.parsing import registry
from batchacct.store import Store
from batchacct.store.tables import job, load, message
from pub.command import Done, dry_publish, publish_once
from pub.republishing import Period, decide_anew, look, send_as_they_are
from tests.apel_reader import read_message
from tests.pub.site import DAY, T0, Postbox, Site, _KindOf, _loaded, a_job, an_identity

LOCAL = {"queue": "short"}
ALL = Period(0, T0 + 100 * DAY)


class Receivers:
    """A site with a postbox for each destination, under its name as the name of its transport."""

    def __init__(self, store: Store, *destinations: dict[str, Any], **sections: object) -> None:
        self.site = Site(store)
        self.boxes: dict[str, Postbox] = {}
        self.configure(*destinations, **sections)

    def configure(self, *destinations: dict[str, Any], **sections: object) -> None:
        told = [{"transport": one["name"], **one} for one in destinations]
        self.site.configure(destination=told, **sections)
        for one in destinations:
            self.boxes.setdefault(one["name"], Postbox())

    def publish(self, *, with_refused: bool = False) -> Done:
        def load(group: str, name: str) -> object:
            return _KindOf(self.boxes[name]) if group == registry.TRANSPORTS else _loaded(group, name)

        with patch.object(registry, "load", load):
            return publish_once(self.site.store, self.site.config, lambda: self.site.clock, with_refused=with_refused)[1]

    def received(self, name: str) -> dict[object, Any]:
        """The records as that receiver has them, by LocalJobId: a later one replaces an earlier one."""
        taken = [read_message(one.payload, now=self.site.clock) for one in self.boxes[name].taken]
        return {record["LocalJobId"]: record for read in taken for record in read}

    def count(self, name: str) -> int:
        """How many records were handed over to it, those sent again included."""
        return sum(len(read_message(one.payload, now=self.site.clock)) for one in self.boxes[name].taken)

    def books(self, name: str) -> DestinationBooks:
        self.site.assert_balanced()
        with self.site.store.reading() as connection:
            assert read_outgoing(connection, 0, 2**40).problems == []
        return next(one for one in self.site.books().destinations if one.name == name)


Made = Callable[..., Receivers]
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what is not about what a database answers."""


@pytest.fixture
def made(store: Store) -> Made:
    return lambda *destinations, **sections: Receivers(store, *destinations, **sections)


def test_each_gets_what_its_filter_lets_through(made: Made) -> None:
    some = made(
        {"name": "all", "format": "apel-0.4"},
        {"name": "atlas", "vos": ["atl*"]},
        {"name": "local", "infrastructure": "local", "bunch": 1},
        {"name": "none", "infrastructure": "grid", "vos": ["cms"]},
    )
    some.site.jobs(a_job(1), a_job(2, **LOCAL), a_job(3, **LOCAL))
    some.site.identities(an_identity(1))
    done = some.publish()
    assert [list(some.received(name)) for name in ("atlas", "local", "none")] == [["1"], ["2", "3"], []]
    assert len(some.boxes["all"].taken) == 1
    assert len(some.boxes["local"].taken) == 2
    assert {name: one.not_for_it for name, one in done.items()} == {"all": 0, "atlas": 2, "local": 1, "none": 3}
    books = some.books("atlas")
    assert (books.publishable, books.confirmed, books.not_for_it) == (3, 1, 2)
    assert some.publish()["all"].records == 0


def test_an_fqan_tells_the_vo_where_no_other_does(made: Made) -> None:
    some = made({"name": "cms", "vos": ["cms"]})
    some.site.jobs(a_job(1), a_job(2))
    some.site.identities(an_identity(1, vo=None, fqan="/cms/Role=x", fqans='["/cms/Role=x"]'), an_identity(2, "/CN=B"))
    some.publish()
    assert list(some.received("cms")) == ["1"]


def test_one_that_fails_does_not_hold_up_the_others(made: Made) -> None:
    some = made({"name": "a"}, {"name": "b"}, {"name": "c"})
    some.site.jobs(a_job(1, **LOCAL))
    some.boxes["a"].fails_at = some.boxes["c"].fails_at = 0
    with pytest.raises(PublishError, match="destination a: the broker is away; destination c: the broker is away"):
        some.publish()
    assert [(some.books(n).confirmed, some.books(n).unsent) for n in "abc"] == [(0, 1), (1, 0), (0, 1)]
    some.boxes["a"].fails_at = some.boxes["c"].fails_at = None
    some.publish()
    assert [some.count(n) for n in "abc"] == [1, 1, 1]


@on_sqlite
def test_the_one_of_several_that_fails_is_named(made: Made) -> None:
    some = made({"name": "a"}, {"name": "b"})
    some.site.jobs(a_job(1, **LOCAL))
    some.boxes["a"].fails_at = 0
    with pytest.raises(PublishError, match=r"^destination a: the broker is away$"):
        some.publish()
    some.boxes["a"].fails_at = None
    some.boxes["a"].refuses = {1}
    with pytest.raises(IncompleteError, match=r"^destination a: of the messages 1 will not be taken"):
        some.publish()


@on_sqlite
def test_a_broken_plug_in_is_told_after_the_others_have_theirs(made: Made) -> None:
    some = made({"name": "a"}, {"name": "b", "format": "no-such"})
    some.site.jobs(a_job(1, **LOCAL))
    some.site.configure(destination=[{"name": "a"}, {"name": "b", "format": "no-such"}])
    with pytest.raises(PublishError, match="destination b: "):
        dry_publish(some.site.store, some.site.config, some.site.clock)
    some.configure({"name": "a"}, {"name": "b", "format": "no-such"})
    with pytest.raises(PublishError, match="destination b: "):
        some.publish()
    assert some.count("a") == 1
    some.configure({"name": "a"}, {"name": "b"})
    some.publish()
    assert (some.count("a"), some.count("b")) == (1, 1)
    assert some.books("b").confirmed == 1


def test_a_correction_reaches_all_once(made: Made) -> None:
    some = made({"name": "a"}, {"name": "b", "infrastructure": "grid"}, join={"grace": 0, "max_hold": 0})
    some.site.jobs(a_job(1), a_job(2, **LOCAL))
    some.publish()
    assert some.received("a")["1"]["InfrastructureType"] == "local"
    some.site.identities(an_identity(1))
    some.publish()
    assert some.received("a")["1"]["GlobalUserName"] == "/CN=Alice"
    assert (len(some.received("a")), some.count("a")) == (2, 3)
    assert list(some.received("b")) == ["1"]
    assert (some.books("a").replaced, some.books("a").confirmed, some.books("a").in_messages) == (1, 2, 3)
    assert (some.books("b").replaced, some.books("b").confirmed, some.books("b").not_for_it) == (0, 1, 1)


def test_a_new_destination_gets_everything_and_one_that_is_gone_is_not_awaited(made: Made) -> None:
    some = made({"name": "a"}, join={"grace": 0, "max_hold": 0})
    some.site.jobs(a_job(1), a_job(2, **LOCAL))
    some.publish()
    some.site.identities(an_identity(1))
    some.publish()
    some.site.jobs(a_job(3, **LOCAL))
    some.configure({"name": "b"}, join={"grace": 0, "max_hold": 0})
    some.publish()
    assert sorted(map(str, some.received("b"))) == ["1", "2", "3"]
    assert some.count("b") == 3
    assert (some.books("a").retired_at, some.books("a").not_in_message) == (some.site.clock, 1)
    with some.site.store.reading() as connection:
        assert why_held(connection, month_of(T0)) == []
    some.configure({"name": "a"}, {"name": "b"}, join={"grace": 0, "max_hold": 0})
    some.publish()
    assert (some.books("a").retired_at, some.books("a").not_in_message, some.count("a")) == (None, 0, 4)


def test_a_record_its_format_refuses_is_tried_again_for_it_alone(made: Made) -> None:
    some = made({"name": "a"}, {"name": "b"})
    some.site.jobs(a_job("x" * 300, **LOCAL), a_job(2, **LOCAL))
    some.publish()
    assert some.books("a").refused == {"LocalJobId is longer than 255 characters": 1}
    assert some.publish()["b"].refused == {"LocalJobId is longer than 255 characters": 1}
    assert (some.books("b").confirmed, some.count("b")) == (1, 1)


def test_a_month_waits_for_every_destination(made: Made) -> None:
    some = made({"name": "a"}, {"name": "b"})
    some.site.jobs(a_job(1, **LOCAL), a_job(2, **LOCAL))
    some.boxes["b"].fails_at = 0
    with pytest.raises(PublishError):
        some.publish()
    with some.site.store.reading() as connection:
        assert why_held(connection, month_of(T0)) == ["2 jobs are in messages that were not handed over"]
    some.boxes["b"].fails_at = None
    some.publish()
    with some.site.store.reading() as connection:
        assert why_held(connection, month_of(T0)) == []


def test_a_story_tells_of_each(made: Made) -> None:
    some = made({"name": "a"}, {"name": "b", "infrastructure": "grid"})
    some.site.jobs(a_job(1, **LOCAL))
    some.publish()
    with some.site.store.reading() as connection:
        told = "\n".join(why(connection, JobId.of("1")))
    assert "message 1 to a (apel-0.3)" in told
    assert "not published to b, by its vos and infrastructure in [[destination]]" in told


class TestRefusedMessages:
    def test_one_that_is_outdated_never_leaves_and_its_other_records_do(self, made: Made) -> None:
        """The receiver replaces by key: the old record of job 1 would take the place of the new one."""
        some = made({"name": "a"}, {"name": "b"}, join={"grace": 0, "max_hold": 0})
        some.site.jobs(a_job(1), a_job(2, **LOCAL))
        some.boxes["a"].refuses = {1}
        with pytest.raises(Exception, match="will not be taken"):
            some.publish()
        some.site.identities(an_identity(1))
        some.publish()
        assert list(some.received("a")) == ["1"]
        some.boxes["a"].refuses = set()
        some.publish(with_refused=True)
        assert some.received("a")["1"]["GlobalUserName"] == "/CN=Alice"
        assert sorted(map(str, some.received("a"))) == ["1", "2"]
        assert 1 not in {taken.id for taken in some.boxes["a"].taken}
        assert (some.count("b"), sorted(map(str, some.received("b")))) == (3, ["1", "2"])
        assert (some.books("a").unsent, some.books("a").confirmed, some.books("a").messages_unsent) == (0, 2, 0)
        assert some.books("b").kept_back == {("sent before", "message 1 was refused, and is outdated"): 1}

    def test_one_that_is_not_leaves_as_it_was(self, made: Made) -> None:
        some = made({"name": "a"})
        some.site.jobs(a_job(1, **LOCAL))
        some.boxes["a"].refuses = {1}
        with pytest.raises(Exception, match="will not be taken"):
            some.publish()
        some.boxes["a"].refuses = set()
        some.publish(with_refused=True)
        assert [taken.id for taken in some.boxes["a"].taken] == [1]
        assert some.books("a").confirmed == 1

    @pytest.mark.parametrize("refusing", ["a", "b", "ab"])
    def test_two_of_them_lose_nothing(self, made: Made, refusing: str) -> None:
        """What is taken out of an outdated message for one destination is not what another has had."""
        some = made({"name": "a"}, {"name": "b"}, join={"grace": 0, "max_hold": 0})
        some.site.jobs(a_job(1), *(a_job(n, **LOCAL) for n in range(2, 6)))
        for name in refusing:
            some.boxes[name].refuses = {1, 2}
        with pytest.raises(Exception, match="will not be taken"):
            some.publish()
        for name in refusing:
            some.boxes[name].refuses = set()
        some.site.identities(an_identity(1))
        some.publish()
        some.publish(with_refused=True)
        for name in "ab":
            assert sorted(map(str, some.received(name))) == ["1", "2", "3", "4", "5"]
            assert some.received(name)["1"]["GlobalUserName"] == "/CN=Alice"
            assert (some.books(name).unsent, some.books(name).not_in_message) == (0, 0)

    def test_one_that_waits_while_another_destination_is_sent_its_records_again(self, made: Made) -> None:
        some = made({"name": "a"}, {"name": "b"})
        some.site.jobs(a_job(1, **LOCAL), a_job(2, **LOCAL))
        some.boxes["a"].refuses = {1}
        with pytest.raises(Exception, match="will not be taken"):
            some.publish()
        some.boxes["a"].refuses = set()
        send_as_they_are(some.site.store, some.site.config, ALL, some.site.clock, "b")
        some.publish()
        some.publish(with_refused=True)
        assert (some.count("a"), some.count("b")) == (2, 4)
        some.books("a"), some.books("b")

    @on_sqlite
    @pytest.mark.parametrize("keys", [{"format": "apel-0.2"}, {"bunch": 1}])
    def test_one_of_another_format_or_size_is_built_anew(self, made: Made, keys: dict[str, Any]) -> None:
        benchmark = [{"type": "HEPSPEC", "value": 10.0}]
        some = made({"name": "a"}, benchmark=benchmark)
        some.site.jobs(a_job(1, **LOCAL), a_job(2, **LOCAL))
        some.boxes["a"].refuses = {1}
        with pytest.raises(Exception, match="will not be taken"):
            some.publish()
        some.boxes["a"].refuses = set()
        some.configure({"name": "a", **keys}, benchmark=benchmark)
        some.publish(with_refused=True)
        assert 1 not in {taken.id for taken in some.boxes["a"].taken}
        assert len(some.boxes["a"].taken) == (2 if "bunch" in keys else 1)
        assert sorted(map(str, some.received("a"))) == ["1", "2"]
        assert some.books("a").confirmed == 2


def test_what_was_built_in_another_format_does_not_leave(made: Made) -> None:
    some = made({"name": "a"})
    some.site.jobs(a_job(1, **LOCAL))
    some.boxes["a"].fails_at = 0
    with pytest.raises(PublishError):
        some.publish()
    some.boxes["a"].fails_at = None
    some.configure({"name": "a", "format": "apel-0.4"})
    with pytest.raises(PublishError, match=r"was built as apel-0\.3, and its destination has format apel-0\.4 now"):
        some.publish()
    some.configure({"name": "a"})
    some.publish()
    assert some.count("a") == 1


def test_the_books_of_one_that_came_late_or_went_early(made: Made) -> None:
    """Corrections made while a destination was broken, or not configured, are in its books, too."""
    some = made({"name": "a"}, {"name": "b"}, join={"grace": 0, "max_hold": 0})
    some.site.jobs(a_job(1), a_job(2, **LOCAL))
    some.configure({"name": "a"}, {"name": "b", "format": "no-such"}, join={"grace": 0, "max_hold": 0})
    with pytest.raises(PublishError):
        some.publish()
    for dn, at in (("/CN=Alice", T0 - 20), ("/CN=Bob", T0 - 10), ("/CN=Carol", T0)):
        some.site.identities(an_identity(1, dn, recorded_at=at))
        some.configure({"name": "a"}, join={"grace": 0, "max_hold": 0})
        some.publish()
        some.books("a"), some.books("b")
    some.configure({"name": "a"}, {"name": "b"}, join={"grace": 0, "max_hold": 0})
    some.publish()
    assert (some.count("b"), some.received("b")["1"]["GlobalUserName"]) == (2, "/CN=Carol")
    some.books("a"), some.books("b")


def test_what_a_filter_takes_away_is_left_at_the_receiver_and_told(made: Made) -> None:
    some = made({"name": "local", "infrastructure": "local"}, join={"grace": 0, "max_hold": 0})
    some.site.jobs(a_job(1), a_job(2, **LOCAL))
    some.publish()
    some.site.identities(an_identity(1))
    some.publish()
    (told,) = _stranded(some)
    assert told.startswith("destination local was sent 1 records that nothing stands for any more")


class TestRepublishing:
    def test_by_the_configuration_of_now(self, made: Made) -> None:
        some = made({"name": "a"}, {"name": "b"})
        some.site.jobs(a_job(1, **LOCAL), a_job(2, **LOCAL, group_name="theory"), a_job(3, **LOCAL, end_at=T0 + 8 * DAY))
        some.publish()
        rules = {"rule": [{"vo": "th", "group": "theory"}]}
        better = [{"type": "HEPscore23", "value": 20.0}]
        some.configure({"name": "a"}, {"name": "b"}, vo=rules, benchmark=better)
        some.publish()
        assert some.count("a") == 3, "what was published stays true"
        period = Period(T0, T0 + DAY)
        difference = look(some.site.store, some.site.config, period, some.site.clock, decided=True)
        told = {(a.vo, b.vo, a.benchmark, b.benchmark): sums for (a, b), sums in difference.cells.items()}
        assert told == {
            ("local-nonlcg", "local-nonlcg", "HEPscore23 10", "HEPscore23 20"): (1, 900.0, 9000.0, 18000.0),
            ("local-nonlcg", "local-th", "HEPscore23 10", "HEPscore23 20"): (1, 900.0, 9000.0, 18000.0),
        }
        assert some.count("a") == 3
        decide_anew(some.site.store, some.site.config, period, some.site.clock)
        some.publish()
        assert (some.count("a"), some.count("b"), len(some.received("a"))) == (5, 5, 3)
        assert [some.received("a")[n]["ServiceLevel"] for n in ("1", "2", "3")] == [20.0, 20.0, 10.0]
        assert some.received("b")["2"]["VO"] == "local-th"
        assert (some.books("a").replaced, some.books("a").confirmed) == (2, 3)
        with some.site.store.reading() as connection:
            told_of = "\n".join(why(connection, JobId.of("2")))
        assert "in message 1, message 2; republished by `batchacct republish`" in told_of

    def test_only_of_some_vos(self, made: Made) -> None:
        some = made({"name": "a"})
        some.site.jobs(a_job(1), a_job(2, **LOCAL))
        some.site.identities(an_identity(1))
        some.publish()
        period = Period(0, T0 + DAY, ("at*",))
        assert look(some.site.store, some.site.config, period, some.site.clock, decided=True).jobs == 1
        decide_anew(some.site.store, some.site.config, period, some.site.clock)
        some.publish()
        assert (some.count("a"), len(some.received("a"))) == (3, 2)

    def test_more_loads_than_a_statement_can_name(self, sqlite_store: Store) -> None:
        """Most of them empty: they count for no step's records."""
        some = Receivers(sqlite_store, {"name": "a"})
        told = {"record_type": "job", "source": "lsf", "start_offset": 0, "end_offset": 0}
        empty = dict.fromkeys((c.name for c in load.c if not c.nullable and not c.primary_key), 0) | told
        with some.site.store.writing() as connection:
            connection.execute(insert(load), [empty] * 1_100)
        some.site.jobs(a_job(1, **LOCAL))
        some.publish()
        assert look(some.site.store, some.site.config, ALL, some.site.clock, decided=True).jobs == 1
        decide_anew(some.site.store, some.site.config, ALL, some.site.clock)
        some.publish()
        assert (some.count("a"), len(some.received("a"))) == (2, 1)

    def test_to_one_destination_as_they_are(self, made: Made) -> None:
        some = made({"name": "a"}, {"name": "b"}, {"name": "c", "infrastructure": "grid"})
        some.site.jobs(a_job(1, **LOCAL), a_job("x" * 300, **LOCAL))
        some.publish()
        before = some.boxes["a"].taken[0].payload
        send_as_they_are(some.site.store, some.site.config, ALL, some.site.clock, "a")
        some.publish()
        assert (some.count("a"), some.count("b"), some.count("c")) == (2, 1, 0)
        assert some.boxes["a"].taken[1].payload == before
        assert (some.books("b").confirmed, sum(some.books("b").refused.values())) == (0, 1)
        assert [kind for kind, _ in some.books("b").kept_back] == ["refused", "sent before"]
        assert some.books("c").not_for_it == 2

    def test_a_correction_after_it_reaches_those_that_were_left_alone(self, made: Made) -> None:
        some = made({"name": "a"}, {"name": "b"}, join={"grace": 0, "max_hold": 0})
        some.site.jobs(a_job(1))
        some.publish()
        send_as_they_are(some.site.store, some.site.config, ALL, some.site.clock, "a")
        some.site.identities(an_identity(1))
        some.publish()
        assert [some.received(name)["1"]["InfrastructureType"] for name in "ab"] == ["grid", "grid"]
        assert (some.count("a"), some.count("b")) == (2, 2), "the row that was to be sent again was replaced before it was"
        some.books("a"), some.books("b")

    def test_what_was_joined_stays_joined(self, made: Made) -> None:
        some = made({"name": "a"})
        some.site.jobs(a_job(1), a_job(2))
        some.site.identities(an_identity(1))
        some.publish()
        before = some.site.ledger()
        decide_anew(some.site.store, some.site.config, ALL, some.site.clock)
        assert some.site.ledger() == before


@pytest.mark.parametrize(
    ("destination", "publish", "told"),
    [
        ([{"name": "a"}, {"name": "a"}], {}, "two destinations have the name a"),
        ([{"name": "a"}], {"format": "apel-0.4", "bunch": 3}, r"\[publish\] bunch, format: say it in each"),
        ([{"name": "a b"}], {}, "pattern"),
        ([{"name": "a", "vos": []}], {}, "at least 1 item"),
    ],
)
def test_configurations_that_are_none(destination: Any, publish: Any, told: str, sqlite_store: Store) -> None:
    with pytest.raises((ConfigError, ValueError), match=told):
        Site(sqlite_store, destination=destination, publish=publish)


def test_a_message_that_was_changed_in_the_database_does_not_leave(made: Made) -> None:
    some = made({"name": "a"}, {"name": "b"})
    some.site.jobs(a_job(1, **LOCAL))
    some.boxes["a"].fails_at = 0
    with pytest.raises(PublishError):
        some.publish()
    some.boxes["a"].fails_at = None
    with some.site.store.writing() as connection:
        connection.execute(update(message).where(message.c.destination == "a").values(digest="0" * 64))
    with pytest.raises(PublishError, match="was changed in the database since it was built"):
        some.publish()
    assert some.count("a") == 0


def test_steps_go_on_when_rows_are_replaced(made: Made) -> None:
    """A number that was used is not used again, though its rows are gone: a destination has passed it."""
    some = made({"name": "a"}, join={"grace": 0, "max_hold": 0})
    some.site.jobs(a_job(1))
    for dn in ("/CN=A", "/CN=B"):
        some.publish()
        some.site.identities(an_identity(1, dn, recorded_at=T0 - (10 if dn == "/CN=A" else 0)))
    some.publish()
    assert some.received("a")["1"]["GlobalUserName"] == "/CN=B"


def test_what_was_sent_and_is_taken_back_is_told(made: Made) -> None:
    """No receiver can be told to drop a record: the audit says which it has that it should not."""
    some = made({"name": "a"})
    some.site.jobs(a_job(1, **LOCAL), a_job(2, **LOCAL))
    some.publish()
    key = {"record_key": _key_of(some, "1"), "logged_at": T0 + 1100}
    some.site.jobs(a_job(1, **LOCAL, cpu_duration_s=800, **key))
    some.publish()
    assert _stranded(some) == []
    some.site.jobs(a_job(1, **LOCAL, cpu_duration_s=None, **key))
    some.publish()
    (told,) = _stranded(some)
    assert told.startswith("destination a was sent 1 records that nothing stands for any more")
    assert "job 1 (record" in told
    some.books("a")


def _key_of(some: Receivers, number: str) -> str:
    with some.site.store.reading() as connection:
        return str(connection.scalar(select(job.c.record_key).where(job.c.lrms_job_id == number)))


def _stranded(some: Receivers) -> list[str]:
    with some.site.store.reading() as connection:
        return read_outgoing(connection, 0, 2**40).stranded
