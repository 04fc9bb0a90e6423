"""The Patient of a Study as FHIR R4 resource."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from node.fhir.coding import Resource
from node.fhir.naming import resource_id

GENDERS = {"M": "male", "F": "female", "O": "other"}
DATE_LENGTH = 8


def build_patient(attributes: Mapping[str, Any]) -> Resource:
    """Return the Patient whom these attributes of a Study name; what the Study does not say is left out."""
    patient_id = str(attributes.get("PatientID") or "")
    patient: Resource = {"resourceType": "Patient", "id": resource_id("Patient", patient_id)}
    if patient_id:
        patient["identifier"] = [{"value": patient_id}]
    names = [_name(group) for group in str(attributes.get("PatientName") or "").split("=") if group.strip("^ ")]
    if names:
        patient["name"] = names
    born = to_date(attributes.get("PatientBirthDate"))
    if born is not None:
        patient["birthDate"] = born
    if attributes.get("PatientSex") in GENDERS:
        patient["gender"] = GENDERS[attributes["PatientSex"]]
    return patient


def to_date(value: object) -> str | None:
    """Return a DA as FHIR date; None when it is absent or no date (PS3.5 6.2)."""
    text = str(value or "")
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:DATE_LENGTH])).isoformat()
    except ValueError:
        return None


def _name(group: str) -> Resource:
    """Return a HumanName of one component group (PS3.5 6.2.1)."""
    family, given, middle, prefix, suffix = (group.split("^") + [""] * 5)[:5]
    parts = {
        "family": family.strip(),
        "given": [word.strip() for word in (given, middle) if word.strip()],
        "prefix": [prefix.strip()] if prefix.strip() else [],
        "suffix": [suffix.strip()] if suffix.strip() else [],
    }
    return {"text": " ".join(group.replace("^", " ").split()), **{key: value for key, value in parts.items() if value}}
