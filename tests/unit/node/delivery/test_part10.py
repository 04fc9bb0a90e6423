"""The data set of a file begins where File Meta Information ends, whatever its group length says."""

from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.delivery.part10 import read_file_head
from node.errors import NotDicom
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
    broken.write_bytes(content.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI"))
    with pytest.raises(NotDicom, match="TransferSyntaxUID"):
        read_file_head(broken)


def test_absent_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file_head(tmp_path / "absent.dcm")
