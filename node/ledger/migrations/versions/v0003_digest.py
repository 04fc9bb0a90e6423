"""The digest of an Instance is no SHA-256 any more."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Rename the column; what it holds of old stays, and is other than what the same bytes give now."""
    # Not `alter_column`: SQLite would have the whole table written anew.
    op.execute("ALTER TABLE instances RENAME COLUMN sha256 TO digest")
