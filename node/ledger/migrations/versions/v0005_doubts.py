"""How often a Destination could not say for good whether it takes an object."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add a column; for what is on its way, counting begins anew."""
    op.add_column("deliveries", sa.Column("doubts", sa.Integer(), nullable=False, server_default="0"))
