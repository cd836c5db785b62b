"""Records of processes, of the shared objects they loaded, and of groups of processes."""

import sqlalchemy as sa
from sqlalchemy.schema import SchemaItem

from batchacct.store.columns import SHORT_TEXT, KeyText
from batchacct.store.dialects.partitioning import Layout
from batchacct.store.migrations.steps import create_index, create_table, partition_by_month, run

revision = "0007"
down_revision = "0006"
makes = ("process", "process_rest", "object", "object_rest", "process_group", "process_group_rest")

PROCESS = Layout("process", "logged_at", ("logged_at", "record_key", "revision"), {"process_join": "(join_id)"})
OBJECT = Layout(
    "object",
    "seen_at",
    ("seen_at", "record_key", "revision"),
    {"object_of_set": "(object_set)", "object_signature": "(signature)"},
)
PROCESS_GROUP = Layout("process_group", "left_at", ("left_at", "record_key", "revision"), {"process_group_of": "(group_id)"})


def upgrade() -> None:
    steps = (
        _processes,
        lambda: partition_by_month(PROCESS),
        _objects,
        lambda: partition_by_month(OBJECT),
        _groups,
        lambda: partition_by_month(PROCESS_GROUP),
    )
    run(revision, steps)


def _row() -> tuple[sa.Column[object], ...]:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return (
        sa.Column("id", key, autoincrement=False, nullable=False),
        sa.Column("revision", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("superseded_by", sa.BigInteger(), nullable=True),
        sa.Column("record_key", KeyText(750), nullable=False),
        sa.Column("content_hash", sa.BigInteger(), nullable=False),
        sa.Column("site", SHORT_TEXT, nullable=True),
        sa.Column("cluster", KeyText(400), nullable=False),
        sa.Column("lrms", SHORT_TEXT, nullable=True),
    )


def _origin() -> tuple[SchemaItem, ...]:
    return (
        sa.Column("native", sa.LargeBinary(), nullable=True),
        sa.Column("source", SHORT_TEXT, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), nullable=False),
        sa.Column("parser", SHORT_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _processes() -> None:
    create_table(
        "process",
        *_row(),
        sa.Column("lrms_job_id", KeyText(750), nullable=True),
        sa.Column("array_index", sa.BigInteger(), nullable=True),
        sa.Column("step_id", SHORT_TEXT, nullable=True),
        sa.Column("join_id", KeyText(750), nullable=True),
        sa.Column("job_from", SHORT_TEXT, nullable=True),
        sa.Column("job_claims", sa.Text(), nullable=True),
        sa.Column("host", KeyText(250), nullable=False),
        sa.Column("boot_id", KeyText(250), nullable=True),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("parent_pid", sa.BigInteger(), nullable=True),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("user_name", KeyText(400), nullable=True),
        sa.Column("group_id", sa.BigInteger(), nullable=True),
        sa.Column("kind", KeyText(100), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("start_ns", sa.BigInteger(), nullable=True),
        sa.Column("end_ns", sa.BigInteger(), nullable=True),
        sa.Column("logged_at", sa.BigInteger(), nullable=False),
        sa.Column("elapsed_s", sa.Float(precision=53), nullable=True),
        sa.Column("cpu_user_s", sa.Float(precision=53), nullable=True),
        sa.Column("cpu_system_s", sa.Float(precision=53), nullable=True),
        sa.Column("program", SHORT_TEXT, nullable=True),
        sa.Column("command", SHORT_TEXT, nullable=True),
        sa.Column("arguments", sa.Text(), nullable=True),
        sa.Column("ended_by", SHORT_TEXT, nullable=False),
        sa.Column("exit_code", sa.BigInteger(), nullable=True),
        sa.Column("exit_signal", sa.BigInteger(), nullable=True),
        sa.Column("core_dumped", sa.BigInteger(), nullable=True),
        sa.Column("memory_real_kib", sa.BigInteger(), nullable=True),
        sa.Column("memory_virtual_kib", sa.BigInteger(), nullable=True),
        sa.Column("minor_faults", sa.BigInteger(), nullable=True),
        sa.Column("major_faults", sa.BigInteger(), nullable=True),
        sa.Column("read_bytes", sa.BigInteger(), nullable=True),
        sa.Column("written_bytes", sa.BigInteger(), nullable=True),
        sa.Column("threads", sa.BigInteger(), nullable=True),
        sa.Column("superuser", sa.BigInteger(), nullable=True),
        sa.Column("terminal", SHORT_TEXT, nullable=True),
        sa.Column("signature", KeyText(100), nullable=True),
        sa.Column("build_id", SHORT_TEXT, nullable=True),
        sa.Column("object_set", KeyText(100), nullable=True),
        sa.Column("modules", SHORT_TEXT, nullable=True),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("mpi_rank", sa.BigInteger(), nullable=True),
        sa.Column("mpi_size", sa.BigInteger(), nullable=True),
        sa.Column("processes", sa.BigInteger(), nullable=False),
        sa.Column("lost_events", sa.BigInteger(), nullable=True),
        sa.Column("seen_by", SHORT_TEXT, nullable=False),
        *_origin(),
        sa.UniqueConstraint("logged_at", "record_key", "revision", name="process_key"),
    )
    create_index("process_join", "process", ["join_id"])


def _objects() -> None:
    create_table(
        "object",
        *_row(),
        sa.Column("object_set", KeyText(100), nullable=False),
        sa.Column("path", SHORT_TEXT, nullable=False),
        sa.Column("build_id", SHORT_TEXT, nullable=True),
        sa.Column("signature", KeyText(100), nullable=True),
        sa.Column("host", KeyText(250), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        *_origin(),
        sa.UniqueConstraint("seen_at", "record_key", "revision", name="object_key"),
    )
    create_index("object_of_set", "object", ["object_set"])
    create_index("object_signature", "object", ["signature"])


def _groups() -> None:
    create_table(
        "process_group",
        *_row(),
        sa.Column("host", KeyText(250), nullable=False),
        sa.Column("boot_id", KeyText(250), nullable=True),
        sa.Column("group_id", KeyText(250), nullable=False),
        sa.Column("group_name", KeyText(400), nullable=True),
        sa.Column("made_by", SHORT_TEXT, nullable=True),
        sa.Column("owner", SHORT_TEXT, nullable=True),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("start_ns", sa.BigInteger(), nullable=True),
        sa.Column("joined_ns", sa.BigInteger(), nullable=True),
        sa.Column("left_ns", sa.BigInteger(), nullable=True),
        sa.Column("left_at", sa.BigInteger(), nullable=False),
        sa.Column("inherited", sa.BigInteger(), nullable=True),
        *_origin(),
        sa.UniqueConstraint("left_at", "record_key", "revision", name="process_group_key"),
    )
    create_index("process_group_of", "process_group", ["group_id"])
