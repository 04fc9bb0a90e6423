"""Results of known Cases, and ways to spoil one object: what `tests.damages` is made of."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate, generate_frames

from node.domain.result import OptionalResult, ResultKind, SegmentationForm
from node.domain.uids import derive_uid
from tests.analyses import TILTED, Case, ct_case, mr_case, xray_case
from tests.analyses import put as put_elements
from tests.reports import walk
from workers.encoding.encoder import EncodedResult
from workers.encoding.jpegls import compress_labels, expand_labels

SEG, SR, SC = ResultKind.SEG, ResultKind.SR, ResultKind.SC
KO, PR, DOC = ResultKind.KO, ResultKind.PR, ResultKind.DOC
VOLUME, LONG_AXIS, ATTENUATION, CERTAINTY = "118565006", "103339001", "112031", "111012"
EVERYTHING = tuple(OptionalResult)
CASES: Mapping[str, Callable[[], Case]] = {
    "ct": ct_case,
    "labelmap": ct_case,
    "tilted": lambda: ct_case(orientation=TILTED),
    "mr": mr_case,
    "xray": xray_case,
}

Change = Callable[[Dataset], None]


@cache
def encoded(name: str) -> tuple[Case, tuple[EncodedResult, ...]]:
    """Return a Case with every kind of Result that it can have, made once a test run: do not change them."""
    case = CASES[name]()
    form = SegmentationForm.LABELMAP if name == "labelmap" else SegmentationForm.BINARY
    return case, case.encode(*EVERYTHING, segmentation=form)


def rewrite(result: EncodedResult, change: Change) -> EncodedResult:
    """Return the Result with a changed file; its record stays as it was."""
    ds = dcmread(BytesIO(result.content))
    change(ds)
    buffer = BytesIO()
    dcmwrite(buffer, ds)
    return replace(result, content=buffer.getvalue())


def name_of(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def first(ds: Dataset, code: str) -> Dataset:
    """Return the first content item with this concept name."""
    return next(item for item in walk(ds) if name_of(item) == code)


def put(keyword: str, value: Any) -> Change:
    return lambda ds: put_elements(ds, {keyword: value})


def drop(keyword: str) -> Change:
    return lambda ds: delattr(ds, keyword)


def say(code: str, value: str) -> Change:
    """Change the number of the first measurement of that name."""

    def change(ds: Dataset) -> None:
        measured = first(ds, code).MeasuredValueSequence[0]
        measured.NumericValue = value
        measured.FloatingPointValue = float(value)

    return change


def say_in_outline(code: str, factor: float) -> Change:
    """Change the number of that name in the first group with an outline."""
    return lambda ds: multiply(code, factor)(first_outline(ds))


def rename_outline(name: str) -> Change:
    """Change the Tracking Identifier of the first group with an outline."""
    return lambda ds: setattr(first(first_outline(ds), "112039"), "TextValue", name)


def first_outline(ds: Dataset) -> Dataset:
    groups = (item for item in walk(ds) if name_of(item) == "125007")
    return next(one for one in groups if any(child.ValueType == "SCOORD" for child in one.ContentSequence))


def multiply(code: str, factor: float) -> Change:
    """Change the number of the first measurement of that name by a factor."""
    return lambda ds: say(code, f"{float(first(ds, code).MeasuredValueSequence[0].NumericValue) * factor:.3f}")(ds)


def state(code: str, answer: str) -> Change:
    """Change the answer of the last coded content item of that name."""

    def change(ds: Dataset) -> None:
        [item for item in walk(ds) if name_of(item) == code][-1].ConceptCodeSequence[0].CodeValue = answer

    return change


def lose(code: str) -> Change:
    """Remove the first content item of that name."""

    def change(ds: Dataset) -> None:
        for item in (ds, *walk(ds)):
            children = item.get("ContentSequence") or []
            for place, child in enumerate(children):
                if name_of(child) == code:
                    del children[place]
                    return

    return change


def frame(ds: Dataset, number: int) -> Dataset:
    found: Dataset = ds.PerFrameFunctionalGroupsSequence[number]
    return found


def source(ds: Dataset, number: int) -> Dataset:
    found: Dataset = frame(ds, number).DerivationImageSequence[0].SourceImageSequence[0]
    return found


def move_frames(*millimeters: float) -> Change:
    """Move each Frame by (x, y, z) mm."""

    def change(ds: Dataset) -> None:
        for item in ds.PerFrameFunctionalGroupsSequence:
            plane = item.PlanePositionSequence[0]
            moved = [float(v) + step for v, step in zip(plane.ImagePositionPatient, millimeters, strict=True)]
            plane.ImagePositionPatient = [f"{value:.6f}" for value in moved]

    return change


def swap_positions(ds: Dataset) -> None:
    one, other = (frame(ds, n).PlanePositionSequence[0] for n in (0, 1))
    one.ImagePositionPatient, other.ImagePositionPatient = other.ImagePositionPatient, one.ImagePositionPatient


def swap_sources(ds: Dataset) -> None:
    one, other = source(ds, 0), source(ds, 1)
    swapped = other.ReferencedSOPInstanceUID, one.ReferencedSOPInstanceUID
    one.ReferencedSOPInstanceUID, other.ReferencedSOPInstanceUID = swapped


def shift_slices(ds: Dataset) -> None:
    """Let each Frame name the next slice and lie there: the object agrees with itself."""
    case, _ = encoded("ct")
    slices = sorted(case.inputs["ct"], key=lambda one: float(one.ImagePositionPatient[2]))
    next_one = {str(one.SOPInstanceUID): other for one, other in pairwise(slices)}
    for number in range(ds.NumberOfFrames):
        target = next_one[str(source(ds, number).ReferencedSOPInstanceUID)]
        source(ds, number).ReferencedSOPInstanceUID = target.SOPInstanceUID
        frame(ds, number).PlanePositionSequence[0].ImagePositionPatient = list(target.ImagePositionPatient)


def turn_pixels(turn: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Change:
    """Change the Frames of a BINARY SEG, (frames, rows, columns) of 0 and 1."""

    def change(ds: Dataset) -> None:
        bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
        frames = turn(bits[: ds.NumberOfFrames * ds.Rows * ds.Columns].reshape(-1, ds.Rows, ds.Columns))
        packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
        ds.PixelData = packed + b"\0" * (len(packed) % 2)

    return change


def turn_labels(turn: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Change:
    """Change each Frame of a LABELMAP."""

    def change(ds: Dataset) -> None:
        images = generate_frames(ds.PixelData, number_of_frames=ds.NumberOfFrames)
        ds.PixelData = encapsulate([compress_labels(turn(expand_labels(image))) for image in images])

    return change


def swap_labels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    swapped = np.array([0, 2, 1], np.uint8)[labels]
    return np.asarray(swapped, np.uint8)


def add_label(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    added = labels.copy()
    added[0, 0] = 3
    return added


def turn_fractions(ds: Dataset) -> None:
    """Turn a FRACTIONAL Frame upside down."""
    ds.PixelData = np.frombuffer(ds.PixelData, np.uint8).reshape(ds.Rows, ds.Columns)[::-1].tobytes()


def empty_segment(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Empty the Frames of the last Segment: the second half of these Cases."""
    kept = frames.copy()
    kept[-3:] = 0
    return kept


def blank_pixels(ds: Dataset) -> None:
    """Make every pixel black."""
    ds.PixelData = bytes(len(ds.PixelData))


def cut_pixels(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[: len(ds.PixelData) // 4 * 2]


def drop_frame(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[-1]
    ds.NumberOfFrames = ds.NumberOfFrames - 1


def double_frame(ds: Dataset) -> None:
    ds.PerFrameFunctionalGroupsSequence.append(copy.deepcopy(frame(ds, -1)))
    turn_pixels(lambda frames: np.concatenate([frames, frames[-1:]]))(ds)
    ds.NumberOfFrames = ds.NumberOfFrames + 1


def claim_frame(ds: Dataset) -> None:
    turn_pixels(lambda frames: np.concatenate([frames, frames[-1:]]))(ds)
    ds.NumberOfFrames = ds.NumberOfFrames + 1


def change_spacing(ds: Dataset) -> None:
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = ["0.7", "0.8"]


def change_orientation(ds: Dataset) -> None:
    plane = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    plane.ImageOrientationPatient = ["1", "0", "0", "0", "-1", "0"]


def other_segment(ds: Dataset) -> None:
    frame(ds, 0).SegmentIdentificationSequence[0].ReferencedSegmentNumber = 2


def undescribe_segment(ds: Dataset) -> None:
    ds.SegmentSequence = [item for item in ds.SegmentSequence if item.SegmentNumber != 2]


def skip_number(ds: Dataset) -> None:
    ds.SegmentSequence[1].SegmentNumber = 3
    for item in ds.PerFrameFunctionalGroupsSequence:
        named = item.SegmentIdentificationSequence[0]
        if named.ReferencedSegmentNumber == 2:
            named.ReferencedSegmentNumber = 3


def list_part_of_series(ds: Dataset) -> None:
    del ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]


def list_nothing_used(ds: Dataset) -> None:
    used = {str(source(ds, number).ReferencedSOPInstanceUID) for number in range(ds.NumberOfFrames)}
    listed = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [
        item for item in listed if str(item.ReferencedSOPInstanceUID) not in used
    ]


def list_under_other_series(ds: Dataset) -> None:
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = derive_uid("test", "another series")


def name_nobody(ds: Dataset) -> None:
    source(ds, 0).ReferencedSOPInstanceUID = derive_uid("test", "nobody")


def describe_segment(keyword: str, value: str) -> Change:
    return lambda ds: setattr(ds.SegmentSequence[0], keyword, value)


def code_segment(keyword: str, value: str) -> Change:
    return lambda ds: setattr(ds.SegmentSequence[0][keyword].value[0], "CodeValue", value)


def turn_side_of_segment(ds: Dataset) -> None:
    ds.SegmentSequence[0].AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeValue = "7771000"


def turn_side_of_both(ds: Dataset) -> None:
    """Swap left and right wherever an SR says them."""
    for item in walk(ds):
        if name_of(item) == "272741003":
            said = item.ConceptCodeSequence[0]
            said.CodeValue = "7771000" if said.CodeValue == "24028007" else "24028007"


def lose_evidence(ds: Dataset) -> None:
    """Remove an input to which no content item refers."""
    referred = {str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in walk(ds) if is_image(item)}
    for series in ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence:
        for place, item in enumerate(series.ReferencedSOPSequence):
            if str(item.ReferencedSOPInstanceUID) not in referred:
                del series.ReferencedSOPSequence[place]
                return


def is_image(item: Dataset) -> bool:
    return str(item.ValueType) == "IMAGE"


def lose_evidence_of_series(ds: Dataset) -> None:
    del ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[-1]


def file_evidence_elsewhere(ds: Dataset) -> None:
    for series in ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence:
        series.SeriesInstanceUID = derive_uid("test", "another series")


def refer(keyword: str, value: Any, *, to_segment: bool = False) -> Change:
    """Change the first reference to an image, or to a Segment."""

    def change(ds: Dataset) -> None:
        references = (item.ReferencedSOPSequence[0] for item in walk(ds) if is_image(item))
        reference = next(one for one in references if ("ReferencedSegmentNumber" in one) == to_segment)
        setattr(reference, keyword, value)

    return change


def move_outline(pixels: float) -> Change:
    def change(ds: Dataset) -> None:
        outline = next(item for item in walk(ds) if item.ValueType == "SCOORD")
        outline.GraphicData = [float(value) + pixels for value in outline.GraphicData]

    return change


def swap_outline_slices(ds: Dataset) -> None:
    one, other = (item for item in walk(ds) if item.ValueType == "SCOORD")
    one.ContentSequence, other.ContentSequence = other.ContentSequence, one.ContentSequence


def change_unit(code: str, value: str, scheme: str = "UCUM") -> Change:
    def change(ds: Dataset) -> None:
        unit = first(ds, code).MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
        unit.CodeValue, unit.CodingSchemeDesignator = value, scheme

    return change


def disagree(ds: Dataset) -> None:
    first(ds, VOLUME).MeasuredValueSequence[0].FloatingPointValue = 1.0


def name_other_series(ds: Dataset) -> None:
    first(ds, "121232").UID = derive_uid("test", "another series")


def precede_itself(ds: Dataset) -> None:
    study, series, instance = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedSOPSequence = ds.SeriesInstanceUID, [instance]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = ds.StudyInstanceUID, [series]
    ds.PredecessorDocumentsSequence = [study]


def list_itself(ds: Dataset) -> None:
    listed = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    listed[0].ReferencedSOPClassUID, listed[0].ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID


def take_uid_of(kind: ResultKind) -> Change:
    """Take the SOP Instance UID of another Result."""

    def change(ds: Dataset) -> None:
        _, results = encoded("ct")
        ds.SOPInstanceUID = next(str(one.sop_instance_uid) for one in results if one.kind is kind)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID

    return change


def draw_outside(ds: Dataset) -> None:
    graphic = ds.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    graphic.GraphicData = [float(value) + 60.0 for value in graphic.GraphicData]


def show_other_image(ds: Dataset) -> None:
    item = ds.ReferencedSeriesSequence[0].ReferencedImageSequence[0]
    item.ReferencedSOPInstanceUID = derive_uid("test", "nobody")


def annotate_unlisted(ds: Dataset) -> None:
    del ds.ReferencedSeriesSequence[0].ReferencedImageSequence[0]


def cut_document(ds: Dataset) -> None:
    ds.EncapsulatedDocument = ds.EncapsulatedDocument[: len(ds.EncapsulatedDocument) // 4 * 2]


def spoil_document(ds: Dataset) -> None:
    ds.EncapsulatedDocument = b"no" + ds.EncapsulatedDocument[2:]
