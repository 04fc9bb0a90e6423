"""Priors: searches that Studies wait for, what was found, and what becomes of the Jobs that wait."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, case, delete, exists, func, insert, not_, null, select, update

from node.domain.completeness import REFUSED
from node.domain.fetch import FetchOrder, FetchReason, FetchState, FoundStudy
from node.domain.job import JobID, JobOrder, JobState
from node.domain.prior import PRIOR_ROLE, PriorState, PriorTerms, read_identity
from node.domain.series_summary import summarize_study
from node.domain.study import SeriesState, SoughtPriors, StudyFacts
from node.domain.uids import StudyUID
from node.ledger.engine import Desk
from node.ledger.fetches import add_fetches
from node.ledger.prior_marks import is_prior
from node.ledger.rows import add_event, to_instance
from node.ledger.schema import (
    fetches,
    instances,
    jobs,
    prior_searches,
    priors,
    series_entries,
    studies,
    study_entries,
)

# With this reason a SCHEDULED Job waits for its prior.
AWAITS_PRIOR = "awaits-prior"
PRIOR_HEARD = "prior-heard"
# From then on a Job waits for a worker.
SCHEDULED_ANEW = "job-scheduled"
UNDER_WAY = (PriorState.SOUGHT.value, PriorState.FETCHING.value)
AT_REST = (SeriesState.SETTLED.value, SeriesState.ROUTED.value)
# A source that could not be asked for so long is not asked any more.
GIVE_UP = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One search that is due.

    Attributes
    ----------
    identity
        Whose Study it is; see `node.domain.prior.read_identity`.
    study_date, study_time
        Of the Study that wants priors; empty where it tells none.
    """

    search_id: int
    study_instance_uid: StudyUID
    terms: PriorTerms
    identity: Mapping[str, frozenset[str]]
    study_date: str
    study_time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStudy:
    """An earlier Study that this node has.

    Attributes
    ----------
    is_complete
        False while its Instances may still come.
    """

    found: FoundStudy
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """An earlier Study that is to be read.

    Attributes
    ----------
    is_here
        Whether this node has it already; else it is fetched.
    """

    found: FoundStudy
    is_here: bool


class PriorLedger(Desk):
    """Searches for priors, from the order to their end."""

    def has_any(self) -> bool:
        """Return whether a search is under way."""
        found = exists().where(prior_searches.c.state.in_(UNDER_WAY))
        with self.reading() as connection:
            return bool(connection.execute(select(found)).scalar_one())

    def has_due(self, now: datetime) -> bool:
        """Return whether a source is to be asked for priors."""
        due = exists().where(prior_searches.c.state == PriorState.SOUGHT.value, prior_searches.c.look_at <= now)
        with self.reading() as connection:
            return bool(connection.execute(select(due)).scalar_one())

    def wanted_from(self, sources: Collection[str], *, now: datetime, limit: int) -> Sequence[Wanted]:
        """Return searches that are due at one of these sources, the longest waiting first."""
        due = (
            select(prior_searches)
            .where(
                prior_searches.c.state == PriorState.SOUGHT.value,
                prior_searches.c.look_at <= now,
                prior_searches.c.source.in_(sources),
            )
            .order_by(prior_searches.c.look_at, prior_searches.c.search_id)
            .limit(limit)
        )
        with self.reading() as connection:
            return [_to_wanted(connection, row) for row in connection.execute(due).mappings().all()]

    def next_look(self, sources: Collection[str]) -> datetime | None:
        """Return when one of these sources is to be asked next; None while nothing is."""
        soonest = func.min(prior_searches.c.look_at, type_=prior_searches.c.look_at.type)
        of_sources = prior_searches.c.state == PriorState.SOUGHT.value, prior_searches.c.source.in_(sources)
        with self.reading() as connection:
            return connection.execute(select(soonest).where(*of_sources)).scalar_one_or_none()

    def known_studies(self, wanted: Wanted) -> Sequence[KnownStudy]:
        """Return the Studies of this node that have the Patient ID of the one that wants priors."""
        entry = study_entries.c
        statement = (
            select(study_entries, studies.c.state)
            .join_from(study_entries, studies, studies.c.study_instance_uid == entry.study_instance_uid)
            .where(
                entry.patient_id.in_(wanted.identity["PatientID"]),
                entry.study_instance_uid != wanted.study_instance_uid,
                studies.c.state != SeriesState.PURGED.value,
            )
        )
        with self.reading() as connection:
            rows = connection.execute(statement).mappings().all()
            return [_to_known(connection, row) for row in rows]

    def record_found(self, wanted: Wanted, picks: Sequence[Pick], *, source: str, text: str, now: datetime) -> None:
        """Commit what was found, and order what is not here; the Study is asked about again when nothing is to come.

        Parameters
        ----------
        source
            Name of the peer under which Studies are fetched from it.
        text
            Why there is none, in words; empty where there is one.
        """
        uid = wanted.study_instance_uid
        missing = [pick.found for pick in picks if not pick.is_here]
        with self.writing() as connection:
            this = prior_searches.c.search_id == wanted.search_id
            state = connection.execute(select(prior_searches.c.state).where(this)).scalar_one_or_none()
            if state != PriorState.SOUGHT.value:
                return
            connection.execute(delete(priors).where(priors.c.search_id == wanted.search_id))
            for place, pick in enumerate(picks):
                _add_prior(connection, wanted.search_id, pick, place)
            add_fetches(connection, [_order(one, source, uid) for one in missing], now=now)
            if missing:
                connection.execute(update(prior_searches).where(this).values(state=PriorState.FETCHING.value))
                said = f"{len(picks)} from {source}, {len(missing)} of them fetched"
                add_event(connection, at=now, kind="prior-found", text=said, study_instance_uid=uid)
            else:
                _end(connection, wanted.search_id, uid, text=text, now=now)

    def postpone(self, wanted: Wanted, until: datetime) -> None:
        """Commit when a source is asked again."""
        this = prior_searches.c.search_id == wanted.search_id
        with self.writing() as connection:
            connection.execute(update(prior_searches).where(this).values(look_at=until))

    def advance(self, now: datetime) -> int:
        """End the searches of which nothing is to come, and tell those that are late; return how many moved."""
        with self.reading() as connection:
            found = select(prior_searches).where(prior_searches.c.state.in_(UNDER_WAY))
            rows = connection.execute(found.order_by(prior_searches.c.search_id)).mappings().all()
            ended = {row["search_id"]: _how_it_ends(connection, row, now) for row in rows}
        late = [row for row in rows if row["until"] <= now and not row["is_late"] and ended[row["search_id"]] is None]
        over = [row for row in rows if ended[row["search_id"]] is not None]
        if not late and not over:
            return 0
        with self.writing() as connection:
            for row in over:
                text = ended[row["search_id"]] or ""
                _end(connection, row["search_id"], row["study_instance_uid"], text=text, now=now)
            for row in late:
                _tell_late(connection, row, now=now)
        return len(late) + len(over)

    def next_late(self) -> datetime | None:
        """Return when the next search that is not over is late; None while none is under way."""
        soonest = func.min(prior_searches.c.until, type_=prior_searches.c.until.type)
        waiting = prior_searches.c.state.in_(UNDER_WAY), not_(prior_searches.c.is_late)
        with self.reading() as connection:
            return connection.execute(select(soonest).where(*waiting)).scalar_one_or_none()


def add_priors(connection: Connection, study: StudyFacts) -> StudyFacts:
    """Return the Study with its searches for priors and what is here of them; and whether it is itself one."""
    uid = study.study_instance_uid
    of_study = prior_searches.c.study_instance_uid == uid
    rows = connection.execute(select(prior_searches).where(of_study)).mappings().all()
    marked = select(studies.c.study_instance_uid).where(
        studies.c.study_instance_uid == uid, is_prior(studies.c.study_instance_uid)
    )
    is_marked = connection.execute(marked).first() is not None
    return replace(study, priors=tuple(_to_sought(connection, row) for row in rows), is_prior=is_marked)


def await_priors(connection: Connection, order: JobOrder, *, now: datetime) -> datetime | None:
    """Begin the search that an order waits for, unless it is under way, in the transaction.

    Returns
    -------
    datetime or None
        Until when the Job waits; None: it may start.
    """
    terms = order.awaits
    if terms is None:
        return None
    this = (
        prior_searches.c.study_instance_uid == order.study_instance_uid,
        prior_searches.c.terms_key == terms.key,
    )
    known = connection.execute(select(prior_searches).where(*this)).mappings().one_or_none()
    until = now + timedelta(seconds=terms.wait_s)
    values = {
        "state": PriorState.SOUGHT.value,
        "is_late": False,
        "text": "",
        "asked_at": now,
        "until": until,
        "look_at": now,
    }
    if known is None:
        connection.execute(
            insert(prior_searches).values(
                study_instance_uid=order.study_instance_uid,
                terms_key=terms.key,
                terms=terms.as_json(),
                source=terms.source,
                **values,
            )
        )
    elif PriorState(known["state"]).is_over:
        # What was found is here no more.
        _forget_found(connection, known["search_id"], order.study_instance_uid)
        connection.execute(update(prior_searches).where(*this).values(**values))
    else:
        until = known["until"]
    return until if until > now else None


def waiting_values(order: JobOrder, until: datetime | None) -> Mapping[str, Any]:
    """Return the values of a Job that waits for its prior; none of one that may start."""
    if until is None or order.awaits is None:
        return {}
    text = f"waits for {order.awaits.words} until {until:%H:%M:%S} UTC, and then starts without"
    return {"not_before": until, "reason_code": AWAITS_PRIOR, "reason_text": text}


def without_waiting() -> Mapping[str, Any]:
    """Return the values of a Job that waits for nothing any more; what else it ended of stays."""
    waits = jobs.c.reason_code == AWAITS_PRIOR
    return {
        "reason_code": case((waits, null()), else_=jobs.c.reason_code),
        "reason_text": case((waits, null()), else_=jobs.c.reason_text),
    }


def release_job(connection: Connection, job_id: JobID, order: JobOrder, *, now: datetime) -> bool:
    """Let a Job start that waits for a prior of which nothing is to come, in the transaction; False: it did not."""
    waiting = jobs.c.job_id == job_id, *_waits()
    released = connection.execute(update(jobs).where(*waiting).values(not_before=now, **without_waiting()))
    if released.rowcount:
        _tell(connection, order, job_id, SCHEDULED_ANEW, "it starts without a prior", now=now)
    return bool(released.rowcount)


def take_over(connection: Connection, order: JobOrder, until: datetime | None, *, now: datetime) -> JobID | None:
    """Give a Job that waits for its prior the question of `order`, in the transaction; return it, None: there is none.

    It never started, so it is asked with the prior, or with what came late of the Study itself, as if from the first.
    """
    waiting = connection.execute(
        select(jobs).where(
            jobs.c.study_instance_uid == order.study_instance_uid,
            jobs.c.pipeline == order.pipeline,
            jobs.c.model == order.model,
            jobs.c.model_version == order.model_version,
            *_waits(),
        )
    )
    same = [row for row in waiting.mappings().all() if _own(row["inputs"]) == _own(order.inputs)]
    if not same:
        return None
    job_id = JobID(same[0]["job_id"])
    values = {
        "content": order.content,
        "inputs": dict(order.inputs),
        "prior_study_instance_uid": order.prior_study_instance_uid,
        "rule": order.rule,
        "deliver_to": list(order.deliver_to),
        "is_shadow": order.is_shadow,
        **({"not_before": now, **without_waiting()} if until is None else waiting_values(order, until)),
    }
    connection.execute(update(jobs).where(jobs.c.job_id == job_id).values(**values))
    text = "its prior is here, and it starts with it" if PRIOR_ROLE in order.inputs else "it reads what came meanwhile"
    _tell(connection, order, job_id, SCHEDULED_ANEW if until is None else "job-changed", text, now=now)
    return job_id


def stir_wanting(connection: Connection, prior: StudyUID, *, now: datetime) -> None:
    """Let the rules be asked again of Studies whose prior has changed, in the transaction."""
    here = (
        select(prior_searches.c.study_instance_uid, priors.c.search_id)
        .join_from(priors, prior_searches, prior_searches.c.search_id == priors.c.search_id)
        .where(
            priors.c.study_instance_uid == prior,
            prior_searches.c.state == PriorState.HERE.value,
            priors.c.held != _held(),
        )
    )
    for row in connection.execute(here).all():
        this = priors.c.search_id == row.search_id, priors.c.study_instance_uid == prior
        connection.execute(update(priors).where(*this).values(held=_held()))
        _ask_again(connection, row.study_instance_uid, "its prior has changed", now=now)


def forget_searches(connection: Connection, study_instance_uid: StudyUID) -> None:
    """Forget what a Study wanted, in the transaction: it goes."""
    mine = select(prior_searches.c.search_id).where(prior_searches.c.study_instance_uid == study_instance_uid)
    connection.execute(delete(priors).where(priors.c.search_id.in_(mine.scalar_subquery())))
    connection.execute(delete(prior_searches).where(prior_searches.c.study_instance_uid == study_instance_uid))


def _tell(connection: Connection, order: JobOrder, job_id: JobID, kind: str, text: str, *, now: datetime) -> None:
    uid = order.study_instance_uid
    add_event(connection, at=now, kind=kind, text=text, study_instance_uid=uid, job_id=job_id)


def _waits() -> tuple[Any, ...]:
    return jobs.c.state == JobState.SCHEDULED.value, jobs.c.reason_code == AWAITS_PRIOR


def _own(inputs: Mapping[str, str]) -> Mapping[str, str]:
    return {role: uid for role, uid in inputs.items() if role != PRIOR_ROLE}


def _held() -> Any:
    counted = select(func.count()).select_from(instances)
    return counted.where(instances.c.study_instance_uid == priors.c.study_instance_uid).scalar_subquery()


def _to_wanted(connection: Connection, row: RowMapping) -> Wanted:
    uid = StudyUID(row["study_instance_uid"])
    headers = connection.execute(select(instances.c.attributes).where(instances.c.study_instance_uid == uid)).scalars()
    told = list(headers)
    first: Mapping[str, Any] = next((one for one in told if one.get("StudyDate")), {})
    return Wanted(
        search_id=row["search_id"],
        study_instance_uid=uid,
        terms=PriorTerms.from_json(row["terms"]),
        identity=read_identity(told),
        study_date=str(first.get("StudyDate") or ""),
        study_time=str(first.get("StudyTime") or ""),
    )


def _to_known(connection: Connection, row: RowMapping) -> KnownStudy:
    uid, told = StudyUID(row["study_instance_uid"]), row["attributes"]
    of_study = series_entries.c.study_instance_uid == uid
    modalities = connection.execute(select(series_entries.c.modality).where(of_study).distinct()).scalars()
    found = FoundStudy(
        study_instance_uid=uid,
        patient_id=row["patient_id"],
        birth_date=str(told.get("PatientBirthDate") or ""),
        study_date=row["study_date"],
        study_time=str(told.get("StudyTime") or ""),
        modalities=tuple(sorted(modalities)),
    )
    return KnownStudy(found=found, is_complete=row["state"] in AT_REST)


def _to_sought(connection: Connection, row: RowMapping) -> SoughtPriors:
    state = PriorState(row["state"])
    return SoughtPriors(
        terms=PriorTerms.from_json(row["terms"]),
        state=state,
        until=row["until"],
        is_late=row["is_late"],
        text=row["text"],
        studies=tuple(_read_found(connection, row["search_id"])) if state is PriorState.HERE else (),
    )


def _read_found(connection: Connection, search_id: int) -> Iterable[StudyFacts]:
    found = select(priors.c.study_instance_uid).where(priors.c.search_id == search_id).order_by(priors.c.place)
    for uid in connection.execute(found).scalars().all():
        rows = connection.execute(select(instances).where(instances.c.study_instance_uid == uid)).mappings()
        facts = [to_instance(row) for row in rows]
        if facts:
            yield summarize_study(StudyUID(uid), facts)


def _add_prior(connection: Connection, search_id: int, pick: Pick, place: int) -> None:
    uid = pick.found.study_instance_uid
    counted = select(func.count()).select_from(instances).where(instances.c.study_instance_uid == uid)
    connection.execute(
        insert(priors).values(
            search_id=search_id,
            study_instance_uid=uid,
            place=place,
            is_fetched=not pick.is_here,
            held=connection.execute(counted).scalar_one(),
        )
    )


def _order(found: FoundStudy, source: str, on_behalf: StudyUID) -> FetchOrder:
    return FetchOrder(
        source=source,
        study_instance_uid=found.study_instance_uid,
        reason=FetchReason.PRIOR,
        on_behalf=on_behalf,
        instances=found.instances,
    )


def _how_it_ends(connection: Connection, row: RowMapping, now: datetime) -> str | None:
    """Return why a search brought nothing, empty where it brought something; None while something may come."""
    if row["state"] == PriorState.SOUGHT.value:
        is_given_up = now - row["asked_at"] >= GIVE_UP
        return f"{row['source']} could not be asked for a day" if is_given_up else None
    found = connection.execute(_fetches_of(row)).all()
    if not all(FetchState(one.state).is_final for one in found):
        return None
    failed = [one.reason_code for one in found if one.state == FetchState.CANCELED.value]
    return f"it did not come from {row['source']} ({failed[0] or 'canceled'})" if failed else ""


def _fetches_of(row: RowMapping) -> Any:
    wanted = select(priors.c.study_instance_uid).where(priors.c.search_id == row["search_id"], priors.c.is_fetched)
    return select(fetches.c.study_instance_uid, fetches.c.state, fetches.c.reason_code).where(
        fetches.c.reason == FetchReason.PRIOR.value,
        fetches.c.on_behalf == row["study_instance_uid"],
        fetches.c.study_instance_uid.in_(wanted.scalar_subquery()),
    )


def _end(connection: Connection, search_id: int, study_instance_uid: str, *, text: str, now: datetime) -> None:
    """End a search: what did not come whole is not read; the rules of its Study are asked again."""
    _drop_failed(connection, search_id, study_instance_uid)
    this, of_search = prior_searches.c.search_id == search_id, priors.c.search_id == search_id
    connection.execute(update(priors).where(of_search).values(held=_held()))
    is_here = connection.execute(select(exists().where(of_search, priors.c.held > 0))).scalar_one()
    state = PriorState.HERE if is_here else PriorState.ABSENT
    is_late = case((prior_searches.c.until <= now, True), else_=prior_searches.c.is_late)
    said = "" if is_here else text or "what was found is not here"
    connection.execute(update(prior_searches).where(this).values(state=state.value, text=said, is_late=is_late))
    _ask_again(connection, study_instance_uid, said or "a prior is here", now=now)


def _drop_failed(connection: Connection, search_id: int, study_instance_uid: str) -> None:
    canceled = select(fetches.c.study_instance_uid).where(
        fetches.c.reason == FetchReason.PRIOR.value,
        fetches.c.on_behalf == study_instance_uid,
        fetches.c.state == FetchState.CANCELED.value,
    )
    failed = priors.c.is_fetched, priors.c.study_instance_uid.in_(canceled.scalar_subquery())
    connection.execute(delete(priors).where(priors.c.search_id == search_id, *failed))


def _tell_late(connection: Connection, row: RowMapping, *, now: datetime) -> None:
    this = prior_searches.c.search_id == row["search_id"], prior_searches.c.state.in_(UNDER_WAY)
    told = connection.execute(update(prior_searches).where(*this).values(is_late=True))
    if told.rowcount:
        text = f"no prior came from {row['source']} in time; what comes late is read then"
        _ask_again(connection, row["study_instance_uid"], text, now=now)


def _ask_again(connection: Connection, study_instance_uid: str, text: str, *, now: datetime) -> None:
    """Let the rules be asked again of a Study; one that is open or settled is asked anyway."""
    uid = StudyUID(study_instance_uid)
    connection.execute(
        update(studies)
        .where(
            studies.c.study_instance_uid == uid,
            studies.c.state == SeriesState.ROUTED.value,
            not_(studies.c.reason.startswith(REFUSED, autoescape=True)),
        )
        .values(state=SeriesState.SETTLED.value, revision=studies.c.revision + 1, changed_at=now)
    )
    add_event(connection, at=now, kind=PRIOR_HEARD, text=text, study_instance_uid=uid)


def _forget_found(connection: Connection, search_id: int, study_instance_uid: StudyUID) -> None:
    """Forget what a search found and how it was fetched, so that it is fetched again."""
    of_study = studies.c.study_instance_uid == fetches.c.study_instance_uid
    is_here = exists().where(of_study, studies.c.state != SeriesState.PURGED.value)
    mine = fetches.c.reason == FetchReason.PRIOR.value, fetches.c.on_behalf == study_instance_uid
    connection.execute(delete(fetches).where(*mine, ~is_here))
    connection.execute(delete(priors).where(priors.c.search_id == search_id))
