"""How many Instances were here when a number of them was said first."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Add a column; of what was said before nothing was foretold."""
    op.add_column("expectations", sa.Column("held_first", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE expectations SET held_first = COALESCE(expected, 0)")
