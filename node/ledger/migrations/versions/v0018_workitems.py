"""Unified Procedure Steps of others, who is told of which, and what they are told."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import Serial, UtcTime

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add three tables."""
    op.create_table(
        "workitems",
        sa.Column("workitem_id", Serial, nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=True),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("pipeline", sa.String(length=64), nullable=True),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("workitem_id", name=op.f("pk_workitems")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_workitems_sop_instance_uid")),
    )
    op.create_index(op.f("ix_workitems_state_pipeline"), "workitems", ["state", "pipeline"])
    for column in ("study_instance_uid", "job_id"):
        op.create_index(op.f(f"ix_workitems_{column}"), "workitems", [column])
    _add_subscriptions()


def _add_subscriptions() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("aet", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("is_locked", sa.Boolean(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("is_suspended", sa.Boolean(), nullable=False),
        sa.Column("subscribed_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("aet", "sop_instance_uid", name=op.f("pk_subscriptions")),
    )
    op.create_index(op.f("ix_subscriptions_sop_instance_uid"), "subscriptions", ["sop_instance_uid"])
    op.create_table(
        "workitem_events",
        sa.Column("event_id", Serial, nullable=False),
        sa.Column("aet", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("event_type", sa.Integer(), nullable=False),
        sa.Column("information", sa.Text(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("send_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_workitem_events")),
    )
    op.create_index(op.f("ix_workitem_events_aet_event_id"), "workitem_events", ["aet", "event_id"])
    for column in ("send_at", "at"):
        op.create_index(op.f(f"ix_workitem_events_{column}"), "workitem_events", [column])
