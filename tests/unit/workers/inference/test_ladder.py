"""What a network does when memory is short: real torch, on a network that takes no more than so much at once."""

import logging

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from node.errors import DeviceFailed, ModelOutputInvalid, OutOfMemory
from workers.inference.answers import require_sound
from workers.inference.faults import named_faults, prove_device
from workers.inference.ladder import Asked, Footing, Ladder, Tile

CPU = torch.device("cpu")
# A device of torch that holds shapes and no numbers: it stands for an accelerator, to which a network can be moved.
META = torch.device("meta")
VOLUME = torch.arange(16.0 * 8).reshape(16, 8)


class Sum(nn.Module):
    """Sums rows, and finds no memory for more than `room` numbers at once."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.room = room
        self.error = error
        self.taken: list[int] = []

    def forward(self, rows: Tensor) -> Tensor:
        if rows.numel() > self.room:
            raise self.error
        self.taken.append(rows.numel())
        return rows.sum(dim=1)


def torch_error() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def cpu_error() -> Exception:
    """What torch itself says; more than any address space has."""
    try:
        torch.empty(1 << 60)
    except RuntimeError as exc:
        return exc
    raise AssertionError("this machine has an exbibyte")


def ask_tiles(network: nn.Module, footing: Footing) -> Tensor:
    width = VOLUME.shape[1] if footing.tile is None else footing.tile[0]
    columns = [
        torch.cat([network(part) for part in torch.split(tile, footing.batch)])
        for tile in torch.split(VOLUME, width, dim=1)
    ]
    return torch.stack(columns).sum(dim=0)


def ask(room: int, *, batch: int = 16, tiles: tuple[Tile, ...] = (), error: Exception | None = None) -> Asked[Tensor]:
    network = Sum(room, error or torch_error())
    return Ladder(network, CPU, batch=batch, tiles=tiles).ask(ask_tiles)


def test_where_memory_suffices_the_network_is_asked_once() -> None:
    network = Sum(128, torch_error())
    asked = Ladder(network, CPU, batch=16).ask(ask_tiles)
    assert (network.taken, asked.notes) == ([128], ())
    assert torch.equal(asked.answer, VOLUME.sum(dim=1))


@pytest.mark.parametrize("error", [torch_error(), MemoryError(), cpu_error()], ids=["torch", "python", "torch-cpu"])
def test_a_smaller_batch_changes_nothing_and_is_not_told(error: Exception) -> None:
    asked = ask(32, error=error)
    assert torch.equal(asked.answer, VOLUME.sum(dim=1))
    assert asked.notes == ()


def test_a_smaller_tile_is_told_in_the_report() -> None:
    asked = ask(2, tiles=((8,), (4,), (2,)))
    assert torch.equal(asked.answer, VOLUME.sum(dim=1))
    assert asked.notes == ("Memory was short: the network read tiles of 2, not 8.",)


def test_each_step_is_tried_once_and_in_order(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(OutOfMemory, match=r"cpu, batch 1, tile 4"):
        ask(0, tiles=((8,), (4,)))
    steps = [vars(record)["step"] for record in caplog.records]
    assert steps == ["cpu, batch 16, tile 8", "cpu, batch 4, tile 8", "cpu, batch 1, tile 8", "cpu, batch 1, tile 4"]


def test_after_the_device_comes_the_cpu_and_the_report_says_so() -> None:
    """The shapes-only device refuses whatever it is asked; the network stands on the CPU by then, and counts."""
    places: list[str] = []

    def question(network: nn.Module, footing: Footing) -> str:
        place = next(network.parameters()).device.type
        places.append(f"{place} {footing.batch}")
        if footing.device == META:
            raise torch_error()
        return place

    class Movable(nn.Linear):
        def to(self, device: torch.device) -> "Movable":  # type: ignore[override]  # all that a ladder asks for
            return self.to_empty(device=device)

    asked = Ladder(Movable(1, 1), META, batch=8).ask(question)
    assert places == ["meta 8", "meta 2", "meta 1", "cpu 1"]
    (note,) = asked.notes
    assert "ran on the CPU" in note


def test_the_next_job_begins_at_the_top() -> None:
    network = Sum(32, torch_error())
    ladder = Ladder(network, CPU, batch=16)
    ladder.ask(ask_tiles)
    network.room, network.taken = 128, []
    ladder.ask(ask_tiles)
    assert network.taken == [128]


def test_what_is_no_want_of_memory_is_raised_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        ask(0, error=RuntimeError("shapes cannot be multiplied"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (cpu_error(), OutOfMemory),
        (torch.AcceleratorError("CUDA error: out of memory"), OutOfMemory),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), OutOfMemory),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), DeviceFailed),
        (RuntimeError("shapes cannot be multiplied"), RuntimeError),
    ],
    ids=["cpu", "driver", "library", "sticky", "ours"],
)
def test_a_fault_gets_the_name_that_says_what_to_do(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, named_faults():
        raise error
    assert type(caught.value) is kind


def test_a_device_that_is_not_there_cannot_be_used() -> None:
    prove_device(CPU)
    with pytest.raises(DeviceFailed, match="cuda:99"):
        prove_device(torch.device("cuda:99"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 1.0])
def test_answers_that_say_nothing_are_refused(value: float) -> None:
    with pytest.raises(ModelOutputInvalid, match=r"knee network answered"):
        require_sound(np.full((2, 3), value), "knee")


def test_answers_that_differ_are_sound() -> None:
    require_sound(np.array([0.0, 1e-9]), "knee")
    require_sound(np.array([0.5]), "knee")
