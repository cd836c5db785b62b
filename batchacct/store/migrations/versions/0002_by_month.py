"""Keys that hold the time, partitions by month, and the times that tell which months a query needs.

The unique key of `vo_mapping` becomes a hash of its six texts, which are too long for a key on MariaDB and MySQL.
"""

import sqlalchemy as sa
from alembic import op

from batchacct.store.columns import KeyText, hash_of
from batchacct.store.dialects.partitioning import Layout
from batchacct.store.migrations.steps import add_columns, bound, create_index, partition_by_month, run, told, widen_index

revision = "0002"
down_revision = "0001"
makes = ("job_rest", "identity_rest", "part_rest")

ROWS_PER_LOAD = 1 << 20

JOB = Layout("job", "logged_at", ("logged_at", "record_key", "revision"), {"job_join": "(join_id)"})
IDENTITY = Layout("identity", "recorded_at", ("recorded_at", "record_key", "revision"), {"identity_join": "(join_id, recorded_at)"})
PART = Layout(
    "part",
    "logged_at",
    ("logged_at", "record_key", "revision"),
    {"part_waiting": "(family, kind) WHERE used_at IS NULL AND superseded_by IS NULL", "part_whole": "(part_key)"},
)

job = sa.table("job", sa.column("id"), sa.column("logged_at"), sa.column("end_at"))
identity = sa.table("identity", sa.column("id"), sa.column("recorded_at"))
part = sa.table("part", sa.column("id"), sa.column("logged_at"))
usage = sa.table("usage", sa.column("identity_id"), sa.column("identity_at"))
usage_history = sa.table("usage_history", sa.column("identity_id"), sa.column("identity_at"))
TIMES = ("first_row_at", "last_row_at", "first_end_at", "last_end_at")
load = sa.table("load", sa.column("id"), sa.column("record_type"), sa.column("merged"), *map(sa.column, TIMES))

ASKED = ("rules_hash", "user_name", "group_name", "project", "issuer", "subject")
LENGTHS = (100, 400, 400, 400, 400, 400)
vo_mapping = sa.table("vo_mapping", sa.column("id"), *map(sa.column, ASKED), sa.column("asked_hash"))


def _index_of_identities() -> None:
    """By id and time: ids come again."""
    widen_index("identity_join", "identity", ["join_id", "recorded_at"])


def _columns_of_load() -> None:
    add_columns("load", *(sa.Column(name, sa.BigInteger()) for name in TIMES))


def _columns_of_usage() -> None:
    add_columns("usage", sa.Column("identity_at", sa.BigInteger()))


def _columns_of_history() -> None:
    add_columns("usage_history", sa.Column("identity_at", sa.BigInteger()))


def _identity_times() -> None:
    for table in (usage, usage_history):
        at = sa.select(identity.c.recorded_at).where(identity.c.id == table.c.identity_id).scalar_subquery()
        unknown = sa.and_(table.c.identity_id.is_not(None), table.c.identity_at.is_(None))
        op.execute(sa.update(table).where(unknown).values(identity_at=at))


def _times_of_loads() -> None:
    of_jobs = {
        "first_row_at": _of_load(job, sa.func.min(job.c.logged_at)),
        "last_row_at": _of_load(job, sa.func.max(job.c.logged_at)),
        "first_end_at": _of_load(job, sa.func.min(job.c.end_at)),
        "last_end_at": _of_load(job, sa.func.max(job.c.end_at)),
    }
    of_identities = {
        "first_row_at": _of_load(identity, sa.func.min(identity.c.recorded_at)),
        "last_row_at": _of_load(identity, sa.func.max(identity.c.recorded_at)),
    }
    unknown = load.c.first_row_at.is_(None)
    op.execute(sa.update(load).where(load.c.record_type == "job", unknown).values(of_jobs))
    op.execute(sa.update(load).where(load.c.record_type == "identity", unknown).values(of_identities))


def _times_of_parts() -> None:
    first, last = _of_load(part, sa.func.min(part.c.logged_at)), _of_load(part, sa.func.max(part.c.logged_at))
    earlier = sa.case((load.c.first_row_at <= first, load.c.first_row_at), else_=sa.func.coalesce(first, load.c.first_row_at))
    later = sa.case((load.c.last_row_at >= last, load.c.last_row_at), else_=sa.func.coalesce(last, load.c.last_row_at))
    op.execute(sa.update(load).where(load.c.merged > 0).values(first_row_at=earlier, last_row_at=later))


def _of_load(table: sa.TableClause, what: sa.ColumnElement[object]) -> sa.ScalarSelect[object]:
    first = load.c.id * ROWS_PER_LOAD
    return sa.select(what).where(table.c.id.between(first, first + (ROWS_PER_LOAD - 1))).scalar_subquery()


def _column_of_mappings() -> None:
    add_columns("vo_mapping", sa.Column("asked_hash", KeyText(100)))


def _hashes_of_mappings() -> None:
    told("vo_mapping.asked_hash: of each row the hash of its six texts")
    wanted = sa.select(vo_mapping.c.id, *(vo_mapping.c[name] for name in ASKED)).where(vo_mapping.c.asked_hash.is_(None))
    for row in bound(wanted):
        op.execute(sa.update(vo_mapping).where(vo_mapping.c.id == row[0]).values(asked_hash=hash_of(*row[1:])))


def _key_of_mappings() -> None:
    """MariaDB and MySQL have not had one."""
    old = [] if op.get_context().dialect.name in {"mysql", "mariadb"} else [sa.UniqueConstraint(*ASKED, name="vo_mapping_key")]
    texts: list[sa.Column[str]] = [
        sa.Column(name, KeyText(length), nullable=False) for name, length in zip(ASKED, LENGTHS, strict=True)
    ]
    others = (sa.Column(name, sa.Text(), nullable=False) for name in ("vo", "fqan", "rule"))
    key = sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)
    as_it_was = sa.Table("vo_mapping", sa.MetaData(), key, *texts, *others, sa.Column("asked_hash", KeyText(100)), *old)
    with op.batch_alter_table("vo_mapping", copy_from=as_it_was) as batch:
        batch.alter_column("asked_hash", existing_type=KeyText(100), nullable=False)
        if old:
            batch.drop_constraint("vo_mapping_key", type_="unique")
            batch.create_unique_constraint("vo_mapping_key", ["asked_hash"])
    if not old:
        create_index("vo_mapping_key", "vo_mapping", ["asked_hash"], unique=True)


def upgrade() -> None:
    steps = (
        _columns_of_load,
        _columns_of_usage,
        _columns_of_history,
        _identity_times,
        _times_of_loads,
        _times_of_parts,
        _index_of_identities,
        lambda: partition_by_month(JOB),
        lambda: partition_by_month(IDENTITY),
        lambda: partition_by_month(PART),
        _column_of_mappings,
        _hashes_of_mappings,
        _key_of_mappings,
    )
    run(revision, steps)
