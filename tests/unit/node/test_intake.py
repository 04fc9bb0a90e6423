"""Intake acknowledges only what is durable and recorded, and mixes nothing."""

import json
import os
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread
from time import time
from typing import Literal

import pydicom
import pytest

from node.domain.recording import Recording
from node.domain.result import OWN_MANUFACTURER
from node.domain.study import InstanceFacts
from node.domain.uids import SeriesUID
from node.errors import BadIdentifier, IdentifierClash, LedgerBusy, NotDicom, StoreFull, TooLarge, UidMismatch
from node.intake.adoption import LEFTOVER_AGE_S, START_UP_SCAN, Adoption
from node.intake.ports import IntakeTerms
from node.intake.station import Intake
from node.store.files import INCOMING, SPOOL_SUFFIX, FileStore, Reserve
from tests.instances import INSTANCE, JPEG_2000, MAX_INSTANCE_BYTES, NOON, MemoryLedger, arrival, ct_slice, encode
from tests.ledgers import Books, copy_ledger
from tests.trails import Listener

PLAIN = f"instances/1.2.3/1.2.3.4/{INSTANCE}.dcm"


class Bench:
    """An Intake on a real folder and a ledger in memory."""

    def __init__(self, root: Path, own_results: Literal["store", "drop"] = "store", reserve_bytes: int = 0) -> None:
        self.root = root
        self.store = FileStore(root, Reserve(reserve_bytes=reserve_bytes, reserve_percent=90))
        self.ledger = MemoryLedger()
        self.listener = Listener()
        self.adoption = Adoption(store=self.store, ledger=self.ledger, clock=lambda: NOON, teller=self.listener)
        self.intake = Intake(
            store=self.store,
            ledger=self.ledger,
            clock=lambda: NOON,
            terms=IntakeTerms(own_results=own_results, max_instance_bytes=MAX_INSTANCE_BYTES),
        )

    def files(self) -> list[str]:
        return sorted(p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_instance_is_on_disk_and_recorded_when_intake_returns(bench: Bench) -> None:
    encoded = encode(ct_slice(level=0x0102))
    facts = bench.intake.store_instance(encoded, arrival())
    assert facts is not None
    content = bench.store.read(facts.path)
    assert (facts.path, facts.size_bytes, bench.files()) == (PLAIN, len(content), [PLAIN])
    assert content.endswith(encoded)
    assert facts.pixel_data_offset is not None
    assert content[facts.pixel_data_offset :] == b"\x02\x01" * 24
    assert bench.ledger.instances == {INSTANCE: facts}
    assert json.loads(json.dumps(dict(facts.attributes)))["Modality"] == "CT"
    assert pydicom.dcmread(bench.store.path(facts.path)).PatientName == "Grün^Käthe"


def test_compressed_pixels_are_stored_as_sent_and_never_decoded(bench: Bench) -> None:
    encoded = encode(ct_slice(), JPEG_2000)
    facts = bench.intake.store_instance(encoded, arrival(transfer_syntax_uid=JPEG_2000))
    assert facts is not None
    assert bench.store.read(facts.path).endswith(encoded)


def test_same_content_again_writes_no_second_file(bench: Bench) -> None:
    first = bench.intake.store_instance(encode(ct_slice()), arrival())
    assert first is not None
    written = bench.store.path(first.path).stat()
    again = bench.intake.store_instance(encode(ct_slice()), arrival(association_id="a2"))
    assert again is not None
    assert again.path == first.path
    assert bench.store.path(first.path).stat().st_ino == written.st_ino
    assert bench.ledger.recordings == [Recording.NEW, Recording.SAME]


def test_other_content_becomes_a_second_version_that_counts(bench: Bench) -> None:
    one, two = encode(ct_slice(level=1)), encode(ct_slice(level=2))
    first = bench.intake.store_instance(one, arrival())
    second = bench.intake.store_instance(two, arrival())
    assert first is not None
    assert second is not None
    assert second.path == f"instances/1.2.3/1.2.3.4/{INSTANCE}.{second.digest[:16]}.dcm"
    assert bench.store.read(first.path).endswith(one)
    assert bench.store.read(second.path).endswith(two)
    assert bench.ledger.instances[INSTANCE] == second
    back = bench.intake.store_instance(one, arrival())
    assert back is not None
    assert back.path == first.path
    assert bench.ledger.recordings == [Recording.NEW, Recording.CHANGED, Recording.CHANGED]


def test_concurrent_senders_of_one_uid_never_mix(bench: Bench) -> None:
    contents = [encode(ct_slice(level=level)) for level in (1, 1, 2, 2, 3, 3, 4, 4)]
    start, kept = Barrier(len(contents)), dict[int, InstanceFacts]()

    def send(number: int) -> None:
        start.wait()
        facts = bench.intake.store_instance(contents[number], arrival(association_id=str(number)))
        assert facts is not None
        kept[number] = facts

    threads = [Thread(target=send, args=(number,)) for number in range(len(contents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == len(contents)
    for number, facts in kept.items():
        assert bench.store.read(facts.path).endswith(contents[number])
    assert len(bench.files()) == 4


@pytest.mark.parametrize(
    ("announced", "error"),
    [("1.2.3.4.6", UidMismatch), ("", BadIdentifier), ("../../etc", BadIdentifier), ("1" * 65, BadIdentifier)],
)
def test_wrong_announcement_is_refused_and_leaves_an_event(
    bench: Bench, announced: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        bench.intake.store_instance(encode(ct_slice()), arrival(sop_instance_uid=announced))
    assert (bench.files(), bench.ledger.instances) == ([], {})
    assert [kind for kind, _ in bench.ledger.events] == ["instance-refused"]
    assert "MODALITY" in bench.ledger.events[0][1]


def test_cut_instance_is_refused_and_leaves_an_event_without_patient(bench: Bench) -> None:
    with pytest.raises(NotDicom):
        bench.intake.store_instance(encode(ct_slice())[:-2], arrival())
    assert bench.files() == []
    assert bench.ledger.events[0][0] == "instance-refused"
    assert "Grün" not in bench.ledger.events[0][1]


def test_full_store_is_noted_once_and_nothing_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, reserve_bytes=2**62)
    bench.store = FileStore(tmp_path, Reserve(reserve_bytes=2**62, reserve_percent=100))
    bench.intake = Intake(
        store=bench.store,
        ledger=bench.ledger,
        clock=lambda: NOON,
        terms=IntakeTerms(own_results="store", max_instance_bytes=MAX_INSTANCE_BYTES),
    )
    for _ in range(3):
        with pytest.raises(StoreFull):
            bench.intake.store_instance(encode(ct_slice()), arrival())
    assert (bench.files(), bench.ledger.instances) == ([], {})
    assert [kind for kind, _ in bench.ledger.events] == ["store-full"]


class BusyLedger(MemoryLedger):
    def record_instance(self, facts: InstanceFacts) -> Recording:
        raise LedgerBusy("no answer")


class ClashingLedger(MemoryLedger):
    def record_instance(self, facts: InstanceFacts) -> Recording:
        raise IdentifierClash("of another series")


def test_clash_that_shows_before_anything_is_kept_keeps_nothing(bench: Bench) -> None:
    first = bench.intake.store_instance(encode(ct_slice()), arrival())
    assert first is not None
    other = ct_slice()
    other.SeriesInstanceUID = "1.2.77"
    with pytest.raises(IdentifierClash):
        bench.intake.store_instance(encode(other), arrival())
    assert bench.files() == [first.path]
    # The time line of its Study tells that something of it is not here.
    assert bench.ledger.refused_of == [first.study_instance_uid]


def test_clash_that_shows_later_leaves_the_file_which_another_receiver_may_have_acknowledged(bench: Bench) -> None:
    clashing = Intake(
        store=bench.store,
        ledger=ClashingLedger(),
        clock=lambda: NOON,
        terms=IntakeTerms(own_results="store", max_instance_bytes=MAX_INSTANCE_BYTES),
    )
    with pytest.raises(IdentifierClash):
        clashing.store_instance(encode(ct_slice()), arrival())
    assert bench.files() == [PLAIN]


def test_ledger_that_does_not_commit_is_never_acknowledged_and_the_next_start_adopts(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    busy = Intake(
        store=bench.store,
        ledger=BusyLedger(),
        clock=lambda: NOON,
        terms=IntakeTerms(own_results="store", max_instance_bytes=MAX_INSTANCE_BYTES),
    )
    with pytest.raises(LedgerBusy):
        busy.store_instance(encode(ct_slice()), arrival())
    outcome = bench.adoption.scan()
    assert (outcome.adopted, outcome.removed, outcome.set_aside) == (1, 0, 0)
    adopted = bench.ledger.instances[INSTANCE]
    received = bench.intake.store_instance(encode(ct_slice()), arrival())
    assert received is not None
    assert (adopted.path, adopted.digest, adopted.pixel_data_offset, adopted.size_bytes) == (
        received.path,
        received.digest,
        received.pixel_data_offset,
        received.size_bytes,
    )
    assert bench.ledger.ended == [START_UP_SCAN]
    assert bench.ledger.recordings == [Recording.NEW, Recording.SAME]


def test_start_up_scan_removes_versions_that_do_not_count_and_keeps_the_one_that_does(bench: Bench) -> None:
    for level in (1, 2):
        bench.intake.store_instance(encode(ct_slice(level=level)), arrival())
    outcome = bench.adoption.scan()
    assert (outcome.adopted, outcome.removed, outcome.set_aside) == (0, 1, 0)
    assert bench.files() == [bench.ledger.instances[INSTANCE].path]
    assert bench.listener.told() == [("version-deleted", "1.2.3", 1)]


def test_start_up_scan_sets_aside_what_nobody_can_read(bench: Bench) -> None:
    bench.store.add("instances/1.2/1.3/1.4.dcm", b"not what was written")
    whole = encode(ct_slice())
    bench.intake.store_instance(whole, arrival())
    bench.store.add("instances/1.2.3/1.2.3.4/9.9.dcm", bench.store.read(PLAIN))
    outcome = bench.adoption.scan()
    assert (outcome.adopted, outcome.removed, outcome.set_aside) == (0, 0, 2)
    assert [kind for kind, _ in bench.ledger.events] == ["file-set-aside", "file-set-aside"]
    assert bench.files() == [
        ".set-aside/instances/1.2.3/1.2.3.4/9.9.dcm",
        ".set-aside/instances/1.2/1.3/1.4.dcm",
        PLAIN,
    ]


def test_start_up_scan_passes_over_a_bad_place_of_the_disk(bench: Bench) -> None:
    """/proc/self/mem has no first page, and says EIO."""
    bench.intake.store_instance(encode(ct_slice()), arrival())
    bench.ledger.instances.clear()
    bad = bench.store.path("instances/1.2/1.3/1.4.dcm")
    bad.parent.mkdir(parents=True)
    bad.symlink_to("/proc/self/mem")
    outcome = bench.adoption.scan()
    assert (outcome.adopted, outcome.removed, outcome.set_aside) == (1, 0, 1)
    assert [kind for kind, _ in bench.ledger.events] == ["file-passed-over"]
    assert bad.is_symlink()


def test_file_that_the_loss_of_power_cut_is_set_aside_and_taken_when_it_comes_again(bench: Bench) -> None:
    facts = bench.intake.store_instance(encode(ct_slice()), arrival())
    assert facts is not None
    whole = bench.store.read(PLAIN)
    bench.store.path(PLAIN).write_bytes(whole[:-10])
    assert bench.adoption.scan().set_aside == 1
    assert bench.files() == [f".set-aside/{PLAIN}"]
    bench.intake.store_instance(encode(ct_slice()), arrival())
    assert bench.store.read(PLAIN) == whole


def leave_behind(bench: Bench, name: str, content: bytes, *, age_s: float = LEFTOVER_AGE_S) -> Path:
    """Put a temporary file into the store whose writer is gone."""
    path = bench.root / INCOMING / name
    path.write_bytes(content)
    written_s = time() - age_s
    os.utime(path, (written_s, written_s))
    return path


@pytest.mark.parametrize("name", [f"received{SPOOL_SUFFIX}", "a-result"])
def test_start_up_scan_leaves_what_another_node_or_a_worker_has_begun_this_moment(bench: Bench, name: str) -> None:
    """A file has no lock in the moment in which it is made; whoever took it would have its sender refused."""
    begun = leave_behind(bench, name, b"", age_s=0.0)
    tomorrow = leave_behind(bench, f"of-tomorrow-{name}", b"", age_s=-86400.0)
    bench.adoption.scan()
    assert (begun.exists(), tomorrow.exists()) == (True, False)


def test_whole_instance_that_lost_its_name_with_the_power_is_adopted_and_half_a_one_is_removed(bench: Bench) -> None:
    facts = bench.intake.store_instance(encode(ct_slice()), arrival())
    assert facts is not None
    content = bench.store.read(PLAIN)
    bench.store.path(PLAIN).unlink()
    bench.ledger.instances.clear()
    leave_behind(bench, f"whole{SPOOL_SUFFIX}", content)
    leave_behind(bench, f"half{SPOOL_SUFFIX}", content[:-7])
    assert bench.adoption.scan().adopted == 1
    assert bench.files() == [PLAIN]
    adopted = bench.ledger.instances[INSTANCE]
    assert (adopted.digest, adopted.calling_aet) == (facts.digest, "MODALITY")
    assert adopted.pixel_data_offset == facts.pixel_data_offset


def test_large_instance_is_received_in_pieces_and_scanned_where_its_pixels_begin(bench: Bench) -> None:
    ds = ct_slice()
    ds.Rows, ds.Columns, ds.PixelData = 1024, 1024, bytes(range(256)) * 8192
    encoded = encode(ds)
    reception = bench.intake.receive(arrival())
    for begin in range(0, len(encoded), 100_000):
        reception.write((memoryview(encoded)[begin : begin + 100_000],))
    facts = reception.finish()
    assert facts is not None
    assert facts.pixel_data_offset is not None
    assert bench.store.read(facts.path)[facts.pixel_data_offset :] == ds.PixelData


def test_reception_that_is_discarded_leaves_nothing(bench: Bench) -> None:
    reception = bench.intake.receive(arrival())
    reception.write((encode(ct_slice()),))
    reception.discard()
    assert (bench.files(), bench.ledger.instances) == ([], {})


def test_of_two_versions_without_a_row_the_younger_counts(bench: Bench) -> None:
    facts = [bench.intake.store_instance(encode(ct_slice(level=level)), arrival()) for level in (1, 2)]
    bench.ledger.instances.clear()
    assert bench.adoption.scan().adopted == 2
    assert facts[1] is not None
    assert bench.ledger.instances[INSTANCE].digest == facts[1].digest


@pytest.mark.parametrize("levels", [(1, 2), (1, 2, 1), (1, 2, 1, 2)])
def test_version_that_was_acknowledged_last_counts_though_a_kill_took_its_row(
    bench: Bench, levels: tuple[int, ...]
) -> None:
    facts = [bench.intake.store_instance(encode(ct_slice(level=level)), arrival()) for level in levels]
    committed, latest = facts[-2:]
    assert committed is not None
    assert latest is not None
    bench.ledger.instances[INSTANCE] = committed
    outcome = bench.adoption.scan()
    assert (outcome.adopted, outcome.removed, outcome.set_aside) == (1, 0, 0)
    assert bench.ledger.instances[INSTANCE].digest == latest.digest
    assert (bench.adoption.scan().removed, bench.files()) == (1, [latest.path])


@pytest.mark.parametrize("levels", [(1, 2), (1, 2, 1), (1, 2, 1, 2)])
def test_version_that_a_journal_names_does_not_replace_a_later_one(bench: Bench, levels: tuple[int, ...]) -> None:
    facts = [bench.intake.store_instance(encode(ct_slice(level=level)), arrival()) for level in levels]
    former, latest = facts[-2:]
    assert former is not None
    assert latest is not None
    bench.adoption.adopt((former.path, latest.path, former.path))
    assert bench.ledger.instances[INSTANCE].digest == latest.digest


def test_start_up_scan_sets_aside_an_instance_whose_uid_is_that_of_another_series(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    facts = bench.intake.store_instance(encode(ct_slice()), arrival())
    assert facts is not None
    books = Books(copy_ledger(tmp_path_factory.mktemp("books")))
    books.instances.record_instance(replace(facts, series_instance_uid=SeriesUID("1.2.3.5"), path="elsewhere"))
    outcome = Adoption(store=bench.store, ledger=books.instances, clock=lambda: NOON).scan()
    books.close()
    assert (outcome.adopted, outcome.removed, outcome.set_aside) == (0, 0, 1)
    assert bench.files() == [f".set-aside/{PLAIN}"]


def test_instance_larger_than_the_limit_is_refused_while_it_comes_and_told(bench: Bench) -> None:
    bench.intake.max_instance_bytes = 3000
    reception = bench.intake.receive(arrival())
    reception.write([bytes(2000), bytes(1000)])
    with pytest.raises(TooLarge, match=r"more than 3000 bytes; see store\.max_instance_bytes"):
        reception.write([b"x"])
    reception.discard()
    with pytest.raises(TooLarge):
        bench.intake.store_instance(bytes(3001), arrival())
    assert bench.files() == []
    assert [kind for kind, _ in bench.ledger.events] == ["instance-refused"]


@pytest.mark.parametrize("own_results", ["store", "drop"])
def test_own_result_coming_back_follows_the_setting(tmp_path: Path, own_results: Literal["store", "drop"]) -> None:
    bench = Bench(tmp_path, own_results=own_results)
    ds = ct_slice()
    ds.Manufacturer = OWN_MANUFACTURER
    facts = bench.intake.store_instance(encode(ds), arrival())
    assert (facts is None) == (own_results == "drop")
    assert (bench.files() == []) == (own_results == "drop")
    assert [kind for kind, _ in bench.ledger.events] == (["own-result-dropped"] if own_results == "drop" else [])


def test_association_end_reaches_the_ledger(bench: Bench) -> None:
    bench.intake.association_ended("a1")
    assert bench.ledger.ended == ["a1"]
