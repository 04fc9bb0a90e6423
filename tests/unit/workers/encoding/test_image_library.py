"""The Image Library says of each image what highdicom's own library says, in a fraction of the bytes."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import highdicom as hd
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import UID, ComputedRadiographyImageStorage, CTImageStorage, PositronEmissionTomographyImageStorage

from node.domain.result import ResultKind
from tests.analyses import Case, known, make_radiograph, make_slices, mr_case, read_results
from tests.changes import name_of
from workers.encoding.headers import copy_header, copy_slices
from workers.encoding.image_library import describe_radiograph, describe_slices
from workers.encoding.raw_elements import keep_raw, put_items
from workers.volume import Volume, read_volume

Said = Mapping[tuple[str, str], object]


def read_library(library: bytes) -> Dataset:
    """Return the container as a reader gets it: written to a file and read back."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    put_items(ds, "ContentSequence", [library])
    keep_raw(ds)
    buffer = BytesIO()
    ds.save_as(buffer, implicit_vr=False, little_endian=True)
    read: Dataset = dcmread(BytesIO(buffer.getvalue()), force=True).ContentSequence[0]
    return read


def say(item: Dataset) -> tuple[tuple[str, str], object]:
    """Return the name and value of a descriptor; numbers with their unit."""
    key = (name_of(item), str(item.RelationshipType))
    if item.ValueType == "NUM":
        measured = item.MeasuredValueSequence[0]
        unit = measured.MeasurementUnitsCodeSequence[0]
        assert float(measured.get("FloatingPointValue", measured.NumericValue)) == pytest.approx(
            float(measured.NumericValue), rel=1e-9
        )
        return key, (round(float(measured.NumericValue), 6), unit.CodeValue, unit.CodingSchemeDesignator)
    if item.ValueType == "CODE":
        code = item.ConceptCodeSequence[0]
        return key, (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning)
    return key, str(item.UID if item.ValueType == "UIDREF" else item.TextValue)


def describe_images(library: Dataset) -> dict[tuple[str, str], Said]:
    """Return, by SOP Class and Instance UID, what a library says of each image; a group speaks for all of its own."""
    assert name_of(library) == "111028"
    described: dict[tuple[str, str], Said] = {}
    for group in library.ContentSequence:
        assert name_of(group) == "126200"
        shared = dict(say(item) for item in group.ContentSequence if item.ValueType != "IMAGE")
        for image in group.ContentSequence:
            if image.ValueType == "IMAGE":
                reference = image.ReferencedSOPSequence[0]
                own = dict(say(item) for item in image.get("ContentSequence") or ())
                key = (str(reference.ReferencedSOPClassUID), str(reference.ReferencedSOPInstanceUID))
                described[key] = {**shared, **own}
    return described


def highdicoms(images: Sequence[Dataset]) -> dict[tuple[str, str], Said]:
    return describe_images(hd.sr.ImageLibrary(images)[0])


def volume_of(case: Case) -> Volume:
    assert case.analysis.reference is not None
    return case.analysis.reference


@pytest.mark.parametrize("name", ["ct", "tilted", "mr"])
def test_slices_are_described_as_highdicom_describes_them(name: str) -> None:
    volume = volume_of(known(name)[0])
    for indices in ([3, 4, 7], [0], list(range(12))):
        ours = describe_images(read_library(describe_slices(volume, indices)))
        assert ours == highdicoms(copy_slices(volume, indices))
        assert len(ours) == len(indices)


def test_slices_of_several_thicknesses_tell_their_own() -> None:
    slices = make_slices()
    for number, ds in enumerate(slices):
        ds.SliceThickness = "2.5" if number % 2 else "3.0"
    volume = read_volume(slices)
    ours = describe_images(read_library(describe_slices(volume, [2, 3, 8])))
    assert ours == highdicoms(copy_slices(volume, [2, 3, 8]))
    assert len({str(said) for said in ours.values()}) == 3


@pytest.mark.parametrize("thickness", [None, b"", b"thick ", b"1\\2 ", b"-3", b"0 "], ids=str)
def test_a_thickness_that_is_none_gives_way_to_the_slice_distance(thickness: bytes | None) -> None:
    slices = make_slices()
    volume = read_volume(slices)
    tag = Tag("SliceThickness")
    for ds in slices:
        del ds[tag]
        if thickness is not None:
            ds[tag] = RawDataElement(tag, "DS", len(thickness), thickness, 0, False, True)
    (said,) = describe_images(read_library(describe_slices(volume, [5]))).values()
    assert said["112225", "HAS ACQ CONTEXT"] == (2.0, "mm", "UCUM")


def test_a_radiograph_is_described_as_highdicom_describes_it() -> None:
    header = copy_header(make_radiograph(ImagerPixelSpacing=["0.143", "0.15"]))
    ours = describe_images(read_library(describe_radiograph(header)))
    assert ours == highdicoms([header])
    assert list(ours) == [(ComputedRadiographyImageStorage, header.SOPInstanceUID)]


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientOrientation": None},
        {"PatientOrientation": "LF"},
        {"ImagerPixelSpacing": None},
        {"ImagerPixelSpacing": "0.143"},
        {"Modality": "OT"},
    ],
    ids=str,
)
def test_of_a_radiograph_nothing_is_invented(elements: Mapping[str, object]) -> None:
    assert describe_radiograph(copy_header(make_radiograph(**elements))) == b""


def test_every_image_and_every_group_names_its_modality() -> None:
    library = read_library(describe_slices(volume_of(mr_case()), [4, 5]))
    group = library.ContentSequence[0]
    images = [item for item in group.ContentSequence if item.ValueType == "IMAGE"]
    for holder in (group, *images):
        assert [name_of(item) for item in holder.ContentSequence].count("121139") == 1


def test_positron_emission_is_cross_sectional_and_ultrasound_is_not_described() -> None:
    pet = read_volume(make_slices(Modality="PT", SOPClassUID=PositronEmissionTomographyImageStorage))
    assert describe_images(read_library(describe_slices(pet, [1]))) == highdicoms(copy_slices(pet, [1]))
    assert describe_slices(read_volume(make_slices(Modality="US")), [1]) == b""


def test_the_report_describes_the_slices_with_findings_and_no_others() -> None:
    case, results = known("ct")
    volume, mask = volume_of(case), case.analysis.mask
    assert mask is not None
    sr = read_results(results)[ResultKind.SR]
    library = next(item for item in sr.ContentSequence if name_of(item) == "111028")
    touched = [number for number, plane in enumerate(mask) if plane.any()]
    expected = {(CTImageStorage, UID(volume.datasets[number].SOPInstanceUID)) for number in touched}
    assert set(describe_images(library)) == expected
    assert 0 < len(touched) < len(volume.datasets)
