"""Alembic's way in: `schema.upgrade` hands over the connection, in whose transaction everything runs."""

from alembic import context

from batchacct.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
