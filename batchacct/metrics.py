"""What `batchacct status` shows as Prometheus text, and an HTTP endpoint that serves it.

Names and units follow the conventions of Prometheus: seconds, bytes, `_total` for what only grows. A value that is not known is
left out. docs/reference/metrics.md lists them, docs/how-to/watch-the-collector.md says what to alert on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from batchacct import __version__
from batchacct.archive.due import Due, read_due
from batchacct.clock import unix_now
from batchacct.config import Config
from batchacct.errors import BatchacctError
from batchacct.httpd import Answer, Listener, Request, error_answer
from batchacct.ledger.books import DestinationBooks
from batchacct.ledger.state import State, read_state
from batchacct.store import Store
from batchacct.store.sent import KINDS

log = logging.getLogger(__name__)

KEPT_S = 5.0
"""A scrape may be answered with what was read so long ago..."""
KEPT_FACTOR = 20
"""... or so many times longer ago than reading it took: scraping costs the database a twentieth of its time at most."""
WAIT_S = 8.0
"""A scrape waits no longer for the database: Prometheus gives up after ten seconds."""
STALE_S = 60.0
"""What is older than it may be is still told for so long while something newer is being read."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Value = float | int | None


def metrics_text(store: Store, config: Config) -> bytes:
    """All metrics as Prometheus text.  Raises: StoreError if the database cannot be asked."""
    now = unix_now()
    with store.reading() as connection:
        due = read_due(connection, config, now)
    return _text([*_general(up=True), *_families(read_state(store, config, now)), *_of_archive(due)])


def serve(address: str, make_text: Callable[[], bytes]) -> Endpoint:
    """Answers GET / and GET /metrics at `address`, `host:port`, with `make_text()`, in threads of its own, until it is closed.

    What `make_text` raises of ours is told once in the log, and answered with `batchacct_up 0`. It may take its time, or hang:
    scrapes are answered within WAIT_S all the same.  Raises: ConfigError for an address that cannot be listened at.
    """
    return Endpoint(address, make_text)


class Endpoint:
    """Listens at one address, and nowhere else; `port` is the one it has, of use where 0 was asked for."""

    def __init__(self, address: str, make_text: Callable[[], bytes]) -> None:
        self._kept = _Kept(make_text)
        self._listener = Listener(address, self._answer, what="metrics", setting="[collect] metrics_address")
        self.port = self._listener.port

    def close(self) -> None:
        """Stops listening; an answer under way is not waited for."""
        self._listener.close()

    def _answer(self, request: Request) -> Answer:
        if request.path not in {"/", "/metrics"}:
            return error_answer(HTTPStatus.NOT_FOUND, "metrics are at /metrics")
        return Answer(HTTPStatus.OK, CONTENT_TYPE, self._kept.text())


class _Kept:
    """The last text, and when another is due. One thread at a time reads a new one, however many ask."""

    def __init__(self, make_text: Callable[[], bytes]) -> None:
        self._make_text = make_text
        self._changed = threading.Condition()
        self._text: bytes | None = None
        self._good_until = 0.0
        self._is_reading = False
        self._is_down = False

    def text(self) -> bytes:
        with self._changed:
            if time.monotonic() >= self._good_until and not self._is_reading:
                self._is_reading = True
                threading.Thread(target=self._read, name="metrics-reading", daemon=True).start()
            is_read = self._changed.wait_for(lambda: not self._is_reading, WAIT_S)
            is_told = is_read or time.monotonic() < self._good_until + STALE_S
            return _text(_general(up=False)) if self._text is None or not is_told else self._text

    def _read(self) -> None:
        began = time.monotonic()
        text: bytes | None = None
        try:
            text = self._make_text()
            self._is_down = False
        except BatchacctError as error:
            if not self._is_down:
                log.warning("metrics: %s", error.message)
            self._is_down = True
        finally:
            took = time.monotonic() - began
            with self._changed:
                self._text, self._is_reading = text, False
                self._good_until = time.monotonic() + max(KEPT_S, KEPT_FACTOR * took if text is not None else 0.0)
                self._changed.notify_all()


class _Given(Collector):
    """Families that are there already, as the library wants them: from a collector."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _text(families: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(families))
    return generate_latest(registry)


def _general(*, up: bool) -> Iterator[Metric]:
    yield _gauge("up", "1 if the database could be asked.", up)
    yield InfoMetricFamily("batchacct_build", "1, with the version of this program.", value={"version": __version__})


def _families(state: State) -> Iterator[Metric]:
    books = state.books
    yield _gauge("books_balanced", "1 if the books balance at every stage.", books.balanced)
    yield _gauge("database_size_bytes", "Size of the database.", state.database_bytes)
    yield from _of_sources(state)
    yield from _of_units(state)
    yield from _of_gaps(state)
    outcomes: dict[str, int] = {"not joined yet": books.jobs.not_joined}
    for (outcome, _), jobs in books.jobs.outcomes.items():
        outcomes[outcome] = outcomes.get(outcome, 0) + jobs
    yield _gauges("jobs", "Jobs in force, by outcome.", "outcome", outcomes)
    yield _gauges("parts_waiting", "Parts that wait for others of their whole, by kind.", "kind", books.parts_waiting)
    oldest = "When the oldest part that waits was logged."
    yield _gauges("parts_waiting_oldest_timestamp_seconds", oldest, "kind", books.parts_oldest_at)
    yield from _of_destinations(books.destinations)


def _of_destinations(destinations: Sequence[DestinationBooks]) -> Iterator[Metric]:
    records = GaugeMetricFamily(
        "batchacct_publish_records", "Records to publish, by destination and state.", labels=["destination", "state"]
    )
    for one in destinations:
        states = {"confirmed": one.confirmed, "unsent": one.unsent, "not in a message yet": one.not_in_message}
        kept = dict.fromkeys(KINDS, 0)
        for (kind, _), count in one.kept_back.items():
            kept[kind] += count
        for state, count in (states | kept).items():
            records.add_metric([one.name, state], count)
    yield records
    unsent = {one.name: one.messages_unsent for one in destinations}
    yield _gauges("publish_unsent_messages", "Messages that are built and not handed over.", "destination", unsent)
    refused = {one.name: one.messages_refused for one in destinations}
    yield _gauges("publish_refused_messages", "Messages of those that the receiver will not take.", "destination", refused)
    last = {one.name: one.last_confirmed_at for one in destinations}
    what = "When a message was last handed over."
    yield _gauges("publish_last_success_timestamp_seconds", what, "destination", last)


def _of_sources(state: State) -> Iterator[Metric]:
    """How far each configured source is read."""
    sources = {one.source: one for one in state.progress}
    gauges: tuple[tuple[str, str, Mapping[str, Value]], ...] = (
        ("lag_bytes", "Bytes of whole units that are unread, as on the disk.", {n: s.unread_bytes for n, s in sources.items()}),
        ("lag_files", "Files with something unread.", {n: None if s.is_asked else s.unread_files for n, s in sources.items()}),
        ("lag_seconds", "For how long something has been unread, or nothing answered.", {n: s.lag_s for n, s in sources.items()}),
        ("unfinished_bytes", "Bytes of a unit at the end of a file that waits for its rest.",
         {n: None if s.is_asked else s.unfinished_bytes for n, s in sources.items()}),
        ("last_success_timestamp_seconds", "When it was last read to its end.", {n: s.read_to_end_at for n, s in sources.items()}),
        ("error", "1 while it cannot be read.", {n: s.last_error is not None for n, s in sources.items()}),
        ("warning", "1 while something odd is seen in it.", {n: s.warning is not None for n, s in sources.items()}),
    )  # fmt: skip
    for name, doc, values in gauges:
        yield _gauges(f"source_{name}", doc, "source", values)
    lost = {name: one.lost_bytes for name, one in sources.items()}
    yield _counters("source_lost_bytes", "Bytes destroyed before they could be read.", "source", lost)


def _of_units(state: State) -> Iterator[Metric]:
    """What came of the units of each source that ever was read."""
    counters = (
        ("units", "Units (lines, mostly) read.", ("units",)),
        ("records", "Records stored, those made of parts included.", ("recorded", "completed")),
        ("parts", "Parts of records stored.", ("merged",)),
        ("rejects", "Units that could not be read, those replayed since included.", ("rejects",)),
        ("skipped", "Units that are of no concern.", ("skipped",)),
    )
    for name, doc, fields in counters:
        counts: dict[str, Value] = {}
        for one in state.books.sources:
            counts[one.name] = (counts.get(one.name) or 0) + sum(getattr(one, field) for field in fields)
        yield _counters(f"source_{name}", doc, "source", counts)
    still = {one.name: one.open_rejects for one in state.books.sources}
    yield _gauges("source_open_rejects", "Rejects that were not replayed.", "source", still)
    last: dict[str, Value] = {}
    for one in state.books.sources:
        if one.last_record_at is not None:
            last[one.name] = max(last.get(one.name) or 0, one.last_record_at)
    yield _gauges("source_last_record_timestamp_seconds", "When the newest record was logged.", "source", last)


def _of_gaps(state: State) -> Iterator[Metric]:
    """What is missing."""
    rhythms, silent = state.gaps.rhythms, {s.source for s in state.gaps.silences}
    yield _gauges("source_silent_seconds", "Time since its last record.", "source", {n: r.silent_s for n, r in rhythms.items()})
    allowed = "How long its rhythm explains; absent where none is known yet."
    yield _gauges("source_silence_allowed_seconds", allowed, "source", {n: r.allowed_s for n, r in rhythms.items()})
    is_silent = "1 if it is silent for longer than its rhythm explains."
    yield _gauges("source_silent", is_silent, "source", {name: name in silent for name in rhythms})
    clusters = sorted(state.gaps.settled_at)
    holes = {c: sum(hole.cluster == c for hole in state.gaps.holes) for c in clusters}
    missing = {c: sum(hole.span.missing for hole in state.gaps.holes if hole.cluster == c) for c in clusters}
    yield _gauges("job_id_holes", "Holes in the job ids of the last eight weeks.", "cluster", holes)
    yield _gauges("job_ids_missing", "Job ids missing in them.", "cluster", missing)


def _of_archive(due: Due) -> Iterator[Metric]:
    """Whether archiving and purging keep up with the policy."""
    yield _gauge(
        "archive_months_due",
        "Months that ended [retention] keep ago or earlier and whose jobs are in the database, not in the archive.",
        due.months,
    )
    last = "When the newest archived month began."
    yield _gauge("archive_last_month_timestamp_seconds", last, due.last_month)
    yield _gauges("retention_overdue_records", "Records past [retention], by what is to be done with them.", "what", due.overdue)


def _gauge(name: str, doc: str, value: Value) -> Metric:
    family = GaugeMetricFamily(f"batchacct_{name}", doc, labels=[])
    if value is not None:
        family.add_metric([], value)
    return family


def _gauges(name: str, doc: str, label: str, values: Mapping[str, Value]) -> Metric:
    return _filled(GaugeMetricFamily(f"batchacct_{name}", doc, labels=[label]), values)


def _counters(name: str, doc: str, label: str, values: Mapping[str, Value]) -> Metric:
    return _filled(CounterMetricFamily(f"batchacct_{name}", doc, labels=[label]), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, Value]) -> Metric:
    for value_of, value in values.items():
        if value is not None:
            family.add_metric([value_of], value)
    return family
