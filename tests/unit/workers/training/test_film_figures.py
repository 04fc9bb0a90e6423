"""What the X-ray recipe reports is what a hand calculation gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from workers.networks.xray_densenet import MATRIX, XrayDensenet
from workers.training.film_baseline import fit_regression
from workers.training.film_changes import change_films
from workers.training.film_figures import Judged, choose_threshold, describe, draw_misread, locate_heat
from workers.training.radiograph_phantoms import draw_radiograph, draw_with_truth


def judged_films(scores: list[float], truth: list[int]) -> Judged:
    count = len(scores)
    labels: NDArray[np.bool_] = np.array(truth) == 1
    return Judged(
        films=torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(0)).half(),
        truth=labels,
        patients=np.array([f"p{number // 2}" for number in range(count)]),
        scores=np.array(scores, np.float64),
        subgroups={"sick": labels, "well": ~labels, "nobody": np.zeros(count, bool)},
    )


def test_counts_are_counts_with_their_intervals() -> None:
    judged = judged_films([-4, -2, -1, 1.0, -0.5, 2, 3, 4], [0, 0, 0, 0, 1, 1, 1, 1])
    figures = describe(judged, temperature=2.0, threshold=0.5)
    assert (figures["patients"], figures["films"]) == (4, 8)
    # Of 16 pairs, the sick film below one well one is the only wrong one.
    assert figures["auc"] == 15 / 16
    assert figures["sensitivity"] == {"share": 0.75, "interval_95": (0.3006, 0.9544), "of": 4}
    assert figures["called_right"] == {"sick": figures["sensitivity"], "well": figures["specificity"]}
    assert figures["within_0.05_of_threshold"] == 0.0


def test_the_threshold_leaves_the_same_room_above_both_targets() -> None:
    probability = np.linspace(0, 1, 1001)
    truth = np.arange(1001) > 500
    # Whatever lies between the classes is right; the middle of it is taken.
    assert choose_threshold(np.where(truth, 0.9, 0.1), truth) == pytest.approx(0.5, abs=0.02)
    # Too low a threshold costs specificity: 0.525 leaves 0.05 of each, and the targets differ by 0.05.
    assert choose_threshold(probability, truth) == pytest.approx(0.5, abs=0.03)


def test_an_opacity_of_a_drawn_chest_lies_in_its_lungs_and_changes_the_film_there() -> None:
    for seed in range(6):
        drawn = draw_with_truth(np.random.default_rng(seed), size=96, has_opacity=True)
        assert drawn.opacity.any()
        assert (drawn.opacity <= drawn.lungs).all()
        assert 0.05 < drawn.lungs.mean() < 0.8
        film = draw_radiograph(np.random.default_rng(seed), size=96, has_opacity=True)
        assert np.array_equal(film, drawn.film)
    assert not draw_with_truth(np.random.default_rng(0), size=96, has_opacity=False).opacity.any()


def test_a_map_without_any_idea_has_the_share_of_the_area() -> None:
    torch.manual_seed(0)
    drawn = [draw_with_truth(np.random.default_rng(seed), size=MATRIX, has_opacity=True) for seed in range(2)]
    located = locate_heat(XrayDensenet().eval(), drawn)
    assert located["area"]["in_lungs"] == pytest.approx(np.mean([one.lungs.mean() for one in drawn]), abs=1e-3)
    assert all(0 <= value <= 1 for row in located.values() for value in row.values())


def test_changed_films_are_films_still_and_the_same_seed_changes_them_alike() -> None:
    films = torch.rand(12, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    outcomes = []
    for _ in range(2):
        torch.manual_seed(2)
        outcomes.append(change_films(films, np.random.default_rng(3)))
    assert torch.equal(*outcomes)
    assert outcomes[0].shape == films.shape
    assert torch.isfinite(outcomes[0]).all()
    assert not torch.isclose(outcomes[0], films, atol=0.05).all(dim=(1, 2, 3)).any()


def test_regression_tells_apart_what_one_feature_tells_apart() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(5, 2, (200, 6))).float()
    labels = (features[:, 2].numpy() > 5).astype(np.int64)
    scores = fit_regression(features, labels).score(features)
    assert ((scores > 0) == (labels == 1)).mean() > 0.95


def test_misread_films_are_drawn(tmp_path: Path) -> None:
    judged = judged_films([-1, 3, 4, -3], [0, 0, 1, 1])
    path = tmp_path / "misread.png"
    draw_misread(
        judged,
        temperature=1.0,
        threshold=0.5,
        map_film=lambda film: np.asarray(film[0], np.float32),
        path=path,
    )
    with Image.open(path) as picture:
        assert np.asarray(picture.convert("L")).std() > 10
