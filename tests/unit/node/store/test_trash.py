"""The trash of a store: in one step, for good only when it is emptied, and the same however often it is asked."""

import os
from pathlib import Path

import pytest

from node.store.trash import Trash

FOLDER = "instances/1.2"
FILES = (f"{FOLDER}/1.3/a.dcm", f"{FOLDER}/1.3/b.dcm")


@pytest.fixture
def trash(tmp_path: Path) -> Trash:
    for number, name in enumerate(FILES):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, (1000 - number, 1000 - number))
    return Trash(tmp_path)


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_what_is_thrown_twice_is_thrown_once(trash: Trash, tmp_path: Path) -> None:
    trash.throw("one", FOLDER)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "new.dcm").touch()
    trash.throw("one", FOLDER)
    assert files(tmp_path) == {f".trash/one/{name}" for name in FILES} | {f"{FOLDER}/new.dcm"}
    assert trash.batches() == ("one",)


def test_what_is_not_there_is_thrown_without_a_word(trash: Trash, tmp_path: Path) -> None:
    trash.throw("one", "instances/9.9")
    assert files(tmp_path) == set(FILES)
    assert trash.youngest_at("one", "instances/9.9") is None
    trash.empty("one")
    trash.empty("one")
    assert trash.batches() == ()


def test_what_comes_back_replaces_nothing(trash: Trash, tmp_path: Path) -> None:
    trash.throw("one", FOLDER)
    assert trash.youngest_at("one", FOLDER) == 1000
    assert trash.written_at(FOLDER) is None
    newer = tmp_path / FILES[0]
    newer.parent.mkdir(parents=True)
    newer.write_text("newer")
    for _ in range(2):
        assert trash.restore("one") == tuple(reversed(FILES))
    trash.empty("one")
    assert {(tmp_path / name).read_text() for name in FILES} == {"newer", FILES[1]}
    assert files(tmp_path) == set(FILES)
