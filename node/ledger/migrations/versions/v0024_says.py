"""Which version of an Instance said first what the one says that counts."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add a column; what came before was told apart by its bytes alone."""
    op.add_column("instances", sa.Column("says", sa.String(64)))
