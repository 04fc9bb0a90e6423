"""Since when an answer is of an earlier version of its Instances."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import UtcTime

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Add a column; of what came again before, the time line tells."""
    op.add_column("jobs", sa.Column("outdated_at", UtcTime))
