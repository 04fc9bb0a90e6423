"""A node whose one model is absent: its Pipeline is off and says why, everything else goes on."""

from pathlib import Path

import pytest

from node.offline import OfflineNode, offline_settings
from node.settings.loading import load_settings
from tests.solids import Ellipsoid, Scan, acquire

SOLID = Ellipsoid(center_mm=(20.0, -35.0, 110.0), semi_axes_mm=(6.0, 5.0, 8.0))
SITE = """
[pipelines.lung_nodules]
model = "no-such-model"

[[rules]]
name = "lungs"
when = { modality = "CT" }
run = ["lung_nodules"]

[[rules]]
name = "films"
when = { modality = "DX" }
run = ["chest_xray"]
"""


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    paths = []
    for number, ds in enumerate(acquire(SOLID, Scan(spacing_mm=(4.0, 2.0, 2.0)))):
        paths.append(tmp_path / f"{number}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def test_its_studies_are_refused_with_the_reason(study: list[Path], tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE)
    node = OfflineNode(offline_settings(load_settings(tmp_path / "site.toml", {}), tmp_path / "node"))
    try:
        assert list(node.take_in(study)) == []
        node.route()
        (told,) = node.report(tmp_path / "out")["studies"]
    finally:
        node.close()
    assert told["jobs"] == []
    assert told["refusal"]["code"] == "model-invalid"
    assert "'no-such-model' is in none of" in told["refusal"]["text"]
    first, second = told["decisions"]
    assert (first["rule"], first["outcome"]) == ("lungs", "match")
    assert "Pipeline lung_nodules is off" in first["reason"]
    assert (second["rule"], second["outcome"]) == ("films", "no-match")
