"""The join: which identity belongs to which job, and what becomes of each job. Set-based, in the database.

Every job record in force gets one row of `usage` with an outcome: `joined` (with an identity), `local`, `waiting` or `excluded`,
and the reason. A run looks at three sets of jobs: new ones (loads not joined yet), those a newly arrived identity could
concern, and those that waited. Where the new outcome differs from the old, the old row goes to `usage_history`, and the job is
published again.

The rule (docs/explanation/join.md): same cluster and join id; the identity's time within the window that its kind of time
asks for; the nearest one; then the same spelling of the id, the same account, the same queue. A tie is held, never decided by
row order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Join,
    Select,
    String,
    and_,
    case,
    cast,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
)

from batchacct.archive.recalling import recall_for_join
from batchacct.config import Config
from batchacct.crashpoints import crash_point
from batchacct.model import IDENTITY
from batchacct.parsing import registry
from batchacct.store import sent
from batchacct.store.changed_days import note_changed
from batchacct.store.imports import DECIDED_ANEW
from batchacct.store.loads import hold, mark
from batchacct.store.spans import DAY, IS_OF_JOB, Span, of_loads, of_rows
from batchacct.store.tables import (
    ROWS_PER_LOAD_BITS,
    identity,
    job,
    load,
    source_state,
    usage,
    vo_mapping,
)
from batchacct.store.vos import IS_GRID_RULE
from pub.again import keep_replaced
from pub.benchmarks import fitting_benchmark, store_benchmarks
from pub.mapping import is_answer, questions, store_mappings
from pub.requeues import first_submit, note_first_submits
from pub.scratch import add_later_runs, fill_todo, match, on_hosts, scratch_tables, todo, verdict
from pub.vo_map import VoMap, patterns_matching, vo_map
from pub.windows import could_belong, logged_since, recorded_around, when_recorded

RECORDS_PER_STEP = 200_000
"""About how many records are joined in one transaction."""

FEW_JOBS = 1000
"""So many are named in a statement; of more it is said how they are found."""

NO_IDENTITY_YET = "no identity yet"
SEVERAL_IDENTITIES = "several identities fit equally well"
NO_VO_TOLD = "nearest identity, which names no VO: by the rules for local jobs"
NO_IDENTITY_CAME = "no identity came"
LOCAL_QUEUE = "local queue"
QUEUE_UNKNOWN = "queue unknown"
"""Of a cluster that has grid queues: nobody can say whether it was one of them."""
NO_BENCHMARK = "no benchmark"

_old, _new = job.alias("old"), job.alias("new")


@dataclass(frozen=True, slots=True)
class Joiner:
    """One run of the join: the configuration, its VO rules and the time it is (Unix seconds)."""

    config: Config
    rules: VoMap
    identity_sources: dict[str, list[str]]
    now: int

    @classmethod
    def of(cls, config: Config, now: int) -> Joiner:
        """Raises: ConfigError, PluginError."""
        sources = [s for s in config.source if registry.parser(s.parser).record_type is IDENTITY]
        behind_ce = set(config.ce.values())
        by_cluster = {c.name: [s.name for s in sources if s.cluster == c.name or c.name in behind_ce] for c in config.cluster}
        return cls(config, vo_map(config.vo), by_cluster, now)

    def begin(self, connection: Connection) -> Counter[tuple[str, str]]:
        """Takes over the configured benchmarks, and looks again at the jobs that waited (for one, too)."""
        benchmarks_changed = store_benchmarks(connection, self.config.benchmark)
        again = usage.c.outcome == "waiting"
        if benchmarks_changed:
            again |= and_(usage.c.outcome == "excluded", usage.c.reason == NO_BENCHMARK)
        with scratch_tables(connection):
            logged = of_rows(connection, usage, usage.c.logged_at, again)
            fill_todo(connection, usage.join(job, IS_OF_JOB), and_(again, logged.has(job.c.logged_at)))
            return self._decide(connection)

    def step(self, connection: Connection, last_load: int) -> Counter[tuple[str, str]] | None:
        """Joins the next loads up to `last_load`, identities before jobs; counts as `_decide`. None if none are left."""
        for record_type in ("identity", "job"):
            loads = _next_loads(connection, record_type, last_load)
            if loads:
                hold(connection, loads)
                recall_for_join(connection, record_type, loads, self.config.join)
                with scratch_tables(connection):
                    concern = of_loads(connection, loads) if record_type == "job" or _is_begun(connection) else {}
                    for number, span in concern.items():
                        fill_todo(connection, *self._concerned(connection, record_type, number, span))
                    add_later_runs(connection)
                    counts = self._decide(connection)
                mark(connection, load.c.id.in_(loads), joined_at=self.now)
                crash_point("join.before-commit")
                return counts
        return None

    def _concerned(
        self, connection: Connection, record_type: str, load_id: int, span: Span
    ) -> tuple[FromClause, ColumnElement[bool]]:
        """Where the jobs are that a load brings, or those already in the ledger that one of its identities could belong to.

        `span`: between which times the rows of the load are.
        """
        ids = load_id << ROWS_PER_LOAD_BITS, ((load_id + 1) << ROWS_PER_LOAD_BITS) - 1
        if record_type == "job":
            return job, and_(job.c.id.between(*ids), span.has(job.c.logged_at))
        concerned = identity.join(job, could_belong(self.config.join, job, job.c.submit_at)).join(usage, IS_OF_JOB)
        within = and_(identity.c.id.between(*ids), span.has(identity.c.recorded_at))
        return concerned, and_(within, logged_since(connection, self.config.join, span).has(job.c.logged_at))

    def _decide(self, connection: Connection) -> Counter[tuple[str, str]]:
        """What becomes of the jobs in `todo`, written to the ledger; how many rows of which (outcome, reason) are new there."""
        logged = self.judge(connection)
        old = {DECIDED_ANEW: _decided_anew(connection), "job record replaced": _older_revisions(logged)}
        gone = {why: which for why, jobs in old.items() if (which := _rows_of(connection, jobs)) is not None}
        for why, which in gone.items():
            keep_replaced(connection, which, why, self.now)
        return _replace_usage(connection, sent.next_step(connection, self.now), *gone.values())

    def replace_all(self, connection: Connection, why: str) -> None:
        """Puts the verdicts in the place of the rows of the ledger, whether they differ or not."""
        judged = _rows_of(connection, select(verdict.c.job_id))
        if judged is None:
            return
        keep_replaced(connection, judged, why, self.now)
        _replace_usage(connection, sent.next_step(connection, self.now), judged)

    def judge(self, connection: Connection) -> Span:
        """The verdict on each job in `todo`, not written to the ledger yet; between which times they were logged."""
        logged = of_rows(connection, todo, todo.c.logged_at)
        note_first_submits(connection, todo, logged)
        recorded = when_recorded(connection, self.config.join)
        connection.execute(insert(match).from_select(["job_id", "identity_id", "candidates"], self._nearest(recorded)))
        found = _matched(recorded)
        asked = questions(connection, self.rules, found)
        store_mappings(connection, self.rules, asked, found)
        benchmark_id = fitting_benchmark(connection, logged)
        chosen = self._chosen_rows(found, is_answer(self.rules, asked), benchmark_id)
        names = [c.name for c in verdict.columns]
        connection.execute(insert(verdict).from_select(names, self._verdicts(connection, chosen)))
        return logged

    # --- which identity ------------------------------------------------------------------------------------------------

    def _nearest(self, recorded: Span) -> Select[int, int, int]:
        """For each job of `todo` with an identity: one of the nearest, and how many are equally near."""
        j, i, keys = todo.c, identity.c, self.config.join
        submitted = todo.outerjoin(first_submit, first_submit.c.job_id == todo.c.job_id)
        submit_at = func.coalesce(first_submit.c.submit_at, j.submit_at)
        reference = case((i.time_kind == "end", j.end_at), else_=func.coalesce(submit_at, j.end_at))
        dash_and_queue = func.substr(i.ce_id, func.length(i.ce_id) - func.length(j.queue))
        nearness = (
            func.abs(i.recorded_at - reference),
            case((i.lrms_job_id == j.lrms_job_id, 0), else_=1),
            case((or_(i.local_user == j.user_name, i.local_user == cast(j.user_id, String)), 0), else_=1),
            case((dash_and_queue == literal("-") + j.queue, 0), else_=1),
        )
        ranked = (
            select(
                j.job_id,
                i.id.label("identity_id"),
                func.rank().over(partition_by=j.job_id, order_by=nearness).label("place"),
            )
            .select_from(submitted.join(identity, could_belong(keys, todo, submit_at)))
            .where(recorded.has(i.recorded_at), recorded_around(keys, todo, submit_at))
            .subquery()
        )
        return (
            select(ranked.c.job_id, func.min(ranked.c.identity_id), func.count())
            .where(ranked.c.place == 1)
            .group_by(ranked.c.job_id)
        )

    # --- what becomes of it --------------------------------------------------------------------------------------------

    def _verdicts(self, connection: Connection, chosen: FromClause) -> Select[Any]:
        j, keys = chosen.c, self.config.join
        released = or_(
            and_(j.end_at <= self.now - keys.grace, j.end_at < self._identities_read_until(connection, j.cluster)),
            j.end_at <= self.now - keys.max_hold,
        )
        after_waiting = ("local" if keys.then == "local" else "waiting", NO_IDENTITY_CAME)
        unknown_cpu = j.cpu_duration_s.is_(None) if keys.unknown_cpu == "exclude" else false()
        is_grid = self._is_grid_queue(connection, j.cluster, j.queue)
        rules: list[tuple[ColumnElement[bool], tuple[str, str]]] = [
            (j.start_at.is_(None), ("excluded", "never started")),
            (j.end_at.is_(None), ("excluded", "not ended")),
            (unknown_cpu, ("excluded", "unknown CPU time")),
            (j.benchmark_id.is_(None), ("excluded", NO_BENCHMARK)),
            (and_(j.candidates == 1, j.vo_is_told == 0), ("joined", NO_VO_TOLD)),
            (j.candidates == 1, ("joined", "nearest identity")),
            (j.candidates > 1, ("waiting", SEVERAL_IDENTITIES)),
            (and_(is_grid, released), after_waiting),
            (is_grid, ("waiting", NO_IDENTITY_YET)),
        ]
        outcome = case(*((condition, literal(verdict[0])) for condition, verdict in rules), else_=literal("local"))
        with_grid_queues = [c.name for c in self.config.cluster if c.grid_queues]
        reason = case(
            *((condition, literal(verdict[1])) for condition, verdict in rules),
            (and_(or_(j.queue.is_(None), j.queue == ""), j.cluster.in_(with_grid_queues)), literal(QUEUE_UNKNOWN)),
            else_=literal(LOCAL_QUEUE),
        )
        only = (case((j.candidates == 1, column), else_=null()) for column in (j.identity_id, j.identity_at))
        return select(j.job_id, j.logged_at, outcome, reason, *only, j.mapping_id, j.benchmark_id)

    def _chosen_rows(self, found: FromClause, mapping: ColumnElement[bool], benchmark_id: ColumnElement[int | None]) -> FromClause:
        """The jobs of `todo`, as found with the nearest identity, with what else the verdict looks at: VO mapping, benchmark."""
        j = todo.c
        vo_is_told = or_(identity.c.vo.is_not(None), identity.c.fqan.is_not(None), IS_GRID_RULE)
        return (
            select(
                j.job_id,
                j.logged_at,
                j.cluster,
                func.coalesce(j.queue, "").label("queue"),
                j.start_at,
                j.end_at,
                j.cpu_duration_s,
                func.coalesce(match.c.candidates, 0).label("candidates"),
                match.c.identity_id,
                identity.c.recorded_at.label("identity_at"),
                vo_mapping.c.id.label("mapping_id"),
                case((vo_is_told, 1), else_=0).label("vo_is_told"),
                benchmark_id.label("benchmark_id"),
            )
            .select_from(found.outerjoin(vo_mapping, mapping).outerjoin(on_hosts, on_hosts.c.job_id == j.job_id))
            .subquery()
        )

    def _is_grid_queue(self, connection: Connection, cluster: ColumnElement[str], queue: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether a job's queue is one of its cluster's grid queues; the patterns are matched against the queues there are."""
        found: dict[str, set[str]] = {}
        for name, queue_name in connection.execute(select(todo.c.cluster, todo.c.queue).distinct()):
            found.setdefault(name, set()).add(queue_name or "")
        conditions = [
            and_(cluster == name, queue.in_(grid))
            for name, queues in found.items()
            if (grid := patterns_matching(sorted(queues), self.config.cluster_named(name).grid_queues))
        ]
        return or_(false(), *conditions)

    def _identities_read_until(self, connection: Connection, cluster: ColumnElement[str]) -> ColumnElement[int]:
        """For a job's cluster: when the identity source that was longest not read to its end was last read to it.

        One that was never read holds everything back; a cluster without identity sources waits for grace alone.
        """
        states = select(source_state.c.name, source_state.c.read_to_end_at).where(source_state.c.record_type == "identity")
        read = {row.name: row.read_to_end_at for row in connection.execute(states)}
        until = {
            name: min((read.get(source) or 0 for source in sources), default=self.now)
            for name, sources in self.identity_sources.items()
        }
        return case(until, value=cluster, else_=self.now) if until else literal(self.now)


def _is_begun(connection: Connection) -> bool:
    """Whether the ledger has a row: an identity can concern no other job."""
    return connection.scalar(select(func.max(usage.c.job_id))) is not None


def _matched(recorded: Span) -> Join:
    """The jobs of `todo`, each with the nearest identity."""
    found = todo.outerjoin(match, match.c.job_id == todo.c.job_id)
    return found.outerjoin(identity, and_(identity.c.id == match.c.identity_id, recorded.has(identity.c.recorded_at)))


def _older_revisions(logged: Span) -> Select[int]:
    """The jobs of which `todo` holds a newer revision."""
    same = and_(_old.c.logged_at == _new.c.logged_at, _old.c.record_key == _new.c.record_key, _old.c.id != _new.c.id)
    newer = select(todo.c.job_id).where(todo.c.revision > 0)
    within = (logged.has(one.c.logged_at) for one in (_old, _new))
    return select(_old.c.id).select_from(_new.join(_old, same)).where(_new.c.id.in_(newer), *within)


def _between(connection: Connection, jobs: Select[int]) -> ColumnElement[bool] | None:
    """Whether a row of the ledger is from the first to the last of some jobs; None if there are none.

    New jobs are a range beyond the ledger. A database that was not told so goes through the whole ledger at every step: PostgreSQL
    merges with it, MariaDB asks for each of its rows.
    """
    number = jobs.subquery().c[0]
    first, last = connection.execute(select(func.min(number), func.max(number))).one()
    return None if first is None else usage.c.job_id.between(first, last)


def _rows_of(connection: Connection, jobs: Select[int]) -> ColumnElement[bool] | None:
    """Whether a row of the ledger is of some jobs, mostly few; None if there are none."""
    few = connection.scalars(jobs.limit(FEW_JOBS + 1)).all()
    if len(few) <= FEW_JOBS:
        return usage.c.job_id.in_(few) if few else None
    near = _between(connection, jobs)
    return usage.c.job_id.in_(jobs) if near is None else and_(near, usage.c.job_id.in_(jobs))


def _decided_anew(connection: Connection) -> Select[int]:
    """The jobs of which the ledger says something else than the verdict."""
    differs = or_(
        usage.c.outcome != verdict.c.outcome,
        usage.c.identity_id.is_distinct_from(verdict.c.identity_id),
        and_(usage.c.outcome.in_(["waiting", "excluded"]), usage.c.reason.is_distinct_from(verdict.c.reason)),
    )
    near = _between(connection, select(verdict.c.job_id))
    if near is None:
        return select(verdict.c.job_id)
    return select(verdict.c.job_id).where(exists().where(usage.c.job_id == verdict.c.job_id, near, differs))


def _replace_usage(connection: Connection, step: int, *replaced: ColumnElement[bool]) -> Counter[tuple[str, str]]:
    """Puts the verdicts in the place of the rows they differ from, as `step`; what they agree with stays as it is.

    Returns how many rows of which (outcome, reason) are new.
    """
    for gone in replaced:
        connection.execute(delete(usage).where(gone))
    near = _between(connection, select(verdict.c.job_id))
    if near is None:
        return Counter()
    is_new = ~exists().where(usage.c.job_id == verdict.c.job_id, near)
    new_rows = select(verdict.c.outcome, verdict.c.reason, (verdict.c.logged_at // DAY).label("day")).where(is_new).subquery()
    kinds = list(new_rows.c)
    counts = connection.execute(select(*kinds, func.count()).group_by(*kinds)).all()
    note_changed(connection, (row.day * DAY for row in counts))
    new = select(literal(step), *verdict.c).where(is_new)
    connection.execute(insert(usage).from_select(["step", *(c.name for c in verdict.columns)], new))
    by_kind: Counter[tuple[str, str]] = Counter()
    for row in counts:
        by_kind[row.outcome, row.reason] += row[-1]
    return by_kind


def newest_load(connection: Connection) -> int:
    """Where a run of the join ends: collectors go on meanwhile, and it might never end."""
    return connection.scalar(select(func.max(load.c.id))) or 0


def _next_loads(connection: Connection, record_type: str, last_load: int) -> list[int]:
    """The oldest loads that are not joined yet, as many as hold about `RECORDS_PER_STEP` records."""
    waiting = (
        select(load.c.id, load.c.recorded + load.c.completed)
        .where(load.c.joined_at.is_(None), load.c.record_type == record_type, load.c.id <= last_load)
        .order_by(load.c.id)
        .limit(1000)
    )
    chosen: list[int] = []
    records = 0
    for number, recorded in connection.execute(waiting):
        if chosen and records + recorded > RECORDS_PER_STEP:
            break
        chosen.append(number)
        records += recorded
    return chosen
