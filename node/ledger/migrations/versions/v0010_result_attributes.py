"""What is searched of Results."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add a column; of what is there already only the kind is known, their files are not read."""
    op.add_column("results", sa.Column("attributes", sa.JSON(), nullable=False, server_default="{}"))
