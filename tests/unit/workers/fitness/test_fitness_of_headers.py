"""What a header says against a model, and whether it says that nobody was imaged."""

from dataclasses import replace

import pytest
from pydicom import DataElement, Dataset
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.uid import LegacyConvertedEnhancedCTImageStorage

from node.errors import (
    InputMissing,
    NotEligible,
    PhantomOrTest,
    WrongAge,
    WrongBodyPart,
    WrongContrast,
    WrongModality,
    WrongView,
)
from node.manifest import Contrast, Fit
from node.models import SHIPPED_MODELS, ModelCard, read_model
from node.rehearsal.brain_mr import BRUNO
from node.rehearsal.chest_ct import ANNA
from node.rehearsal.chest_xray import CLARA
from tests.analyses import make_slices
from tests.enhanced import enhance
from workers.fitness.check import Fitness
from workers.fitness.header import read_age_years, require_role
from workers.fitness.phantoms import refuse_phantoms
from workers.frames import spread_frames

FIT = Fit(body_parts=("CHEST", "LUNG"), views=("PA", "AP"), age_years=(2, 17), contrast=Contrast.WITHOUT)


def card() -> ModelCard:
    return replace(read_model(SHIPPED_MODELS / "cxr-pneumonia"), modalities={"image": ("DX", "CR")}, fit=FIT)


def header(**elements: object) -> Dataset:
    ds = Dataset()
    ds.SOPInstanceUID, ds.Modality = "1.2.3", "DX"
    for keyword, value in elements.items():
        # As read of a file: archives write what the standard does not allow.
        ds.add(DataElement(keyword, dictionary_VR(keyword), value, validation_mode=IGNORE))
    return ds


def agent() -> Dataset:
    """Return an Item that names one."""
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = "C-B0300", "SRT", "Contrast agent"
    return ds


def test_a_role_without_instances_is_an_absent_input() -> None:
    with pytest.raises(InputMissing, match="image"):
        require_role(card(), "image", ())


@pytest.mark.parametrize(
    ("elements", "error", "said"),
    [
        ({"Modality": "CT"}, WrongModality, "'CT' where DX or CR is read"),
        ({"BodyPartExamined": "HAND"}, WrongBodyPart, "HAND where CHEST or LUNG is read"),
        ({"ViewPosition": "LL"}, WrongView, "LL where PA or AP is read"),
        ({"PatientAge": "018M"}, WrongAge, "1.5 years where 2 to 17 are read"),
        ({"PatientAge": "018Y"}, WrongAge, "18 years where 2 to 17 are read"),
        ({"ContrastBolusAgent": "Iodine"}, WrongContrast, "with a contrast agent"),
        ({"ContrastBolusAgentSequence": [agent()]}, WrongContrast, "with a contrast agent"),
    ],
)
def test_what_the_model_was_not_made_for_is_refused_with_value_and_limit(
    elements: dict[str, object], error: type[NotEligible], said: str
) -> None:
    with pytest.raises(error, match=said):
        require_role(card(), "image", [header(**elements)])


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"BodyPartExamined": "Chest "},
        {"BodyPartExamined": ""},
        {"ViewPosition": "AP_AXIAL"},
        {"PatientAge": "017Y"},
        {"PatientAge": "9"},
        {"PatientAge": "000Y"},
        {"PatientAge": "old"},
        {"ContrastBolusAgent": "N/A"},
        {"ContrastBolusAgent": "Non-contrast"},
        {"ContrastBolusAgentSequence": []},
        {"ContrastBolusAgentSequence": [Dataset()]},
        {"ContrastBolusAgentSequence": [agent()], "ContrastBolusAgentAdministered": "NO"},
    ],
)
def test_what_fits_or_is_not_told_passes(elements: dict[str, object]) -> None:
    require_role(card(), "image", [header(**elements)])


def test_one_frontal_instance_is_enough() -> None:
    require_role(card(), "image", [header(ViewPosition="LL"), header(ViewPosition="PA")])


def test_a_model_that_asks_for_contrast_refuses_a_series_without() -> None:
    asking = replace(card(), fit=Fit(contrast=Contrast.WITH))
    require_role(asking, "image", [header(ContrastBolusAgent="Gadolinium")])
    with pytest.raises(WrongContrast, match="without a contrast agent"):
        require_role(asking, "image", [header()])


def convert(kept: Dataset | None = None, **told: object) -> Dataset:
    """Return a legacy-converted image; `kept` is what the conversion kept of the single slices, `told` what it says."""
    ds = enhance(make_slices())
    ds.SOPClassUID = LegacyConvertedEnhancedCTImageStorage
    if kept is not None:
        ds.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = [kept]
    for keyword, value in told.items():
        setattr(ds, keyword, value)
    return ds


def require_contrast(ds: Dataset, wanted: Contrast) -> None:
    require_role(replace(card(), modalities={}, fit=Fit(contrast=wanted)), "image", spread_frames([ds]))


@pytest.mark.parametrize("wanted", list(Contrast))
@pytest.mark.parametrize("named", ["", "none"])
def test_contrast_of_which_a_conversion_kept_nothing_is_not_guessed(named: str, wanted: Contrast) -> None:
    with pytest.raises(WrongContrast, match=r"kept nothing.*\(0020,9170; 0020,9171\).*single-frame Instances"):
        require_contrast(convert(ContrastBolusAgent=named), wanted)


@pytest.mark.parametrize("wanted", list(Contrast))
@pytest.mark.parametrize("administered", ["NO", ""])
def test_contrast_is_not_guessed_where_what_is_said_of_the_agent_leaves_it_open(
    administered: str, wanted: Contrast
) -> None:
    ds = enhance(make_slices())
    # An agent that was not given yet with the first Frame, or an Item that names none.
    ds.ContrastBolusAgentSequence = [agent() if administered else Dataset()]
    usage = Dataset()
    usage.ContrastBolusAgentAdministered = administered
    ds.PerFrameFunctionalGroupsSequence[0].ContrastBolusUsageSequence = [usage]
    with pytest.raises(WrongContrast, match=r"is open.*\(0018,0012\).*correct the sender"):
        require_contrast(ds, wanted)


def test_contrast_of_frames_is_what_is_told_of_them() -> None:
    kept = Dataset()
    kept.KVP = 120
    require_contrast(convert(kept), Contrast.WITHOUT)
    require_contrast(convert(ContrastBolusAgent="Iomeron"), Contrast.WITH)
    require_contrast(convert(ContrastBolusAgentSequence=[agent()]), Contrast.WITH)
    kept.ContrastBolusAgent = "Iomeron"
    require_contrast(convert(kept), Contrast.WITH)
    require_contrast(enhance(make_slices()), Contrast.WITHOUT)
    with pytest.raises(WrongContrast, match="with a contrast agent"):
        require_contrast(convert(kept), Contrast.WITHOUT)


def test_what_a_conversion_kept_with_each_frame_tells_its_contrast() -> None:
    ds, kept = convert(), Dataset()
    kept.KVP = 120
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.UnassignedPerFrameConvertedAttributesSequence = [kept]
    require_contrast(ds, Contrast.WITHOUT)


def test_a_model_without_limits_refuses_nothing() -> None:
    free = replace(card(), fit=Fit(), modalities={})
    require_role(free, "image", [header(Modality="CT", BodyPartExamined="HAND", ViewPosition="LL", PatientAge="099Y")])


@pytest.mark.parametrize(
    ("told", "years"), [("053Y", 53), ("53", 53), ("006M", 0.5), ("000D", 0), ("000Y", None), ("", None), ("5 Y", None)]
)
def test_ages_are_read_with_their_unit(told: str, years: float | None) -> None:
    assert read_age_years(header(PatientAge=told)) == years


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"PatientName": "PHANTOM"}, "Patient's Name holds PHANTOM"),
        ({"PatientName": "Thoracic Phantom"}, "Patient's Name holds PHANTOM"),
        ({"PatientName": "PHANTOM^ACR"}, "Patient's Name holds PHANTOM"),
        ({"PatientName": "ACR^PHANTOM"}, "Patient's Name holds PHANTOM"),
        ({"PatientName": "QC^DAILY"}, "DAILY .* and QC"),
        ({"PatientName": "QA"}, "QA"),
        ({"PatientID": "CATPHAN-600"}, "Patient ID holds CATPHAN"),
        ({"PatientID": "QA1", "StudyDescription": "Weekly check"}, "QA .* and WEEKLY"),
        ({"SeriesDescription": "ACR T1 test"}, "ACR .* and TEST"),
        ({"ProtocolName": "Daily QA Head"}, "DAILY .* and QA"),
        ({"StudyDescription": "Test object CT"}, "TEST OBJECT"),
        ({"StudyDescription": "QC"}, "QC"),
        ({"SeriesDescription": "Quality-Control water"}, "QUALITY CONTROL"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "PHANTOM"]}, "Image Type holds PHANTOM"),
        ({"QualityControlImage": "YES"}, "Quality Control Image"),
    ],
)
def test_a_phantom_or_a_test_of_the_machine_is_refused(elements: dict[str, object], said: str) -> None:
    with pytest.raises(PhantomOrTest, match=said):
        refuse_phantoms(header(**elements))


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"PatientName": ANNA.name, "PatientID": ANNA.patient_id},
        {"PatientName": BRUNO.name, "PatientID": BRUNO.patient_id},
        {"PatientName": CLARA.name, "PatientID": CLARA.patient_id},
        {"PatientName": "Daily^Mary", "StudyDescription": "Portable chest daily"},
        {"PatientName": "Qa^Li"},
        {"PatientID": "QC-001"},
        {"PatientID": "ACRIN-6667-12"},
        {"StudyDescription": "MR brain, phantom limb pain"},
        {"SeriesDescription": "Test bolus"},
        {"SeriesDescription": "t2 water", "ImageType": ["DERIVED", "PRIMARY", "WATER"]},
        {"QualityControlImage": "BOTH"},
    ],
)
def test_a_patient_is_no_phantom(elements: dict[str, object]) -> None:
    refuse_phantoms(header(**elements))


def test_the_refusal_does_not_repeat_who_it_was() -> None:
    with pytest.raises(PhantomOrTest) as caught:
        refuse_phantoms(header(PatientName="Phantom", PatientID="HEMMELIG-77 phantom"))
    assert "HEMMELIG" not in str(caught.value)


@pytest.mark.parametrize(
    ("birth", "day", "years"),
    [
        ("19400305", "20040826", 64),
        ("20000615", "20180614", 17),
        ("20000615", "20180616", 18),
        ("19000101", "20040826", None),
        ("20050101", "20040826", None),
        ("1940", "20040826", None),
        ("19401399", "20040826", None),
        ("", "20040826", None),
        ("19400305", "", None),
    ],
)
def test_without_an_age_it_is_counted_from_the_birth_date(birth: str, day: str, years: int | None) -> None:
    found = read_age_years(header(PatientAge="", PatientBirthDate=birth, StudyDate=day))
    assert (None if found is None else int(found)) == years


@pytest.mark.parametrize(
    ("elements", "error"),
    [
        ({"Modality": "CT"}, WrongModality),
        ({"BodyPartExamined": "HAND"}, WrongBodyPart),
        ({"ViewPosition": "LL"}, WrongView),
    ],
)
def test_a_card_that_says_nothing_is_asked_what_the_pipeline_was_made_for(
    elements: dict[str, str], error: type[NotEligible]
) -> None:
    silent = replace(card(), modalities={}, fit=Fit())
    fitness = Fitness(silent, usual=Fit(body_parts=("CHEST",), views=("PA", "AP")), modalities=("DX", "CR"))
    with pytest.raises(error):
        fitness.check_header("image", [header(**elements)])
    Fitness(silent).check_header("image", [header(**elements)])


def test_what_a_card_says_goes_before_what_the_pipeline_was_made_for() -> None:
    fitness = Fitness(replace(card(), fit=Fit(body_parts=("HAND",))), usual=Fit(body_parts=("CHEST",)))
    fitness.check_header("image", [header(BodyPartExamined="HAND")])
