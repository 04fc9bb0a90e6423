"""What a benchmark counts: processes below processes, the slowest of a hundred, data sets to the last byte."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.benchmark.footprint import measure_memory
from node.benchmark.large_sender import MEBIBYTE, PATTERN, encode_header, is_kept
from node.benchmark.load import Load, Sent, parse_load
from node.benchmark.receive import usual_names
from node.benchmark.receivers import receivers
from node.benchmark.report import Target, describe_targets, quantile
from node.benchmark.surroundings import file_system
from node.benchmark.usage import MemoryWatch, cpu_s, memory_bytes
from node.errors import SettingsInvalid, StoreFull
from node.header.part10 import read_part10
from tests.peers import wait_until

# A parent with a child, each of which holds so much; the child has let a grandchild work and waited for its end.
HELD_BYTES = 30_000_000
BUSY = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
CHILD = f"""
import subprocess, sys
held = bytearray(b"x" * {HELD_BYTES})
subprocess.run([sys.executable, "-c", {BUSY!r}], check=True)
print("ready", flush=True)
sys.stdin.readline()
"""
PARENT = f"""
import subprocess, sys
held = bytearray(b"x" * {HELD_BYTES})
subprocess.run([sys.executable, "-c", {CHILD!r}], check=True)
"""
# Goes one step further for every line that it reads, and says where it is.
TAKES_AND_GIVES_BACK = f"""
import sys
sys.stdin.readline()
print("light", flush=True)
sys.stdin.readline()
held = bytearray(b"x" * {HELD_BYTES})
print("heavy", flush=True)
sys.stdin.readline()
del held
print("light again", flush=True)
sys.stdin.readline()
"""


@contextmanager
def family() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        yield parent
        parent.stdin.write("\n")


def test_processor_time_and_memory_are_those_of_a_process_and_of_all_below_it() -> None:
    with family() as parent:
        # The grandchild has ended: its time is in that of its parent's children.
        assert cpu_s(parent.pid) >= 0.2
        assert memory_bytes(parent.pid) >= 2 * HELD_BYTES
        # Python and its libraries are shared, and count once.
        assert memory_bytes(parent.pid) < 2 * HELD_BYTES + 40_000_000
    assert (cpu_s(parent.pid), memory_bytes(parent.pid)) == (0.0, 0)


def test_a_watch_sees_memory_that_was_given_back() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TAKES_AND_GIVES_BACK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert next_word(program) == "light"
        with MemoryWatch(program.pid, sample_s=0.005) as watch:
            assert next_word(program) == "heavy"
            wait_until(lambda: watch.peak_bytes >= watch.begin_bytes + HELD_BYTES, what="a look at the peak")
            assert next_word(program) == "light again"
            assert memory_bytes(program.pid) < watch.begin_bytes + HELD_BYTES
        assert watch.peak_bytes >= watch.begin_bytes + HELD_BYTES


def next_word(program: subprocess.Popen[str]) -> str:
    """Let a program go on, and return the line that it prints when it has."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write("\n")
    program.stdin.flush()
    return program.stdout.readline().strip()


@pytest.mark.parametrize(("share", "found"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0)])
def test_a_quantile_is_a_value_that_was_measured(share: float, found: float) -> None:
    assert quantile([float(number) for number in range(1, 101)], share) == found
    assert quantile([7.0], share) == 7.0


def test_a_target_says_whether_it_holds() -> None:
    targets = [Target(what="rate", at_least=1.5, measured=1.42), Target(what="memory", at_most=68, measured=68.0)]
    assert describe_targets(targets).splitlines() == [
        "| target | promised | measured | held |",
        "| --- | --- | --- | --- |",
        "| rate | ≥ 1.5 | 1.42 | NO |",
        "| memory | ≤ 68 | 68 | yes |",
    ]


def test_a_load_is_written_as_instances_and_kilobytes() -> None:
    assert parse_load(" 2000x30 ") == Load(instances=2000, kilobytes=30)
    assert str(parse_load("300x525")) == "300x525"


@pytest.mark.parametrize("text", ["300", "0x525", "3x0", "x", "3x-5", "3x99999999999", "3.5x30"])
def test_what_is_no_load_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="300x525"):
        parse_load(text)


@pytest.mark.parametrize("kilobytes", [30, 525])
def test_the_files_of_a_load_are_as_large_as_they_say(tmp_path: Path, kilobytes: int) -> None:
    sent = Sent(tmp_path, Load(instances=2, kilobytes=kilobytes))
    assert sent.size_bytes(2) == pytest.approx(2 * kilobytes * 1000, rel=0.01)


def test_only_whole_and_equal_data_sets_count_as_kept(tmp_path: Path) -> None:
    sent = Sent(tmp_path / "sent", Load(instances=3, kilobytes=5))
    one, other, third = (file.read_bytes() for file in sent.files)
    offset = read_part10(one).data_set_offset
    received = {
        # The same behind another preamble, twice, and beside it a database.
        "same": b"\1" * 128 + one[128:],
        "again": one,
        "index": b"SQLite format 3",
        "cut": other[:-1],
        "changed": third[:-1] + bytes((third[-1] ^ 1,)),
    }
    for name, content in received.items():
        (tmp_path / name).write_bytes(content)
    assert offset > 128
    assert sent.count_kept((tmp_path / name for name in received), 3) == 1
    assert sent.count_kept(sent.files, 3) == 3
    assert sent.count_kept(sent.files, 2) == 2


def test_a_large_instance_is_kept_when_every_byte_is(tmp_path: Path) -> None:
    header = encode_header(7, 1)
    meta = Sent(tmp_path / "sent", Load(instances=1, kilobytes=5)).files[0].read_bytes()
    meta = meta[: read_part10(meta).data_set_offset]
    pixels = PATTERN * (MEBIBYTE // len(PATTERN))
    file = tmp_path / "received"
    file.write_bytes(meta + header + pixels)
    assert len(pixels) == MEBIBYTE
    assert is_kept(file, 7, 1)
    assert not is_kept(file, 6, 1)
    file.write_bytes(meta + header + pixels[:-1])
    assert not is_kept(file, 7, 1)
    file.write_bytes(meta + header + pixels + b"\0")
    assert not is_kept(file, 7, 1)


def test_a_disk_without_room_is_told_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(StoreFull, match="--folder"):
        measure_memory(names=["radnode none"], instances=10**6, mebibytes=1024, folder=tmp_path, note=pytest.fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("associations", [1, 4])
def test_every_base_of_a_target_is_measured(associations: int) -> None:
    names = usual_names(associations)
    assert set(names) <= set(receivers())
    bases = {"Orthanc tuned", "pynetdicom raw", "storescp fork" if associations > 1 else "storescp tuned"}
    assert bases <= set(names)
    assert {"radnode fsync", "radnode none"} <= set(names)


def test_a_node_is_measured_with_its_own_settings_unless_it_could_not_hold_so_many(tmp_path: Path) -> None:
    def settings(associations: int) -> str:
        receivers(associations=associations)["radnode group"].command(11112, tmp_path)
        return (tmp_path / "settings.toml").read_text()

    assert "max_" not in settings(4)
    assert 'durability = "group"' in settings(4)
    assert "max_associations_per_peer = 100" in settings(100)


def test_the_file_system_is_that_of_the_nearest_mount() -> None:
    assert file_system(Path("/proc/self")) == "proc"
