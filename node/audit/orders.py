"""Orders of people that change what the node does, as the trail tells them."""

from node.audit.message import Action, AuditedObject, AuditEvent, ObjectKind, Participant, this_process
from node.domain.codes import NODE_ID, SECURITY_ALERT, SOFTWARE_CONFIGURATION, USE_OF_RESTRICTED_FUNCTION
from node.domain.switch import Switch


def pipeline_switched(switch: Switch) -> AuditEvent:
    """Return that a person switched a Pipeline on, into shadow, or off (PS3.15 A.5.3.11)."""
    subject = AuditedObject(kind=ObjectKind.SECURITY_RESOURCE, id_type=NODE_ID, object_id=switch.pipeline)
    return AuditEvent(
        kind="pipeline-switched",
        event_id=SECURITY_ALERT,
        type_code=SOFTWARE_CONFIGURATION,
        action=Action.EXECUTE,
        text=f"{switch.changed_by} switched pipeline {switch.pipeline}: {switch.mode.value}",
        participants=(Participant(user_id=switch.changed_by, is_requestor=True), this_process()),
        objects=(subject,),
        facts={"pipeline": switch.pipeline, "mode": switch.mode.value},
    )


def destination_tested(name: str, *, account: str) -> AuditEvent:
    """Return that a person lets the node call a Destination, to see what it answers (PS3.15 A.5.3.11)."""
    return AuditEvent(
        kind="destination-tested",
        event_id=SECURITY_ALERT,
        type_code=USE_OF_RESTRICTED_FUNCTION,
        action=Action.EXECUTE,
        text=f"{account} tests destination {name}",
        participants=(Participant(user_id=account, is_requestor=True), this_process()),
        objects=(AuditedObject(kind=ObjectKind.SECURITY_RESOURCE, id_type=NODE_ID, object_id=name),),
        facts={"destination": name},
    )


def pull_ordered(source: str, *, account: str, studies: int) -> AuditEvent:
    """Return that a person lets the node fetch Studies from a peer (PS3.15 A.5.3.11)."""
    text = f"{account} lets {studies} Studies be fetched from {source}"
    return _source_used("pull-ordered", source, account=account, text=text)


def pull_switched(source: str, *, account: str, is_paused: bool) -> AuditEvent:
    """Return that a person paused or resumed what is fetched from a peer (PS3.15 A.5.3.11)."""
    word = "paused" if is_paused else "resumed"
    return _source_used(f"pull-{word}", source, account=account, text=f"{account} {word} what is fetched from {source}")


def _source_used(kind: str, source: str, *, account: str, text: str) -> AuditEvent:
    return AuditEvent(
        kind=kind,
        event_id=SECURITY_ALERT,
        type_code=USE_OF_RESTRICTED_FUNCTION,
        action=Action.EXECUTE,
        text=text,
        participants=(Participant(user_id=account, is_requestor=True), this_process()),
        objects=(AuditedObject(kind=ObjectKind.SECURITY_RESOURCE, id_type=NODE_ID, object_id=source),),
        facts={"destination": source},
    )
