"""What a worker can measure is there, and what `radnode bench` asks it for it knows."""

from importlib import import_module

from node.cli.bench_pipeline import WORKER_PARTS
from workers.benchmark.parts import PARTS, known_parts


def test_every_part_has_its_function() -> None:
    for place in PARTS.values():
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(module), function)), place


def test_a_worker_knows_every_part_of_the_pipeline() -> None:
    assert set(known_parts()) >= WORKER_PARTS.keys()
