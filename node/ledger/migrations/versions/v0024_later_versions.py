"""Instances that came again with other content, until somebody has compared both versions."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import UID, Serial, UtcTime

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add an empty table: what came again before is marked as it was then."""
    op.create_table(
        "later_versions",
        sa.Column("version_id", Serial, primary_key=True),
        sa.Column("study_instance_uid", UID, nullable=False),
        sa.Column("series_instance_uid", UID, nullable=False),
        sa.Column("sop_instance_uid", UID, nullable=False),
        sa.Column("earlier_path", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("came_at", UtcTime, nullable=False),
        sa.Column("readers", sa.JSON(), nullable=False),
    )
    op.create_index("ix_later_versions_study_instance_uid", "later_versions", ["study_instance_uid"])
