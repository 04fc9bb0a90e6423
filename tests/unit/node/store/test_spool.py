"""What is received in pieces becomes a whole file or none, whatever the durability."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread
from time import sleep

import pytest

from node.domain.durability import Durability
from node.errors import Transient
from node.store.durability import GroupCommit
from node.store.files import INCOMING, FileStore, Reserve
from node.store.spool import FileSpool, Surroundings

NOTHING = Reserve(reserve_bytes=0, reserve_percent=0)
PATH = "instances/1.2/1.3/1.4.dcm"


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("durability", list(Durability))
def test_pieces_become_one_file_under_its_name_and_nothing_else_is_left(tmp_path: Path, durability: Durability) -> None:
    store = FileStore(tmp_path, NOTHING, durability)
    spool = store.spool()
    spool.write((b"ab", memoryview(b"cd")))
    spool.write((b"ef",))
    with spool.view() as content:
        assert (content[:], spool.size_bytes) == (b"abcdef", 6)
    assert spool.keep(PATH)
    spool.discard()
    assert store.read(PATH) == b"abcdef"
    assert files_below(tmp_path) == [PATH]


def test_name_that_is_taken_is_not_replaced_and_another_can_be_tried(tmp_path: Path) -> None:
    store = FileStore(tmp_path, NOTHING)
    store.add(PATH, b"first")
    spool = store.spool()
    spool.write((b"second",))
    assert not spool.keep(PATH)
    assert spool.keep(PATH + ".2")
    assert (store.read(PATH), store.read(PATH + ".2")) == (b"first", b"second")


def test_discarded_spool_leaves_nothing(tmp_path: Path) -> None:
    spool = FileStore(tmp_path, NOTHING).spool()
    spool.write((b"half",))
    spool.discard()
    spool.discard()
    assert files_below(tmp_path) == []


def test_bytes_that_cannot_be_made_durable_are_never_named(tmp_path: Path) -> None:
    def fail(descriptor: int) -> None:
        asked.append(descriptor)
        raise OSError(5, "Input/output error")

    asked: list[int] = []
    around = Surroundings(
        root=tmp_path, locate=lambda path: f"{tmp_path}/{path}", sync=fail, check_space=lambda size_bytes: None
    )
    spool = FileSpool(f"{tmp_path}/temporary", around)
    spool.write((b"lost",))
    for _ in range(2):
        with pytest.raises(Transient, match="EIO"):
            spool.keep(PATH)
    assert len(asked) == 1
    assert not (tmp_path / PATH).exists()
    spool.discard()
    assert files_below(tmp_path) == []


def test_leftovers_of_the_dead_are_found_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    store = FileStore(tmp_path, NOTHING)
    program = (
        "import os, sys; from pathlib import Path; from node.store.files import FileStore, Reserve\n"
        "spool = FileStore(Path(sys.argv[1]), Reserve(reserve_bytes=0, reserve_percent=0)).spool()\n"
        "spool.write((b'whole',)); os._exit(9)\n"
    )
    root = Path(__file__).parents[4]
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=root, check=False)
    living = store.spool()
    (tmp_path / INCOMING / "a-result").write_bytes(b"no instance")
    (dead,) = store.leftovers()
    with dead.view() as content:
        assert content[:] == b"whole"
    assert dead.keep(PATH)
    assert store.sweep() == 1
    living.write((b"goes on",))
    assert living.keep(PATH + ".2")


def test_group_commit_serves_everybody_who_waits(tmp_path: Path) -> None:
    group, start, served = GroupCommit(tmp_path), Barrier(8), []

    def run(number: int) -> None:
        path = tmp_path / str(number)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
        start.wait()
        for _ in range(5):
            os.write(descriptor, b"x")
            group.wait(descriptor)
            sleep(0)
        os.close(descriptor)
        served.append(number)

    threads = [Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(served) == list(range(8))
