"""Models are added whole or not at all, and go only when nobody uses them."""

from functools import partial
from pathlib import Path

import pytest

from node.catalogue.bundle import Wishes, complete_bundle, is_bundle
from node.catalogue.shelf import Shelf
from node.errors import ModelInvalid, NotFound, WrongState
from node.models import MODEL_FILE, ModelCard, read_model
from tests.unit.node.test_models import CARD, make_model

METADATA = """{"version": "0.3.0", "task": "Spleen segmentation", "copyright": "MONAI", "intended_use": "Research",
"network_data_format": {"inputs": {"image": {"modality": "CT", "spatial_shape": [96, 96, 96]}},
"outputs": {"pred": {"format": "segmentation", "channel_def": {"0": "background", "1": "spleen"}}}}}"""
SPLEEN = "1=78961009,SCT,Spleen"


def make_bundle(folder: Path, *, metadata: str | None = METADATA, card: str = "") -> Path:
    path = folder / "spleen_ct"
    for name, text in (("configs/inference.json", "{}"), ("models/model.pt", "weights"), ("docs/README.md", "read me")):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    if metadata is not None:
        (path / "configs" / "metadata.json").write_text(metadata)
    if card:
        (path / MODEL_FILE).write_text(card)
    return path


def add_bundle(tmp_path: Path, bundle: Path, *labels: str) -> ModelCard:
    assert is_bundle(bundle)
    return Shelf(tmp_path / "models").add(bundle, complete=partial(complete_bundle, wishes=Wishes(labels=labels)))


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_model_is_added_under_its_own_name(tmp_path: Path) -> None:
    source = make_model(tmp_path / "downloads", "nodules")
    source.rename(source.with_name("nodules-1.0.0 (2)"))
    card = Shelf(tmp_path / "models").add(source.with_name("nodules-1.0.0 (2)"))
    assert card.folder == tmp_path / "models" / "nodules"
    assert contents(tmp_path / "models") == ["nodules"]
    card.verify_weights()


@pytest.mark.parametrize(
    ("text", "weights"), [(CARD, b"others"), (CARD, None), (CARD.replace("licence", "license"), b"weights")]
)
def test_an_invalid_model_leaves_nothing_behind(text: str, weights: bytes | None, tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid):
        Shelf(tmp_path / "models").add(make_model(tmp_path / "downloads", "nodules", text=text, weights=weights))
    assert contents(tmp_path / "models") == []


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no folder"):
        Shelf(tmp_path / "models").add(tmp_path / "absent")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    source = make_model(tmp_path / "downloads", "nodules")
    (source / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(ModelInvalid, match=r"passwords is a link"):
        Shelf(tmp_path / "models").add(source)


def test_a_model_is_replaced_only_if_that_is_said(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "models")
    shelf.add(make_model(tmp_path / "one", "nodules"))
    newer = make_model(tmp_path / "two", "nodules", text=CARD.replace("1.0.0", "2.0.0"))
    with pytest.raises(WrongState, match="--replace"):
        shelf.add(newer)
    assert shelf.add(newer, replaces=True).version == "2.0.0"
    assert contents(tmp_path / "models") == ["nodules"]


def test_a_model_goes_only_when_no_pipeline_uses_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "models")
    shelf.add(make_model(tmp_path / "one", "nodules"))
    with pytest.raises(WrongState, match=r"used by lungs.*pipelines\.lungs\.model"):
        shelf.remove("nodules", users={"lungs": "nodules"})
    shelf.remove("nodules", users={"lungs": "others"})
    assert contents(tmp_path / "models") == []


@pytest.mark.parametrize("name", ["nodules", "..", "../models", "", "/"])
def test_what_is_not_there_cannot_go(name: str, tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).touch()
    with pytest.raises(NotFound):
        Shelf(tmp_path / "models").remove(name, users={})
    assert tmp_path.is_dir()


def test_a_bundle_becomes_a_model_folder(tmp_path: Path) -> None:
    card = add_bundle(tmp_path, make_bundle(tmp_path), SPLEEN)
    assert (card.name, card.version, card.pipeline, card.licence) == ("spleen_ct", "0.3.0", "bundle", "MONAI")
    assert card.modalities == {"image": ("CT",)}
    assert card.bundle is not None
    assert (card.bundle.kind, card.bundle.dimensions) == ("segmentation", 3)
    assert set(card.bundle.files) == {"configs/inference.json", "configs/metadata.json", "docs/README.md"}
    assert [(label.value, label.name, label.code.value) for label in card.labels] == [(1, "Spleen", "78961009")]
    assert not (make_bundle(tmp_path) / MODEL_FILE).exists()


def test_a_bundle_that_was_installed_elsewhere_is_taken_as_it_is(tmp_path: Path) -> None:
    first = add_bundle(tmp_path, make_bundle(tmp_path), SPLEEN)
    assert add_bundle(tmp_path / "elsewhere", first.folder).labels == first.labels
    (first.folder / "configs" / "inference.json").write_text("{ }")
    with pytest.raises(ModelInvalid, match=r"configs/inference\.json"):
        add_bundle(tmp_path / "nowhere", first.folder)


def test_what_a_site_says_of_a_bundle_goes_before_its_metadata(tmp_path: Path) -> None:
    told = 'name = "ours"\nseries_offset = 7\n[inputs.ct]\n[bundle]\ndimensions = 2\n'
    card = add_bundle(tmp_path, make_bundle(tmp_path, card=told), SPLEEN)
    assert (card.name, card.series_offset, card.required_roles) == ("ours", 7, ("ct",))
    assert card.bundle is not None
    assert (card.bundle.kind, card.bundle.dimensions) == ("segmentation", 2)


@pytest.mark.parametrize(
    ("changes", "labels", "said"),
    [
        ({}, (), r"labels without codes.*1 = spleen.*--label 1=CODE,SCHEME,MEANING"),
        ({}, ("spleen",), "VALUE=CODE,SCHEME,MEANING"),
        ({}, ("1=78961009,SCT",), "VALUE=CODE,SCHEME,MEANING"),
        ({}, (SPLEEN, SPLEEN), "each value once"),
        ({}, ("7=78961009,SCT,Spleen",), r"--label 7=.*has 1 = spleen; .* or write \[\[labels\]\] into model\.toml"),
        ({}, (SPLEEN, "0=78961009,SCT,Spleen"), "--label 0=.*has 1 = spleen"),
        ({"metadata": None}, (SPLEEN,), r"no configs/metadata\.json.*get the whole bundle"),
        ({"metadata": "{"}, (SPLEEN,), "cannot be read as JSON"),
        ({"metadata": "[]"}, (SPLEEN,), "no JSON object"),
        ({"metadata": "{}"}, (SPLEEN,), r"bundle\.kind is absent; write .segmentation. or"),
        ({"card": "x = ="}, (SPLEEN,), "cannot be read as TOML"),
        ({"card": '[weights]\nfile = "models/absent.pt"\n'}, (SPLEEN,), r"no models/absent\.pt"),
        ({"card": '[bundle]\nconfig = "absent.json"\n'}, (SPLEEN,), r"no absent\.json"),
        ({"card": f'[weights]\nfile = "models/model.pt"\nsha256 = "{"0" * 64}"\n'}, (SPLEEN,), "never edit the digest"),
    ],
)
def test_a_bundle_that_lacks_something_is_refused(
    changes: dict[str, str], labels: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelInvalid, match=said):
        add_bundle(tmp_path, make_bundle(tmp_path, **changes), *labels)
    assert contents(tmp_path / "models") == []


@pytest.mark.parametrize("channels", ["{}", '{"0": "image"}'], ids=["nothing", "one-channel"])
def test_a_number_is_taken_as_it_is_said_where_the_metadata_do_not_tell_it(channels: str, tmp_path: Path) -> None:
    metadata = METADATA.replace('{"0": "background", "1": "spleen"}', channels)
    card = add_bundle(tmp_path, make_bundle(tmp_path, metadata=metadata), "7=78961009,SCT,Spleen")
    assert [label.value for label in card.labels] == [7]


def test_a_card_may_number_its_labels_otherwise_than_the_metadata(tmp_path: Path) -> None:
    told = '[[labels]]\nname = "Spleen"\nvalue = 7\ncode = ["78961009", "SCT", "Spleen"]\n'
    assert [label.value for label in add_bundle(tmp_path, make_bundle(tmp_path, card=told)).labels] == [7]


def test_what_a_bundle_has_compiled_stays_behind(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    (bundle / "scripts" / "__pycache__").mkdir(parents=True)
    (bundle / "scripts" / "__pycache__" / "x.pyc").touch()
    assert not list(add_bundle(tmp_path, bundle, SPLEEN).folder.rglob("*.pyc"))


def test_a_file_of_a_bundle_that_changed_is_found(tmp_path: Path) -> None:
    card = add_bundle(tmp_path, make_bundle(tmp_path), SPLEEN)
    card.verify_weights()
    (card.folder / "configs" / "inference.json").write_text("{ }")
    with pytest.raises(ModelInvalid, match=r"configs/inference\.json"):
        read_model(card.folder).verify_weights()
