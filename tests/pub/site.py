"""A site in a test: a store, a configuration and a clock, with records put in by hand and messages read as a receiver does."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydantic import ConfigDict
from sqlalchemy import delete, exists, select, text, update
from sqlalchemy import insert as insert_into

from batchacct import insert
from batchacct.config import MAIN, Config, Section
from batchacct.errors import PublishError
from batchacct.ledger.books import Books, DestinationBooks, read_books
from batchacct.ledger.outgoing import read_outgoing
from batchacct.parsing import registry
from batchacct.store import Store, sent
from batchacct.store.tables import identity, job, metadata, source_state, usage, usage_history
from pub.command import Joined, dry_publish, publish_once
from pub.outbox import Published
from pub.transports.contract import Envelope, Message, Receipt, Refusal
from tests.apel_reader import Job as ReadJob
from tests.apel_reader import read_message

T0 = 1_700_000_000
"""When the jobs of a test are submitted, unless it says otherwise."""
HOUR, DAY = 3600, 86_400

BASE: dict[str, Any] = {
    "site": "TEST-SITE",
    "database": {"url": "sqlite:////nowhere"},
    "source": [{"name": "ce", "parser": "blah", "paths": ["/nowhere"]}],
    "ce": {"*": "c1"},
    "cluster": [{"name": "c1", "machine_name": "master.example.org", "grid_queues": ["grid_*"]}],
    "benchmark": [{"type": "HEPscore23", "value": 10.0}],
}


_loaded = functools.cache(registry.load)


class Postbox:
    """A transport that keeps what it is given; from the message `fails_at` on, it takes none, and never those in `refuses`."""

    def __init__(self) -> None:
        self.attempts: list[Message] = []
        self.taken: list[Message] = []
        self.fails_at: int | None = None
        self.refuses: set[int] = set()
        self.envelope: Envelope | None = None
        self.closed = 0

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        for one in messages:
            self.attempts.append(one)
            if one.id in self.refuses:
                yield Refusal(one.id, "no such thing is taken here")
                continue
            if self.fails_at is not None and len(self.taken) >= self.fails_at:
                raise PublishError("the broker is away")
            self.take(one)
            yield Receipt(one.id, f"receipt {one.id}")

    def take(self, one: Message) -> None:
        self.taken.append(one)

    def close(self) -> None:
        self.closed += 1


class _AnyOptions(Section):
    model_config = ConfigDict(extra="allow")


class _KindOf:
    """What a postbox is registered as."""

    options = _AnyOptions

    def __init__(self, postbox: Postbox) -> None:
        self._postbox = postbox

    def __call__(self, options: Section) -> Postbox:
        return self._postbox


class Site:
    """`clock` is the time it is; `configure` replaces sections of the configuration."""

    def __init__(self, store: Store, **sections: object) -> None:
        self.store = store
        self.clock = T0 + 10 * DAY
        self.postbox = Postbox()
        self.configure(**sections)

    def configure(self, **sections: object) -> None:
        self.config = Config.model_validate({**BASE, **sections})

    def jobs(self, *rows: Mapping[str, object]) -> None:
        """Each call is one load."""
        assert all(c.rejected == 0 for c in insert(self.store, "job", rows, source="lsf"))

    def identities(self, *rows: Mapping[str, object]) -> None:
        assert all(c.rejected == 0 for c in insert(self.store, "identity", rows, source="ce"))

    def read_to_end(self, at: int, name: str = "ce") -> None:
        """The identity source was read to its end at that time."""
        with self.store.writing() as connection:
            values = {"record_type": "identity", "read_to_end_at": at}
            if not connection.execute(update(source_state).where(source_state.c.name == name).values(values)).rowcount:
                connection.execute(insert_into(source_state).values(name=name, **values))

    def publish(self, at: int | None = None, *, with_refused: bool = False) -> tuple[Joined, Published]:
        """One run of the publisher, now or at the given time."""
        self.clock = at or self.clock

        def load_or_postbox(group: str, name: str) -> object:
            return _KindOf(self.postbox) if group == registry.TRANSPORTS else _loaded(group, name)

        with patch.object(registry, "load", load_or_postbox):
            joined, done = publish_once(self.store, self.config, lambda: self.clock, with_refused=with_refused)
        return joined, done[MAIN]

    def dry_publish(self) -> tuple[Joined, Published]:
        joined, done = dry_publish(self.store, self.config, self.clock)
        return joined, done[MAIN]

    def ledger(self) -> list[tuple[str, str, str | None]]:
        """(outcome, reason, DN) of the jobs in force, in the order in which they were stored."""
        query = (
            select(usage.c.outcome, usage.c.reason, identity.c.dn)
            .outerjoin(identity, identity.c.id == usage.c.identity_id)
            .order_by(usage.c.job_id)
        )
        with self.store.reading() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]

    def outcomes(self) -> list[str]:
        return [outcome for outcome, _, _ in self.ledger()]

    def names(self) -> list[str | None]:
        """The DN of each job in force, in the order in which they were stored."""
        return [dn for _, _, dn in self.ledger()]

    def history(self) -> list[tuple[int, str, int | None, str]]:
        """(job id, outcome, message, why it was replaced) of what was published and then corrected."""
        with self.store.reading() as connection:
            holds = {row: one.id for one in sent.sent(connection) for row in rows_of(one)}
            rows = connection.execute(select(usage_history).order_by(usage_history.c.id)).all()
        return [(row.job_id, row.outcome, holds.get((row.step, row.job_id)), row.why) for row in rows]

    def published(self) -> dict[int, int]:
        """The message of each job whose row of the ledger is in one."""
        with self.store.reading() as connection:
            steps = {row.job_id: row.step for row in connection.execute(select(usage.c.job_id, usage.c.step))}
            held = [(number, one.id) for one in sent.sent(connection) for step, number in rows_of(one) if steps.get(number) == step]
        assert len(dict(held)) == len(held)
        return dict(held)

    def messages(self) -> list[list[ReadJob]]:
        """What the receiver read in each message that was handed over; it refuses none of them."""
        return [read_message(taken.payload, now=self.clock) for taken in self.postbox.taken]

    def received(self) -> dict[tuple[object, object], ReadJob]:
        """The records as the receiver has them, by its key: a later one replaces an earlier one."""
        return {(record["LocalJobId"], record["EndTime"]): record for read in self.messages() for record in read}

    def books(self) -> Books:
        with self.store.reading() as connection:
            return read_books(connection)

    def out(self) -> DestinationBooks:
        """The books of the one destination."""
        (one,) = self.books().destinations
        return one

    def assert_balanced(self) -> None:
        books = self.books()
        assert books.balanced, books.problems

    def assert_sound(self) -> None:
        """What holds after every run: balanced books, one usage row a job in force, every sent record accounted for."""
        self.assert_balanced()
        with self.store.reading() as connection:
            in_force = set(connection.scalars(select(job.c.id).where(job.c.superseded_by.is_(None))))
            rows = list(connection.scalars(select(usage.c.job_id)))
            outgoing = read_outgoing(connection, 0, 2**40)
        assert sorted(rows) == sorted(in_force)
        assert outgoing.problems == []

    def emptied(self) -> None:
        """Everything is forgotten, as in a new database."""
        with self.store.writing() as connection:
            for table in metadata.sorted_tables:
                if self.store.dialect.name == "postgresql":
                    connection.execute(text(f'TRUNCATE "{table.name}" RESTART IDENTITY'))
                elif self.store.dialect.name == "sqlite":
                    connection.execute(delete(table))
                elif connection.scalar(select(exists(select(1).select_from(table)))):
                    connection.execute(text(f"TRUNCATE `{table.name}`"))  # which takes its time
        self.postbox = Postbox()


def a_job(number: object = 1, **columns: object) -> dict[str, object]:
    """A job of the grid queue that ran from T0 + 100 s for 1000 s."""
    submit_at = columns.get("submit_at", T0)
    start_at = columns.get("start_at", (submit_at if isinstance(submit_at, int) else T0) + 100)
    end_at = columns.get("end_at", (start_at if isinstance(start_at, int) else T0) + 1000)
    return {
        "cluster": "c1",
        "lrms": "LSF",
        "site": "TEST-SITE",
        "lrms_job_id": str(number),
        "user_name": "alice",
        "user_id": 1001,
        "group_name": "physics",
        "queue": "grid_a",
        "submit_at": submit_at,
        "start_at": start_at,
        "end_at": end_at,
        "logged_at": end_at if end_at is not None else T0 + 2000,
        "wall_duration_s": 1000,
        "cpu_duration_s": 900,
        "processors": 1,
        "node_count": 1,
        "state": "completed",
        **columns,
    }


def an_identity(number: object = 1, dn: str = "/CN=Alice", **columns: object) -> dict[str, object]:
    """An identity told at T0 by a CE; two that differ in the name are two records, of whatever time."""
    return {
        "cluster": "c1",
        "lrms": "LSF",
        "lrms_job_id": str(number),
        "record_key": f"{columns.get('cluster', 'c1')}:{number}:{columns.get('array_index')}:{columns.get('time_kind')}:{dn}",
        "time_kind": "submit",
        "recorded_at": T0,
        "ce_id": "ce01.example.org:8443/cream-lsf-grid_a",
        "dn": dn,
        "fqan": "/atlas/Role=pilot",
        "fqans": '["/atlas/Role=pilot"]',
        "vo": "atlas",
        "vo_group": "/atlas",
        "vo_role": "Role=pilot",
        "local_user": "alice",
        **columns,
    }


def rows_of(one: sent.Sent) -> list[tuple[int, int]]:
    """(step, job) of each row in a message."""
    return list(zip(one.steps.tolist(), one.jobs.tolist(), strict=True))


def dumped(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with store.reading() as connection:
        return {t.name: sorted(map(tuple, connection.execute(select(t))), key=repr) for t in metadata.sorted_tables}


def files_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())
