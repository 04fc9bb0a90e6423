"""By what Jobs and Results are listed page by page."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add two indexes."""
    op.create_index(op.f("ix_jobs_accepted_at_job_id"), "jobs", ["accepted_at", "job_id"])
    op.create_index(op.f("ix_results_created_at_sop_instance_uid"), "results", ["created_at", "sop_instance_uid"])
