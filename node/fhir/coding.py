"""Coded concepts, identifiers and references as FHIR R4 writes them."""

from typing import Any

from node.domain.codes import Code
from node.domain.uids import derive_uid

Resource = dict[str, Any]

DCM = "http://dicom.nema.org/resources/ontology/DCM"
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
DICOM_UID = "urn:dicom:uid"
# Coding Scheme Designator to FHIR's name of the code system (PS3.16 8; HL7 terminology).
SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": DCM,
    "LN": LOINC,
    "UCUM": UCUM,
    "NCIt": "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl",
    "UMLS": "http://terminology.hl7.org/CodeSystem/umls",
}


def coding(code: Code) -> Resource:
    """Return a Coding; a local scheme gets a system of its own."""
    system = SYSTEMS.get(code.scheme) or f"urn:oid:{derive_uid('coding scheme', code.scheme)}"
    return {"system": system, "code": code.value, "display": code.meaning}


def concept(code: Code) -> Resource:
    """Return a CodeableConcept of one Coding."""
    return {"coding": [coding(code)], "text": code.meaning}


def dicom_uid(uid: str) -> Resource:
    """Return a DICOM UID as Identifier."""
    return {"system": DICOM_UID, "value": f"urn:oid:{uid}"}


def reference(resource: Resource, *, display: str | None = None) -> Resource:
    """Return a Reference to a resource of the same Bundle."""
    found: Resource = {"reference": full_url(resource), "type": resource["resourceType"]}
    return found if display is None else {**found, "display": display}


def full_url(resource: Resource) -> str:
    """Return the name by which the resources of a Bundle refer to each other."""
    return f"urn:uuid:{resource['id']}"
