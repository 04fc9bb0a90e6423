"""Studies that are fetched from others, and from whom."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import Serial, UtcTime

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add two tables."""
    op.create_table(
        "fetches",
        sa.Column("fetch_id", Serial, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(length=8), nullable=False),
        sa.Column("on_behalf", sa.String(length=64), nullable=False),
        sa.Column("asked_by", sa.String(length=128), nullable=False),
        sa.Column("asked_at", UtcTime(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("not_before", UtcTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=True),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.Column("reason_code", sa.String(length=64), nullable=True),
        sa.Column("reason_text", sa.Text(), nullable=True),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("fetch_id", name=op.f("pk_fetches")),
        sa.UniqueConstraint(
            "source",
            "study_instance_uid",
            "reason",
            "on_behalf",
            name=op.f("uq_fetches_source_study_instance_uid_reason_on_behalf"),
        ),
    )
    for columns in (
        ["source", "state", "not_before"],
        ["study_instance_uid"],
        ["reason", "on_behalf"],
        ["changed_at"],
    ):
        op.create_index(op.f(f"ix_fetches_{'_'.join(columns)}"), "fetches", columns)
    op.create_table(
        "pull_sources",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("paused_at", UtcTime(), nullable=True),
        sa.Column("paused_by", sa.String(length=128), nullable=False),
        sa.Column("pause_reason", sa.Text(), nullable=False),
        sa.Column("polled_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_pull_sources")),
    )
