"""The station that compares what came again with what was read, with real files, a real ledger and a real process."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import JPEGLSLossless

from node.comparison.reader import CagedReader, open_reader
from node.comparison.station import Comparison
from node.domain.job import Job
from node.ledger.later_versions import LaterVersionLedger
from node.ledger.views import Event
from tests.ledgers import NOON, STUDY, Books, at, make_facts, make_order, make_outcome, make_result
from tests.phantoms import small_chest_ct

FIRST, SECOND = "first.dcm", "second.dcm"


@dataclass
class CountingReader:
    """Counts what the real one is asked."""

    reader: CagedReader
    asked: list[str]

    def difference(self, earlier_path: str, path: str) -> str:
        self.asked.append(path)
        return self.reader.difference(earlier_path, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with one slice, as it came first."""
    store = tmp_path / "store"
    store.mkdir()
    dcmwrite(store / FIRST, slice_of_chest())
    return store


def slice_of_chest() -> Dataset:
    return copy.deepcopy(small_chest_ct().datasets[20])


def write(folder: Path, ds: Dataset, name: str = SECOND) -> None:
    dcmwrite(folder / name, ds)


def take_in(books: Books, path: str, *, number: int = 1, now: float = 0) -> None:
    """Tell the ledger of a file that came."""
    facts = make_facts(number, digest=path, association=path, received_at=at(now))
    books.instances.record_instance(replace(facts, path=path))


def answer(books: Books, *, numbers: Sequence[int] = (1,)) -> Job:
    for number in numbers:
        take_in(books, FIRST, number=number)
    books.route(make_order(numbers=tuple(numbers)))
    job = books.claim(books.only_job())
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    return job


def station(books: Books, folder: Path) -> Comparison:
    return Comparison(LaterVersionLedger(books.engine), partial(open_reader, folder.joinpath))


def story(books: Books, kind: str) -> list[Event]:
    return [event for event in books.view.study_story(STUDY).events if event.kind == kind]


def test_nothing_is_opened_while_nothing_waits(books: Books, folder: Path) -> None:
    opened: list[Path] = []

    def open_counted() -> AbstractContextManager[CagedReader]:
        opened.append(folder)
        return open_reader(folder.joinpath)

    assert Comparison(LaterVersionLedger(books.engine), open_counted).tick(NOON) is None
    assert opened == []


def test_an_image_that_is_only_encoded_otherwise_leaves_its_answer_as_it_is(books: Books, folder: Path) -> None:
    job = answer(books)
    ds = slice_of_chest()
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    write(folder, ds)
    take_in(books, SECOND, now=5)
    comparison = station(books, folder)
    assert comparison.tick(at(6)) == at(6)
    assert comparison.tick(at(6)) is None
    (event,) = story(books, "instance-compared")
    assert event.text == f"Instance {STUDY}.1.1 of Series {STUDY}.1 says what it said before; its answers stand"
    assert books.find(job).outdated_at is None
    assert story(books, "answer-outdated") == []


def test_the_alarm_says_in_what_the_later_version_differs(books: Books, folder: Path) -> None:
    job = answer(books)
    ds = slice_of_chest()
    ds.PatientID, ds.AccessionNumber = "another", "2"
    write(folder, ds)
    take_in(books, SECOND, now=5)
    station(books, folder).tick(at(6))
    (alarm,) = story(books, "answer-outdated")
    assert "what came again under its UID differs from it in AccessionNumber, PatientID, and the answer" in alarm.text
    assert (alarm.at, alarm.is_alarm, "another" in alarm.text) == (at(6), True, False)
    assert books.find(job).outdated_at == at(5)


def test_many_differences_are_named_in_part(books: Books, folder: Path) -> None:
    answer(books)
    ds = slice_of_chest()
    for keyword in ("PatientID", "StudyID", "AccessionNumber", "PatientName", "KVP", "SeriesNumber", "Exposure"):
        setattr(ds, keyword, "1")
    write(folder, ds)
    take_in(books, SECOND, now=5)
    station(books, folder).tick(at(6))
    (alarm,) = story(books, "answer-outdated")
    assert "Exposure, StudyID and 1 more, and the answer" in alarm.text


@pytest.mark.parametrize("content", [None, b"", b"no DICOM at all" * 20], ids=["gone", "empty", "something else"])
def test_what_cannot_be_compared_leaves_the_answer_in_doubt(books: Books, folder: Path, content: bytes | None) -> None:
    job = answer(books)
    if content is not None:
        (folder / SECOND).write_bytes(content)
    take_in(books, SECOND, now=5)
    station(books, folder).tick(at(6))
    (alarm,) = story(books, "answer-outdated")
    assert "cannot be compared with it (file-unreadable)" in alarm.text
    assert books.find(job).outdated_at == at(5)


def test_pixels_that_nobody_can_decode_leave_the_answer_in_doubt(books: Books, folder: Path) -> None:
    answer(books)
    ds = slice_of_chest()
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    ds.PixelData = ds.PixelData[:200] + bytes(len(ds.PixelData) - 200)
    write(folder, ds)
    take_in(books, SECOND, now=5)
    station(books, folder).tick(at(6))
    (alarm,) = story(books, "answer-outdated")
    assert "cannot be compared with it (pixels-undecodable)" in alarm.text


def test_once_an_answer_is_in_doubt_the_rest_of_its_instances_is_not_read(books: Books, folder: Path) -> None:
    numbers = range(1, 6)
    answer(books, numbers=numbers)
    ds = slice_of_chest()
    ds.PatientID = "another"
    write(folder, ds)
    for number in numbers:
        take_in(books, SECOND, number=number, now=5)
    asked: list[str] = []

    @contextmanager
    def counting() -> Iterator[CountingReader]:
        with open_reader(folder.joinpath) as reader:
            yield CountingReader(reader, asked)

    comparison = Comparison(LaterVersionLedger(books.engine), counting)
    while comparison.tick(at(6)) is not None:
        pass
    assert len(asked) == 1
    assert len(story(books, "answer-outdated")) == 1


def test_a_version_is_compared_with_the_one_before_it(books: Books, folder: Path) -> None:
    job = answer(books)
    ds = slice_of_chest()
    write(folder, ds)
    take_in(books, SECOND, now=5)
    ds.PatientID = "another"
    write(folder, ds, "third.dcm")
    take_in(books, "third.dcm", now=6)
    comparison = station(books, folder)
    while comparison.tick(at(7)) is not None:
        pass
    assert books.find(job).outdated_at == at(6)


def test_the_process_ends_with_the_work(folder: Path) -> None:
    write(folder, dcmread(folder / FIRST))
    with open_reader(folder.joinpath) as reader:
        assert reader.difference(FIRST, SECOND) == ""
        (pid,) = reader._idlers.list_pids()
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
