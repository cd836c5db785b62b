"""Rules by queue and FQAN, benchmarks of some hosts, and several benchmarks at once."""

import sqlalchemy as sa

from batchacct.store.columns import SHORT_TEXT
from batchacct.store.migrations.steps import add_columns, run

revision = "0006"
down_revision = "0005"
makes = ()


def upgrade() -> None:
    run(revision, (_columns_of_mapping, _columns_of_benchmark))


def _columns_of_mapping() -> None:
    add_columns("vo_mapping", sa.Column("queue", SHORT_TEXT), sa.Column("asked_fqan", SHORT_TEXT))


def _columns_of_benchmark() -> None:
    add_columns("benchmark", sa.Column("hosts", sa.Text()), sa.Column("also", sa.Text()))
