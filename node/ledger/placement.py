"""The place of a Study on the worklist: derived anew in each transaction that moves the Study, never kept by hand.

Whoever writes says only which Studies it touched; `Desk.writing` places them before it commits.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Exists,
    RowMapping,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from node.domain.decision import Outcome
from node.domain.finding import Presence, has_presence
from node.domain.job import LIVE_STATES, JobState, Priority
from node.domain.result import DeliveryState
from node.domain.study import SeriesState
from node.ledger.catalogue import fold_name
from node.ledger.prior_marks import is_prior
from node.ledger.schema import (
    EPOCH,
    decisions,
    deliveries,
    jobs,
    results,
    retractions,
    series,
    series_entries,
    studies,
    study_entries,
    tallies,
    worklist,
    worklist_words,
)

TOUCHED = "radnode_touched"
# Row of the tallies that says up to which Study those of an earlier version were placed; absent: all are.
UNPLACED = "unplaced"
# Told of each object that leaves, and of Jobs that are not over before nor after: the place of the Study is the same.
UNMOVED = frozenset({"delivery-sent", "instance-refused", "job-started", "job-given-back", "job-attempt-failed"})
# Modalities (0008,0060) that a worklist is narrowed by; what else a Study holds is no reason to look for it.
MODALITIES = ("CT", "MR", "DX", "CR", "MG", "US", "PT", "NM", "XA", "RF")
OTHER = "OT"
SEPARATOR = "\\"
MAX_WORDS, MAX_LETTERS = 24, 64
GROUP = 500
SUPERSEDED, RETRACTED = "superseded", "retracted"
# A Job that ended so has its reason from a person.
ORDERED = frozenset({SUPERSEDED, "canceled-by-hand", "switched-off"})
UNDER_WAY = (DeliveryState.PENDING.value, DeliveryState.SENT.value, DeliveryState.COMMITTED.value)


def is_replaced(states: Collection[str]) -> Exists:
    """Return whether another object of the same Job is in one of these states, for the same Destination.

    It is the picture in place of a SEG, or the SR without its PDF.
    """
    other = deliveries.alias("other")
    return exists().where(
        deliveries.c.job_id.is_not(None),
        other.c.study_instance_uid == deliveries.c.study_instance_uid,
        # As a bare column, SQLite would look through all that the Destination ever took: 46 ms where it took 30,000.
        func.coalesce(other.c.destination, "") == deliveries.c.destination,
        other.c.job_id == deliveries.c.job_id,
        other.c.state.in_(states),
    )


# A Delivery that ended badly, and nobody took note of it.
IS_FAILED = and_(
    deliveries.c.seen_at.is_(None),
    or_(
        deliveries.c.state == DeliveryState.LOST.value,
        and_(
            deliveries.c.state == DeliveryState.REFUSED.value,
            deliveries.c.reason_code.is_distinct_from(RETRACTED),
            ~is_replaced(UNDER_WAY),
        ),
    ),
)


# Each is written once: to put a statement together takes longer than what it reads here.
_UIDS: BindParameter[Any] = bindparam("uids", expanding=True)
_HERE = (
    select(
        studies.c.study_instance_uid,
        studies.c.state,
        studies.c.revision,
        studies.c.first_instance_at,
        study_entries.c.patient_name,
        study_entries.c.patient_id,
        study_entries.c.accession_number,
    )
    .outerjoin(study_entries, study_entries.c.study_instance_uid == studies.c.study_instance_uid)
    .where(studies.c.study_instance_uid.in_(_UIDS))
)
_MODALITIES = (
    select(series_entries.c.study_instance_uid, series_entries.c.modality)
    .join(
        series,
        and_(
            series.c.study_instance_uid == series_entries.c.study_instance_uid,
            series.c.series_instance_uid == series_entries.c.series_instance_uid,
        ),
    )
    .where(series_entries.c.study_instance_uid.in_(_UIDS))
)
_OUTCOMES = select(decisions.c.study_instance_uid, decisions.c.revision, decisions.c.outcome).where(
    decisions.c.study_instance_uid.in_(_UIDS)
)
_PRIORS = select(studies.c.study_instance_uid).where(
    studies.c.study_instance_uid.in_(_UIDS), is_prior(studies.c.study_instance_uid)
)
_FAILED = (
    select(deliveries.c.study_instance_uid).where(deliveries.c.study_instance_uid.in_(_UIDS), IS_FAILED).distinct()
)
# A Job with whether its Results were given up with the Study.
WITH_FATE = select(
    jobs,
    exists().where(results.c.job_id == jobs.c.job_id, results.c.purged_at.is_not(None)).label("has_purged"),
)
_JOBS = WITH_FATE.where(jobs.c.study_instance_uid.in_(_UIDS)).order_by(jobs.c.accepted_at, jobs.c.job_id)
_STRUCK = select(retractions.c.job_id, retractions.c.struck).where(retractions.c.job_id.in_(_UIDS))
_KNOWN = select(worklist).where(worklist.c.study_instance_uid.in_(_UIDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What counts of a Job on the worklist.

    Attributes
    ----------
    findings
        Those that were seen and stand.
    undetermined
        Those that could not be decided, and stand.
    is_withdrawn
        Whether the whole answer was taken back.
    is_given_up
        Whether it is not known here any more what was found.
    """

    row: RowMapping
    findings: tuple[Mapping[str, Any], ...]
    undetermined: tuple[Mapping[str, Any], ...]
    is_withdrawn: bool
    is_given_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """What the places of some Studies are derived from, by Study."""

    answers: Mapping[str, Sequence[Answer]]
    outcomes: Mapping[str, set[str]]
    modalities: Mapping[str, set[str]]
    failed: frozenset[str]
    priors: frozenset[str]


def touch(connection: Connection, study_instance_uid: str) -> None:
    """Say that the caller's transaction changes what a Study's place is derived from."""
    connection.info.setdefault(TOUCHED, set()).add(study_instance_uid)


def forget_touched(connection: Connection) -> None:
    """Begin anew, after a transaction that was undone."""
    connection.info.pop(TOUCHED, None)


def place_touched(connection: Connection) -> None:
    """Write the places of all Studies that this transaction touched."""
    touched = sorted(connection.info.pop(TOUCHED, ()))
    for at in range(0, len(touched), GROUP):
        _place(connection, touched[at : at + GROUP])


def begin_placing(connection: Connection) -> None:
    """Say that Studies may have no place: those that an earlier version wrote."""
    connection.execute(delete(tallies).where(tallies.c.name == UNPLACED))
    row = {"name": UNPLACED, "subject": "", "value": 1, "counted_at": EPOCH}
    connection.execute(insert(tallies).values(row))


def has_unplaced(connection: Connection) -> bool:
    """Return whether Studies may have no place."""
    return bool(connection.execute(select(exists().where(tallies.c.name == UNPLACED))).scalar_one())


def place_some(connection: Connection) -> bool:
    """Write the place of some Studies that have none; return whether some may be left.

    How far they were placed stands in the ledger.
    """
    last = connection.execute(select(tallies.c.subject).where(tallies.c.name == UNPLACED)).scalar_one_or_none()
    if last is None:
        return False
    uid = studies.c.study_instance_uid
    is_placed = exists().where(worklist.c.study_instance_uid == uid)
    missing = select(uid).where(~is_placed, studies.c.state != SeriesState.PURGED.value, uid > last)
    found = connection.execute(missing.order_by(uid).limit(GROUP)).scalars().all()
    if not found:
        connection.execute(delete(tallies).where(tallies.c.name == UNPLACED))
        return False
    _place(connection, found)
    connection.execute(update(tallies).where(tallies.c.name == UNPLACED).values(subject=found[-1]))
    return True


def derive_places(connection: Connection, uids: Sequence[str]) -> Mapping[str, dict[str, Any]]:
    """Return what the worklist holds of each of these Studies; nothing of one that is unknown or was purged."""
    rows = connection.execute(_HERE, {"uids": uids}).mappings().all()
    here = {row["study_instance_uid"]: row for row in rows if row["state"] != SeriesState.PURGED.value}
    if not here:
        return {}
    evidence = _find_evidence(connection, here)
    return {uid: _derive(row, evidence) for uid, row in here.items()}


def answers_of(connection: Connection, uids: Iterable[str]) -> Mapping[str, Sequence[Answer]]:
    """Return the Job that counts of each Pipeline, by Study: the last one, but for superseded ones and shadows."""
    last: dict[tuple[str, str], RowMapping] = {}
    for row in connection.execute(_JOBS, {"uids": list(uids)}).mappings():
        if row["reason_code"] != SUPERSEDED and not row["is_shadow"]:
            last[row["study_instance_uid"], row["pipeline"]] = row
    seen = [row["job_id"] for row in last.values() if row["state"] == JobState.COMPLETED.value]
    struck = _struck(connection, seen) if seen else {}
    found: dict[str, list[Answer]] = defaultdict(list)
    for (uid, _), row in last.items():
        found[uid].append(_to_answer(row, struck.get(row["job_id"])))
    return found


def is_given_up(row: RowMapping) -> bool:
    """Return whether the findings of a Job were given up; False where the row is none of `WITH_FATE`.

    Until the purge ends they are still there.
    """
    return row["state"] == JobState.COMPLETED.value and not row["findings"] and bool(row.get("has_purged"))


def is_outdated(answer: Answer) -> bool:
    """Return whether an answer stands that is of an earlier version of an Instance."""
    is_answered = answer.row["state"] == JobState.COMPLETED.value and not answer.is_withdrawn
    return is_answered and not answer.is_given_up and answer.row["outdated_at"] is not None


def words_of(keys: Mapping[Any, Any]) -> list[str]:
    """Return the words of Patient's Name, Patient ID and Accession Number, folded, each once."""
    texts = (keys["patient_name"], fold_name(keys["patient_id"]), fold_name(keys["accession_number"]))
    found = (word[:MAX_LETTERS] for text in texts for word in text.replace("=", "^").split("^") if word)
    return list(dict.fromkeys(found))[:MAX_WORDS]


def _place(connection: Connection, uids: Sequence[str]) -> None:
    derived = derive_places(connection, uids)
    known = {row["study_instance_uid"]: dict(row) for row in connection.execute(_KNOWN, {"uids": uids}).mappings()}
    for uid in uids:
        place, before = derived.get(uid), known.get(uid)
        if before is None:
            if place is not None:
                made = insert(worklist).values(**place).returning(worklist.c.place_id)
                _write_words(connection, connection.execute(made).scalar_one(), place["words"])
            continue
        place_id = before.pop("place_id")
        if place == before:
            continue
        if place is None or place["words"] != before["words"]:
            connection.execute(delete(worklist_words).where(*_words_at(place_id, before["words"])))
        if place is None:
            connection.execute(delete(worklist).where(worklist.c.place_id == place_id))
            continue
        connection.execute(update(worklist).where(worklist.c.place_id == place_id).values(**place))
        if place["words"] != before["words"]:
            _write_words(connection, place_id, place["words"])


def _write_words(connection: Connection, place_id: int, words: str) -> None:
    rows = [{"word": word, "place_id": place_id} for word in words.split()]
    if rows:
        connection.execute(insert(worklist_words), rows)


def _words_at(place_id: int, words: str) -> tuple[Any, ...]:
    return worklist_words.c.word.in_(words.split()), worklist_words.c.place_id == place_id


def _find_evidence(connection: Connection, here: Mapping[str, RowMapping]) -> _Evidence:
    answers = answers_of(connection, list(here))
    modalities: dict[str, set[str]] = defaultdict(set)
    for uid, modality in connection.execute(_MODALITIES, {"uids": list(here)}):
        modalities[uid].add(modality)
    routed = [uid for uid, row in here.items() if row["state"] == SeriesState.ROUTED.value]
    outcomes: dict[str, set[str]] = defaultdict(set)
    unanswered = [uid for uid in routed if uid not in answers]
    for uid, revision, outcome in connection.execute(_OUTCOMES, {"uids": unanswered}) if unanswered else ():
        if revision == here[uid]["revision"]:
            outcomes[uid].add(outcome)
    found = connection.execute(_PRIORS, {"uids": unanswered}).scalars() if unanswered else ()
    # Nothing goes anywhere before the Study was routed once.
    sent = [*routed, *(uid for uid, row in here.items() if row["revision"] > 1 and uid not in routed)]
    failed = connection.execute(_FAILED, {"uids": sent}).scalars() if sent else ()
    return _Evidence(
        answers=answers,
        outcomes=outcomes,
        modalities=modalities,
        failed=frozenset(failed),
        priors=frozenset(found),
    )


def _derive(row: RowMapping, evidence: _Evidence) -> dict[str, Any]:
    uid = row["study_instance_uid"]
    answers, outcomes = evidence.answers.get(uid, ()), evidence.outcomes.get(uid, set())
    states = {answer.row["state"] for answer in answers}
    is_routed = row["state"] == SeriesState.ROUTED.value
    is_unanswered = is_routed and not answers
    is_undetermined = is_unanswered and Outcome.UNDETERMINED.value in outcomes
    opened_at: datetime = row["first_instance_at"]
    return {
        "study_instance_uid": uid,
        "priority": min((answer.row["priority"] for answer in answers), default=Priority.ROUTINE.value),
        "opened_at": opened_at,
        "modalities": join_modalities(evidence.modalities.get(uid, ())),
        "has_findings": any(answer.findings for answer in answers),
        "needs_person": (
            uid in evidence.failed or is_undetermined or any(_has_failed(one) or is_outdated(one) for one in answers)
        ),
        "is_unmatched": (
            is_unanswered and not is_undetermined and Outcome.MATCH.value not in outcomes and uid not in evidence.priors
        ),
        "is_pending": not is_routed or not states.isdisjoint(LIVE_STATES),
        "words": " ".join(words_of(row)) if row["patient_name"] is not None else "",
    }


def join_modalities(found: Iterable[str]) -> str:
    """Return those that a worklist is narrowed by, in a fixed order; OT where there is none."""
    known = set(found)
    return SEPARATOR.join(modality for modality in MODALITIES if modality in known) or OTHER


def _has_failed(answer: Answer) -> bool:
    return answer.row["state"] == JobState.CANCELED.value and answer.row["reason_code"] not in ORDERED


def _to_answer(row: RowMapping, struck: frozenset[str] | None) -> Answer:
    is_whole = struck is not None and not struck
    kept = [one for one in row["findings"] if not is_whole and one["label"] not in (struck or ())]
    # Whoever struck all of them has not said that there is nothing.
    is_withdrawn = is_whole or (bool(row["findings"]) and not kept)
    return Answer(
        row=row,
        findings=tuple(one for one in kept if has_presence(one, Presence.PRESENT)),
        undetermined=tuple(one for one in kept if has_presence(one, Presence.UNDETERMINED)),
        is_withdrawn=is_withdrawn,
        is_given_up=is_given_up(row),
    )


def _struck(connection: Connection, job_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
    """Return the labels that were struck of the answers of Jobs; none of one that was taken back as a whole."""
    found: dict[str, list[Sequence[str]]] = defaultdict(list)
    for job_id, struck in connection.execute(_STRUCK, {"uids": job_ids}):
        found[job_id].append(struck)
    return {
        job_id: frozenset(label for struck in each for label in struck) if all(each) else frozenset()
        for job_id, each in found.items()
    }
