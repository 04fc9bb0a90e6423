"""Orders of RIS and HIS, and which messages about them were taken."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import Key, Serial, UtcTime

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add two tables."""
    op.create_table(
        "orders",
        sa.Column("order_id", Serial, nullable=False),
        sa.Column("identity", Key, nullable=False),
        sa.Column("origin", sa.String(length=32), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("placer_order_number", sa.Text(), nullable=False),
        sa.Column("filler_order_number", sa.Text(), nullable=False),
        sa.Column("accession_number", Key, nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_id", Key, nullable=False),
        sa.Column("patient_id_issuer", sa.Text(), nullable=False),
        sa.Column("procedure_codes", sa.JSON(), nullable=False),
        sa.Column("procedure_text", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requesting_service", sa.Text(), nullable=False),
        sa.Column("scheduled_at", UtcTime(), nullable=True),
        sa.Column("control_id", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("received_at", UtcTime(), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.Column("heard_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_orders")),
        sa.UniqueConstraint("identity", name=op.f("uq_orders_identity")),
    )
    for columns in (
        ["study_instance_uid"],
        ["accession_number", "patient_id"],
        ["resource_id"],
        ["changed_at"],
        ["heard_at"],
    ):
        op.create_index(op.f(f"ix_orders_{'_'.join(columns)}"), "orders", columns)
    op.create_table(
        "order_messages",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("taken_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_order_messages")),
    )
    op.create_index(op.f("ix_order_messages_taken_at"), "order_messages", ["taken_at"])
