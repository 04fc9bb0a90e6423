"""Grad-CAM shows the place that moved the score, and leaves the network as it was."""

import pytest
import torch
from torch import nn

from workers.inference.attention import attend


class Looker(nn.Module):
    """Two channels: brightness, which speaks for, and darkness, which speaks against."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(1, 2, kernel_size=1, bias=False)
        self.look.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        self.say = nn.Linear(2, 2, bias=False)
        self.say.weight.data = torch.tensor([[3.0, -1.0], [-3.0, 1.0]])

    def forward(self, films: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.say(torch.relu(self.look(films)).mean(dim=(2, 3)))
        return answer


@pytest.fixture
def films() -> torch.Tensor:
    two = torch.zeros(2, 1, 4, 4)
    two[0, 0, 1, 2], two[1, 0, 3, 0] = 5.0, 5.0
    two[:, 0, 0, 0] = -5.0
    return two


def test_the_brightest_place_of_each_film_is_shown_and_what_speaks_against_is_not(films: torch.Tensor) -> None:
    network = Looker()
    seen = attend(network, network.look, films, score_of=lambda answer: answer[:, 0])
    assert seen.maps.shape == (2, 4, 4)
    assert [int(one.argmax()) for one in seen.maps] == [1 * 4 + 2, 3 * 4]
    assert seen.maps[:, 0, 0].tolist() == [0.0, 0.0]
    assert torch.equal(seen.answer, network(films))


def test_of_the_opposite_score_the_opposite_place_is_shown(films: torch.Tensor) -> None:
    network = Looker()
    seen = attend(network, network.look, films, score_of=lambda answer: answer[:, 1])
    assert [int(one.argmax()) for one in seen.maps] == [0, 0]


def test_frozen_weights_and_inference_mode_do_not_hinder_it(films: torch.Tensor) -> None:
    network = Looker().requires_grad_(requires_grad=False)
    with torch.inference_mode():
        seen = attend(network, network.look, films, score_of=lambda answer: answer[:, 0])
    assert float(seen.maps.max()) > 0


def test_nothing_of_it_stays(films: torch.Tensor) -> None:
    network = Looker()
    seen = attend(network, network.look, films, score_of=lambda answer: answer[:, 0])
    assert not network.look._forward_hooks
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not seen.answer.requires_grad
    assert not seen.maps.requires_grad
    assert not films.requires_grad


def test_the_hook_goes_when_the_network_fails() -> None:
    network = Looker()
    with pytest.raises(RuntimeError):
        attend(network, network.look, torch.zeros(1, 3, 4, 4), score_of=lambda answer: answer[:, 0])
    assert not network.look._forward_hooks
