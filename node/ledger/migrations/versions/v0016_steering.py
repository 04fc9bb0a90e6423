"""When routing heard of an answer; whatever was answered before is no news."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import UNHEARD, UtcTime

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add a column and an index."""
    op.add_column("jobs", sa.Column("heard_at", UtcTime(), nullable=True))
    op.execute("UPDATE jobs SET heard_at = finished_at WHERE state = 'COMPLETED'")
    op.create_index("ix_jobs_unheard", "jobs", ["state"], sqlite_where=UNHEARD, postgresql_where=UNHEARD)
