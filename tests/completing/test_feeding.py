"""Sources that are asked: the cursor moves once an answer is stored whole, and asking again doubles nothing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from sqlalchemy import func, select

from batchacct.collector import Collected, Collector, collect_once
from batchacct.errors import SourceError
from batchacct.feeding import Answer
from batchacct.ledger.books import read_books
from batchacct.parsing import Source
from batchacct.parsing.reading import Readable
from batchacct.store import Store, stored_cursor
from batchacct.store.tables import reject
from tests.completing.test_completing import in_force, notes


@dataclass
class Ledger:
    """Another system: jobs that ended, by hour; asked from an hour before the cursor on, one answer an hour."""

    ended: dict[int, list[str]]
    fails_at: int | None = None
    asked: list[str | None] = field(default_factory=list)

    def ask(self, cursor: str | None, now: int) -> Iterator[Answer]:
        self.asked.append(cursor)
        for hour in range(max(int(cursor or 0) - 1, 0), now // 3600):
            yield Answer(f"jobs of hour {hour}", self._opened(hour), str(hour + 1))

    @contextlib.contextmanager
    def _opened(self, hour: int) -> Iterator[Readable]:
        yield io.BytesIO("".join(f"ended {number} {hour * 3600 + 10}\n" for number in self.ended.get(hour, [])).encode())
        if hour == self.fails_at:
            raise SourceError("the other system broke off: is it running?")


def collect(store: Store, ledger: Ledger, hours: int) -> Collected:
    return collect_once(store, Collector(notes, Source("asked", "SITE", "c1"), (), ledger), lambda: hours * 3600)


def test_what_is_new_is_stored_once(store: Store) -> None:
    ledger = Ledger({0: ["1", "2"], 2: ["3"]})
    done = collect(store, ledger, 3)
    assert (done.counts["recorded"], done.files, stored_cursor(store, "asked")) == (3, 3, "3")
    ledger.ended[2] += ["4"]
    ledger.ended[3] = ["5"]
    done = collect(store, ledger, 4)
    assert (done.counts["recorded"], done.counts["known"]) == (2, 1)
    assert ledger.asked == [None, "3"]
    assert [row["lrms_job_id"] for row in in_force(store)] == ["1", "2", "3", "4", "5"]


def test_an_answer_that_breaks_off_is_asked_for_again(store: Store) -> None:
    ledger = Ledger({0: ["1"], 1: ["2"], 2: ["3"]}, fails_at=1)
    done = collect(store, ledger, 3)
    assert [error.message for error in done.errors] == ["the other system broke off: is it running?"]
    assert stored_cursor(store, "asked") == "1"
    ledger.fails_at = None
    assert not collect(store, ledger, 3).errors
    assert [row["lrms_job_id"] for row in in_force(store)] == ["1", "2", "3"]
    assert stored_cursor(store, "asked") == "3"


@pytest.mark.parametrize("hours", [0, 1])
def test_nothing_there_is_no_error(sqlite_store: Store, hours: int) -> None:
    done = collect(sqlite_store, Ledger({}), hours)
    assert (done.errors, done.counts["units"], stored_cursor(sqlite_store, "asked")) == ([], 0, "1" if hours else None)


def test_a_reject_of_an_answer_is_kept_once(store: Store) -> None:
    ledger = Ledger({0: ["1", "2 odd"]})
    assert collect(store, ledger, 1).counts["rejected"] == 1
    done = collect(store, ledger, 2)
    assert (done.counts["rejected"], done.counts["known"], done.counts["units"]) == (0, 2, 2)
    with store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(reject)) == 1
        assert read_books(connection).problems == []
