"""Earlier Studies that rules want beside a Study, and which one a Job reads."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import Serial, UtcTime

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Add two tables, and a column to Jobs."""
    op.create_table(
        "prior_searches",
        sa.Column("search_id", Serial, nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("terms_key", sa.String(length=64), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("is_late", sa.Boolean(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("asked_at", UtcTime(), nullable=False),
        sa.Column("until", UtcTime(), nullable=False),
        sa.Column("look_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("search_id", name=op.f("pk_prior_searches")),
        sa.UniqueConstraint(
            "study_instance_uid", "terms_key", name=op.f("uq_prior_searches_study_instance_uid_terms_key")
        ),
    )
    op.create_index(op.f("ix_prior_searches_state_look_at"), "prior_searches", ["state", "look_at"])
    op.create_table(
        "priors",
        sa.Column("search_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("is_fetched", sa.Boolean(), nullable=False),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id"],
            ["prior_searches.search_id"],
            name=op.f("fk_priors_search_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("search_id", "study_instance_uid", name=op.f("pk_priors")),
    )
    op.create_index(op.f("ix_priors_study_instance_uid"), "priors", ["study_instance_uid"])
    op.add_column("jobs", sa.Column("prior_study_instance_uid", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_jobs_prior_study_instance_uid"), "jobs", ["prior_study_instance_uid"])
