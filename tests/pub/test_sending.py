"""Building and handing over at once: what leaves is stored before, in order, and what goes wrong on one side spares the other."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import func, select

from batchacct.errors import PublishError
from batchacct.store.payload import unpacked
from batchacct.store.tables import message
from pub.outbox import Outbox
from pub.transports.contract import Message
from tests.pub.site import Postbox, Site, a_job


class Witness(Postbox):
    """Notes of each message it is given what the store, asked at that moment, has under its number."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.stored: list[bytes] = []
        self.threads: set[int] = set()

    def take(self, one: Message) -> None:
        self.threads.add(threading.get_ident())
        with self.site.store.reading() as connection:
            payload = connection.execute(select(message.c.payload).where(message.c.id == one.id)).scalar_one()
        self.stored.append(unpacked(bytes(payload)))
        super().take(one)


@pytest.fixture
def busy(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Twelve jobs in steps of four records, two a message."""
    monkeypatch.setattr("pub.outbox.RECORDS_PER_STEP", 4)
    site.configure(publish={"bunch": 2})
    site.jobs(*(a_job(n, queue="short") for n in range(12)))
    return site


def test_what_leaves_is_committed_before_and_in_order(busy: Site) -> None:
    busy.postbox = witness = Witness(busy)
    busy.publish()
    assert witness.stored == [taken.payload for taken in witness.taken]
    assert [taken.id for taken in witness.taken] == sorted(taken.id for taken in witness.taken)
    assert len(witness.taken) == 6
    assert threading.get_ident() not in witness.threads
    busy.assert_sound()


def test_steps_are_sought_a_few_at_a_time(busy: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pub.outbox.SLICES_SOUGHT", 1)
    busy.publish()
    assert [record["LocalJobId"] for read in busy.messages() for record in read] == [str(n) for n in range(12)]
    busy.assert_sound()


def test_a_transport_that_fails_at_once_does_not_stop_the_building(busy: Site) -> None:
    busy.postbox.fails_at = 0
    with pytest.raises(PublishError, match="the broker is away"):
        busy.publish()
    assert (busy.out().unsent, busy.out().not_in_message) == (12, 0)
    assert busy.books().balanced


def test_a_step_that_cannot_be_built_leaves_the_earlier_ones_handed_over(busy: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    built = Outbox.store
    steps = iter((True, True, False))

    def breaks_at_the_third(*arguments: object) -> None:
        if not next(steps):
            raise PublishError("no third step")
        built(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Outbox, "store", breaks_at_the_third)
    with pytest.raises(PublishError, match="no third step"):
        busy.publish()
    with busy.store.reading() as connection:
        counted = connection.execute(select(func.count(message.c.confirmed_at), func.count(message.c.id))).one()
    assert tuple(counted) == (4, 4)
    monkeypatch.undo()
    busy.publish()
    busy.assert_sound()
