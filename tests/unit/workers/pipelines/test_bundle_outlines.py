"""A detecting bundle that outlines what is in its boxes gives Segments of that outline, not of ellipsoids."""

from functools import partial
from pathlib import Path

import pytest
import torch

from node.catalogue.bundle import Wishes, complete_bundle
from node.catalogue.shelf import Shelf
from node.errors import ModelOutputInvalid
from tests.bundles import FINDER, make_box_bundle
from tests.solids import Ellipsoid, Scan, acquire
from workers.pipelines.base import Analysis
from workers.pipelines.bundle import BundlePipeline

# Turned, so that it fills its box less than the ellipsoid of the box does.
ROOT = 0.5**0.5
SOLID = Ellipsoid(
    center_mm=(20.0, -35.0, 110.0),
    semi_axes_mm=(4.0, 10.0, 5.0),
    turn=torch.tensor([[ROOT, -ROOT, 0], [ROOT, ROOT, 0], [0, 0, 1]]).numpy(),
)
POSTPROCESSING = '"postprocessing": {"_target_": "Compose", "transforms": []}'


def ask(tmp_path: Path, outlines: str) -> Analysis:
    bundle = make_box_bundle(tmp_path / "lesions")
    script = bundle / "scripts" / "finder.py"
    script.write_text(FINDER.replace('"label_scores": certainty', f'"label_scores": certainty, "outlines": {outlines}'))
    config = bundle / "configs" / "inference.json"
    text = config.read_text()
    config.write_text(text[: text.index('"postprocessing"')] + POSTPROCESSING + "}")
    card = bundle / "model.toml"
    card.write_text(card.read_text().replace('"world-lps"', '"voxel"\nbox_mode = "xyzxyz"'))
    model = Shelf(tmp_path / "models").add(bundle, complete=partial(complete_bundle, wishes=Wishes()))
    pipeline = BundlePipeline(model, torch.device("cpu"))
    return pipeline.analyze(pipeline.read({"image": acquire(SOLID, Scan(spacing_mm=(1.0, 0.8, 0.7)))}))


def test_an_outline_is_written_as_it_is(tmp_path: Path) -> None:
    analysis = ask(tmp_path, "(network(image[None])[0] > 0).to(torch.uint8)")
    (finding,) = analysis.findings
    assert finding.center_mm == pytest.approx(SOLID.center_mm, abs=0.5)
    assert finding.measurements["volume_mm3"] == pytest.approx(SOLID.volume_mm3, rel=0.06)
    assert not any("ellipsoid" in note for note in analysis.notes)


def test_a_box_without_an_outline_is_an_ellipsoid_and_the_report_says_so(tmp_path: Path) -> None:
    analysis = ask(tmp_path, "torch.zeros_like(image, dtype=torch.uint8)")
    assert analysis.findings[0].measurements["volume_mm3"] > 1.2 * SOLID.volume_mm3
    assert any("the outlines are the ellipsoids" in note for note in analysis.notes)


def test_outlines_on_another_grid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelOutputInvalid, match="outlines of"):
        ask(tmp_path, "torch.zeros(1, 5, 5, 5, dtype=torch.uint8)")
