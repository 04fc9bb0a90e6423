"""Model folders: read without torch, refused when incomplete, proven by digest."""

import hashlib
from pathlib import Path

import pytest

from node.domain.codes import Code
from node.errors import ModelInvalid
from node.models import SHIPPED_MODELS, find_model, list_models, read_model

WEIGHTS = b"weights"
CARD = f"""
name = "NAME"
version = "1.0.0"
pipeline = "lung_nodules"
licence = "CC0-1.0"
intended_use = "Tests"
notice = "Not for diagnosis"
series_offset = 1
[weights]
file = "weights.safetensors"
sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}"
[inputs]
flair = {{}}
t1 = {{ required = false }}
[thresholds]
finding = 0.5
"""


def make_model(folder: Path, name: str = "a-model", *, text: str = CARD, weights: bytes | None = WEIGHTS) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "model.toml").write_text(text.replace("NAME", name), encoding="utf-8")
    if weights is not None:
        (path / "weights.safetensors").write_bytes(weights)
    return path


def test_a_card_tells_roles_numbers_and_weights(tmp_path: Path) -> None:
    card = read_model(make_model(tmp_path))
    assert (card.required_roles, card.optional_roles) == (("flair",), ("t1",))
    assert card.numbers == {"thresholds": {"finding": 0.5}}
    card.verify_weights()


def test_a_card_tells_its_title_and_what_it_looks_for(tmp_path: Path) -> None:
    plain = read_model(make_model(tmp_path))
    assert (plain.title, plain.looked_for) == ("", ())
    labels = (
        '\n[[labels]]\nname = "Nodule"\ncode = ["27925004", "SCT", "Nodule"]\n[[labels]]\ncode = ["1", "99X", "One"]\n'
    )
    text = CARD.replace("series_offset", 'title = "Lung Nodules"\nseries_offset') + labels
    card = read_model(make_model(tmp_path, "titled", text=text))
    assert card.title == "Lung Nodules"
    assert card.looked_for == (Code("27925004", "SCT", "Nodule"), Code("1", "99X", "One"))


@pytest.mark.parametrize(
    "labels",
    [
        '[[labels]]\nname = "Nodule"',
        '[[labels]]\ncode = "27925004"',
        '[[labels]]\ncode = ["27925004", "SCT"]',
        '[[labels]]\ncode = ["27925004", "SCT", ""]',
        '[[labels]]\ncode = [27925004, "SCT", "Nodule"]',
        '[labels]\ncode = ["27925004", "SCT"]',
    ],
)
def test_a_label_without_a_whole_code_is_refused(tmp_path: Path, labels: str) -> None:
    with pytest.raises(ModelInvalid, match=r"labels.*value, scheme, meaning"):
        read_model(make_model(tmp_path, text=f"{CARD}\n{labels}\n"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ('name = "NAME"', f'name = "{"n" * 65}"'),
        ('version = "1.0.0"', "version = 1"),
        ('version = "1.0.0"', 'version = "1\\n0"'),
        ('pipeline = "lung_nodules"', 'pipeline = "lung\\\\nodules"'),
        ("series_offset = 1", 'series_offset = 1\ntitle = "\\\\"'),
        ("series_offset = 1", "series_offset = 100"),
        ("series_offset = 1", "series_offset = -1"),
        ("series_offset = 1", "series_offset = 1.5"),
        ("series_offset = 1", "series_offset = true"),
    ],
)
def test_a_value_that_no_result_can_hold_is_refused(tmp_path: Path, changed: str, said: str) -> None:
    assert changed in CARD
    with pytest.raises(ModelInvalid, match=said.splitlines()[-1].split()[0]):
        read_model(make_model(tmp_path, text=CARD.replace(changed, said)))


def test_weights_that_differ_are_refused(tmp_path: Path) -> None:
    card = read_model(make_model(tmp_path, weights=WEIGHTS + b"!"))
    with pytest.raises(ModelInvalid, match="never edit the digest"):
        card.verify_weights()


def test_weights_that_are_absent_are_refused(tmp_path: Path) -> None:
    card = read_model(make_model(tmp_path, weights=None))
    with pytest.raises(ModelInvalid, match="absent"):
        card.verify_weights()


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        ('name = "NAME"\n', "name"),
        ('version = "1.0.0"\n', "version"),
        ("series_offset = 1\n", "series_offset"),
        ('file = "weights.safetensors"\n', r"weights\.file"),
        ("[inputs]\nflair = {}\nt1 = { required = false }\n", "inputs"),
    ],
)
def test_an_incomplete_card_is_refused_and_names_the_key(tmp_path: Path, removed: str, said: str) -> None:
    assert removed in CARD
    with pytest.raises(ModelInvalid, match=said):
        read_model(make_model(tmp_path, text=CARD.replace(removed, "")))


@pytest.mark.parametrize("text", ["not toml = = 1", 'name = "x"\nweights = 3\n', "inputs = 3", "[inputs]\nflair = 3"])
def test_a_card_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelInvalid):
        read_model(make_model(tmp_path, text=text))


def test_an_input_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="inputs"):
        read_model(make_model(tmp_path, text=CARD.replace("flair = {}", "flair = 3")))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="absent"):
        read_model(tmp_path)


def test_the_first_folder_wins(tmp_path: Path) -> None:
    mine = make_model(tmp_path / "mine", "twin")
    make_model(tmp_path / "shipped", "twin")
    make_model(tmp_path / "shipped", "other")
    folders = (tmp_path / "mine", tmp_path / "shipped")
    assert find_model("twin", folders).weights.parent == mine
    assert [card.name for card in list_models(folders)] == ["other", "twin"]
    assert list_models(folders)[1].weights.parent == mine


def test_an_unknown_model_is_refused_and_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match=f"{tmp_path}.*models list"):
        find_model("absent", (tmp_path,))


def test_every_shipped_model_is_whole() -> None:
    cards = list_models((SHIPPED_MODELS,))
    assert {card.pipeline for card in cards} == {"lung_nodules", "brain_tumour", "chest_xray"}
    for card in cards:
        card.verify_weights()
        assert card.title
        assert card.looked_for
