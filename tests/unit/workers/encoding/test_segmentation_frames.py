"""The Frames of a SEG: the same as highdicom's own, in either form, whatever the mask looks like, or a refusal."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from node.domain.codes import LUNG, NODULE
from node.domain.finding import Finding
from node.domain.result import ResultKind, SegmentationForm
from node.errors import ResultCheckFailed
from tests.analyses import TILTED, Case, ct_case, make_provenance, make_slices, mr_case, read_results
from tests.changes import rewrite
from workers.encoding.encoder import serialize
from workers.encoding.headers import copy_slices
from workers.encoding.jpegls import compress_labels, expand_labels
from workers.encoding.segmentation import call_highdicom, encode_segmentation
from workers.encoding.stamping import stamp_object
from workers.measurements import measure_mask
from workers.pipelines.base import Analysis, number_segment, require_mask
from workers.proving.check import check_results
from workers.volume import read_volume

SEG, SR = ResultKind.SEG, ResultKind.SR
BINARY, LABELMAP = SegmentationForm.BINARY, SegmentationForm.LABELMAP
FORMS = (BINARY, LABELMAP)
SHAPE = (12, 64, 56)

Mask = NDArray[np.uint8]


def masked_case(mask: Mask, *, rows: int = SHAPE[1], columns: int = SHAPE[2]) -> Case:
    """Return a chest CT with this mask, a measured Finding for each of its labels."""
    pixels = np.arange(rows * columns, dtype=np.uint16) % 90 + 200
    inputs = {"ct": make_slices(BodyPartExamined="CHEST", Rows=rows, Columns=columns, PixelData=pixels.tobytes())}
    volume = read_volume(inputs["ct"])
    findings = []
    for number in range(1, int(mask.max()) + 1):
        measures = measure_mask(volume, mask == number)
        findings.append(
            Finding(
                label=f"Nodule {number}",
                code=NODULE,
                confidence=0.9,
                site=LUNG,
                segment_number=number,
                center_mm=measures.center_mm,
                measurements=measures.values,
                key_slice=measures.key_slice,
            )
        )
    return Case(
        analysis=Analysis(findings=tuple(findings), reference=volume, mask=mask, threshold=0.5),
        inputs=inputs,
        provenance=make_provenance("lung_nodules", inputs, series_offset=1),
    )


def draw(*boxes: tuple[slice | int, slice | int, slice | int], shape: tuple[int, int, int] = SHAPE) -> Mask:
    """Return a mask with Segment n in the n-th box."""
    mask = np.zeros(shape, np.uint8)
    for number, box in enumerate(boxes, start=1):
        mask[box] = number
    return mask


def read(seg: Dataset) -> Dataset:
    """Return what a SEG is once written."""
    return dcmread(BytesIO(serialize(seg, SEG).content))


def written_by_highdicom(case: Case, form: SegmentationForm) -> Dataset:
    """Return the SEG of the touched slices as highdicom makes it, with our stamps."""
    provenance = replace(case.provenance, segmentation=form)
    volume, mask = require_mask(case.analysis)
    touched = np.flatnonzero(mask.any(axis=(1, 2))).tolist()
    sources = copy_slices(volume, touched)
    findings = sorted(case.analysis.findings, key=number_segment)
    seg = call_highdicom(findings, provenance, sources=sources, labels=mask[touched])
    stamp_object(seg, sources[0], provenance, kind="SEG")
    return read(seg)


def rebuild(seg: Dataset, case: Case) -> Mask:
    """Return the mask that a SEG shows, its Frames put where their source slices lie."""
    volume, mask = require_mask(case.analysis)
    places = {ds.SOPInstanceUID: index for index, ds in enumerate(volume.datasets)}
    shared = seg.SharedFunctionalGroupsSequence[0]
    shown = np.zeros_like(mask)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for group, pixels in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        number = 1
        if seg.SegmentationType == "BINARY":
            named = group if "SegmentIdentificationSequence" in group else shared
            number = named.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        shown[places[source.ReferencedSOPInstanceUID]] += pixels.astype(np.uint8) * np.uint8(number)
    return shown


AGAINST_HIGHDICOM: dict[str, Callable[[], Case]] = {
    "two nodules": ct_case,
    "two nodules on tilted slices": lambda: ct_case(orientation=TILTED),
    "a lesion in a lesion": mr_case,
    "one segment": lambda: masked_case(draw((slice(2, 6), slice(3, 9), slice(4, 8)))),
    "one segment with a gap": lambda: masked_case(
        draw((slice(2, 4), 3, 4)) + draw((7, 3, 4)),
    ),
    "one slice": lambda: masked_case(draw((5, slice(3, 9), 4))),
    "all slices": lambda: masked_case(draw((slice(None), slice(3, 9), 4), (slice(None), 20, 20))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", AGAINST_HIGHDICOM)
def test_the_seg_is_element_by_element_what_highdicom_writes(name: str, form: SegmentationForm) -> None:
    case = AGAINST_HIGHDICOM[name]()
    ours = read(encode_segmentation(case.analysis, replace(case.provenance, segmentation=form)))
    theirs = written_by_highdicom(case, form)
    # Ours names the whole source Series, which highdicom was not told.
    assert len(ours.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == SHAPE[0]
    del ours.ReferencedSeriesSequence, theirs.ReferencedSeriesSequence
    assert [element.keyword for element in ours] == [element.keyword for element in theirs]
    for element in theirs:
        assert ours[element.tag] == element, element.keyword
    assert ours.file_meta == theirs.file_meta


SHAPES: dict[str, Callable[[], Case]] = {
    "at every corner": lambda: masked_case(
        draw(*((s, r, c) for s in (0, -1) for r in (0, -1) for c in (0, -1))),
    ),
    "all of the border": lambda: masked_case(np.pad(np.zeros((10, 62, 54), np.uint8), 1, constant_values=1)),
    "every voxel": lambda: masked_case(np.ones(SHAPE, np.uint8)),
    "one voxel": lambda: masked_case(draw((6, 30, 28))),
    "first slice only": lambda: masked_case(draw((0, slice(3, 9), 4))),
    "two parts far apart": lambda: masked_case(draw((0, 3, 4)) + draw((11, 60, 50))),
    "frames that end within a byte": lambda: masked_case(
        draw((slice(1, 4), slice(0, 3), 2), (slice(2, 9), 5, slice(0, 7)), shape=(12, 9, 7)), rows=9, columns=7
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_mask_of_any_shape_comes_back_as_it_was(name: str, form: SegmentationForm) -> None:
    case = SHAPES[name]()
    results = case.encode(segmentation=form)
    check_results(results, case.analysis, case.inputs)
    assert np.array_equal(rebuild(read_results(results)[SEG], case), require_mask(case.analysis)[1])


def scattered_case() -> Case:
    """Return 255 Segments of one voxel each."""
    mask = np.zeros(SHAPE, np.uint8)
    mask.reshape(-1)[np.arange(1, 256) * 150] = np.arange(1, 256)
    return masked_case(mask)


@pytest.mark.parametrize("form", FORMS)
def test_255_segments_come_back_as_they_were(form: SegmentationForm) -> None:
    case = scattered_case()
    seg = read(encode_segmentation(case.analysis, replace(case.provenance, segmentation=form)))
    assert np.array_equal(rebuild(seg, case), require_mask(case.analysis)[1])


def test_255_segments_pass_the_gate() -> None:
    case = scattered_case()
    check_results(case.encode(), case.analysis, case.inputs)


def test_the_value_of_pixels_is_padded_by_a_zero() -> None:
    case = masked_case(draw((slice(1, 6), 3, 3), shape=(12, 7, 11)), rows=7, columns=11)
    pixels = read(encode_segmentation(case.analysis, case.provenance)).PixelData
    # 5 x 77 bits are 49 bytes.
    assert len(pixels) == 50
    assert pixels[-1] == 0


REFUSED: dict[str, Callable[[Mask], NDArray[np.generic] | None]] = {
    "no mask": lambda mask: None,
    "an empty mask": np.zeros_like,
    "fractions": lambda mask: mask.astype(np.float32) * 0.5,
    "NaN": lambda mask: np.where(mask == 1, np.nan, mask),
    "negative labels": lambda mask: -mask.astype(np.int16),
    "labels of 16 bits": lambda mask: mask.astype(np.uint16) * 300,
    "truth values": lambda mask: mask > 0,
    "another grid": lambda mask: mask[:, :, 1:],
    "a slice less": lambda mask: mask[1:],
    "a label without finding": lambda mask: np.where(mask == 2, 3, mask).astype(np.uint8),
    "one label more": lambda mask: mask + (mask == 2) * np.eye(64, 56, dtype=np.uint8),
    "a finding without voxel": lambda mask: np.where(mask == 2, 1, mask).astype(np.uint8),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", REFUSED)
def test_a_mask_that_is_none_is_refused(name: str, form: SegmentationForm) -> None:
    case = masked_case(draw((slice(2, 6), slice(3, 9), slice(4, 8)), (slice(5, 8), slice(20, 60), slice(4, 50))))
    mask = REFUSED[name](require_mask(case.analysis)[1])
    # What a Pipeline hands over is typed, but nobody checks arrays at run time.
    analysis = replace(case.analysis, mask=mask)  # type: ignore[arg-type]
    with pytest.raises(ResultCheckFailed):
        replace(case, analysis=analysis).encode(segmentation=form)


@pytest.mark.parametrize("numbers", [(1, 1), (1, 3), (2, 3), (0, 1), (1, None)])
def test_findings_that_are_not_numbered_through_are_refused(numbers: tuple[int | None, int | None]) -> None:
    case = ct_case()
    findings = tuple(replace(f, segment_number=n) for f, n in zip(case.analysis.findings, numbers, strict=True))
    with pytest.raises(ResultCheckFailed):
        replace(case, analysis=replace(case.analysis, findings=findings)).encode()


def test_labelmap_has_its_own_class_syntax_and_uids_and_the_sr_refers_to_it() -> None:
    case = ct_case()
    binary, labelmap = (read_results(case.encode(segmentation=form)) for form in FORMS)
    assert labelmap[SEG].SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert labelmap[SEG].file_meta.TransferSyntaxUID == JPEGLSLossless
    assert binary[SEG].file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    for kind in (SEG, SR):
        assert binary[kind].SOPInstanceUID != labelmap[kind].SOPInstanceUID
        assert binary[kind].SeriesInstanceUID != labelmap[kind].SeriesInstanceUID
    references = {
        str(element.value) for element in labelmap[SR].iterall() if element.keyword == "ReferencedSOPInstanceUID"
    }
    assert labelmap[SEG].SOPInstanceUID in references
    assert binary[SEG].SOPInstanceUID not in references


def test_the_form_changes_nothing_where_nothing_is_segmented() -> None:
    case = ct_case(with_nodules=False)
    binary, labelmap = (case.encode(segmentation=form) for form in FORMS)
    assert [result.content for result in binary] == [result.content for result in labelmap]


def test_labelmap_is_written_to_the_same_bytes_again() -> None:
    one, other = (ct_case().encode(segmentation=LABELMAP) for _ in range(2))
    assert [result.content for result in one] == [result.content for result in other]


def damage_frame(seg: Dataset, change: Callable[[Mask], Mask]) -> None:
    """Change the labels of the first Frame and compress them again."""
    first, *others = generate_frames(seg.PixelData, number_of_frames=seg.NumberOfFrames)
    seg.PixelData = encapsulate([compress_labels(change(expand_labels(first).copy())), *others])


def swap_frames(seg: Dataset) -> None:
    first, second, *others = generate_frames(seg.PixelData, number_of_frames=seg.NumberOfFrames)
    seg.PixelData = encapsulate([second, first, *others])


def swap_positions(seg: Dataset) -> None:
    one, other = (seg.PerFrameFunctionalGroupsSequence[n].PlanePositionSequence[0] for n in (0, 3))
    one.ImagePositionPatient, other.ImagePositionPatient = other.ImagePositionPatient, one.ImagePositionPatient


def spoil_stream(seg: Dataset) -> None:
    first, *others = generate_frames(seg.PixelData, number_of_frames=seg.NumberOfFrames)
    seg.PixelData = encapsulate([first[:40], *others])


def drop_frame(seg: Dataset) -> None:
    *others, _ = generate_frames(seg.PixelData, number_of_frames=seg.NumberOfFrames)
    seg.PixelData = encapsulate(others)
    del seg.PerFrameFunctionalGroupsSequence[-1]
    seg.NumberOfFrames -= 1


def forget_segment(seg: Dataset) -> None:
    del seg.SegmentSequence[1]


DAMAGES: dict[str, Callable[[Dataset], None]] = {
    "two frames swapped": swap_frames,
    "two positions swapped": swap_positions,
    "rows upside down": lambda seg: damage_frame(seg, lambda labels: labels[::-1]),
    "one label for another": lambda seg: damage_frame(seg, lambda labels: (labels > 0) * np.uint8(1)),
    "a voxel more": lambda seg: damage_frame(seg, lambda labels: labels | np.eye(64, 56, dtype=np.uint8)),
    "a label that is not described": lambda seg: damage_frame(seg, lambda labels: labels * np.uint8(7)),
    "a cut codestream": spoil_stream,
    "a lost frame": drop_frame,
    "a forgotten segment": forget_segment,
    "the other form": lambda seg: setattr(seg, "SegmentationType", "BINARY"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_labelmap_never_passes_the_gate(name: str) -> None:
    case = ct_case()
    results = case.encode(segmentation=LABELMAP)
    check_results(results, case.analysis, case.inputs)
    damaged = [rewrite(result, DAMAGES[name]) if result.kind is SEG else result for result in results]
    with pytest.raises(ResultCheckFailed):
        check_results(damaged, case.analysis, case.inputs)


def test_jpeg_ls_keeps_every_label() -> None:
    labels = (np.arange(63 * 41) % 256).astype(np.uint8).reshape(63, 41)
    assert np.array_equal(expand_labels(compress_labels(labels)), labels)
    # A view whose rows do not follow each other in memory.
    assert np.array_equal(expand_labels(compress_labels(labels[:, ::3])), labels[:, ::3])


@pytest.mark.parametrize("image", [b"", b"no image at all", compress_labels(np.ones((9, 9), np.uint8))[:30]])
def test_what_is_no_jpeg_ls_is_refused(image: bytes) -> None:
    with pytest.raises(ValueError, match="JPEG-LS"):
        expand_labels(image)
