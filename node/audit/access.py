"""What the trail tells of people and programs that look at patients' data over HTTP."""

from collections.abc import Mapping, Sequence

from node.audit.events import StudySubject
from node.audit.message import (
    Action,
    AuditedObject,
    AuditEvent,
    ObjectKind,
    Outcome,
    Participant,
    this_process,
)
from node.domain.codes import (
    DESTINATION_MEDIA,
    DESTINATION_ROLE,
    EXPORT,
    INSTANCES_ACCESSED,
    INSTANCES_TRANSFERRED,
    PATIENT_NUMBER,
    QUERY,
    SOP_CLASS_UID,
    SOURCE_ROLE,
    STUDY_INSTANCE_UID,
    URI,
    URI_MEDIA,
)

# A search by QIDO-RS asks for what a C-FIND of this SOP Class asks for, and has none of its own (PS3.4 C.6.2).
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
# Unified Procedure Step - Query.
WORKITEM_FIND = "1.2.840.10008.5.1.4.34.6.5"


def study_viewed(subject: StudySubject, *, name: str, address: str) -> AuditEvent:
    """Return that somebody looked at pictures, headers or findings of a Study (PS3.15 A.5.3.6)."""
    uid = subject.study_instance_uid
    visitor = Participant(user_id=name, address=address, is_requestor=True)
    return AuditEvent(
        kind="study-viewed",
        event_id=INSTANCES_ACCESSED,
        action=Action.READ,
        text=f"{name} looks at Study {uid}",
        participants=(visitor, this_process(SOURCE_ROLE)),
        objects=_objects(subject, {}),
        facts={"study_instance_uid": uid, "visitor": name, "peer": address},
    )


def study_retrieved(subject: StudySubject, sop_classes: Mapping[str, int], *, name: str, address: str) -> AuditEvent:
    """Return that somebody takes Instances, Frames or bulk data of a Study away (PS3.15 A.5.3.7).

    Parameters
    ----------
    sop_classes
        SOP Class UID to number of Instances, of the request that is told.
    """
    uid = subject.study_instance_uid
    visitor = Participant(user_id=name, role=DESTINATION_ROLE, address=address, is_requestor=True)
    return AuditEvent(
        kind="study-retrieved",
        event_id=INSTANCES_TRANSFERRED,
        action=Action.READ,
        text=f"{name} retrieves from Study {uid}",
        participants=(this_process(SOURCE_ROLE), visitor),
        objects=_objects(subject, sop_classes),
        facts={"study_instance_uid": uid, "instances": sum(sop_classes.values()), "visitor": name, "peer": address},
    )


def instance_left_out(subject: StudySubject, sop_instance_uid: str, *, name: str, address: str) -> AuditEvent:
    """Return that somebody did not get an Instance, because its file cannot be read (PS3.15 A.5.3.7)."""
    uid = subject.study_instance_uid
    visitor = Participant(user_id=name, role=DESTINATION_ROLE, address=address, is_requestor=True)
    return AuditEvent(
        kind="instance-left-out",
        event_id=INSTANCES_TRANSFERRED,
        action=Action.READ,
        outcome=Outcome.MINOR_FAILURE,
        text=f"{name} did not get Instance {sop_instance_uid} of Study {uid}; it cannot be read",
        participants=(this_process(SOURCE_ROLE), visitor),
        objects=_objects(subject, {}),
        facts={"study_instance_uid": uid, "visitor": name, "peer": address},
    )


def studies_searched(attributes: Sequence[str], *, name: str, address: str) -> AuditEvent:
    """Return that somebody searched (PS3.15 A.5.3.10).

    Parameters
    ----------
    attributes
        Keywords of what was asked for. The values, which may be patients' names, are not told.
    """
    return _tell_search("studies-searched", "searches", STUDY_ROOT_FIND, attributes, name=name, address=address)


def workitems_searched(attributes: Sequence[str], *, name: str, address: str) -> AuditEvent:
    """Return that somebody looked for workitems, or at one (PS3.15 A.5.3.10).

    Parameters
    ----------
    attributes
        Tags of what was asked for. The values, which may be patients' names, are not told.
    """
    what = "looks for workitems"
    return _tell_search("workitems-searched", what, WORKITEM_FIND, attributes, name=name, address=address)


def table_exported(table: str, *, rows: int, name: str, address: str) -> AuditEvent:
    """Return that somebody took a table of the node's away, as a file (PS3.15 A.5.3.4).

    Parameters
    ----------
    table
        What its rows are: ``studies``.
    """
    visitor = Participant(user_id=name, role=DESTINATION_MEDIA, address=address, is_requestor=True, media=URI_MEDIA)
    listing = AuditedObject(
        kind=ObjectKind.SECURITY_RESOURCE,
        id_type=URI,
        object_id=f"urn:radnode:table:{table}",
        detail=("Rows", str(rows)),
    )
    return AuditEvent(
        kind="table-exported",
        event_id=EXPORT,
        action=Action.READ,
        text=f"{name} took away the table of {table}, {rows} rows",
        participants=(this_process(SOURCE_ROLE), visitor),
        objects=(listing,),
        facts={"table": table, "rows": rows, "visitor": name, "peer": address},
    )


def _tell_search(
    kind: str, what: str, sop_class_uid: str, attributes: Sequence[str], *, name: str, address: str
) -> AuditEvent:
    asked = "&".join(f"{attribute}=" for attribute in attributes)
    visitor = Participant(user_id=name, role=SOURCE_ROLE, address=address, is_requestor=True)
    query = AuditedObject(kind=ObjectKind.STUDY, id_type=SOP_CLASS_UID, object_id=sop_class_uid, query=asked or "*")
    return AuditEvent(
        kind=kind,
        event_id=QUERY,
        action=Action.EXECUTE,
        text=f"{name} {what} by {', '.join(attributes) or 'nothing'}",
        participants=(visitor, this_process(DESTINATION_ROLE)),
        objects=(query,),
        facts={"visitor": name, "peer": address},
    )


def _objects(subject: StudySubject, sop_classes: Mapping[str, int]) -> tuple[AuditedObject, ...]:
    study = AuditedObject(
        kind=ObjectKind.STUDY,
        id_type=STUDY_INSTANCE_UID,
        object_id=subject.study_instance_uid,
        sop_classes=sop_classes,
    )
    return study, AuditedObject(kind=ObjectKind.PATIENT, id_type=PATIENT_NUMBER, object_id=subject.patient_id)
