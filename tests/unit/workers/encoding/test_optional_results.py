"""Key objects, presentation state and document point at what was found, and draw it where it is."""

import hashlib
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import Dataset, dcmread

from node.domain.codes import EDEMA
from node.domain.finding import Presence
from node.domain.result import OptionalResult, ResultKind
from node.errors import ResultCheckFailed
from tests.analyses import (
    ACCEPTED,
    SPACING_MM,
    TILTED,
    Case,
    ct_case,
    known,
    mr_case,
    organ_case,
    read_results,
    xray_case,
)
from tests.changes import Change, rewrite
from tests.edge_cases import crowded_case, one_voxel_case
from workers.drawing.canvas import Canvas
from workers.drawing.pdf import SHEET_PT, write_pdf
from workers.encoding.encoder import OPTIONAL, EncodedResult
from workers.encoding.presentation_state import MAX_POINTS
from workers.proving.check import check_results

KO, PR, DOC, SR = ResultKind.KO, ResultKind.PR, ResultKind.DOC, ResultKind.SR
WISHES = (OptionalResult.KEY_OBJECTS, OptionalResult.PRESENTATION_STATE, OptionalResult.PDF)
FOUND = {"ct": ct_case, "tilted": lambda: ct_case(orientation=TILTED), "mr": mr_case, "xray": xray_case}
NOTHING = {"ct": lambda: ct_case(with_nodules=False), "xray": lambda: xray_case(Presence.ABSENT)}


@cache
def made(name: str) -> tuple[Case, tuple[EncodedResult, ...]]:
    case = FOUND[name]()
    return case, case.encode(*WISHES)


def objects(name: str) -> dict[ResultKind, Dataset]:
    return read_results(made(name)[1])


def encode_one(case: Case, kind: ResultKind) -> Dataset | None:
    return read_results(case.encode(*WISHES)).get(kind)


@pytest.mark.parametrize("name", FOUND)
def test_wished_results_are_there_once_and_true(name: str) -> None:
    case, results = made(name)
    kinds = [result.kind for result in results]
    assert [kind for kind in kinds if kind in (KO, PR, DOC)] == [KO, PR, DOC]
    assert not any(result.is_substitute for result in results if result.kind is not ResultKind.SC)
    check_results(results, case.analysis, case.inputs)


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_found_has_a_document_and_no_key_objects(name: str) -> None:
    case = NOTHING[name]()
    results = case.encode(*WISHES)
    assert {result.kind for result in results} & {KO, PR, DOC} == {DOC}
    check_results(results, case.analysis, case.inputs)


def test_nothing_optional_is_written_without_being_wished_for() -> None:
    assert {result.kind for result in ct_case().encode()} == {ResultKind.SEG, SR, ResultKind.SC}
    assert set(OPTIONAL) | {OptionalResult.PICTURE} == set(OptionalResult)


@pytest.mark.parametrize("name", FOUND)
def test_identity_times_and_numbers_are_as_in_every_result(name: str) -> None:
    case, _ = made(name)
    source = next(iter(case.inputs.values()))[0]
    for kind, number in ((KO, 9400), (PR, 9500), (DOC, 9600)):
        ds = objects(name)[kind]
        assert ds.SeriesNumber == number + case.provenance.model.series_offset
        assert ds.Modality == kind.value
        assert re.fullmatch(r"AI .* \(unverified\)", ds.SeriesDescription)
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
            assert ds[keyword].value == source[keyword].value
        assert (ds.SeriesDate, ds.SeriesTime[:6]) == (ACCEPTED.strftime("%Y%m%d"), ACCEPTED.strftime("%H%M%S"))
        assert ds.SOPInstanceUID == case.provenance.uid(kind.value)
    assert objects(name)[PR].PresentationCreationTime == ACCEPTED.strftime("%H%M%S")


SCRIPT = """
import hashlib, sys
from tests.unit.workers.encoding.test_optional_results import FOUND, WISHES
for name in sorted(FOUND):
    for result in FOUND[name]().encode(*WISHES):
        print(name, result.kind, hashlib.sha256(result.content).hexdigest())
"""


def test_another_process_writes_the_same_bytes() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120, env=environment
    )
    ours = [
        f"{name} {result.kind} {hashlib.sha256(result.content).hexdigest()}"
        for name in sorted(FOUND)
        for result in made(name)[1]
    ]
    assert run.stdout.splitlines() == ours


def key_uids(case: Case) -> list[str]:
    """Return the SOP Instance UIDs of the slices on which the Findings are largest."""
    volume = case.analysis.reference
    if volume is None:
        return [str(case.inputs["image"][0].SOPInstanceUID)]
    return [str(volume.datasets[finding.key_slice or 0].SOPInstanceUID) for finding in case.analysis.findings]


@pytest.mark.parametrize("name", FOUND)
def test_key_objects_are_the_key_slices_and_the_report(name: str) -> None:
    case, _ = made(name)
    ko = objects(name)[KO]
    document = hd.ko.KeyObjectSelectionDocument.from_dataset(ko)
    assert ko.ConceptNameCodeSequence[0].CodeValue == "113000"
    references = [
        (item.ValueType, str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
        for item in ko.ContentSequence
        if "ReferencedSOPSequence" in item
    ]
    report = str(objects(name)[SR].SOPInstanceUID)
    assert references == [*(("IMAGE", uid) for uid in dict.fromkeys(key_uids(case))), ("COMPOSITE", report)]
    for _, uid in references:
        assert document.resolve_reference(uid)[0] == ko.StudyInstanceUID
    words = " ".join(str(item.TextValue) for item in ko.ContentSequence if item.ValueType == "TEXT")
    assert "AI result, unverified" in words
    for finding in case.analysis.findings:
        assert f"AI {finding.label}" in words


def test_findings_on_one_slice_select_it_once() -> None:
    case = crowded_case(30)
    ko = encode_one(case, KO)
    assert ko is not None
    assert [item.ValueType for item in ko.ContentSequence].count("IMAGE") == 1


def lines_of(annotation: Dataset) -> list[NDArray[np.float64]]:
    return [np.asarray(item.GraphicData, float).reshape(-1, 2) for item in annotation.GraphicObjectSequence]


def inside(lines: list[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels whose middle lies inside of closed lines, drawn by another program at four times the size."""
    image = Image.new("1", (4 * shape[1], 4 * shape[0]))
    for line in lines:
        ImageDraw.Draw(image).polygon([(4 * x - 0.5, 4 * y - 0.5) for x, y in line], fill=1)
    drawn: NDArray[np.bool_] = np.asarray(image)[2::4, 2::4]
    return drawn


@pytest.mark.parametrize("name", ["ct", "tilted", "mr"])
def test_outlines_enclose_the_segments_on_their_key_slices(name: str) -> None:
    case, _ = made(name)
    pr, mask = objects(name)[PR], case.analysis.mask
    assert mask is not None
    for annotation, finding, uid in zip(
        pr.GraphicAnnotationSequence, case.analysis.findings, key_uids(case), strict=True
    ):
        assert [str(item.ReferencedSOPInstanceUID) for item in annotation.ReferencedImageSequence] == [uid]
        region = mask[finding.key_slice] == finding.segment_number
        lines = lines_of(annotation)
        assert all((line[0] == line[-1]).all() for line in lines)
        # A hole is outlined too; what is inside of the outer line holds the segment whole.
        outer = max(lines, key=len)
        assert not (region & ~inside([outer], region.shape)).any()
        assert {item.TrackingID for item in annotation.GraphicObjectSequence} == {f"AI {finding.label}"}
        assert annotation.TextObjectSequence[0].UnformattedTextValue == (
            f"AI {finding.label}, {finding.measurements['long_axis_mm']:.1f} mm, unverified"
        )
    shown = {str(item.ReferencedSOPInstanceUID) for item in pr.ReferencedSeriesSequence[0].ReferencedImageSequence}
    assert shown == set(key_uids(case))


def test_lines_of_a_heat_map_lie_around_its_largest_value() -> None:
    (annotation,) = objects("xray")[PR].GraphicAnnotationSequence
    lines = lines_of(annotation)
    assert len(lines) == 3
    for line in lines:
        assert inside([line], (96, 80))[60, 20]
        assert (line >= 0).all()
        assert (line <= (80, 96)).all()
    # Half of the largest value of the case is reached 9 * sqrt(ln 2) rows away from it.
    middle = lines[1]
    assert np.ptp(middle[:, 1]) / 2 == pytest.approx(9 * np.sqrt(np.log(2)), abs=1.0)
    assert annotation.TextObjectSequence[0].UnformattedTextValue == "AI Pneumonia, 86 %, unverified"


def window_of(ds: Dataset) -> tuple[float, float]:
    item = ds.SoftcopyVOILUTSequence[0]
    return float(item.WindowCenter), float(item.WindowWidth)


def present(case: Case) -> Dataset:
    pr = encode_one(case, PR)
    assert pr is not None
    return pr


def test_window_fits_the_image() -> None:
    assert window_of(objects("ct")[PR]) == (-400, 1400)
    assert window_of(present(organ_case())) == (40, 400)
    head = ct_case()
    for ds in head.inputs["ct"]:
        ds.BodyPartExamined = "HEAD"
    assert window_of(present(head)) == (40, 80)
    volume = mr_case().analysis.reference
    assert volume is not None
    center, width = window_of(objects("mr")[PR])
    assert volume.voxels.min() < center < volume.voxels.max()
    assert 0 < width <= np.ptp(volume.voxels)
    film = xray_case(WindowCenter=["300", "9"], WindowWidth=["500", "1"])
    assert window_of(present(film)) == (300, 500)
    unusable: tuple[dict[str, Any], ...] = ({"WindowCenter": "3", "WindowWidth": "0"}, {"WindowCenter": "3"}, {})
    for odd in unusable:
        center, width = window_of(present(xray_case(**odd)))
        assert 300 < center < 600
        assert width > 400


def test_gray_scale_is_that_of_the_source() -> None:
    pr = objects("ct")[PR]
    assert (pr.RescaleSlope, pr.RescaleIntercept, pr.RescaleType) == (1, -1024, "HU")
    assert pr.PresentationLUTShape == "IDENTITY"
    assert present(xray_case(PhotometricInterpretation="MONOCHROME1")).PresentationLUTShape == "INVERSE"
    assert "RescaleSlope" not in objects("xray")[PR]


def test_pixels_keep_their_shape() -> None:
    (area,) = objects("ct")[PR].DisplayedAreaSelectionSequence
    assert list(area.PresentationPixelSpacing) == list(SPACING_MM[1:])
    assert list(area.DisplayedAreaBottomRightHandCorner) == [56, 64]
    (area,) = present(xray_case(PixelAspectRatio=["4", "3"])).DisplayedAreaSelectionSequence
    assert list(area.PresentationPixelAspectRatio) == [4, 3]
    (area,) = present(xray_case(PixelSpacing=["0", "0"])).DisplayedAreaSelectionSequence
    assert list(area.PresentationPixelAspectRatio) == [1, 1]


def test_slices_of_different_rescaling_have_no_presentation_state() -> None:
    case = ct_case()
    volume = case.analysis.reference
    assert volume is not None
    volume.datasets[8].RescaleSlope = "2"
    assert encode_one(case, PR) is None
    assert encode_one(case, KO) is not None


def test_long_lines_are_split_where_explicit_vr_ends() -> None:
    case = xray_case()
    assert case.analysis.radiograph is not None
    # A comb: its line goes up and down each tooth.
    heat = np.zeros((256, 256), np.float32)
    heat[0] = heat[:, ::4] = heat[:, 1::4] = 1.0
    radiograph = replace(case.analysis.radiograph, pixels=np.zeros((256, 256), np.float32))
    radiograph.dataset.Rows = radiograph.dataset.Columns = 256
    radiograph.dataset.PixelData = bytes(2 * 256 * 256)
    pr = present(replace(case, analysis=replace(case.analysis, heat=heat, radiograph=radiograph)))
    graphics = pr.GraphicAnnotationSequence[0].GraphicObjectSequence
    assert len(graphics) > 3
    assert max(item.NumberOfGraphicPoints for item in graphics) <= MAX_POINTS
    assert {item["GraphicData"].VR for item in graphics} == {"FL"}
    lines = lines_of(pr.GraphicAnnotationSequence[0])
    joints = [(before[-1] == after[0]).all() for before, after in pairwise(lines)]
    # Only between the lines of two levels is there a gap.
    assert joints.count(False) <= 2


def test_small_and_many_segments_are_outlined() -> None:
    assert len(lines_of(present(one_voxel_case()).GraphicAnnotationSequence[0])[0]) == 5
    case = crowded_case(30)
    assert len(present(case).GraphicAnnotationSequence) == 30


def test_radiograph_without_a_heat_map_has_no_presentation_state() -> None:
    case = xray_case()
    assert encode_one(replace(case, analysis=replace(case.analysis, heat=None)), PR) is None
    blank = np.zeros_like(case.analysis.heat)
    assert encode_one(replace(case, analysis=replace(case.analysis, heat=blank)), PR) is None


READ_LIMIT_S = 60.0


@pytest.mark.needs("dcmp2pgm")
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dcmtk_shows_the_image_through_the_state(photometric: str, tmp_path: Path) -> None:
    """Bright stays bright on the film as people see it, whatever a low value means."""
    case = xray_case(PhotometricInterpretation=photometric, WindowCenter="500", WindowWidth="900")
    image, state, shown = tmp_path / "image.dcm", tmp_path / "state.dcm", tmp_path / "shown.pgm"
    case.inputs["image"][0].save_as(image, enforce_file_format=True)
    present(case).save_as(state, enforce_file_format=True)
    subprocess.run(["dcmp2pgm", "-p", state, image, shown], check=True, timeout=READ_LIMIT_S, capture_output=True)
    gray = np.asarray(Image.open(shown), float)
    stored = case.inputs["image"][0].pixel_array.astype(float)
    expected = ((stored - 500) / 900 + 0.5).clip(0, 1) * 255
    if photometric == "MONOCHROME1":
        expected = 255 - expected
    assert np.abs(gray - expected).max() <= 3


def pdf_of(ds: Dataset) -> bytes:
    return bytes(ds.EncapsulatedDocument)[: ds.EncapsulatedDocumentLength]


def streams(pdf: bytes) -> list[bytes]:
    """Return what the streams of a PDF hold, in the order of its objects."""
    return [zlib.decompress(packed) for packed in re.findall(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL)]


@pytest.mark.parametrize("name", FOUND)
def test_document_is_a_pdf_that_says_whose_it_is(name: str) -> None:
    ds = objects(name)[DOC]
    assert ds.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert (ds.BurnedInAnnotation, ds.VerificationFlag) == ("YES", "UNVERIFIED")
    assert ds.DocumentTitle.startswith("AI ")
    assert ds.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert len(ds.EncapsulatedDocument) % 2 == 0
    pdf = pdf_of(ds)
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    sources = {str(item.ReferencedSOPInstanceUID) for item in ds.SourceInstanceSequence}
    assert sources == set(key_uids(made(name)[0]))


def test_objects_of_the_pdf_stand_where_its_table_says() -> None:
    pdf = pdf_of(objects("ct")[DOC])
    start = int(pdf.rsplit(b"startxref\n", 1)[1].split()[0])
    assert pdf[start:].startswith(b"xref\n")
    entries = re.findall(rb"(\d{10}) 00000 n \n", pdf[start:])
    for number, entry in enumerate(entries, start=1):
        assert pdf[int(entry) :].startswith(b"%d 0 obj\n" % number)
    assert b"/Size %d " % (len(entries) + 1) in pdf
    assert b"/CreationDate (D:20261121013005Z)" in pdf


def test_sheet_shows_the_page_and_fills_a4() -> None:
    content, image = streams(pdf_of(objects("ct")[DOC]))
    rows = np.frombuffer(image, np.uint8).reshape(1200, 1 + 3 * 1600)
    assert (rows[:, 0] == 2).all()
    page = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).reshape(1200, 1600, 3)
    case, _ = known("ct")
    picture = read_results(case.encode())[ResultKind.SC].pixel_array
    assert np.array_equal(page, picture)
    found = re.search(rb"q ([\d.]+) 0 0 ([\d.]+) ([\d.]+) ([\d.]+) cm", content)
    assert found is not None
    width, height, left, bottom = (float(value) for value in found.groups())
    assert height == pytest.approx(SHEET_PT[1])
    assert width == pytest.approx(height * 4 / 3, abs=0.01)
    assert left + width / 2 == pytest.approx(SHEET_PT[0] / 2, abs=0.01)
    assert bottom == 0


def test_words_of_the_document_can_be_searched() -> None:
    content, _ = streams(pdf_of(objects("ct")[DOC]))
    words = b"\n".join(re.findall(rb"\((.*)\) Tj", content)).decode("cp1252")
    for word in ("Case, Test", "2 lung nodules", "AI result - unverified", "7.4 mm", "97 %"):
        assert word in words
    assert content.count(b"3 Tr") == content.count(b"Tj")


def test_words_that_would_end_a_string_do_not() -> None:
    canvas = Canvas(160, 120)
    canvas.text((10, 50), "a) Tj (b\\ <script>\N{MINUS SIGN}山 é")
    content, _ = streams(write_pdf(canvas.finish(), title="(", created_at=ACCEPTED))
    assert b"(a\\) Tj \\(b\\\\ <script>- \xe9) Tj" in content


def damage(name: str, kind: ResultKind, change: Change, said: str) -> None:
    case, results = made(name)
    damaged = [rewrite(result, change) if result.kind is kind else result for result in results]
    with pytest.raises(ResultCheckFailed, match=said):
        check_results(damaged, case.analysis, case.inputs)


def select_neighbor(ds: Dataset) -> None:
    """Name the slice beside the key slice, everywhere in a KO."""
    case, _ = made("ct")
    volume = case.analysis.reference
    assert volume is not None
    old, new = key_uids(case)[0], str(volume.datasets[0].SOPInstanceUID)
    for item in ds.ContentSequence:
        if "ReferencedSOPSequence" in item and item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == old:
            item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = new
    for series in ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence:
        for item in series.ReferencedSOPSequence:
            if item.ReferencedSOPInstanceUID == old:
                item.ReferencedSOPInstanceUID = new


def move_outline(by: float) -> Change:
    def change(ds: Dataset) -> None:
        for graphic in ds.GraphicAnnotationSequence[0].GraphicObjectSequence:
            graphic.GraphicData = [value + by for value in graphic.GraphicData]

    return change


def narrow_outline(ds: Dataset) -> None:
    """Take a corner of the outline away; its box stays."""
    graphic = ds.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    points = np.asarray(graphic.GraphicData).reshape(-1, 2)
    kept = np.vstack([points[:2], points[3:]])
    graphic.GraphicData, graphic.NumberOfGraphicPoints = kept.ravel().tolist(), len(kept)


def swap_images(ds: Dataset) -> None:
    first, second = ds.GraphicAnnotationSequence
    first.ReferencedImageSequence, second.ReferencedImageSequence = (
        second.ReferencedImageSequence,
        first.ReferencedImageSequence,
    )


def retitle(ds: Dataset) -> None:
    ds.ConceptNameCodeSequence[0].CodeValue = "113001"


def unname(ds: Dataset) -> None:
    ds.GraphicAnnotationSequence[0].TextObjectSequence[0].UnformattedTextValue = "Nodule 1, 7.4 mm"


def hush(ds: Dataset) -> None:
    words = next(item for item in ds.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "113012")
    words.TextValue = "AI"


def forget_report(ds: Dataset) -> None:
    ds.ContentSequence = [item for item in ds.ContentSequence if item.ValueType != "COMPOSITE"]
    evidence = ds.CurrentRequestedProcedureEvidenceSequence[0]
    report = objects("ct")[SR].SeriesInstanceUID
    evidence.ReferencedSeriesSequence = [
        series for series in evidence.ReferencedSeriesSequence if series.SeriesInstanceUID != report
    ]


def end_early(ds: Dataset) -> None:
    ds.EncapsulatedDocument = bytes(ds.EncapsulatedDocument)[:-40]
    ds.EncapsulatedDocumentLength = len(ds.EncapsulatedDocument)


def forget_finding(ds: Dataset) -> None:
    del ds.GraphicAnnotationSequence[1]
    del ds.ReferencedSeriesSequence[0].ReferencedImageSequence[1]


DAMAGES: Mapping[str, tuple[str, ResultKind, Change, str]] = {
    "another slice selected": ("ct", KO, select_neighbor, "images are not those of the findings"),
    "a rejection": ("ct", KO, retitle, "not Of Interest"),
    "not said to be unverified": ("ct", KO, hush, "nobody verified"),
    "without the report": ("ct", KO, forget_report, "SR is not among"),
    "outline one pixel off": ("ct", PR, move_outline(1.0), "beside its segment"),
    "outline of another area": ("ct", PR, narrow_outline, "another area"),
    "outlines on each other's slice": ("ct", PR, swap_images, "not outlined on its key image"),
    "words without AI": ("ct", PR, unname, "words at Nodule 1"),
    "a finding left out": ("ct", PR, forget_finding, "1 findings are outlined"),
    "lines beside the heat": ("xray", PR, move_outline(20.0), "beside the largest value"),
    "a document without its end": ("ct", DOC, end_early, "is cut"),
    "a document called verified": (
        "ct", DOC, lambda ds: setattr(ds, "VerificationFlag", "VERIFIED"), "not UNVERIFIED",
    ),
    "a document without warning": ("ct", DOC, lambda ds: setattr(ds, "BurnedInAnnotation", "NO"), "Burned In"),
    "a document of no title": ("ct", DOC, lambda ds: setattr(ds, "DocumentTitle", "Summary"), "title"),
    "a document of no source": ("ct", DOC, lambda ds: delattr(ds, "SourceInstanceSequence"), "no source"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_of_an_optional_result_is_seen(name: str) -> None:
    damage(*DAMAGES[name])


def test_names_in_other_scripts_are_copied_and_do_not_stop_anything() -> None:
    names: dict[str, Any] = {
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "SpecificCharacterSet": "ISO_IR 192",
    }
    case = ct_case(**names)
    results = case.encode(*WISHES)
    check_results(results, case.analysis, case.inputs)
    for kind in (KO, PR, DOC):
        assert str(read_results(results)[kind].PatientName) == names["PatientName"]


def test_finding_without_size_and_certainty_still_has_words() -> None:
    case = mr_case()
    bare = tuple(replace(one, measurements={}, confidence=None) for one in case.analysis.findings)
    pr = present(replace(case, analysis=replace(case.analysis, findings=bare)))
    words = [item.TextObjectSequence[0].UnformattedTextValue for item in pr.GraphicAnnotationSequence]
    assert words == ["AI FLAIR abnormality, unverified", "AI Enhancing part, unverified"]
    assert case.analysis.findings[0].code == EDEMA


def test_every_result_reads_again_as_it_was_serialized() -> None:
    for result in made("ct")[1]:
        assert dcmread(BytesIO(result.content)).SOPInstanceUID == result.sop_instance_uid
