"""The folder store keeps whole files or none, inside its root."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread

import pytest

from node.errors import BadIdentifier, Misconfigured, StoreFull, Transient
from node.store.files import INCOMING, FileStore, Reserve
from node.store.paths import instance_path, result_path
from node.store.volume import volume_errors

NOTHING = Reserve(reserve_bytes=0, reserve_percent=0)
PATH = "instances/1.2/1.3/1.4.dcm"


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_content_is_there_and_nothing_else_is_left(tmp_path: Path) -> None:
    store = FileStore(tmp_path, NOTHING)
    assert store.add(PATH, (b"ab", b"cd"))
    assert store.read(PATH) == b"abcd"
    assert files_below(tmp_path) == [PATH]


def test_add_never_replaces(tmp_path: Path) -> None:
    store = FileStore(tmp_path, NOTHING)
    assert store.add(PATH, b"first")
    assert not store.add(PATH, b"second")
    assert store.read(PATH) == b"first"
    assert files_below(tmp_path) == [PATH]


def test_put_replaces_in_one_step(tmp_path: Path) -> None:
    store = FileStore(tmp_path, NOTHING)
    store.put(PATH, b"first")
    with store.path(PATH).open("rb") as reader:
        store.put(PATH, b"second")
        assert reader.read() == b"first"
    assert store.read(PATH) == b"second"


def test_of_many_writers_of_one_path_exactly_one_wins(tmp_path: Path) -> None:
    store = FileStore(tmp_path, NOTHING)
    start, won = Barrier(8), []

    def write(number: int) -> None:
        start.wait()
        if store.add(PATH, bytes([number]) * 100_000):
            won.append(number)

    threads = [Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read(PATH) == bytes(won) * 100_000


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".incoming/x", "a/b\0c", "a\\b", "a/b\n"]
)
def test_path_never_leaves_the_root(tmp_path: Path, path: str) -> None:
    store = FileStore(tmp_path / "store", NOTHING)
    for use in (store.path, store.read, store.delete, store.exists, lambda p: store.put(p, b"x")):
        with pytest.raises(BadIdentifier):
            use(path)
    assert files_below(tmp_path) == []


def test_instance_and_result_paths_refuse_what_is_no_uid() -> None:
    assert instance_path("1.2", "1.3", "1.4") == PATH
    assert instance_path("1.2", "1.3", "1.4", version_digest="ab" * 32) == f"instances/1.2/1.3/1.4.{'ab' * 8}.dcm"
    assert result_path("1.2", "1.3", "1.4", fence=2) == "results/1.2/1.3/1.4-2.dcm"
    with pytest.raises(BadIdentifier, match="SeriesInstanceUID"):
        result_path("1.2", "..", "1.4", fence=1)


def test_store_below_its_reserve_takes_nothing(tmp_path: Path) -> None:
    store = FileStore(tmp_path, Reserve(reserve_bytes=2**62, reserve_percent=100))
    with pytest.raises(StoreFull, match="reserve"):
        store.add(PATH, b"x")
    assert files_below(tmp_path) == []


def test_smaller_of_the_two_reserves_counts() -> None:
    assert Reserve(reserve_bytes=5, reserve_percent=10).of_volume(1000) == 5
    assert Reserve(reserve_bytes=500, reserve_percent=10).of_volume(1000) == 100


def test_content_larger_than_what_is_free_is_refused_before_it_is_written(tmp_path: Path) -> None:
    volume = os.statvfs(tmp_path)
    store = FileStore(tmp_path, NOTHING)
    with pytest.raises(StoreFull):
        store.check_space(volume.f_blocks * volume.f_frsize + 1)


def test_write_that_runs_into_the_size_limit_leaves_nothing_behind(tmp_path: Path) -> None:
    """A child process may write 1 KB only: the kernel fails the write half-way, as a broken volume would."""
    program = (
        "import resource, signal, sys; from pathlib import Path;"
        "from node.store.files import FileStore, Reserve; from node.errors import Transient\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
        "store = FileStore(Path(sys.argv[1]), Reserve(reserve_bytes=0, reserve_percent=0))\n"
        f"try: store.add({PATH!r}, b'x' * 4096)\n"
        "except Transient as exc: print(exc.code, exc.__cause__.errno)\n"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["transient", str(errno.EFBIG)]
    assert files_below(tmp_path) == []


def test_full_volume_is_store_full_and_leaves_nothing_behind() -> None:
    """``/dev/full`` answers every write with ENOSPC; here it stands for the volume."""
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 closed below; a write would raise again
    with pytest.raises(StoreFull) as caught, volume_errors(Path("/store")):
        full.write(b"x")
    full.close()
    assert isinstance(caught.value.__cause__, OSError)


def test_folder_that_cannot_be_made_is_a_matter_for_a_person(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((Misconfigured, Transient), match="store"):
        FileStore(tmp_path / "file" / "store", NOTHING)


def test_reading_what_is_not_there_names_the_store(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="ENOENT"):
        FileStore(tmp_path, NOTHING).read(PATH)


def test_sweep_removes_what_the_dead_left_and_spares_the_living(tmp_path: Path) -> None:
    store = FileStore(tmp_path, NOTHING)
    (tmp_path / INCOMING / "dead").write_bytes(b"half")
    with store._written(b"alive") as temporary:
        assert store.sweep() == 1
        assert temporary.read_bytes() == b"alive"
    assert files_below(tmp_path) == []


def test_listing_delete_and_set_aside(tmp_path: Path) -> None:
    store = FileStore(tmp_path, NOTHING)
    other = "instances/1.2/1.3/1.5.dcm"
    store.add(PATH, b"x")
    store.add(other, b"y")
    assert sorted(store.list_paths("instances")) == [PATH, other]
    store.delete(PATH)
    store.delete(PATH)
    store.set_aside(other)
    assert list(store.list_paths("instances")) == []
    assert files_below(tmp_path) == [f".set-aside/{other}"]
