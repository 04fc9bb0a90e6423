"""The shipped rules on what technologists write, in several languages."""

from dataclasses import replace

import pytest
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedCTImageStorage

from node.domain.decision import Outcome
from node.domain.study import SeriesFacts
from node.rules.evaluate import evaluate
from tests.shipped import shipped_rules
from tests.studies import (
    CR,
    DX_FOR_PROCESSING,
    brain_mr_series,
    chest_ct_series,
    chest_xray_series,
    make_study,
)

SHIPPED = shipped_rules()


def roles_of(*series: SeriesFacts, pipeline: str) -> dict[str, int]:
    """Return role to Series Number."""
    inputs = evaluate(SHIPPED[pipeline], make_study(*series)).inputs
    return {role: int(uid.rpartition(".")[2]) for role, uid in inputs.items()}


@pytest.mark.parametrize(
    ("description", "agent", "role"),
    [
        ("AX FLAIR", "", "flair"),
        ("t2_tirm_tra_dark-fluid", "", "flair"),
        ("FLAIR_reg", "", "flair"),
        ("Ax T1 FLAIR", "", "t1"),
        ("T1post", "", "t1c"),
        ("AX T1 post gad", "Gadolinium", "t1c"),
        ("t1_mprage_tra_KM", "", "t1c"),
        ("T1 TSE ax + C", "", "t1c"),
        ("T1c", "", "t1c"),
        ("T1w_CE", "", "t1c"),
        ("SAG T1 gado", "", "t1c"),
        ("T1 assiale mdc", "", "t1c"),
        ("t1_mprage_tra", "Gadovist", "t1c"),
        ("t1_mprage_tra", "", "t1"),
        ("T1pre_reg", "", "t1"),
        ("T1 nativ", "Gadovist", "t1"),
        ("T1 axial sans gado", "", "t1"),
        ("T1 ohne KM", "", "t1"),
        ("AX T1 W/O CONTRAST", "", "t1"),
        ("T1 SPACE", "", "t1"),
        ("T1 subtraction post", "", ""),
        ("AX T2", "", ""),
        ("T12 spine", "", ""),
        ("DWI b1000", "", ""),
    ],
)
def test_an_mr_series_gets_the_role_that_its_description_means(description: str, agent: str, role: str) -> None:
    asked = brain_mr_series(7, description, ContrastBolusAgent=agent or None)
    found = roles_of(asked, brain_mr_series(1, "FLAIR", spacing_mm=9.0), pipeline="brain_tumour")
    assert {name for name, number in found.items() if number == 7} == ({role} if role else set())


def test_an_examination_that_is_named_flair_does_not_make_every_series_one() -> None:
    whole = {"ProtocolName": "Brain T2 FLAIR DWI", "StudyDescription": "MR brain with FLAIR"}
    series = (brain_mr_series(2, "AX T2", spacing_mm=1.0, **whole), brain_mr_series(3, "AX FLAIR", **whole))
    assert roles_of(*series, pipeline="brain_tumour") == {"flair": 3}


@pytest.mark.parametrize(
    "description", ["MRT Schädel nativ", "MRT Schaedel", "IRM cérébrale", "RM encefalo", "IRM crâne", "Kopf"]
)
def test_a_head_is_known_by_its_description(description: str) -> None:
    found = roles_of(
        brain_mr_series(2, "FLAIR", BodyPartExamined=None, StudyDescription=description), pipeline="brain_tumour"
    )
    assert found == {"flair": 2}


@pytest.mark.parametrize("description", ["MR femoral head", "MRT Knie", "LWS"])
def test_other_parts_are_no_head(description: str) -> None:
    other = brain_mr_series(2, "FLAIR", BodyPartExamined="JOINT", StudyDescription=description)
    assert evaluate(SHIPPED["brain_tumour"], make_study(other)).outcome is Outcome.NO_MATCH


@pytest.mark.parametrize(
    ("part", "description", "outcome"),
    [
        (None, "CT Thorax nativ", Outcome.MATCH),
        (None, "Scanner pulmonaire", Outcome.MATCH),
        (None, "SliceTh-0.8", Outcome.MATCH),
        (None, "CT Abdomen", Outcome.UNDETERMINED),
        (None, "CCT Schädel", Outcome.UNDETERMINED),
        (None, "BWS Wirbelsäule", Outcome.UNDETERMINED),
        (None, None, Outcome.UNDETERMINED),
        ("HEAD", "CCT Schädel", Outcome.NO_MATCH),
        ("ABDOMEN", "3D-Darstellung", Outcome.NO_MATCH),
    ],
)
def test_a_chest_is_known_by_part_or_description(part: str | None, description: str | None, outcome: Outcome) -> None:
    series = chest_ct_series(2, BodyPartExamined=part, SeriesDescription=description)
    assert evaluate(SHIPPED["lung_nodules"], make_study(series)).outcome is outcome


@pytest.mark.parametrize("sop_class_uid", [EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage])
def test_a_chest_of_frames_is_read_like_one_of_slices(sop_class_uid: str) -> None:
    series = replace(chest_ct_series(2, BodyPartExamined="CHEST"), sop_class_uids=(sop_class_uid,))
    assert evaluate(SHIPPED["lung_nodules"], make_study(series)).outcome is Outcome.MATCH
    assert evaluate(SHIPPED["lung_nodules"], make_study(replace(series, slice_spacing_mm=None))).outcome is (
        Outcome.UNDETERMINED
    )


@pytest.mark.parametrize("contrast", ["MAXIMUM", "MINIMUM"])
def test_a_projection_of_frames_is_not_read(contrast: str) -> None:
    series = chest_ct_series(2, BodyPartExamined="CHEST", ImageType=["DERIVED", "PRIMARY", "VOLUME", contrast])
    series = replace(series, sop_class_uids=(EnhancedCTImageStorage,))
    assert evaluate(SHIPPED["lung_nodules"], make_study(series)).outcome is Outcome.NO_MATCH


@pytest.mark.parametrize(("given", "role"), [("YES", "t1c"), ("NO", "t1"), (None, None)])
def test_frames_play_no_role_that_their_contrast_does_not_grant(given: str | None, role: str | None) -> None:
    frames = brain_mr_series(5, "t1_mprage_tra", ContrastGiven=given)
    frames = replace(frames, sop_class_uids=(EnhancedMRImageStorage,))
    found = roles_of(brain_mr_series(1, "FLAIR"), frames, pipeline="brain_tumour")
    assert {name for name, number in found.items() if number == 5} == ({role} if role else set())


def test_bolus_tracking_is_no_thin_series_and_leaves_nothing_undetermined() -> None:
    study = make_study(
        chest_ct_series(2, spacing_mm=5.0), chest_ct_series(3, count=15, spacing_mm=0.0), chest_ct_series(4, count=1)
    )
    decision = evaluate(SHIPPED["lung_nodules"], study)
    assert decision.outcome is Outcome.NO_MATCH
    assert decision.clause.startswith("slice_spacing")


def test_the_frontal_radiograph_goes_before_the_unnamed_and_the_lateral() -> None:
    lateral, unnamed, frontal = (
        chest_xray_series(n, ViewPosition=view) for n, view in enumerate(("LL", None, "PA"), 1)
    )
    assert roles_of(lateral, unnamed, frontal, pipeline="chest_xray") == {"image": 3}
    assert roles_of(lateral, unnamed, pipeline="chest_xray") == {"image": 2}


def test_a_series_that_begins_with_the_lateral_is_left_to_the_pipeline() -> None:
    both = chest_xray_series(1, CR, Modality="CR", ViewPosition="LL", count=2)
    assert roles_of(both, pipeline="chest_xray") == {"image": 1}


def test_raw_detector_data_are_not_read() -> None:
    raw, shown = chest_xray_series(1, DX_FOR_PROCESSING), chest_xray_series(2)
    assert roles_of(raw, shown, pipeline="chest_xray") == {"image": 2}
