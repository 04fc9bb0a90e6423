"""Each geometry that cannot be measured is refused with its own code, in words that name the thing and the remedy."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage

from node.domain.uids import derive_uid
from node.errors import NodeError
from tests.analyses import SPACING_MM, make_slices, resend
from workers.volume import read_volume

Series = list[Dataset]
Damage = Callable[[Series], Series]
REMEDIES = ("send ", "Resend", "correct ", "convert ")


def in_order() -> Series:
    """Return 12 slices as another node reads them, from foot to head."""
    return sorted((resend(ds) for ds in make_slices()), key=lambda ds: float(ds.ImagePositionPatient[2]))


def put_raw(ds: Dataset, keyword: str, text: str) -> None:
    """Set an element to bytes that no writer would write, as they come from a file."""
    tag = Tag(tag_for_keyword(keyword) or keyword)
    ds[tag] = RawDataElement(tag, dictionary_VR(keyword), len(text), text.encode(), 0, False, True)


def in_one(keyword: str, text: str) -> Damage:
    def damage(series: Series) -> Series:
        put_raw(series[4], keyword, text)
        return series

    return damage


def in_all(keyword: str, text: str) -> Damage:
    def damage(series: Series) -> Series:
        for ds in series:
            put_raw(ds, keyword, text)
        return series

    return damage


def without(keyword: str) -> Damage:
    def damage(series: Series) -> Series:
        for ds in series:
            del ds[keyword]
        return series

    return damage


def twin_of(ds: Dataset, name: str) -> Dataset:
    twin = copy.deepcopy(ds)
    twin.SOPInstanceUID = derive_uid("test", "twin", name)
    return twin


def double_one(series: Series) -> Series:
    return [*series, twin_of(series[6], "one")]


def double_all(series: Series) -> Series:
    return [*series, *(twin_of(ds, str(number)) for number, ds in enumerate(series))]


def add_phase(series: Series) -> Series:
    second = [twin_of(ds, str(number)) for number, ds in enumerate(series)]
    for ds in second:
        ds.PixelData = (np.frombuffer(ds.PixelData, np.uint16) + 40).astype(np.uint16).tobytes()
    return [*series, *second]


def repeat_instance(series: Series) -> Series:
    return [*series, series[3]]


def tilt_gantry(series: Series) -> Series:
    """Lean the stack by 15 degrees, as a CT whose gantry is tilted and whose slices stay parallel."""
    for number, ds in enumerate(series):
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, round(y + number * SPACING_MM[0] * float(np.tan(np.radians(15))), 6), z]
    return series


def add_localizer(series: Series) -> Series:
    localizer = twin_of(series[0], "localizer")
    localizer.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    return [*series, localizer]


def halve_steps(series: Series) -> Series:
    """Bring the uppermost slices to half the distance, as two blocks of one spiral."""
    for number, ds in enumerate(series[8:]):
        x, y, z = (float(v) for v in series[7].ImagePositionPatient)
        ds.ImagePositionPatient = [x, y, round(z + (number + 1) * SPACING_MM[0] / 2, 6)]
    return series


def enhance(series: Series, frames: int) -> Series:
    """Return one Enhanced CT Instance with the geometry of each Frame in its functional groups."""
    ds = copy.deepcopy(series[0])
    ds.SOPClassUID, ds.NumberOfFrames = EnhancedCTImageStorage, frames
    groups = []
    for source in series[:frames]:
        plane, group = Dataset(), Dataset()
        plane.ImagePositionPatient = source.ImagePositionPatient
        group.PlanePositionSequence = DicomSequence([plane])
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        del ds[keyword]
    ds.PixelData = b"".join(source.PixelData for source in series[:frames])
    return [ds]


def cut_pixels(series: Series) -> Series:
    series[7].PixelData = series[7].PixelData[:-64]
    return series


GEOMETRIES: dict[str, tuple[Damage, str]] = {
    "no instance": (lambda series: [], "input-missing"),
    "one slice": (lambda series: series[:1], "too-few-slices"),
    "two slices": (lambda series: series[:2], "too-few-slices"),
    "a slice missing": (lambda series: series[:5] + series[6:], "slice-missing"),
    "half of the slices shifted away": (lambda series: series[:4] + series[8:], "slice-missing"),
    "one slice twice, the same pixels under another UID": (double_one, "slice-doubled"),
    "every slice twice, the same pixels under other UIDs": (double_all, "slice-doubled"),
    "two phases": (add_phase, "slice-doubled"),
    "one Instance twice": (repeat_instance, "slice-doubled"),
    "all slices at one place": (in_all("ImagePositionPatient", "1\\2\\3"), "slice-doubled"),
    "tilted gantry": (tilt_gantry, "mixed-geometry"),
    "a localizer among the slices": (add_localizer, "mixed-geometry"),
    "two slice distances": (halve_steps, "mixed-geometry"),
    "a slice with NaN for a position": (in_one("ImagePositionPatient", "-21\\nan\\12"), "mixed-geometry"),
    "a slice at infinity": (in_one("ImagePositionPatient", "-21\\-30\\inf"), "mixed-geometry"),
    "a slice with letters for a position": (in_one("ImagePositionPatient", "left\\top\\12"), "mixed-geometry"),
    "a slice with two coordinates": (in_one("ImagePositionPatient", "-21\\-30"), "mixed-geometry"),
    "a slice with an empty position": (in_one("ImagePositionPatient", ""), "mixed-geometry"),
    "no position": (without("ImagePositionPatient"), "mixed-geometry"),
    "no orientation": (without("ImageOrientationPatient"), "mixed-geometry"),
    "orientation of five numbers": (in_all("ImageOrientationPatient", "1\\0\\0\\0\\1"), "mixed-geometry"),
    "orientation with NaN": (in_all("ImageOrientationPatient", "1\\0\\0\\0\\nan\\0"), "mixed-geometry"),
    "orientation of no length": (in_all("ImageOrientationPatient", "0\\0\\0\\0\\0\\0"), "mixed-geometry"),
    "orientation of parallel vectors": (in_all("ImageOrientationPatient", "1\\0\\0\\1\\0\\0"), "mixed-geometry"),
    "no pixel spacing": (without("PixelSpacing"), "mixed-geometry"),
    "pixel spacing of 0": (in_all("PixelSpacing", "0\\0"), "mixed-geometry"),
    "negative pixel spacing": (in_all("PixelSpacing", "-0.8\\0.7"), "mixed-geometry"),
    "one slice with negative pixel spacing": (in_one("PixelSpacing", "-0.8\\-0.7"), "mixed-geometry"),
    "pixel spacing of NaN": (in_all("PixelSpacing", "nan\\0.7"), "mixed-geometry"),
    "pixel spacing of one number": (in_all("PixelSpacing", "0.8"), "mixed-geometry"),
    "pixel spacing with letters": (in_all("PixelSpacing", "0,8\\0,7"), "mixed-geometry"),
    "one slice with other pixel spacing": (in_one("PixelSpacing", "0.9\\0.7"), "mixed-geometry"),
    "one slice of another Frame of Reference": (in_one("FrameOfReferenceUID", "1.2.3"), "mixed-geometry"),
    "no Frame of Reference": (without("FrameOfReferenceUID"), "no-frame-of-reference"),
    "an empty Frame of Reference": (in_all("FrameOfReferenceUID", ""), "no-frame-of-reference"),
    "two Frames of Reference in each": (in_all("FrameOfReferenceUID", "1.2\\1.3"), "no-frame-of-reference"),
    "Frames without orientation and spacing": (lambda series: enhance(series, 12), "mixed-geometry"),
    "single frames with a multi-frame Instance": (lambda series: [*series, *enhance(series, 3)], "mixed-geometry"),
    "cut pixels": (cut_pixels, "pixels-undecodable"),
    "a rescale slope with letters": (in_one("RescaleSlope", "one"), "pixels-undecodable"),
    "a rescale intercept of NaN": (in_one("RescaleIntercept", "nan"), "pixels-undecodable"),
}


@pytest.mark.parametrize(("damage", "code"), GEOMETRIES.values(), ids=GEOMETRIES)
# pydicom quotes what is no DS; the refusal is what counts.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_geometry_that_cannot_be_measured_is_refused_by_its_code(damage: Damage, code: str) -> None:
    series = damage(in_order())
    with pytest.raises(NodeError) as caught:
        read_volume(series)
    message = str(caught.value)
    assert caught.value.code == code
    assert any(remedy in message for remedy in REMEDIES), message
    assert not series or any(uid in message for uid in uids_of(series)), message
    for secret in ("Case", "T-1", "19620331"):
        assert secret not in message


def uids_of(series: Sequence[Dataset]) -> set[str]:
    return {str(ds[keyword].value) for ds in series for keyword in ("SeriesInstanceUID", "SOPInstanceUID")}


def test_the_same_series_undamaged_is_read() -> None:
    assert read_volume(in_order()).spacing_mm == pytest.approx(SPACING_MM)


def test_both_instances_at_one_place_are_named() -> None:
    """Twins are not taken once: viewers stack both, and a SEG would lie on one of them only."""
    series = in_order()
    with pytest.raises(NodeError, match="1 slice positions are taken twice") as caught:
        read_volume(double_one(series))
    assert str(series[6].SOPInstanceUID) in str(caught.value)
    assert derive_uid("test", "twin", "one") in str(caught.value)


def test_the_tilt_is_told_in_degrees() -> None:
    with pytest.raises(NodeError, match=r"sheared by 15\.0 degrees"):
        read_volume(tilt_gantry(in_order()))


def test_a_stack_that_leans_less_than_is_refused_keeps_its_volume() -> None:
    """Of a gantry tilted by 3 degrees a voxel is a leaning prism: as large as an upright one."""
    series = in_order()
    for number, ds in enumerate(series):
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, round(y + number * 0.1, 6), z]
    volume = read_volume(series)
    assert volume.spacing_mm == pytest.approx(SPACING_MM)
    assert volume.voxel_mm3 == pytest.approx(float(np.prod(SPACING_MM)))
    assert volume.to_patient_mm((11, 0, 0))[1] == pytest.approx(-30.0 + 1.1)
