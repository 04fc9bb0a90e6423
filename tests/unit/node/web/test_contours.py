"""Outlines of a SEG lie where its pixels are, and where the phantom's balls are."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from math import dist
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from node.domain.job import JobID
from node.domain.result import Result, ResultKind, SegmentationForm
from node.domain.uids import InstanceUID, SeriesUID, StudyUID
from node.errors import NodeError, PixelsUndecodable
from node.web import contours
from node.web.console.slices import Outlines
from node.web.contours import read_contours, trace
from node.web.pixels import PixelPool
from tests.analyses import SPACING_MM, Case, ct_case, known
from tests.enhanced import enhance_case
from tests.instances import EXPLICIT
from workers.frames import name_slice

Outline = list[tuple[float, float]]


def area(points: Outline) -> float:
    behind = [*points[1:], points[0]]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, behind, strict=True)) / 2


def write_seg(folder: Path, name: str) -> tuple[Case, Path]:
    case, results = known(name)
    (content,) = (one.content for one in results if one.kind is ResultKind.SEG)
    path = folder / "seg.dcm"
    path.write_bytes(content)
    return case, path


def to_patient(frame: dict[str, Any], points: Outline) -> list[tuple[float, ...]]:
    """Return points in the patient's system (PS3.3 C.7.6.2.1.1); the middle of the first pixel is (0.5, 0.5) here."""
    row, column = np.array(frame["orientation"][:3]), np.array(frame["orientation"][3:])
    between_rows, between_columns = frame["spacing_mm"]
    origin = np.array(frame["position_mm"])
    return [tuple(origin + row * between_columns * (x - 0.5) + column * between_rows * (y - 0.5)) for x, y in points]


def test_an_outline_goes_through_the_middles_of_the_edges_of_a_region() -> None:
    region = np.zeros((4, 5), np.bool_)
    region[1:3, 1:4] = True
    (outline,) = trace(region)
    assert set(outline) == {(1.5, 1), (3.5, 1), (4, 1.5), (4, 2.5), (3.5, 3), (1.5, 3), (1, 2.5), (1, 1.5)}


def test_a_hole_turns_the_other_way_and_what_touches_at_a_corner_stays_apart() -> None:
    region = np.zeros((7, 7), np.bool_)
    region[1:4, 1:4] = True
    region[2, 2] = False
    region[4, 4] = True
    outer, hole, single = sorted(trace(region), key=lambda points: -abs(area(points)))
    assert area(outer) * area(hole) < 0
    assert abs(area(outer)) == pytest.approx(9 - 0.5)
    assert abs(area(hole)) == abs(area(single)) == 0.5


def test_regions_at_the_border_of_an_image_are_closed() -> None:
    (outline,) = trace(np.ones((3, 2), np.bool_))
    assert (min(x for x, _ in outline), max(x for x, _ in outline)) == (0, 2)
    assert (min(y for _, y in outline), max(y for _, y in outline)) == (0, 3)
    assert trace(np.zeros((3, 2), np.bool_)) == []


@pytest.mark.parametrize("name", ["ct", "tilted"])
def test_outlines_of_a_ball_are_circles_of_its_size_about_its_center(name: str, tmp_path: Path) -> None:
    case, path = write_seg(tmp_path, name)
    told = json.loads(read_contours(str(path)))
    images = {str(ds.SOPInstanceUID): ds for datasets in case.inputs.values() for ds in datasets}
    seen = set()
    for frame in told["frames"]:
        position = [float(value) for value in images[frame["sop_instance_uid"]].ImagePositionPatient]
        assert frame["position_mm"] == pytest.approx(position, abs=1e-3)
        for segment, outlines in frame["outlines"].items():
            ball = case.balls[int(segment) - 1]
            seen.add(int(segment))
            for point in to_patient(frame, [p for outline in outlines for p in outline]):
                # Within half a pixel; what is shifted by that much lies 0.58 mm away.
                assert dist(point, ball.center_mm) == pytest.approx(ball.radius_mm, abs=max(SPACING_MM[1:]) / 2)
    assert seen == set(range(1, len(case.balls) + 1))
    assert {item["number"]: item["label"] for item in told["segments"]}[1] == case.analysis.findings[0].label


def test_outlines_name_the_frame_that_they_lie_on(tmp_path: Path) -> None:
    case = enhance_case(ct_case())
    path = tmp_path / "seg.dcm"
    path.write_bytes(next(one.content for one in case.encode() if one.kind is ResultKind.SEG))
    volume = case.analysis.reference
    assert volume is not None
    lies = {name_slice(ds).place: [float(v) for v in ds.ImagePositionPatient] for ds in volume.datasets}
    frames = json.loads(read_contours(str(path)))["frames"]
    assert frames
    for frame in frames:
        assert frame["position_mm"] == pytest.approx(lies[frame["sop_instance_uid"], frame["frame"]], abs=1e-3)


def test_what_is_said_of_all_frames_together_counts_for_each(tmp_path: Path) -> None:
    """A SEG of one Segment names it once for all Frames."""
    case = ct_case()
    volume_mask = case.analysis.mask
    assert volume_mask is not None
    alone = replace(case.analysis, findings=case.analysis.findings[:1], mask=volume_mask * (volume_mask == 1))
    path = tmp_path / "seg.dcm"
    results = replace(case, analysis=alone).encode()
    path.write_bytes(next(one.content for one in results if one.kind is ResultKind.SEG))
    assert "SegmentIdentificationSequence" in dcmread(path).SharedFunctionalGroupsSequence[0]
    frames = json.loads(read_contours(str(path)))["frames"]
    assert frames
    assert {segment for frame in frames for segment in frame["outlines"]} == {"1"}


def test_outlines_of_a_label_map_are_those_of_a_binary_one(tmp_path: Path) -> None:
    told = {}
    for form in SegmentationForm:
        (content,) = (one.content for one in ct_case().encode(segmentation=form) if one.kind is ResultKind.SEG)
        path = tmp_path / f"{form}.dcm"
        path.write_bytes(content)
        frames = json.loads(read_contours(str(path)))["frames"]
        told[form] = sorted(
            (frame["sop_instance_uid"], segment, outlines)
            for frame in frames
            for segment, outlines in frame["outlines"].items()
        )
    assert told[SegmentationForm.LABELMAP] == told[SegmentationForm.BINARY] != []


def test_a_seg_of_probabilities_and_an_image_have_no_outlines(tmp_path: Path) -> None:
    _, path = write_seg(tmp_path, "ct")
    ds = dcmread(path)
    ds.SegmentationType = "FRACTIONAL"
    ds.save_as(path)
    pool = PixelPool()
    try:
        with pytest.raises(PixelsUndecodable, match="FRACTIONAL"):
            pool.contours(str(path))
    finally:
        pool.close()


def test_a_frame_that_names_no_image_is_not_drawn_anywhere(tmp_path: Path) -> None:
    _, path = write_seg(tmp_path, "ct")
    ds = dcmread(BytesIO(path.read_bytes()))
    del ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence
    ds.save_as(path)
    with pytest.raises(NodeError, match="0 images"):
        read_contours(str(path))


def test_a_seg_of_too_many_points_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = write_seg(tmp_path, "ct")
    frames = json.loads(read_contours(str(path)))["frames"]
    points = sum(len(one) for frame in frames for outlines in frame["outlines"].values() for one in outlines)
    monkeypatch.setattr(contours, "MAX_POINTS", points)
    assert json.loads(read_contours(str(path)))["frames"] == frames
    monkeypatch.setattr(contours, "MAX_POINTS", points - 1)
    with pytest.raises(PixelsUndecodable, match=f"more than {points - 1} points"):
        read_contours(str(path))


class SlowPool(PixelPool):
    """Reads when it is let, and counts."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content, self.reads, self.may_read = content, 0, Event()

    def contours(self, path: str) -> bytes:
        """Return what it was made with; a path that is empty has no outlines."""
        self.reads += 1
        assert self.may_read.wait(60)
        if not path:
            raise PixelsUndecodable("none")
        return self.content


def seg_of(sha256: str) -> Result:
    return Result(
        job_id=JobID("job"),
        kind=ResultKind.SEG,
        study_instance_uid=StudyUID("1.2"),
        series_instance_uid=SeriesUID("1.2.3"),
        sop_instance_uid=InstanceUID("1.2.3.4"),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        transfer_syntax_uid=EXPLICIT,
        path="seg.dcm",
        size_bytes=10,
        sha256=sha256,
    )


def test_a_seg_that_many_ask_for_is_read_once() -> None:
    pool = SlowPool(b'{"frames": []}')
    outlines = Outlines(pool)
    with ThreadPoolExecutor(4) as executor:
        asked = [executor.submit(outlines.read, seg_of("a"), "seg.dcm") for _ in range(4)]
        pool.may_read.set()
        assert [one.result(60) for one in asked] == [{"frames": []}] * 4
    assert pool.reads == 1


def test_what_cannot_be_read_is_read_again_and_what_is_kept_has_a_bound() -> None:
    pool = SlowPool(b'{"frames": []}')
    pool.may_read.set()
    outlines = Outlines(pool, kept_bytes=2 * len(pool.content))
    for _ in range(2):
        with pytest.raises(PixelsUndecodable):
            outlines.read(seg_of("bad"), "")
    assert pool.reads == 2
    for name in ("a", "b", "a", "c", "a"):
        outlines.read(seg_of(name), "seg.dcm")
    assert pool.reads == 5
    outlines.read(seg_of("b"), "seg.dcm")
    assert pool.reads == 6
