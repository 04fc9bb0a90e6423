"""What becomes of the times in the ledger when somebody sets the clock."""

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Case, Column, case, exists, literal, type_coerce, update

from node.domain.job import JobState
from node.domain.prior import PriorState
from node.domain.result import DeliveryState
from node.domain.study import SeriesState
from node.ledger.engine import Desk
from node.ledger.schema import (
    EPOCH,
    confirmations,
    deliveries,
    expectations,
    jobs,
    prior_searches,
    receptions,
    series,
    studies,
)

IS_OPEN = series.c.state == SeriesState.OPEN.value
WAITS = jobs.c.state == JobState.SCHEDULED.value
RUNS = jobs.c.state == JobState.IN_PROGRESS.value
PENDING = deliveries.c.state == DeliveryState.PENDING.value
IS_SOUGHT = prior_searches.c.state.in_((PriorState.SOUGHT.value, PriorState.FETCHING.value))
IS_EVIDENCE = exists().where(
    IS_OPEN,
    series.c.study_instance_uid == receptions.c.study_instance_uid,
    series.c.series_instance_uid == receptions.c.series_instance_uid,
)


IS_STUDY_OPEN = studies.c.state == SeriesState.OPEN.value
IS_EXPECTED = exists().where(IS_STUDY_OPEN, studies.c.study_instance_uid == expectations.c.study_instance_uid)


class LeapLedger(Desk):
    """Times from which somebody counts on."""

    def follow_clock(self, leap: timedelta, *, now: datetime, lease_s: float) -> None:
        """Commit that the clock was set by `leap` and says `now`; who waits or works notices nothing.

        What was already written by the new clock may be among the times: none of them gets later than it could be, so
        a quiet time may begin anew, and no lease ends before its worker could renew it.
        """
        ahead = max(leap, timedelta(0))
        with self.writing() as connection:
            for column, concerned, latest in (
                (series.c.last_instance_at, IS_OPEN, now),
                (receptions.c.ended_at, IS_EVIDENCE, now),
                (studies.c.changed_at, IS_STUDY_OPEN, now),
                (expectations.c.since, IS_EXPECTED, now),
                (expectations.c.seen_at, IS_EXPECTED, now),
                (jobs.c.enqueued_at, WAITS, now),
                (jobs.c.lease_expires_at, RUNS, now + timedelta(seconds=lease_s)),
            ):
                moved = _moved(column, ahead, latest)
                connection.execute(update(column.table).where(concerned, column.is_not(None)).values({column: moved}))
            for column, concerned in (
                (jobs.c.not_before, WAITS),
                (prior_searches.c.until, IS_SOUGHT),
                (prior_searches.c.look_at, IS_SOUGHT),
                (deliveries.c.not_before, PENDING),
                (confirmations.c.sent_at, confirmations.c.ask_at.is_not(None)),
                (confirmations.c.ask_at, confirmations.c.ask_at.is_not(None)),
            ):
                # Too early does no harm, and is all that a leap ahead does.
                back = type_coerce(column, BigInteger) + _microseconds(leap - ahead)
                connection.execute(update(column.table).where(concerned).values({column: back}))


def _moved(column: Column[datetime], by: timedelta, latest: datetime) -> Case[int]:
    """Return a time so much later, but not later than `latest`."""
    moved = type_coerce(column, BigInteger) + _microseconds(by)
    limit = literal(_microseconds(latest - EPOCH), BigInteger)
    return case((moved < limit, moved), else_=limit)


def _microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
