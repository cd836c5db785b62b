"""What is kept of jobs for sums, by the day they were logged on; which records are twins of imported ones.

The first is filled by the next run of `publish`, or `db summarise`.
"""

import sqlalchemy as sa

from batchacct.store.columns import KeyText
from batchacct.store.migrations.steps import create_index, create_table, run

revision = "0008"
down_revision = "0007"
makes = ("usage_day", "usage_pack", "usage_changed", "usage_appended", "twin")


def upgrade() -> None:
    run(revision, (_days, _packs, _changed, _appended, _twins, _twin_index))


def _key(name: str, *, counts: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=counts, nullable=False)


def _days() -> None:
    create_table(
        "usage_day",
        _key("day"),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.Column("first_start_at", sa.BigInteger(), nullable=True),
        sa.Column("last_start_at", sa.BigInteger(), nullable=True),
        sa.Column("first_end_at", sa.BigInteger(), nullable=True),
        sa.Column("last_end_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("day"),
    )


def _packs() -> None:
    create_table(
        "usage_pack",
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", KeyText(100), nullable=False),
        sa.Column("piece", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("day", "kind", "piece"),
    )


def _changed() -> None:
    create_table(
        "usage_changed",
        _key("id", counts=True),
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _appended() -> None:
    create_table("usage_appended", _key("day"), sa.PrimaryKeyConstraint("day"))


def _twins() -> None:
    create_table(
        "twin",
        sa.Column("record_type", KeyText(100), nullable=False),
        sa.Column("origin", KeyText(250), nullable=False),
        sa.Column("key_hash", KeyText(100), nullable=False),
        sa.Column("content_hash", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("stored_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("record_type", "origin", "key_hash", "content_hash"),
    )


def _twin_index() -> None:
    create_index("twin_stored", "twin", ["stored_id"])
