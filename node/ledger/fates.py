"""What became of a Study, a Job or a Delivery so far, in words; there is some for each state."""

from collections import Counter
from collections.abc import Iterator

from node.domain.completeness import REFUSED
from node.domain.decision import Outcome
from node.domain.finding import Presence, has_presence
from node.domain.job import Job, JobState
from node.domain.reasons import explain_reason
from node.domain.result import Delivery, DeliveryState, ResultKind
from node.domain.study import SeriesState
from node.ledger.views import StudyStory

SUPERSEDED = "superseded"
GIVEN_UP = "answered before; its findings were given up here, see the PACS"
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
            return "; ".join(part for part in (_tell_answer(job), tell_outdated(job)) if part)
        case JobState.CANCELED:
            return why or "canceled, and nobody said why"


def tell_outdated(job: Job) -> str:
    """Return that an answer is of an earlier version of an Instance; empty where it is of what counts."""
    if job.outdated_at is None:
        return ""
    return (
        "an Instance that it was made from came again with other content on "
        f"{job.outdated_at:%Y-%m-%d}, and this is of the earlier one"
    )


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
        yield f"{job.order.pipeline} {_tell_end(job, story)}"
    taken_back = {result.sop_instance_uid for result in story.results if result.retracted_at is not None}
    notes = {result.sop_instance_uid for result in story.results if result.kind is ResultKind.REJECTION_NOTE}
    ways = Counter(
        (one.destination, one.state, one.sop_instance_uid in notes)
        for one in story.deliveries
        if one.sop_instance_uid not in taken_back
    )
    for (destination, state, is_note), count in ways.items():
        what = f"{count} rejection note{'s' * (count != 1)}" if is_note else str(count)
        yield f"{what} {state.value.lower()} {'to' if state.has_arrived else 'for'} {destination}"
    if story.results and not story.deliveries:
        yield f"{len(story.results)} Results stay here, no Destination is named"


def _tell_end(job: Job, story: StudyStory) -> str:
    """Return what a Job came to; of an answer whether it was given up or taken back, for then it counts no more."""
    if job.state is not JobState.COMPLETED:
        return job.state.value.lower() + (f" ({job.reason_code})" if job.reason_code else "")
    if job.is_given_up:
        return "answered before, given up here"
    written = [one for one in story.results if one.job_id == job.job_id and one.kind is not ResultKind.REJECTION_NOTE]
    is_taken_back = bool(written) and all(one.retracted_at is not None for one in written)
    return "taken back" if is_taken_back else "completed"


def _tell_answer(job: Job) -> str:
    if job.seen is None:
        return GIVEN_UP
    if job.seen:
        return f"answered, findings: {job.seen}"
    is_open = any(has_presence(one, Presence.UNDETERMINED) for one in job.findings)
    return "answered, undetermined" if is_open else "answered, no findings"


def _tell_unwanted(story: StudyStory) -> str:
    if not story.decisions:
        return story.reason if story.reason.startswith(REFUSED) else "there was no rule to ask"
    outcomes = {decision.outcome for decision in story.decisions}
    if Outcome.UNDETERMINED in outcomes:
        return explain_reason("rules-undetermined")
    if Outcome.MATCH in outcomes:
        return "a rule matched, and asks for nothing that was not done before"
    return explain_reason("no-rule-matched")
