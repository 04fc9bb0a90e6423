"""What may go, what is going, and what has gone."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import UtcTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add two columns, an index and a table."""
    op.add_column("results", sa.Column("purged_at", UtcTime(), nullable=True))
    op.add_column("deliveries", sa.Column("seen_at", UtcTime(), nullable=True))
    op.create_index(op.f("ix_results_study_instance_uid"), "results", ["study_instance_uid"], unique=False)
    op.create_table(
        "purges",
        sa.Column("purge_id", sa.String(length=36), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("began_at", UtcTime(), nullable=False),
        sa.Column("with_results", sa.Boolean(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("ordered_by", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("sop_classes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("purge_id", name=op.f("pk_purges")),
        sa.UniqueConstraint("study_instance_uid", name=op.f("uq_purges_study_instance_uid")),
    )
