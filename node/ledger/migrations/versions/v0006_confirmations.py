"""What Destinations are still to prove."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import UtcTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add a table; what was sent before is not asked about."""
    op.create_table(
        "confirmations",
        sa.Column("delivery_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("sent_at", UtcTime(), nullable=False),
        sa.Column("ask_at", UtcTime(), nullable=True),
        sa.Column("transaction_uid", sa.String(length=64), nullable=True),
        sa.Column("asks", sa.Integer(), nullable=False),
        sa.Column("misses", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.delivery_id"],
            name=op.f("fk_confirmations_delivery_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_confirmations")),
    )
    op.create_index(op.f("ix_confirmations_destination_ask_at"), "confirmations", ["destination", "ask_at"])
    op.create_index(op.f("ix_confirmations_transaction_uid"), "confirmations", ["transaction_uid"])
