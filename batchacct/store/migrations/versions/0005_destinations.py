"""Several destinations: each has its place in the ledger, messages know their jobs, and the ledger's rows their step.

What was published before went to the one destination there was. Its rows become step 1, those that no message has step 2.
"""

import numpy as np
import sqlalchemy as sa
from alembic import op

from batchacct.store.columns import SHORT_TEXT, KeyText
from batchacct.store.migrations.steps import (
    add_columns,
    bound,
    create_table,
    drop_columns,
    drop_index,
    drop_table,
    run,
    told,
    widen_index,
)
from batchacct.store.payload import digest_of, unpacked
from batchacct.store.sent import packed_rows

revision = "0005"
down_revision = "0004"
makes = ("destination", "kept_back")

MAIN = "main"
BEFORE, PUBLISHED, TO_PUBLISH = 0, 1, 2
LAST_JOB = 2**62

NUMBERS = ("job_id", "step", "message_id")
usage, usage_history = (
    sa.table(name, *(sa.column(number, sa.BigInteger()) for number in NUMBERS)) for name in ("usage", "usage_history")
)
MEMBERS = ("jobs", "first_job", "last_job", "digest")
NAME = sa.column("destination", sa.Text())
message = sa.table("message", NAME, *map(sa.column, ("id", "created_at", "payload", *MEMBERS)))
destination = sa.table("destination", *map(sa.column, ("name", "done_step", "done_job", "missed", "since")))
setting = sa.table("setting", *map(sa.column, ("name", "value", "since")))


def _tables() -> None:
    create_table(
        "destination",
        sa.Column("name", KeyText(400), nullable=False),
        sa.Column("done_step", sa.BigInteger(), nullable=False),
        sa.Column("done_job", sa.BigInteger(), nullable=False),
        sa.Column("missed", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    create_table(
        "kept_back",
        sa.Column("destination", KeyText(400), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", KeyText(100), nullable=False),
        sa.Column("reason", SHORT_TEXT, nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "job_id", "step"),
    )


def _column_of_usage() -> None:
    add_columns("usage", sa.Column("step", sa.BigInteger(), server_default="0", nullable=False))


def _column_of_history() -> None:
    add_columns("usage_history", sa.Column("step", sa.BigInteger(), server_default="0", nullable=False))


def _columns_of_message() -> None:
    big = (sa.Column(name, sa.BigInteger()) for name in ("first_job", "last_job"))
    add_columns(
        "message",
        sa.Column("jobs", sa.LargeBinary()),
        *big,
        sa.Column("digest", KeyText(100)),
        sa.Column("withdrawn_at", sa.BigInteger()),
    )


def _steps() -> None:
    step = sa.case((usage.c.message_id.is_not(None), PUBLISHED), else_=TO_PUBLISH)
    op.execute(sa.update(usage).values(step=step))
    op.execute(sa.update(usage_history).values(step=BEFORE))


def _members() -> None:
    told("message.jobs, first_job, last_job, digest: of each message, what usage and usage_history say of it, and its payload")
    for (number,) in bound(sa.select(message.c.id).where(message.c.jobs.is_(None))):
        rows = [
            (row.step, row.job_id)
            for table in (usage_history, usage)
            for row in bound(sa.select(table.c.step, table.c.job_id).where(table.c.message_id == number).order_by(table.c.job_id))
        ]
        steps, jobs = np.array(rows, np.int64).reshape(-1, 2).T
        ends = {"first_job": int(jobs.min()), "last_job": int(jobs.max())} if rows else {}
        ((payload,),) = bound(sa.select(message.c.payload).where(message.c.id == number))
        digest = digest_of(unpacked(bytes(payload))) if payload else None
        members = {"jobs": packed_rows(steps, jobs), "digest": digest, **ends}
        op.execute(sa.update(message).where(message.c.id == number).values(members))


def _destination() -> None:
    """There is one as soon as there is a message, and the ledger goes on with the step after all that is there."""
    told("destination: the one of all messages, which has come to the end of step 1; setting: the last step is 2")
    first = bound(sa.select(sa.func.min(message.c.created_at)))
    is_there = bound(sa.select(destination.c.name))
    if first and first[0][0] is not None and not is_there:
        place = {"done_step": PUBLISHED, "done_job": LAST_JOB, "missed": 0}
        op.execute(sa.insert(destination).values(name=MAIN, since=first[0][0], **place))
    if bound(sa.select(usage.c.job_id).limit(1)) and not bound(sa.select(setting.c.name).where(setting.c.name == "step")):
        op.execute(sa.insert(setting).values(name="step", value=str(TO_PUBLISH), since=0))


def _names_of_destinations() -> None:
    """They named transports. Where a text in a comparison has a length, the column gets one."""
    name = op.get_context().dialect.name
    if name == "oracle":
        drop_columns("message", "destination")
        add_columns("message", sa.Column("destination", KeyText(400), server_default=MAIN, nullable=False))
        return
    op.execute(sa.update(message).values(destination=MAIN))
    if name != "sqlite":
        op.alter_column("message", "destination", existing_type=sa.Text(), type_=KeyText(400), nullable=False)


def _index_of_usage() -> None:
    widen_index("usage_outcome", "usage", ["outcome", "step", "job_id"])


def upgrade() -> None:
    steps = (
        _tables,
        _column_of_usage,
        _column_of_history,
        _columns_of_message,
        _steps,
        _members,
        _destination,
        _names_of_destinations,
        _index_of_usage,
        lambda: drop_index("usage_history_message", "usage_history"),
        lambda: drop_columns("usage", "message_id"),
        lambda: drop_columns("usage_history", "message_id"),
        lambda: drop_table("refusal"),
    )
    run(revision, steps)
