"""Results that stand in or are taken back; what Destinations accept."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import UtcTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add four columns and two tables."""
    op.add_column("jobs", sa.Column("notes", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("jobs", sa.Column("threshold", sa.Float(), nullable=True))
    op.add_column("results", sa.Column("is_substitute", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("results", sa.Column("retracted_at", UtcTime(), nullable=True))
    op.create_table(
        "retractions",
        sa.Column("retraction_id", sa.String(length=36), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("struck", sa.JSON(), nullable=False),
        sa.Column("ordered_by", sa.String(length=128), nullable=False),
        sa.Column("ordered_at", UtcTime(), nullable=False),
        sa.Column("noted_at", UtcTime(), nullable=True),
        sa.Column("done_at", UtcTime(), nullable=True),
        sa.Column("reason_code", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_retractions_job_id_jobs")),
        sa.PrimaryKeyConstraint("retraction_id", name=op.f("pk_retractions")),
    )
    op.create_index(op.f("ix_retractions_job_id"), "retractions", ["job_id"], unique=False)
    op.create_table(
        "capabilities",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("accepted", sa.JSON(), nullable=False),
        sa.Column("refused", sa.JSON(), nullable=False),
        sa.Column("asked_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_capabilities")),
    )
