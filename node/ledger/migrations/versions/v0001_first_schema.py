"""First schema."""

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import UtcTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", UtcTime(), nullable=False),
        sa.Column("reason_code", sa.String(length=64), nullable=True),
        sa.Column("reason_text", sa.Text(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "destination", "sop_instance_uid", "path", name=op.f("uq_deliveries_destination_sop_instance_uid_path")
        ),
    )
    op.create_index(
        op.f("ix_deliveries_destination_state_not_before"),
        "deliveries",
        ["destination", "state", "not_before"],
        unique=False,
    )
    op.create_index(op.f("ix_deliveries_study_instance_uid"), "deliveries", ["study_instance_uid"], unique=False)
    op.create_table(
        "events",
        sa.Column("event_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.Column("is_alarm", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_at"), "events", ["at"], unique=False)
    op.create_index(op.f("ix_events_study_instance_uid"), "events", ["study_instance_uid"], unique=False)
    op.create_table(
        "studies",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("first_instance_at", UtcTime(), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_studies")),
    )
    op.create_index(op.f("ix_studies_changed_at"), "studies", ["changed_at"], unique=False)
    op.create_index(op.f("ix_studies_state"), "studies", ["state"], unique=False)
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("clause", sa.Text(), nullable=False),
        sa.Column("found", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("trace", sa.JSON(), nullable=False),
        sa.Column("decided_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["studies.study_instance_uid"], name=op.f("fk_decisions_study_instance_uid")
        ),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_decisions")),
        sa.UniqueConstraint(
            "study_instance_uid", "revision", "rule", name=op.f("uq_decisions_study_instance_uid_revision_rule")
        ),
    )
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("pipeline", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("model_version", sa.String(length=32), nullable=False),
        sa.Column("content", sa.String(length=64), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("deliver_to", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("accepted_at", UtcTime(), nullable=False),
        sa.Column("not_before", UtcTime(), nullable=False),
        sa.Column("enqueued_at", UtcTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(length=128), nullable=True),
        sa.Column("lease_expires_at", UtcTime(), nullable=True),
        sa.Column("reason_code", sa.String(length=64), nullable=True),
        sa.Column("reason_text", sa.Text(), nullable=True),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.JSON(), nullable=False),
        sa.Column("model_sha256", sa.String(length=64), nullable=True),
        sa.Column("supersedes", sa.String(length=36), nullable=True),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["studies.study_instance_uid"], name=op.f("fk_jobs_study_instance_uid")
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
        sa.UniqueConstraint(
            "study_instance_uid",
            "pipeline",
            "model",
            "model_version",
            "content",
            name=op.f("uq_jobs_study_instance_uid_pipeline_model_model_version_content"),
        ),
    )
    op.create_index(
        op.f("ix_jobs_state_priority_accepted_at"), "jobs", ["state", "priority", "accepted_at"], unique=False
    )
    op.create_table(
        "series",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("last_instance_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["studies.study_instance_uid"], name=op.f("fk_series_study_instance_uid")
        ),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid", name=op.f("pk_series")),
    )
    op.create_index(op.f("ix_series_series_instance_uid"), "series", ["series_instance_uid"], unique=False)
    op.create_index(op.f("ix_series_state"), "series", ["state"], unique=False)
    op.create_table(
        "instances",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("pixel_data_offset", sa.BigInteger(), nullable=True),
        sa.Column("association_id", sa.String(length=64), nullable=False),
        sa.Column("calling_aet", sa.String(length=16), nullable=False),
        sa.Column("received_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid", "series_instance_uid"],
            ["series.study_instance_uid", "series.series_instance_uid"],
            name=op.f("fk_instances_study_instance_uid_series_instance_uid"),
        ),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_instances")),
    )
    op.create_index(
        op.f("ix_instances_study_instance_uid_series_instance_uid"),
        "instances",
        ["study_instance_uid", "series_instance_uid"],
        unique=False,
    )
    op.create_table(
        "receptions",
        sa.Column("association_id", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_instance_uid", "series_instance_uid"],
            ["series.study_instance_uid", "series.series_instance_uid"],
            name=op.f("fk_receptions_study_instance_uid_series_instance_uid"),
        ),
        sa.PrimaryKeyConstraint(
            "association_id", "study_instance_uid", "series_instance_uid", name=op.f("pk_receptions")
        ),
    )
    op.create_index(
        op.f("ix_receptions_study_instance_uid_series_instance_uid"),
        "receptions",
        ["study_instance_uid", "series_instance_uid"],
        unique=False,
    )
    op.create_table(
        "results",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_results_job_id")),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_results")),
    )
    op.create_index(op.f("ix_results_job_id"), "results", ["job_id"], unique=False)
