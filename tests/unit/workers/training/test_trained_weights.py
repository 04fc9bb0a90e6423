"""Weights are written in half precision, and come back as what they were."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from workers.training.weights import load_trained, save_weights


def test_a_variance_too_large_for_half_precision_does_not_become_infinite(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        network.get_submodule("1").get_buffer("running_var").copy_(torch.tensor([105_428.0, 2.0]))
    path = tmp_path / "weights.safetensors"
    save_weights(network, path)
    types = {name: value.dtype for name, value in load_file(path).items() if value.is_floating_point()}
    assert {name for name, dtype in types.items() if dtype == torch.float32} == {"1.running_var"}
    again = load_trained(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)), path)
    assert again.get_submodule("1").get_buffer("running_var").tolist() == [105_428.0, 2.0]
    for name, value in network.state_dict().items():
        assert again.state_dict()[name].numpy() == pytest.approx(value.numpy(), rel=1e-3)
