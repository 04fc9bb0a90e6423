"""Results of multi-frame Instances name the Frame that they mean, and the gate finds out a wrong one."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from pydicom import Dataset

from node.domain.result import OptionalResult, ResultKind, SegmentationForm
from node.domain.uids import derive_uid
from node.errors import ResultCheckFailed
from tests.analyses import Case, ct_case, make_provenance, make_slices, mr_case, read_results, xray_case
from tests.changes import rewrite
from tests.enhanced import enhance, enhance_case, mix_case
from workers.drawing.page_shown import name_image
from workers.encoding.encoder import EncodedResult
from workers.frames import gather_frames, name_slice, spread_frames
from workers.pipelines.base import find_key_slice, require_mask
from workers.proving.check import check_results
from workers.volume import read_volume

Place = tuple[str, int]


@cache
def framed() -> tuple[Case, tuple[EncodedResult, ...]]:
    """Return a CT of two multi-frame Instances with every Result that it can have."""
    case = enhance_case(ct_case())
    return case, case.encode(*OptionalResult)


def key_places(case: Case) -> list[Place]:
    """Return the key slice of each Finding."""
    volume, mask = require_mask(case.analysis)
    return [name_slice(volume.datasets[find_key_slice(one, mask)]).place for one in case.analysis.findings]


def places_in(ds: Dataset) -> Iterator[Place]:
    """Yield every Frame that an object names below, and Frame 0 of what it names as a whole."""
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from places_in(item)
        elif element.keyword == "ReferencedSOPInstanceUID":
            numbers = ds.get("ReferencedFrameNumber", 0)
            for number in [numbers] if isinstance(numbers, int) else numbers:
                yield str(element.value), int(number)


def test_the_slices_are_those_of_single_frame_instances() -> None:
    plain, (case, _) = ct_case(), framed()
    volume, reference = plain.analysis.reference, case.analysis.reference
    assert volume is not None
    assert reference is not None
    assert reference.voxels.tobytes() == volume.voxels.tobytes()
    assert np.array_equal(reference.affine, volume.affine)


@pytest.mark.parametrize("form", SegmentationForm)
@pytest.mark.parametrize("make", [ct_case, mr_case])
def test_every_result_passes_the_gate(make: Callable[[], Case], form: SegmentationForm) -> None:
    case = enhance_case(make())
    check_results(case.encode(*OptionalResult, segmentation=form), case.analysis, case.inputs)


def test_each_frame_of_the_seg_names_the_frame_it_lies_on() -> None:
    case, results = framed()
    seg = read_results(results)[ResultKind.SEG]
    volume, _ = require_mask(case.analysis)
    lies = {name_slice(ds).place: tuple(map(float, ds.ImagePositionPatient)) for ds in volume.datasets}
    for group in seg.PerFrameFunctionalGroupsSequence:
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        place = str(source.ReferencedSOPInstanceUID), int(source.ReferencedFrameNumber)
        assert tuple(group.PlanePositionSequence[0].ImagePositionPatient) == lies[place]
    (series,) = seg.ReferencedSeriesSequence
    assert sorted(places_in(series)) == sorted({(uid, 0) for uid, _ in lies})


def test_the_report_outlines_the_key_frames() -> None:
    case, results = framed()
    sr = read_results(results)[ResultKind.SR]
    named = list(places_in(Dataset({sr["ContentSequence"].tag: sr["ContentSequence"]})))
    assert set(key_places(case)) <= set(named)
    assert {uid for uid, number in named if number == 0} == {str(read_results(results)[ResultKind.SEG].SOPInstanceUID)}
    assert {number for _, number in places_in(sr.CurrentRequestedProcedureEvidenceSequence[0])} == {0}


@pytest.mark.parametrize("kind", [ResultKind.KO, ResultKind.PR, ResultKind.SC])
def test_optional_results_name_the_key_frames(kind: ResultKind) -> None:
    case, results = framed()
    found = read_results(results)
    others = {str(found[ResultKind.SR].SOPInstanceUID)}
    named = {(uid, number) for uid, number in places_in(found[kind]) if uid not in others}
    assert {place for place in named if place[1]} == set(key_places(case))


def test_the_page_names_a_slice_as_viewers_do() -> None:
    """By the Frame of the only Instance, by both numbers of several, by Instance Number where each has one Frame."""
    slices = make_slices()
    (only, several, single) = (
        read_volume(inputs)
        for inputs in (
            [enhance(slices)],
            framed()[0].inputs["ct"],
            [number_one(enhance([ds], str(n)), n) for n, ds in enumerate(slices, start=1)],
        )
    )
    assert name_image(only, 0) == f"frame {name_slice(only.datasets[0]).frame_number}"
    assert {name_image(several, index) for index in range(12)} == {
        f"image {image} frame {frame}" for image in (1, 2) for frame in range(1, 7)
    }
    assert {name_image(single, index) for index in range(12)} == {f"image {number}" for number in range(1, 13)}


def number_one(ds: Dataset, number: int) -> Dataset:
    ds.InstanceNumber = number
    return ds


def test_frames_are_named_only_where_some_are_meant() -> None:
    """PS3.3 Table 10-3: a reference to all Frames names none."""
    frames = spread_frames([enhance(make_slices())])
    assert list(gather_frames(frames).values()) == [[]]
    assert list(gather_frames([frames[7], frames[2], frames[7]]).values()) == [[8, 3]]


@pytest.mark.parametrize("frames", [(4, 8), range(3, 12)], ids=["the key slices", "all with a finding"])
def test_single_slices_and_frames_of_one_series_are_answered_together(frames: Sequence[int]) -> None:
    """The Instance of the key slices alone is named as a whole."""
    case = mix_case(ct_case(), frames)
    results = case.encode(*OptionalResult)
    check_results(results, case.analysis, case.inputs)
    objects = read_results(results)
    assert {number for _, number in places_in(objects[ResultKind.KO])} == ({0} if len(frames) == 2 else {0, 2, 6})


def test_what_the_pipeline_passed_over_may_be_of_frames_that_nothing_describes() -> None:
    case = xray_case()
    (film,) = case.inputs["image"]
    lateral = copy.deepcopy(film)
    lateral.SOPInstanceUID, lateral.InstanceNumber, lateral.ViewPosition = derive_uid("test", "lateral"), 2, "LL"
    lateral.NumberOfFrames, lateral.PixelData = 2, film.PixelData * 2
    inputs = {"image": [film, lateral]}
    case = replace(case, inputs=inputs, provenance=make_provenance("chest_xray", inputs, series_offset=3))
    check_results(case.encode(*OptionalResult), case.analysis, case.inputs)


def shift_source(ds: Dataset) -> None:
    ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = 1


def shift_beyond(ds: Dataset) -> None:
    ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = 99


def shift_outline(ds: Dataset) -> None:
    for element in ds.ContentSequence:
        for inner in element.iterall():
            if inner.keyword == "ReferencedFrameNumber" and not isinstance(inner.value, list):
                inner.value = 1


def shift_annotation(ds: Dataset) -> None:
    ds.GraphicAnnotationSequence[0].ReferencedImageSequence[0].ReferencedFrameNumber = 1


def forget_frames(ds: Dataset) -> None:
    for item in ds.ContentSequence:
        for reference in item.get("ReferencedSOPSequence") or ():
            if "ReferencedFrameNumber" in reference:
                del reference.ReferencedFrameNumber


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (ResultKind.SEG, shift_source),
        (ResultKind.SEG, shift_beyond),
        (ResultKind.SR, shift_outline),
        (ResultKind.PR, shift_annotation),
        (ResultKind.KO, forget_frames),
    ],
)
def test_a_wrong_frame_does_not_leave(kind: ResultKind, damage: Callable[[Dataset], None]) -> None:
    case, results = framed()
    with pytest.raises(ResultCheckFailed, match=str(kind)):
        check_results(
            [rewrite(one, damage) if one.kind is kind else one for one in results], case.analysis, case.inputs
        )
