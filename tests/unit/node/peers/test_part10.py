"""The data set of a file begins where File Meta Information ends, whatever its group length says."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.errors import NotDicom
from node.peers.part10 import HEAD_BYTES, read_file_head
from tests.objects import CT, write_object


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_head_names_the_object_and_its_data_set(tmp_path: Path, syntax: str) -> None:
    path = write_object(tmp_path, "one", transfer_syntax_uid=syntax)  # type: ignore[arg-type]  # UID is a str
    head = read_file_head(path)
    content = path.read_bytes()
    group_length = int.from_bytes(content[140:144], "little")
    assert head.offset_bytes == 144 + group_length
    assert (head.sop_class_uid, head.transfer_syntax_uid) == (CT, syntax)
    assert head.size_bytes == len(content)


def test_wrong_group_length_does_not_move_the_data_set(tmp_path: Path) -> None:
    path = write_object(tmp_path, "one")
    expected = read_file_head(path).offset_bytes
    content = bytearray(path.read_bytes())
    content[140:144] = (7).to_bytes(4, "little")
    path.write_bytes(content)
    assert read_file_head(path).offset_bytes == expected


def test_what_is_no_complete_dicom_file_is_refused(tmp_path: Path) -> None:
    whole = write_object(tmp_path, "one")
    offset, content = read_file_head(whole).offset_bytes, whole.read_bytes()
    broken = tmp_path / "broken.dcm"
    for wrong in (b"", b"hello", content[:128] + b"XXXX" + content[132:], content[:140], content[: offset - 9]):
        broken.write_bytes(wrong)
        with pytest.raises(NotDicom):
            read_file_head(broken)
    broken.write_bytes(content[:offset])
    with pytest.raises(NotDicom, match="cut after"):
        read_file_head(broken)
    for number in (b"\x02", b"\x03", b"\x10"):
        broken.write_bytes(content.replace(b"\x02\x00" + number + b"\x00UI", b"\x02\x00\x11\x00UI"))
        with pytest.raises(NotDicom, match=rf"broken\.dcm.*\(0002,00{number.hex()}\)"):
            read_file_head(broken)


@pytest.mark.parametrize("length", [HEAD_BYTES - 500, HEAD_BYTES, 10 * HEAD_BYTES])
def test_long_private_information_is_passed_over(tmp_path: Path, length: int) -> None:
    path = write_object(tmp_path, "one")
    head, content = read_file_head(path), path.read_bytes()
    private = b"\x02\x00\x02\x01OB\0\0" + length.to_bytes(4, "little") + b"\x02" * length
    path.write_bytes(content[: head.offset_bytes] + private + content[head.offset_bytes :])
    longer = len(private)
    assert read_file_head(path) == replace(
        head, offset_bytes=head.offset_bytes + longer, size_bytes=head.size_bytes + longer
    )


def test_head_ends_where_the_first_bytes_that_are_read_end(tmp_path: Path) -> None:
    path = write_object(tmp_path, "one")
    head, content = read_file_head(path), path.read_bytes()
    for over in range(-3, 4):
        length = HEAD_BYTES - head.offset_bytes - 12 + over
        private = b"\x02\x00\x02\x01OB\0\0" + length.to_bytes(4, "little") + b"\0" * length
        path.write_bytes(content[: head.offset_bytes] + private + content[head.offset_bytes :])
        assert read_file_head(path).offset_bytes == HEAD_BYTES + over


def test_absent_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file_head(tmp_path / "absent.dcm")
