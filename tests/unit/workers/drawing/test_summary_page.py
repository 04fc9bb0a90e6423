"""The page shows each finding where it is, says the answer, and never looks like no result."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from node.domain.codes import BRAIN, LEFT, LUNG, NEOPLASM, NODULE, PNEUMONIA, RIGHT, Code
from node.domain.finding import Finding, Presence
from node.domain.result import OptionalResult, ResultKind
from tests.analyses import TILTED, Case, ct_case, known, make_slices, xray_case
from workers.drawing.canvas import INK, MARKS, WARN, Canvas, Mark, fit, shorten, split_dashes, wrap
from workers.drawing.lettering import measure_text
from workers.drawing.page_findings import MAIN_PX, PANELS_TOP, spread
from workers.drawing.page_frame import LEFT as PAGE_LEFT
from workers.drawing.slice_panel import Panel, name_side, outline_segments, to_page, view_whole
from workers.drawing.wording import (
    headline,
    headline_labels,
    headline_nothing,
    name_row,
    say_asked,
    say_measurement,
    say_measurements,
    say_patient,
    say_study,
)
from workers.encoding.encoder import EncodedResult
from workers.encoding.headers import copy_header
from workers.volume import read_volume

Page = NDArray[np.uint8]


def page_of(results: Sequence[EncodedResult]) -> Page:
    content = next(result.content for result in results if result.kind is ResultKind.SC)
    pixels: Page = dcmread(BytesIO(content)).pixel_array
    return pixels


def draw(case: Case) -> Page:
    return page_of(case.encode(OptionalResult.PICTURE))


def colored(page: Page, mark: Mark, *, tolerance: int = 40) -> NDArray[np.bool_]:
    """Return where the page has the color of a Mark."""
    near: NDArray[np.bool_] = (np.abs(page.astype(int) - np.array(mark.color)) <= tolerance).all(axis=-1)
    return near


def has_color(page: Page, color: tuple[int, int, int]) -> bool:
    return bool((page == np.array(color, np.uint8)).all(axis=-1).any())


@pytest.mark.parametrize("name", ["ct", "tilted"])
def test_outline_in_the_large_panel_surrounds_the_nodule(name: str) -> None:
    case, results = known(name)
    volume, finding, ball = case.analysis.reference, case.analysis.findings[0], case.balls[0]
    assert volume is not None
    assert finding.key_slice is not None
    panel = Panel(at=(PAGE_LEFT, PANELS_TOP), size=MAIN_PX)
    _, row, column = volume.to_index(ball.center_mm)
    # An index names the middle of a pixel; the corner of the first pixel is the origin on the page.
    x, y = to_page((column + 0.5, row + 0.5), volume, view_whole(volume, finding.key_slice), panel)
    shown = page_of(results)[PANELS_TOP : PANELS_TOP + MAIN_PX, PAGE_LEFT : PAGE_LEFT + MAIN_PX]
    rows, columns = np.nonzero(colored(shown, MARKS[0]))
    assert rows.size
    away = np.hypot(columns + PAGE_LEFT - x, rows + PANELS_TOP - y)
    px_per_mm = MAIN_PX / (2 * view_whole(volume, finding.key_slice).reach_mm)
    # Nothing is drawn inside of the nodule, and its outline lies at its edge.
    assert away.min() > 0.7 * ball.radius_mm * px_per_mm
    assert abs(np.percentile(away, 10) - ball.radius_mm * px_per_mm) < 0.8 * px_per_mm


def test_each_finding_has_its_own_mark() -> None:
    page = page_of(known("ct")[1])
    assert colored(page, MARKS[0]).sum() > 500
    assert colored(page, MARKS[1]).sum() > 500


def test_page_without_findings_shows_no_mark() -> None:
    page = draw(ct_case(with_nodules=False))
    assert page.shape == (1200, 1600, 3)
    assert not has_color(page, MARKS[0].color)
    assert has_color(page, INK)


@pytest.mark.parametrize("name", ["ct", "mr", "xray"])
def test_notice_stands_above_and_below(name: str) -> None:
    page = page_of(known(name)[1])
    assert page.shape == (1200, 1600, 3)
    assert has_color(page[:100], WARN)
    assert has_color(page[1110:], WARN)


def test_heat_is_drawn_where_the_classifier_looked() -> None:
    page = page_of(known("xray")[1])[246:840]
    rows, columns = np.nonzero(colored(page, MARKS[0], tolerance=12))
    right_image = columns > 800
    # The heat of the case lies at 60 of 96 rows and 20 of 80 columns; the image is 590 high and 492 wide.
    assert rows[right_image].mean() == pytest.approx(590 * 60.5 / 96, abs=12)
    left_edge = 40 + 752 + 16
    assert columns[right_image].mean() == pytest.approx(left_edge + 492 * 20.5 / 80, abs=12)
    assert not right_image.all() or rows.size


def test_absent_and_undecided_radiographs_have_a_page_without_heat() -> None:
    for presence in (Presence.ABSENT, Presence.UNDETERMINED):
        assert not has_color(draw(xray_case(presence)), MARKS[0].color)


def test_many_labels_find_room() -> None:
    more = [Code(str(n), "99RADNODE", f"Label {n}") for n in range(14)]
    page = draw(xray_case(more=more))
    assert page.shape == (1200, 1600, 3)
    assert page[1108, 60:1540].max() > 0  # the rule above the foot is not overdrawn


def test_many_findings_find_room() -> None:
    case = ct_case()
    volume = case.analysis.reference
    assert volume is not None
    mask = np.zeros(volume.voxels.shape, np.uint8)
    findings = []
    for number in range(1, 13):
        mask[number - 1, 4 * number : 4 * number + 3, 3 * number : 3 * number + 3] = number
        findings.append(replace(case.analysis.findings[0], segment_number=number, key_slice=None, label=f"N {number}"))
    voxel = float(np.prod(volume.spacing_mm))
    findings = [replace(f, measurements={"volume_mm3": 9 * voxel}) for f in findings]
    page = draw(replace(case, analysis=replace(case.analysis, findings=tuple(findings), mask=mask)))
    assert page.shape == (1200, 1600, 3)


def test_names_that_the_font_lacks_do_not_stop_the_page() -> None:
    page = draw(ct_case(with_nodules=False, PatientName="山田^太郎", StudyDescription="Thorax nativ, Müller"))
    assert page.shape == (1200, 1600, 3)


def test_side_letters_follow_the_orientation() -> None:
    volume = read_volume(make_slices(orientation=TILTED))
    assert name_side(volume.affine[:3, 2]) == "L"
    assert name_side(-volume.affine[:3, 2]) == "R"
    assert name_side(-volume.affine[:3, 1]) == "A"
    coronal = read_volume(make_slices(orientation=(1, 0, 0, 0, 0, -1)))
    assert name_side(-coronal.affine[:3, 1]) == "H"


def test_segment_that_encloses_another_is_outlined_once_around_it() -> None:
    plane = np.zeros((9, 9), np.uint8)
    plane[1:8, 1:8] = 1
    plane[3:6, 3:6] = 2
    plane[6, 6] = 0
    outer, inner = outline_segments(plane)
    assert outer.region.sum() == 7 * 7 - 1
    assert inner.region.sum() == 9
    assert outer.mark != inner.mark


@given(data=st.data(), total=st.integers(1, 60), count=st.sampled_from([1, 2, 3, 6]))
def test_key_slice_is_always_among_the_shown(data: st.DataObject, total: int, count: int) -> None:
    first = data.draw(st.integers(0, total - 1))
    last = data.draw(st.integers(first, total - 1))
    key = data.draw(st.integers(first, last))
    chosen = spread((first, last), key, count, total)
    assert key in chosen
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, total)
    assert all(0 <= index < total for index in chosen)


def test_shown_slices_cover_the_extent_of_a_finding() -> None:
    assert spread((9, 14), 9, 6, 22) == [9, 10, 11, 12, 13, 14]
    wide = spread((9, 15), 12, 6, 40)
    assert wide[0] <= 9
    assert wide[-1] >= 15
    assert spread((4, 4), 4, 3, 12) == [3, 4, 5]


def finding(label: str = "Nodule 1", code: Code = NODULE, **changes: object) -> Finding:
    plain = Finding(label=label, code=code, site=LUNG, laterality=RIGHT, measurements={"long_axis_mm": 8.44})
    return replace(plain, **changes)  # type: ignore[arg-type] # any field of a Finding


def test_headline_says_how_many_how_large_and_where() -> None:
    other = finding("Nodule 2", laterality=LEFT, measurements={"long_axis_mm": 5.6})
    assert headline([finding()], "lung_nodules") == "1 lung nodule, 8.4 mm, right lung"
    assert headline([other, finding()], "lung_nodules") == "2 lung nodules, largest 8.4 mm, right lung"


def test_headline_of_nothing_names_what_was_looked_for() -> None:
    spleen, liver = Code("78961009", "SCT", "Spleen"), Code("10200004", "SCT", "Liver")
    assert headline_nothing("lung_nodules", (NODULE,)) == "No lung nodule found by the AI"
    assert headline_nothing("organs", (spleen, liver)) == "No spleen or liver found by the AI"
    assert headline_nothing("organs", ()) == headline_nothing("organs", (spleen,) * 3) == "Nothing found by the AI"
    assert say_asked("organs", (spleen, liver)) == "Spleen, Liver"
    assert say_asked("organs", ()) == "Findings of the model"


def test_headline_of_a_tumour_names_its_parts() -> None:
    whole = finding("FLAIR abnormality", NEOPLASM, site=BRAIN, measurements={"volume_mm3": 51234.0})
    part = finding("Enhancing part", NEOPLASM, site=BRAIN, measurements={"volume_mm3": 812.4})
    expected = "FLAIR abnormality, 51.2 cm³, right side of the brain; enhancing part, 812 mm³"
    assert headline([whole, part], "brain_tumour") == expected
    assert headline([whole, part, part], "brain_tumour") == expected + " and 1 more"


def test_headline_of_labels_never_calls_undecided_absent() -> None:
    def label(presence: Presence) -> Finding:
        return Finding(label="Pneumonia", code=PNEUMONIA, presence=presence)

    assert headline_labels([label(Presence.PRESENT)]) == "Pneumonia likely"
    assert headline_labels([label(Presence.ABSENT)]) == "No pneumonia found by the AI"
    assert headline_labels([label(Presence.UNDETERMINED)]) == "Pneumonia: the AI is undecided"
    assert headline_labels([label(Presence.ABSENT)] * 2) == "None of the labels found by the AI"


def test_rows_of_a_table_tell_findings_apart() -> None:
    assert name_row(finding("Nodule 2")) == "Right lung"
    assert name_row(finding("Nodule 2", site=None)) == "Nodule 2"
    assert name_row(finding("FLAIR abnormality")) == "FLAIR abnormality"


def test_numbers_have_units_and_a_true_minus() -> None:
    assert say_measurement("mean_hu", -31.6) == "\N{MINUS SIGN}32 HU"
    assert say_measurement("volume_mm3", 1204.4) == "1,204 mm³"
    assert say_measurement("short_axis_mm", 6.94) == "6.9 mm"
    axes = {"long_axis_mm": 8.44, "short_axis_mm": 6.94}
    assert say_measurements(axes, tuple(axes)) == "8.4 \N{MULTIPLICATION SIGN} 6.9 mm"
    assert say_measurements({"short_axis_mm": 6.94}, tuple(axes)) == "6.9 mm"
    assert say_measurements({}, tuple(axes)) == ""


def test_patient_and_study_lines_leave_out_what_is_absent() -> None:
    assert say_patient(copy_header(ct_case().inputs["ct"][0])) == "Case, Test   ID T-1   F   born 1962-03-31"
    bare = Dataset()
    bare.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    bare.Modality = "CT"
    assert say_patient(copy_header(bare)) == "No name   No ID"
    assert say_study(copy_header(bare), slices="3 slices of 1.0 mm") == "CT   Series, 3 slices of 1.0 mm"
    bare.StudyDescription = "CT Chest"
    assert say_study(copy_header(bare), slices="3 slices") == "CT Chest   Series, 3 slices"


def test_lines_are_wrapped_and_shortened_to_their_width() -> None:
    lines = wrap(["One sentence of some length.", "And another one."], size=20, width=160)
    assert len(lines) > 1
    assert " ".join(lines) == "One sentence of some length. And another one."
    assert all(measure_text(line, 20) <= 160 for line in lines)
    cut = shorten("A headline that is far too long", size=38, width=200)
    assert cut.endswith("…")
    assert measure_text(cut, 38) <= 200
    assert shorten("short", size=20, width=200) == "short"


def test_long_lines_are_set_smaller_before_they_are_cut() -> None:
    width = measure_text("A headline", 31, bold=True)
    assert fit("A headline", sizes=(38, 34, 31, 28), width=width, bold=True) == ("A headline", 31)
    cut, size = fit("A headline of many words", sizes=(38, 28), width=width, bold=True)
    assert size == 28
    assert cut.endswith("…")
    assert measure_text(cut, 28, bold=True) <= width


def test_dashes_have_their_lengths() -> None:
    line = [(0.0, 0.0), (30.0, 0.0), (30.0, 30.0)]
    parts = list(split_dashes(line, (10.0, 5.0)))
    lengths = [sum(abs(x1 - x0) + abs(y1 - y0) for (x0, y0), (x1, y1) in pairwise(p)) for p in parts]
    assert lengths == pytest.approx([10.0] * 4)
    assert list(split_dashes(line, ())) == [line]


def test_line_stays_within_its_clip() -> None:
    canvas = Canvas(100, 60)
    canvas.line([(5, 30), (95, 30)], mark=MARKS[0], width=3, clip=(20, 0, 50, 60))
    columns = np.nonzero(canvas.finish().pixels.any(axis=(0, 2)))[0]
    assert (columns.min(), columns.max()) == (20, 49)
