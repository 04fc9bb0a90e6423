"""A peer is named plainly, files are found, and no Instance is offered without its context."""

from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from node.errors import NotDicom, SettingsInvalid
from node.rehearsal.headers import write_datasets
from node.rehearsal.modality import (
    MAX_CONTEXTS,
    Outgoing,
    Peer,
    batches,
    describe_source,
    failure_of,
    find_files,
    parse_peer,
)
from tests.phantoms import small_chest_xray


def test_peer_is_read_from_text() -> None:
    assert parse_peer("PACS@192.0.2.7:104") == Peer(aet="PACS", host="192.0.2.7", port=104)
    assert parse_peer("MY PACS@[::1]:11112") == Peer(aet="MY PACS", host="::1", port=11112)


@pytest.mark.parametrize(
    "text", ["", "PACS", "PACS@host", "@host:104", "PACS@host:0", "PACS@host:70000", "A" * 17 + "@h:1"]
)
def test_peer_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="AET@HOST:PORT"):
        parse_peer(text)


def test_folder_is_searched_and_other_files_are_passed_over(tmp_path: Path) -> None:
    (path,) = write_datasets([small_chest_xray(with_opacity=False).dataset], tmp_path / "a" / "b")
    (tmp_path / "a" / "truth.json").write_text("{}")
    assert find_files([tmp_path]) == (path,)
    assert find_files([path, tmp_path]) == (path, path)


def test_folder_without_dicom_and_absent_path_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NotDicom, match=str(path)):
            find_files([path])


def test_file_without_meta_information_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letter.dcm"
    path.write_bytes(b"Dear colleague, " * 40)
    with pytest.raises(NotDicom, match=r"letter\.dcm"):
        describe_source(path)


def test_no_association_needs_more_than_128_contexts() -> None:
    instances = [
        (
            i,
            Outgoing(
                source=Path("x"),
                sop_class_uid=f"1.2.{i % 300}",
                sop_instance_uid=generate_uid(),
                transfer_syntax_uid="1.2",
            ),
        )
        for i in range(600)
    ]
    shares = list(batches(instances))
    assert [index for share in shares for index, _ in share] == list(range(600))
    assert all(len({i.context for _, i in share}) <= MAX_CONTEXTS for share in shares)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (0x0000, None),
        (0xB000, None),
        (0xB007, None),
        (0xA700, "destination-busy"),
        (0xA900, "destination-refused"),
        (0xC000, "destination-refused"),
        (0x0122, "destination-refused"),
        (None, "destination-down"),
    ],
)
def test_status_says_what_to_do_next(status: int | None, code: str | None) -> None:
    assert failure_of(status) == code
