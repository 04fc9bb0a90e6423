"""The table of radiologists' verdicts: what the command line, the console and programs are told of each."""

from node.domain.review import Review

COLUMNS = (
    "reviewed_at", "reviewer", "pipeline", "model", "model_version", "job", "finding", "label", "verdict", "counts",
    "long_axis_mm", "short_axis_mm", "instead", "comment",
)  # fmt: skip


def to_cells(review: Review) -> tuple[object, ...]:
    """Return a verdict as a row of the table."""
    order = review.order
    return (
        review.reviewed_at.isoformat(timespec="seconds"), order.reviewer, review.pipeline, review.model,
        review.model_version, order.job_id, order.number, review.label, order.verdict.value,
        "yes" if review.is_current else "no", order.long_axis_mm, order.short_axis_mm, order.instead.value,
        order.comment,
    )  # fmt: skip
