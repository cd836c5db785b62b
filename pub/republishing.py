"""`batchacct republish`: a period is sent once more, as it would be decided today, or as it stands. The difference is shown first.

What was published stays true while the configuration changes; this is the one way to bring a period up to it. Every row of the
ledger that is sent again leaves its old self in the history, with the reason.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import click
from sqlalchemy import ColumnElement, Connection, FromClause, and_, case, exists, func, literal, or_, select

from batchacct.archive.anonymising import is_pseudonym
from batchacct.archive.holdings import archived
from batchacct.archive.months import month_name, next_month
from batchacct.cli.common import config_option, emit_table, open_store
from batchacct.clock import midnight, unix_now
from batchacct.config import Config
from batchacct.errors import ConfigError, IncompleteError
from batchacct.model import JOB
from batchacct.store import Store, sent
from batchacct.store.spans import DAY, IS_OF_IDENTITY, IS_OF_JOB
from batchacct.store.tables import ROWS_PER_LOAD_BITS, benchmark, identity, job, load, usage, vo_mapping
from batchacct.store.vos import VO, vo_of
from pub.again import send_again
from pub.command import LOCK, begun, publish_once, show_published
from pub.joining import RECORDS_PER_STEP, Joiner
from pub.scratch import fill_todo, scratch_tables, todo, verdict

A_DAY = click.DateTime(["%Y-%m-%d"])
HOUR_S = 3600
LOADS_PER_STEP = 500
"""So many are named in a statement: SQLite takes no more than a thousand conditions."""


@dataclass(frozen=True, slots=True)
class Period:
    """Which jobs: ended from `since` to before `until` (Unix seconds), of VOs that match one of the patterns."""

    since: int
    until: int
    vos: tuple[str, ...] = ()

    def ended(self) -> ColumnElement[bool]:
        return and_(job.c.end_at >= self.since, job.c.end_at < self.until)


@dataclass(frozen=True, slots=True)
class Side:
    """What the ledger says of some jobs: outcome, VO, benchmark of a core."""

    outcome: str
    vo: str
    benchmark: str


@dataclass
class Difference:
    """Jobs of a period by (what is said now, what will be): how many, their CPU time and that times the benchmark, in seconds.

    `nameless` are those that go out again and of which `db purge` has taken the names.
    """

    cells: dict[tuple[Side, Side], tuple[int, float, float, float]] = field(default_factory=dict)
    nameless: int = 0

    def add(self, key: tuple[Side, Side], sums: tuple[int, float, float, float]) -> None:
        old = self.cells.get(key, (0, 0.0, 0.0, 0.0))
        jobs, cpu_s, before, after = (a + b for a, b in zip(old, sums, strict=True))
        self.cells[key] = (int(jobs), cpu_s, before, after)

    @property
    def jobs(self) -> int:
        return sum(sums[0] for sums in self.cells.values())


class _Undo(Exception):  # noqa: N818 - ends a transaction that is only to be looked at
    pass


@click.command()
@click.option("--from", "first", type=A_DAY, required=True, metavar="DAY", help="First day (UTC) on which the jobs ended.")
@click.option("--to", "last", type=A_DAY, required=True, metavar="DAY", help="Last day, included.")
@click.option("--vo", "vos", multiple=True, metavar="VO", help="Only of this VO (with * and ?); may be repeated.")
@click.option("--destination", "only", metavar="NAME", help="Only to this destination, as they stand.")
@click.option("--as-they-are", is_flag=True, help="Send what was sent, whatever the configuration says now.")
@click.option("--dry-run", "--dryrun", is_flag=True, help="Show the difference; nothing is changed or sent.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def republish(
    config: Config,
    first: dt.datetime,
    last: dt.datetime,
    vos: tuple[str, ...],
    only: str | None,
    *,
    as_they_are: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Sends the records of a period again.

    For a receiver that lacks them, or has wrong ones. They are decided anew, by the VO rules and benchmarks of now, and the
    difference to what was published is shown first. A receiver that replaces by key has each job once, before and after.
    """
    period = Period(midnight(first), midnight(last) + DAY, vos)
    if period.until <= period.since:
        raise ConfigError("--to lies before --from: give the first day, then the last")
    if only is not None and only not in {one.name for one in config.destinations}:
        names = ", ".join(one.name for one in config.destinations)
        raise ConfigError(f"there is no destination {only!r}: give one of {names}")
    decided = not (as_they_are or only)
    with open_store(config) as store:
        difference = look(store, config, period, unix_now(), decided=decided)
        show(difference, decided=decided)
        if dry_run or not difference.jobs:
            return
        if not (yes or (sys.stdin.isatty() and click.confirm("Send them again?"))):
            raise ConfigError("nothing was sent: say --yes where nobody can be asked")
        if decided:
            decide_anew(store, config, period, unix_now())
        else:
            send_as_they_are(store, config, period, unix_now(), only)
        joined, done = publish_once(store, config, unix_now)
    show_published(joined, done)


def look(store: Store, config: Config, period: Period, now: int, *, decided: bool) -> Difference:
    """What a republication comes to, decided in a transaction that is undone.

    Raises: BusyError if a publisher runs, ConfigError, IncompleteError if jobs of the period are in the archive.
    """
    difference = Difference()
    with store.lock(LOCK):
        try:
            with store.writing() as connection:
                _require_in_tables(connection, period)
                joiner = Joiner.of(config, now)
                begun(connection, config, joiner, joiner.now)
                for loads in _loads(connection, period):
                    _decide(connection, joiner, period, loads, difference, decided=decided)
                raise _Undo  # noqa: TRY301 - leaving by an exception is what rolls the transaction back
        except _Undo:
            pass
    return difference


def decide_anew(store: Store, config: Config, period: Period, now: int) -> None:
    """The rows of the ledger for the period are those that the join would write today, each to be sent again.

    Some loads at a time, each in a transaction: whoever was killed says it again, and what was done is sent once more, to no harm.
    """
    why = f"republished by `batchacct republish`, {dt.datetime.fromtimestamp(now, dt.UTC):%Y-%m-%d}"

    def work(connection: Connection, joiner: Joiner, loads: Sequence[int]) -> None:
        _decide(connection, joiner, period, loads, None, decided=True, why=why)

    _in_pieces(store, config, period, now, work)


def send_as_they_are(store: Store, config: Config, period: Period, now: int, only: str | None) -> None:
    """The rows of the ledger for the period are sent again, unchanged, to every destination or to one."""
    why = f"sent again by `batchacct republish`, {dt.datetime.fromtimestamp(now, dt.UTC):%Y-%m-%d}"

    def work(connection: Connection, joiner: Joiner, loads: Sequence[int]) -> None:
        with scratch_tables(connection):
            _fill(connection, period, loads)
            send_again(connection, usage.c.job_id.in_(select(todo.c.job_id)), why, joiner.now, only=only)

    _in_pieces(store, config, period, now, work)


def _in_pieces(
    store: Store, config: Config, period: Period, now: int, work: Callable[[Connection, Joiner, Sequence[int]], None]
) -> None:
    with store.lock(LOCK) as locks:
        joiner = Joiner.of(config, now)
        with store.writing() as connection:
            begun(connection, config, joiner, joiner.now)
            pieces = _loads(connection, period)
            locks.require(LOCK)
        for loads in pieces:
            with store.writing() as connection:
                work(connection, joiner, loads)
                locks.require(LOCK)


def _require_in_tables(connection: Connection, period: Period) -> None:
    """Raises: IncompleteError if jobs of the period are in the archive, and not back in their table."""
    months = []
    for month in archived(connection, JOB, period.since, period.until + 2 * DAY):
        of_month = usage.c.logged_at.between(month.month, next_month(month.month) - 1)
        gone = select(usage.c.job_id).where(of_month, ~exists().where(IS_OF_JOB)).limit(1)
        if connection.scalar(gone) is not None:
            months.append(month_name(month.month))
    if months:
        raise IncompleteError(
            f"jobs of the period are archived ({', '.join(months)}): `batchacct db recall` brings them back to be sent again"
        )


def _loads(connection: Connection, period: Period) -> list[list[int]]:
    """The loads with jobs that ended in the period, as many together as make a step of the join."""
    ended = or_(load.c.first_end_at.is_(None), and_(load.c.last_end_at >= period.since, load.c.first_end_at < period.until))
    query = select(load.c.id, load.c.recorded + load.c.completed).where(load.c.record_type == "job", ended).order_by(load.c.id)
    pieces: list[list[int]] = []
    records = 0
    for number, count in connection.execute(query):
        if not pieces or records + count > RECORDS_PER_STEP or len(pieces[-1]) == LOADS_PER_STEP:
            pieces.append([])
            records = 0
        pieces[-1].append(number)
        records += count
    return pieces


def _fill(connection: Connection, period: Period, loads: Sequence[int]) -> None:
    """Puts the jobs of the period into `todo`."""
    ids = or_(*(usage.c.job_id.between(n << ROWS_PER_LOAD_BITS, ((n + 1) << ROWS_PER_LOAD_BITS) - 1) for n in loads))
    where: FromClause = usage.join(job, IS_OF_JOB)
    which = and_(ids, period.ended())
    if period.vos:
        where = where.outerjoin(identity, IS_OF_IDENTITY).outerjoin(vo_mapping, vo_mapping.c.id == usage.c.mapping_id)
        there = connection.scalars(select(VO).select_from(where).where(which).distinct()).all()
        wanted = [vo for vo in there if vo is not None and any(fnmatchcase(vo, pattern) for pattern in period.vos)]
        which = and_(which, VO.in_(wanted))
    fill_todo(connection, where, which)


def _decide(
    connection: Connection,
    joiner: Joiner,
    period: Period,
    loads: Sequence[int],
    difference: Difference | None,
    *,
    decided: bool,
    why: str = "",
) -> None:
    with scratch_tables(connection):
        _fill(connection, period, loads)
        if decided:
            joiner.judge(connection)
        if difference is not None:
            _compare(connection, difference, decided=decided)
        else:
            joiner.replace_all(connection, why)


def _compare(connection: Connection, difference: Difference, *, decided: bool) -> None:
    """Adds up what the ledger says of the jobs in `todo`, and what the verdicts do, which without any is the same."""
    new = verdict if decided else usage.alias("same")
    other_identity, other_mapping, other_benchmark = identity.alias("i2"), vo_mapping.alias("m2"), benchmark.alias("b2")
    rows = (
        todo.join(usage, usage.c.job_id == todo.c.job_id)
        .join(new, new.c.job_id == todo.c.job_id)
        .outerjoin(identity, IS_OF_IDENTITY)
        .outerjoin(vo_mapping, vo_mapping.c.id == usage.c.mapping_id)
        .outerjoin(benchmark, benchmark.c.id == usage.c.benchmark_id)
        .outerjoin(
            other_identity, and_(other_identity.c.id == new.c.identity_id, other_identity.c.recorded_at == new.c.identity_at)
        )
        .outerjoin(other_mapping, other_mapping.c.id == new.c.mapping_id)
        .outerjoin(other_benchmark, other_benchmark.c.id == new.c.benchmark_id)
    )
    keys = (
        *(usage.c.outcome, VO, benchmark.c.type, benchmark.c.value),
        *(new.c.outcome, vo_of(other_identity, other_mapping), other_benchmark.c.type, other_benchmark.c.value),
    )
    cpu_s = func.coalesce(todo.c.cpu_duration_s, 0)

    def scaled(row: FromClause, outcome: ColumnElement[str]) -> ColumnElement[float]:
        of_core = row.c.value * case((row.c.per_host_factor == 1, func.coalesce(todo.c.host_factor, 1)), else_=1)
        return func.sum(case((outcome.in_(sent.GO_OUT), cpu_s * func.coalesce(of_core, 0)), else_=literal(0.0)))

    sums = func.count(), func.sum(cpu_s), scaled(benchmark, usage.c.outcome), scaled(other_benchmark, new.c.outcome)
    for row in connection.execute(select(*keys, *sums).select_from(rows).group_by(*keys)):
        old = Side(row[0], row[1] or "-", _core(row[2], row[3]))
        key = (old, Side(row[4], row[5] or "-", _core(row[6], row[7])) if decided else old)
        difference.add(key, (int(row[8]), float(row[9] or 0), float(row[10] or 0), float(row[11] or 0)))
    taken_out = or_(*map(is_pseudonym, (todo.c.user_name, other_identity.c.dn, other_identity.c.token_subject)))
    nameless = select(func.count()).select_from(rows).where(new.c.outcome.in_(sent.GO_OUT), taken_out)
    difference.nameless += connection.scalar(nameless) or 0


def _core(kind: str | None, value: float | None) -> str:
    return "-" if kind is None else f"{kind} {value:g}"


def show(difference: Difference, *, decided: bool) -> None:
    """What is sent again, and how it differs from what was sent."""
    changed = {key: sums for key, sums in difference.cells.items() if key[0] != key[1]}
    rows = [
        (
            _change(a.outcome, b.outcome),
            _change(a.vo, b.vo),
            _change(a.benchmark, b.benchmark),
            n,
            cpu / HOUR_S,
            x / HOUR_S,
            y / HOUR_S,
        )
        for (a, b), (n, cpu, x, y) in sorted(changed.items(), key=str)
    ]
    if rows:
        columns = ("outcome", "VO", "benchmark", "jobs", "CPU (h)", "normalised before (h)", "normalised after (h)")
        emit_table("What changes", columns, rows)
    elif decided:
        click.echo("By the configuration of now nothing changes.")
    same = difference.jobs - sum(sums[0] for sums in changed.values())
    out = sum(sums[0] for (_, new), sums in difference.cells.items() if new.outcome in sent.GO_OUT)
    click.echo(f"Of {difference.jobs:,} jobs of the period {same:,} stay what they are; records of {out:,} go out again.")
    if difference.nameless:
        click.echo(
            f"Names of people were taken out of {difference.nameless:,} of them (`batchacct db purge`): where names go out, "
            "pseudonyms replace those that the receiver has, and no VO rule for a user finds these jobs."
        )


def _change(old: str, new: str) -> str:
    return old if old == new else f"{old} -> {new}"
