"""A copied header says what its source says, in UTF-8, and nothing that an object must not hold."""

import copy
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_charset_files
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from tests.analyses import SPACING_MM, ct_case, make_radiograph, put
from tests.sources import Change, ct_of, item, with_bytes, with_values, xray_of
from workers.encoding.headers import copy_header, copy_slices, refer_to
from workers.encoding.quiet import quiet_libraries
from workers.encoding.source_elements import read_text
from workers.proving.check import check_results

REAL = ("ct-lungfcp-0001", "mr-pgbm-003", "cxr-nema-rg1", "cxr-nih-dicom", "cxr-siim-dicom")


def copied(change: Change) -> Dataset:
    """Return the copied header of a radiograph after a change to it."""
    with quiet_libraries():
        return copy_header(xray_of(change).inputs["image"][0])


@pytest.mark.needs("data")
@pytest.mark.parametrize("folder", REAL)
def test_headers_of_real_images_are_copied_whole(data_dir: Path, folder: str) -> None:
    ds = dcmread(next(iter(sorted((data_dir / folder).rglob("*.dcm")))), stop_before_pixels=True)
    header = copy_header(ds)
    lost = []
    for keyword in ("PatientName", "PatientID", "StudyDescription", "ProtocolName", "StationName", "PixelSpacing"):
        if ds.get(keyword) not in (None, "") and str(header.get(keyword)) != str(ds[keyword].value):
            lost.append(keyword)
    assert lost == []
    assert (header.SOPInstanceUID, header.StudyInstanceUID) == (ds.SOPInstanceUID, ds.StudyInstanceUID)
    assert not any(element.tag.is_private for element in header.iterall())
    assert "PixelData" not in header


def test_text_of_sequences_is_read_in_the_character_set_of_their_items() -> None:
    for path in get_charset_files("chrSQEncoding*.dcm"):
        source = dcmread(path)
        # The Item is no whole code; of a request it is all that there is.
        source.RequestAttributesSequence = source.RequestedProcedureCodeSequence
        (request,) = copy_header(source).RequestAttributesSequence
        assert str(request.PatientName) == "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"
        assert "SpecificCharacterSet" not in request


def test_identifiers_are_copied_to_the_letter_however_odd() -> None:
    sent = {"PatientID": b"P" * 70, "AccessionNumber": b"1\\2", "StudyID": b" 7 "}
    change = with_bytes(b"ISO_IR 100", sent)
    case = xray_of(change)
    check_results(case.encode(), case.analysis, case.inputs)
    header = copied(change)
    assert (header.PatientID, list(header.AccessionNumber), header.StudyID) == ("P" * 70, ["1", "2"], " 7")


def test_words_are_cut_and_joined_but_names_are_not_cut() -> None:
    header = copied(
        with_values(
            StudyDescription="d" * 70,
            InstitutionName=b"A\\B",
            PatientName="N" * 70,
            ProcedureCodeSequence=[item(CodeValue="A", CodingSchemeDesignator="L", CodeMeaning="m" * 65)],
        )
    )
    assert header.StudyDescription == "d" * 61 + "..."
    assert header.InstitutionName == "A/B"
    assert str(header.PatientName) == "N" * 70
    assert header.ProcedureCodeSequence[0].CodeMeaning == "m" * 61 + "..."


def test_malformed_values_stay_behind() -> None:
    header = copied(
        with_values(
            PatientAge="54",
            PatientWeight=b"71,5",
            PatientBirthDate="31.03.1962",
            BodyPartExamined=["CHEST", "ABDOMEN"],
            ImagerPixelSpacing=["0.1"],
            PregnancyStatus=9,
            TimezoneOffsetFromUTC="+1500",
        )
    )
    absent = ("PatientAge", "PatientWeight", "BodyPartExamined", "ImagerPixelSpacing", "PregnancyStatus")
    assert not [keyword for keyword in (*absent, "TimezoneOffsetFromUTC") if keyword in header]
    assert header.PatientBirthDate == ""


def test_well_formed_values_are_kept() -> None:
    header = copied(
        with_values(
            PatientAge="054Y",
            PatientWeight="71.5",
            PregnancyStatus=4,
            TimezoneOffsetFromUTC="-0330",
            PatientIdentityRemoved="NO",
            OtherPatientNames=["A^B", "C^D"],
            StudyInstanceUID="1.2.003.4",
        )
    )
    assert (header.PatientAge, header.PatientWeight, header.PregnancyStatus) == ("054Y", 71.5, 4)
    assert (header.TimezoneOffsetFromUTC, header.PatientIdentityRemoved) == ("-0330", "NO")
    assert [str(name) for name in header.OtherPatientNames] == ["A^B", "C^D"]
    # PS3.5 9.1 forbids the zeros; the Study is known by this UID all the same.
    assert header.StudyInstanceUID == "1.2.003.4"


def test_items_that_say_nothing_stay_behind() -> None:
    whole = item(CodeValue="A", CodingSchemeDesignator="L", CodeMeaning="M", CodingSchemeVersion="")
    header = copied(
        with_values(
            ProcedureCodeSequence=[Dataset(), item(CodeValue="A", CodeMeaning="M"), whole],
            RequestAttributesSequence=[Dataset()],
            ReferencedStudySequence=[item(ReferencedSOPClassUID="1.2.3")],
        )
    )
    (kept,) = header.ProcedureCodeSequence
    assert kept.CodeMeaning == "M"
    assert "CodingSchemeVersion" not in kept
    assert "RequestAttributesSequence" not in header
    assert "ReferencedStudySequence" not in header


def test_an_animal_keeps_what_is_empty_of_it() -> None:
    header = copied(
        with_values(
            PatientSpeciesDescription="Canis",
            PatientBreedCodeSequence=[],
            BreedRegistrationSequence=[],
            PatientSexNeutered="",
        )
    )
    assert (len(header.PatientBreedCodeSequence), len(header.BreedRegistrationSequence)) == (0, 0)
    assert "PatientSexNeutered" in header


def test_what_was_removed_stays_said() -> None:
    assert copied(with_values(PatientIdentityRemoved="YES")).DeidentificationMethod == "Not stated by the source"
    told = copied(with_values(PatientIdentityRemoved="YES", DeidentificationMethod="Blanked"))
    assert told.DeidentificationMethod == "Blanked"


def test_a_name_under_an_unknown_representation_is_a_name() -> None:
    ds = make_radiograph()
    for keyword, raw in (("PatientName", "Müller^Käthe".encode()), ("StudyDescription", "Überblick ".encode())):
        ds[Tag(keyword)] = RawDataElement(Tag(keyword), "UN", len(raw), raw, 0, False, True)
    header = copy_header(ds)
    assert (header["PatientName"].VR, str(header.PatientName)) == ("PN", "Müller^Käthe")
    assert (header["StudyDescription"].VR, header.StudyDescription) == ("LO", "Überblick")


def test_reading_text_leaves_the_source_as_it_was() -> None:
    ds = xray_of(with_bytes(b"\\ISO 2022 IR 58", {"PatientName": b"=\x1b$)A\xd5\xc5"})).inputs["image"][0]
    before = ds.get_item("PatientName")
    assert read_text(ds, "PatientName") == "=张"
    assert copy_header(ds).PatientName.ideographic == "张"
    assert ds.get_item("PatientName") is before
    assert read_text(ds, "StudyComments") == ""


def test_slices_share_the_proven_geometry() -> None:
    volume = ct_of(with_values(SliceThickness=b"2,5", Modality="ct")).analysis.reference
    assert volume is not None
    before = copy.deepcopy(volume.datasets)
    first, second = copy_slices(volume, [3, 4])
    assert (first.PatientID, "PatientID" in second) == ("T-1", False)
    for header, ds in ((first, volume.datasets[3]), (second, volume.datasets[4])):
        assert header.ImagePositionPatient == ds.ImagePositionPatient
        assert header.ImageOrientationPatient == volume.datasets[0].ImageOrientationPatient
        assert float(header.SliceThickness) == float(header.SpacingBetweenSlices) == pytest.approx(SPACING_MM[0])
        assert header.Modality == "OT"
    assert before == volume.datasets


def test_a_stated_thickness_is_kept() -> None:
    volume = ct_case().analysis.reference
    assert volume is not None
    assert [float(header.SliceThickness) for header in copy_slices(volume, [0, 1])] == [3.0, 3.0]


def test_a_reference_holds_four_uids() -> None:
    ds = make_radiograph()
    put(ds, {"PatientID": "P"})
    reference = refer_to(ds)
    assert [element.keyword for element in reference] == [
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
    ]
    assert reference.SOPInstanceUID == ds.SOPInstanceUID
