"""The simulated modality and the simulated PACS speak real DICOM to each other."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pynetdicom import AE

from node.errors import PortInUse
from node.peers.parcel import SENT_WITH_WARNING
from node.peers.sender import SentFile
from node.rehearsal.chest_xray import chest_xray, wrap_film
from node.rehearsal.headers import write_datasets
from node.rehearsal.modality import send
from node.rehearsal.pacs import Misbehavior, SimulatedPacs
from tests.objects import data_set_bytes
from tests.peers import require_program
from tests.phantoms import small_brain_mr, small_chest_ct, small_chest_xray

WAIT_S = 30.0
RESULT_SOP_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
)


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[SimulatedPacs]:
    with SimulatedPacs(tmp_path / "pacs") as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_datasets(small_brain_mr().flair, tmp_path_factory.mktemp("flair"))


def kept_files(pacs: SimulatedPacs, uids: list[str]) -> list[Path]:
    """Return where the PACS keeps these Instances."""
    kept = {instance.sop_instance_uid: instance.path for instance in pacs.record.received}
    return [kept[uid] for uid in uids]


def test_every_instance_arrives_with_the_bytes_of_its_file(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    seen: list[SentFile] = []
    report = send(files, pacs.peer, progress=seen.append)
    assert report.sent == len(files)
    assert [file.path for file in report.files] == list(files)
    assert seen == list(report.files)
    for sent, kept in zip(files, pacs.record.received, strict=True):
        ds = dcmread(kept.path)
        assert kept.path == pacs.folder / ds.StudyInstanceUID / ds.SeriesInstanceUID / f"{ds.SOPInstanceUID}.dcm"
        assert data_set_bytes(kept.path) == data_set_bytes(sent)
    assert pacs.record.associations == 1
    assert pacs.record.received[0].calling_aet == "MODALITY"


def test_datasets_go_over_several_associations_in_any_order(pacs: SimulatedPacs) -> None:
    phantom = small_brain_mr()
    uids = [ds.SOPInstanceUID for ds in phantom.datasets]
    report = send(phantom.datasets, pacs.peer, associations=3, shuffle_seed=1, calling_aet="MR_ROOM_1")
    assert not report.failed
    assert [file.sop_instance_uid for file in report.files] == uids
    order = [instance.sop_instance_uid for instance in pacs.record.received]
    assert order != uids
    assert sorted(order) == sorted(uids)
    for ds, kept in zip(phantom.datasets[:3], kept_files(pacs, uids[:3]), strict=True):
        assert dcmread(kept) == ds
    assert pacs.record.associations == 3
    assert {instance.calling_aet for instance in pacs.record.received} == {"MR_ROOM_1"}


def test_modality_may_pause_between_instances(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    requests: list[int] = []

    def pause(file: SentFile) -> None:
        assert pacs.wait_for(lambda record: file.sop_instance_uid in record.sop_instance_uids, timeout_s=WAIT_S)
        requests.append(pacs.record.requests)

    assert not send(files[:4], pacs.peer, progress=pause).failed
    assert requests == [1, 2, 3, 4]


def test_waiting_ends_when_the_time_is_up(pacs: SimulatedPacs) -> None:
    assert not pacs.wait_for(lambda record: record.requests > 0, timeout_s=0.05)


def test_echo_is_answered(pacs: SimulatedPacs) -> None:
    ae = AE()
    ae.add_requested_context("1.2.840.10008.1.1")
    assoc = ae.associate(pacs.peer.host, pacs.peer.port, ae_title=pacs.peer.aet)
    assert assoc.send_c_echo().Status == 0
    assoc.release()


def test_out_of_resources_is_reported_and_a_second_attempt_succeeds(
    pacs: SimulatedPacs, files: tuple[Path, ...]
) -> None:
    pacs.change(Misbehavior(status=0xA700, status_count=2))
    failed = send(files, pacs.peer).failed
    assert [file.outcome.code for file in failed] == ["destination-busy"] * 2
    assert len(pacs.record.received) == len(files) - 2
    assert not send([file.path for file in failed], pacs.peer).failed
    assert len(pacs.record.sop_instance_uids) == len(files)


def test_warning_status_is_stored(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    pacs.change(Misbehavior(status=0xB000, status_count=1))
    report = send(files[:1], pacs.peer)
    assert (report.sent, report.files[0].outcome.code) == (1, SENT_WITH_WARNING)
    assert pacs.record.received[0].path.is_file()


def test_abort_leaves_the_rest_unsent_and_reported(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    pacs.change(Misbehavior(abort_after=3))
    report = send(files, pacs.peer)
    assert [file.outcome.code for file in report.files] == [None] * 3 + ["destination-down"] * (len(files) - 3)
    assert report.failed == report.files[3:]
    assert len(pacs.record.received) == 3


def test_refused_sop_class_is_reported_for_its_instances_only(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    film = small_chest_xray(with_opacity=False).dataset
    pacs.change(Misbehavior(refused_sop_classes=frozenset({str(film.SOPClassUID)})))
    report = send([film, *files[:2]], pacs.peer)
    assert [file.outcome.code for file in report.files] == ["sop-class-not-supported", None, None]
    (alone,) = send([film], pacs.peer).files
    assert alone.outcome.code == "sop-class-not-supported"
    assert len(pacs.record.received) == 2


def test_result_sop_classes_are_taken(pacs: SimulatedPacs) -> None:
    ae = AE()
    for sop_class_uid in RESULT_SOP_CLASSES:
        ae.add_requested_context(sop_class_uid, "1.2.840.10008.1.2.4.90")
    assoc = ae.associate(pacs.peer.host, pacs.peer.port, ae_title=pacs.peer.aet)
    assert {context.abstract_syntax for context in assoc.accepted_contexts} == set(RESULT_SOP_CLASSES)
    assoc.release()


def test_pacs_that_is_down_refuses_connections_and_comes_back_on_its_port(
    tmp_path: Path, files: tuple[Path, ...]
) -> None:
    with SimulatedPacs(tmp_path / "pacs", misbehavior=Misbehavior(is_down=True)) as pacs:
        port = pacs.peer.port
        assert [file.outcome.code for file in send(files[:1], pacs.peer).failed] == ["destination-down"]
        pacs.change(Misbehavior())
        assert pacs.peer.port == port
        assert send(files[:1], pacs.peer).sent == 1


def test_taken_port_is_refused_by_name(pacs: SimulatedPacs, tmp_path: Path) -> None:
    other = SimulatedPacs(tmp_path / "other", port=pacs.peer.port)
    with pytest.raises(PortInUse, match=str(pacs.peer.port)):
        other.start()


def test_dciodvfy_finds_no_error_in_any_phantom(tmp_path: Path) -> None:
    program = require_program("dciodvfy")
    inverse = chest_xray(with_opacity=True, matrix=128, photometric_interpretation="MONOCHROME1")
    mr = small_brain_mr()
    pixels = np.full((21, 35), 90, dtype=np.uint8)
    datasets = [
        small_chest_ct().datasets[0],
        *(mr.t1[0], mr.t1c[0], mr.flair[0]),
        small_chest_xray(with_opacity=False).dataset,
        inverse.dataset,
        wrap_film(pixels, name="film-0001"),
    ]
    for path in write_datasets(datasets, tmp_path):
        answer = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
        said = answer.stdout + answer.stderr
        assert "Image" in said
        assert "Error" not in said, said
