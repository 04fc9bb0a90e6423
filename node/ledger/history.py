"""What rules concluded of late, and the Studies on which an edit of them can be tried."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import distinct, func, select

from node.domain.decision import Outcome
from node.domain.study import SeriesState
from node.domain.uids import StudyUID
from node.ledger.engine import Desk
from node.ledger.schema import decisions, studies

WITH_INSTANCES = studies.c.state != SeriesState.PURGED.value


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCount:
    """How many Studies a rule matched, and of how many it could not tell."""

    matched: int = 0
    undetermined: int = 0


class HistoryLedger(Desk):
    """Decisions and Studies since a point in time."""

    def count_decisions(self, since: datetime) -> Mapping[str, RuleCount]:
        """Return the name of each rule to what it concluded after `since`; a Study that came again counts once."""
        statement = (
            select(decisions.c.outcome, decisions.c.rule, func.count(distinct(decisions.c.study_instance_uid)))
            .where(
                decisions.c.outcome.in_([Outcome.MATCH.value, Outcome.UNDETERMINED.value]),
                decisions.c.decided_at > since,
            )
            .group_by(decisions.c.outcome, decisions.c.rule)
        )
        with self.reading() as connection:
            counts = {(str(rule), str(outcome)): int(count) for outcome, rule, count in connection.execute(statement)}
        return {
            rule: RuleCount(
                matched=counts.get((rule, Outcome.MATCH.value), 0),
                undetermined=counts.get((rule, Outcome.UNDETERMINED.value), 0),
            )
            for rule in {rule for rule, _ in counts}
        }

    def recent_studies(self, since: datetime, *, limit: int) -> tuple[StudyUID, ...]:
        """Return the Studies that changed after `since` and have Instances here, newest first, at most `limit`."""
        statement = (
            select(studies.c.study_instance_uid)
            .where(studies.c.changed_at > since, WITH_INSTANCES)
            .order_by(studies.c.changed_at.desc())
            .limit(limit)
        )
        with self.reading() as connection:
            return tuple(StudyUID(uid) for uid in connection.execute(statement).scalars())

    def count_studies(self, since: datetime) -> int:
        """Return how many Studies changed after `since` and have Instances here."""
        with self.reading() as connection:
            statement = select(func.count()).where(studies.c.changed_at > since, WITH_INSTANCES)
            return int(connection.execute(statement).scalar_one())
