"""Unified Procedure Steps: those of our own Jobs, and those that others create, perform and watch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, update

from node.domain import workitem as ups
from node.domain.job import Job, JobState
from node.domain.workitem import DataSet, Workitem, code_item, element, moment
from node.domain.workitem_query import is_match
from node.errors import (
    NotAuthorized,
    PerformerUnreachable,
    TransactionWrong,
    WorkitemKnown,
    WorkitemUnknown,
    WrongState,
)
from node.ledger.engine import Desk, Engine
from node.ledger.interventions import Interventions
from node.ledger.job_workitems import Premises, pipeline_of, state_of, uid_of_job
from node.ledger.schema import workitems
from node.ledger.workitem_news import announce, describe_state, introduce, tell_assignment
from node.ledger.workitem_rows import find_job, find_row, find_workitem, list_candidates, load, study_of

NOWHERE = Premises()
# AE (PS3.5 6.2); a person's name is told as far as it fits.
MAX_AET = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A workitem that somebody creates.

    Attributes
    ----------
    pipelines
        Names of those that this node has: a workitem whose code is one of them is an order to us.
    """

    sop_instance_uid: str
    attributes: DataSet
    created_by: str
    pipelines: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """Somebody who does not perform a workitem wants it to end.

    Attributes
    ----------
    asked_by
        AE title, or how the audit trail names a person.
    information
        Reason For Cancellation (0074,1238), Contact URI (0074,100A), Contact Display Name (0074,100C), Procedure Step
        Discontinuation Reason Code Sequence (0074,100E); as far as they are given.
    """

    asked_by: str
    information: DataSet = field(default_factory=dict)


class WorkitemLedger(Desk):
    """Workitems; every operation is one transaction.

    Parameters
    ----------
    premises
        Where the Series and Results that workitems list can be had.
    """

    def __init__(self, engine: Engine, premises: Premises = NOWHERE) -> None:
        super().__init__(engine)
        self._premises = premises
        self._interventions = Interventions(engine)

    def create(self, draft: Draft, *, now: datetime) -> None:
        """Commit a new workitem in state SCHEDULED; one that is an order to us becomes a Job by and by.

        Raises
        ------
        WorkitemKnown
            If there is one of this SOP Instance UID.
        NotCreatedScheduled, AttributeMissing, AttributeEmpty, AttributeInvalid
            As `node.domain.workitem.check_creation`.
        """
        ups.check_creation(draft.attributes)
        uid, pipeline = draft.sop_instance_uid, pipeline_of(draft.attributes)
        filled = {**{tag: element(vr) for tag, vr in ups.CREATED_EMPTY.items()}, **draft.attributes}
        if not ups.text_of(filled, ups.WORKLIST_LABEL):
            filled[ups.WORKLIST_LABEL] = element("LO", ups.WORKLIST)
        with self.writing() as connection:
            if find_row(connection, uid) is not None or find_job(connection, uid) is not None:
                raise WorkitemKnown(f"workitem {uid} is here already; create each one once")
            connection.execute(
                insert(workitems).values(
                    sop_instance_uid=uid,
                    state=JobState.SCHEDULED.value,
                    attributes=json.dumps({**filled, ups.MODIFIED_AT: element("DT", moment(now))}),
                    study_instance_uid=study_of(draft.attributes) or None,
                    pipeline=pipeline if pipeline in draft.pipelines else None,
                    created_by=draft.created_by,
                    created_at=now,
                    changed_at=now,
                )
            )
            introduce(connection, find_workitem(connection, uid, self._premises), now=now)

    def find(self, sop_instance_uid: str) -> Workitem:
        """Return a workitem.

        Raises
        ------
        WorkitemUnknown
            If there is none of this SOP Instance UID.
        """
        with self.reading() as connection:
            return find_workitem(connection, sop_instance_uid, self._premises)

    def change(self, sop_instance_uid: str, attributes: DataSet, *, transaction_uid: str, now: datetime) -> None:
        """Commit attributes in the place of those that a workitem had.

        Parameters
        ----------
        transaction_uid
            Under which the caller performs it; empty: nobody performs it yet. One in `attributes` is not looked at.

        Raises
        ------
        WorkitemUnknown, WorkitemFinal, TransactionWrong, AttributeInvalid
            If it cannot be changed so.
        NotAuthorized
            If this node performs it.
        """
        given = {tag: value for tag, value in attributes.items() if tag != ups.TRANSACTION_UID}
        ups.check_change(given)
        with self.writing() as connection:
            row = _require_foreign(connection, sop_instance_uid, self._premises)
            ups.check_writer(JobState(row["state"]), row["transaction_uid"], transaction_uid)
            kept = load(row)
            changed = {**kept, **given, ups.MODIFIED_AT: element("DT", moment(now))}
            values = {"attributes": json.dumps(changed), "changed_at": now}
            of_workitem = workitems.c.sop_instance_uid == sop_instance_uid
            connection.execute(update(workitems).where(of_workitem).values(**values))
            _tell_change(connection, sop_instance_uid, given, now=now)

    def change_state(self, sop_instance_uid: str, *, wanted: str, transaction_uid: str, now: datetime) -> int:
        """Commit the state of a workitem; returns 0, or the warning that it had that state (PS3.4 CC.2.1.4).

        Parameters
        ----------
        wanted
            Procedure Step State (0074,1000).
        transaction_uid
            That under which the caller performs it, or will.

        Raises
        ------
        WorkitemUnknown, WorkitemFinal, WorkitemTaken, WorkitemNotStarted, WorkitemIncomplete, ScheduledByCreation,
        TransactionWrong, AttributeInvalid
            As table CC.1.1-2 has it.
        NotAuthorized
            If this node performs it.
        """
        uid = sop_instance_uid
        with self.writing() as connection:
            row = _require_foreign(connection, uid, self._premises)
            state, kept = JobState(row["state"]), load(row)
            warning = ups.next_state(state, wanted, held=row["transaction_uid"], given=transaction_uid)
            if warning:
                return warning
            ups.check_final(kept, JobState(wanted))
            if wanted == JobState.CANCELED:
                kept = _with_cancellation(kept, {}, now=now)
            move = _Move(state=JobState(wanted), attributes=kept, transaction_uid=transaction_uid)
            _make(connection, uid, move, now=now)
        return ups.SUCCESS

    def request_cancel(self, sop_instance_uid: str, request: CancelRequest, *, now: datetime) -> int:
        """Commit that somebody wants a workitem to end; returns 0, or the warning that it is CANCELED already.

        One that waits, and one that this node performs, is CANCELED; who performs another is told.

        Raises
        ------
        WorkitemUnknown, WorkitemCompleted
            If it cannot be canceled.
        PerformerUnreachable
            If nobody has subscribed to it.
        """
        uid = sop_instance_uid
        with self.reading() as connection:
            job = find_job(connection, uid)
        if job is not None:
            return self._cancel_job(job, request, now=now)
        with self.writing() as connection:
            row = find_row(connection, uid)
            if row is None:
                raise WorkitemUnknown(f"workitem {uid} is not here")
            state = JobState(row["state"])
            warning = ups.check_cancelable(state)
            if warning:
                return warning
            if state is JobState.SCHEDULED:
                kept = _with_cancellation(load(row), request.information, now=now)
                # No step goes from SCHEDULED to its end (PS3.4 CC.1.1): who watches hears of both ways.
                announce(connection, uid, ups.STATE_REPORT, describe_state(JobState.IN_PROGRESS, kept), now=now)
                _make(connection, uid, _Move(state=JobState.CANCELED, attributes=kept), now=now)
                return ups.SUCCESS
            told = {**request.information, ups.REQUESTING_AE: element("AE", request.asked_by[:MAX_AET])}
            if announce(connection, uid, ups.CANCEL_REQUESTED, told, now=now) == 0:
                raise PerformerUnreachable(f"nobody has subscribed to workitem {uid}; ask who performs it")
        return ups.SUCCESS

    def search(self, keys: DataSet, *, offset: int = 0, limit: int) -> tuple[Workitem, ...]:
        """Return workitems that match (see `is_match`), the youngest of others first, then those of Jobs."""
        with self.reading() as connection:
            candidates = list_candidates(connection, keys, self._premises)
            found = (one for one in candidates if is_match(one.attributes, keys))
            return tuple(islice(found, offset, offset + limit))

    def _cancel_job(self, job: Job, request: CancelRequest, *, now: datetime) -> int:
        warning = ups.check_cancelable(state_of(job))
        if warning:
            return warning
        reason = ups.text_of(request.information, ups.REASON_FOR_CANCELLATION)
        try:
            self._interventions.cancel_job(job.job_id, ordered_by=request.asked_by, reason=reason, now=now)
        except WrongState:
            # It ended meanwhile.
            with self.reading() as connection:
                found = find_job(connection, uid_of_job(job.job_id))
            return ups.check_cancelable(JobState.COMPLETED if found is None else found.state)
        return ups.SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    """What a workitem is from now on."""

    state: JobState
    attributes: DataSet
    transaction_uid: str | None = None


def _require_foreign(connection: Connection, uid: str, premises: Premises) -> RowMapping:
    """Return the row of a workitem that somebody else may perform."""
    row = find_row(connection, uid)
    if row is not None and row["pipeline"] is None:
        return row
    state = find_workitem(connection, uid, premises).state
    if state in ups.FINAL:
        ups.check_writer(state, None, "")
    if state is JobState.IN_PROGRESS:
        raise TransactionWrong(f"workitem {uid} is performed by this node, under a Transaction UID of its own")
    raise NotAuthorized(f"workitem {uid} is performed by this node itself; it can be canceled")


def _make(connection: Connection, uid: str, move: _Move, *, now: datetime) -> None:
    attributes = {**move.attributes, ups.MODIFIED_AT: element("DT", moment(now))}
    values: dict[str, Any] = {"state": move.state.value, "attributes": json.dumps(attributes), "changed_at": now}
    if move.transaction_uid is not None:
        values["transaction_uid"] = move.transaction_uid
    connection.execute(update(workitems).where(workitems.c.sop_instance_uid == uid).values(**values))
    announce(connection, uid, ups.STATE_REPORT, describe_state(move.state, attributes), now=now)


def _with_cancellation(attributes: Mapping[str, Any], information: DataSet, *, now: datetime) -> dict[str, Any]:
    """Return the attributes of a workitem that is CANCELED, with when and why as far as somebody said it.

    Both have a value when it ends (Final State X of PS3.4 table CC.2.5-3); what nobody said is said here.
    """
    items = ups.items_of(attributes, ups.PROGRESS_INFORMATION)
    unsaid = {
        ups.CANCELLATION_AT: element("DT", moment(now)),
        ups.DISCONTINUATION_CODE: element("SQ", code_item(*ups.UNSPECIFIED_REASON)),
    }
    given = {**(items[0] if items else {}), **information}
    said = {**unsaid, **{tag: value for tag, value in given.items() if tag not in unsaid or ups.values_of(given, tag)}}
    return {**attributes, ups.PROGRESS_INFORMATION: element("SQ", dict(sorted(said.items())))}


def _tell_change(connection: Connection, uid: str, given: DataSet, *, now: datetime) -> None:
    """Tell what subscribers hear of a change: progress, another performer, whether the input is there."""
    if ups.PROGRESS_INFORMATION in given:
        told = {ups.PROGRESS_INFORMATION: given[ups.PROGRESS_INFORMATION]}
        announce(connection, uid, ups.PROGRESS_REPORT, told, now=now)
    tell_assignment(connection, uid, given, now=now)
    if ups.INPUT_READINESS in given:
        row = find_row(connection, uid)
        if row is not None:
            announce(connection, uid, ups.STATE_REPORT, describe_state(JobState(row["state"]), load(row)), now=now)
