"""How Pipelines are switched, which Jobs are in shadow, and an index for whoever counts what rules matched."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import UtcTime

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add a table, a column and an index; no Pipeline was switched before, and no Job was in shadow."""
    op.create_table(
        "switches",
        sa.Column("pipeline", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.String(length=8), nullable=False),
        sa.Column("changed_by", sa.String(length=128), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pipeline", name=op.f("pk_switches")),
    )
    op.add_column("jobs", sa.Column("is_shadow", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(op.f("ix_decisions_outcome_decided_at"), "decisions", ["outcome", "decided_at"], unique=False)
