"""Proof of the frame of an SR: the basics of a Measurement Report, units of UCUM, each number written once."""

from collections.abc import Iterator, Mapping, Sequence
from math import isclose

from pydicom import Dataset

from workers.proving.proof import Complaint, Contradiction, Unproven
from workers.proving.report_reading import ReadGroup, ReadMeasurement, read_name

MEASUREMENT_REPORT, MEASUREMENT_TEMPLATE = "126000", "1500"
LANGUAGE, PROCEDURE = "121049", "121058"
# Observer Type, Person Observer Name, Device Observer UID: one tells who observed.
OBSERVERS = frozenset({"121005", "121008", "121012"})
# Imaging Measurements, Derived Imaging Measurements, Qualitative Evaluations.
PARTS = frozenset({"126010", "126011", "C0034375"})
UCUM = "UCUM"
# Numeric Value is a DS of 16 characters, Floating Point Value an FD.
ROUNDING = 1e-4

LENGTHS_MM: Mapping[str, float] = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001}
VOLUMES_MM3: Mapping[str, float] = {"mm3": 1.0, "cm3": 1000.0, "ml": 1000.0, "mL": 1000.0, "l": 1e6, "L": 1e6}
HOUNSFIELD_UNITS: Mapping[str, float] = {"[hnsf'U]": 1.0}
# Code Values of a quantity, SNOMED CT beside what older objects write: SNOMED RT, DICOM, IBSI.
LENGTHS = frozenset({"103339001", "G-A185", "103340004", "G-A186", "81827009", "M-02550", "L0JK"})
VOLUMES = frozenset({"118565006", "G-D705", "121216", "RNU0"})
ATTENUATIONS = frozenset({"112031"})
QUANTITIES: tuple[tuple[frozenset[str], str, Mapping[str, float]], ...] = (
    (LENGTHS, "length", LENGTHS_MM),
    (VOLUMES, "volume", VOLUMES_MM3),
    (ATTENUATIONS, "attenuation", HOUNSFIELD_UNITS),
)


def prove_template(sr: Dataset) -> Iterator[Complaint]:
    """Yield what a Measurement Report lacks; of another template nothing is proven here.

    References
    ----------
    DICOM PS3.16 TID 1500, TID 1501
    """
    if read_name(sr) != MEASUREMENT_REPORT:
        yield Unproven(thing="content", reason="the document is no Imaging Measurement Report (126000, DCM)")
        return
    templates = [str(item.get("TemplateIdentifier")) for item in sr.get("ContentTemplateSequence") or ()]
    if templates != [MEASUREMENT_TEMPLATE]:
        yield Contradiction(
            thing="Template Identifier",
            expected=MEASUREMENT_TEMPLATE,
            found=templates[0] if templates else "none",
            remedy="Name the template, so that a reader knows where to look.",
        )
    names = [read_name(item) for item in sr.get("ContentSequence") or ()]
    needed = (
        ("language", frozenset({LANGUAGE})),
        ("observer", OBSERVERS),
        ("procedure reported", frozenset({PROCEDURE})),
        ("measurements or evaluations", PARTS),
    )
    for thing, codes in needed:
        if not codes.intersection(names):
            yield Contradiction(
                thing=thing,
                expected=f"a content item {' or '.join(sorted(codes))} in the root (TID 1500)",
                found="none",
                remedy="Add it.",
            )


def prove_numbers(groups: Sequence[ReadGroup]) -> Iterator[Contradiction]:
    """Yield measurements whose unit is not of UCUM or not of their quantity, or whose two numbers disagree.

    References
    ----------
    DICOM PS3.3 C.18.1, PS3.16 CID 7470
    """
    for group in groups:
        for measurement in group.measurements:
            yield from _prove_number(group, measurement)


def find_quantity(measurement: ReadMeasurement) -> tuple[str, Mapping[str, float]]:
    """Return what is measured, and the factor of each unit to mm, mm³ or HU; empty for what is not known here."""
    return next(((name, units) for codes, name, units in QUANTITIES if measurement.concept in codes), ("", {}))


def _prove_number(group: ReadGroup, measurement: ReadMeasurement) -> Iterator[Contradiction]:
    quantity, units = find_quantity(measurement)
    thing = f"{quantity or f'measurement {measurement.concept}'} of {group.name}"
    if measurement.value is None:
        return
    if measurement.unit_scheme != UCUM or (units and measurement.unit not in units):
        yield Contradiction(
            thing=f"unit of {thing}",
            expected=f"{' or '.join(units) or 'a unit'} of UCUM",
            found=f"{measurement.unit or 'none'} of {measurement.unit_scheme or 'no scheme'}",
            remedy="Code the unit in UCUM.",
        )
    floating = measurement.floating
    if floating is not None and not isclose(floating, measurement.value, rel_tol=ROUNDING, abs_tol=ROUNDING):
        yield Contradiction(
            thing=thing,
            expected=f"Floating Point Value {measurement.value:g}, as Numeric Value says",
            found=f"{floating:g}",
            remedy="Write one number.",
        )
