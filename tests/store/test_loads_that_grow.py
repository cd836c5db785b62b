"""A load grows: the blocks of a followed file that come one after the other are one load, until it is joined or large enough."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update

from batchacct.completing import Rule, again, complete_parts
from batchacct.errors import CheckpointError, StoreError
from batchacct.following import Position
from batchacct.ledger.books import read_books
from batchacct.ledger.stories import trace_unit
from batchacct.model import JOB, Record
from batchacct.parsing import Completed, Completion, Parsed, RejectedUnit, Whole
from batchacct.store import Counts, Origin, Store, append
from batchacct.store.loads import hold, mark
from batchacct.store.tables import ROWS_PER_LOAD_BITS, load, usage
from batchacct.store.tables import job as job_table
from batchacct.store.tables import part as part_table
from batchacct.store.tables import reject as reject_table
from tests.pub.site import Site
from tests.records import NOW, ORIGIN, Row, holdings, job, parsed, part, rows
from tests.scripts_2012 import until
from tests.servers import MariaServer

PATIENCE_S = 180.0


@dataclass
class Followed:
    """A file that is followed: each `block` goes on where the one before it ended."""

    store: Store
    path: str = "/var/log/lsb.acct"
    origin: Origin = ORIGIN
    position: Position = field(init=False)

    def __post_init__(self) -> None:
        self.position = Position(self.origin.source, self.path, device=1, inode=2, size=0)

    def block(self, *records: Record, now: int = NOW, gap: int = 0, length: int = 100, **more: Any) -> Counts:
        start = self.position.offset + gap
        return self.append(parsed(records, start=start, end=start + length, **more), now)

    def append(self, block: Parsed, now: int = NOW) -> Counts:
        origin = replace(self.origin, path=self.path, position=self.position)
        moved = replace(self.position, path=self.path).moved(block.end_offset, b"x" * 4096, b"y" * 256)
        counts, stored = append(self.store, origin, block, now, moved)
        assert stored is not None
        self.position = stored
        return counts


def spans(store: Store) -> list[tuple[object, object, object]]:
    """(first byte, byte behind the last, units) of each load, oldest first."""
    return [(row["start_offset"], row["end_offset"], row["units"]) for row in rows(store, load)]


def mark_joined(store: Store) -> None:
    with store.writing() as connection:
        connection.execute(update(load).values(joined_at=NOW))


def steps_of(whole: Whole) -> list[Completed]:
    """A record with as many nodes as the whole has parts."""
    first = whole.parts[0]
    number = whole.key.removeprefix("lsf1:")
    made = {"record_key": f"made:{number}", "lrms_job_id": number, "join_id": number, "logged_at": first["logged_at"]}
    return [Completed(made | {"state": "completed", "node_count": len(whole.parts), "end_at": first["logged_at"]}, first)]


RULES = [Rule(Completion("test", JOB, steps_of), (ORIGIN.source,))]


def test_blocks_that_follow_each_other_are_one_load(store: Store) -> None:
    file = Followed(store)
    first = file.block(job(1), job(2), skipped={"comment": 2}, rejects=[RejectedUnit(7, 1, b"x", "bad")])
    second = file.block(job(3), job(2), skipped={"comment": 1, "another": 1}, now=NOW + 9)
    third = file.block(job(4, logged_at=NOW), job(1, b"corrected"), parts=[part(1), part(2)], now=NOW + 10)
    assert first.load_id == second.load_id == third.load_id
    assert (second.units, second.recorded, second.known, second.skipped) == (4, 1, 1, 2), "the counts are those of the block"
    (stored,) = rows(store, load)
    wanted = {
        "start_offset": 0, "end_offset": 300, "units": 13, "recorded": 5, "merged": 2, "known": 1, "revised": 1, "skipped": 4,
        "rejected": 1, "skip_reasons": '{"another": 1, "comment": 3}', "last_record_at": NOW, "loaded_at": NOW + 10,
        "file_id": file.position.id, "joined_at": None, "completed_at": None, "next_row": 6,
    }  # fmt: skip
    assert {name: stored[name] for name in wanted} == wanted
    first_id = first.load_id << ROWS_PER_LOAD_BITS
    assert [row["id"] for row in rows(store, job_table)] == [first_id, first_id + 1, first_id + 2, first_id + 4, first_id + 5]
    assert [row["id"] for row in rows(store, part_table)] == [first_id + 4, first_id + 5]


def test_a_block_without_records_leaves_the_newest_time_alone(store: Store) -> None:
    file = Followed(store)
    file.block(job(1))
    file.block(skipped={"comment": 3})
    ((newest, reasons),) = [(row["last_record_at"], row["skip_reasons"]) for row in rows(store, load)]
    assert (newest, reasons) == (job(1)["logged_at"], '{"comment": 3}')


def test_files_that_are_read_in_turn_each_have_their_load(store: Store) -> None:
    one, other = Followed(store), Followed(store, "/var/log/lsb.acct.1")
    for number in range(0, 10, 2):
        one.block(job(number))
        other.block(job(number + 1))
    assert spans(store) == [(0, 500, 5), (0, 500, 5)]


@pytest.mark.parametrize("why", ["a gap", "renamed", "joined", "large enough"])
def test_what_begins_a_new_load(store: Store, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr("batchacct.store.loads.ROWS_TO_GROW_TO", 3)
    file = Followed(store)
    file.block(job(1), job(2))
    if why == "renamed":
        file.path += ".1"
    if why == "joined":
        mark_joined(store)
    file.block(job(3), job(4)) if why == "large enough" else file.block(job(3), gap=5 if why == "a gap" else 0)
    file.block(job(5))
    starts = {"a gap": (105, 305, 2), "large enough": (100, 300, 3)}
    assert spans(store) == [(0, 100, 2), starts.get(why, (100, 300, 2))]


@pytest.mark.parametrize("asked", [True, False], ids=["of a feed", "by hand"])
def test_what_is_of_no_file_is_a_load_of_its_own_each_time(store: Store, asked: bool) -> None:
    for number in range(3):
        block = parsed([job(number)], start=100 * number, end=100 * (number + 1))
        append(store, replace(ORIGIN, asked=asked), block, NOW)
    assert len(spans(store)) == 3


def test_what_is_rolled_back_leaves_the_load_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Followed(store)
    file.block(job(1))
    before, stale = (holdings(store), rows(store, load)), file.position
    real = store.dialect.bulk_insert

    def failing_at_parts(connection: Any, table: Any, batch: pa.RecordBatch) -> None:
        real(connection, table, batch)
        if table.name == "part":
            raise store.engine.dialect.loaded_dbapi.OperationalError("database or disk is full")

    monkeypatch.setattr(store.dialect, "bulk_insert", failing_at_parts)
    with pytest.raises(StoreError, match="disk is full"):
        file.block(job(2), parts=[part(2)], rejects=[RejectedUnit(7, 1, b"x", "bad")], skipped={"comment": 1})
    monkeypatch.undo()
    assert (holdings(store), rows(store, load)) == before
    file.block(job(2))
    now = rows(store, load)
    file.position = stale
    with pytest.raises(CheckpointError):
        file.block(job(3))
    assert rows(store, load) == now


def test_completing_looks_at_what_is_new_in_a_load_that_grows(store: Store) -> None:
    file, looked_at = Followed(store), []

    def watching(whole: Whole) -> list[Completed]:
        looked_at.append(whole.key)
        return steps_of(whole)

    rules = [Rule(Completion("test", JOB, watching), (ORIGIN.source,))]
    for number in range(4):
        file.block(parts=[part(number), part(9, record_key=f"lsf1:9:{number}")], now=NOW + number)
        complete_parts(store, rules, NOW + number)
        complete_parts(store, rules, NOW + number)
    assert looked_at == ["lsf1:0", "lsf1:9", "lsf1:1", "lsf1:9", "lsf1:2", "lsf1:9", "lsf1:3", "lsf1:9"]
    made, of_blocks = sorted(rows(store, load), key=lambda row: str(row["units"]))
    assert (of_blocks["units"], of_blocks["merged"], of_blocks["next_row"], of_blocks["completed_to"]) == (8, 8, 8, 8)
    assert (made["units"], made["completed"], made["revised"], made["next_row"], made["end_offset"]) == (0, 8, 3, 8, 0)
    assert (made["file_id"], made["loaded_at"]) == (file.position.id, NOW + 3), "what is made of parts grows just so"
    again(store, rules)
    complete_parts(store, rules, NOW)
    assert looked_at[8:] == ["lsf1:0", "lsf1:1", "lsf1:2", "lsf1:3", "lsf1:9"]
    with store.reading() as connection:
        assert read_books(connection).problems == []


def test_completing_ends_while_a_collector_goes_on(store: Store) -> None:
    file = Followed(store)
    looked_at: list[int] = []

    def collecting_beside() -> bool:
        """Between steps, a block comes."""
        file.block(parts=[part(len(looked_at))])
        looked_at.append(file.position.offset)
        return False

    assert complete_parts(store, RULES, NOW, enough=collecting_beside) == 1
    assert looked_at == [100]


def test_records_made_after_the_join_begin_another_load(store: Store) -> None:
    file = Followed(store)
    for number in range(3):
        file.block(parts=[part(number)])
        complete_parts(store, RULES, NOW)
        mark_joined(store)
    assert [row["completed"] for row in rows(store, load)] == [0, 1] * 3
    with store.reading() as connection:
        by_type = read_books(connection).records_by_type
    assert {name: counts for name, counts in by_type.items() if counts != (0, 0)} == {"job": (3, 3), "part": (3, 3)}


# --- any history ----------------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """What the loads of some files must be, block by block."""

    limit: int
    loads: list[list[object]] = field(default_factory=list)
    """[path, first byte, byte behind the last, rows] each."""
    growing: dict[int, int] = field(default_factory=dict)
    """File to the place of its load in `loads`."""

    def block(self, number: int, path: str, start: int, end: int, count: int) -> None:
        of_file = self.growing.get(number)
        if of_file is not None:
            last = self.loads[of_file]
            assert isinstance(last[3], int)
            if last[0] == path and last[2] == start and last[3] + count <= self.limit:
                last[2], last[3] = end, last[3] + count
                return
        self.growing[number] = len(self.loads)
        self.loads.append([path, start, end, count])


@dataclass(frozen=True)
class Unit:
    path: str
    offset: int
    told: str
    """What `trace_unit` says of it."""


WHAT = st.sampled_from(["job", "job", "job", "known", "revision", "part", "reject", "skip"])
DOINGS: st.SearchStrategy[tuple[str, int, list[str]]] = st.one_of(
    st.tuples(st.just("block"), st.integers(0, 1), st.lists(WHAT, max_size=5)),
    st.tuples(st.just("block"), st.integers(0, 1), st.lists(WHAT, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(["gap", "rename"]), st.integers(0, 1), st.just([])),
    st.tuples(st.sampled_from(["publish", "complete"]), st.just(0), st.just([])),
)
LIMIT = 6


class History:
    """Two files of one source, written, renamed, cut short, joined and completed as a list of doings says."""

    def __init__(self, site: Site) -> None:
        self.site, self.model = site, Model(LIMIT)
        self.files = [Followed(site.store, f"/var/log/acct.{n}", replace(ORIGIN, source="lsf")) for n in (0, 1)]
        self.rules = [replace(RULES[0], sources=("lsf",))]
        self.numbers = 0
        self.gaps = [0, 0]
        self.stored: list[Record] = []
        self.units: list[Unit] = []

    def do(self, doing: tuple[str, int, list[str]]) -> None:
        what, number, kinds = doing
        if what == "block":
            self._block(number, kinds)
        elif what == "gap":
            self.gaps[number] = 7
        elif what == "rename":
            self.files[number].path += "~"
        elif what == "publish":
            self.site.publish()
            self.model.growing.clear()
        else:
            complete_parts(self.site.store, self.rules, NOW)

    def _block(self, number: int, kinds: list[str]) -> None:
        file = self.files[number]
        start = offset = file.position.offset + self.gaps[number]
        self.gaps[number] = 0
        records: list[Record] = []
        parts: list[Record] = []
        rejects: list[RejectedUnit] = []
        for kind in kinds:
            self.numbers += 1
            native = f"{kind} {self.numbers}".encode()
            columns = {"source": "lsf", "source_offset": offset, "cluster": "c1", "queue": "short"}
            told = "no record of this load"
            if kind in {"job", "known", "revision"}:
                record = self._record(kind, native, columns)
                records.append(record)
                told = told if kind == "known" and self.stored[:-1] else f"job {record['lrms_job_id']} on c1"
            elif kind == "part":
                del columns["queue"]
                parts.append(part(self.numbers, native, native=native, part_key=f"c1:{self.numbers}", **columns))
                told = f"part: step of c1:{self.numbers}"
            elif kind == "reject":
                rejects.append(RejectedUnit(offset, len(native), native, f"bad {self.numbers}"))
                told = f"rejected: bad {self.numbers}"
            self.units.append(Unit(file.path, offset, told))
            offset += len(native) + 1
        skips = {"skip": kinds.count("skip")} if "skip" in kinds else {}
        offset += not kinds
        file.append(parsed(records, parts=parts, rejects=rejects, skipped=skips, start=start, end=offset))
        self.model.block(number, file.path, start, offset, max(len(records), len(parts)))

    def _record(self, kind: str, native: bytes, columns: dict[str, object]) -> Record:
        """A new job, or one that was there before: as it was (at another place), or with other content."""
        if kind == "job" or not self.stored:
            made = job(self.numbers, native, **columns)
        elif kind == "known":
            made = self.stored[self.numbers % len(self.stored)] | columns
        else:
            of = self.stored[self.numbers % len(self.stored)]
            made = job(int(str(of["lrms_job_id"])), native, **columns)
        self.stored.append(made)
        return made


EXAMPLES = {"sqlite": 30, "postgresql": 6, "mariadb": 6}


def test_any_history(site: Site) -> None:
    @settings(max_examples=EXAMPLES[site.store.dialect.name], deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    @given(st.lists(DOINGS, min_size=5, max_size=40))
    def check(doings: list[tuple[str, int, list[str]]]) -> None:
        site.emptied()
        _play(site, doings)

    check()


def _play(site: Site, doings: list[tuple[str, int, list[str]]]) -> None:
    history = History(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchacct.store.loads.ROWS_TO_GROW_TO", LIMIT)
        for doing in doings:
            history.do(doing)
    complete_parts(site.store, history.rules, NOW)
    site.publish()
    site.assert_sound()
    of_blocks = [row for row in rows(site.store, load) if row["end_offset"]]
    found = [[row["path"], row["start_offset"], row["end_offset"], row["next_row"]] for row in of_blocks]
    assert found == history.model.loads
    _every_row_leads_to_its_load(site.store)
    with site.store.reading() as connection:
        for unit in history.units:
            first, *rest = trace_unit(connection, unit.path, unit.offset)
            assert not any(line.startswith("load ") for line in rest), "one load has read it, and no other"
            assert unit.told in "\n".join(rest), (unit, first, rest)


def _every_row_leads_to_its_load(store: Store) -> None:
    loads: dict[object, Row] = {row["id"]: row for row in rows(store, load)}
    held = {number: {"job": 0, "part": 0, "reject": 0} for number in loads}
    for table in (job_table, part_table):
        for row in rows(store, table):
            assert isinstance(row["id"], int)
            of, place = loads[row["id"] >> ROWS_PER_LOAD_BITS], row["id"] % (1 << ROWS_PER_LOAD_BITS)
            assert place < _number(of["next_row"])
            held[of["id"]][table.name] += 1
            if of["end_offset"]:
                assert _number(of["start_offset"]) <= _number(row["source_offset"]) < _number(of["end_offset"])
    for row in rows(store, reject_table):
        held[row["load_id"]]["reject"] += 1
    for number, row in loads.items():
        counted = {"job": _number(row["recorded"]) + _number(row["completed"]), "part": row["merged"], "reject": row["rejected"]}
        assert held[number] == counted


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


# --- at the same time -----------------------------------------------------------------------------------------------------

BLOCKS, RECORDS_PER_BLOCK = 120, 3


def _append_blocks(url: str, first: int, going_on: threading.Event, parts: bool) -> int:
    """A collector's work: many small blocks, with what it completes of their parts after some of them."""
    store = Store(url)
    source = f"lsf-{first}"
    file = Followed(store, f"/var/log/acct.{first}", replace(ORIGIN, source=source))
    rules = [replace(RULES[0], sources=(source,))]
    columns = {"cluster": "c1", "source": source}
    try:
        for block in range(BLOCKS):
            numbers = range(first + block * RECORDS_PER_BLOCK, first + (block + 1) * RECORDS_PER_BLOCK)
            if block % 10 == 9:  # a job that is there already is corrected
                numbers = range(numbers.start - 5, numbers.stop)
            records = [job(n, f"{block // 10}".encode(), **columns, queue="short") for n in numbers]
            steps = [part(-block, f"{block}".encode(), record_key=f"{source}:{block}", part_key=f"{source}:{block}", **columns)]
            file.block(*records, parts=steps if parts else ())
            if parts and block % 20 == 0:
                complete_parts(store, rules, NOW)
        if parts:
            complete_parts(store, rules, NOW)
    finally:
        going_on.clear()
        store.close()
    return BLOCKS


def test_a_publisher_beside_two_collectors(site: Site) -> None:
    """What a collector adds to a load while that is being joined must not be taken for joined."""
    url = site.store.engine.url.render_as_string(hide_password=False)
    going_on = [threading.Event(), threading.Event()]
    runs = 0
    with ThreadPoolExecutor(2) as pool:
        for on in going_on:
            on.set()
        starts = (1_000_000, 2_000_000)
        appending = [
            pool.submit(_append_blocks, url, start, on, start == 2_000_000) for start, on in zip(starts, going_on, strict=True)
        ]
        while any(on.is_set() for on in going_on):
            site.publish()
            runs += 1
        assert [future.result() for future in appending] == [BLOCKS] * 2
    complete_parts(site.store, [replace(RULES[0], sources=("lsf-2000000",))], NOW)  # on MariaDB: of loads that were being joined
    site.publish()
    site.assert_sound()
    with site.store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(usage)) == 2 * BLOCKS * RECORDS_PER_BLOCK + BLOCKS
        assert connection.scalar(select(func.count()).where(load.c.joined_at.is_(None))) == 0
        loads = connection.scalar(select(func.count()).select_from(load)) or 0
    assert runs > 1
    assert loads < BLOCKS, (loads, runs)


on_servers = pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
"""SQLite lets one transaction write at a time: there, nothing of this can happen."""


@on_servers
def test_a_collector_does_not_wait_for_a_load_that_is_being_joined(store: Store) -> None:
    file = Followed(store)
    held = file.block(job(1), parts=[part(1)]).load_id
    with ThreadPoolExecutor(1) as pool, store.writing() as joining:
        hold(joining, [held])
        added = pool.submit(file.block, job(2), parts=[part(2)]).result(PATIENCE_S).load_id
        made = pool.submit(complete_parts, store, RULES, NOW).result(PATIENCE_S)
        mark(joining, load.c.id == held, joined_at=NOW)
    made += complete_parts(store, RULES, NOW)  # what is in a load that is being joined; on PostgreSQL that is done already
    assert (added != held, made) == (True, 2)
    file.block(job(3))
    of_blocks = [(row["id"], row["units"], row["joined_at"]) for row in rows(store, load) if row["units"]]
    assert of_blocks == [(held, 2, NOW), (added, 3, None)]


@on_servers
def test_a_joiner_waits_for_a_collector_that_adds_to_a_load(
    store: Store, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    file = Followed(store)
    number = file.block(job(1)).load_id
    added, commit = threading.Event(), threading.Event()

    def before_commit(name: str) -> None:
        if name == "append.before-commit":
            added.set()
            assert commit.wait(PATIENCE_S)

    def joined() -> int:
        with store.writing() as connection:
            hold(connection, [number])
            return connection.scalar(select(func.count()).select_from(job_table)) or 0

    monkeypatch.setattr(sys.modules["batchacct.store.append"], "crash_point", before_commit)
    with ThreadPoolExecutor(2) as pool:
        adding = pool.submit(file.block, job(2))
        assert added.wait(PATIENCE_S)
        joining = pool.submit(joined)
        until(lambda: joining.done() or _somebody_waits(store, request))
        commit.set()
        assert (adding.result().load_id, joining.result()) == (number, 2)


def _somebody_waits(store: Store, request: pytest.FixtureRequest) -> bool:
    if store.dialect.name == "mariadb":
        server: MariaServer = request.getfixturevalue("mariadb")
        return server.execute("SHOW STATUS LIKE 'Innodb_row_lock_current_waits'").split() != ["Innodb_row_lock_current_waits", "0"]
    with store.reading() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))
