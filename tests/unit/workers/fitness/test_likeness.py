"""The input autoencoder: its score, the sentence in the report, and the refusal."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from node.errors import ModelInvalid, UnlikeTraining
from node.manifest import Autoencoder, Fit
from node.models import SHIPPED_MODELS, ModelCard, digest_file, read_model
from workers.fitness.check import Fitness
from workers.fitness.likeness import score_planes, share_missed
from workers.networks.input_autoencoder import MATRIX, InputAutoencoder


def planes() -> NDArray[np.float32]:
    return np.random.default_rng(1).random((3, MATRIX, MATRIX), np.float32)


def make_card(folder: Path, *, threshold: float, band: float = 0.0, **changes: Any) -> ModelCard:
    torch.manual_seed(3)
    path = folder / "fit.safetensors"
    save_file(InputAutoencoder().state_dict(), path)
    told = Autoencoder(file=path, sha256=digest_file(path), threshold=threshold, band=band)
    shipped = read_model(SHIPPED_MODELS / "cxr-pneumonia")
    return replace(shipped, weights=folder / "weights.safetensors", fit=Fit(autoencoder=replace(told, **changes)))


def test_a_perfect_drawing_misses_nothing_and_the_mean_misses_everything() -> None:
    given = torch.from_numpy(planes())[:, None]
    assert share_missed(given, given).tolist() == [0, 0, 0]
    flat = given.mean(dim=(2, 3), keepdim=True).expand_as(given)
    assert share_missed(given, flat).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_a_plane_of_one_gray_value_has_a_finite_score() -> None:
    score = score_planes(InputAutoencoder().eval(), np.zeros((1, MATRIX, MATRIX), np.float32))
    assert np.isfinite(score)


def test_an_input_is_read_noted_or_refused_by_its_score(tmp_path: Path) -> None:
    score = score_planes(_network(tmp_path), planes())
    assert Fitness(make_card(tmp_path, threshold=score * 1.01)).check_likeness(planes) == ()
    (note,) = Fitness(make_card(tmp_path, threshold=score * 0.9, band=score)).check_likeness(planes)
    assert "unusual" in note
    assert f"{score:.2f}" in note
    with pytest.raises(UnlikeTraining, match=f"score {score:.2f} where at most"):
        Fitness(make_card(tmp_path, threshold=score * 0.9)).check_likeness(planes)


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnlikeTraining):
        Fitness(make_card(tmp_path, threshold=1e9)).check_likeness(
            lambda: np.full((1, MATRIX, MATRIX), np.nan, np.float32)
        )


def test_without_an_autoencoder_nothing_is_shown(tmp_path: Path) -> None:
    card = replace(make_card(tmp_path, threshold=1), fit=Fit())
    assert Fitness(card).check_likeness(_must_not_be_called) == ()


def test_a_file_that_is_absent_or_no_autoencoder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="no input autoencoder"):
        Fitness(make_card(tmp_path, threshold=1, file=tmp_path / "other.safetensors"))
    card = make_card(tmp_path, threshold=1)
    path = tmp_path / "fit.safetensors"
    save_file({"other": torch.zeros(3)}, path)
    told = card.fit.autoencoder
    assert told is not None
    with pytest.raises(ModelInvalid, match="no input autoencoder"):
        Fitness(replace(card, fit=Fit(autoencoder=replace(told, sha256=digest_file(path)))))


def test_a_changed_file_is_told_with_the_weights(tmp_path: Path) -> None:
    card = make_card(tmp_path, threshold=1, sha256="0" * 64)
    card.weights.write_bytes(b"weights")
    with pytest.raises(ModelInvalid, match=r"fit\.safetensors has sha256"):
        replace(card, weights_sha256=digest_file(card.weights)).verify_weights()


def _network(folder: Path) -> InputAutoencoder:
    make_card(folder, threshold=1)
    torch.manual_seed(3)
    network = InputAutoencoder()
    network.eval()
    return network


def _must_not_be_called() -> NDArray[np.float32]:
    raise AssertionError
