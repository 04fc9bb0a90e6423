"""The worklist."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import Key, UtcTime

revision = "0013"
down_revision = "0012"

FILTERS = ("has_findings", "needs_person", "is_unmatched", "is_pending")
COLUMNS = ["modalities", "priority", "opened_at", "place_id"]


def upgrade() -> None:
    """Add two tables; what is there already is placed when all migrations are done (`node.ledger.placement`)."""
    op.create_table(
        "worklist",
        sa.Column("place_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("opened_at", UtcTime(), nullable=False),
        sa.Column("modalities", Key, nullable=False),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in FILTERS),
        sa.Column("words", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("place_id", name=op.f("pk_worklist")),
        sa.UniqueConstraint("study_instance_uid", name=op.f("uq_worklist_study_instance_uid")),
    )
    op.create_index(op.f(f"ix_worklist_{'_'.join(COLUMNS)}"), "worklist", COLUMNS, unique=False)
    for name in FILTERS:
        op.create_index(f"ix_worklist_{name}", "worklist", [name, *COLUMNS], unique=False)
    op.create_table(
        "worklist_words",
        sa.Column("word", Key, nullable=False),
        sa.Column("place_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("word", "place_id", name=op.f("pk_worklist_words")),
        sqlite_with_rowid=False,
    )
