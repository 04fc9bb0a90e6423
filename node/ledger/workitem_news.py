"""What subscribers of workitems are told: one row for each of them, in the transaction that makes the news."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from node.domain import workitem as ups
from node.domain.job import JobState
from node.domain.workitem import DataSet, Workitem, element
from node.domain.workitem_query import is_match
from node.ledger.schema import subscriptions, workitem_events

WELL_KNOWN = (ups.GLOBAL, ups.FILTERED_GLOBAL)
ASSIGNMENT = (ups.STATION_NAME_CODE, ups.SCHEDULED_PERFORMERS)


def announce(
    connection: Connection, sop_instance_uid: str, event_type: int, information: DataSet, *, now: datetime
) -> int:
    """Tell everybody who has subscribed to a workitem; returns how many they are.

    Parameters
    ----------
    event_type
        Event Type ID (PS3.4 table CC.2.4-1).
    information
        Event Information.
    """
    of_workitem = select(subscriptions.c.aet).where(subscriptions.c.sop_instance_uid == sop_instance_uid)
    listeners = connection.execute(of_workitem).scalars().all()
    for aet in listeners:
        tell_one(connection, aet, sop_instance_uid, (event_type, information), now=now)
    return len(listeners)


def tell_one(
    connection: Connection, aet: str, sop_instance_uid: str, event: tuple[int, DataSet], *, now: datetime
) -> None:
    """Tell one subscriber an event: its type and its information."""
    event_type, information = event
    connection.execute(
        insert(workitem_events).values(
            aet=aet,
            sop_instance_uid=sop_instance_uid,
            event_type=event_type,
            information=json.dumps(information),
            at=now,
            send_at=now,
        )
    )


def enroll(connection: Connection, created: Workitem, *, now: datetime) -> None:
    """Subscribe everybody to a new workitem who wants to hear of every one, or of those like it."""
    wide = select(subscriptions).where(
        subscriptions.c.sop_instance_uid.in_(WELL_KNOWN), subscriptions.c.is_suspended.is_(False)
    )
    for row in connection.execute(wide).mappings().all():
        if is_match(created.attributes, json.loads(row["filter"] or "{}")):
            add_subscription(connection, row["aet"], created.sop_instance_uid, is_locked=row["is_locked"], now=now)


def introduce(connection: Connection, created: Workitem, *, now: datetime) -> None:
    """Tell of a new workitem whoever wants to hear of such, and who is to perform it where that is said.

    References
    ----------
    DICOM PS3.4 CC.2.4.3
    """
    uid = created.sop_instance_uid
    enroll(connection, created, now=now)
    announce(connection, uid, ups.STATE_REPORT, describe_state(created.state, created.attributes), now=now)
    named = {tag: created.attributes[tag] for tag in ASSIGNMENT if ups.values_of(created.attributes, tag)}
    tell_assignment(connection, uid, named, now=now)


def tell_assignment(connection: Connection, sop_instance_uid: str, attributes: DataSet, *, now: datetime) -> None:
    """Tell who is to perform a workitem, as far as `attributes` say it."""
    assigned = {tag: attributes[tag] for tag in ASSIGNMENT if tag in attributes}
    if assigned:
        announce(connection, sop_instance_uid, ups.ASSIGNED, assigned, now=now)


def add_subscription(
    connection: Connection, aet: str, sop_instance_uid: str, *, is_locked: bool, now: datetime
) -> bool:
    """Subscribe an AE to one workitem; returns whether it was not yet."""
    key = {"aet": aet, "sop_instance_uid": sop_instance_uid}
    if connection.execute(select(subscriptions.c.aet).filter_by(**key)).first() is not None:
        return False
    values: dict[str, Any] = {**key, "is_locked": is_locked, "subscribed_at": now}
    connection.execute(insert(subscriptions).values(**values))
    return True


def describe_state(state: JobState, attributes: DataSet) -> DataSet:
    """Return the information of a UPS State Report.

    References
    ----------
    DICOM PS3.4 table CC.2.4-1
    """
    told: dict[str, Any] = {
        ups.INPUT_READINESS: attributes.get(ups.INPUT_READINESS, element("CS", "READY")),
        ups.PROCEDURE_STEP_STATE: element("CS", state.value),
    }
    progress = ups.items_of(attributes, ups.PROGRESS_INFORMATION)
    if state is JobState.CANCELED and progress:
        for tag in (ups.REASON_FOR_CANCELLATION, ups.DISCONTINUATION_CODE):
            if tag in progress[0]:
                told[tag] = progress[0][tag]
    return dict(sorted(told.items()))
