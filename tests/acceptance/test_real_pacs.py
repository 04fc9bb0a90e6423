"""A real PACS before and behind the node: Orthanc sends, dcmtk sends, Orthanc receives, dciodvfy judges."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import FileDataset, dcmread

from node.rehearsal.headers import write_datasets
from tests.node_process import QUICK, NodeProcess, run_radnode
from tests.objects import SR, write_object
from tests.peers import Modality, Orthanc, free_port, require_program, wait_until
from tests.phantoms import small_brain_mr, small_chest_ct, small_chest_xray

pytestmark = [pytest.mark.needs("Orthanc", "storescu", "dciodvfy", "dsrdump")]

CT = small_chest_ct().datasets
MR = small_brain_mr().datasets
XRAY = (small_chest_xray(with_opacity=True).dataset,)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, NodeProcess]]:
    folder = tmp_path_factory.mktemp("hospital")
    node_port = free_port()
    modalities = {"radnode": Modality(aet="RADNODE", port=node_port)}
    (folder / "node").mkdir()
    with Orthanc(modalities=modalities) as orthanc:
        destination = (
            '[destinations.orthanc]\ntransport = "cstore"\n'
            f'aet = "{orthanc.aet}"\nhost = "127.0.0.1"\nport = {orthanc.dicom_port}\n'
        )
        with NodeProcess(folder / "node", QUICK + destination, port=node_port) as node:
            yield orthanc, node


def await_results(orthanc: Orthanc, study_instance_uid: str, kinds: set[str]) -> dict[str, bytes]:
    """Return Modality to Part 10 file of the Results in the Study, as soon as all `kinds` are there."""

    def arrived() -> dict[str, str] | None:
        if study_instance_uid not in orthanc.studies():
            return None
        series = orthanc.series(study_instance_uid).values()
        found = {str(s["MainDicomTags"]["Modality"]): str(s["Instances"][0]) for s in series}
        return {kind: found[kind] for kind in kinds} if kinds <= set(found) else None

    found = wait_until(arrived, what=f"{kinds} in Orthanc", limit_s=240.0)
    return {kind: orthanc.request("GET", f"/instances/{key}/file") for kind, key in found.items()}


def assert_valid(content: bytes, folder: Path) -> None:
    path = folder / "object.dcm"
    path.write_bytes(content)
    judged = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert "Error" not in judged.stdout + judged.stderr, judged.stderr
    if dcmread(path).Modality == "SR":
        subprocess.run(["dsrdump", path], capture_output=True, check=True)


def test_orthanc_sends_a_ct_and_finds_seg_and_sr_in_the_same_study(
    hospital: tuple[Orthanc, NodeProcess], tmp_path: Path
) -> None:
    orthanc, _node = hospital
    for path in write_datasets(CT, tmp_path / "ct"):
        orthanc.upload(path)
    orthanc.send_to("radnode", str(CT[0].StudyInstanceUID))
    for content in await_results(orthanc, str(CT[0].StudyInstanceUID), {"SEG", "SR"}).values():
        assert_valid(content, tmp_path)


@pytest.mark.parametrize(("datasets", "kinds"), [(MR, {"SEG", "SR"}), (XRAY, {"SR", "OT"})], ids=["mr", "xray"])
def test_storescu_sends_and_the_results_are_in_orthanc(
    hospital: tuple[Orthanc, NodeProcess], tmp_path: Path, datasets: tuple[FileDataset, ...], kinds: set[str]
) -> None:
    orthanc, node = hospital
    write_datasets(datasets, tmp_path / "in")
    command = [
        require_program("storescu"),
        "+sd",
        "-aec",
        "RADNODE",
        node.peer.host,
        str(node.peer.port),
        str(tmp_path / "in"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    for content in await_results(orthanc, str(datasets[0].StudyInstanceUID), kinds).values():
        assert_valid(content, tmp_path)


def test_own_results_coming_back_are_not_processed(hospital: tuple[Orthanc, NodeProcess]) -> None:
    orthanc, node = hospital
    study = str(CT[0].StudyInstanceUID)
    before = node.wait_for_study(study, lambda story: story.jobs and story.is_finished)
    orthanc.send_to("radnode", study)
    after = node.wait_for_study(
        study, lambda story: len(story.series) > len(before.series) and story.is_finished and story.decisions
    )
    assert [job.job_id for job in after.jobs] == [job.job_id for job in before.jobs]


def test_a_study_is_pulled_by_a_person_and_comes_by_c_move(
    hospital: tuple[Orthanc, NodeProcess], tmp_path: Path
) -> None:
    orthanc, node = hospital
    paths = [write_object(tmp_path, str(number), sop_class_uid=SR, study="pulled") for number in range(3)]
    for path in paths:
        orthanc.upload(path)
    study = str(dcmread(paths[0]).StudyInstanceUID)
    query = f"StudyInstanceUID={study},StudyDate=20250101-"
    answer = run_radnode("pull", "--from", "orthanc", "--query", query, "--settings", node.file)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "1 of 1 Studies are here, 3 Instances came, 0 were here before." in answer.stdout
    story = node.wait_for_study(study, lambda story: story.is_finished)
    assert [event.kind for event in story.events if event.kind.startswith("study-f")] == ["study-fetched"]
