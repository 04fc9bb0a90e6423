"""Maps with known nodules become boxes and outlines of the same place and size."""

import pytest
import torch

from workers.networks.nodule_finder import CENTER, INSIDE, SIZE, NoduleFinder
from workers.pipelines.nodule_finder import FinderInferer, read_maps

SHAPE = (40, 32, 24)
FAR = -8.0


def draw_maps(*nodules: tuple[tuple[int, int, int], float, float]) -> torch.Tensor:
    """Return maps that show nodules: middle, diameter, logit of the certainty."""
    maps = torch.full((3, *SHAPE), FAR)
    maps[SIZE] = 0.0
    grid = torch.stack(torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij"), dim=-1)
    for middle, diameter, logit in nodules:
        distance = (grid - torch.tensor(middle)).float().norm(dim=-1)
        maps[CENTER] = torch.maximum(maps[CENTER], logit - distance)
        maps[SIZE][distance < diameter] = torch.tensor(diameter).log2()
        maps[INSIDE][distance <= diameter / 2] = 5.0
    return maps


def test_two_nodules_become_two_boxes_the_most_certain_first() -> None:
    answer = read_maps(draw_maps(((10, 20, 8), 6.0, 1.0), ((28, 9, 15), 10.0, 3.0)), least=0.2, most=10)
    assert answer["label_scores"].tolist() == pytest.approx(torch.sigmoid(torch.tensor([3.0, 1.0])).tolist())
    assert answer["box"][0].tolist() == pytest.approx([23, 4, 10, 33, 14, 20])
    assert answer["box"][1].tolist() == pytest.approx([7, 17, 5, 13, 23, 11])
    assert answer["label"].tolist() == [0, 0]
    outlines = answer["outlines"][0]
    assert outlines.shape == SHAPE
    assert int((outlines == 1).sum()) == pytest.approx(524, rel=0.05)
    assert int(outlines[28, 9, 15]) == 1
    assert int(outlines[10, 20, 8]) == 2


def test_what_is_not_certain_or_inside_a_larger_one_is_none() -> None:
    maps = draw_maps(((20, 16, 12), 16.0, 3.0), ((25, 16, 12), 4.0, 2.0), ((5, 5, 5), 5.0, -3.0))
    answer = read_maps(maps, least=0.2, most=10)
    assert len(answer["box"]) == 1
    assert len(read_maps(maps, least=0.01, most=10)["box"]) == 2
    assert len(read_maps(maps, least=0.01, most=1)["box"]) == 1


def test_an_empty_answer_keeps_its_form() -> None:
    answer = read_maps(draw_maps(), least=0.2, most=10)
    assert answer["box"].shape == (0, 6)
    assert answer["label_scores"].shape == answer["label"].shape == (0,)
    assert not answer["outlines"].any()


def test_a_nodule_at_the_border_is_outlined_as_far_as_there_are_voxels() -> None:
    outlines = read_maps(draw_maps(((0, 31, 12), 8.0, 2.0)), least=0.2, most=10)["outlines"][0]
    assert 0 < int(outlines.sum()) < 268 / 2


def test_the_network_answers_on_the_grid_of_any_image_and_each_level_while_it_learns() -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    network = NoduleFinder(width=4)
    scales = [tuple(maps.shape) for maps in network(torch.rand(2, 1, 16, 24, 32))]
    assert scales == [(2, 3, 16, 24, 32), (2, 1, 4, 6, 8), (2, 1, 2, 3, 4)]
    network.eval()
    with torch.inference_mode():
        maps = network(torch.rand(1, 1, 16, 16, 16))
    # The untrained network believes in no nodule.
    assert float(torch.sigmoid(maps[:, CENTER]).max()) < 0.05
    (answer,) = FinderInferer([16, 16, 16])([torch.rand(1, 18, 20, 13)], network)
    assert answer["outlines"].shape == (1, 18, 20, 13)
