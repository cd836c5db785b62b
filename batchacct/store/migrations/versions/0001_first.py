"""The first schema."""

import sqlalchemy as sa
from alembic import op

from batchacct.store.columns import SHORT_TEXT, KeyText
from batchacct.store.migrations.steps import create_index, create_table, run

revision = "0001"
down_revision = None
makes = (
    "benchmark",
    "feed_cursor",
    "followed_file",
    "identity",
    "job",
    "left_out",
    "load",
    "message",
    "part",
    "refusal",
    "reject",
    "seen_hour",
    "seen_ids",
    "setting",
    "source_state",
    "usage",
    "usage_history",
    "vo_mapping",
)


def upgrade() -> None:
    run(revision, (_tables,))


def _tables() -> None:
    create_table(
        "benchmark",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("cluster", SHORT_TEXT, nullable=False),
        sa.Column("type", SHORT_TEXT, nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.Column("per_host_factor", sa.SmallInteger(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=False),
        sa.Column("active", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    create_table(
        "followed_file",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source", KeyText(250), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("device", sa.BigInteger(), nullable=False),
        sa.Column("inode", sa.BigInteger(), nullable=False),
        sa.Column("head_length", sa.Integer(), nullable=False),
        sa.Column("head_hash", KeyText(100), nullable=False),
        sa.Column("tail_length", sa.Integer(), nullable=False),
        sa.Column("tail_hash", sa.Text(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("modified_at", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    create_index("followed_file_head", "followed_file", ["source", "head_hash"])
    create_table(
        "feed_cursor",
        sa.Column("source", KeyText(250), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source"),
    )
    create_table(
        "identity",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("revision", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("superseded_by", sa.BigInteger(), nullable=True),
        sa.Column("record_key", KeyText(750), nullable=False),
        sa.Column("content_hash", sa.BigInteger(), nullable=False),
        sa.Column("site", SHORT_TEXT, nullable=True),
        sa.Column("cluster", KeyText(400), nullable=False),
        sa.Column("lrms", SHORT_TEXT, nullable=False),
        sa.Column("time_kind", SHORT_TEXT, nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("ce_id", SHORT_TEXT, nullable=True),
        sa.Column("lrms_job_id", KeyText(750), nullable=False),
        sa.Column("array_index", sa.BigInteger(), nullable=True),
        sa.Column("join_id", KeyText(750), nullable=False),
        sa.Column("global_job_id", SHORT_TEXT, nullable=True),
        sa.Column("dn", SHORT_TEXT, nullable=True),
        sa.Column("fqan", SHORT_TEXT, nullable=True),
        sa.Column("fqans", sa.Text(), nullable=True),
        sa.Column("vo", SHORT_TEXT, nullable=True),
        sa.Column("vo_group", SHORT_TEXT, nullable=True),
        sa.Column("vo_role", SHORT_TEXT, nullable=True),
        sa.Column("token_issuer", KeyText(400), nullable=True),
        sa.Column("token_subject", KeyText(400), nullable=True),
        sa.Column("local_user", SHORT_TEXT, nullable=True),
        sa.Column("native", sa.LargeBinary(), nullable=True),
        sa.Column("source", SHORT_TEXT, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), nullable=False),
        sa.Column("parser", SHORT_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("recorded_at", "record_key", "revision", name="identity_key"),
    )
    create_index("identity_join", "identity", ["join_id"])
    create_table(
        "job",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("revision", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("superseded_by", sa.BigInteger(), nullable=True),
        sa.Column("record_key", KeyText(750), nullable=False),
        sa.Column("content_hash", sa.BigInteger(), nullable=False),
        sa.Column("site", SHORT_TEXT, nullable=True),
        sa.Column("cluster", KeyText(400), nullable=False),
        sa.Column("lrms", SHORT_TEXT, nullable=False),
        sa.Column("lrms_job_id", KeyText(750), nullable=False),
        sa.Column("array_index", sa.BigInteger(), nullable=True),
        sa.Column("run_number", sa.BigInteger(), nullable=True),
        sa.Column("join_id", KeyText(750), nullable=False),
        sa.Column("user_name", KeyText(400), nullable=True),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("group_name", KeyText(400), nullable=True),
        sa.Column("project", KeyText(400), nullable=True),
        sa.Column("queue", SHORT_TEXT, nullable=True),
        sa.Column("submit_host", SHORT_TEXT, nullable=True),
        sa.Column("exec_hosts", sa.Text(), nullable=True),
        sa.Column("submit_at", sa.BigInteger(), nullable=True),
        sa.Column("eligible_at", sa.BigInteger(), nullable=True),
        sa.Column("start_at", sa.BigInteger(), nullable=True),
        sa.Column("end_at", sa.BigInteger(), nullable=True),
        sa.Column("logged_at", sa.BigInteger(), nullable=False),
        sa.Column("wall_duration_s", sa.BigInteger(), nullable=True),
        sa.Column("cpu_user_s", sa.Float(precision=53), nullable=True),
        sa.Column("cpu_system_s", sa.Float(precision=53), nullable=True),
        sa.Column("cpu_duration_s", sa.BigInteger(), nullable=True),
        sa.Column("processors", sa.BigInteger(), nullable=True),
        sa.Column("node_count", sa.BigInteger(), nullable=True),
        sa.Column("gpu_count", sa.BigInteger(), nullable=True),
        sa.Column("gpu_model", SHORT_TEXT, nullable=True),
        sa.Column("memory_requested_kib", sa.BigInteger(), nullable=True),
        sa.Column("memory_real_kib", sa.BigInteger(), nullable=True),
        sa.Column("memory_virtual_kib", sa.BigInteger(), nullable=True),
        sa.Column("exit_code", sa.BigInteger(), nullable=True),
        sa.Column("exit_signal", sa.BigInteger(), nullable=True),
        sa.Column("state", SHORT_TEXT, nullable=False),
        sa.Column("host_factor", sa.Float(precision=53), nullable=True),
        sa.Column("energy_j", sa.Float(precision=53), nullable=True),
        sa.Column("resources", sa.Text(), nullable=True),
        sa.Column("job_name", sa.Text(), nullable=True),
        sa.Column("command", sa.Text(), nullable=True),
        sa.Column("native", sa.LargeBinary(), nullable=True),
        sa.Column("source", SHORT_TEXT, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), nullable=False),
        sa.Column("parser", SHORT_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("logged_at", "record_key", "revision", name="job_key"),
    )
    create_index("job_join", "job", ["join_id"])
    create_table(
        "left_out",
        sa.Column("what", KeyText(250), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("what"),
    )
    create_table(
        "load",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source", KeyText(250), nullable=False),
        sa.Column("record_type", KeyText(100), nullable=False),
        sa.Column("file_id", sa.BigInteger(), nullable=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("start_offset", sa.BigInteger(), nullable=False),
        sa.Column("end_offset", sa.BigInteger(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("recorded", sa.BigInteger(), nullable=False),
        sa.Column("merged", sa.BigInteger(), nullable=False),
        sa.Column("completed", sa.BigInteger(), nullable=False),
        sa.Column("known", sa.BigInteger(), nullable=False),
        sa.Column("revised", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("skip_reasons", sa.Text(), nullable=True),
        sa.Column("last_record_at", sa.BigInteger(), nullable=True),
        sa.Column("loaded_at", sa.BigInteger(), nullable=False),
        sa.Column("next_row", sa.Integer(), nullable=False),
        sa.Column("completed_to", sa.Integer(), nullable=False),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.Column("joined_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    create_index("load_completed", "load", ["completed_at", "source", "id"])
    create_index("load_file", "load", ["file_id", "id"])
    create_index("load_joined", "load", ["joined_at", "record_type", "id"])
    create_index("load_source", "load", ["source", "id"])
    create_table(
        "message",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    create_index("message_confirmed", "message", ["confirmed_at", "id"])
    create_table(
        "part",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("revision", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("superseded_by", sa.BigInteger(), nullable=True),
        sa.Column("record_key", KeyText(750), nullable=False),
        sa.Column("content_hash", sa.BigInteger(), nullable=False),
        sa.Column("site", SHORT_TEXT, nullable=True),
        sa.Column("cluster", KeyText(400), nullable=False),
        sa.Column("lrms", SHORT_TEXT, nullable=False),
        sa.Column("record_type", SHORT_TEXT, nullable=False),
        sa.Column("family", KeyText(100), nullable=False),
        sa.Column("part_key", KeyText(750), nullable=False),
        sa.Column("join_id", KeyText(750), nullable=True),
        sa.Column("array_index", sa.BigInteger(), nullable=True),
        sa.Column("kind", KeyText(100), nullable=False),
        sa.Column("logged_at", sa.BigInteger(), nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=True),
        sa.Column("end_at", sa.BigInteger(), nullable=True),
        sa.Column("usage", sa.Text(), nullable=True),
        sa.Column("native", sa.LargeBinary(), nullable=True),
        sa.Column("source", SHORT_TEXT, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), nullable=False),
        sa.Column("parser", SHORT_TEXT, nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("logged_at", "record_key", "revision", name="part_key"),
    )
    waits = sa.text("used_at IS NULL AND superseded_by IS NULL")
    create_index("part_waiting", "part", ["family", "kind"], where=waits)
    create_index("part_whole", "part", ["part_key"])
    create_table(
        "refusal",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("reason", SHORT_TEXT, nullable=False),
        sa.Column("refused_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
    )
    create_table(
        "reject",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("load_id", sa.BigInteger(), nullable=False),
        sa.Column("source", KeyText(250), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("source_offset", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("parser", sa.Text(), nullable=False),
        sa.Column("replayed_by", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    create_index("reject_source", "reject", ["source", "source_offset"])
    create_table(
        "seen_hour",
        sa.Column("source", KeyText(250), nullable=False),
        sa.Column("cluster", KeyText(400), nullable=False),
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("longest_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "cluster", "hour"),
    )
    create_table(
        "seen_ids",
        sa.Column("week", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("cluster", KeyText(400), nullable=False),
        sa.Column("series", KeyText(250), nullable=False),
        sa.Column("block", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seen", sa.LargeBinary(), nullable=False),
        sa.Column("submitted", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("week", "cluster", "series", "block"),
    )
    create_table(
        "setting",
        sa.Column("name", KeyText(250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    create_table(
        "source_state",
        sa.Column("name", KeyText(250), nullable=False),
        sa.Column("record_type", KeyText(100), nullable=False),
        sa.Column("read_to_end_at", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_error_at", sa.BigInteger(), nullable=True),
        sa.Column("warning", sa.Text(), nullable=True),
        sa.Column("lost_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    create_table(
        "usage",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("logged_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", KeyText(100), nullable=False),
        sa.Column("reason", SHORT_TEXT, nullable=True),
        sa.Column("identity_id", sa.BigInteger(), nullable=True),
        sa.Column("mapping_id", sa.BigInteger(), nullable=True),
        sa.Column("benchmark_id", sa.BigInteger(), nullable=True),
        sa.Column("message_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job_id"),
    )
    create_index("usage_outcome", "usage", ["outcome", "message_id", "job_id"])
    create_table(
        "usage_history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("logged_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", KeyText(100), nullable=False),
        sa.Column("reason", SHORT_TEXT, nullable=True),
        sa.Column("identity_id", sa.BigInteger(), nullable=True),
        sa.Column("mapping_id", sa.BigInteger(), nullable=True),
        sa.Column("benchmark_id", sa.BigInteger(), nullable=True),
        sa.Column("message_id", sa.BigInteger(), nullable=True),
        sa.Column("replaced_at", sa.BigInteger(), nullable=False),
        sa.Column("why", SHORT_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    create_index("usage_history_job", "usage_history", ["job_id"])
    create_index("usage_history_message", "usage_history", ["message_id"])
    create_table(
        "vo_mapping",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("rules_hash", KeyText(100), nullable=False),
        sa.Column("user_name", KeyText(400), nullable=False),
        sa.Column("group_name", KeyText(400), nullable=False),
        sa.Column("project", KeyText(400), nullable=False),
        sa.Column("issuer", KeyText(400), nullable=False),
        sa.Column("subject", KeyText(400), nullable=False),
        sa.Column("vo", SHORT_TEXT, nullable=False),
        sa.Column("fqan", SHORT_TEXT, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        *_vo_mapping_key(),
    )


def _vo_mapping_key() -> list[sa.UniqueConstraint]:
    """Too long for MariaDB and MySQL, where 0002 makes the first one."""
    names = ("rules_hash", "user_name", "group_name", "project", "issuer", "subject")
    is_too_long = op.get_context().dialect.name in {"mysql", "mariadb"}
    return [] if is_too_long else [sa.UniqueConstraint(*names, name="vo_mapping_key")]
