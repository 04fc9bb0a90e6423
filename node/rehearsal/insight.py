"""What the ledger of a node of ours says of a Study, beside what is seen from outside."""

from collections import Counter
from collections.abc import Collection

from node.domain.job import JobState
from node.domain.result import DeliveryState
from node.domain.uids import StudyUID
from node.errors import NotFound
from node.ledger.interventions import SUPERSEDED
from node.ledger.views import LedgerView, StudyStory
from node.rehearsal.stage import Insight


def ledger_insight(view: LedgerView, destinations: Collection[str]) -> Insight:
    """Return what answers for one node.

    Parameters
    ----------
    destinations
        The names under which it knows the simulated PACS; others may be down, and are not asked about.
    """

    def look(study_instance_uid: str) -> tuple[bool, str]:
        try:
            story = view.study_story(StudyUID(study_instance_uid))
        except NotFound:
            return False, "it does not know the Study"
        return _judge(story, destinations)

    return look


def _judge(story: StudyStory, destinations: Collection[str]) -> tuple[bool, str]:
    """Return whether nothing waits and nothing failed, and in words how all stands."""
    # An Instance that came while a Job waited or ran has given its place to another Job.
    jobs = Counter(job.reason_code if job.reason_code == SUPERSEDED else job.state.value for job in story.jobs)
    deliveries = Counter(entry.state for entry in story.deliveries if entry.destination in destinations)
    is_right = (
        story.state == "ROUTED"
        and set(jobs) <= {JobState.COMPLETED.value, SUPERSEDED}
        and not {DeliveryState.PENDING, DeliveryState.LOST} & deliveries.keys()
        and bool(deliveries)
    )
    parts = [
        f"Study {story.state}",
        *(f"{_number(count, 'Job', 'Jobs')} {state}" for state, count in jobs.items()),
        *(f"{_number(count, 'Delivery', 'Deliveries')} {state.value}" for state, count in deliveries.items()),
    ]
    return is_right, ", ".join(parts)


def _number(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
