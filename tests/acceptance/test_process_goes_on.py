"""`radnode process` on a Study whose Job ends its worker: the others are processed all the same."""

import json
from pathlib import Path

from node.rehearsal.chest_xray import ChestXrayPhantom
from tests.node_process import run_radnode
from tests.phantoms import small_brain_mr, small_chest_xray

# No Job of this Pipeline is done in so short a time; the worker ends itself at the first beat after it.
SETTINGS = """
[dispatch]
heartbeat_seconds = 0.2

[pipelines.chest_xray]
model = "cxr-pneumonia"
time_limit_s = 0.01
"""


def write_studies(folder: Path) -> ChestXrayPhantom:
    film = small_chest_xray(with_opacity=True)
    for ds in (film.dataset, *small_brain_mr().flair):
        ds.save_as(folder / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
    return film


def test_a_job_that_ends_its_worker_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    film = write_studies(tmp_path / "studies")
    settings = tmp_path / "settings.toml"
    settings.write_text(SETTINGS)
    ended = run_radnode("process", tmp_path / "studies", "--out", tmp_path / "out", "--settings", settings)
    assert ended.returncode == 3, ended.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    jobs = {study["study_instance_uid"]: study["jobs"][0] for study in report["studies"]}
    hung = jobs.pop(film.dataset.StudyInstanceUID)
    assert (hung["state"], hung["reason"]["code"]) == ("CANCELED", "time-limit")
    assert [job["state"] for job in jobs.values()] == ["COMPLETED"]
