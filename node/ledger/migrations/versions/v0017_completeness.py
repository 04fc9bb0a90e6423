"""What is known of how much should come, who notified us of it, and how long senders pause."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import Serial, UtcTime

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add three tables."""
    _add_expectations()
    op.create_table(
        "notices",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_notices")),
    )
    for column in ("study_instance_uid", "changed_at"):
        op.create_index(op.f(f"ix_notices_{column}"), "notices", [column])
    op.create_table(
        "pauses",
        sa.Column("pause_id", Serial, nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("pause_id", name=op.f("pk_pauses")),
    )
    op.create_index(op.f("ix_pauses_source_pause_id"), "pauses", ["source", "pause_id"])


def _add_expectations() -> None:
    op.create_table(
        "expectations",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("told", sa.String(length=40), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("notice_uid", sa.String(length=64), nullable=False),
        sa.Column("expected", sa.Integer(), nullable=True),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.Column("is_final", sa.Boolean(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.Column("failure", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint(
            "study_instance_uid",
            "series_instance_uid",
            "told",
            "source",
            "notice_uid",
            name=op.f("pk_expectations"),
        ),
    )
    op.create_index(op.f("ix_expectations_seen_at"), "expectations", ["seen_at"])
