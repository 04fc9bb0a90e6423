"""A network in another Layout answers what it did, in the same form; a calibration takes none that does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom import Dataset
from torch import Tensor, nn

from node.domain.codes import LUNG, PNEUMONIA
from node.domain.finding import Finding, Presence
from node.errors import ModelInvalid, NotEligible
from node.layouts import PLAIN, Layout, Memory, Precision
from node.models import SHIPPED_MODELS, ModelCard, read_model
from node.settings.loading import load_settings
from node.version import product_version
from workers.calibration import calibrate, calibrate_models, list_layouts, measure_difference
from workers.inference.attention import attend
from workers.inference.device import computes_bfloat16, find_grounds, name_device
from workers.inference.layout import lay_out, networks_of
from workers.pipelines.base import Analysis
from workers.post import make_post
from workers.runner import WarmPipeline

CPU = torch.device("cpu")
LAST = Layout(memory=Memory.CHANNELS_LAST)
HALF = Layout(precision=Precision.BFLOAT16)
BOTH = Layout(memory=Memory.CHANNELS_LAST, precision=Precision.BFLOAT16)


def network(dimensions: int) -> nn.Module:
    torch.manual_seed(3)
    convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return nn.Sequential(convolution(2, 8, 3, padding=1), nn.ReLU(), convolution(8, 1, 1)).eval()


@pytest.mark.parametrize("layout", [LAST, HALF, BOTH], ids=str)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_network_answers_alike_in_any_layout(dimensions: int, layout: Layout) -> None:
    one = network(dimensions)
    given = torch.rand(3, 2, *([8] * dimensions))
    with torch.inference_mode():
        plain = one(given)
        lay_out(one, layout, CPU)
        answer = one(given)
    assert answer.dtype is torch.float32
    assert answer.is_contiguous()
    assert torch.allclose(answer, plain, atol=0.02 if layout.precision is Precision.BFLOAT16 else 1e-5)
    # Else it would have been asked in float32 after all.
    assert torch.equal(answer, plain) is (layout.precision is Precision.FLOAT32) or layout == LAST


@pytest.mark.parametrize("layout", [LAST, BOTH], ids=str)
def test_a_network_can_be_laid_out_plainly_again(layout: Layout) -> None:
    one, given = network(3), torch.rand(1, 2, 8, 8, 8)
    with torch.inference_mode():
        plain = one(given)
        lay_out(one, layout, CPU)
        lay_out(one, PLAIN, CPU)
        assert torch.equal(one(given), plain)


def test_weights_lie_as_the_layout_says() -> None:
    one = network(2)
    lay_out(one, LAST, CPU)
    assert one.get_parameter("0.weight").is_contiguous(memory_format=torch.channels_last)


def test_gradients_pass_through_a_layout() -> None:
    one, given = network(2), torch.rand(2, 2, 8, 8)
    ways = []
    for layout in (PLAIN, LAST):
        lay_out(one, layout, CPU)
        ways.append(attend(one, one[1], given, score_of=lambda answer: answer.mean(dim=(1, 2, 3))))  # type: ignore[index]  # a Sequential
    assert torch.allclose(ways[0].maps, ways[1].maps, atol=1e-5)


def test_answers_by_name_and_in_lists_are_restored() -> None:
    class Listing(nn.Module):
        def forward(self, given: Tensor) -> dict[str, list[Tensor]]:
            return {"boxes": [torch.nn.functional.conv2d(given, torch.ones(1, 2, 1, 1))]}

    one = Listing()
    lay_out(one, BOTH, CPU)
    with torch.inference_mode():
        (boxes,) = one(torch.rand(1, 2, 4, 4))["boxes"]
    assert boxes.dtype is torch.float32


def test_where_memory_was_short_another_device_computes_in_float32() -> None:
    one, given = network(2), torch.rand(1, 2, 8, 8)
    with torch.inference_mode():
        plain = one(given)
        lay_out(one, HALF, torch.device("cuda"))
        assert torch.equal(one(given), plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What `Marker` reads."""

    given: Tensor


class Slow(nn.Module):
    """Takes far longer for what lies channel after channel, and may answer otherwise for what does not."""

    def __init__(self, *, error: float = 0.0, prefers: Memory = Memory.CHANNELS_LAST) -> None:
        super().__init__()
        self.error = error
        self.prefers = prefers

    def forward(self, given: Tensor) -> Tensor:
        is_last = given.is_contiguous(memory_format=torch.channels_last)
        if is_last is (self.prefers is Memory.CONTIGUOUS):
            for _ in range(300):
                given = given + 0.0
        return given.mean(dim=(1, 2, 3)) + (self.error if is_last else 0.0)


class Marker:
    """A Pipeline with one network, whose certainty is what that answers."""

    def __init__(self, network: nn.Module, *, refuses: bool = False, finds: bool = True) -> None:
        self.networks = {"slow": network}
        self._refuses = refuses
        self._finds = finds

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> Marked:
        if self._refuses:
            raise NotEligible("not this one")
        return Marked(given=torch.rand(1, 4, 24, 24, generator=torch.Generator().manual_seed(len(inputs))))

    def analyze(self, prepared: Marked) -> Analysis:
        with torch.inference_mode():
            confidence = float(self.networks["slow"](prepared.given)[0])
        return answer(confidence) if self._finds else Analysis(findings=())


def answer(
    confidence: float | None,
    *,
    presence: Presence = Presence.PRESENT,
    mask: NDArray[np.uint8] | None = None,
    heat: NDArray[np.float32] | None = None,
) -> Analysis:
    finding = Finding(label="Pneumonia", code=PNEUMONIA, presence=presence, confidence=confidence, site=LUNG)
    return Analysis(findings=(finding,), mask=mask, heat=heat)


def warm(marker: Marker) -> WarmPipeline:
    return WarmPipeline(pipeline=marker, card=read_model(SHIPPED_MODELS / "cxr-pneumonia"))


STUDIES: Sequence[Mapping[str, Sequence[Dataset]]] = ({}, {"image": ()})


def test_a_layout_that_is_faster_and_answers_alike_is_taken() -> None:
    marker = Marker(Slow(error=0.004))
    found = calibrate(warm(marker), CPU, studies=STUDIES, rounds=3, tried=(LAST,))
    assert found.networks["slow"].layout == LAST
    (trial,) = found.networks["slow"].trials
    assert trial.times_faster > 1.1
    assert trial.difference == pytest.approx(0.004, abs=1e-5)
    assert found.samples == 2
    # As it was calibrated it is asked now.
    with torch.inference_mode():
        assert float(marker.networks["slow"](torch.zeros(1, 4, 24, 24))[0]) == pytest.approx(0.004)


def test_a_layout_that_answers_otherwise_is_not_taken() -> None:
    marker = Marker(Slow(error=0.006))
    found = calibrate(warm(marker), CPU, studies=STUDIES, rounds=3, tried=(LAST,))
    assert found.networks["slow"].layout == PLAIN
    assert found.networks["slow"].trials[0].difference == pytest.approx(0.006, abs=1e-5)
    with torch.inference_mode():
        assert float(marker.networks["slow"](torch.zeros(1, 4, 24, 24))[0]) == 0.0


def test_a_layout_that_is_not_faster_is_not_even_asked() -> None:
    found = calibrate(warm(Marker(Slow(prefers=Memory.CONTIGUOUS))), CPU, studies=STUDIES, rounds=3, tried=(LAST,))
    assert found.networks["slow"].layout == PLAIN
    assert found.networks["slow"].trials[0].difference is None


def test_a_model_that_reads_no_drawn_study_stays_plain() -> None:
    found = calibrate(warm(Marker(Slow(), refuses=True)), CPU, studies=STUDIES, rounds=3)
    assert found.samples == 0
    assert not found.networks


def test_a_model_that_finds_nothing_to_compare_stays_plain() -> None:
    found = calibrate(warm(Marker(Slow(error=0.5), finds=False)), CPU, studies=STUDIES, rounds=3, tried=(LAST,))
    assert found.samples == 2
    assert found.networks["slow"].layout == PLAIN


def test_bfloat16_is_tried_where_the_device_has_instructions_for_it(tmp_path: Path) -> None:
    assert list_layouts(has_bfloat16=False) == (LAST,)
    assert set(list_layouts(has_bfloat16=True)) == {LAST, HALF, BOTH}
    facts = tmp_path / "cpuinfo"
    facts.write_text("processor : 0\nmodel name : Fine CPU\nflags : fpu avx2 avx512f amx_bf16\n\nprocessor : 1\n")
    assert computes_bfloat16(CPU, facts=facts)
    assert name_device(CPU, facts=facts) == "Fine CPU (amx_bf16 avx2 avx512f)"
    facts.write_text("processor : 0\nmodel name : Old CPU\nflags : fpu avx2 avx512f\n")
    assert not computes_bfloat16(CPU, facts=facts)
    assert not computes_bfloat16(CPU, facts=tmp_path / "absent")


def test_other_thresholds_are_other_grounds() -> None:
    card = read_model(SHIPPED_MODELS / "cxr-pneumonia")
    other = replace(card, numbers={**card.numbers, "thresholds": {"finding": 0.123}})
    assert find_grounds(other, CPU) != find_grounds(card, CPU)
    reordered = replace(card, numbers=dict(reversed(list(card.numbers.items()))))
    assert find_grounds(reordered, CPU) == find_grounds(card, CPU)


def test_the_grounds_of_a_choice_are_weights_device_torch_and_radnode() -> None:
    card = read_model(SHIPPED_MODELS / "cxr-pneumonia")
    grounds = find_grounds(card, CPU)
    assert (grounds.weights_sha256, grounds.torch) == (card.weights_sha256, torch.__version__)
    assert grounds.product == product_version()


def test_a_pipeline_that_shows_no_network_has_none() -> None:
    assert networks_of(object()) == {}


def ball(shift: int) -> NDArray[np.uint8]:
    mask = np.zeros((8, 20, 20), np.uint8)
    mask[2:6, 4 + shift : 14 + shift, 4:14] = 1
    return mask


HEAT = np.zeros((4, 4), np.float32)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (answer(0.9), 0.0),
        (answer(0.898), 0.002),
        (answer(0.9, presence=Presence.UNDETERMINED), inf),
        (Analysis(findings=()), inf),
        (answer(0.9, mask=ball(0)), inf),
        (answer(0.9, heat=HEAT), inf),
    ],
)
def test_answers_differ_by_what_is_said_of_each_finding(other: Analysis, difference: float) -> None:
    assert measure_difference(answer(0.9), other) == pytest.approx(difference)


def test_masks_differ_by_what_is_missing_of_dice() -> None:
    assert measure_difference(answer(0.9, mask=ball(0)), answer(0.9, mask=ball(1))) == pytest.approx(0.1)


def spots(*, small_at: int, order: tuple[int, int] = (1, 2)) -> Analysis:
    """Return a large and a small Segment, which have the numbers of `order`."""
    mask = np.zeros((8, 40, 40), np.uint8)
    mask[:, :20, :] = order[0]
    mask[0, 30, small_at : small_at + 2] = order[1]
    large, small = (
        Finding(label="Spot", code=PNEUMONIA, site=LUNG, segment_number=number, center_mm=(place, 0.0, 0.0))
        for number, place in zip(order, (1.0, 9.0), strict=True)
    )
    return Analysis(findings=(large, small) if order == (1, 2) else (small, large), mask=mask)


def test_a_small_segment_is_not_hidden_by_a_large_one() -> None:
    assert measure_difference(spots(small_at=5), spots(small_at=6)) == pytest.approx(0.5)
    assert measure_difference(spots(small_at=5), spots(small_at=5, order=(2, 1))) == 0.0


def test_segments_that_swapped_their_voxels_differ() -> None:
    one, other = spots(small_at=5), spots(small_at=5, order=(2, 1))
    assert measure_difference(one, replace(one, mask=other.mask)) == 1.0


def test_heat_differs_by_its_mean() -> None:
    assert measure_difference(answer(0.9, heat=HEAT), answer(0.9, heat=HEAT + 0.25)) == pytest.approx(0.25)


def test_what_is_wrong_with_one_model_is_in_no_others_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = []

    def fail(card: ModelCard, _device: torch.device, *, name: str) -> WarmPipeline:
        tried.append(card.name)
        raise KeyError("channel") if len(tried) == 1 else ModelInvalid("damaged")

    monkeypatch.setattr("workers.calibration.load_pipeline", fail)
    settings = load_settings(None, {"RADNODE_NODE__DATA_DIR": str(tmp_path)})
    assert calibrate_models(settings, make_post("cpu"), models=(), only_missing=True) == len(tried) == 3
    assert capsys.readouterr().err.count("model-invalid: damaged") == 2
