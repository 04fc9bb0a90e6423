"""Orders out of HL7 messages: ORM^O01 and OMI^O23 (HL7 v2.5.1 4.4.1, 4.4.6; IHE RAD TF-2 4.2, 4.4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from node.domain.imaging_order import ImagingOrder, OrderOrigin, OrderState
from node.domain.job import Priority
from node.domain.uids import check_uid
from node.errors import BadIdentifier, MessageRefused, MessageUnsupported
from node.hl7.reader import (
    DATA_TYPE_ERROR,
    FIELD_MISSING,
    SEQUENCE_ERROR,
    VALUE_UNKNOWN,
    Message,
    Segment,
    part_of,
)

TYPE_UNSUPPORTED, EVENT_UNSUPPORTED, PROCESSING_UNSUPPORTED, VERSION_UNSUPPORTED = 200, 201, 202, 203
# Message type to trigger event (MSH-9).
TAKEN = {"ORM": "O01", "OMI": "O23"}
# Order Control (ORC-1, HL7 table 0119): new and changed orders, and those that are not wanted any more.
WANTED = frozenset(
    {"NW", "RO", "SN", "NA", "PA", "CH", "XO", "XX", "XR", "RU", "SC", "SR", "HD", "RL", "OK", "IP", "CM"}
)
UNWANTED = frozenset({"CA", "OC", "CR", "DC", "OD", "DR", "RP"})
# Order Status (ORC-5, HL7 table 0038) of one that is not wanted any more.
UNWANTED_STATUS = frozenset({"CA", "DC", "RP"})
# HL7 tables 0027 and 0485. T (timing critical) is about when the images are taken, not about how soon they are read.
PRIORITIES = {
    "S": Priority.STAT,
    "STAT": Priority.STAT,
    "A": Priority.HIGH,
    "ASAP": Priority.HIGH,
    "HIGH": Priority.HIGH,
    "P": Priority.HIGH,
    "C": Priority.HIGH,
    "R": Priority.ROUTINE,
    "ROUTINE": Priority.ROUTINE,
    "T": Priority.ROUTINE,
    "L": Priority.LOW,
    "LOW": Priority.LOW,
}
# Where a priority stands, the newest way first: segment, field, component.
PRIORITY_PLACES = (("TQ1", 9, 1), ("ORC", 7, 6), ("OBR", 27, 6), ("OBR", 5, 1))
TIME_PLACES = (("TQ1", 7, 1), ("ORC", 7, 4), ("OBR", 27, 4), ("OBR", 36, 1))
# Identifier Type Code (CX.5) of a patient's number at the hospital.
HOSPITAL_NUMBERS = frozenset({"MR", "PI", ""})
# What is longer is none.
MAX_TEXT, MAX_NUMBER = 200, 64
# HL7's names of code systems (table 0396) that DICOM calls otherwise.
SCHEMES = {"SNM3": "SCT", "SNOMED": "SCT", "SNOMED-CT": "SCT", "LOINC": "LN"}
UID_PLACES = (("IPC", 3), ("ZDS", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The segments of one order, from its ORC to the next."""

    order: Segment
    segments: tuple[Segment, ...]

    def first(self, name: str) -> Segment | None:
        """Return the first segment of this name."""
        return next((segment for segment in self.segments if segment.name == name), None)

    def text(self, name: str, field: int, component: int = 1) -> str:
        """Return a component of a field of the first segment of this name; empty where either is absent."""
        segment = self.first(name)
        return "" if segment is None else segment.text(field, component)


def read_orders(message: Message) -> tuple[ImagingOrder, ...]:
    """Return the orders of a message.

    Raises
    ------
    MessageUnsupported
        If it is of another kind, version or purpose.
    MessageRefused
        If it lacks what an order needs, or a field is not what it must be.
    """
    _check_header(message.header)
    patient_id, issuer = _read_patient(message)
    return tuple(_read_order(message, group, patient_id, issuer) for group in _groups(message))


def _check_header(header: Segment) -> None:
    kind, event = header.text(9, 1), header.text(9, 2)
    known = ", ".join(f"{one}^{trigger}" for one, trigger in TAKEN.items())
    if kind not in TAKEN:
        raise MessageUnsupported(f"the node takes {known}", header.place(9, 1), TYPE_UNSUPPORTED)
    if event and event != TAKEN[kind]:
        raise MessageUnsupported(f"the node takes {known}", header.place(9, 2), EVENT_UNSUPPORTED)
    if not header.text(10):
        raise MessageRefused("Message Control ID is absent", header.place(10), FIELD_MISSING)
    if header.text(11) not in {"P", ""}:
        # Training and debugging are not for a node that patients depend on.
        raise MessageUnsupported("the node takes messages of production (P)", header.place(11), PROCESSING_UNSUPPORTED)
    if header.text(12).partition(".")[0] not in {"2", ""}:
        raise MessageUnsupported("the node takes versions 2", header.place(12), VERSION_UNSUPPORTED)


def _read_patient(message: Message) -> tuple[str, str]:
    """Return the patient's number and who has given it."""
    segment = message.first("PID")
    if segment is None:
        raise MessageRefused("a PID segment is needed", "PID^1", SEQUENCE_ERROR)
    numbers = [one for one in segment.repetitions(3) if part_of(one, 1)]
    if not numbers:
        raise MessageRefused("the patient's number is absent", segment.place(3, 1), FIELD_MISSING)
    chosen = next((one for one in numbers if part_of(one, 5) in HOSPITAL_NUMBERS), numbers[0])
    issuer = part_of(chosen, 4).split(segment.separators.subcomponent)
    return _bounded(part_of(chosen, 1), segment, 3), issuer[0][:MAX_NUMBER]


def _groups(message: Message) -> Sequence[Group]:
    starts = [at for at, segment in enumerate(message.segments) if segment.name == "ORC"]
    if not starts:
        raise MessageRefused("an ORC segment is needed for each order", "ORC^1", SEQUENCE_ERROR)
    ends = [*starts[1:], len(message.segments)]
    found = [message.segments[start:end] for start, end in zip(starts, ends, strict=True)]
    return [Group(order=segments[0], segments=tuple(segments)) for segments in found]


def _read_order(message: Message, group: Group, patient_id: str, issuer: str) -> ImagingOrder:
    header, order = message.header, group.order
    placer, filler = _number(group, 2), _number(group, 3)
    if not placer and not filler:
        raise MessageRefused("neither a placer nor a filler order number", order.place(2, 1), FIELD_MISSING)
    sender = _sender(header)
    return ImagingOrder(
        identity=_identity(group, sender),
        origin=OrderOrigin.HL7,
        source=sender,
        state=_read_state(order),
        placer_order_number=placer,
        filler_order_number=filler,
        # Where nobody gives one, the number of whoever fills the order is it at most sites.
        accession_number=_short(group.text("IPC", 1)) or _short(group.text("OBR", 18)) or filler,
        study_instance_uid=_read_uid(group),
        patient_id=patient_id,
        patient_id_issuer=issuer,
        procedure_codes=tuple(dict.fromkeys(_codes(group))),
        procedure_text=(group.text("OBR", 4, 2) or group.text("OBR", 4, 5))[:MAX_TEXT],
        priority=_read_priority(group),
        requested_by=_person(group, "ORC", 12) or _person(group, "OBR", 16),
        requesting_service=(order.text(17, 2) or order.text(17, 1) or order.text(21, 1))[:MAX_TEXT],
        scheduled_at=next((at for at in _times(group) if at is not None), None),
        control_id=header.text(10)[:MAX_TEXT],
    )


def _identity(group: Group, sender: str) -> str:
    """Return what names the order in every message about it: the placer's number, else the filler's."""
    field, kind = (2, "placer") if _number(group, 2) else (3, "filler")
    return "|".join((OrderOrigin.HL7.value, kind, _namespace(group, field) or sender, _number(group, field)))


def _read_state(order: Segment) -> OrderState:
    control = order.text(1)
    if control in UNWANTED or (control in WANTED and order.text(5) in UNWANTED_STATUS):
        return OrderState.CANCELED
    if control in WANTED:
        return OrderState.ORDERED
    if not control:
        raise MessageRefused("Order Control is absent", order.place(1), FIELD_MISSING)
    raise MessageRefused("Order Control is none that the node takes", order.place(1), VALUE_UNKNOWN)


def _number(group: Group, field: int) -> str:
    """Return the placer (2) or filler (3) order number, which ORC and OBR share."""
    found = group.order.text(field) or group.text("OBR", field)
    return _bounded(found, group.order, field)


def _namespace(group: Group, field: int) -> str:
    return group.order.text(field, 2) or group.text("OBR", field, 2)


def _read_uid(group: Group) -> str:
    for name, field in UID_PLACES:
        segment = group.first(name)
        uid = "" if segment is None else segment.text(field)
        if segment is None or not uid:
            continue
        try:
            return check_uid(uid, keyword="StudyInstanceUID")
        except BadIdentifier as exc:
            raise MessageRefused("the Study Instance UID is none", segment.place(field), DATA_TYPE_ERROR) from exc
    return ""


def _codes(group: Group) -> Iterator[str]:
    for field in (4, 44):
        for code, scheme in ((1, 3), (4, 6)):
            value = group.text("OBR", field, code)
            if value:
                said = group.text("OBR", field, scheme) or "L"
                yield f"{SCHEMES.get(said.upper(), said)}:{value}"[:MAX_TEXT]


def _read_priority(group: Group) -> Priority | None:
    said = (group.text(name, field, component).upper() for name, field, component in PRIORITY_PLACES)
    return next((PRIORITIES[word] for word in said if word in PRIORITIES), None)


def _times(group: Group) -> Iterator[datetime | None]:
    for name, field, component in TIME_PLACES:
        segment = group.first(name)
        if segment is not None:
            yield segment.time(field, component)


def _person(group: Group, name: str, field: int) -> str:
    """Return a name (XCN) as people write it."""
    family, given = group.text(name, field, 2), group.text(name, field, 3)
    return " ".join(part for part in (given, family) if part)[:MAX_TEXT]


def _sender(header: Segment) -> str:
    return "/".join(part for part in (header.text(3), header.text(4)) if part)[:MAX_TEXT]


def _short(text: str) -> str:
    return text if len(text) <= MAX_NUMBER else ""


def _bounded(text: str, segment: Segment, field: int) -> str:
    if len(text) > MAX_NUMBER or not text.isprintable():
        raise MessageRefused(f"a number has at most {MAX_NUMBER} characters", segment.place(field), DATA_TYPE_ERROR)
    return text
