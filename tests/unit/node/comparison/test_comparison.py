"""A version of an Instance that came again is compared with the one before, in a real process."""

import copy
import errno
import os
import signal
from pathlib import Path

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import JPEGLSLossless

from node.cage.process import Bounds
from node.clock import utc_now
from node.comparison.reader import BOUNDS, CagedReader
from node.domain.study import InstanceFacts
from node.intake.ports import IntakeTerms
from node.intake.station import Intake
from node.store.files import FileStore, Reserve
from tests.instances import MemoryLedger, arrival, encode
from tests.peers import wait_until
from tests.phantoms import small_chest_ct

FIRST, SECOND = "first.dcm", "second.dcm"


@pytest.fixture
def reader(tmp_path: Path) -> CagedReader:
    """A reader of a folder with one slice."""
    write(tmp_path, slice_of_chest(), FIRST)
    return CagedReader(tmp_path.joinpath)


def slice_of_chest(**changed: str) -> Dataset:
    ds = copy.deepcopy(small_chest_ct().datasets[20])
    for keyword, value in changed.items():
        setattr(ds, keyword, value)
    return ds


def write(folder: Path, ds: Dataset, name: str = SECOND) -> None:
    dcmwrite(folder / name, ds)


def test_an_image_that_is_only_encoded_otherwise_does_not_differ(tmp_path: Path, reader: CagedReader) -> None:
    ds = slice_of_chest()
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    write(tmp_path, ds)
    assert reader.difference(FIRST, SECOND) == ""


def test_what_differs_is_named_and_never_quoted(tmp_path: Path, reader: CagedReader) -> None:
    write(tmp_path, slice_of_chest(PatientID="another", AccessionNumber="2"))
    assert reader.difference(FIRST, SECOND) == "differs from it in AccessionNumber, PatientID"


def test_many_differences_are_named_in_part(tmp_path: Path, reader: CagedReader) -> None:
    keywords = ("PatientID", "StudyID", "AccessionNumber", "PatientName", "KVP", "SeriesNumber", "Exposure")
    write(tmp_path, slice_of_chest(**dict.fromkeys(keywords, "1")))
    assert reader.difference(FIRST, SECOND).endswith("Exposure, StudyID and 1 more")


@pytest.mark.parametrize("content", [None, b"", b"no DICOM at all" * 20], ids=["gone", "empty", "something else"])
def test_what_cannot_be_read_is_said_to_be_so(tmp_path: Path, reader: CagedReader, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / SECOND).write_bytes(content)
    assert reader.difference(FIRST, SECOND) == "cannot be compared with what came before (file-unreadable)"


def test_pixels_that_nobody_can_decode_are_said_to_be_so(tmp_path: Path, reader: CagedReader) -> None:
    ds = slice_of_chest()
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    ds.PixelData = ds.PixelData[:200] + bytes(len(ds.PixelData) - 200)
    write(tmp_path, ds)
    assert reader.difference(FIRST, SECOND) == "cannot be compared with what came before (pixels-undecodable)"


def test_a_process_that_is_gone_is_said_to_be_so_and_the_next_comparison_has_another(
    tmp_path: Path, reader: CagedReader
) -> None:
    assert reader.difference(FIRST, FIRST) == ""
    (pid,) = reader.list_pids()
    os.kill(pid, signal.SIGKILL)
    assert reader.difference(FIRST, FIRST) in {"", "cannot be compared with what came before (decoder-died)"}
    assert reader.difference(FIRST, FIRST) == ""


def test_a_comparison_that_hangs_is_ended(tmp_path: Path) -> None:
    # Nobody ever writes into it, so that opening it takes for ever.
    os.mkfifo(tmp_path / FIRST)
    reader = CagedReader(tmp_path.joinpath, bounds=Bounds(memory_bytes=BOUNDS.memory_bytes, seconds=2.0))
    assert reader.difference(FIRST, FIRST) == "cannot be compared with what came before (decoder-died)"


def test_without_room_for_a_process_nothing_is_said_to_be_the_same(
    tmp_path: Path, reader: CagedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_words: object, **_more: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("node.cage.process.subprocess.Popen", refuse)
    assert reader.difference(FIRST, FIRST) == (
        "cannot be compared with what came before (no process: Too many open files)"
    )


def test_a_process_that_takes_too_long_is_ended_and_the_next_comparison_has_its_own(tmp_path: Path) -> None:
    write(tmp_path, slice_of_chest(), FIRST)
    hurried = CagedReader(tmp_path.joinpath, bounds=Bounds(memory_bytes=BOUNDS.memory_bytes, seconds=1e-4))
    assert hurried.difference(FIRST, FIRST) == "cannot be compared with what came before (decoder-died)"
    assert hurried.list_pids() == ()


def test_the_process_waits_for_the_next_and_ends_when_there_is_none(tmp_path: Path) -> None:
    write(tmp_path, slice_of_chest(), FIRST)
    reader = CagedReader(tmp_path.joinpath, idle_s=1.0)
    assert reader.difference(FIRST, FIRST) == ""
    (pid,) = reader.list_pids()
    assert reader.difference(FIRST, FIRST) == ""
    assert reader.list_pids() == (pid,)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="its end")


class Door:
    """An Intake on a real folder that compares what comes again."""

    def __init__(self, root: Path) -> None:
        self._store = store = FileStore(root, Reserve(reserve_bytes=0, reserve_percent=90))
        self.ledger = MemoryLedger()
        self._intake = Intake(
            store=store,
            ledger=self.ledger,
            clock=utc_now,
            terms=IntakeTerms(own_results="store", max_instance_bytes=2**24),
            compare=CagedReader(store.path).difference,
        )

    def lose(self, facts: InstanceFacts) -> None:
        """Let a file vanish whose row stays."""
        self._store.path(facts.path).unlink()

    def take(self, ds: Dataset) -> InstanceFacts:
        """Return what the ledger is told."""
        syntax = ds.file_meta.TransferSyntaxUID
        whose = {"sop_class_uid": ds.SOPClassUID, "sop_instance_uid": ds.SOPInstanceUID}
        taken = self._intake.store_instance(encode(ds, syntax), arrival(transfer_syntax_uid=syntax, **whose))
        assert taken is not None
        return taken


def test_a_version_says_what_the_first_one_said_that_said_it(tmp_path: Path) -> None:
    door = Door(tmp_path)
    first = door.take(slice_of_chest())
    assert (first.says, first.comparison) == (first.digest, None)
    recoded = slice_of_chest()
    recoded.compress(JPEGLSLossless, generate_instance_uid=False)
    second = door.take(recoded)
    assert second.digest != first.digest
    assert second.says == first.digest
    other = door.take(slice_of_chest(PatientID="another"))
    assert other.says == other.digest
    assert other.comparison is not None
    assert other.comparison.difference == "differs from it in PatientID"
    # The first bytes again, and then the recoded ones, which lie in the store.
    assert door.take(slice_of_chest()).says == first.digest
    assert door.take(recoded).says == first.digest
    assert door.take(recoded).says == first.digest


def test_a_version_in_the_place_of_one_that_is_gone_is_not_compared_with_itself(tmp_path: Path) -> None:
    door = Door(tmp_path)
    first = door.take(slice_of_chest())
    door.lose(first)
    second = door.take(slice_of_chest(PatientID="another"))
    assert (second.path, second.says) == (first.path, second.digest)
    assert second.comparison is not None
    assert second.comparison.difference == "cannot be compared with what came before, whose file is gone"
