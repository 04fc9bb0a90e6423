"""Radiologists' verdicts: kept with their history, counted for each version of a model."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, Select, func, insert, select, update

from node.domain.job import Job, JobID, JobState
from node.domain.review import Instead, ModelVerdicts, Review, ReviewOrder, Verdict
from node.domain.uids import StudyUID
from node.errors import NotFound, WrongState
from node.ledger.engine import Desk
from node.ledger.pages import Listing, PageAsked, PageFound, read_page
from node.ledger.placement import WITH_FATE
from node.ledger.rows import to_job
from node.ledger.schema import jobs, reviews
from node.ledger.transitions import tell

REVIEWED = "finding-reviewed"
# The newest of each Finding.
CURRENT = select(func.max(reviews.c.review_id)).group_by(reviews.c.job_id, reviews.c.number)
IS_CURRENT = reviews.c.review_id.in_(CURRENT)


class ReviewLedger(Desk):
    """Verdicts on Findings."""

    def record_review(self, order: ReviewOrder, *, now: datetime) -> None:
        """Commit a verdict, with a line in the time line of the Study; earlier ones on the Finding stay as history.

        Raises
        ------
        RequestMalformed
            If it cannot be kept as it is.
        NotFound
            If the Job is unknown, or has no such Finding.
        WrongState
            If the Job has not answered.
        """
        with self.writing() as connection:
            job = _find_job(connection, order.job_id)
            order.check()
            if job.state is not JobState.COMPLETED:
                raise WrongState(f"job {job.job_id} is {job.state.value}; only an answer is reviewed")
            if job.is_given_up:
                raise WrongState(f"job {job.job_id}: its findings were given up here with the Study; look in the PACS")
            if not 1 <= order.number <= len(job.findings):
                raise NotFound(f"job {job.job_id} has findings 1 to {len(job.findings)}, not {order.number}")
            label = str(job.findings[order.number - 1]["label"])
            connection.execute(insert(reviews).values(**_to_row(order, job, label), reviewed_at=now))
            text = f"{order.reviewer} {order.verdict.participle} finding {order.number} of {job.order.pipeline}"
            tell(connection, job, now=now, kind=REVIEWED, text=text)

    def reviews_of(self, job_ids: Collection[JobID]) -> Mapping[tuple[JobID, int], Sequence[Review]]:
        """Return the verdicts on these Jobs by Job and number of the Finding, the newest first."""
        found: dict[tuple[JobID, int], list[Review]] = {}
        for review in self._read(_newest_first().where(reviews.c.job_id.in_(job_ids))):
            found.setdefault((review.order.job_id, review.order.number), []).append(review)
        return found

    def list_reviews(self) -> tuple[Review, ...]:
        """Return every verdict that was ever given, the newest first."""
        return self._read(_newest_first())

    def page_reviews(self, asked: PageAsked) -> PageFound[Review]:
        """Return a page of all verdicts that were ever given, the newest first."""
        rows = select(*reviews.c, IS_CURRENT.label("is_current"))
        with self.reading() as connection:
            found = read_page(connection, Listing(rows=rows, key=(reviews.c.review_id,)), asked)
        return PageFound(rows=tuple(map(_to_review, found.rows)), rest=found.rest)

    def verdicts_by_model(self) -> tuple[ModelVerdicts, ...]:
        """Return how the newest verdict of each Finding adds up, for each version of a model."""
        line = (reviews.c.pipeline, reviews.c.model, reviews.c.model_version)
        counts = [func.count().filter(reviews.c.verdict == verdict.value).label(verdict.name) for verdict in Verdict]
        statement = select(*line, *counts).where(IS_CURRENT).group_by(*line).order_by(*line)
        with self.reading() as connection:
            return tuple(
                ModelVerdicts(
                    pipeline=row.pipeline,
                    model=row.model,
                    model_version=row.model_version,
                    accepted=row.ACCEPT,
                    rejected=row.REJECT,
                    corrected=row.CORRECT,
                )
                for row in connection.execute(statement)
            )

    def _read(self, statement: Select[tuple[object, ...]]) -> tuple[Review, ...]:
        with self.reading() as connection:
            return tuple(_to_review(row) for row in connection.execute(statement).mappings())


def forget_comments(connection: Connection, uid: StudyUID) -> None:
    """Empty the comments on a Study that is given up: a person may have written a name; the verdicts stay."""
    of_study = select(jobs.c.job_id).where(jobs.c.study_instance_uid == uid)
    connection.execute(update(reviews).where(reviews.c.job_id.in_(of_study)).values(comment=""))


def _newest_first() -> Select[tuple[object, ...]]:
    return select(*reviews.c, IS_CURRENT.label("is_current")).order_by(reviews.c.review_id.desc())


def _find_job(connection: Connection, job_id: JobID) -> Job:
    row = connection.execute(WITH_FATE.where(jobs.c.job_id == job_id)).mappings().first()
    if row is None:
        raise NotFound(f"job {job_id} is not in the ledger; see `radnode jobs list`")
    return to_job(row)


def _to_row(order: ReviewOrder, job: Job, label: str) -> Mapping[str, object]:
    is_correction = order.verdict is Verdict.CORRECT
    return {
        "job_id": order.job_id,
        "number": order.number,
        "label": label,
        "pipeline": job.order.pipeline,
        "model": job.order.model,
        "model_version": job.order.model_version,
        "verdict": order.verdict.value,
        "long_axis_mm": order.long_axis_mm if is_correction else None,
        "short_axis_mm": order.short_axis_mm if is_correction else None,
        "instead": (order.instead if is_correction else Instead.SAME).value,
        "comment": order.comment,
        "reviewer": order.reviewer,
    }


def _to_review(row: RowMapping) -> Review:
    order = ReviewOrder(
        job_id=JobID(row["job_id"]),
        verdict=Verdict(row["verdict"]),
        instead=Instead(row["instead"]),
        **{name: row[name] for name in ("number", "reviewer", "long_axis_mm", "short_axis_mm", "comment")},
    )
    kept = ("review_id", "label", "pipeline", "model", "model_version", "reviewed_at")
    return Review(order=order, is_current=bool(row["is_current"]), **{name: row[name] for name in kept})
