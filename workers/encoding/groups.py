"""Measurement Groups of the SR: what is said of one Finding (PS3.16 TID 1410, 1411, 1501)."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.domain import codes
from node.domain.codes import Code
from node.domain.finding import Finding, Presence
from node.domain.result import OWN_MANUFACTURER
from node.errors import ResultCheckFailed
from workers.encoding.content import (
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    SELECTED_FROM,
    is_line,
    write_code,
    write_container,
    write_image,
    write_number,
    write_outline,
    write_statement,
    write_uid,
)
from workers.encoding.segmentation import track
from workers.outline import trace_outlines
from workers.pipelines.base import number_segment
from workers.provenance import Provenance
from workers.volume import Volume

PRESENCE_CODES = {
    Presence.PRESENT: codes.PRESENT,
    Presence.ABSENT: codes.ABSENT,
    Presence.UNDETERMINED: codes.UNDETERMINED,
}
# Templates of PS3.16; each names its group.
PLANAR_GROUP, VOLUMETRIC_GROUP, LABEL_GROUP = "1410", "1411", "1501"
# Key of Finding.measurements to concept, unit, derivation and digits behind the point. Volumes keep three: a tenth
# of a cubic millimeter is more than 1 % of a nodule of 3 mm.
MEASUREMENTS: dict[str, tuple[Code, Code, Code | None, int]] = {
    "long_axis_mm": (codes.LONG_AXIS, codes.MILLIMETER, None, 2),
    "short_axis_mm": (codes.SHORT_AXIS, codes.MILLIMETER, None, 2),
    "volume_mm3": (codes.VOLUME, codes.CUBIC_MILLIMETER, None, 3),
    "mean_hu": (codes.ATTENUATION, codes.HOUNSFIELD, codes.MEAN, 1),
}
# What is measured on one slice.
PLANAR_MEASUREMENTS = ("long_axis_mm", "short_axis_mm")


def describe_segment(finding: Finding, provenance: Provenance, *, segmentation: Dataset, volume: Volume) -> bytes:
    """Return the volumetric group of a Finding, which refers to its Segment.

    References
    ----------
    DICOM PS3.16 TID 1411
    """
    said = [
        *_introduce(finding, provenance, category=True),
        *_measure(finding, tuple(MEASUREMENTS)),
        *_rate(finding),
        write_image(codes.REFERENCED_SEGMENT, segmentation, segment_number=number_segment(finding)),
        write_uid(codes.SOURCE_SERIES, str(volume.datasets[0].SeriesInstanceUID)),
    ]
    return write_container(codes.MEASUREMENT_GROUP, said, template=VOLUMETRIC_GROUP)


def describe_region(finding: Finding, provenance: Provenance, *, region: NDArray[np.bool_], image: Dataset) -> bytes:
    """Return the planar group of a Finding: its outline on the key slice, which more viewers show than a Segment.

    Parameters
    ----------
    region
        (rows, columns) bool, the Finding on `image`.
    image
        The key slice.

    References
    ----------
    DICOM PS3.16 TID 1410
    """
    source = write_image(codes.SOURCE, image, relationship=SELECTED_FROM)
    said = [
        *_introduce(finding, provenance, category=True),
        *_measure(finding, PLANAR_MEASUREMENTS),
        write_outline(codes.IMAGE_REGION, trace_outlines(region)[0], source),
    ]
    return write_container(codes.MEASUREMENT_GROUP, said, template=PLANAR_GROUP)


def describe_label(finding: Finding, provenance: Provenance, *, image: Dataset) -> bytes:
    """Return the group of one label of a classifier, present or not.

    References
    ----------
    DICOM PS3.16 TID 1501
    """
    said = [
        *_introduce(finding, provenance, category=False),
        *_rate(finding),
        write_code(codes.PRESENCE, PRESENCE_CODES[finding.presence]),
        write_image(codes.SOURCE_OF_MEASUREMENT, image),
    ]
    return write_container(codes.MEASUREMENT_GROUP, said, template=LABEL_GROUP)


def describe_answer(label: str, code: Code | None, provenance: Provenance, answer: Iterable[bytes]) -> bytes:
    """Return a group that is about no place in the images: a summary, or what was looked for and not found.

    Parameters
    ----------
    label
        Words for people; the group is tracked by them.
    answer
        Content items.

    References
    ----------
    DICOM PS3.16 TID 1501
    """
    named = [write_code(codes.FINDING, code)] if code is not None else []
    tracked = _track(f"AI {label}", provenance.uid("track", label))
    said = [*tracked, *named, *_identify_algorithm(provenance), *answer]
    return write_container(codes.MEASUREMENT_GROUP, said, template=LABEL_GROUP)


def _introduce(finding: Finding, provenance: Provenance, *, category: bool) -> list[bytes]:
    """Return what every group says first: which finding, what, where, by which algorithm."""
    if not is_line(finding.label):
        raise ResultCheckFailed(f"the label {finding.label!r} is no line of text; the Pipeline is at fault")
    tracking_uid, tracking_id = track(provenance, finding)
    kind = [write_code(codes.FINDING_CATEGORY, finding.category)] if category else []
    return [
        *_track(tracking_id, tracking_uid),
        *kind,
        write_code(codes.FINDING, finding.code),
        *_locate(finding),
        *_identify_algorithm(provenance),
    ]


def _track(identifier: str, uid: str) -> list[bytes]:
    return [
        write_statement(codes.TRACKING_IDENTIFIER, identifier, relationship=HAS_OBS_CONTEXT),
        write_uid(codes.TRACKING_UNIQUE_IDENTIFIER, uid, relationship=HAS_OBS_CONTEXT),
    ]


def _identify_algorithm(provenance: Provenance) -> list[bytes]:
    """Return the model's name, version and weights (PS3.16 TID 4019)."""
    model = provenance.model
    statements = (
        (codes.ALGORITHM_NAME, model.name),
        (codes.ALGORITHM_VERSION, model.version),
        (codes.ALGORITHM_MANUFACTURER, OWN_MANUFACTURER),
        (codes.ALGORITHM_PARAMETERS, f"weights_sha256={model.weights_sha256}"),
    )
    family = write_code(codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE, relationship=HAS_CONCEPT_MOD)
    return [*(write_statement(name, text, relationship=HAS_CONCEPT_MOD) for name, text in statements), family]


def _locate(finding: Finding) -> list[bytes]:
    if finding.site is None:
        return []
    side = []
    if finding.laterality is not None:
        side = [write_code(codes.LATERALITY, finding.laterality, relationship=HAS_CONCEPT_MOD)]
    return [write_code(codes.FINDING_SITE, finding.site, relationship=HAS_CONCEPT_MOD, children=side)]


def _measure(finding: Finding, names: tuple[str, ...]) -> list[bytes]:
    measured = []
    for name in names:
        if name in finding.measurements:
            concept, unit, derivation, digits = MEASUREMENTS[name]
            how = [write_code(codes.DERIVATION, derivation, relationship=HAS_CONCEPT_MOD)] if derivation else []
            value = round(float(finding.measurements[name]), digits)
            measured.append(write_number(concept, value, unit, children=how))
    return measured


def _rate(finding: Finding) -> list[bytes]:
    if finding.confidence is None:
        return []
    if not 0.0 <= finding.confidence <= 1.0:
        raise ResultCheckFailed(
            f"certainty of {finding.label} is {finding.confidence}, not 0 to 1; the Pipeline is at fault"
        )
    return [write_number(codes.CERTAINTY, round(100 * finding.confidence, 1), codes.PERCENT)]
