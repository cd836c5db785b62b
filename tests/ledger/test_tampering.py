"""The demo farm's books, tampered with by hand in the database: the audit names the very job, identity or message, and what it is.

Each change is made for itself and undone. On SQLite it is committed to a copy of the database, and the command is run.
"""

from __future__ import annotations

import json
import re
import sqlite3
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, delete, func, insert, select, update

from batchacct.cli.collecting import collector_of
from batchacct.cli.demonstration import END_AT, _configuration
from batchacct.clock import shown
from batchacct.collector import collect_once
from batchacct.config import MAIN, Config
from batchacct.demo.farm import write_logs
from batchacct.ledger.audit import Audit, read_audit
from batchacct.ledger.reading_rows import readers_of
from batchacct.model import content_hash
from batchacct.store import Store
from batchacct.store.payload import digest_of, packed
from batchacct.store.tables import identity, job, kept_back, load, message, usage
from pub.command import publish_once
from tests.cli.runner import Done, batchacct
from tests.pristine import with_schema

JOBS = 600
DAY = 86_400
SINCE = END_AT // DAY * DAY - 30 * DAY
UNTIL = END_AT // DAY * DAY + DAY
DAYS = ("--from", "2026-10-02", "--to", "2026-11-01")


@dataclass(frozen=True, slots=True)
class Picked:
    """A published job with its identity and message, another one of another user, and where they were read."""

    job: Any
    identity: Any
    other: Any
    other_identity: Any
    message: int
    path: str
    identity_path: str
    load: int
    unsent: int

    @property
    def name(self) -> str:
        """As the audit names the job."""
        return f"job {self.job.lrms_job_id} (record {self.job.id})"

    @property
    def place(self) -> str:
        return f"({self.path}, byte {self.job.source_offset})"


@dataclass(frozen=True, slots=True)
class Farm:
    store: Store
    config: Config
    picked: Picked

    def audit(self, connection: Connection) -> Audit:
        return read_audit(connection, (), SINCE, UNTIL, END_AT, readers=readers_of(self.config))


def configured(folder: Path) -> Config:
    values = tomllib.loads(_configuration(folder))
    values["publish"] = {"path": folder / "outgoing", "bunch": 50}
    return Config.model_validate(values)


def lived(store: Store, config: Config) -> Picked:
    """The farm's logs are read and published, but for one message, which is not confirmed."""
    for source in config.source:
        collect_once(store, collector_of(config, source), lambda: END_AT)
    publish_once(store, config, lambda: END_AT)
    with store.writing() as connection:
        unsent = connection.scalar(select(func.max(message.c.id)))
        connection.execute(update(message).where(message.c.id == unsent).values(confirmed_at=None, receipt=None))
        return picked(connection, int(unsent or 0))


def picked(connection: Connection, unsent: int) -> Picked:
    first, last = connection.execute(select(message.c.first_job, message.c.last_job).where(message.c.id == 2)).one()
    columns = (*job.c, usage.c.identity_id)
    joined = select(*columns).select_from(job.join(usage, usage.c.job_id == job.c.id))
    rows = joined.where(usage.c.outcome == "joined", job.c.id.between(first, last), job.c.array_index.is_(None)).order_by(job.c.id)
    one, *others = connection.execute(rows).all()
    who = connection.execute(select(identity).where(identity.c.id == one.identity_id)).one()
    theirs = {row.id: connection.execute(select(identity).where(identity.c.id == row.identity_id)).one() for row in others}
    other = next(row for row in others if theirs[row.id].dn != who.dn)
    path, its_path = (str(connection.scalar(select(load.c.path).where(load.c.id == n >> 20))) for n in (one.id, who.id))
    return Picked(one, who, other, theirs[other.id], 2, path, its_path, one.id >> 20, unsent)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("farm")
    write_logs(made / "logs", jobs=JOBS, seed=5, end_at=END_AT)
    return made


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def farm(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('store')}/batchacct.db"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    store, config = with_schema(url), configured(folder)
    yield Farm(store, config, lived(store, config))
    store.close()


Change = Callable[[Connection, Picked], Any]
Told = Callable[[Picked], Sequence[str]]


def of_job(**values: object) -> Change:
    return lambda c, p: c.execute(update(job).where(job.c.id == p.job.id).values(values))


def of_identity(**values: object) -> Change:
    return lambda c, p: c.execute(update(identity).where(identity.c.id == p.identity.id).values(values))


def of_row(**values: object) -> Change:
    """... of the ledger."""
    return lambda c, p: c.execute(update(usage).where(usage.c.job_id == p.job.id).values(values))


def of_message(**values: object) -> Change:
    return lambda c, p: c.execute(update(message).where(message.c.id == p.message).values(values))


def columns_changed(said: Callable[[Picked], str]) -> Told:
    return lambda p: [f"{p.name}: {said(p)} {p.place}"]


def job_added(connection: Connection, p: Picked) -> None:
    """A copy of a job, an hour later, as if the same load had brought it."""
    row = {**p.job._mapping, "id": p.job.id + 5000, "record_key": f"{p.job.record_key}:x", "cpu_duration_s": 10}
    connection.execute(insert(job).values({c.name: row[c.name] for c in job.c}))


def unit_forged(connection: Connection, p: Picked) -> None:
    """A unit that says what the record is made to say; its hash is forgotten."""
    unit = bytes(p.job.native).replace(b" 590", b" 990") + b" "
    connection.execute(update(job).where(job.c.id == p.job.id).values(native=unit, cpu_duration_s=7))


def identity_swapped(connection: Connection, p: Picked) -> None:
    values = {"identity_id": p.other_identity.id, "identity_at": p.other_identity.recorded_at}
    connection.execute(update(usage).where(usage.c.job_id == p.job.id).values(values))


def kept_back_added(connection: Connection, p: Picked) -> None:
    step = select(usage.c.step).where(usage.c.job_id == p.job.id).scalar_subquery()
    row = {"destination": MAIN, "job_id": p.job.id, "step": step, "kind": "refused", "reason": "x", "since": 1}
    connection.execute(insert(kept_back).values(row))


def gone(table: Table, number: Callable[[Picked], int]) -> Change:
    return lambda c, p: c.execute(delete(table).where(table.primary_key.columns[0] == number(p)))


@dataclass(frozen=True, slots=True)
class Tampering:
    name: str
    change: Change
    told: Told


RECORDS_MISSING = "the books as a whole: {} records: loads say "
JOBS_DO_NOT_ADD_UP = "the books as a whole: jobs: outcomes do not add up to the records in force"
MESSAGES_DO_NOT_ADD_UP = "the books as a whole: destination main: the messages hold "
JOBS_MISSING = RECORDS_MISSING.format("job")


TAMPERINGS = [
    Tampering(
        "CPU time doubled",
        lambda c, p: c.execute(update(job).where(job.c.id == p.job.id).values(cpu_duration_s=2 * job.c.cpu_duration_s + 1)),
        columns_changed(lambda p: f"cpu_duration_s is {2 * p.job.cpu_duration_s + 1:,}, its unit says {p.job.cpu_duration_s:,}"),
    ),
    Tampering(
        "wallclock time",
        of_job(wall_duration_s=1),
        columns_changed(lambda p: f"wall_duration_s is 1, its unit says {p.job.wall_duration_s:,}"),
    ),
    Tampering(
        "account of a job",
        of_job(user_name="mallory"),
        columns_changed(lambda p: f"user_name is 'mallory', its unit says '{p.job.user_name}'"),
    ),
    Tampering(
        "processors of a job",
        of_job(processors=None),
        columns_changed(lambda p: f"processors is nothing, its unit says {p.job.processors:,}"),
    ),
    Tampering(
        "start of a job",
        of_job(start_at=END_AT),
        columns_changed(lambda p: f"start_at is 2026-11-01 12:00:00Z, its unit says {shown(p.job.start_at)}"),
    ),
    Tampering(
        "unit of a job",
        unit_forged,
        columns_changed(lambda p: "its unit, or its content_hash, was changed: the hash of the unit is another"),
    ),
    Tampering(
        "when a job was logged",
        lambda c, p: c.execute(update(job).where(job.c.id == p.job.id).values(logged_at=job.c.logged_at + 1)),
        lambda p: [
            f"{p.name}: logged_at is ",
            f"1 job records are in the ledger and not in their table: record {p.job.id} (source lsf-master, {p.path})",
            "the ledger has ",
        ],
    ),
    Tampering(
        "job marked as replaced",
        of_job(superseded_by=1),
        lambda p: [f"1 job records are marked as replaced, and none has replaced them: record {p.job.id} (source lsf-master, "],
    ),
    Tampering(
        "job deleted",
        gone(job, lambda p: int(p.job.id)),
        lambda p: [
            f"1 job records are in the ledger and not in their table: record {p.job.id} (source lsf-master, {p.path})",
            f"load {p.load} of source lsf-master ({p.path}, bytes ",
            "the ledger has ",
            JOBS_MISSING,
            JOBS_DO_NOT_ADD_UP,
        ],
    ),
    Tampering(
        "job added",
        job_added,
        lambda p: [
            f"job {p.job.lrms_job_id} (record {p.job.id + 5000}): it is none of the ",
            f"1 jobs were joined and are not in the ledger: job {p.job.lrms_job_id} (record {p.job.id + 5000})",
            f"load {p.load} of source lsf-master ({p.path}, bytes ",
            JOBS_MISSING,
            JOBS_DO_NOT_ADD_UP,
        ],
    ),
    Tampering(
        "row of the ledger deleted",
        gone(usage, lambda p: int(p.job.id)),
        lambda p: [f"1 jobs were joined and are not in the ledger: {p.name}", JOBS_DO_NOT_ADD_UP, MESSAGES_DO_NOT_ADD_UP],
    ),
    Tampering(
        "another's identity",
        identity_swapped,
        lambda p: [
            (
                f"1 jobs are joined with identities of other jobs: {p.name}; record {p.other_identity.id} of job "
                f"{p.other_identity.lrms_job_id} on lsf1"
            ),
        ],
    ),
    Tampering(
        "joined, and said to be excluded",
        of_row(outcome="excluded", reason="never started"),
        lambda p: [
            f"destination main: 1 records are in a message, though by the ledger they are not to go out: {p.name}",
            MESSAGES_DO_NOT_ADD_UP,
        ],
    ),
    Tampering(
        "joined, and said to be local",
        of_row(outcome="local", reason="local queue"),
        lambda p: [f"1 jobs are joined without an identity, or have one and are not joined: {p.name}"],
    ),
    Tampering(
        "a benchmark there is none of",
        of_row(benchmark_id=999),
        lambda p: [f"1 jobs have benchmarks that are not in their table: {p.name}"],
    ),
    Tampering(
        "a VO mapping there is none of",
        of_row(mapping_id=999_999),
        lambda p: [f"1 jobs have VO mappings that are not in their table: {p.name}"],
    ),
    Tampering(
        "DN of an identity",
        of_identity(dn="/CN=Mallory"),
        lambda p: [
            (
                f"identity of job {p.identity.lrms_job_id} (record {p.identity.id}): dn is '/CN=Mallory', its unit says "
                f"'{p.identity.dn}' ({p.identity_path}, byte {p.identity.source_offset})"
            ),
        ],
    ),
    Tampering(
        "VO of an identity",
        of_identity(vo="mallory"),
        lambda p: [
            (
                f"identity of job {p.identity.lrms_job_id} (record {p.identity.id}): vo is 'mallory', its unit says "
                f"'{p.identity.vo}' ({p.identity_path}, byte {p.identity.source_offset})"
            ),
        ],
    ),
    Tampering(
        "job of an identity",
        of_identity(join_id="1"),
        lambda p: [
            f"identity of job {p.identity.lrms_job_id} (record {p.identity.id}): join_id is '1', its unit says ",
            f"1 jobs are joined with identities of other jobs: {p.name}; record {p.identity.id} of job ",
        ],
    ),
    Tampering(
        "identity deleted",
        gone(identity, lambda p: int(p.identity.id)),
        lambda p: [
            (
                f"1 jobs are joined with identities that are not in their table: {p.name}; record {p.identity.id} (source ce-blah, "
                f"{p.identity_path})"
            ),
            f"load {p.identity.id >> 20} of source ce-blah ({p.identity_path}, bytes ",
            RECORDS_MISSING.format("identity"),
        ],
    ),
    Tampering(
        "payload of a message",
        of_message(payload=packed(b"another")),
        lambda p: [f"message {p.message} to main: its payload was changed since it was built"],
    ),
    Tampering(
        "message deleted",
        gone(message, lambda p: p.message),
        lambda p: [
            "destination main: 50 records are in no message, though the destination has come past them: job ",
            MESSAGES_DO_NOT_ADD_UP,
        ],
    ),
    Tampering(
        "message said to be confirmed",
        lambda c, p: c.execute(update(message).where(message.c.id == p.unsent).values(confirmed_at=END_AT)),
        lambda p: [f"message {p.unsent} to main: it is said to be confirmed, 2026-11-01 12:00:00Z, and has no receipt"],
    ),
    Tampering(
        "message said not to be confirmed",
        of_message(confirmed_at=None),
        lambda p: [f"message {p.message} to main: it has the receipt "],
    ),
    Tampering(
        "job said to be kept back",
        kept_back_added,
        lambda p: [
            f"destination main: 1 records are in several messages at once, or in one and kept back as well: {p.name}",
            MESSAGES_DO_NOT_ADD_UP,
        ],
    ),
]


def assert_told(problems: Sequence[str], told: Sequence[str]) -> None:
    """Every problem is one of those that are to be told, and each of these is."""
    for one in told:
        assert any(problem.startswith(one) for problem in problems), (one, problems)
    for problem in problems:
        assert any(problem.startswith(one) for one in told), problem


def test_untouched_it_balances(farm: Farm) -> None:
    with farm.store.reading() as connection:
        found = farm.audit(connection)
    assert found.problems == []
    assert found.reread is not None
    with farm.store.reading() as connection:
        there = {table.name: connection.scalar(select(func.count()).select_from(table)) for table in (job, identity)}
    assert {name: count for name, count in found.reread.compared.items() if count} == there
    assert not any(found.reread.not_compared.values())
    assert there["job"] == JOBS


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda tampering: tampering.name)
def test_the_cause_is_named(farm: Farm, tampering: Tampering) -> None:
    with farm.store.engine.execution_options(writing=True).connect() as connection, connection.begin() as transaction:
        tampering.change(connection, farm.picked)
        found = farm.audit(connection)
        transaction.rollback()
    assert_told(found.problems, tampering.told(farm.picked))


def test_all_jobs_tampered_with_are_counted(farm: Farm) -> None:
    with farm.store.engine.execution_options(writing=True).connect() as connection, connection.begin() as transaction:
        known = job.c.cpu_duration_s > 0
        count = connection.execute(update(job).where(known).values(cpu_duration_s=2 * job.c.cpu_duration_s)).rowcount
        found = farm.audit(connection)
        transaction.rollback()
    assert found.reread is not None
    assert found.reread.differing["job"] == count
    assert f"... and {count - 5:,} more job records are not as their units say" in found.problems
    assert sum(": cpu_duration_s is " in problem for problem in found.problems) == 5


def forged(connection: Connection, p: Picked) -> None:
    """Unit, hash and columns alike."""
    unit = bytes(p.job.native).replace(f'"{p.job.user_name}"'.encode(), b'"mallory"')
    assert unit != p.job.native
    values = {"native": unit, "content_hash": content_hash(unit), "user_name": "mallory"}
    connection.execute(update(job).where(job.c.id == p.job.id).values(values))


@pytest.mark.parametrize(
    "change",
    [
        forged,
        lambda c, p: c.execute(
            update(message).where(message.c.id == p.unsent).values(confirmed_at=END_AT, receipt="/var/spool/apel/outgoing/1")
        ),
        of_message(payload=packed(b"another"), digest=digest_of(b"another")),
    ],
    ids=["unit, hash and columns", "confirmation and receipt", "payload and digest"],
)
def test_what_is_forged_whole_is_not_told(farm: Farm, change: Change) -> None:
    """The limits that docs/explanation/audit.md names: nothing in the database contradicts it."""
    with farm.store.engine.execution_options(writing=True).connect() as connection, connection.begin() as transaction:
        change(connection, farm.picked)
        found = farm.audit(connection)
        transaction.rollback()
    assert found.problems == []


@pytest.fixture(scope="module")
def command(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Picked]:
    """A folder with the configuration and the database of a farm."""
    place = tmp_path_factory.mktemp("command")
    store = Store(f"sqlite:///{place}/lived.db")
    store.create()
    found = lived(store, configured(folder))
    store.close()
    text = _configuration(folder).replace(f"{folder.resolve()}/batchacct.db", f"{place}/batchacct.db")
    (place / "batchacct.toml").write_text(text + "bunch = 50\n")
    return place, found


def audited(place: Path, change: Callable[[Connection], Any], *options: str) -> Done:
    """The command on a copy of the database, changed."""
    with closing(sqlite3.connect(place / "lived.db")) as lived_db, closing(sqlite3.connect(place / "batchacct.db")) as copy:
        lived_db.backup(copy)
    store = Store(f"sqlite:///{place}/batchacct.db")
    with store.writing() as connection:
        change(connection)
    store.close()
    env = {"BATCHACCT_CONFIG": str(place / "batchacct.toml"), "BATCHACCT_NOW": str(END_AT)}
    return batchacct("audit", *DAYS, *options, env=env)


def test_the_command_on_books_that_balance(command: tuple[Path, Picked]) -> None:
    done = audited(command[0], lambda c: None)
    assert (done.status, done.err) == (0, ""), done
    assert re.search(rf"job +│ as its unit says +│ +{JOBS}", done.out), done.out
    assert "held against" not in audited(command[0], lambda c: None, "--no-reread").out


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda tampering: tampering.name)
def test_the_command_tells_and_ends_with_13(command: tuple[Path, Picked], tampering: Tampering) -> None:
    place, found = command
    done = audited(place, lambda c: tampering.change(c, found), "--json")
    assert done.status == 13, done
    values = json.loads(done.out)
    assert_told(values["problems"], tampering.told(found))
    assert all(problem in done.err for problem in values["problems"])
