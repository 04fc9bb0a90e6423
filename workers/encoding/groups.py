"""Measurement Groups of the SR: what is said of one Finding (PS3.16 TID 1410, 1411, 1501)."""

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code as CodedConcept

from node.domain.codes import MORPHOLOGICALLY_ABNORMAL
from node.domain.finding import Finding
from node.domain.result import OWN_MANUFACTURER
from workers.encoding.concepts import (
    ARTIFICIAL_INTELLIGENCE,
    ATTENUATION,
    CERTAINTY,
    CUBIC_MILLIMETER,
    HOUNSFIELD,
    LONG_AXIS,
    MEAN,
    MILLIMETER,
    PERCENT,
    PRESENCE,
    PRESENCE_VALUES,
    SHORT_AXIS,
    VOLUME,
    to_concept,
)
from workers.encoding.outline import trace_outlines
from workers.encoding.provenance import Provenance
from workers.encoding.segmentation import number_segment, track
from workers.volume import Volume

MeasurementGroup = (
    hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | hd.sr.MeasurementsAndQualitativeEvaluations
)
# Key of Finding.measurements to concept, unit, derivation and digits behind the point. Volumes keep three: a tenth
# of a cubic millimeter is more than 1 % of a nodule of 3 mm.
MEASUREMENTS: dict[str, tuple[CodedConcept, CodedConcept, CodedConcept | None, int]] = {
    "long_axis_mm": (LONG_AXIS, MILLIMETER, None, 2),
    "short_axis_mm": (SHORT_AXIS, MILLIMETER, None, 2),
    "volume_mm3": (VOLUME, CUBIC_MILLIMETER, None, 3),
    "mean_hu": (ATTENUATION, HOUNSFIELD, MEAN, 1),
}
# What is measured on one slice.
PLANAR_MEASUREMENTS = ("long_axis_mm", "short_axis_mm")


def describe_segment(
    finding: Finding, provenance: Provenance, *, segmentation: Dataset, volume: Volume
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Return the volumetric group of a Finding, which refers to its Segment.

    References
    ----------
    DICOM PS3.16 TID 1411
    """
    segment = hd.sr.ReferencedSegment(
        sop_class_uid=segmentation.SOPClassUID,
        sop_instance_uid=segmentation.SOPInstanceUID,
        segment_number=number_segment(finding),
        source_series=hd.sr.SourceSeriesForSegmentation(
            referenced_series_instance_uid=volume.datasets[0].SeriesInstanceUID
        ),
    )
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_identify(finding, provenance),
        referenced_segment=segment,
        finding_type=to_concept(finding.code),
        finding_category=to_concept(MORPHOLOGICALLY_ABNORMAL),
        finding_sites=_locate(finding),
        algorithm_id=identify_algorithm(provenance),
        measurements=[*_measure(finding, tuple(MEASUREMENTS)), *_rate(finding)],
    )


def describe_region(
    finding: Finding, provenance: Provenance, *, region: NDArray[np.bool_], image: Dataset
) -> hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
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
    outline = hd.sr.ImageRegion(
        graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
        graphic_data=trace_outlines(region)[0],
        source_image=hd.sr.SourceImageForRegion(
            referenced_sop_class_uid=str(image.SOPClassUID), referenced_sop_instance_uid=str(image.SOPInstanceUID)
        ),
    )
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_identify(finding, provenance),
        referenced_region=outline,
        finding_type=to_concept(finding.code),
        finding_category=to_concept(MORPHOLOGICALLY_ABNORMAL),
        finding_sites=_locate(finding),
        algorithm_id=identify_algorithm(provenance),
        measurements=_measure(finding, PLANAR_MEASUREMENTS) or None,
    )


def describe_label(
    finding: Finding, provenance: Provenance, *, image: Dataset
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """Return the group of one label of a classifier, present or not.

    References
    ----------
    DICOM PS3.16 TID 1501
    """
    source = hd.sr.SourceImageForMeasurementGroup(
        referenced_sop_class_uid=str(image.SOPClassUID), referenced_sop_instance_uid=str(image.SOPInstanceUID)
    )
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_identify(finding, provenance),
        finding_type=to_concept(finding.code),
        finding_sites=_locate(finding),
        algorithm_id=identify_algorithm(provenance),
        source_images=[source],
        measurements=_rate(finding) or None,
        qualitative_evaluations=[hd.sr.QualitativeEvaluation(PRESENCE, PRESENCE_VALUES[finding.presence])],
    )


def identify_algorithm(provenance: Provenance) -> hd.sr.AlgorithmIdentification:
    """Return the model's name, version and weights as the SR names them (PS3.16 TID 4019)."""
    return hd.sr.AlgorithmIdentification(
        name=provenance.model.name,
        version=provenance.model.version,
        family=ARTIFICIAL_INTELLIGENCE,
        manufacturer=OWN_MANUFACTURER,
        parameters=[f"weights_sha256={provenance.model.weights_sha256}"],
    )


def _identify(finding: Finding, provenance: Provenance) -> hd.sr.TrackingIdentifier:
    tracking_uid, tracking_id = track(provenance, finding)
    return hd.sr.TrackingIdentifier(uid=tracking_uid, identifier=tracking_id)


def _locate(finding: Finding) -> list[hd.sr.FindingSite] | None:
    if finding.site is None:
        return None
    laterality = to_concept(finding.laterality) if finding.laterality else None
    return [hd.sr.FindingSite(anatomic_location=to_concept(finding.site), laterality=laterality)]


def _measure(finding: Finding, names: tuple[str, ...]) -> list[hd.sr.Measurement]:
    measured = []
    for name in names:
        if name in finding.measurements:
            concept, unit, derivation, digits = MEASUREMENTS[name]
            value = round(float(finding.measurements[name]), digits)
            measured.append(hd.sr.Measurement(concept, value, unit, derivation=derivation))
    return measured


def _rate(finding: Finding) -> list[hd.sr.Measurement]:
    if finding.confidence is None:
        return []
    return [hd.sr.Measurement(CERTAINTY, round(100 * finding.confidence, 1), PERCENT)]
