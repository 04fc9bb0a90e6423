"""Whatever a header, a film or a model holds, the page is drawn, stays within its frame and says what it must."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.domain.codes import Code
from node.domain.finding import Finding, Presence
from tests.analyses import Case, ct_case, make_slices, mr_case, organ_case, xray_case
from tests.edge_cases import bare_case, crowded_case, long_uids_case, one_voxel_case
from workers.drawing.canvas import WARN, Drawing, Written
from workers.drawing.lettering import measure_text
from workers.drawing.page import draw_page
from workers.drawing.page_frame import HEIGHT, LEFT, NOTICE, RIGHT, SMALL
from workers.encoding.encoder import find_source
from workers.encoding.headers import copy_header
from workers.encoding.quiet import quiet_libraries
from workers.pipelines.base import Analysis
from workers.radiograph import read_radiograph
from workers.volume import Volume, read_volume

LONG = "An uncommonly long word without end " * 300


def draw(case: Case) -> Drawing:
    with quiet_libraries():
        return draw_page(case.analysis, case.provenance, header=copy_header(find_source(case.analysis)))


def words_of(drawing: Drawing) -> str:
    return "\n".join(written.text for written in drawing.words)


def check_page(drawing: Drawing) -> None:
    """Prove what holds for every page: the notice above and below, and no word beyond the margins or too small."""
    assert drawing.pixels.shape == (1200, 1600, 3)
    assert [written.text for written in drawing.words].count(NOTICE) == 2
    for area in (drawing.pixels[:100], drawing.pixels[1110:]):
        assert (area == np.array(WARN, np.uint8)).all(axis=-1).any()
    for written in drawing.words:
        assert written.size >= SMALL, written
        assert is_on_page(written), written
    # The rules of head and foot are not drawn over.
    for row in (106, 1108):
        assert drawing.pixels[row, LEFT:RIGHT].any(axis=-1).all()


def is_on_page(written: Written) -> bool:
    x, y = written.at
    # Bold letters are wider; the few lines of them are fitted to their room.
    right = x + measure_text(written.text, written.size)
    return x >= LEFT - 1 and right <= RIGHT + 1 and written.size < y < HEIGHT


def with_findings(case: Case, **changes: Any) -> Case:
    findings = tuple(replace(finding, **changes) for finding in case.analysis.findings)
    return replace(case, analysis=replace(case.analysis, findings=findings))


def with_mask(case: Case, *boxes: tuple[slice, slice, slice]) -> Case:
    """Return a CT with one Finding for each box of voxels."""
    volume = case.analysis.reference
    assert volume is not None
    mask = np.zeros(volume.voxels.shape, np.uint8)
    findings = []
    for number, box in enumerate(boxes, start=1):
        mask[box] = number
        finding = replace(case.analysis.findings[0], segment_number=number, key_slice=None, label=f"Nodule {number}")
        findings.append(finding)
    return replace(case, analysis=replace(case.analysis, findings=tuple(findings), mask=mask))


def with_voxels(case: Case, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Case:
    volume = case.analysis.reference
    assert volume is not None
    changed = replace(volume, voxels=change(volume.voxels.copy()).astype(np.float32))
    return replace(case, analysis=replace(case.analysis, reference=changed))


def with_spacing(case: Case, row_mm: float, column_mm: float) -> Case:
    volume = case.analysis.reference
    assert volume is not None
    changed: Volume = replace(volume, spacing_mm=(volume.spacing_mm[0], row_mm, column_mm))
    return replace(case, analysis=replace(case.analysis, reference=changed))


def film(rows: int, columns: int, **elements: Any) -> Case:
    case = xray_case(**elements)
    ds = case.inputs["image"][0]
    ds.Rows, ds.Columns = rows, columns
    ds.PixelData = (np.arange(rows * columns) % 4096).astype(np.uint16).tobytes()
    heat = np.zeros((rows, columns), np.float32)
    heat[rows // 2, columns // 2] = 1.0
    return replace(case, analysis=replace(case.analysis, radiograph=read_radiograph(ds), heat=heat))


def long_model(case: Case) -> Case:
    card = replace(case.provenance.model, name="m" * 300, version="1" * 80, notice=LONG)
    return replace(case, provenance=replace(case.provenance, model=card, node_aet="A" * 16))


CASES: dict[str, Callable[[], Case]] = {
    "two nodules": ct_case,
    "parts of a lesion": mr_case,
    "an organ without certainty": organ_case,
    "no organ": lambda: organ_case(is_found=False),
    "nothing found": lambda: ct_case(with_nodules=False),
    "bare findings": bare_case,
    "one voxel": one_voxel_case,
    "six nodules": lambda: crowded_case(6),
    "twelve nodules": lambda: crowded_case(12),
    "thirty nodules": lambda: crowded_case(30),
    "long UIDs": long_uids_case,
    "corner of the image": lambda: with_mask(ct_case(), (slice(0, 1), slice(0, 2), slice(0, 2))),
    "last corner": lambda: with_mask(ct_case(), (slice(11, 12), slice(62, 64), slice(54, 56))),
    "the whole volume": lambda: with_mask(ct_case(), (slice(None), slice(None), slice(None))),
    "same box twice": lambda: with_mask(
        ct_case(), (slice(4, 6), slice(9, 12), slice(9, 12)), (slice(4, 6), slice(9, 12), slice(9, 11))
    ),
    "one gray value": lambda: with_voxels(mr_case(), np.zeros_like),
    "tiny gray values": lambda: with_voxels(mr_case(), lambda voxels: voxels * 1e-9),
    "huge gray values": lambda: with_voxels(mr_case(), lambda voxels: voxels * 1e30),
    "very long pixels": lambda: with_spacing(ct_case(), 25.0, 0.05),
    "tiny pixels": lambda: with_spacing(ct_case(), 1e-4, 1e-4),
    "huge pixels": lambda: with_spacing(ct_case(), 900.0, 900.0),
    "huge measurements": lambda: with_findings(ct_case(), measurements={"volume_mm3": 1e12, "long_axis_mm": 1e6}),
    "no measurements": lambda: with_findings(ct_case(), measurements={}),
    "long labels": lambda: with_findings(mr_case(), label=LONG, site=Code("1", "99X", LONG)),
    "empty labels": lambda: with_findings(mr_case(), label="", site=None),
    "long model": lambda: long_model(ct_case()),
    "film": xray_case,
    "film, absent": lambda: xray_case(Presence.ABSENT),
    "film, undecided": lambda: xray_case(Presence.UNDETERMINED),
    "film, dense is low": lambda: xray_case(PhotometricInterpretation="MONOCHROME1"),
    "film without spacing and orientation": lambda: xray_case(ImagerPixelSpacing=None, PatientOrientation=None),
    "film of odd orientation": lambda: xray_case(PatientOrientation="L"),
    "film without certainty": lambda: with_findings(xray_case(), confidence=None),
    "film of forty labels": lambda: xray_case(more=[Code(str(n), "99X", f"Label {n}") for n in range(39)]),
    "film of long labels": lambda: xray_case(more=[Code(str(n), "99X", LONG) for n in range(3)]),
    "film of a strip": lambda: film(2000, 12),
    "film of two rows": lambda: film(2, 3000),
    "film of two pixels": lambda: film(1, 2),
}


@pytest.mark.parametrize("name", CASES)
def test_page_is_drawn(name: str) -> None:
    check_page(draw(CASES[name]()))


HEADERS: dict[str, dict[str, Any]] = {
    "markup": {"PatientName": "<script>alert(1)</script>^'; DROP TABLE", "PatientID": "<b>&amp;</b>"},
    "long": {"PatientName": "N" * 4000, "PatientID": "I" * 4000, "StudyDescription": LONG, "AccessionNumber": LONG},
    "controls": {"PatientName": "A\x1b[31m\r\n\tB\u202e^C\u0000", "StudyDescription": "a\nb\x0cc"},
    "two names": {"PatientName": ["One^A", "Two^B"]},
    "several scripts": {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "StudyDescription": "胸部 الصدر חזה"},
    "a script without a font": {"PatientName": "शर्मा^रवि", "StudyDescription": "छाती"},
    "odd dates": {"PatientBirthDate": "1962-13", "StudyDate": "00000000", "StudyTime": "9x"},
    "no birth date": {"PatientBirthDate": "", "PatientSex": "X"},
    "nothing": {"PatientName": None, "PatientID": None, "StudyDate": None, "SeriesNumber": None, "Modality": None},
}


@pytest.mark.parametrize("name", HEADERS)
def test_page_is_drawn_for_any_header(name: str) -> None:
    for case in (ct_case(**HEADERS[name]), xray_case(**HEADERS[name])):
        check_page(draw(case))


def test_patient_is_said_even_where_little_is_known() -> None:
    case = ct_case(**HEADERS["a script without a font"])
    first = draw(case).words[1].text
    assert first == "ID T-1   name cannot be drawn, see the header   F   born 1962-03-31"
    long = draw(ct_case(**{**HEADERS["long"], "PatientID": "T-1"})).words[1].text
    assert long.endswith("N…   ID T-1   F   born 1962-03-31")
    assert "born" not in words_of(draw(ct_case(**HEADERS["no birth date"])))
    assert "<script>" in words_of(draw(ct_case(**HEADERS["markup"])))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.text(max_size=60), study=st.text(max_size=60))
def test_page_is_drawn_for_any_text(name: str, study: str) -> None:
    case = ct_case(with_nodules=False, PatientName=name, StudyDescription=study)
    check_page(draw(replace(case, analysis=replace(case.analysis, notes=(study, name)))))


def test_notes_without_end_are_cut_with_an_ellipsis() -> None:
    case = ct_case()
    noted = replace(case, analysis=replace(case.analysis, notes=(LONG, "x" * 5000)))
    drawing = draw(noted)
    check_page(drawing)
    assert any(written.text.endswith("…") for written in drawing.words)


def test_empty_answers_of_a_classifier_are_drawn() -> None:
    case = xray_case()
    nothing = Analysis(findings=(), radiograph=case.analysis.radiograph)
    check_page(draw(replace(case, analysis=nothing)))


def test_heat_that_is_no_number_leaves_the_film_visible() -> None:
    case = xray_case()
    heat = np.full((96, 80), np.nan, np.float32)
    drawing = draw(replace(case, analysis=replace(case.analysis, heat=heat)))
    check_page(drawing)
    assert drawing.pixels[300:800, 820:1200].max() > 100


def test_series_in_every_direction_has_its_letters() -> None:
    expected = {
        (1, 0, 0, 0, 1, 0): {"R", "L", "A"},
        (-1, 0, 0, 0, -1, 0): {"R", "L", "P"},
        (0, 1, 0, 0, 0, -1): {"A", "P", "H"},
        (1, 0, 0, 0, 0, -1): {"R", "L", "H"},
    }
    case = ct_case(with_nodules=False)
    for orientation, letters in expected.items():
        volume = read_volume(make_slices(orientation=orientation, BodyPartExamined="CHEST"))
        drawing = draw(replace(case, analysis=replace(case.analysis, reference=volume)))
        check_page(drawing)
        assert {written.text for written in drawing.words if len(written.text) == 1 and written.text != "-"} == letters


def headline_of(drawing: Drawing) -> str:
    return max(drawing.words, key=lambda written: written.size).text


def test_no_finding_never_looks_like_a_finding_or_like_no_result() -> None:
    nothing, found = draw(ct_case(with_nodules=False)), draw(ct_case())
    assert headline_of(nothing) == "No lung nodule found by the AI"
    assert "The model ran to its end" in words_of(nothing)
    assert "Certainty of finding" not in words_of(nothing)
    assert headline_of(found).startswith("2 lung nodules")
    assert "The model ran to its end" not in words_of(found)


@pytest.mark.parametrize("count", [3, 5, 6, 12])
def test_each_finding_has_its_row_of_measurements_and_certainty(count: int) -> None:
    drawing = draw(with_findings(crowded_case(count), measurements={"long_axis_mm": 8.4, "short_axis_mm": 6.9}))
    said = words_of(drawing)
    for number in range(1, count + 1):
        assert f"{number}  Nodule {number}" in said
    assert said.count("8.4") >= count
    assert said.count("90 %") >= count
    assert "more in the SR" not in said


def test_findings_beyond_the_table_are_counted() -> None:
    assert "18 more in the SR." in words_of(draw(crowded_case(30)))


def numbers_on_panel(drawing: Drawing) -> list[tuple[float, float]]:
    """Return where the numbers of Findings stand in the large panel."""
    return [
        written.at
        for written in drawing.words
        if written.size == 22 and written.text.isdigit() and written.at[0] < 600 and written.at[1] < 802
    ]


def test_numbers_of_neighbors_do_not_lie_on_each_other() -> None:
    boxes = [(slice(4, 6), slice(20 + 3 * n, 22 + 3 * n), slice(20, 22)) for n in range(4)]
    places = numbers_on_panel(draw(with_mask(ct_case(), *boxes)))
    assert len(places) == 4
    for place, (x, y) in enumerate(places):
        assert all(abs(x - other[0]) >= 14 or abs(y - other[1]) >= 20 for other in places[:place])


def captions(drawing: Drawing) -> Sequence[str]:
    """Return the captions of the key slices."""
    return [written.text for written in drawing.words if 1060 < written.at[1] < 1090 and "image" in written.text]


def test_each_key_slice_shows_its_finding() -> None:
    case = ct_case()
    volume, mask = case.analysis.reference, case.analysis.mask
    assert volume is not None
    assert mask is not None
    shown = captions(draw(case))
    assert len(shown) == 6
    for caption in shown:
        number, _, image = caption.partition("   image ")
        index = next(n for n, ds in enumerate(volume.datasets) if str(ds.InstanceNumber) == image)
        assert (mask[index] == int(number)).any()


def test_parts_of_a_lesion_share_its_key_slices() -> None:
    assert len(captions(draw(mr_case()))) == 6
    assert all(caption.startswith("image") for caption in captions(draw(mr_case())))


def test_page_costs_little() -> None:
    """The page is drawn for every Job; the second one, since the first loads the fonts. CPU seconds."""
    for case in (ct_case(), mr_case(), xray_case(), ct_case(with_nodules=False), crowded_case(30)):
        draw(case)
        start = time.process_time()
        draw(case)
        assert time.process_time() - start < 0.5


def test_label_of_a_finding_is_not_trusted_as_a_name_of_a_font() -> None:
    finding = Finding(label="../../etc/passwd\x00", code=Code("1", "99X", "x"), segment_number=1)
    case = ct_case()
    assert case.analysis.mask is not None
    mask = (case.analysis.mask == 1).astype(np.uint8)
    check_page(draw(replace(case, analysis=replace(case.analysis, findings=(finding,), mask=mask))))
