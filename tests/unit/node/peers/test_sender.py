"""A peer is named plainly, and files are found where a person points."""

from pathlib import Path

import pytest

from node.errors import NotDicom, NotFound, SettingsInvalid
from node.peers.peer import Peer
from node.peers.sender import find_files, parse_peer
from tests.objects import write_object


def test_peer_is_read_from_text() -> None:
    assert parse_peer("PACS@192.0.2.7:104") == Peer(aet="PACS", host="192.0.2.7", port=104)
    assert parse_peer("MY PACS@[::1]:11112") == Peer(aet="MY PACS", host="::1", port=11112)


def test_we_may_call_under_another_title() -> None:
    assert parse_peer("PACS@192.0.2.7:104", calling_aet="MR ROOM 1 ").calling_aet == "MR ROOM 1"
    with pytest.raises(SettingsInvalid, match="16 ASCII characters"):
        parse_peer("PACS@192.0.2.7:104", calling_aet="A" * 17)


NO_AET = ("", "@host:104", "  @host:104", "PÄCS@host:104", "A\\B@host:104", "A" * 17 + "@h:1")
NO_PORT = ("PACS", "PACS@host", "PACS@host:", "PACS@host:0", "PACS@host:70000", "PACS@host:port")


@pytest.mark.parametrize("text", NO_AET + NO_PORT)
def test_peer_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="AET@HOST:PORT"):
        parse_peer(text)


def test_folder_is_searched_and_other_files_are_passed_over(tmp_path: Path) -> None:
    path = write_object(tmp_path / "a" / "b", "one")
    (tmp_path / "a" / "truth.json").write_text("{}")
    assert find_files([tmp_path]) == (path,)
    assert find_files([path, tmp_path]) == (path, path)


def test_file_that_is_named_is_returned_whatever_it_holds(tmp_path: Path) -> None:
    letter = tmp_path / "letter.dcm"
    letter.write_bytes(b"Dear colleague")
    assert find_files([letter]) == (letter,)


def test_folder_without_dicom_and_absent_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotDicom, match=str(tmp_path)):
        find_files([tmp_path])
    with pytest.raises(NotFound, match="absent"):
        find_files([tmp_path / "absent"])
