"""Bundles made by the tests: what they mark is what is there, in mm; what cannot be trusted is refused."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from node.catalogue.bundle import Wishes, complete_bundle
from node.catalogue.shelf import Shelf
from node.domain.codes import LESION as LESION_CODE
from node.domain.finding import Presence
from node.errors import GeometryRefused, InputMissing, ModelInvalid, ModelOutputInvalid, WrongModality
from node.models import ModelCard, read_model
from tests.analyses import make_slices
from tests.bundles import LESION, make_box_bundle, make_film_bundle, make_slice_bundle, make_volume_bundle
from tests.solids import Ellipsoid, Scan, acquire
from workers.pipelines.base import Analysis
from workers.pipelines.bundle import BundlePipeline

CPU = torch.device("cpu")
SOLID = Ellipsoid(center_mm=(20.0, -35.0, 110.0), semi_axes_mm=(6.0, 5.0, 8.0))
OBLIQUE = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SCANS = {"axial": Scan(spacing_mm=(1.0, 0.8, 0.7)), "sagittal": Scan(orientation=OBLIQUE, spacing_mm=(1.0, 0.8, 0.7))}
Maker = Callable[[Path], Path]


def install(maker: Maker, folder: Path, *labels: str) -> ModelCard:
    bundle = maker(folder / "downloads" / "lesions")
    complete = partial(complete_bundle, wishes=Wishes(labels=labels))
    return Shelf(folder / "models").add(bundle, complete=complete)


def ask(card: ModelCard, series: Sequence[Dataset]) -> Analysis:
    pipeline = BundlePipeline(card, CPU)
    return pipeline.analyze(pipeline.read({card.required_roles[0]: series}))


@pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS)
@pytest.mark.parametrize(
    ("maker", "labels", "tolerance"),
    [(make_volume_bundle, (LESION,), 0.06), (make_slice_bundle, (LESION,), 0.06), (make_box_bundle, (), 0.2)],
    ids=["volume", "slices", "boxes"],
)
def test_what_a_bundle_marks_is_where_it_is_and_as_large(
    maker: Maker, labels: tuple[str, ...], tolerance: float, scan: Scan, tmp_path: Path
) -> None:
    analysis = ask(install(maker, tmp_path, *labels), acquire(SOLID, scan))
    (finding,) = analysis.findings
    assert finding.code == LESION_CODE
    assert finding.center_mm == pytest.approx(SOLID.center_mm, abs=0.5)
    assert finding.measurements["volume_mm3"] == pytest.approx(SOLID.volume_mm3, rel=tolerance)
    assert analysis.mask is not None
    assert analysis.mask.max() == 1


def test_boxes_are_told_to_be_boxes_and_how_certain_they_are(tmp_path: Path) -> None:
    analysis = ask(install(make_box_bundle, tmp_path), acquire(SOLID, SCANS["axial"]))
    (finding,) = analysis.findings
    assert finding.label == "Lesion 1"
    assert finding.confidence == pytest.approx(0.9)
    assert any("boxes" in note for note in analysis.notes)


def test_a_box_of_too_little_certainty_is_none(tmp_path: Path) -> None:
    card = install(partial(make_box_bundle, certainty=0.4), tmp_path)
    assert ask(card, acquire(SOLID, SCANS["axial"])).findings == ()


def test_a_box_of_a_class_without_a_label_is_never_an_absence(tmp_path: Path) -> None:
    bundle = make_box_bundle(tmp_path / "raw")
    card = bundle / "model.toml"
    card.write_text(card.read_text().replace("value = 0", "value = 7"))
    model = Shelf(tmp_path / "models").add(bundle, complete=partial(complete_bundle, wishes=Wishes()))
    with pytest.raises(ModelOutputInvalid, match="marks 0, for which there is no label"):
        ask(model, acquire(SOLID, SCANS["axial"]))


def make_film(brightness: float) -> Dataset:
    ds = make_slices(CTImageStorage)[0]
    ds.Modality, ds.PhotometricInterpretation, ds.Rows, ds.Columns = "DX", "MONOCHROME2", 40, 30
    values = np.zeros((40, 30), np.uint16)
    values.flat[: int(values.size * brightness)] = 1000
    ds.PixelData = values.tobytes()
    return ds


@pytest.mark.parametrize(("brightness", "label"), [(0.9, "Bright"), (0.02, "Dark")])
def test_a_classifier_says_of_each_label_whether_it_is_there(brightness: float, label: str, tmp_path: Path) -> None:
    card = install(make_film_bundle, tmp_path, "0=1,99TEST,Bright", "1=2,99TEST,Dark")
    analysis = ask(card, [make_film(brightness)])
    assert [finding.presence for finding in analysis.findings] == [Presence.PRESENT, Presence.ABSENT]
    assert analysis.findings[0].label == label


def test_the_temperature_of_a_classifier_makes_it_less_certain(tmp_path: Path) -> None:
    card = install(make_film_bundle, tmp_path, "0=1,99TEST,Bright", "1=2,99TEST,Dark")
    warm = replace(card, numbers={**card.numbers, "calibration": {"temperature": 2.0}})
    chances = [ask(one, [make_film(0.9)]).findings[0].confidence or 0.0 for one in (card, warm)]
    odds = [chance / (1 - chance) for chance in chances]
    assert odds[1] == pytest.approx(odds[0] ** 0.5, rel=1e-3)


def test_another_modality_is_not_read(tmp_path: Path) -> None:
    card = install(make_volume_bundle, tmp_path, LESION)
    with pytest.raises(WrongModality, match="'MR' where CT"):
        BundlePipeline(card, CPU).read({"image": make_slices(MRImageStorage)})
    with pytest.raises(InputMissing):
        BundlePipeline(card, CPU).read({})


def test_two_series_on_two_grids_are_not_read_together(tmp_path: Path) -> None:
    installed = install(make_volume_bundle, tmp_path, LESION)
    path = installed.folder / "model.toml"
    path.write_text(path.read_text().replace("[inputs.image]", "[inputs.other]\n[inputs.image]"))
    pipeline = BundlePipeline(read_model(installed.folder), CPU)
    series = {"image": acquire(SOLID, SCANS["axial"]), "other": acquire(SOLID, SCANS["sagittal"])}
    with pytest.raises(GeometryRefused, match="registered"):
        pipeline.read(series)


@pytest.mark.parametrize(("bias", "said"), [(float("nan"), "NaN"), (1000.0, "100% of all voxels")])
def test_nan_and_a_mask_of_everything_are_refused(bias: float, said: str, tmp_path: Path) -> None:
    bundle = make_volume_bundle(tmp_path / "lesions")
    weights = bundle / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    state["model"]["bias"][1] = bias
    torch.save(state, weights)
    complete_bundle(bundle, Wishes(labels=(LESION,)))
    with pytest.raises(ModelOutputInvalid, match=said):
        ask(read_model(bundle), acquire(SOLID, SCANS["axial"]))


def test_a_script_that_was_changed_is_not_run(tmp_path: Path) -> None:
    card = install(make_box_bundle, tmp_path)
    script = card.folder / "scripts" / "finder.py"
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + script.read_text())
    with pytest.raises(ModelInvalid, match=r"scripts/finder\.py .* not what was installed"):
        BundlePipeline(card, CPU)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_came_later_is_not_run(tmp_path: Path) -> None:
    card = install(make_box_bundle, tmp_path)
    (card.folder / "torch.py").write_text("raise SystemExit\n")
    with pytest.raises(ModelInvalid, match=r"torch\.py"):
        BundlePipeline(card, CPU)


def test_two_bundles_with_scripts_of_one_name_do_not_meet(tmp_path: Path) -> None:
    series = acquire(SOLID, SCANS["axial"])
    certain = []
    for number, certainty in enumerate((0.9, 0.7)):
        card = install(partial(make_box_bundle, certainty=certainty), tmp_path / str(number))
        certain.append(ask(card, series).findings[0].confidence)
    assert certain == [pytest.approx(0.9), pytest.approx(0.7)]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("inferer", {"_target_": "monai.inferers.NoSuchInferer"}, "does not load"),
        ("postprocessing", "$1 / 0", "does not load.*division by zero"),
    ],
)
def test_a_config_that_does_not_load_says_why(key: str, value: object, said: str, tmp_path: Path) -> None:
    bundle = make_volume_bundle(tmp_path / "lesions")
    config = bundle / "configs" / "inference.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: value}))
    card = Shelf(tmp_path / "models").add(bundle, complete=partial(complete_bundle, wishes=Wishes(labels=(LESION,))))
    with pytest.raises(ModelInvalid, match=said):
        BundlePipeline(card, CPU)


def test_a_bundle_that_fails_on_a_series_says_in_which_step(tmp_path: Path) -> None:
    bundle = make_volume_bundle(tmp_path / "lesions")
    config = bundle / "configs" / "inference.json"
    broken = {
        "_target_": "Compose",
        "transforms": [{"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x / None"}],
    }
    config.write_text(json.dumps(json.loads(config.read_text()) | {"postprocessing": broken}))
    card = Shelf(tmp_path / "models").add(bundle, complete=partial(complete_bundle, wishes=Wishes(labels=(LESION,))))
    with pytest.raises(ModelOutputInvalid, match="in its postprocessing"):
        ask(card, acquire(SOLID, SCANS["axial"]))
