"""``radnode-train NAME --data DIR --out DIR``: make the weights of one model."""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch

from workers.training.order import Order, Recipe

# Imported when asked for: each draws in networks and readers of its own.
RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "ct-detector": "workers.training.ct_detector",
        "ct-nodules": "workers.training.ct_nodules",
        "cxr-pneumonia": "workers.training.cxr_pneumonia",
        "input-autoencoder": "workers.training.input_autoencoder",
        "mr-tumour": "workers.training.mr_tumour",
    }
)
USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe that the arguments name; return the exit code."""
    parser = _build_parser()
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    order = Order(
        data=options.data,
        out=options.out,
        exclude=options.exclude,
        device=_choose_device(options.device),
        threads=options.threads,
        steps=options.steps,
        resume=options.resume,
        pipeline=options.pipeline,
    )
    train_and_report: Recipe = importlib.import_module(RECIPES[options.name]).train_and_report
    try:
        train_and_report(order)
    except ValueError as error:
        sys.stderr.write(f"radnode-train: {error}\n")
        return USAGE
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="radnode-train", description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES), help="the model")
    parser.add_argument("--data", type=Path, required=True, help="training data, laid out as the recipe's page says")
    parser.add_argument("--out", type=Path, required=True, help="weights, figures, curve and checkpoint go here")
    parser.add_argument("--exclude", type=Path, help="list of patients never to learn from")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; with one, runs repeat exactly")
    parser.add_argument("--steps", type=int, help="another number of steps than the recipe's")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--pipeline", help="input-autoencoder: whose inputs it learns")
    return parser


def _choose_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


if __name__ == "__main__":
    sys.exit(main())
