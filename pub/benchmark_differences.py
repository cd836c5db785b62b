"""Where what is published has another benchmark than the configuration gives now.

A job keeps the benchmark that was in force when the join decided it. Asked for are the jobs that ended in the periods which a
benchmark, now or ever, could have changed; the database adds them up by what a benchmark depends on, and what each group would be
given now is worked out here, by `Valid.fits`, beside the one CASE by which the join does it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import BigInteger, Connection, Subquery, and_, case, cast, false, func, literal, or_, select

from batchacct.archive.months import month_of, next_month
from batchacct.config import Config
from batchacct.store import Store
from batchacct.store.columns import SHORT_TEXT
from batchacct.store.sent import GO_OUT
from batchacct.store.spans import IS_OF_JOB, when_ended
from batchacct.store.tables import benchmark, job, usage
from pub.benchmarks import Valid, in_order, valid_of
from pub.hosts import Hosts

MONTHS_AT_ONCE = 12
HOSTS_BEGIN = 250
JOBS_AT_ONCE = 5000

Times = tuple[int, int]
"""Unix seconds from the first to before the second."""


@dataclass(slots=True)
class Difference:
    """Jobs of a month (the Unix second it begins at) and cluster, that are published with one benchmark and would get another.

    `then` and `now` are texts for people, `now` None where there is none any more; CPU seconds as they are, and multiplied;
    `ended` between which times.
    """

    month: int
    cluster: str
    then: str
    now: str | None
    jobs: int
    cpu_s: int
    normalised_then: float
    normalised_now: float
    ended: tuple[int, int]


def differences(store: Store, config: Config, months: Sequence[int]) -> list[Difference]:
    """Of the jobs in the database that ended in these months, ordered.  Raises: StoreError."""
    now = in_order({valid_of(one) for one in config.benchmark})
    with store.reading() as connection:
        by_id = _ever(connection)
        touched = touched_periods(by_id.values(), now)
        asked = [month for month in sorted(months) if any(a < next_month(month) and b > month for a, b in touched)]
        found: dict[tuple[Any, ...], Difference] = {}
        for start in range(0, len(asked), MONTHS_AT_ONCE):
            for one in _of_months(connection, by_id, now, asked[start : start + MONTHS_AT_ONCE], touched):
                _add(found, one)
    return [found[key] for key in sorted(found, key=lambda key: (key[:3], key[3] or ""))]


def _ever(connection: Connection) -> dict[int, Valid]:
    rows = connection.execute(select(benchmark.c.id, *(benchmark.c[name] for name in Valid._fields)))
    return {row[0]: Valid(*row[1:]) for row in rows}


def touched_periods(ever: Iterable[Valid], now: Iterable[Valid]) -> list[Times]:
    """When a job can have ended that was given another benchmark than it would be now.

    It cannot where all that were ever valid are of one figure, and are still in force.
    """
    stand = set(now)
    of_all = {*ever, *stand}
    cuts = sorted({at for one in of_all for at in (one.valid_from, one.valid_until)})
    touched: list[Times] = []
    for begin, end in pairwise(cuts):
        valid = {one for one in of_all if one.valid_from <= begin < one.valid_until}
        figures = {(one.type, one.value, one.per_host_factor, one.also) for one in valid}
        if len(figures) > 1 or not valid <= stand:
            if touched and touched[-1][1] == begin:
                touched[-1] = touched[-1][0], end
            else:
                touched.append((begin, end))
    return touched


def _of_months(
    connection: Connection, by_id: dict[int, Valid], now: Sequence[Valid], months: Sequence[int], touched: Sequence[Times]
) -> Iterable[Difference]:
    hosts = Hosts.of(one.hosts for one in now)
    periods = _periods(now, months)
    with_factor = any(one.per_host_factor for one in (*now, *by_id.values()))
    jobs_of = _jobs(connection, periods, touched, with_factor=with_factor, with_hosts=bool(hosts.lists))
    for number, cluster, used, factor, exec_hosts, jobs, cpu_s, first, last in _added_up(
        connection, jobs_of, with_hosts=bool(hosts.lists)
    ):
        at, then = periods[number][0], by_id[used]
        matching = hosts.matching(exec_hosts)
        fitting = next((one for one in now if one.fits(cluster, at, factor, matching)), None)
        before, after = figures_of(then, factor), None if fitting is None else figures_of(fitting, factor)
        if before != after:
            yield Difference(
                month_of(at),
                cluster,
                _shown(before),
                None if after is None else _shown(after),
                jobs,
                int(cpu_s or 0),
                int(cpu_s or 0) * before[0][1],
                0.0 if after is None else int(cpu_s or 0) * after[0][1],
                (first, last),
            )


def _periods(now: Sequence[Valid], months: Sequence[int]) -> list[Times]:
    """The months, each cut where another benchmark becomes valid."""
    changes = {at for one in now for at in (one.valid_from, one.valid_until)}
    periods: list[Times] = []
    for month in months:
        cuts = [month, *sorted(at for at in changes if month < at < next_month(month)), next_month(month)]
        periods += pairwise(cuts)
    return periods


def _jobs(
    connection: Connection, periods: Sequence[Times], touched: Sequence[Times], *, with_factor: bool, with_hosts: bool
) -> Subquery:
    """What the benchmark of each job depends on, in the periods that are touched; of a long list of hosts the beginning."""
    first, last = periods[0][0], periods[-1][1]
    ended = job.c.end_at
    number = case(*((and_(ended >= a, ended < b), literal(n, BigInteger)) for n, (a, b) in enumerate(periods)))
    long = func.coalesce(func.length(job.c.exec_hosts), 0) > HOSTS_BEGIN if with_hosts else false()
    hosts_begin = cast(func.substr(job.c.exec_hosts, 1, HOSTS_BEGIN), SHORT_TEXT) if with_hosts else case((false(), job.c.cluster))
    return (
        select(
            usage.c.job_id,
            usage.c.logged_at,
            case((long, 1), else_=0).label("is_long"),
            number.label("number"),
            job.c.cluster,
            usage.c.benchmark_id,
            (job.c.host_factor if with_factor else case((false(), job.c.host_factor))).label("host_factor"),
            hosts_begin.label("hosts_begin"),
            job.c.cpu_duration_s,
            ended,
        )
        .select_from(usage.join(job, IS_OF_JOB))
        .where(
            usage.c.outcome.in_(GO_OUT),
            when_ended(connection, first, last).logged.has(usage.c.logged_at),
            or_(*(and_(ended >= max(a, first), ended < min(b, last)) for a, b in touched if a < last and b > first)),
        )
        .subquery("one")
    )


def _added_up(connection: Connection, one: Subquery, *, with_hosts: bool) -> Iterator[tuple[Any, ...]]:
    """Rows of what the benchmark depends on, hosts last, and sums: jobs, CPU seconds, first and last end.

    Jobs with long lists of hosts come singly: databases group by the beginning of a long text alone.
    """
    counted = one.c.number.is_not(None)
    keys = [one.c[name] for name in ("number", "cluster", "benchmark_id", "host_factor", "hosts_begin")]
    cpu_s = cast(func.sum(one.c.cpu_duration_s), BigInteger)
    sums = (func.count(), cpu_s, func.min(one.c.end_at), func.max(one.c.end_at))
    grouped = select(*keys, *sums).where(counted, one.c.is_long == 0).group_by(*keys)
    yield from (tuple(row) for row in connection.execute(grouped))
    if not with_hosts:
        return
    of_job = and_(job.c.id == one.c.job_id, job.c.logged_at == one.c.logged_at)
    single = (literal(1), one.c.cpu_duration_s, one.c.end_at, one.c.end_at.label("last_at"))
    singly = select(*keys[:-1], job.c.exec_hosts, *single, one.c.job_id).select_from(one.join(job, of_job))
    after = -1
    while rows := connection.execute(
        singly.where(counted, one.c.is_long == 1, one.c.job_id > after).order_by(one.c.job_id).limit(JOBS_AT_ONCE)
    ).all():
        yield from (tuple(row[:-1]) for row in rows)
        after = rows[-1].job_id


def figures_of(one: Valid, host_factor: float | None) -> list[tuple[str, float]]:
    """What is published for a core by a benchmark, its own name first; with a host factor whole parts, as in 2012."""
    named = {one.type: one.value, **json.loads(one.also or "{}")}
    scaled = {
        name: float(math.floor(value * (host_factor or 0))) if one.per_host_factor else value for name, value in named.items()
    }
    return [(name, value) for name, value in scaled.items() if value > 0 or name == one.type]


def _shown(figures: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in figures)


def _add(found: dict[tuple[Any, ...], Difference], one: Difference) -> None:
    key = (one.month, one.cluster, one.then, one.now)
    if key not in found:
        found[key] = one
        return
    sum_ = found[key]
    sum_.jobs += one.jobs
    sum_.cpu_s += one.cpu_s
    sum_.normalised_then += one.normalised_then
    sum_.normalised_now += one.normalised_now
    sum_.ended = min(sum_.ended[0], one.ended[0]), max(sum_.ended[1], one.ended[1])


def periods_to_republish(found: Iterable[Difference]) -> list[Times]:
    """From when to when the jobs ended (both included): months that follow one another are one period."""
    by_month: dict[int, tuple[int, int]] = {}
    for one in found:
        first, last = by_month.get(one.month, one.ended)
        by_month[one.month] = min(first, one.ended[0]), max(last, one.ended[1])
    periods: list[Times] = []
    previous: int | None = None
    for month, (first, last) in sorted(by_month.items()):
        if previous is not None and next_month(previous) == month:
            periods[-1] = periods[-1][0], last
        else:
            periods.append((first, last))
        previous = month
    return periods
