"""The chain of the trail: whole over processes, threads, days and kills; broken by whatever is changed in it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from threading import Thread

import pytest

from node.audit.inspection import prove_trail, read_records
from node.audit.trail import FINISHED_MODE, trail_files
from node.errors import AuditUnwritable
from tests.peers import wait_until
from tests.trails import NOON, facts_of, lines, make_alert, make_trail, message_of, texts

# Appends `count` records and says how many it has.
WRITER = """
import sys
from pathlib import Path
from tests.trails import make_alert, make_trail
folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
trail = make_trail(folder)
for number in range(count):
    trail.append(make_alert(f"{name} {number}"))
    with (folder / f"{name}.done").open("a") as done:
        done.write("x")
"""


def start_writer(folder: Path, name: str, count: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), name, str(count)])


def done(folder: Path, name: str) -> int:
    path = folder / f"{name}.done"
    return path.stat().st_size if path.exists() else 0


def test_record_holds_the_digest_of_the_one_before_it(tmp_path: Path) -> None:
    """Anybody can prove the chain without radnode: SHA-256 of the line up to the comma before "digest"."""
    trail = make_trail(tmp_path)
    for text in ("one", "two"):
        trail.append(make_alert(text))
    first, second = map(facts_of, lines(tmp_path))
    assert (first["sequence"], first["previous"], second["sequence"]) == (1, "0" * 64, 2)
    assert second["previous"] == first["digest"]
    body, _, _ = lines(tmp_path)[0].rpartition(b',"digest":')
    assert first["digest"] == sha256(body).hexdigest()
    assert (first["kind"], first["peer"], first["text"]) == ("instance-refused", "192.0.2.7", "one")
    for record in read_records(tmp_path):
        assert message_of(record).find("EventIdentification") is not None


def test_processes_write_one_chain_and_a_killed_one_leaves_it_whole(tmp_path: Path) -> None:
    writers = {name: start_writer(tmp_path, name, 500) for name in ("a", "b", "c", "d")}
    wait_until(lambda: done(tmp_path, "d") >= 100, what="100 records of d")
    writers["d"].send_signal(signal.SIGKILL)
    while any(writer.poll() is None for writer in writers.values()):
        # Whoever reads while others write sees a whole chain, too.
        assert prove_trail(tmp_path).broken is None
    codes = {name: writer.wait() for name, writer in writers.items()}
    assert codes == {"a": 0, "b": 0, "c": 0, "d": -signal.SIGKILL}
    proof = prove_trail(tmp_path)
    assert (proof.broken, proof.first) == (None, 1)
    found = texts(tmp_path)
    for name in "abc":
        assert [text for text in found if text.startswith(name)] == [f"{name} {number}" for number in range(500)]
    assert 100 <= done(tmp_path, "d") <= len([text for text in found if text.startswith("d")]) < 500
    make_trail(tmp_path).append(make_alert("after"))
    assert prove_trail(tmp_path).is_whole


def test_threads_of_one_process_write_one_chain(tmp_path: Path) -> None:
    trail = make_trail(tmp_path)

    def write() -> None:
        for _ in range(50):
            trail.append(make_alert())

    threads = [Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    proof = prove_trail(tmp_path)
    assert (proof.broken, proof.records) == (None, 200)


@pytest.mark.parametrize("kept", [1, 700, -1])
def test_unfinished_line_is_told_by_the_next_record_and_the_chain_goes_on(tmp_path: Path, kept: int) -> None:
    """A writer was killed, or the power lost, after so many bytes of the third line."""
    trail = make_trail(tmp_path)
    for number in range(3):
        trail.append(make_alert(f"{number}"))
    (path,) = trail_files(tmp_path)
    whole = b"".join(lines(tmp_path)[:2])
    path.write_bytes(whole + lines(tmp_path)[2][:kept])
    torn = prove_trail(tmp_path)
    assert (torn.broken, torn.records, torn.unfinished_bytes) == (None, 2, path.stat().st_size - len(whole))
    for other in (make_trail(tmp_path), trail):
        other.append(make_alert("after"))
    *_, told, after, last = read_records(tmp_path)
    assert (told.kind, told.sequence, after.text, last.text) == ("audit-damaged", 3, "after", "after")
    assert "stopped in the middle" in told.text
    assert message_of(told).find("ParticipantObjectIdentification") is None
    proof = prove_trail(tmp_path)
    assert (proof.broken, proof.records, proof.told_damages, proof.unfinished_bytes) == (None, 5, 1, 0)


def change_byte(path: Path) -> None:
    content = path.read_bytes()
    at = content.index(b"text 3")
    path.write_bytes(content[:at] + b"T" + content[at + 1 :])


def edit_lines(edit: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))

    return apply


TAMPERING = {
    "changed byte": (change_byte, "line 4 is no record, or was changed"),
    "removed line": (edit_lines(lambda all_: all_[:3] + all_[4:]), "line 4 is record 5 where 4 is expected"),
    "two lines exchanged": (
        edit_lines(lambda all_: [*all_[:3], all_[4], all_[3], *all_[5:]]),
        "line 4 is record 5 where 4 is expected",
    ),
    "a line twice": (edit_lines(lambda all_: [*all_[:4], *all_[3:]]), "line 5 is record 4 where 5 is expected"),
    "a line between": (edit_lines(lambda all_: [*all_[:3], b"{}\n", *all_[3:]]), "line 4 is no record, or was changed"),
    "no line end": (
        edit_lines(lambda all_: [*all_[:3], all_[3].rstrip(), *all_[4:]]),
        "line 4 is no record, or was changed",
    ),
    "changed at the end": (edit_lines(lambda all_: [*all_[:-1], b"x" + all_[-1]]), "line 6 is no record"),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering_is_named_by_its_first_place(tmp_path: Path, name: str) -> None:
    trail = make_trail(tmp_path)
    for number in range(6):
        trail.append(make_alert(f"text {number}"))
    tamper, said = TAMPERING[name]
    tamper(trail_files(tmp_path)[0])
    broken = prove_trail(tmp_path).broken
    assert broken is not None
    assert said in broken
    # The node goes on, and nothing that follows hides the place.
    trail.append(make_alert("after"))
    make_trail(tmp_path).append(make_alert("after"))
    assert prove_trail(tmp_path).broken == broken
    assert texts(tmp_path)[-2:] == ["after", "after"]


def test_replaced_record_is_seen_by_the_one_that_follows(tmp_path: Path) -> None:
    """Somebody who can make valid records replaces one."""
    trail, forger = make_trail(tmp_path / "trail"), make_trail(tmp_path / "forger")
    for number in range(3):
        trail.append(make_alert(f"text {number}"))
        forger.append(make_alert(f"text {number}" if number < 1 else "nothing happened"))
    (path,) = trail_files(tmp_path / "trail")
    path.write_bytes(b"".join([lines(tmp_path / "trail")[0], lines(tmp_path / "forger")[1], lines(path.parent)[2]]))
    assert "line 3 does not follow record 2" in str(prove_trail(path.parent).broken)


def test_cut_end_is_seen_by_whoever_kept_a_digest(tmp_path: Path) -> None:
    trail = make_trail(tmp_path)
    for number in range(3):
        trail.append(make_alert(f"{number}"))
    kept = prove_trail(tmp_path).last_digest
    trail.append(make_alert("later"))
    assert prove_trail(tmp_path, holds=kept).is_whole
    (path,) = trail_files(tmp_path)
    path.write_bytes(b"".join(lines(tmp_path)[:2]))
    assert prove_trail(tmp_path).is_whole
    assert kept in str(prove_trail(tmp_path, holds=kept).broken)


def test_each_day_has_a_file_and_the_chain_goes_through_them_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    for days in (0, 1, 0, 5):
        for _ in range(2):
            make_trail(tmp_path, NOON + timedelta(days=days)).append(make_alert())
    names = [path.name for path in trail_files(tmp_path)]
    assert names == [
        "000000000001.2025-01-14.jsonl",
        "000000000003.2025-01-15.jsonl",
        "000000000005.2025-01-14.jsonl",
        "000000000007.2025-01-19.jsonl",
    ]
    modes = [path.stat().st_mode & 0o777 for path in trail_files(tmp_path)]
    assert modes == [FINISHED_MODE, FINISHED_MODE, FINISHED_MODE, 0o600]
    assert prove_trail(tmp_path).is_whole
    tmp_path.joinpath(names[0]).unlink()
    moved = prove_trail(tmp_path)
    assert (moved.broken, moved.first, moved.last) == (None, 3, 8)
    assert prove_trail(tmp_path, newest_files=1).records == 2
    tmp_path.joinpath(names[2]).unlink()
    assert "is record 7 where 5 is expected" in str(prove_trail(tmp_path).broken)


def test_writer_of_yesterday_follows_to_the_file_of_today(tmp_path: Path) -> None:
    """A process that still has the finished file open adds nothing to it."""
    slow, quick = make_trail(tmp_path), make_trail(tmp_path, NOON + timedelta(days=1))
    slow.append(make_alert("slow"))
    quick.append(make_alert("quick"))
    slow.append(make_alert("slow again"))
    assert texts(tmp_path) == ["slow", "quick", "slow again"]
    assert prove_trail(tmp_path).is_whole


def test_unfinished_line_at_the_end_of_a_day_is_told_on_the_same_day_s_file(tmp_path: Path) -> None:
    make_trail(tmp_path).append(make_alert("one"))
    (path,) = trail_files(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"sequence":2')
    make_trail(tmp_path, NOON + timedelta(days=1)).append(make_alert("two"))
    assert [record.kind for record in read_records(tmp_path)] == [
        "instance-refused",
        "audit-damaged",
        "instance-refused",
    ]
    assert len(trail_files(tmp_path)) == 2
    assert prove_trail(tmp_path).is_whole


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for somebody else")
def test_file_that_root_begins_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    make_trail(tmp_path).append(make_alert())
    (path,) = trail_files(tmp_path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditUnwritable, match="file/audit"):
        make_trail(tmp_path / "file" / "audit").append(make_alert())


def test_trail_goes_on_in_a_folder_that_was_moved_away(tmp_path: Path) -> None:
    trail = make_trail(tmp_path / "audit")
    trail.append(make_alert("one"))
    (tmp_path / "audit").rename(tmp_path / "old")
    with pytest.raises(AuditUnwritable):
        trail.append(make_alert("lost"))
    trail.append(make_alert("two"))
    assert texts(tmp_path / "audit") == ["two"]
    assert texts(tmp_path / "old") == ["one"]
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700


def test_records_are_brought_to_the_disk_while_others_append(tmp_path: Path) -> None:
    trail = make_trail(tmp_path)
    trail.sync()
    trail.append(make_alert())
    trail.sync()
    trail.close()
    assert len(lines(tmp_path)) == 1
