"""The outbox: what a record says, which records share a message, what happens when a transport fails, dry runs, the lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from batchacct.config import MAIN
from batchacct.errors import BusyError, ConfigError, IncompleteError, PublishError
from batchacct.store.payload import packed
from batchacct.store.tables import message, setting, usage
from pub.command import publish_once
from tests.pub.fix_site import ON_SQLITE
from tests.pub.site import DAY, T0, Site, a_job, an_identity, dumped, files_in

LOCAL = {"queue": "short"}


def sizes(site: Site) -> list[int]:
    return [len(read) for read in site.messages()]


class TestRecords:
    def test_a_grid_job(self, site: Site) -> None:
        site.jobs(a_job())
        site.identities(an_identity(fqans='["/atlas/Role=pilot", "/atlas"]'))
        site.publish()
        ((record,),) = site.messages()
        told = {
            "Site": "TEST-SITE",
            "SubmitHost": "ce01.example.org:8443/cream-lsf-grid_a",
            "MachineName": "master.example.org",
            "LocalJobId": "1",
            "LocalUserId": "alice",
            "GlobalUserName": "/CN=Alice",
            "FQAN": "/atlas/Role=pilot;/atlas",
            "VO": "atlas",
            "VOGroup": "/atlas",
            "VORole": "Role=pilot",
            "InfrastructureType": "grid",
            "InfrastructureDescription": "BATCHACCT-CREAM-LSF",
        }
        assert {name: record[name] for name in told} == told

    def test_a_local_job(self, site: Site) -> None:
        site.jobs(a_job(**LOCAL))
        site.publish()
        ((record,),) = site.messages()
        told = {
            "SubmitHost": "master.example.org",
            "FQAN": "/local-nonlcg",
            "VO": "local-nonlcg",
            "InfrastructureType": "local",
            "InfrastructureDescription": "BATCHACCT-LSF",
        }
        assert {name: record[name] for name in told} == told
        assert not {"LocalUserId", "GlobalUserName"} & {name for name, value in record.items() if value is not None}

    @ON_SQLITE
    @pytest.mark.parametrize(
        ("columns", "fqan", "vo"),
        [
            ({"fqans": None}, "/atlas/Role=pilot", "atlas"),
            ({"fqans": None, "fqan": None}, None, "atlas"),
            ({"fqans": "[]", "fqan": None}, None, "atlas"),
            ({"fqans": "[]", "fqan": None, "vo": None, "vo_group": None, "vo_role": None}, "/local-nonlcg", "local-nonlcg"),
        ],
    )
    def test_an_identity_that_knows_its_vo_is_never_given_the_fqan_of_a_local_job(
        self, site: Site, columns: dict[str, Any], fqan: str | None, vo: str
    ) -> None:
        """The receiver takes the VO from the FQAN where there is one."""
        site.jobs(a_job())
        site.identities(an_identity(**columns))
        site.publish()
        ((record,),) = site.messages()
        assert (record.get("FQAN"), record["VO"], record["InfrastructureType"]) == (fqan, vo, "grid")

    @ON_SQLITE
    @pytest.mark.parametrize(
        ("issuer", "subject", "name"),
        [("https://iss.example", "abc", "https://iss.example/abc"), ("https://iss.example/", "abc", "https://iss.example/abc"),
         (None, "abc", "abc"), (None, None, None)],
    )  # fmt: skip
    def test_the_name_of_a_token_is_issuer_and_subject_with_one_slash(
        self, site: Site, issuer: str | None, subject: str | None, name: str | None
    ) -> None:
        site.jobs(a_job())
        site.identities({**an_identity(), "dn": None, "token_issuer": issuer, "token_subject": subject})
        site.publish()
        ((record,),) = site.messages()
        assert record.get("GlobalUserName") == name

    @ON_SQLITE
    @pytest.mark.parametrize(
        ("personal", "grid", "local"),
        [("grid", ("alice", "/CN=Alice"), (None, None)), ("all", ("alice", "/CN=Alice"), ("alice", None)),
         ("none", (None, None), (None, None))],
    )  # fmt: skip
    def test_whose_names_go_out(self, site: Site, personal: str, grid: object, local: object) -> None:
        site.configure(publish={"personal": personal})
        site.jobs(a_job(1), a_job(2, **LOCAL))
        site.identities(an_identity(1))
        site.publish()
        ((one, other),) = site.messages()
        assert (one.get("LocalUserId"), one.get("GlobalUserName")) == grid
        assert (other.get("LocalUserId"), other.get("GlobalUserName")) == local


class TestLocalJobId:
    def test_elements_have_their_index_and_templates_the_cluster(self, site: Site) -> None:
        site.configure(publish={"local_job_id": "{cluster}/{id}", "local_job_id_array": "{cluster}/{id}.{index}"})
        site.jobs(a_job(1, **LOCAL), a_job(2, array_index=7, **LOCAL))
        site.publish()
        assert [record["LocalJobId"] for record in site.messages()[0]] == ["c1/1", "c1/2.7"]

    def test_another_template_is_refused_once_records_are_out(self, site: Site) -> None:
        site.jobs(a_job(**LOCAL))
        site.publish()
        site.configure(publish={"local_job_id": "x{id}"})
        with pytest.raises(ConfigError, match=r"local_job_id = '\{id\}'"):
            site.publish()
        with pytest.raises(ConfigError, match="count them again"):
            site.dry_publish()

    def test_before_that_it_may_change(self, site: Site) -> None:
        site.publish()
        site.configure(publish={"local_job_id": "x{id}"})
        site.jobs(a_job(**LOCAL))
        site.publish()
        assert site.messages()[0][0]["LocalJobId"] == "x1"
        with site.store.reading() as connection:
            assert connection.scalar(select(setting.c.value).where(setting.c.name == "local_job_id")) == '["x{id}", "{id}-{index}"]'


class TestMessages:
    def test_one_record_waiting_alone_is_sent(self, site: Site) -> None:
        site.jobs(a_job(**LOCAL))
        site.publish()
        assert sizes(site) == [1]

    @ON_SQLITE
    @pytest.mark.parametrize(("jobs", "expected"), [(2, [2]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])])
    def test_a_message_has_a_bunch_of_records_at_most(self, site: Site, jobs: int, expected: list[int]) -> None:
        site.configure(publish={"bunch": 3})
        site.jobs(*(a_job(n, **LOCAL) for n in range(jobs)))
        site.publish()
        assert sizes(site) == expected
        site.assert_sound()

    def test_several_steps_leave_nothing_and_send_nothing_twice(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pub.outbox.RECORDS_PER_STEP", 4)
        site.configure(publish={"bunch": 2})
        site.jobs(*(a_job(n, queue="short" if n % 3 else "grid_a") for n in range(12)))
        site.identities(*(an_identity(n) for n in range(0, 12, 3)))
        site.publish()
        assert [record["LocalJobId"] for read in site.messages() for record in read] == [str(n) for n in range(12)]
        assert sizes(site) == [2] * 6
        site.assert_sound()

    def test_a_message_takes_nobody_elses_records_where_their_numbers_lie_between(self, site: Site) -> None:
        site.configure(publish={"bunch": 2})
        site.jobs(*(a_job(n, queue="grid_a" if n in (1, 4) else "short") for n in range(6)))
        site.publish(T0 + DAY)
        site.identities(an_identity(1), an_identity(4))
        site.publish()
        assert [[record["LocalJobId"] for record in read] for read in site.messages()] == [["0", "2"], ["3", "5"], ["1", "4"]]
        site.assert_sound()

    def test_a_refused_record_stays_alone_while_its_neighbours_go_out(self, site: Site) -> None:
        site.jobs(a_job(1, **LOCAL), a_job("x" * 300, **LOCAL), a_job(3, **LOCAL))
        _, done = site.publish()
        assert (sizes(site), done.records, sum(done.refused.values())) == ([2], 2, 1)
        assert site.out().refused == {"LocalJobId is longer than 255 characters": 1}
        site.publish()
        assert sizes(site) == [2]
        site.assert_sound()

    def test_a_clock_that_is_set_back_does_not_change_the_order(self, site: Site) -> None:
        """A sender takes messages by their names, which begin with the time."""
        site.jobs(a_job(1, **LOCAL))
        site.publish(T0 + 10 * DAY)
        site.jobs(a_job(2, **LOCAL))
        site.publish(T0 + 10 * DAY - 7200)
        first, second = (taken.name for taken in site.postbox.taken)
        assert first < second

    def test_only_refused_records_make_no_message(self, site: Site) -> None:
        site.jobs(a_job("x" * 300, **LOCAL))
        site.publish()
        assert site.messages() == []
        site.assert_sound()

    def test_what_was_refused_goes_out_when_its_cause_is_gone(self, site: Site) -> None:
        """A clock that is days late refuses everything, but not for ever."""
        site.jobs(a_job(**LOCAL))
        _, done = site.publish(T0 - 3 * DAY)
        assert done.refused == {"EndTime is more than 2 days ahead": 1}
        _, done = site.publish(T0 + DAY)
        assert (done.records, done.refused) == (1, {})
        site.assert_sound()

    def test_what_is_left_out_is_counted(self, site: Site) -> None:
        site.jobs(a_job(1, memory_real_kib=2**31, **LOCAL), a_job(2, memory_real_kib=2**31, **LOCAL))
        site.publish()
        site.jobs(a_job(3, memory_real_kib=2**31, **LOCAL))
        site.publish()
        assert site.books().left_out["MemoryReal: negative or over 2147483647"] == 3


class TestSending:
    def test_a_failing_transport_leaves_the_rest_for_the_next_run_unchanged_and_in_order(self, site: Site) -> None:
        site.configure(publish={"bunch": 1})
        site.jobs(*(a_job(n, **LOCAL) for n in range(4)))
        site.postbox.fails_at = 2
        with pytest.raises(PublishError, match="away"):
            site.publish()
        out = site.out()
        assert (out.confirmed, out.unsent, out.last_error, site.books().balanced) == (2, 2, "the broker is away", True)
        site.postbox.fails_at = None
        site.clock += 1000
        site.configure(publish={"bunch": 4, "personal": "all"})
        _, done = site.publish()
        assert (done.records, done.confirmed) == (0, 2)
        attempts = site.postbox.attempts
        assert [one.id for one in attempts] == sorted(one.id for one in attempts)
        refused, again = attempts[2], attempts[3]
        assert (refused.id, refused.payload, refused.created_at) == (again.id, again.payload, again.created_at)
        assert site.out().last_error is None
        site.assert_sound()

    def test_more_messages_than_are_confirmed_at_once(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pub.sending.CONFIRM_EVERY", 2)
        site.configure(publish={"bunch": 1})
        site.jobs(*(a_job(n, **LOCAL) for n in range(5)))
        _, done = site.publish()
        assert (done.confirmed, len(site.postbox.taken)) == (5, 5)
        with site.store.reading() as connection:
            receipts = list(connection.scalars(select(message.c.receipt).order_by(message.c.id)))
        assert receipts == [f"receipt {one.id}" for one in site.postbox.taken]

    def test_a_refused_message_is_kept_with_its_reason_and_stops_nobody(self, site: Site) -> None:
        site.configure(publish={"bunch": 1})
        site.jobs(*(a_job(n, **LOCAL) for n in range(4)))
        site.postbox.refuses = {2}
        with pytest.raises(IncompleteError, match="1 will not be taken, first 2: no such thing is taken here"):
            site.publish()
        assert [one.id for one in site.postbox.taken] == [1, 3, 4]
        assert site.postbox.closed == 1
        site.assert_sound()
        site.postbox.refuses = set()
        site.publish()
        assert [one.id for one in site.postbox.taken] == [1, 3, 4]
        assert refused(site) == {2: "no such thing is taken here"}
        _, done = site.publish(with_refused=True)
        assert (done.confirmed, [one.id for one in site.postbox.taken], refused(site)) == (1, [1, 3, 4, 2], {})
        site.assert_sound()

    def test_a_transport_that_fails_has_its_error_on_the_first_that_waits(self, site: Site) -> None:
        site.configure(publish={"bunch": 1})
        site.jobs(*(a_job(n, **LOCAL) for n in range(4)))
        site.postbox.refuses, site.postbox.fails_at = {1}, 1
        with pytest.raises(PublishError, match="away"):
            site.publish()
        assert errors(site) == [("no such thing is taken here", True), (None, False), ("the broker is away", False), (None, False)]

    def test_two_publishers_at_once(self, site: Site) -> None:
        with site.store.lock("publish"):
            with pytest.raises(BusyError):
                site.publish()
            with pytest.raises(BusyError):
                site.dry_publish()
        site.publish()


def test_a_dry_run_tells_the_same_and_leaves_no_trace(site: Site, tmp_path: Path) -> None:
    site.configure(publish={"path": tmp_path / "outgoing"})
    site.jobs(a_job(1), a_job(2, **LOCAL), a_job("x" * 300, **LOCAL))
    site.identities(an_identity(1))
    before, files = dumped(site.store), set(files_in(tmp_path))
    told = site.dry_publish()
    assert dumped(site.store) == before
    assert {path.suffix for path in set(files_in(tmp_path)) - files} <= {".lock", ".db-wal", ".db-shm"}
    joined, everything = publish_once(site.store, site.config, lambda: site.clock)
    done = everything[MAIN]
    assert told[0] == joined
    assert (told[1].records, told[1].messages, told[1].refused) == (done.records, done.messages, done.refused)
    assert len(files_in(tmp_path / "outgoing")) == done.confirmed == 1
    with site.store.reading() as connection:
        assert sorted(connection.scalars(select(usage.c.outcome))) == ["joined", "local", "local"]


def test_a_dry_run_uses_up_no_number(site: Site) -> None:
    site.jobs(a_job(1, **LOCAL))
    site.publish()
    site.jobs(a_job(2, **LOCAL))
    site.dry_publish()
    site.publish()
    first, second = (taken.id for taken in site.postbox.taken)
    assert second == first + 1


class TestPayloads:
    def test_they_leave_as_they_were_built_and_are_stored_smaller(self, site: Site) -> None:
        site.jobs(*(a_job(n, **LOCAL) for n in range(50)))
        site.publish()
        (taken,) = site.postbox.taken
        with site.store.reading() as connection:
            stored = connection.execute(select(message.c.payload)).scalar_one()
        assert bytes(stored) == packed(taken.payload)
        assert len(stored) * 4 < len(taken.payload)

    def test_one_stored_before_they_were_packed_leaves_unchanged(self, site: Site) -> None:
        store_unsent(site, b"APEL-individual-job-message: v0.3\n%%\n")
        site.publish()
        assert [taken.payload for taken in site.postbox.taken] == [b"APEL-individual-job-message: v0.3\n%%\n"]

    def test_a_damaged_one_is_told_and_not_handed_over(self, site: Site) -> None:
        whole = packed(b"a message of some length, " * 9)
        store_unsent(site, whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(PublishError, match="message 1 of the outbox is damaged"):
            site.publish()
        assert site.postbox.attempts == []


class TestEnvelopes:
    def test_what_leaves_is_made_once_and_kept_until_it_is_confirmed(self, site: Site) -> None:
        site.configure(publish={"bunch": 1})
        site.jobs(*(a_job(n, **LOCAL) for n in range(12)))
        site.postbox.envelope = Numbered("first")
        site.postbox.fails_at = 0
        for _ in range(2):
            with pytest.raises(PublishError, match="away"):
                site.publish()
        first, again = site.postbox.attempts
        assert first == again
        assert first.payload.startswith(b"first 1\nAPEL")
        site.postbox.fails_at = None
        site.publish()
        assert [one.payload.split(b"\n")[0] for one in site.postbox.taken] == [b"first %d" % n for n in range(1, 13)]
        with site.store.reading() as connection:
            assert set(connection.execute(select(message.c.sealed, message.c.sealed_by))) == {(None, None)}

    def test_another_one_is_made_anew(self, site: Site) -> None:
        site.jobs(a_job(1, **LOCAL))
        for name in ("first", "second"):
            site.postbox.envelope, site.postbox.fails_at = Numbered(name), 0
            with pytest.raises(PublishError, match="away"):
                site.publish()
        assert [one.payload.split(b"\n")[0] for one in site.postbox.attempts] == [b"first 1", b"second 1"]

    def test_one_that_cannot_be_made_lets_those_before_it_go(self, site: Site) -> None:
        site.configure(publish={"bunch": 1})
        site.jobs(*(a_job(n, **LOCAL) for n in range(4)))
        site.postbox.envelope = Numbered("only", breaks_at=3)
        with pytest.raises(PublishError, match="the certificate has ended"):
            site.publish()
        assert [one.id for one in site.postbox.taken] == [1, 2]
        assert [error for error, _ in errors(site)] == [None, None, "the certificate has ended", None]


class Numbered:
    """An envelope that comes out differently each time."""

    def __init__(self, label: str, breaks_at: int | None = None) -> None:
        self.label = label
        self._breaks_at = breaks_at
        self._made = 0

    def sealed(self, payload: bytes) -> bytes:
        self._made += 1
        if self._made == self._breaks_at:
            raise PublishError("the certificate has ended")
        return f"{self.label} {self._made}\n".encode() + payload


def refused(site: Site) -> dict[int, str]:
    with site.store.reading() as connection:
        rows = connection.execute(select(message.c.id, message.c.last_error).where(message.c.refused_at.is_not(None)))
        return {row[0]: row[1] for row in rows}


def errors(site: Site) -> list[tuple[str | None, bool]]:
    """Of each message the last error, and whether it is refused."""
    with site.store.reading() as connection:
        rows = connection.execute(select(message.c.last_error, message.c.refused_at).order_by(message.c.id))
        return [(row[0], row[1] is not None) for row in rows]


def store_unsent(site: Site, payload: bytes) -> None:
    values = {"destination": MAIN, "format": "apel-0.3", "records": 0, "created_at": site.clock, "payload": payload}
    with site.store.writing() as connection:
        connection.execute(insert(message).values(values))
