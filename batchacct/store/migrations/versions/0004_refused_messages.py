"""Messages that a receiver will not take, and what is signed."""

import sqlalchemy as sa

from batchacct.store.migrations.steps import add_columns, run

revision = "0004"
down_revision = "0003"
makes = ()


def upgrade() -> None:
    run(revision, (_columns_of_message,))


def _columns_of_message() -> None:
    columns = sa.Column("refused_at", sa.BigInteger()), sa.Column("sealed", sa.LargeBinary()), sa.Column("sealed_by", sa.Text())
    add_columns("message", *columns)
