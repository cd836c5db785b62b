"""The unique key of `vo_mapping` becomes a hash of its six texts, which are too long for a key on MariaDB and MySQL."""

import sqlalchemy as sa
from alembic import op

from batchacct.store.columns import KeyText, hash_of

revision = "0002"
down_revision = "0001"

ASKED = ("rules_hash", "user_name", "group_name", "project", "issuer", "subject")


def upgrade() -> None:
    connection = op.get_bind()
    has = sa.inspect(connection)
    if "asked_hash" not in {c["name"] for c in has.get_columns("vo_mapping")}:
        op.add_column("vo_mapping", sa.Column("asked_hash", KeyText(100)))
    columns: list[sa.ColumnClause[object]] = [sa.column("id"), *(sa.column(name) for name in ASKED)]
    table = sa.table("vo_mapping", *columns, sa.column("asked_hash"))
    for number, *asked in connection.execute(sa.select(*columns).select_from(table)).all():
        connection.execute(sa.update(table).where(table.c.id == number).values(asked_hash=hash_of(*asked)))
    keys = {key["name"]: key["column_names"] for key in has.get_unique_constraints("vo_mapping")}
    with op.batch_alter_table("vo_mapping") as batch:
        batch.alter_column("asked_hash", existing_type=KeyText(100), nullable=False)
        if "vo_mapping_key" in keys:
            batch.drop_constraint("vo_mapping_key", type_="unique")
        batch.create_unique_constraint("vo_mapping_key", ["asked_hash"])
