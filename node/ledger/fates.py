"""What became of a Study, a Job or a Delivery so far, in words; there is some for each state."""

from collections import Counter
from collections.abc import Iterator

from node.domain.completeness import REFUSED
from node.domain.decision import Outcome
from node.domain.job import Job, JobState
from node.domain.reasons import explain_reason
from node.domain.result import Delivery, DeliveryState
from node.domain.study import SeriesState
from node.ledger.views import StudyStory

SUPERSEDED = "superseded"
OPEN = "Instances are coming, or may still come"


def tell_job(job: Job) -> str:
    """Return what became of a Job."""
    why = job.reason_text or (explain_reason(job.reason_code) if job.reason_code else "")
    match job.state:
        case JobState.SCHEDULED:
            return f"waits to be tried again: {why}" if why else "waits for a worker"
        case JobState.IN_PROGRESS:
            return f"{job.lease_owner or 'a worker'} works on it"
        case JobState.COMPLETED:
            return f"answered, findings: {len(job.findings)}"
        case JobState.CANCELED:
            return why or "canceled, and nobody said why"


def tell_delivery(delivery: Delivery) -> str:
    """Return what became of a Delivery."""
    why = delivery.reason_text or (explain_reason(delivery.reason_code) if delivery.reason_code else "")
    match delivery.state:
        case DeliveryState.PENDING:
            return f"waits: {why}" if why else "waits to be sent"
        case DeliveryState.SENT:
            return why or "taken by the Destination"
        case DeliveryState.COMMITTED:
            return why or "the Destination confirmed that it holds it"
        case DeliveryState.LOST:
            return why or "the Destination took it, and has it no longer"
        case DeliveryState.REFUSED:
            return why or "the Destination refused it"


def tell_study(story: StudyStory) -> str:
    """Return what became of a Study, in one line."""
    match SeriesState(story.state):
        case SeriesState.OPEN:
            return f"Instances may still come: {story.reason}" if story.reason else OPEN
        case SeriesState.SETTLED:
            return "complete; the rules are asked next"
        case SeriesState.PURGED:
            return "given up here; what was answered and sent stands below"
        case SeriesState.ROUTED:
            return "; ".join(_tell_routed(story)) or _tell_unwanted(story)


def _tell_routed(story: StudyStory) -> Iterator[str]:
    # What another Job took the place of is history, unless there is nothing else.
    live = [job for job in story.jobs if job.reason_code != SUPERSEDED] or story.jobs
    for job in live:
        code = f" ({job.reason_code})" if job.reason_code and job.state is not JobState.COMPLETED else ""
        yield f"{job.order.pipeline} {job.state.value.lower()}{code}"
    ways = Counter((delivery.destination, delivery.state) for delivery in story.deliveries)
    for (destination, state), count in ways.items():
        yield (
            f"{count} {state.value.lower()} to {destination}"
            if state.has_arrived
            else (f"{count} {state.value.lower()} for {destination}")
        )
    if story.results and not story.deliveries:
        yield f"{len(story.results)} Results stay here, no Destination is named"


def _tell_unwanted(story: StudyStory) -> str:
    if not story.decisions:
        return story.reason if story.reason.startswith(REFUSED) else "there was no rule to ask"
    outcomes = {decision.outcome for decision in story.decisions}
    if Outcome.UNDETERMINED in outcomes:
        return explain_reason("rules-undetermined")
    if Outcome.MATCH in outcomes:
        return "a rule matched, and asks for nothing that was not done before"
    return explain_reason("no-rule-matched")
