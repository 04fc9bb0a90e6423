"""The journal: what a receiver had acknowledged and not recorded is known to the next one, and nothing else is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.errors import DataDirInUse, LedgerBusy
from node.ledger.journal import Journal, journals_of
from node.ledger.registrar import Registrar
from tests.ledgers import Books, copy_ledger, make_facts

FULL = Path("/dev/full")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path, 1, wait_s=0.0)
    yield opened
    opened.close()


def next_life(folder: Path, journal: Journal) -> list[str]:
    """Return what is pending for who comes after the death of `journal`, and let it live on."""
    journal.close()
    heir = Journal(folder, 1, wait_s=0.0)
    pending = list(heir.pending())
    heir.close()
    return pending


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_what_was_noted_and_not_recorded_is_pending_in_its_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, wait_s=0.0)
    for number in range(20):
        journal.note(f"instances/{number}.dcm")
    journal.forget(5)
    for number in range(20, 30):
        journal.note(f"instances/{number}.dcm")
    journal.forget(10)
    pending = next_life(tmp_path, journal)
    # Whole files are emptied, so some that are recorded stand there still.
    assert pending == [f"instances/{number}.dcm" for number in range(30 - len(pending), 30)]
    assert len(pending) >= 15


def test_nothing_is_pending_when_everything_is_recorded(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, wait_s=0.0)
    for number in range(5):
        journal.note(f"{number}.dcm")
    journal.forget(5)
    assert next_life(tmp_path, journal) == []
    assert size_bytes(tmp_path) == 0


def test_it_stays_short_under_a_load_that_never_pauses(tmp_path: Path, journal: Journal) -> None:
    """There is always one row that waits."""
    longest = 0
    journal.note("0.dcm")
    for number in range(1, 5000):
        journal.note(f"{number}.dcm")
        if number % 50 == 0:
            journal.forget(50)
            longest = max(longest, size_bytes(tmp_path))
    assert longest < 5 * 50 * len("5000 5000.dcm\n")


def test_a_path_that_was_noted_twice_stands_where_it_was_noted_last(tmp_path: Path) -> None:
    """Version one, two, and one again: one counts."""
    journal = Journal(tmp_path, 1, wait_s=0.0)
    for path in ("one.dcm", "two.dcm", "one.dcm"):
        journal.note(path)
    assert next_life(tmp_path, journal) == ["two.dcm", "one.dcm"]


def test_half_a_line_names_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, wait_s=0.0)
    journal.note("whole.dcm")
    journal.close()
    (written,) = (path for path in tmp_path.iterdir() if path.stat().st_size)
    with written.open("ab") as file:
        file.write(b"1 half.d")
    heir = Journal(tmp_path, 1, wait_s=0.0)
    assert heir.pending() == ["whole.dcm"]
    heir.clear()
    assert heir.pending() == []
    heir.close()


def test_it_belongs_to_one_process_at_a_time(tmp_path: Path, journal: Journal) -> None:
    with pytest.raises(DataDirInUse, match="receiver"):
        Journal(tmp_path, 1, wait_s=0.1)
    Journal(tmp_path, 2, wait_s=0.0).close()
    with pytest.raises(DataDirInUse):
        list(journals_of(tmp_path, wait_s=0.0))


def test_every_journal_of_a_folder_is_found(tmp_path: Path) -> None:
    assert list(journals_of(tmp_path / "none", wait_s=0.0)) == []
    for number in (1, 2, 10):
        journal = Journal(tmp_path, number, wait_s=0.0)
        journal.note(f"{number}.dcm")
        journal.close()
    pending: list[str] = []
    for journal in journals_of(tmp_path, wait_s=0.0):
        pending += journal.pending()
        journal.close()
    assert pending == ["1.dcm", "2.dcm", "10.dcm"]


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is of Linux")
def test_a_line_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    for turn in (0, 1):
        (tmp_path / f"1-{turn}.journal").symlink_to(FULL)
    journal = Journal(tmp_path, 1, wait_s=0.0)
    with pytest.raises(LedgerBusy, match="no line"):
        journal.note("a.dcm")
    journal.close()


def test_the_registrar_notes_before_it_promises_and_forgets_after_it_commits(tmp_path: Path) -> None:
    books = Books(copy_ledger(tmp_path))
    folder = tmp_path / "receivers"
    journal = Journal(folder, 1, wait_s=0.0)
    registrar = Registrar(books.instances, lambda: None, journal)
    facts = [make_facts(number) for number in range(1, 4)]
    for one in facts:
        registrar.record_instance(one)
    assert journal.pending() == [one.path for one in facts]
    registrar.start()
    registrar.stop()
    assert journal.pending() == []
    assert set(books.instances.known_paths()) == {one.path for one in facts}
    journal.close()
    books.close()
