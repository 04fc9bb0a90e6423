"""What it would give to ask the X-ray network of several Studies at once: `radnode bench pipeline --part batch`."""

from functools import partial
from importlib.metadata import version
from platform import python_version
from typing import Any

import torch

from node.models import SHIPPED_MODELS, find_model
from workers.benchmark.rounds import Subject, measure_in_turn
from workers.inference.attention import attend
from workers.inference.weights import load_weights
from workers.networks.xray_densenet import ATTENDED, MATRIX, XrayDensenet, mirror, pool_evidence

MODEL = "cxr-pneumonia"
FILMS = 16
BATCHES = (1, 8, 16)
SEED = 7


def measure_batching(*, rounds: int) -> dict[str, Any]:
    """Return what so many films take by batch, on one core, in the form that `radnode bench` shows.

    Parameters
    ----------
    rounds
        How often each batch is measured; >= 1.
    """
    torch.set_num_threads(1)
    network = load_weights(XrayDensenet(), find_model(MODEL, (SHIPPED_MODELS,)))
    films = torch.randn(FILMS, 1, MATRIX, MATRIX, generator=torch.Generator().manual_seed(SEED))
    subjects = [Subject(name=_name(batch), run=partial(_ask, network, films, batch)) for batch in BATCHES]
    measured = measure_in_turn(subjects, rounds=rounds)
    alone_s = measured[_name(BATCHES[0])].median_s
    return {
        "bench": "pipeline batch",
        "rounds": rounds,
        "unit": "CPU seconds",
        "tables": [
            {"title": f"{FILMS} films, Grad-CAM included", "rows": [one.as_json() for one in measured.values()]}
        ],
        "ratios": [
            {
                "name": f"batches of {batch} against films one by one",
                "times_faster": round(alone_s / measured[_name(batch)].median_s, 2),
            }
            for batch in BATCHES[1:]
        ],
        "versions": {"Python": python_version(), "torch": version("torch")},
    }


def _name(batch: int) -> str:
    return f"in batches of {batch}"


def _ask(network: torch.nn.Module, films: torch.Tensor, batch: int) -> None:
    layer = network.get_submodule(ATTENDED)
    for part in torch.split(films, batch):
        attend(network, layer, mirror(part), score_of=pool_evidence)
