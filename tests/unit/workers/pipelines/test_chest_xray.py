"""The chest X-ray pipeline with its shipped weights, on films with a known answer."""

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset, dcmread

from node.domain.codes import PNEUMONIA
from node.domain.finding import Presence
from node.errors import InputMissing, ModelOutputInvalid, NotEligible, WrongBodyPart, WrongModality, WrongView
from node.models import SHIPPED_MODELS, read_model
from node.rehearsal.chest_xray import chest_xray
from workers.networks.xray_densenet import MATRIX
from workers.pipelines.base import Analysis
from workers.pipelines.chest_xray import (
    ChestXray,
    crop_square,
    decide_presence,
    scale_heat,
    shrink,
    spread_heat,
    standardize,
)

CARD = read_model(SHIPPED_MODELS / "cxr-pneumonia")
ADULTS = ("cxr-nema-rg1", "cxr-nih-dicom", "cxr-siim-dicom")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@cache
def pipeline() -> ChestXray:
    return ChestXray(CARD, torch.device("cpu"))


@cache
def film(*, seed: int = 11, with_opacity: bool = True, inverse: bool = False) -> Dataset:
    return chest_xray(
        seed=seed,
        with_opacity=with_opacity,
        matrix=512,
        photometric_interpretation="MONOCHROME1" if inverse else "MONOCHROME2",
    ).dataset


def changed(**elements: object) -> Dataset:
    ds = copy.deepcopy(film())
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def look(ds: Dataset) -> Analysis:
    return pipeline().analyze(pipeline().read({"image": [ds]}))


@pytest.mark.parametrize("seed", [11, 12])
def test_a_consolidated_lung_is_called_pneumonia(seed: int) -> None:
    analysis = look(film(seed=seed))
    (finding,) = analysis.findings
    assert finding.presence is Presence.PRESENT
    assert finding.code == PNEUMONIA
    assert finding.confidence is not None
    assert analysis.threshold is not None
    assert finding.confidence >= analysis.threshold


@pytest.mark.parametrize("seed", [11, 12])
def test_the_same_chest_without_opacity_is_called_normal(seed: int) -> None:
    analysis = look(film(seed=seed, with_opacity=False))
    assert analysis.findings[0].presence is Presence.ABSENT
    assert analysis.heat is None


def test_heat_lies_on_the_film_and_is_strongest_on_the_side_of_the_opacity() -> None:
    phantom = chest_xray(seed=11, with_opacity=True, matrix=512)
    assert phantom.opacity is not None
    heat = look(phantom.dataset).heat
    assert heat is not None
    assert heat.shape == (512, 512)
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert heat.max() > 0.5
    left, right = heat[:, :256].sum(), heat[:, 256:].sum()
    # The patient's left is on the right of the film.
    assert (right > left) == (phantom.opacity.center_mm[0] > 0)


def test_an_inverted_film_gives_the_same_answer() -> None:
    straight, inverse = look(film()).findings[0], look(film(inverse=True)).findings[0]
    assert straight.confidence == pytest.approx(inverse.confidence, abs=0.02)


@pytest.mark.parametrize("view", ["LL", "RL", "LATERAL", "XX", "LLD"])
def test_what_is_not_named_frontal_is_refused(view: str) -> None:
    with pytest.raises(WrongView, match=view):
        pipeline().read({"image": [changed(ViewPosition=view)]})


def test_a_lateral_named_by_its_description_alone_is_refused() -> None:
    ds = changed(ViewPosition="", SeriesDescription="Chest lat.")
    del ds.ViewCodeSequence
    with pytest.raises(WrongView):
        pipeline().read({"image": [ds]})


def test_the_frontal_one_of_two_views_is_read_and_the_report_says_so() -> None:
    lateral = changed(ViewPosition="LL", SOPInstanceUID="1.2.3", InstanceNumber=0)
    prepared = pipeline().read({"image": [lateral, film()]})
    assert prepared.radiograph.dataset.SOPInstanceUID == film().SOPInstanceUID
    assert any("1 further image" in note for note in prepared.notes)


@pytest.mark.parametrize(
    ("elements", "error"),
    [
        ({"Modality": "CT"}, WrongModality),
        ({"BodyPartExamined": "KNEE"}, WrongBodyPart),
        ({"Rows": 64}, NotEligible),
    ],
)
def test_what_is_no_chest_film_is_refused(elements: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        pipeline().read({"image": [changed(**elements)]})


def test_an_empty_role_is_refused() -> None:
    with pytest.raises(InputMissing):
        pipeline().read({"image": []})


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_an_answer_that_says_nothing_never_becomes_a_result(value: float) -> None:
    broken = ChestXray(CARD, torch.device("cpu"))
    with torch.no_grad():
        for parameter in broken._network.parameters():
            parameter.fill_(value)
    with pytest.raises(ModelOutputInvalid):
        broken.analyze(broken.read({"image": [film()]}))


@pytest.mark.parametrize("age", ["018Y", "053Y", "240M"])
def test_of_an_adult_nothing_is_said_but_the_networks_number_in_words(age: str) -> None:
    child, adult = look(film()), look(changed(PatientAge=age))
    (finding,) = adult.findings
    assert finding.presence is Presence.UNDETERMINED
    assert finding.confidence is None
    assert adult.heat is None
    assert "Patient's Age is above 17 years" in adult.notes[0]
    assert f"number was {child.findings[0].confidence:.2f}." in adult.notes[0]


@pytest.mark.needs("data")
@pytest.mark.filterwarnings("ignore:Invalid value for VR AS")
def test_real_films_of_adults_are_refused_or_undetermined(data_dir: Path) -> None:
    """Of three collections; one film is inverted, one says MONOCHROME1 and is not, one says that it is a CT."""
    said = {}
    for path in (path for name in ADULTS for path in sorted((data_dir / name).glob("*.dcm"))):
        try:
            said[path.stem] = look(dcmread(path)).findings[0].presence.value
        except NotEligible as refusal:
            said[path.stem] = refusal.code
    refused = {"siim-mono1": "unlike-training", "test5": "wrong-modality"}
    assert len(said) == 8
    assert said == dict.fromkeys(said, Presence.UNDETERMINED.value) | refused


@pytest.mark.parametrize("age", ["003Y", "017Y", "030M", ""])
def test_of_a_child_or_of_an_unknown_age_the_answer_is_given(age: str) -> None:
    assert look(changed(PatientAge=age)).findings[0].presence is Presence.PRESENT


@pytest.mark.parametrize(
    ("elements", "is_known"),
    [
        ({"PatientAge": "", "PatientBirthDate": ""}, False),
        ({"PatientAge": "000Y", "PatientBirthDate": ""}, False),
        ({"PatientAge": "", "PatientBirthDate": "20210203", "StudyDate": "20240305"}, True),
        ({"PatientAge": "003Y"}, True),
    ],
)
def test_an_answer_on_a_film_without_an_age_says_so(elements: dict[str, str], is_known: bool) -> None:
    notes = pipeline().read({"image": [changed(**elements)]}).notes
    told = [note for note in notes if note.startswith("The patient's age is not known")]
    assert len(told) == (not is_known)
    assert all("children of one to five" in note for note in told)


@pytest.mark.filterwarnings("ignore:Invalid value for VR AS")
def test_an_age_without_its_unit_is_taken_as_years() -> None:
    assert look(changed(PatientAge="53")).findings[0].presence is Presence.UNDETERMINED


def test_the_temperature_of_the_model_makes_the_same_film_less_certain() -> None:
    numbers = {**CARD.numbers, "calibration": {"temperature": 3 * CARD.numbers["calibration"]["temperature"]}}
    warm = ChestXray(replace(CARD, numbers=numbers), torch.device("cpu"))
    plain, softened = (one.analyze(one.read({"image": [film()]})).findings[0] for one in (pipeline(), warm))
    assert plain.confidence is not None
    assert softened.confidence is not None
    assert 0.5 < softened.confidence < plain.confidence


def test_the_strongest_place_carries_the_probability() -> None:
    attention = np.array([[0.0, 3.0], [6.0, 1.5]], np.float32)
    assert np.allclose(scale_heat(attention, 0.8), [[0.0, 0.4], [0.8, 0.2]])
    assert not scale_heat(np.zeros((2, 2), np.float32), 0.8).any()


@pytest.mark.parametrize(
    ("confidence", "presence"),
    [(0.2, Presence.ABSENT), (0.46, Presence.UNDETERMINED), (0.5, Presence.UNDETERMINED), (0.56, Presence.PRESENT)],
)
def test_near_the_threshold_nobody_knows(confidence: float, presence: Presence) -> None:
    assert decide_presence(confidence, threshold=0.5, band=0.05) is presence


def test_preparation_is_blind_to_exposure_and_centers_the_square() -> None:
    image = np.random.default_rng(0).random((300, 400), dtype=np.float32)
    square = crop_square(image)
    assert square.shape == (300, 300)
    assert square[0, 0] == image[0, 50]
    small = torch.from_numpy(shrink(square))[None, None]
    assert small.shape == (1, 1, MATRIX, MATRIX)
    assert torch.allclose(standardize(small), standardize(small * 0.3 + 0.2), atol=1e-2)


def test_heat_outside_of_the_square_is_zero() -> None:
    full = spread_heat(np.ones((MATRIX, MATRIX), np.float32), (200, 300))
    assert full.shape == (200, 300)
    assert (full[:, :50] == 0).all()
    assert (full[:, 250:] == 0).all()
    assert (full[:, 50:250] == 1).all()
