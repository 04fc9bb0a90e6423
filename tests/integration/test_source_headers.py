"""Whatever stands in a source's header, each Result is right by the gate and valid by dciodvfy."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_charset_files

from node.domain import codes
from node.domain.result import OptionalResult, ResultKind
from tests.analyses import Case, read_results, xray_case
from tests.sources import Change, ct_of, item, with_bytes, with_header, with_values, without, xray_of
from tests.validators import dump_report, list_errors
from workers.proving.check import check_results

MakeCase = Callable[[Change], Case]
KINDS: dict[str, MakeCase] = {"CT": ct_of, "X-ray": xray_of}
FILES = sorted(Path(str(path)) for path in get_charset_files("*.dcm"))


def write_proven(case: Case, folder: Path) -> dict[ResultKind, Dataset]:
    """Encode everything, send it through the gate and dciodvfy, and return what was written."""
    results = case.encode(*OptionalResult)
    check_results(results, case.analysis, case.inputs)
    for number, result in enumerate(results):
        path = folder / f"{number}.dcm"
        path.write_bytes(result.content)
        assert list_errors(path) == [], f"{result.kind}"
    return read_results(results)


@pytest.mark.needs("dciodvfy")
@pytest.mark.parametrize("kind", KINDS)
def test_names_in_every_character_set_of_pydicom_reach_every_result(kind: str, tmp_path: Path) -> None:
    assert len(FILES) >= 17
    for path in FILES:
        header = dcmread(path)
        expected = header.get("PatientName")
        case = KINDS[kind](with_header(header))
        for ds in write_proven(case, tmp_path).values():
            assert ds.SpecificCharacterSet == "ISO_IR 192", path.name
            if expected is not None:
                assert ds.PatientName.components == expected.components, path.name


# Character set and Patient's Name as sent, and the Patient's Name of the Results.
NAMES: dict[str, tuple[bytes | None, bytes, str]] = {
    "Latin-1 undeclared": (None, b"M\xfcller^K\xe4the", "Müller^Käthe"),
    "UTF-8 undeclared": (None, "Müller^Käthe".encode(), "Müller^Käthe"),
    "Shift JIS undeclared": (None, "山田^太郎".encode("shift_jis"), "\ufffdR\ufffdc^\ufffd¾\ufffdY"),
    "Latin-1 called UTF-8": (b"ISO_IR 192", b"M\xfcller^K\xe4the", "M\ufffdller^K\ufffdthe"),
    "no character set of DICOM": (b"ISO_IR 999", b"M\xfcller", "Müller"),
    "a codec of Python that is none for text": (b"zip", b"M\xfcller", "Müller"),
    "a codec of Python": (b"utf_16", b"Muller^A", "Muller^A"),
    "Chinese with code extensions": (
        b"\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
        "Zhang^XiaoDong=张^小东",
    ),
    "backslash as second byte": (b"GBK", b"Cheng=\x81\\\x90\\^X", "Cheng=乗怽^X"),
    "backslash in two Japanese bytes": (b"\\ISO 2022 IR 87", b"Ko=\x1b$B9\\\x1b(B^\x1b$B0\\\x1b(B", "Ko=砿^移"),
    "half-width katakana": (b"ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ".encode("shift_jis"), "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    "Thai": (b"ISO_IR 166", "นามสกุล^ชื่อ".encode("tis_620"), "นามสกุล^ชื่อ"),
    "a null and a bell": (b"ISO_IR 100", b"Mul\0ler^A\x07", "Mul\ufffdler^A\ufffd"),
    "seven parts": (b"ISO_IR 100", b"A^B^C^D^E^F^G", "A^B^C^D^E F G"),
    "two names": (b"ISO_IR 100", b"A^B\\C^D", "A^B\ufffdC^D"),
    "groups without letters": (b"ISO_IR 192", "=山田^太郎".encode(), "=山田^太郎"),
    "empty": (b"ISO_IR 192", b"", ""),
    "spaces": (b"ISO_IR 192", b"    ", ""),
}


@pytest.mark.needs("dciodvfy")
@pytest.mark.parametrize("name", NAMES)
def test_names_are_right_or_seen_to_be_damaged(name: str, tmp_path: Path) -> None:
    character_set, sent, expected = NAMES[name]
    case = xray_of(with_bytes(character_set, {"PatientName": sent, "ReferringPhysicianName": sent}))
    for ds in write_proven(case, tmp_path).values():
        assert str(ds.PatientName) == expected
        assert str(ds.ReferringPhysicianName) == expected


CODE = {"CodeValue": "CTTH", "CodingSchemeDesignator": "99HAUS", "CodeMeaning": "CT Thorax"}
UID_OF_A_STUDY = {"ReferencedSOPClassUID": "1.2.840.10008.3.1.2.3.1", "ReferencedSOPInstanceUID": "1.2.3"}
OPTIONAL_KEYWORDS = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName", "StudyDescription", "SeriesDescription", "SeriesNumber"),
    *("InstanceNumber", "BodyPartExamined", "Manufacturer", "ManufacturerModelName", "SliceThickness"),
    *("SpecificCharacterSet", "ViewPosition", "PatientOrientation", "ImagerPixelSpacing"),
)
HEADERS: dict[str, Change] = {
    **{f"without {keyword}": without(keyword) for keyword in OPTIONAL_KEYWORDS},
    **{f"empty {keyword}": with_values(**{keyword: None}) for keyword in OPTIONAL_KEYWORDS},
    "without all of these": without(*OPTIONAL_KEYWORDS),
    "dates and times with dots": with_values(
        PatientBirthDate="31.03.1962", StudyDate="2025.01.14", StudyTime="09:41:00"
    ),
    "an age without its unit": with_values(PatientAge="54"),
    "sex in words": with_values(PatientSex="female"),
    "sex in a small letter": with_values(PatientSex="f"),
    "numbers with commas": with_values(PatientWeight=b"71,5", PatientSize=b"1,80", SliceThickness=b"2,5"),
    "a thickness of nothing": with_values(SliceThickness="0"),
    "an instance number in words": with_values(InstanceNumber=b"IM 5", SeriesNumber=b"three"),
    "five parts of a name": with_values(PatientName="A^B^C^D^E", OtherPatientNames=["A^B", "C^D"]),
    "no request": with_values(RequestAttributesSequence=[]),
    "an empty request": with_values(RequestAttributesSequence=[Dataset()]),
    "an empty request and one": with_values(
        RequestAttributesSequence=[Dataset(), item(RequestedProcedureID="RP7", ScheduledProcedureStepID="")]
    ),
    "no procedure": with_values(ProcedureCodeSequence=[]),
    "an empty procedure": with_values(ProcedureCodeSequence=[Dataset()]),
    "a procedure without words": with_values(ProcedureCodeSequence=[item(**{**CODE, "CodeMeaning": ""})]),
    "a procedure without scheme": with_values(ProcedureCodeSequence=[item(CodeValue="A", CodeMeaning="B")]),
    "a procedure with an empty version": with_values(ProcedureCodeSequence=[item(**CODE, CodingSchemeVersion="")]),
    "a procedure with a long code": with_values(ProcedureCodeSequence=[item(**{**CODE, "CodeValue": "A" * 20})]),
    "a procedure in many words": with_values(ProcedureCodeSequence=[item(**{**CODE, "CodeMeaning": "M" * 80})]),
    "a whole procedure": with_values(ProcedureCodeSequence=[item(**CODE)]),
    "references to nothing": with_values(
        ReferencedStudySequence=[Dataset()], ReferencedPatientSequence=[item(ReferencedSOPInstanceUID="")]
    ),
    "a reference to a study": with_values(ReferencedStudySequence=[item(**UID_OF_A_STUDY)]),
    "an empty issuer": with_values(IssuerOfAccessionNumberSequence=[Dataset()]),
    "an issuer": with_values(IssuerOfAccessionNumberSequence=[item(LocalNamespaceEntityID="HAUS")]),
    "another patient ID without type": with_values(OtherPatientIDsSequence=[item(PatientID="X")]),
    "a physician without identification": with_values(
        ReferringPhysicianIdentificationSequence=[item(InstitutionName="Haus")]
    ),
    "empty diagnoses": with_values(AdmittingDiagnosesCodeSequence=[Dataset()]),
    "identity removed, nobody says how": with_values(PatientIdentityRemoved="YES"),
    "identity removed by no code": with_values(PatientIdentityRemoved="YES", DeidentificationMethodCodeSequence=[]),
    "identity removed perhaps": with_values(PatientIdentityRemoved="MAYBE"),
    "half a trial": with_values(ClinicalTrialSponsorName="S", ClinicalTrialProtocolID="P", ClinicalTrialSubjectID="1"),
    "a quarter of a trial": with_values(ClinicalTrialSubjectID="1"),
    "an empty trial": with_values(ClinicalTrialSponsorName="", ClinicalTrialProtocolID="", ClinicalTrialSubjectID=""),
    "a person without a role": with_values(ResponsiblePerson="A^B"),
    "a role without a person": with_values(ResponsiblePersonRole="OWNER"),
    "a calendar without a name": with_values(PatientBirthDateInAlternativeCalendar="Heisei 5"),
    "values that are not enumerated": with_values(
        PregnancyStatus=7, QualityControlSubject="MAYBE", SmokingStatus="OFTEN", TypeOfPatientID="FOO"
    ),
    "comments on several lines": with_values(PatientComments="a\r\nb\tc", AdditionalPatientHistory="x" * 20000),
    "words that are too long": with_values(StudyDescription="d" * 80, InstitutionName="i" * 90),
    "two descriptions": with_values(StudyDescription=["A", "B"]),
    "a time zone of no place": with_values(TimezoneOffsetFromUTC="+9900"),
    "a time zone in words": with_values(TimezoneOffsetFromUTC="GMT+1"),
    "body parts in words": with_values(BodyPartExamined="Thorax (a.p.)"),
    "two body parts": with_values(BodyPartExamined=["CHEST", "ABDOMEN"]),
    "orientation in words": with_values(PatientOrientation=["left", "foot"]),
    "three orientations": with_values(PatientOrientation=["L", "", "F"]),
    "one spacing": with_values(ImagerPixelSpacing=["0.1"]),
    "spacing in words": with_values(ImagerPixelSpacing=b"unknown"),
}


# What concerns slices, SEG or the SR of measurements in a way of its own.
OF_SLICES = (
    "without all of these",
    "dates and times with dots",
    "numbers with commas",
    "a thickness of nothing",
    "an instance number in words",
    "an empty request and one",
    "a procedure in many words",
    "identity removed, nobody says how",
    "half a trial",
    "a time zone of no place",
    "two body parts",
)
ODD = [*(("X-ray", name) for name in HEADERS), *(("CT", name) for name in OF_SLICES)]


@pytest.mark.needs("dciodvfy")
@pytest.mark.parametrize(("kind", "name"), ODD)
def test_an_odd_header_gives_valid_results(kind: str, name: str, tmp_path: Path) -> None:
    write_proven(KINDS[kind](HEADERS[name]), tmp_path)


@pytest.mark.needs("dciodvfy")
def test_words_of_64_characters_are_kept_although_dciodvfy_counts_bytes(tmp_path: Path) -> None:
    """PS3.5 6.2 counts characters; what the validator of Debian holds against them is wrong."""
    words = "山" * 64
    case = xray_of(with_values(StudyDescription=words))
    results = case.encode()
    check_results(results, case.analysis, case.inputs)
    path = tmp_path / "long.dcm"
    for result in results:
        path.write_bytes(result.content)
        errors = list_errors(path)
        assert all("StudyDescription" in error and "Length invalid for this VR = <192>" in error for error in errors)
    assert {ds.StudyDescription for ds in read_results(results).values()} == {words}


def test_private_elements_of_a_request_stay_behind(tmp_path: Path) -> None:
    request = item(RequestedProcedureID="RP7")
    request.private_block(0x0041, "CANARY", create=True).add_new(1, "LO", "canary value")
    for result in ct_of(with_values(RequestAttributesSequence=[request])).encode(*OptionalResult):
        assert b"canary value" not in result.content


@pytest.mark.needs("dciodvfy", "dsrdump")
def test_codes_of_our_own_scheme_are_explained(tmp_path: Path) -> None:
    local = (codes.PLEURAL_THICKENING, codes.LUNG_OPACITY, codes.LUNG_LESION, codes.ENLARGED_CARDIOMEDIASTINUM)
    case = xray_case(more=local)
    results = case.encode()
    sr = write_proven(case, tmp_path)[ResultKind.SR]
    scheme = sr.CodingSchemeIdentificationSequence[0]
    assert scheme.CodingSchemeDesignator == "99RADNODE"
    assert scheme.CodingSchemeResponsibleOrganization == "radnode project"
    assert scheme.CodingSchemeUID.startswith("2.25.")
    path = tmp_path / "report.dcm"
    path.write_bytes(next(result.content for result in results if result.kind is ResultKind.SR))
    text = dump_report(path)
    for code in local:
        assert f'({code.value},99RADNODE,"{code.meaning}")' in text
