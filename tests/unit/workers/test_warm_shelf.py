"""Pipelines are loaded once, only from weights that are the ones their model names, and kept while there is room."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copytree

import pytest
import torch
from pydicom import Dataset

from node.errors import ModelInvalid, PipelineUnknown
from node.models import SHIPPED_MODELS, ModelCard, read_model
from node.settings.loading import load_settings
from node.settings.whole import Settings
from workers.app import open_shelf
from workers.inference.scale import DeviceScale
from workers.pipelines.base import Analysis
from workers.post import make_post
from workers.runner import WarmPipeline
from workers.shelf import WarmShelf

MODEL = "cxr-pneumonia"
FLOAT_BYTES = 4


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    copytree(SHIPPED_MODELS / MODEL, tmp_path / MODEL)
    shipped = load_settings(None, {})
    changes = {
        "models": shipped.models.model_copy(update={"dirs": (tmp_path,)}),
        "node": shipped.node.model_copy(update={"data_dir": tmp_path / "data"}),
    }
    return shipped.model_copy(update=changes)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tmp_path / MODEL / "weights.safetensors"


def shelf(settings: Settings) -> WarmShelf:
    return open_shelf(settings, make_post("cpu"))


def test_a_pipeline_is_loaded_once(settings: Settings, weights: Path) -> None:
    warm = shelf(settings)
    first = warm("chest_xray")
    weights.unlink()
    assert warm("chest_xray") is first


def test_absent_weights_are_refused_by_name(settings: Settings, weights: Path) -> None:
    weights.unlink()
    with pytest.raises(ModelInvalid, match=r"cxr-pneumonia: .* is absent"):
        shelf(settings)("chest_xray")


@pytest.mark.parametrize("damage", ["one bit", "cut", "empty"])
def test_damaged_weights_are_refused_by_their_digest(settings: Settings, weights: Path, damage: str) -> None:
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes({"one bit": bytes(content), "cut": bytes(content[:1000]), "empty": b""}[damage])
    with pytest.raises(ModelInvalid, match=r"sha256 .* restore the weights"):
        shelf(settings)("chest_xray")


def test_weights_that_were_damaged_are_tried_again_when_they_are_whole(settings: Settings, weights: Path) -> None:
    content, warm = weights.read_bytes(), shelf(settings)
    weights.write_bytes(b"")
    with pytest.raises(ModelInvalid):
        warm("chest_xray")
    weights.write_bytes(content)
    assert warm("chest_xray").card.name == MODEL


def test_weights_that_are_overwritten_under_a_warm_pipeline_are_proven_again(settings: Settings, weights: Path) -> None:
    warm = shelf(settings)
    first = warm("chest_xray")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    with weights.open("r+b") as file:
        file.write(content)
    os.utime(weights, ns=(1, 1))
    with pytest.raises(ModelInvalid, match="restore the weights"):
        warm("chest_xray")
    content[-1] ^= 1
    weights.write_bytes(content)
    assert warm("chest_xray") is not first


def test_weights_that_are_replaced_wait_for_the_next_start(settings: Settings, weights: Path) -> None:
    warm = shelf(settings)
    first = warm("chest_xray")
    other = weights.with_name("other")
    other.write_bytes(b"other weights")
    other.replace(weights)
    assert warm("chest_xray") is first


def test_a_pipeline_that_nobody_configured_is_unknown(settings: Settings) -> None:
    with pytest.raises(PipelineUnknown, match="knee"):
        shelf(settings)("knee")


class Weighty:
    """A Pipeline of so many bytes."""

    def __init__(self, size_bytes: int) -> None:
        self.networks = {"one": torch.nn.Linear(size_bytes // FLOAT_BYTES, 1, bias=False)}

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> None:
        raise NotImplementedError

    def analyze(self, prepared: None) -> Analysis:
        raise NotImplementedError


class CountingScale(DeviceScale):
    """Scales of a device that counts what is used; a test says what it saw."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.peak = 0

    def read_peak(self) -> int:
        return self.peak


@pytest.fixture
def card() -> ModelCard:
    return read_model(SHIPPED_MODELS / MODEL)


class Store:
    """Pipelines of 400 bytes, and which of them were loaded."""

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        self.loaded: list[str] = []

    def __call__(self, name: str) -> WarmPipeline:
        self.loaded.append(name)
        return WarmPipeline(pipeline=Weighty(400), card=self._card)


def test_the_pipeline_that_was_not_asked_for_longest_makes_room(card: ModelCard) -> None:
    store = Store(card)
    warm = WarmShelf(store, scale=CountingScale(), room_bytes=1000)
    for name in ("a", "b", "a", "c", "a", "b"):
        warm(name)
    assert store.loaded == ["a", "b", "c", "b"]
    assert warm.names == ("a", "b")


def test_a_pipeline_that_is_larger_than_the_room_is_alone_in_it(card: ModelCard) -> None:
    warm = WarmShelf(Store(card), scale=CountingScale(), room_bytes=100)
    for name in ("a", "b"):
        assert warm(name).card is card
    assert warm.names == ("b",)


def test_without_a_limit_all_stay(card: ModelCard) -> None:
    warm = WarmShelf(Store(card), scale=CountingScale())
    for name in "abcdef":
        warm(name)
    assert warm.names == tuple("abcdef")


def test_there_is_room_beside_the_weights_for_what_the_hungriest_needs(card: ModelCard) -> None:
    scale = CountingScale()
    warm = WarmShelf(Store(card), scale=scale, room_bytes=1500)
    warm("a")
    # While it worked the device held its 400 bytes and 600 more.
    scale.peak = 1000
    warm("b")
    assert warm.names == ("a", "b")
    scale.peak = 0
    warm("c")
    assert warm.names == ("b", "c"), "a's need went with it"


def test_the_scale_weighs_shared_weights_once() -> None:
    pipeline = Weighty(400)
    pipeline.networks["two"] = pipeline.networks["one"]
    assert DeviceScale(torch.device("cpu")).weigh(pipeline) == 400
