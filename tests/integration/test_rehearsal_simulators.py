"""The simulated modality and the simulated PACS speak real DICOM to each other."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pynetdicom import AE

from node.errors import NotDicom, PortInUse
from node.rehearsal.chest_xray import chest_xray, wrap_film
from node.rehearsal.headers import write_datasets
from node.rehearsal.modality import Habits, find_files, send
from node.rehearsal.pacs import Misbehavior, SimulatedPacs
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


def _data_set(path: Path) -> bytes:
    """Return the bytes after the file meta information."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[140:144], "little")
    return whole[144 + length :]


def test_every_instance_arrives_with_the_bytes_of_its_file(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    seen: list[str] = []
    outcomes = send(files, pacs.peer, progress=lambda o: seen.append(o.instance.sop_instance_uid))
    assert all(outcome.is_stored and outcome.status == 0 for outcome in outcomes)
    assert [outcome.instance.source for outcome in outcomes] == list(files)
    assert seen == [outcome.instance.sop_instance_uid for outcome in outcomes]
    for sent, kept in zip(files, pacs.record.received, strict=True):
        ds = dcmread(kept.path)
        assert kept.path == pacs.folder / ds.StudyInstanceUID / ds.SeriesInstanceUID / f"{ds.SOPInstanceUID}.dcm"
        assert _data_set(kept.path) == _data_set(sent)
    assert pacs.record.associations == 1
    assert pacs.record.received[0].calling_aet == "MODALITY"


def test_datasets_go_over_several_associations_in_any_order(pacs: SimulatedPacs) -> None:
    phantom = small_brain_mr()
    outcomes = send(phantom.datasets, pacs.peer, associations=3, habits=Habits(shuffle_seed=1, calling_aet="MR_ROOM_1"))
    assert all(outcome.is_stored for outcome in outcomes)
    order = [instance.sop_instance_uid for instance in pacs.record.received]
    assert order != [ds.SOPInstanceUID for ds in phantom.datasets]
    assert sorted(order) == sorted(ds.SOPInstanceUID for ds in phantom.datasets)
    assert pacs.record.associations == 3
    assert {instance.calling_aet for instance in pacs.record.received} == {"MR_ROOM_1"}


def test_modality_may_pause_until_the_peer_has_what_was_sent(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    def wait(sent: int) -> None:
        assert pacs.wait_for(lambda record: len(record.received) == sent, timeout_s=WAIT_S)

    outcomes = send(files[:4], pacs.peer, habits=Habits(before_each=wait))
    assert all(outcome.is_stored for outcome in outcomes)


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
    outcomes = send(files, pacs.peer)
    failed = [outcome for outcome in outcomes if not outcome.is_stored]
    assert [(o.status, o.failure_code) for o in failed] == [(0xA700, "destination-busy")] * 2
    assert len(pacs.record.received) == len(files) - 2
    again = send([outcome.instance.source for outcome in failed], pacs.peer)
    assert all(outcome.is_stored for outcome in again)
    assert len(pacs.record.sop_instance_uids) == len(files)


def test_warning_status_is_stored(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    pacs.change(Misbehavior(status=0xB000, status_count=1))
    (outcome,) = send(files[:1], pacs.peer)
    assert outcome.is_stored
    assert outcome.status == 0xB000
    assert pacs.record.received[0].path.is_file()


def test_abort_leaves_the_rest_unsent_and_reported(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    pacs.change(Misbehavior(abort_after=3))
    outcomes = send(files, pacs.peer)
    assert [outcome.is_stored for outcome in outcomes] == [True] * 3 + [False] * (len(files) - 3)
    assert {o.failure_code for o in outcomes[3:]} == {"destination-down"}
    assert {o.status for o in outcomes[3:]} == {None}
    assert len(pacs.record.received) == 3


def test_refused_sop_class_is_reported_for_its_instances_only(pacs: SimulatedPacs, files: tuple[Path, ...]) -> None:
    film = small_chest_xray(with_opacity=False).dataset
    pacs.change(Misbehavior(refused_sop_classes=frozenset({str(film.SOPClassUID)})))
    outcomes = send([film, *files[:2]], pacs.peer)
    assert [outcome.failure_code for outcome in outcomes] == ["destination-refused", None, None]
    (alone,) = send([film], pacs.peer)
    assert alone.failure_code == "destination-refused"
    assert len(pacs.record.received) == 2


def test_result_sop_classes_are_taken(pacs: SimulatedPacs) -> None:
    ae = AE()
    for sop_class_uid in RESULT_SOP_CLASSES:
        ae.add_requested_context(sop_class_uid, "1.2.840.10008.1.2.4.90")
    assoc = ae.associate(pacs.peer.host, pacs.peer.port, ae_title=pacs.peer.aet)
    assert {context.abstract_syntax for context in assoc.accepted_contexts} == set(RESULT_SOP_CLASSES)
    assoc.release()


# pynetdicom 3.0.4 drops the socket of a refused connection unclosed (transport.py, connect).
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_pacs_that_is_down_refuses_connections_and_comes_back_on_its_port(
    tmp_path: Path, files: tuple[Path, ...]
) -> None:
    with SimulatedPacs(tmp_path / "pacs", misbehavior=Misbehavior(is_down=True)) as pacs:
        port = pacs.peer.port
        assert send(files[:1], pacs.peer)[0].failure_code == "destination-down"
        pacs.change(Misbehavior())
        assert pacs.peer.port == port
        assert send(files[:1], pacs.peer)[0].is_stored


def test_taken_port_is_refused_by_name(pacs: SimulatedPacs, tmp_path: Path) -> None:
    other = SimulatedPacs(tmp_path / "other", port=pacs.peer.port)
    with pytest.raises(PortInUse, match=str(pacs.peer.port)):
        other.start()


def test_nothing_is_sent_when_one_file_is_no_dicom(
    pacs: SimulatedPacs, files: tuple[Path, ...], tmp_path: Path
) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear colleague")
    with pytest.raises(NotDicom, match=r"letter\.txt"):
        send(find_files([*files, letter]), pacs.peer)
    assert pacs.record.requests == 0


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
