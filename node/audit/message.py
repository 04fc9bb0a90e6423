"""Audit messages: what happened, told in the XML of DICOM PS3.15 A.5.1."""

import os
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from xml.etree.ElementTree import Element, SubElement, tostring

from node.domain.codes import Code

# What XML 1.0 cannot hold, not even as a reference, and what would break a line.
UNSPEAKABLE = re.compile(r"[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
APPLICATION_SERVER = "4"  # Audit Source Type Code, PS3.15 A.5.1.2.1


class Action(StrEnum):
    """Event Action Code (PS3.15 A.5.2)."""

    CREATE = "C"
    READ = "R"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(StrEnum):
    """Event Outcome Indicator (PS3.15 A.5.2)."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"


class ObjectKind(StrEnum):
    """Participant Object Type Code and its Role, as one word (PS3.15 A.5.1.2.2)."""

    PATIENT = "1/1"
    STUDY = "2/3"
    SECURITY_RESOURCE = "2/13"


class LifeCycle(StrEnum):
    """Participant Object Data Life Cycle (PS3.15 A.5.1.2.3)."""

    LOGICAL_DELETION = "14"
    PERMANENT_ERASURE = "15"


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """A person or process that had a part in an event.

    Attributes
    ----------
    user_id
        Name of the account, number of the process, or what else tells the participant apart (PS3.15 A.5.2.1).
    aet
        AE title; empty where there is none.
    address
        IP address or host name; empty where nobody knows.
    media
        Type of the media where the participant is one.
    is_node
        Whether it is this node, whose AE title the source knows.
    """

    user_id: str
    role: Code | None = None
    aet: str = ""
    address: str = ""
    is_requestor: bool = False
    media: Code | None = None
    is_node: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who tells: this node.

    Attributes
    ----------
    source_id
        Audit Source ID.
    """

    source_id: str
    aet: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedObject:
    """What an event was about.

    Attributes
    ----------
    id_type
        Says what `object_id` is.
    name
        Participant Object Name; empty for a patient, whose name is not recorded.
    detail
        Type and text of a Participant Object Detail; None without.
    query
        What was searched for, in the place of a name.
    sop_classes
        SOP Class UID to number of Instances.
    """

    kind: ObjectKind
    id_type: Code
    object_id: str
    name: str = ""
    life_cycle: LifeCycle | None = None
    detail: tuple[str, str] | None = None
    query: str = ""
    sop_classes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One thing that the trail tells.

    Attributes
    ----------
    kind
        Our own word for it, kebab-case.
    text
        One sentence for people, without patient.
    facts
        What programs may look for, as it stands in the record beside the message; no patient.
    """

    kind: str
    event_id: Code
    action: Action
    text: str
    participants: tuple[Participant, ...]
    objects: tuple[AuditedObject, ...] = ()
    type_code: Code | None = None
    outcome: Outcome = Outcome.SUCCESS
    facts: Mapping[str, str | int | bool] = field(default_factory=lambda: MappingProxyType({}))


def encode_message(event: AuditEvent, *, source: Source, at: datetime) -> str:
    """Return the AuditMessage element, in one line.

    References
    ----------
    DICOM PS3.15 A.5.1
    """
    root = Element("AuditMessage")
    _add_identification(root, event, at)
    for participant in event.participants:
        aet = source.aet if participant.is_node else participant.aet
        _add_participant(root, participant, aet)
    audit_source = SubElement(root, "AuditSourceIdentification", {"AuditSourceID": speakable(source.source_id)})
    SubElement(audit_source, "AuditSourceTypeCode", {"csd-code": APPLICATION_SERVER})
    for audited in event.objects:
        _add_object(root, audited)
    return tostring(root, encoding="unicode")


def speakable(text: str) -> str:
    """Return `text` with what XML or a line cannot hold written as an escape."""
    return UNSPEAKABLE.sub(_escape, text)


def this_process(role: Code | None = None, *, is_requestor: bool = False) -> Participant:
    """Return the participant that this process is."""
    return Participant(user_id=str(os.getpid()), role=role, is_requestor=is_requestor, is_node=True)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _add_identification(root: Element, event: AuditEvent, at: datetime) -> None:
    facts = {
        "EventActionCode": event.action.value,
        "EventDateTime": at.isoformat(timespec="milliseconds"),
        "EventOutcomeIndicator": event.outcome.value,
    }
    identification = SubElement(root, "EventIdentification", facts)
    _add_code(identification, "EventID", event.event_id)
    if event.type_code is not None:
        _add_code(identification, "EventTypeCode", event.type_code)
    SubElement(identification, "EventOutcomeDescription").text = speakable(event.text)


def _add_participant(root: Element, participant: Participant, aet: str) -> None:
    facts = {"UserID": speakable(participant.user_id)}
    if aet:
        facts["AlternativeUserID"] = f"AETITLES={speakable(aet)}"
    facts["UserIsRequestor"] = "true" if participant.is_requestor else "false"
    if participant.address:
        is_ip = re.fullmatch(r"[0-9.]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*", participant.address) is not None
        facts["NetworkAccessPointID"] = speakable(participant.address)
        facts["NetworkAccessPointTypeCode"] = "2" if is_ip else "1"
    element = SubElement(root, "ActiveParticipant", facts)
    if participant.role is not None:
        _add_code(element, "RoleIDCode", participant.role)
    if participant.media is not None:
        _add_code(SubElement(element, "MediaIdentifier"), "MediaType", participant.media)


def _add_object(root: Element, audited: AuditedObject) -> None:
    type_code, role = audited.kind.split("/")
    facts = {
        "ParticipantObjectID": speakable(audited.object_id),
        "ParticipantObjectTypeCode": type_code,
        "ParticipantObjectTypeCodeRole": role,
    }
    if audited.life_cycle is not None:
        facts["ParticipantObjectDataLifeCycle"] = audited.life_cycle.value
    element = SubElement(root, "ParticipantObjectIdentification", facts)
    _add_code(element, "ParticipantObjectIDTypeCode", audited.id_type)
    # The schema wants a name or a query, if only an empty one.
    if audited.query:
        SubElement(element, "ParticipantObjectQuery").text = b64encode(audited.query.encode()).decode()
    else:
        SubElement(element, "ParticipantObjectName").text = speakable(audited.name)
    if audited.detail is not None:
        kind, text = audited.detail
        value = b64encode(text.encode("utf-8", "backslashreplace")).decode()
        SubElement(element, "ParticipantObjectDetail", {"type": kind, "value": value})
    if audited.sop_classes:
        description = SubElement(element, "ParticipantObjectDescription")
        for sop_class_uid, count in sorted(audited.sop_classes.items()):
            SubElement(description, "SOPClass", {"UID": speakable(sop_class_uid), "NumberOfInstances": str(count)})


def _add_code(parent: Element, name: str, code: Code) -> None:
    facts = {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning}
    SubElement(parent, name, facts)
