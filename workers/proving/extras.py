"""Proofs of the optional Results: they point at what was found, and draw what the mask shows."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.domain.codes import KEY_OBJECT_DESCRIPTION, OF_INTEREST
from node.domain.finding import Finding
from node.domain.result import ResultKind
from workers.encoding.draft import list_key_images
from workers.frames import name_slice
from workers.outline import area_of
from workers.pipelines.base import Analysis, require_mask
from workers.proving.originals import SlicePlace
from workers.proving.proof import require
from workers.proving.segment_reading import list_frame_numbers

UNVERIFIED = "unverified"
# FL holds seven digits; a pixel edge is a whole number.
AREA_TOLERANCE = 1e-3
PDF_END = b"%%EOF"


def prove_extras(objects: Mapping[ResultKind, Dataset], analysis: Analysis) -> None:
    """Prove those of the optional Results that are there.

    Proven: the key objects are the slices on which each Finding is, and the SR; each outline has the box and the area
    of its Segment on such a slice; each line of a heat map has its largest value inside; the document is whole.
    References, identity and bounds are proven with every other object (`workers.proving.objects`).

    Raises
    ------
    ResultCheckFailed
        At the first contradiction.
    """
    if ResultKind.KO in objects:
        _prove_key_objects(objects[ResultKind.KO], analysis, report=objects[ResultKind.SR])
    if ResultKind.PR in objects:
        _prove_presentation_state(objects[ResultKind.PR], analysis)
    if ResultKind.DOC in objects:
        _prove_document(objects[ResultKind.DOC])


def _prove_key_objects(ko: Dataset, analysis: Analysis, *, report: Dataset) -> None:
    title = ko.ConceptNameCodeSequence[0]
    require(title.CodeValue == OF_INTEREST.value, "KO: the title is not Of Interest")
    require(UNVERIFIED in _describe(ko), "KO: the description does not say that nobody verified it")
    places = _place_slices(analysis)
    named = [
        place
        for item in ko.ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
        for place in _list_places(item.ReferencedSOPSequence[0], places)
    ]
    own = (str(report.SOPInstanceUID), 1)
    require(named.count(own) == 1, "KO: the SR is not among the key objects")
    images = [place for place in named if place != own]
    require(len(set(images)) == len(images), "KO: an image is named twice")
    shown = list_key_images(analysis)
    require(set(images) == {name_slice(ds).place for _, ds in shown}, "KO: the images are not those of the findings")
    for finding, _ in shown:
        carried = analysis.radiograph is not None or any(
            _cut(analysis, finding, places[place]).any() for place in images
        )
        require(carried, f"KO: no key image carries {finding.label}")


def _describe(ko: Dataset) -> str:
    described = (item for item in ko.ContentSequence if item.ValueType == "TEXT")
    return " ".join(
        str(item.TextValue)
        for item in described
        if item.ConceptNameCodeSequence[0].CodeValue == KEY_OBJECT_DESCRIPTION.value
    )


def _prove_presentation_state(pr: Dataset, analysis: Analysis) -> None:
    layers = {str(item.GraphicLayer) for item in pr.GraphicLayerSequence}
    shown = list_key_images(analysis)[: None if analysis.radiograph is None else 1]
    annotations, places = pr.GraphicAnnotationSequence, _place_slices(analysis)
    applied = {
        place
        for series in pr.ReferencedSeriesSequence
        for item in series.ReferencedImageSequence
        for place in _list_places(item, places)
    }
    require(
        len(annotations) == len(shown), f"PR: {len(annotations)} findings are outlined where {len(shown)} were found"
    )
    for annotation, (finding, ds) in zip(annotations, shown, strict=True):
        require(str(annotation.GraphicLayer) in layers, f"PR: the layer of {finding.label} is not described")
        images = [place for item in annotation.ReferencedImageSequence for place in _list_places(item, places)]
        require(images == [name_slice(ds).place], f"PR: {finding.label} is not outlined on its key image")
        require(images[0] in applied, f"PR: the state does not apply to the key image of {finding.label}")
        words = [str(item.UnformattedTextValue) for item in annotation.TextObjectSequence]
        require(
            len(words) == 1 and words[0].startswith(f"AI {finding.label}") and words[0].endswith(UNVERIFIED),
            f"PR: the words at {finding.label} do not say AI, its name and unverified",
        )
        lines = [_read_points(item) for item in annotation.GraphicObjectSequence]
        if analysis.radiograph is None:
            _prove_outline(lines, _cut(analysis, finding, places[images[0]]), finding)
        else:
            _prove_levels(lines, analysis, finding)


def _prove_outline(lines: Sequence[NDArray[np.float64]], region: NDArray[np.bool_], finding: Finding) -> None:
    """Prove that lines go around a Segment on one slice; the area of a hole counts against that of its outline."""
    rows, columns = np.nonzero(region)
    require(rows.size, f"PR: {finding.label} is outlined where it is not")
    points = np.vstack(lines)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    drawn = (*points.min(axis=0), *points.max(axis=0))
    require(np.allclose(box, drawn, atol=AREA_TOLERANCE), f"PR: the outline of {finding.label} lies beside its segment")
    area = sum(area_of(line) for line in lines)
    is_whole = abs(area - rows.size) <= AREA_TOLERANCE * rows.size
    require(is_whole, f"PR: the outline of {finding.label} encloses another area than its segment")


def _prove_levels(lines: Sequence[NDArray[np.float64]], analysis: Analysis, finding: Finding) -> None:
    require(analysis.heat is not None, f"PR: lines around {finding.label} where no heat map is")
    heat = np.asarray(analysis.heat)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    points = np.vstack(lines)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    is_around = left <= column + 1 and column <= right and top <= row + 1 and row <= bottom
    require(is_around, f"PR: the lines of {finding.label} lie beside the largest value of the heat map")


def _prove_document(document: Dataset) -> None:
    require(
        document.get("BurnedInAnnotation") == "YES", "DOC: Burned In Annotation does not warn of the patient's name"
    )
    require(document.get("VerificationFlag") == "UNVERIFIED", "DOC: Verification Flag is not UNVERIFIED")
    title = str(document.get("DocumentTitle"))
    require(title.startswith("AI ") and UNVERIFIED in title, "DOC: the title does not say AI, unverified")
    content = bytes(document.EncapsulatedDocument)[: int(document.EncapsulatedDocumentLength)]
    require(content.rstrip().endswith(PDF_END), "DOC: the document is cut")
    require(bool(document.get("SourceInstanceSequence")), "DOC: no source is named")


def _place_slices(analysis: Analysis) -> dict[SlicePlace, int]:
    """Return what names each slice of the reference volume, and its index there."""
    slices = () if analysis.reference is None else analysis.reference.datasets
    return {name_slice(ds).place: index for index, ds in enumerate(slices)}


def _list_places(reference: Dataset, places: Mapping[SlicePlace, int]) -> list[SlicePlace]:
    """Return the slices that a reference names: all of its Instance where it names no Frame."""
    uid, numbers = str(reference.ReferencedSOPInstanceUID), list_frame_numbers(reference)
    whole = [] if numbers else [place for place in places if place[0] == uid]
    return whole or [(uid, number) for number in numbers or [1]]


def _cut(analysis: Analysis, finding: Finding, index: int) -> NDArray[np.bool_]:
    """Return where a Finding is on a slice of the reference volume, (rows, columns) bool."""
    _, mask = require_mask(analysis)
    return np.asarray(mask[index] == finding.segment_number)


def _read_points(graphic: Dataset) -> NDArray[np.float64]:
    return np.asarray(graphic.GraphicData, dtype=np.float64).reshape(-1, 2)
