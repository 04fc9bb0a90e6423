"""docs/models/adding.md, followed word by word by somebody who has just downloaded a bundle."""

import json
import re
import shlex
import subprocess
from io import BytesIO
from pathlib import Path

import pytest
import torch
from pydicom import dcmread

from node.models import digest_file, read_model
from node.peers.peer import Peer
from tests.bundles import make_box_bundle, make_volume_bundle
from tests.node_process import QUICK, NodeProcess, destination_table, run_radnode
from tests.peers import Orthanc
from tests.solids import Ellipsoid, Scan, acquire
from workers.inference.weights import load_weights
from workers.networks.published_unet import PublishedUnet

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models" / "adding.md").read_text(encoding="utf-8")
SOLID = Ellipsoid(center_mm=(20.0, -35.0, 110.0), semi_axes_mm=(6.0, 5.0, 8.0))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    return [shlex.split(line)[1:] for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("site")
    make_volume_bundle(home / "lesions")
    (home / "studies").mkdir()
    for number, ds in enumerate(acquire(SOLID, Scan(spacing_mm=(1.0, 0.8, 0.7)))):
        ds.BodyPartExamined = "ABDOMEN"
        ds.save_as(home / "studies" / f"{number}.dcm", enforce_file_format=True)
    (home / "site.toml").write_text(blocks("toml")[0])
    return home


@pytest.fixture(scope="module")
def followed(home: Path) -> "list[subprocess.CompletedProcess[str]]":
    """Do what the page says, in its order, but for the node itself, which goes on running."""
    return [run_radnode(*command, cwd=home) for command in commands() if command[0] != "up"]


def test_the_page_has_one_command_to_install_one_to_try_and_one_to_run() -> None:
    assert [words[:2] for words in commands()] == [["models", "add"], ["process", "studies"], ["up", "--settings"]]
    assert len(blocks("toml")) == 1


def test_every_command_of_the_page_succeeds(followed: "list[subprocess.CompletedProcess[str]]") -> None:
    assert [done.returncode for done in followed] == [0, 0], [done.stderr for done in followed]


@pytest.mark.usefixtures("followed")
def test_results_come_out_and_are_true(home: Path) -> None:
    (study,) = json.loads((home / "results" / "report.json").read_text())["studies"]
    job = next(job for job in study["jobs"] if job["pipeline"] == "lesions")
    assert (job["state"], job["model"]["name"]) == ("COMPLETED", "lesions")
    (finding,) = job["findings"]
    assert finding["code"] == ["52988006", "SCT", "Lesion"]
    assert finding["center_mm"] == pytest.approx(SOLID.center_mm, abs=0.5)
    paths = {result["kind"]: home / "results" / result["path"] for result in job["results"]}
    assert set(paths) == {"SEG", "SR"}
    seg = dcmread(paths["SEG"])
    assert seg.SegmentSequence[0].SegmentLabel == "Lesion"
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "52988006"


@pytest.mark.needs("Orthanc")
@pytest.mark.usefixtures("followed")
def test_the_same_table_sends_the_results_to_the_pacs_and_a_bundle_of_boxes_beside_it(home: Path) -> None:
    make_box_bundle(home / "boxes")
    assert run_radnode("models", "add", "boxes", "--trust", cwd=home).returncode == 0
    tables = blocks("toml")[0] + blocks("toml")[0].replace("lesions", "boxes")
    with Orthanc() as pacs:
        destination = destination_table(Peer(aet=pacs.aet, host="127.0.0.1", port=pacs.dicom_port))
        with NodeProcess(home, QUICK + destination + tables) as node:
            (sending,) = (shlex.split(words)[1:] for words in re.findall(r"`(radnode send [^`]*)`", PAGE))
            address = f"{node.peer.aet}@{node.peer.host}:{node.peer.port}"
            sent = run_radnode(*sending[:-1], address, cwd=home)
            assert sent.returncode == 0, sent.stderr
            study = str(dcmread(home / "studies" / "0.dcm").StudyInstanceUID)
            story = node.wait_for_study(
                study, lambda story: len(story.jobs) == 2 and story.deliveries and story.is_finished
            )
        series = pacs.series(study).values()
        held = [dcmread(BytesIO(pacs.request("GET", f"/instances/{one['Instances'][0]}/file"))) for one in series]
    found = {job.order.pipeline: [finding["label"] for finding in job.findings] for job in story.jobs}
    assert found == {"lesions": ["Lesion"], "boxes": ["Lesion 1"]}
    assert sorted(ds.Modality for ds in held) == ["SEG", "SEG", "SR", "SR"]
    assert {str(ds.StudyInstanceUID) for ds in held} == {study}
    # A box becomes the ellipsoid inside it.
    assert {ds.SegmentSequence[0].SegmentLabel for ds in held if ds.Modality == "SEG"} == {"Lesion", "Lesion 1"}


@pytest.mark.usefixtures("followed")
def test_doctor_and_list_know_the_model_and_a_damaged_one_is_told(home: Path) -> None:
    listed = json.loads(run_radnode("models", "list", "--json", "--settings", "site.toml", cwd=home).stdout)
    assert "lesions" in {card["name"] for card in listed}
    used = run_radnode("models", "remove", "lesions", "--settings", "site.toml", cwd=home)
    assert used.returncode == 2
    assert "pipelines.lesions.model" in used.stderr
    weights = home / "data" / "models" / "lesions" / "models" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:-1])
    verified = run_radnode("models", "verify", "--settings", "site.toml", cwd=home)
    assert verified.returncode == 1
    assert "restore the weights" in verified.stdout
    checks = json.loads(run_radnode("doctor", "--json", "--settings", "site.toml", cwd=home).stdout)
    wrong = {check["name"]: check["said"] for check in checks if not check["is_right"]}
    assert set(wrong) == {"model of lesions"}
    assert "never edit the digest" in wrong["model of lesions"]
    again = run_radnode("process", "studies", "--out", "again", "--settings", "site.toml", cwd=home)
    assert again.returncode == 3
    (study,) = json.loads((home / "again" / "report.json").read_text())["studies"]
    reasons = {job["pipeline"]: job.get("reason", {}).get("code") for job in study["jobs"]}
    assert reasons["lesions"] == "model-invalid"


def test_a_bundle_is_not_added_without_trust(home: Path) -> None:
    refused = run_radnode("models", "add", "lesions", "--label", "1=52988006,SCT,Lesion", cwd=home)
    assert refused.returncode == 2
    assert "are code" in refused.stderr
    assert "--trust" in refused.stderr


@pytest.mark.thorough
def test_a_model_of_the_catalogue_is_pulled_from_a_mirror_once_its_digest_is_confirmed(tmp_path: Path) -> None:
    """The weights are made up; name, licence, digest, conversion in a process of its own and installation are not."""
    name = "brain-segmentation-pytorch"
    (tmp_path / "mirror").mkdir()
    torch.save(PublishedUnet().state_dict(), tmp_path / "mirror" / "unet.pt")
    digest = digest_file(tmp_path / "mirror" / "unet.pt")
    asked = ("models", "pull", name, "--mirror", "mirror")
    unread = run_radnode(*asked, cwd=tmp_path)
    assert (unread.returncode, "--accept-licence" in unread.stderr) == (2, True)
    assert "no commercial use" in unread.stdout
    unconfirmed = run_radnode(*asked, "--accept-licence", cwd=tmp_path)
    assert (unconfirmed.returncode, f"--confirm {digest}" in unconfirmed.stderr) == (2, True)
    assert not (tmp_path / "data" / "models" / name).exists()
    pulled = run_radnode(*asked, "--accept-licence", "--confirm", digest, cwd=tmp_path)
    assert pulled.returncode == 0, pulled.stderr
    card = read_model(tmp_path / "data" / "models" / name)
    card.verify_weights()
    assert load_weights(PublishedUnet(), card).training is False
    shown = run_radnode("models", "show", name, cwd=tmp_path)
    assert card.weights_sha256 in shown.stdout
    assert run_radnode("models", "remove", name, cwd=tmp_path).returncode == 0
    assert not card.folder.exists()
