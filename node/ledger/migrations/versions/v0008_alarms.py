"""What is wrong, what was counted, and indexes for whoever watches."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import UtcTime

revision = "0008"
down_revision = "0006"


def upgrade() -> None:
    """Add two tables and five indexes; what is counted begins now."""
    op.create_table(
        "alarms",
        sa.Column("alarm_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("raised_at", UtcTime(), nullable=False),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.Column("healed_at", UtcTime(), nullable=True),
        sa.Column("raise_posted_at", UtcTime(), nullable=True),
        sa.Column("heal_posted_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("alarm_id", name=op.f("pk_alarms")),
    )
    op.create_index(op.f("ix_alarms_healed_at"), "alarms", ["healed_at"], unique=False)
    stands = sa.text("healed_at IS NULL")
    op.create_index(
        "uq_alarms_standing", "alarms", ["kind", "subject"], unique=True, sqlite_where=stands, postgresql_where=stands
    )
    op.create_table(
        "tallies",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("counted_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", "subject", name=op.f("pk_tallies")),
    )
    op.execute(
        "INSERT INTO tallies (name, subject, value, counted_at) "
        "SELECT 'events-read', '', COALESCE(MAX(event_id), 0), 0 FROM events"
    )
    for table, columns in (
        ("jobs", ["pipeline", "state", "accepted_at"]),
        ("jobs", ["state", "finished_at"]),
        ("deliveries", ["destination", "state", "created_at"]),
        ("deliveries", ["destination", "state", "changed_at"]),
        ("events", ["kind", "event_id"]),
    ):
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns, unique=False)
