"""What the AI saw, and how a Study stands, in the words of the worklist."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from node.domain.decision import Outcome
from node.domain.job import LIVE_STATES, JobState
from node.domain.reasons import explain_reason
from node.domain.result import DeliveryState
from node.domain.study import SeriesState
from node.ledger.fates import GIVEN_UP
from node.ledger.placement import ORDERED, Answer, is_outdated
from node.ledger.standings import Standing, Way
from node.web.console.answers import begin_low, describe_findings
from node.wording import sentence

UNVERIFIED = "AI, unverified"
# How far a Delivery has come.
_ORDER = (DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.COMMITTED)
WORDS = {
    DeliveryState.PENDING: "waits",
    DeliveryState.SENT: "sent",
    DeliveryState.COMMITTED: "committed",
    DeliveryState.REFUSED: "refused",
    DeliveryState.LOST: "lost",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A state: as console.css knows it, in words, and why on the second line."""

    state: str
    words: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """What the AI says of a Study.

    Attributes
    ----------
    has_findings
        Whether it saw something; what else is said is set apart from that.
    """

    words: str
    second: str = ""
    has_findings: bool = False


def tell_findings(standing: Standing) -> Saying:
    """Return the findings in words; that there are none never looks like that there is no answer."""
    answers = standing.answers
    waiting = [answer.row["pipeline"] for answer in answers if answer.row["state"] in LIVE_STATES]
    seen = [finding for answer in answers for finding in answer.findings]
    if seen:
        second = [f"not ready yet: {', '.join(waiting)}"] if waiting else []
        second += [f"undetermined: {', '.join(_undecided(answers))}"] if _undecided(answers) else []
        return Saying(
            words=describe_findings(seen),
            second="; ".join([UNVERIFIED, *second, *_tell_given_up(answers)]),
            has_findings=True,
        )
    if standing.state is not SeriesState.ROUTED:
        is_open = standing.state is SeriesState.OPEN
        return Saying(words="Waiting for more Instances" if is_open else "Not ready yet: the rules are asked next")
    if waiting:
        return Saying(words=f"Not ready yet: {', '.join(waiting)}")
    return _tell_nothing(answers) if answers else _tell_unasked(standing)


def tell_state(standing: Standing) -> Chip:
    """Return the state in one chip: what needs a person first, then what goes on, then how it ended."""
    if standing.state is SeriesState.OPEN:
        so_far = f"{standing.instances} Instance{'' if standing.instances == 1 else 's'} so far"
        return Chip(state="open", words="Open", why=so_far)
    if standing.state is SeriesState.SETTLED:
        return Chip(state="scheduled", words="Scheduled", why="complete; the rules are asked next")
    outdated = [str(answer.row["pipeline"]) for answer in standing.answers if is_outdated(answer)]
    if outdated:
        why = f"{', '.join(outdated)}: of an earlier version of the images"
        return Chip(state="warning", words="Outdated", why=why)
    failed = [way for way in standing.ways if way.is_failed]
    if failed:
        words = WORDS[failed[0].state].capitalize()
        return Chip(
            state="refused", words=words, why=f"{failed[0].destination}: {failed[0].reason or 'nobody said why'}"
        )
    for state, chip in (
        (JobState.IN_PROGRESS, "in-progress"),
        (JobState.SCHEDULED, "scheduled"),
        (JobState.CANCELED, "canceled"),
    ):
        rows = [answer for answer in standing.answers if answer.row["state"] == state.value]
        if rows:
            return Chip(state=chip, words=state.value.capitalize(), why=_tell_job(rows[0]))
    return _tell_answered(standing) if standing.answers else _tell_unmatched(standing)


def seconds_to_result(standing: Standing) -> float | None:
    """Return how long it took from the last Instance that was read to the last Result; None while there is none."""
    finished = [answer for answer in standing.answers if answer.row["state"] == JobState.COMPLETED.value]
    if not finished or len(finished) < len(standing.answers):
        return None
    last = max(finished, key=lambda answer: answer.row["finished_at"])
    read = [standing.last_instance_at.get(uid) for uid in last.row["inputs"].values()]
    begins = [moment for moment in read if moment is not None and moment <= last.row["accepted_at"]]
    begin = max(begins, default=last.row["accepted_at"])
    return max(0.0, float((last.row["finished_at"] - begin).total_seconds()))


def is_pending(standing: Standing) -> bool:
    """Return whether a Result may still come."""
    routed = standing.state is SeriesState.ROUTED
    return not routed or any(answer.row["state"] in LIVE_STATES for answer in standing.answers)


def _tell_nothing(answers: Sequence[Answer]) -> Saying:
    """Return why there is nothing to see; that the AI saw nothing only where it says so, and that is still known."""
    failed = [answer for answer in answers if answer.row["state"] == JobState.CANCELED.value]
    if failed:
        return Saying(words=f"No result: {_why(failed[0])}", second=failed[0].row["pipeline"])
    if all(answer.is_withdrawn for answer in answers):
        return Saying(words="No result: it was taken back")
    undecided, given_up = _undecided(answers), [answer for answer in answers if answer.is_given_up]
    if undecided:
        asked = ", ".join(_pipelines([answer for answer in answers if answer.undetermined]))
        second = "; ".join([f"{UNVERIFIED} · {asked}", *_tell_given_up(answers)])
        return Saying(words=f"{', '.join(undecided)} undetermined", second=second)
    if given_up:
        return Saying(words=sentence(GIVEN_UP), second=", ".join(_pipelines(given_up)))
    taken_back = [answer for answer in answers if answer.is_withdrawn]
    said = _pipelines([answer for answer in answers if not answer.is_withdrawn])
    told = [f"taken back: {', '.join(_pipelines(taken_back))}"] if taken_back else []
    return Saying(words="No findings", second="; ".join([f"{UNVERIFIED} · {', '.join(said)}", *told]))


def _undecided(answers: Sequence[Answer]) -> list[str]:
    """Return the labels that no answer decided."""
    return [str(one["label"]) for answer in answers for one in answer.undetermined]


def _tell_given_up(answers: Sequence[Answer]) -> list[str]:
    given_up = [answer for answer in answers if answer.is_given_up]
    return [f"given up here: {', '.join(_pipelines(given_up))}"] if given_up else []


def _tell_unasked(standing: Standing) -> Saying:
    if standing.refusal:
        return Saying(words="No result: the Study stayed incomplete")
    if Outcome.UNDETERMINED in standing.outcomes:
        return Saying(words=f"No result: {standing.outcomes[Outcome.UNDETERMINED][1]}")
    if Outcome.MATCH in standing.outcomes:
        return Saying(words="No result: no Pipeline was asked for")
    return Saying(words="No result: no rule for this Study")


def _tell_unmatched(standing: Standing) -> Chip:
    if standing.refusal:
        return Chip(state="refused", words="Refused", why=standing.refusal)
    outcomes = standing.outcomes
    asked = sum(count for count, _ in outcomes.values())
    if Outcome.UNDETERMINED in outcomes:
        count = outcomes[Outcome.UNDETERMINED][0]
        return Chip(state="undetermined", words="Undetermined", why=f"{count} of {asked} rules lack a value")
    if Outcome.MATCH in outcomes:
        return _tell_ways(standing.ways, nothing="a rule matched, and asks for nothing new")
    return Chip(state="no-match", words="No match", why=f"0 of {asked} rules" if asked else "there is no rule")


def _tell_answered(standing: Standing) -> Chip:
    return _tell_ways([way for way in standing.ways if way.of_job], nothing="its Results stay here")


def _tell_ways(ways: Sequence[Way], *, nothing: str) -> Chip:
    """Return how far what goes to Destinations has come: as far as the last of them."""
    states: dict[str, Counter[DeliveryState]] = {}
    for way in ways:
        # What was taken back, noted by a person, or replaced waits for nobody.
        if way.state not in (DeliveryState.REFUSED, DeliveryState.LOST):
            states.setdefault(way.destination, Counter())[way.state] += way.count
    if not states:
        return Chip(state="completed", words="Completed", why=nothing)
    slowest = {name: min(found, key=_ORDER.index) for name, found in states.items()}
    committed = sum(state is DeliveryState.COMMITTED for state in slowest.values())
    if committed == len(slowest):
        return Chip(state="committed", words="Committed", why=f"{_destinations(committed)} of {len(slowest)}")
    why = ", ".join(f"{name} {WORDS[state]}" for name, state in slowest.items())
    if len(set(slowest.values())) == 1:
        why = f"{'for' if DeliveryState.PENDING in slowest.values() else 'to'} {', '.join(slowest)}"
    if set(slowest.values()) == {DeliveryState.PENDING}:
        return Chip(state="waiting", words="Pending", why=why)
    return Chip(state="sent", words="Sent", why=why)


def _destinations(count: int) -> str:
    return f"{count} destination{'' if count == 1 else 's'}"


def _tell_job(answer: Answer) -> str:
    row = answer.row
    pipeline = row["pipeline"]
    if row["state"] == JobState.CANCELED.value:
        return f"{pipeline}: {row['reason_code']}"
    if row["state"] == JobState.IN_PROGRESS.value:
        return f"{pipeline}, attempt {row['attempts']}" if row["attempts"] > 1 else str(pipeline)
    return f"{pipeline}, tried again: {row['reason_code']}" if row["reason_code"] else f"{pipeline} waits for a worker"


def _why(answer: Answer) -> str:
    row = answer.row
    said = row["reason_text"] if row["reason_code"] not in ORDERED else explain_reason(row["reason_code"])
    return begin_low(said or _reason(row["reason_code"]))


def _reason(code: str | None) -> str:
    return explain_reason(code) if code else "nobody said why"


def _pipelines(answers: Sequence[Answer]) -> list[str]:
    return [answer.row["pipeline"] for answer in answers]
