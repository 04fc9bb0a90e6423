"""What the trail tells when a Study was removed for good (PS3.15 A.5.3.6)."""

from node.audit.message import Action, AuditedObject, AuditEvent, LifeCycle, ObjectKind, Participant, this_process
from node.domain.codes import APPLICATION, INSTANCES_ACCESSED, PATIENT_NUMBER, STUDY_INSTANCE_UID
from node.domain.retention import Purge


def study_purged(purge: Purge) -> AuditEvent:
    """Return that the node removed what it held of a Study, and by whose order."""
    count = sum(purge.sop_classes.values())
    study = AuditedObject(
        kind=ObjectKind.STUDY,
        id_type=STUDY_INSTANCE_UID,
        object_id=purge.study_instance_uid,
        life_cycle=LifeCycle.PERMANENT_ERASURE,
        sop_classes=purge.sop_classes,
    )
    patient = AuditedObject(kind=ObjectKind.PATIENT, id_type=PATIENT_NUMBER, object_id=purge.patient_id)
    return AuditEvent(
        kind="study-purged",
        event_id=INSTANCES_ACCESSED,
        action=Action.DELETE,
        text=f"{count} files of Study {purge.study_instance_uid} were removed: {purge.reason}",
        participants=(Participant(user_id=purge.ordered_by, is_requestor=True), this_process(APPLICATION)),
        objects=(study, patient),
        facts={"study_instance_uid": purge.study_instance_uid, "instances": count},
    )
