"""What the trail tells: each event of PS3.15 A.5.3 that radnode has, built from what happened."""

from collections.abc import Mapping
from dataclasses import dataclass

from node.audit.message import (
    Action,
    AuditedObject,
    AuditEvent,
    LifeCycle,
    ObjectKind,
    Outcome,
    Participant,
    this_process,
)
from node.domain.codes import (
    APPLICATION,
    APPLICATION_ACTIVITY,
    APPLICATION_LAUNCHER,
    APPLICATION_START,
    APPLICATION_STOP,
    AUDIT_LOG_USED,
    AUDIT_RECORDING_STOPPED,
    BEGIN_TRANSFERRING,
    DESTINATION_MEDIA,
    DESTINATION_ROLE,
    EXPORT,
    INSTANCES_ACCESSED,
    INSTANCES_TRANSFERRED,
    NODE_AUTHENTICATION,
    NODE_ID,
    PATIENT_NUMBER,
    SECURITY_ALERT,
    SOURCE_ROLE,
    STUDY_INSTANCE_UID,
    URI,
    URI_MEDIA,
    USE_OF_RESTRICTED_FUNCTION,
    Code,
)
from node.domain.study import InstanceFacts
from node.domain.uids import StudyUID

ALERT_DETAIL = "Alert Description"  # PS3.15 A.5.3.11
AUDIT_LOG_NAME = "Security Audit Log"  # PS3.15 A.5.3.2
ASSOCIATION_REFUSED = "association-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that was refused to somebody.

    Attributes
    ----------
    kind
        Kind of the event, kebab-case: ``instance-refused``.
    code
        Why, in constant words: the code of an error, or the outcome as the log has it; what a flood has in common.
    text
        One sentence for people, without patient values.
    peer
        Address that it came from; empty where nobody knows.
    calling_aet
        AE title that the peer gave; empty where it gave none.
    count
        How many alike this one stands for.
    study_instance_uid
        The Study in whose time line a person looks for it; None where none is concerned, or known.
    """

    kind: str
    code: str
    text: str
    peer: str = ""
    calling_aet: str = ""
    count: int = 1
    study_instance_uid: StudyUID | None = None


def stranger_refused(host: str) -> Notice:
    """Return that somebody at `host` tried to connect, from outside of the allowed networks."""
    text = f"{host} is not in security.allowed_networks; add its network there if it may send"
    return Notice(kind="connection-refused", code="network not allowed", text=text, peer=host)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """The other end of a transfer.

    Attributes
    ----------
    name
        AE title, URL or folder: what people call it.
    is_media
        Whether it is a folder: Instances that go there leave the control of DICOM nodes.
    """

    name: str
    aet: str = ""
    address: str = ""
    is_media: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySubject:
    """Whose Study a transfer is about; the Patient ID goes into the trail and nowhere else."""

    study_instance_uid: StudyUID
    patient_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """Instances of one Study on their way between this node and another one.

    Attributes
    ----------
    is_incoming
        Whether this node receives them.
    """

    subject: StudySubject
    remote: Remote
    is_incoming: bool


def application_activity(*, is_start: bool, launcher: str) -> AuditEvent:
    """Return that the node started or stopped, and by whose account (PS3.15 A.5.3.1)."""
    starter = Participant(user_id=launcher, role=APPLICATION_LAUNCHER, is_requestor=True)
    word = "started" if is_start else "stopped"
    return AuditEvent(
        kind=f"node-{word}",
        event_id=APPLICATION_ACTIVITY,
        type_code=APPLICATION_START if is_start else APPLICATION_STOP,
        action=Action.EXECUTE,
        text=f"radnode {word}",
        participants=(this_process(APPLICATION), starter),
    )


def audit_log_used(folder_uri: str, *, account: str) -> AuditEvent:
    """Return that a person read the trail (PS3.15 A.5.3.2)."""
    log = AuditedObject(kind=ObjectKind.SECURITY_RESOURCE, id_type=URI, object_id=folder_uri, name=AUDIT_LOG_NAME)
    return AuditEvent(
        kind="audit-log-used",
        event_id=AUDIT_LOG_USED,
        action=Action.READ,
        text=f"{account} read the audit trail",
        participants=(Participant(user_id=account, is_requestor=True),),
        objects=(log,),
    )


def security_alert(notice: Notice) -> AuditEvent:
    """Return that something was refused; the node was not harmed by it (PS3.15 A.5.3.11)."""
    peer = Participant(
        user_id=notice.calling_aet or notice.peer or "unknown", aet=notice.calling_aet, address=notice.peer
    )
    subject = AuditedObject(
        kind=ObjectKind.SECURITY_RESOURCE,
        id_type=NODE_ID,
        object_id=notice.peer or notice.calling_aet or "unknown",
        detail=(ALERT_DETAIL, notice.text),
    )
    is_about_identity = notice.kind == ASSOCIATION_REFUSED
    return AuditEvent(
        kind=notice.kind,
        event_id=SECURITY_ALERT,
        type_code=NODE_AUTHENTICATION if is_about_identity else USE_OF_RESTRICTED_FUNCTION,
        action=Action.EXECUTE,
        outcome=Outcome.MINOR_FAILURE,
        text=notice.text,
        participants=(this_process(), peer),
        objects=(subject,),
        facts={"code": notice.code, "peer": notice.peer, "calling_aet": notice.calling_aet, "count": notice.count},
    )


def records_lost(count: int) -> AuditEvent:
    """Return that the trail could not be written for some time (PS3.15 A.5.3.11)."""
    return AuditEvent(
        kind="audit-records-lost",
        event_id=SECURITY_ALERT,
        type_code=AUDIT_RECORDING_STOPPED,
        action=Action.EXECUTE,
        outcome=Outcome.SERIOUS_FAILURE,
        text=f"{count} records could not be written before this one; the log has the reason",
        participants=(this_process(),),
        facts={"count": count},
    )


def transfer_begun(movement: Movement) -> AuditEvent:
    """Return that the first Instance of a Study was taken (PS3.15 A.5.3.3)."""
    return _transfer(movement, BEGIN_TRANSFERRING, Action.EXECUTE, kind="transfer-begun", sop_classes={})


def transfer_ended(movement: Movement, sop_classes: Mapping[str, int]) -> AuditEvent:
    """Return how many Instances of a Study were taken (PS3.15 A.5.3.7; into a folder: A.5.3.4)."""
    if movement.remote.is_media:
        return _transfer(movement, EXPORT, Action.READ, kind="study-exported", sop_classes=sop_classes)
    if movement.is_incoming:
        return _transfer(movement, INSTANCES_TRANSFERRED, Action.CREATE, kind="study-received", sop_classes=sop_classes)
    return _transfer(movement, INSTANCES_TRANSFERRED, Action.READ, kind="study-sent", sop_classes=sop_classes)


def results_retracted(
    subject: StudySubject, sop_classes: Mapping[str, int], *, account: str, title: Code
) -> AuditEvent:
    """Return that a person took Results back; they stay, and count as deleted (PS3.15 A.5.3.6, IHE RAD IOCM).

    Parameters
    ----------
    title
        Why, as the rejection note is titled.
    """
    count = sum(sop_classes.values())
    return AuditEvent(
        kind="results-retracted",
        event_id=INSTANCES_ACCESSED,
        type_code=title,
        action=Action.DELETE,
        text=f"{account} took back {count} Results of Study {subject.study_instance_uid}: {title.meaning}",
        participants=(Participant(user_id=account, is_requestor=True), this_process(APPLICATION)),
        objects=(_study(subject, sop_classes, LifeCycle.LOGICAL_DELETION), _patient(subject)),
        facts={"study_instance_uid": subject.study_instance_uid, "instances": count},
    )


def study_reprocessed(subject: StudySubject, *, account: str) -> AuditEvent:
    """Return that a person lets the node read a Study again (PS3.15 A.5.3.6)."""
    uid = subject.study_instance_uid
    return AuditEvent(
        kind="study-reprocessed",
        event_id=INSTANCES_ACCESSED,
        action=Action.READ,
        text=f"{account} lets the rules be asked again for Study {uid}",
        participants=(Participant(user_id=account, is_requestor=True), this_process(APPLICATION)),
        objects=(_study(subject, {}), _patient(subject)),
        facts={"study_instance_uid": uid},
    )


def version_deleted(facts: InstanceFacts) -> AuditEvent:
    """Return that the node erased a version of an Instance in whose place another one counts (PS3.15 A.5.3.6)."""
    subject = subject_of(facts)
    study = _study(subject, {facts.sop_class_uid: 1}, LifeCycle.PERMANENT_ERASURE)
    return AuditEvent(
        kind="version-deleted",
        event_id=INSTANCES_ACCESSED,
        action=Action.DELETE,
        text=f"a superseded version of Instance {facts.sop_instance_uid} was removed; its content was {facts.digest}",
        participants=(this_process(APPLICATION, is_requestor=True),),
        objects=(study, _patient(subject)),
        facts={"study_instance_uid": subject.study_instance_uid, "instances": 1},
    )


def subject_of(facts: InstanceFacts) -> StudySubject:
    """Return whose Study an Instance is of."""
    patient_id = str(facts.attributes.get("PatientID", ""))
    return StudySubject(study_instance_uid=facts.study_instance_uid, patient_id=patient_id)


def _transfer(
    movement: Movement, event_id: Code, action: Action, *, kind: str, sop_classes: Mapping[str, int]
) -> AuditEvent:
    remote, subject, is_incoming = movement.remote, movement.subject, movement.is_incoming
    count = sum(sop_classes.values())
    what = f"{count} Instances" if sop_classes else "the first Instance"
    direction = "from" if is_incoming else "to"
    # Whoever sends asks for the Association.
    there = Participant(
        user_id=remote.name,
        role=_remote_role(movement),
        aet=remote.aet,
        address=remote.address,
        is_requestor=is_incoming,
        media=URI_MEDIA if remote.is_media else None,
    )
    here = this_process(DESTINATION_ROLE if is_incoming else SOURCE_ROLE, is_requestor=not is_incoming)
    return AuditEvent(
        kind=kind,
        event_id=event_id,
        action=action,
        text=f"{what} of Study {subject.study_instance_uid} {direction} {remote.name}",
        participants=(there, here) if is_incoming else (here, there),
        objects=(_study(subject, sop_classes), _patient(subject)),
        facts={
            "study_instance_uid": subject.study_instance_uid,
            "instances": count or 1,
            direction: remote.name,
            "peer": remote.address,
        },
    )


def _remote_role(movement: Movement) -> Code:
    if movement.remote.is_media:
        return DESTINATION_MEDIA
    return SOURCE_ROLE if movement.is_incoming else DESTINATION_ROLE


def _study(subject: StudySubject, sop_classes: Mapping[str, int], life_cycle: LifeCycle | None = None) -> AuditedObject:
    return AuditedObject(
        kind=ObjectKind.STUDY,
        id_type=STUDY_INSTANCE_UID,
        object_id=subject.study_instance_uid,
        life_cycle=life_cycle,
        sop_classes=sop_classes,
    )


def _patient(subject: StudySubject) -> AuditedObject:
    return AuditedObject(kind=ObjectKind.PATIENT, id_type=PATIENT_NUMBER, object_id=subject.patient_id)
