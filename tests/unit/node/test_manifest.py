"""What is wrong in a model.toml is told by key, by what was found, and by what to write."""

import re
import tomllib
from pathlib import Path

import pytest

from node.catalogue.table import Entry, read_catalogue
from node.catalogue.writing import write_manifest
from node.domain import codes
from node.domain.codes import Code
from node.manifest import (
    Autoencoder,
    Contrast,
    Fit,
    Plane,
    WeightsFormat,
    check_manifest,
    find_format,
    read_fit,
    read_labels,
)
from node.models import MODEL_FILE, SHIPPED_MODELS
from tests.unit.node.test_models import CARD

BUNDLE = CARD.replace('"lung_nodules"', '"bundle"') + """
[bundle]
kind = "segmentation"
[[labels]]
value = 1
code = ["27925004", "SCT", "Nodule"]
"""  # fmt: skip


def complaints(text: str) -> list[str]:
    return check_manifest(tomllib.loads(text))


@pytest.mark.parametrize("text", [CARD, BUNDLE])
def test_a_right_table_has_no_complaint(text: str) -> None:
    assert complaints(text) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "NAME"', 'name = "../x"', r"name is '../x'; write the name of the folder"),
        ('name = "NAME"', "name = 3", "name is 3; write"),
        ('version = "1.0.0"', 'version = "a\\\\b"', r"version is .*; write .* without a backslash"),
        ("series_offset = 1", "series_offset = 200", "series_offset is 200; write a whole number from 0 to 99"),
        ("weights.safetensors", "weights.pkl", r"weights.file is 'weights.pkl'; write .*never read"),
        ("weights.safetensors", "weights.ts", r"a network of its own.* write safetensors or a state dict"),
        ("weights.safetensors", "../weights.pt", "weights.file is '../weights.pt'; write a file below"),
        ('sha256 = "', 'sha256 = "X', "weights.sha256 is 'X.*; write the SHA-256 of that file"),
        ("flair = {}", "flair = { required = 1 }", "inputs.flair.required is 1; write true or false"),
        (
            "flair = {}",
            "flair = { modalty = 1 }",
            r"inputs.flair.modalty is no key of model.toml; did you mean modality\?",
        ),
        ("licence", "license", "licence is absent; write the licence.*|license is no key"),
        (
            "[thresholds]",
            "[calibration]\ntemperature = 0\n[thresholds]",
            "calibration.temperature is 0; write a number",
        ),
        ("[thresholds]", "[calibration]\n[thresholds]", "calibration.temperature is absent; write a number above 0"),
        ("[thresholds]", "[calibration]\ntemp = 1.5\n[thresholds]", "calibration.temp is no key"),
    ],
)
def test_a_wrong_value_is_told_with_its_remedy(old: str, new: str, said: str) -> None:
    found = complaints(CARD.replace(old, new))
    assert any(re.search(said, one) for one in found), found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "segmentation"', 'kind = "guess"', 'bundle.kind is \'guess\'; write "segmentation" or "detection"'),
        ('kind = "segmentation"', 'kind = "detection"\ndimensions = 2', "boxes are read in volumes only"),
        ('kind = "segmentation"', 'kind = "classification"', "only radiographs are classified"),
        ("value = 1\n", "", "labels 1: value is absent; write the number"),
        ('code = ["27925004", "SCT", "Nodule"]', "", "labels 1: code is absent; write code = [value, scheme, meaning]"),
        ('"27925004"', '"12345678901234567"', "labels 1: code is"),
        ('"bundle"', '"lung_nodules"', "pipeline is 'lung_nodules'; write \"bundle\""),
        ("[bundle]", "[preprocessing]", "bundle is absent"),
    ],
)
def test_a_wrong_bundle_is_told_with_its_remedy(old: str, new: str, said: str) -> None:
    found = complaints(BUNDLE.replace(old, new))
    assert any(said in one for one in found), found


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert len(complaints(CARD.replace("licence", "license").replace("notice", "note"))) == 4


def test_weights_are_known_by_their_name_or_by_what_is_said() -> None:
    assert find_format({"file": "model.pt"}) is WeightsFormat.STATE_DICT
    assert find_format({"file": "model.pt", "format": "torchscript"}) is WeightsFormat.TORCHSCRIPT


@pytest.mark.parametrize("name", [path.parent.name for path in SHIPPED_MODELS.glob(f"*/{MODEL_FILE}")])
def test_what_is_written_is_read_as_it_was(name: str) -> None:
    table = tomllib.loads((SHIPPED_MODELS / name / MODEL_FILE).read_text())
    assert tomllib.loads(write_manifest(table)) == table


@pytest.mark.parametrize("entry", read_catalogue().values(), ids=lambda entry: entry.name)
def test_an_entry_of_the_catalogue_makes_a_right_table(entry: Entry) -> None:
    if not entry.url:
        assert entry.how
        return
    table = entry.manifest({"file": "weights.safetensors", "sha256": "0" * 64})
    assert check_manifest(table) == []
    assert tomllib.loads(write_manifest(table)) == table
    assert entry.max_bytes > 0
    assert entry.licence


def test_every_code_of_the_catalogue_is_one_that_was_proven() -> None:
    """tests/unit/node/domain/test_codes.py proves the table of codes."""
    proven = {one for one in vars(codes).values() if isinstance(one, Code)}
    for entry in read_catalogue().values():
        for label in read_labels(entry.card):
            assert {label.code, label.site or label.code} <= proven, (entry.name, label.name)
            assert next(one for one in proven if one == label.code).meaning == label.code.meaning


FIT = CARD + """
[fit]
body_parts = ["CHEST"]
orientation = "axial"
contrast = "without"
age_years = [2, 17]
pixel_spacing_mm = [0.5, 1.5]
[fit.autoencoder]
file = "fit.safetensors"
sha256 = "%s"
threshold = 0.2
""" % ("0" * 64)  # fmt: skip


def test_what_a_model_was_made_for_is_read() -> None:
    assert complaints(FIT) == []
    fit = read_fit(tomllib.loads(FIT), Path("model"))
    assert fit.body_parts == ("CHEST",)
    assert (fit.orientation, fit.contrast) == (Plane.AXIAL, Contrast.WITHOUT)
    assert (fit.age_years, fit.pixel_spacing_mm, fit.slice_spacing_mm) == ((2, 17), (0.5, 1.5), None)
    assert fit.autoencoder == Autoencoder(file=Path("model/fit.safetensors"), sha256="0" * 64, threshold=0.2)
    assert read_fit(tomllib.loads(CARD), Path("model")) == Fit()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('["CHEST"]', '"CHEST"', r"fit.body_parts is 'CHEST'; write a list of words"),
        ('"axial"', '"oblique"', r'fit.orientation is \'oblique\'; write "axial" or "coronal" or "sagittal"'),
        ('"without"', "false", r"fit.contrast is False; write"),
        ("[2, 17]", "[17, 2]", r"fit.age_years is \[17, 2\]; write least and most"),
        ("[0.5, 1.5]", "1.5", r"fit.pixel_spacing_mm is 1.5; write least and most"),
        ("[0.5, 1.5]", "[0.5, nan]", r"fit.pixel_spacing_mm is \[0.5, nan\]; write least and most"),
        ("age_years", "age_year", r"fit.age_year is no key of model.toml; did you mean age_years\?"),
        ("fit.safetensors", "fit.pt", r"fit.autoencoder.file is 'fit.pt'; write a .safetensors file"),
        ("threshold = 0.2", "threshold = 0", r"fit.autoencoder.threshold is 0; write the score"),
        ("threshold = 0.2", "band = 0.1", r"fit.autoencoder.threshold is absent; write the score"),
        ('contrast = "without"', "sharpness = 1", "fit.sharpness is no key of model.toml; known are"),
    ],
)
def test_a_wrong_limit_is_told_with_its_remedy(old: str, new: str, said: str) -> None:
    found = complaints(FIT.replace(old, new))
    assert any(re.search(said, one) for one in found), found


def test_a_bundle_has_limits_and_no_autoencoder() -> None:
    limits, _, autoencoder = FIT.removeprefix(CARD).partition("[fit.autoencoder]")
    assert complaints(BUNDLE + limits) == []
    found = complaints(BUNDLE + limits + "[fit.autoencoder]" + autoencoder)
    assert any(re.search("fit.autoencoder .* of no bundle", one) for one in found), found
