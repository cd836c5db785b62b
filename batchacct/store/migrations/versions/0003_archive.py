"""The books of the archive."""

import sqlalchemy as sa

from batchacct.store.columns import KeyText
from batchacct.store.migrations.steps import create_index, create_table, run

revision = "0003"
down_revision = "0002"
makes = ("archived_month", "recalled", "archive_leftover")


def upgrade() -> None:
    run(revision, (_tables,))


def _tables() -> None:
    create_table(
        "archived_month",
        sa.Column("record_type", KeyText(100), nullable=False),
        sa.Column("month", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("file_name", sa.Text(), nullable=True),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("revisions", sa.BigInteger(), nullable=False),
        sa.Column("wall_s", sa.BigInteger(), nullable=False),
        sa.Column("cpu_s", sa.BigInteger(), nullable=False),
        sa.Column("hash_sum", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=True),
        sa.Column("last_at", sa.BigInteger(), nullable=True),
        sa.Column("file_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("archived_at", sa.BigInteger(), nullable=False),
        sa.Column("anonymised_at", sa.BigInteger(), nullable=True),
        *(
            sa.Column(f"purged_{name}", sa.BigInteger(), server_default="0", nullable=False)
            for name in ("records", "revisions", "wall_s", "cpu_s")
        ),
        sa.PrimaryKeyConstraint("record_type", "month"),
    )
    create_table(
        "recalled",
        sa.Column("record_type", KeyText(100), nullable=False),
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("month", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("record_type", "id"),
    )
    create_index("recalled_month", "recalled", ["record_type", "month"])
    create_table(
        "archive_leftover",
        sa.Column("record_type", KeyText(100), nullable=False),
        sa.Column("month", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("file_name", KeyText(250), nullable=False),
        sa.PrimaryKeyConstraint("record_type", "month", "file_name"),
    )
