"""Orders out of FHIR R4 resources: ServiceRequest, Task, and Bundles that hold them with their Patient."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from node.domain.imaging_order import ImagingOrder, OrderOrigin, OrderState
from node.domain.job import Priority
from node.domain.uids import check_uid
from node.errors import BadIdentifier, ResourceRefused
from node.fhir.coding import DICOM_UID, SYSTEMS, Resource

SERVICE_REQUEST, TASK, PATIENT, BUNDLE = "ServiceRequest", "Task", "Patient", "Bundle"
KINDS = (SERVICE_REQUEST, TASK)
BUNDLE_TYPES = ("transaction", "collection", "batch")
SCHEMES = {system: scheme for scheme, system in SYSTEMS.items()}
UID_PREFIX = "urn:oid:"
# Codes of http://terminology.hl7.org/CodeSystem/v2-0203.
PLACER, FILLER, ACCESSION, MEDICAL_RECORD = "PLAC", "FILL", "ACSN", "MR"
PRIORITIES = {"routine": Priority.ROUTINE, "urgent": Priority.HIGH, "asap": Priority.HIGH, "stat": Priority.STAT}
# Of ServiceRequest.status and Task.status.
UNWANTED = frozenset({"revoked", "entered-in-error", "cancelled", "rejected", "failed"})
STATUSES = {
    SERVICE_REQUEST: frozenset({
        "draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown",
    }),
    TASK: frozenset({
        "draft", "requested", "received", "accepted", "rejected", "ready", "cancelled", "in-progress", "on-hold",
        "failed", "completed", "entered-in-error",
    }),
}  # fmt: skip
MAX_TEXT, MAX_NUMBER = 200, 64
MAX_ENTRIES, MAX_DEPTH = 200, 40
INSTANT = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One resource that is an order.

    Attributes
    ----------
    resource
        As it was given.
    """

    order: ImagingOrder
    resource: Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One element, and where it stands.

    Attributes
    ----------
    path
        FHIRPath of the element.
    around
        Every resource that a reference may mean, by how it is referred to.
    """

    value: Mapping[str, Any]
    path: str
    around: Mapping[str, Resource]

    def text(self, key: str, *, limit: int = MAX_TEXT) -> str:
        """Return a text; empty where it is absent."""
        value = self.value.get(key, "")
        if not isinstance(value, str):
            raise ResourceRefused("a text is expected", f"{self.path}.{key}")
        return value.strip()[:limit]

    def inner(self, key: str) -> "Place":
        """Return an element that is an object; an empty one where it is absent."""
        value = self.value.get(key, {})
        if not isinstance(value, Mapping):
            raise ResourceRefused("an object is expected", f"{self.path}.{key}", "structure")
        return replace(self, value=value, path=f"{self.path}.{key}")

    def each(self, key: str) -> Iterator["Place"]:
        """Yield the objects of a list; none where it is absent."""
        values = self.value.get(key, [])
        if not isinstance(values, list) or not all(isinstance(one, Mapping) for one in values):
            raise ResourceRefused("a list of objects is expected", f"{self.path}.{key}", "structure")
        for at, value in enumerate(values):
            yield replace(self, value=value, path=f"{self.path}.{key}[{at}]")


def read_json(encoded: bytes) -> Resource:
    """Return a resource.

    Raises
    ------
    ResourceRefused
        If it is none.
    """
    try:
        found = json.loads(encoded)
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError) as exc:
        raise ResourceRefused("the body is no JSON", kind="structure") from exc
    if not isinstance(found, dict) or not isinstance(found.get("resourceType"), str):
        raise ResourceRefused("the body is no FHIR resource: it has no resourceType", kind="structure")
    return found


def read_given(resource: Resource, wanted: Sequence[str]) -> tuple[Given, ...]:
    """Return the orders in a resource.

    Parameters
    ----------
    wanted
        Which resources it may be.

    Raises
    ------
    ResourceRefused
        If it is another one, or lacks what an order needs; the expression says where.
    """
    kind = resource["resourceType"]
    if kind not in wanted:
        raise ResourceRefused(f"one of {', '.join(wanted)} is expected here", "resourceType", "not-supported")
    if kind != BUNDLE:
        return (_read_one(Place(value=resource, path=kind, around=_contained(resource))),)
    return _read_bundle(Place(value=resource, path=BUNDLE, around={}))


def _read_bundle(bundle: Place) -> tuple[Given, ...]:
    if bundle.text("type") not in BUNDLE_TYPES:
        raise ResourceRefused(f"one of {', '.join(BUNDLE_TYPES)} is expected", "Bundle.type", "not-supported")
    entries = list(bundle.each("entry"))
    if len(entries) > MAX_ENTRIES:
        raise ResourceRefused(f"at most {MAX_ENTRIES} entries are taken", "Bundle.entry", "not-supported")
    around: dict[str, Resource] = {}
    for entry in entries:
        resource = dict(entry.inner("resource").value)
        method = entry.inner("request").text("method")
        if method and method not in {"POST", "PUT"}:
            raise ResourceRefused("only POST and PUT are taken", f"{entry.path}.request.method", "not-supported")
        names = (entry.text("fullUrl"), f"{resource.get('resourceType')}/{resource.get('id')}")
        around |= {name: resource for name in names if name}
    orders = [entry.inner("resource") for entry in entries if entry.inner("resource").text("resourceType") in KINDS]
    if not orders:
        raise ResourceRefused("a ServiceRequest or Task is needed", "Bundle.entry", "required")
    return tuple(_read_one(replace(one, around={**around, **_contained(one.value)})) for one in orders)


def _read_one(place: Place) -> Given:
    kind = place.text("resourceType")
    status = place.text("status")
    if status not in STATUSES[kind]:
        raise ResourceRefused(f"status is none of {kind}", f"{place.path}.status", "value" if status else "required")
    numbers = _read_numbers(place)
    patient_id, issuer = _read_patient(place, "subject" if kind == SERVICE_REQUEST else "for")
    about = _read_about(place) if kind == TASK else place
    urgency = _read_priority(place)
    order = ImagingOrder(
        identity=_identity(place, kind),
        origin=OrderOrigin.FHIR,
        source="",
        state=OrderState.CANCELED if status in UNWANTED else OrderState.ORDERED,
        placer_order_number=numbers.get(PLACER, ""),
        filler_order_number=numbers.get(FILLER, ""),
        accession_number=numbers.get(ACCESSION, ""),
        study_instance_uid=numbers.get(DICOM_UID, ""),
        patient_id=patient_id,
        patient_id_issuer=issuer,
        procedure_codes=tuple(_read_codes(about.inner("code"))),
        procedure_text=about.inner("code").text("text") or about.text("description"),
        priority=urgency if urgency is not None else _read_priority(about),
        requested_by=place.inner("requester").text("display"),
        requesting_service=_read_service(place),
        scheduled_at=_read_time(about),
    )
    return Given(order=order, resource=dict(place.value))


def _identity(place: Place, kind: str) -> str:
    for one in place.each("identifier"):
        value = one.text("value", limit=MAX_NUMBER)
        if value and one.text("system") != DICOM_UID:
            return "|".join((OrderOrigin.FHIR.value, kind, one.text("system"), _type_of(one), value))
    raise ResourceRefused("an order needs an identifier", f"{place.path}.identifier", "required")


def _read_numbers(place: Place) -> dict[str, str]:
    """Return the numbers of an order by what they are; those of what a Task is about, too."""
    found: dict[str, str] = {}
    for one in _identifiers(place):
        value = one.text("value")
        kind = DICOM_UID if one.text("system") == DICOM_UID else _type_of(one)
        if kind == DICOM_UID:
            value = value.removeprefix(UID_PREFIX)
            try:
                check_uid(value, keyword="StudyInstanceUID")
            except BadIdentifier as exc:
                raise ResourceRefused("a DICOM UID is expected behind urn:oid:", f"{one.path}.value") from exc
        if len(value) > MAX_NUMBER:
            raise ResourceRefused(f"a number has at most {MAX_NUMBER} characters", f"{one.path}.value")
        found.setdefault(kind, value)
    if not found.keys() & {ACCESSION, DICOM_UID}:
        expected = "an identifier of type ACSN, or one of system urn:dicom:uid, is needed to find the Study"
        raise ResourceRefused(expected, f"{place.path}.identifier", "required")
    return found


def _identifiers(place: Place) -> Iterator[Place]:
    yield from place.each("identifier")
    if place.text("resourceType") == TASK:
        for reference in (place.inner("focus"), *place.each("basedOn")):
            if "identifier" in reference.value:
                yield reference.inner("identifier")
        yield from _read_about(place).each("identifier")


def _read_about(task: Place) -> Place:
    """Return the ServiceRequest that a Task is about, where it came along; else the Task itself."""
    for reference in (task.inner("focus"), *task.each("basedOn")):
        found = task.around.get(reference.text("reference"))
        if found is not None and found.get("resourceType") == SERVICE_REQUEST:
            return replace(task, value=found, path=f"{reference.path}.resolve()")
    return task


def _read_patient(place: Place, key: str) -> tuple[str, str]:
    """Return the patient's number and who has given it."""
    reference = place.inner(key)
    path = reference.path
    found = place.around.get(reference.text("reference"))
    if found is not None:
        patient = replace(reference, value=found, path=f"{path}.resolve()")
        numbers = [one for one in patient.each("identifier") if one.text("value")]
        chosen = next((one for one in numbers if _type_of(one) == MEDICAL_RECORD), numbers[0] if numbers else None)
    else:
        chosen = reference.inner("identifier")
    if chosen is None or not chosen.text("value"):
        expected = "the patient's number is needed: identifier, or a Patient that comes along with one"
        raise ResourceRefused(expected, path, "required")
    issuer = chosen.inner("assigner").text("display") or chosen.text("system")
    return chosen.text("value", limit=MAX_NUMBER), issuer[:MAX_NUMBER]


def _read_codes(concept: Place) -> Iterator[str]:
    for coding in concept.each("coding"):
        system, code = coding.text("system"), coding.text("code")
        if code:
            yield f"{SCHEMES.get(system, system.rpartition('/')[2] or 'L')}:{code}"


def _read_priority(place: Place) -> Priority | None:
    word = place.text("priority")
    if word and word not in PRIORITIES:
        raise ResourceRefused(f"one of {', '.join(PRIORITIES)} is expected", f"{place.path}.priority")
    return PRIORITIES.get(word)


def _read_service(place: Place) -> str:
    """Return the department of whoever wants the images, where it comes along."""
    found = place.around.get(place.inner("requester").text("reference"), {})
    about = replace(place, value=found, path=f"{place.path}.requester.resolve()")
    if found.get("resourceType") == "Organization":
        return about.text("name")
    return about.inner("organization").text("display")


def _read_time(place: Place) -> datetime | None:
    value = place.text("occurrenceDateTime")
    if not value:
        return None
    if not INSTANT.match(value):
        raise ResourceRefused("a dateTime is expected", f"{place.path}.occurrenceDateTime")
    padded = value + "-01-01"[len(value) - len("2025") :] if len(value) < len("2025-01-01") else value
    try:
        found = datetime.fromisoformat(padded)
    except ValueError as exc:
        raise ResourceRefused("a dateTime is expected", f"{place.path}.occurrenceDateTime") from exc
    return found if found.tzinfo is not None else found.astimezone()


def _type_of(identifier: Place) -> str:
    return next((coding.text("code") for coding in identifier.inner("type").each("coding")), "")


def _contained(resource: Mapping[str, Any]) -> dict[str, Resource]:
    held = resource.get("contained", [])
    found = held if isinstance(held, list) else []
    return {f"#{one['id']}": one for one in found if isinstance(one, dict) and isinstance(one.get("id"), str)}
