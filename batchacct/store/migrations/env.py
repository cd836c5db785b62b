"""Alembic's way in: `schema` hands over the connection, or has the SQL written down without one."""

from alembic import context

from batchacct.store.tables import metadata

if context.is_offline_mode():
    context.configure(
        dialect_name=context.config.attributes["dialect_name"],
        dialect_opts={"paramstyle": "named"},
        literal_binds=True,
        target_metadata=metadata,
    )
else:
    context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
