"""What a bundle marks becomes one Segment a label, however many there are and however it counts them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from node.domain.codes import LUNG, NODULE
from node.errors import ModelOutputInvalid
from node.manifest import Label
from node.models import SHIPPED_MODELS, ModelCard, read_model
from tests.solids import Ellipsoid, Scan, acquire
from workers.pipelines.base import Analysis
from workers.pipelines.bundle_mask import find_segments, read_mask
from workers.volume import Volume, read_volume


@pytest.fixture(scope="module")
def volume() -> Volume:
    ball = Ellipsoid(center_mm=(20.0, -35.0, 110.0), semi_axes_mm=(6.0, 6.0, 6.0))
    return read_volume(acquire(ball, Scan(spacing_mm=(2.0, 1.0, 1.0))))


def card_of(values: Sequence[int]) -> ModelCard:
    labels = [Label(name=f"Label {value}", value=value, code=NODULE, category=None, site=LUNG) for value in values]
    return replace(read_model(SHIPPED_MODELS / "ct-nodules"), labels=tuple(labels), numbers={})


def ask(channels: NDArray[np.float32], card: ModelCard, volume: Volume) -> Analysis:
    """Return what becomes of channels (channels, slices, rows, columns)."""
    answer = torch.from_numpy(np.ascontiguousarray(channels.transpose(0, 3, 2, 1)))
    marks, notes = read_mask([answer], card, volume)
    return find_segments(marks, card, volume, notes=notes)


def draw_bars(volume: Volume, values: Sequence[int]) -> NDArray[np.float32]:
    """Return a bar of as many voxels for each value as its place says, one below the other."""
    drawn = np.zeros((1, *volume.voxels.shape), np.float32)
    for place, value in enumerate(values, 1):
        drawn[0, 1, place, : place + 2] = value
    return drawn


@pytest.mark.parametrize("values", [[3, 1, 2, 200], [5, 700, 300], [-2, 4]], ids=["small", "large", "negative"])
def test_each_label_is_a_segment_in_the_order_of_the_card(values: list[int], volume: Volume) -> None:
    analysis = ask(draw_bars(volume, values), card_of([*values, 9]), volume)
    assert [finding.label for finding in analysis.findings] == [f"Label {value}" for value in values]
    assert analysis.mask is not None
    voxels = [int((analysis.mask == finding.segment_number).sum()) for finding in analysis.findings]
    assert voxels == [place + 2 for place in range(1, len(values) + 1)]


def test_what_has_no_label_is_told(volume: Volume) -> None:
    analysis = ask(draw_bars(volume, [1, 77, 2, 300]), card_of([1, 2]), volume)
    assert [finding.label for finding in analysis.findings] == ["Label 1", "Label 2"]
    assert "The model marked 77, 300 too, for which there is no label." in analysis.notes


@pytest.mark.parametrize("channels", [1, 4], ids=["numbers", "channels"])
def test_marks_without_a_label_are_never_an_absence(channels: int, volume: Volume) -> None:
    drawn = draw_bars(volume, [1, 3])
    if channels > 1:
        drawn = np.concatenate([drawn == value for value in range(channels)]).astype(np.float32)
    with pytest.raises(ModelOutputInvalid, match=r"marks 1, 3, for which there is no label.*label each number"):
        ask(drawn, card_of([2]), volume)


def test_a_label_without_a_channel_is_never_an_absence(volume: Volume) -> None:
    with pytest.raises(ModelOutputInvalid, match="answers 2 channels, and label Label 7 is number 7"):
        ask(np.zeros((2, *volume.voxels.shape), np.float32), card_of([1, 7]), volume)


def test_of_channels_that_overlap_the_later_label_covers_the_earlier_one(volume: Volume) -> None:
    channels = np.zeros((4, *volume.voxels.shape), np.float32)
    channels[1, 2:6, 4:9, 4:9] = channels[3, 4:8, 4:9, 4:9] = 1
    channels[2, 0, 0, 0] = 0.9
    analysis = ask(channels, card_of([3, 1]), volume)
    assert analysis.mask is not None
    assert (analysis.mask[2:6, 4:9, 4:9] == 2).all()
    assert (analysis.mask[6:8, 4:9, 4:9] == 1).all()
    assert [finding.label for finding in analysis.findings] == ["Label 3", "Label 1"]
    assert "The model marked 2 too, for which there is no label." in analysis.notes


def test_a_label_that_fills_the_volume_is_refused_also_where_another_covers_it(volume: Volume) -> None:
    channels = np.ones((3, *volume.voxels.shape), np.float32)
    channels[2, 0] = 0
    with pytest.raises(ModelOutputInvalid, match="100% of all voxels as Label 1"):
        ask(channels, card_of([1, 2]), volume)


def test_nothing_marked_is_no_finding(volume: Volume) -> None:
    analysis = ask(np.zeros((1, *volume.voxels.shape), np.float32), card_of([1]), volume)
    assert (analysis.findings, analysis.mask) == ((), None)
