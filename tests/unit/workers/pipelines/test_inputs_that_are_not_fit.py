"""Each Pipeline asks whether an input is fit before its network is asked, and what the autoencoders are shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import Dataset

from node.catalogue.bundle import Wishes, complete_bundle
from node.catalogue.shelf import Shelf
from node.errors import NotEligible, PhantomOrTest, UnlikeTraining, WrongAge, WrongFieldOfView, WrongSpacing
from node.manifest import Fit
from node.models import SHIPPED_MODELS, ModelCard, read_model
from node.rehearsal.brain_mr import brain_mr
from tests.bundles import LESION, make_volume_bundle
from tests.phantoms import changed, small_chest_ct, small_chest_xray
from tests.solids import Ellipsoid, Scan, acquire
from workers.networks.input_autoencoder import MATRIX
from workers.pipelines.axial_stack import turn_volume
from workers.pipelines.base import Pipeline
from workers.pipelines.brain_tumour import BrainTumour
from workers.pipelines.bundle import BundlePipeline
from workers.pipelines.chest_xray import ChestXray
from workers.pipelines.input_views import MAX_PLANES, view_chest, view_film, view_head
from workers.pipelines.lung_candidates import coarsen
from workers.pipelines.lung_nodules import LungNodules
from workers.volume import read_volume

CPU = torch.device("cpu")
Inputs = Mapping[str, Sequence[Dataset]]


@cache
def inputs_of(name: str) -> Inputs:
    if name == "lung_nodules":
        return {"ct": small_chest_ct().datasets}
    if name == "brain_tumour":
        head = brain_mr(with_lesion=False, slices=8)
        return {"flair": head.flair, "t1": head.t1}
    return {"image": [small_chest_xray(with_opacity=False).dataset]}


@cache
def pipeline_of(name: str) -> Pipeline[Any]:
    makers: dict[str, tuple[Callable[[ModelCard, torch.device], Pipeline[Any]], str]] = {
        "lung_nodules": (LungNodules, "ct-nodules"),
        "brain_tumour": (BrainTumour, "mr-tumour"),
        "chest_xray": (ChestXray, "cxr-pneumonia"),
    }
    maker, folder = makers[name]
    return maker(read_model(SHIPPED_MODELS / folder), CPU)


@pytest.mark.parametrize("name", ["lung_nodules", "brain_tumour", "chest_xray"])
def test_a_phantom_is_refused_by_each_pipeline_and_a_patient_is_read(name: str) -> None:
    inputs = inputs_of(name)
    pipeline_of(name).read(inputs)
    main = next(iter(inputs))
    with pytest.raises(PhantomOrTest, match="Series Description holds CATPHAN"):
        pipeline_of(name).read({**inputs, main: changed(inputs[main], SeriesDescription="Catphan 504")})


def test_a_t1_of_a_phantom_is_left_out_and_the_report_says_why() -> None:
    inputs = inputs_of("brain_tumour")
    prepared = pipeline_of("brain_tumour").read({**inputs, "t1": changed(inputs["t1"], PatientID="PHANTOM")})
    assert any("phantom-or-test" in note for note in prepared.notes)


def test_an_infant_is_refused_by_the_model_for_adults() -> None:
    inputs = inputs_of("brain_tumour")
    with pytest.raises(WrongAge, match=r"0\.5 years where 2 to 120 are read"):
        pipeline_of("brain_tumour").read({"flair": changed(inputs["flair"], PatientAge="006M")})


def test_noise_that_says_it_is_a_chest_film_is_unlike_the_training() -> None:
    (film,) = inputs_of("chest_xray")["image"]
    noise = np.random.default_rng(5).integers(0, 4000, (film.Rows, film.Columns)).astype(np.uint16)
    with pytest.raises(UnlikeTraining, match=r"score .* where at most"):
        pipeline_of("chest_xray").read({"image": changed([film], PixelData=noise.tobytes())})


@pytest.mark.parametrize(
    ("fit", "error"),
    [
        (Fit(pixel_spacing_mm=(0.1, 0.3)), WrongSpacing),
        (Fit(field_of_view_mm=(900, 1000)), WrongFieldOfView),
    ],
)
def test_a_site_writes_limits_of_its_own_for_a_bundle(fit: Fit, error: type[NotEligible], tmp_path: Path) -> None:
    card = install_bundle(tmp_path)
    series = acquire(Ellipsoid(center_mm=(20.0, -35.0, 110.0), semi_axes_mm=(6.0, 5.0, 8.0)), Scan())
    inputs = {card.required_roles[0]: series}
    BundlePipeline(card, CPU).read(inputs)
    with pytest.raises(error):
        BundlePipeline(replace(card, fit=fit), CPU).read(inputs)
    with pytest.raises(PhantomOrTest):
        BundlePipeline(card, CPU).read({card.required_roles[0]: changed(series, StudyDescription="Phantom")})


def test_planes_are_of_one_size_whatever_they_show() -> None:
    film = view_film(np.random.default_rng(1).random((300, 200), np.float32))
    assert film.shape == (1, MATRIX, MATRIX)
    assert (film.mean(), film.std()) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-3))
    head = view_head(turn_volume(read_volume(inputs_of("brain_tumour")["flair"]))[0])
    assert head.shape[1:] == (MATRIX, MATRIX)
    assert 1 <= len(head) <= 8
    volume = read_volume(inputs_of("lung_nodules")["ct"])
    coarse = coarsen(volume)
    chest = view_chest(coarse.voxels, coarse.place(volume.affine))
    assert chest.shape == (MAX_PLANES, MATRIX, MATRIX)
    assert (chest.min(), chest.max()) == (pytest.approx(0), pytest.approx(1, abs=0.6))


def test_a_chest_is_shown_alike_however_its_rows_run() -> None:
    volume = read_volume(inputs_of("lung_nodules")["ct"])
    coarse = coarsen(volume)
    affine = coarse.place(volume.affine)
    turned = affine.copy()
    turned[:3, 3] += affine[:3, 1] * (coarse.voxels.shape[1] - 1)
    turned[:3, 1] *= -1
    straight, upside_down = view_chest(coarse.voxels, affine), view_chest(coarse.voxels[:, ::-1], turned)
    np.testing.assert_allclose(straight, upside_down, atol=1e-5)


def install_bundle(folder: Path) -> ModelCard:
    complete = partial(complete_bundle, wishes=Wishes(labels=(LESION,)))
    return Shelf(folder / "models").add(make_volume_bundle(folder / "downloads" / "lesions"), complete=complete)
