"""Pipelines are loaded once, and only from weights that are the ones their model names."""

from pathlib import Path
from shutil import copytree

import pytest
import torch

from node.errors import ModelInvalid, PipelineUnknown
from node.models import SHIPPED_MODELS
from node.settings import Settings, load_settings
from workers.app import PIPELINES, WarmShelf

MODEL = "cxr-pneumonia"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    copytree(SHIPPED_MODELS / MODEL, tmp_path / MODEL)
    shipped = load_settings(None, {})
    return shipped.model_copy(update={"models": shipped.models.model_copy(update={"dirs": (tmp_path,)})})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return next((tmp_path / MODEL).glob("*.safetensors"))


def shelf(settings: Settings) -> WarmShelf:
    return WarmShelf(settings, torch.device("cpu"), PIPELINES)


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


def test_a_pipeline_that_nobody_configured_is_unknown(settings: Settings) -> None:
    with pytest.raises(PipelineUnknown, match="knee"):
        shelf(settings)("knee")
