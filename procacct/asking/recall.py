"""Who used it: the jobs, and what was no job, that ran a program or had a library loaded, by path, signature or build id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from batchacct.errors import ConfigError
from batchacct.store.spans import ANYTIME, Span
from batchacct.store.tables import object_, process
from procacct.asking.asked import USER, Asked, like, vo_of
from procacct.asking.runs import Runs, is_of_run


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for; of several things a process has to have all.

    Patterns have * and ?; without / they are for the file's name.
    """

    program: str | None = None
    library: str | None = None
    signature: str | None = None
    build_id: str | None = None

    def __post_init__(self) -> None:
        if not (self.program or self.library or self.signature or self.build_id):
            raise ConfigError("say what is looked for: --program, --library, --signature or --build-id")

    def conditions(self, told: Span = ANYTIME) -> list[ColumnElement[bool]]:
        """Which rows of `process` have it. A signature or build id may be the program's, or that of an object it had loaded.

        Only sets of objects that were told of in `told` are looked through.
        """
        found = []
        if self.program:
            path = func.coalesce(process.c.program, process.c.command)
            found.append(like(path, self.program, is_path=True))
        if self.library:
            found.append(_loaded(like(object_.c.path, self.library, is_path=True), told))
        for column, value in (("signature", self.signature), ("build_id", self.build_id)):
            if value:
                wanted = value.strip().lower()
                own, of_object = func.lower(process.c[column]) == wanted, func.lower(object_.c[column]) == wanted
                found.append(or_(own, _loaded(of_object, told)))
        return found

    @property
    def is_of_marks(self) -> bool:
        """Whether it is looked for by what BSD accounting never knows: then no source may be passed over."""
        return bool(self.library or self.signature or self.build_id)

    def __str__(self) -> str:
        told = {"program": self.program, "library": self.library, "signature": self.signature, "build id": self.build_id}
        return " and ".join(f"{name} {value}" for name, value in told.items() if value)


def _loaded(which: ColumnElement[bool], told: Span) -> ColumnElement[bool]:
    sets = select(object_.c.object_set).where(object_.c.superseded_by.is_(None), told.has(object_.c.seen_at), which)
    return and_(process.c.object_set.is_not(None), process.c.object_set.in_(sets))


@dataclass(frozen=True, slots=True)
class Use:
    """A run of a job that used it; without `start_at` no run of it is recorded, without `job` it was no batch job."""

    cluster: str
    job: str | None
    array_index: int | None
    start_at: int | None
    end_at: int | None
    vo: str
    user: str
    hosts: int
    host: str
    executions: int
    first_at: int
    last_at: int


def uses(connection: Connection, asked: Asked, sought: Sought, runs: Runs) -> Iterator[Use]:
    """A row a run and account, those that used it last first."""
    run = runs.shared_out()
    of_run = [run.c.run_id, run.c.start_at, run.c.end_at]
    one: Any = (
        select(
            process.c.cluster,
            func.coalesce(run.c.lrms_job_id, process.c.lrms_job_id, process.c.join_id).label("job"),
            process.c.array_index,
            *of_run,
            vo_of(run).label("vo"),
            USER.label("who"),
            process.c.host,
            process.c.processes,
            process.c.started_at,
        )
        .select_from(process.outerjoin(run, is_of_run(run)))
        .where(*asked.processes(of_every_source=sought.is_of_marks), *asked.of_vo(run), *sought.conditions(asked.objects_told))
        .subquery()
    )
    keys = [one.c[name] for name in ("cluster", "job", "array_index", "run_id", "start_at", "end_at", "vo", "who")]
    sums = (
        func.count(one.c.host.distinct()).label("hosts"),
        func.min(one.c.host).label("host"),
        func.sum(one.c.processes).label("executions"),
        func.min(one.c.started_at).label("first_at"),
        func.max(one.c.started_at).label("last_at"),
    )
    asked_for = select(*keys, *sums).group_by(*keys)
    rows = connection.execute(asked_for).all()
    for row in sorted(rows, key=lambda row: (-row.last_at, row.cluster, row.job or "", row.who)):
        yield Use(
            row.cluster, row.job, row.array_index, row.start_at, row.end_at, row.vo, row.who, int(row.hosts), row.host,
            int(row.executions), row.first_at, row.last_at,
        )  # fmt: skip
