"""A folder holds whole objects under their names, or nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from node.delivery.transport import open_transport
from node.errors import DestinationDown
from node.peers.parcel import Fate, Outcome, Parcel
from node.peers.peer import DestinationSpec
from tests.objects import SEG, parcel_of, write_object


def send(root: Path, *parcels: Parcel) -> list[Outcome]:
    outcomes: list[Outcome] = []
    transport = open_transport(DestinationSpec(name="out", transport="folder", url=str(root)))
    transport.send(parcels, lambda _, outcome: outcomes.append(outcome))
    return outcomes


def test_object_lies_under_its_uids_with_its_bytes(tmp_path: Path) -> None:
    paths = [write_object(tmp_path / "in", "a", patient_name="Żółć^Zażółć=漢字"), write_object(tmp_path / "in", "b")]
    assert send(tmp_path / "out", *map(parcel_of, paths)) == [Outcome.sent(), Outcome.sent()]
    for path in paths:
        ds = dcmread(path)
        copy = tmp_path / "out" / ds.StudyInstanceUID / ds.SeriesInstanceUID / f"{ds.SOPInstanceUID}.dcm"
        assert copy.read_bytes() == path.read_bytes()
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 2


def test_object_that_comes_again_replaces_the_first(tmp_path: Path) -> None:
    path = write_object(tmp_path / "in", "a", sop_class_uid=SEG)
    assert send(tmp_path / "out", parcel_of(path), parcel_of(path)) == [Outcome.sent(), Outcome.sent()]
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 1


def test_folder_that_cannot_be_written_is_down_and_keeps_no_half_object(tmp_path: Path) -> None:
    path = write_object(tmp_path / "in", "a")
    (tmp_path / "out").write_text("a file is in the way")
    with pytest.raises(DestinationDown, match="cannot be written"):
        send(tmp_path / "out", parcel_of(path))


def test_hostile_uid_leads_nowhere(tmp_path: Path) -> None:
    path = write_object(tmp_path / "in", "a")
    parcel = parcel_of(path)
    ds = dcmread(path)
    series = str(ds.SeriesInstanceUID).encode()
    hostile = b"../" * (len(series) // 3) + b"." * (len(series) % 3)
    path.write_bytes(path.read_bytes().replace(series, hostile))
    (outcome,) = send(tmp_path / "out", parcel)
    assert (outcome.fate, outcome.code) == (Fate.REFUSED, "bad-identifier")
    assert not (tmp_path / "out").exists()


def test_wrong_file_is_refused_and_an_absent_one_is_tried_again(tmp_path: Path) -> None:
    parcel = parcel_of(write_object(tmp_path / "in", "a"))
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM")
    other = write_object(tmp_path / "in", "b")
    outcomes = send(
        tmp_path / "out",
        replace(parcel, path=text),
        replace(parcel, path=other),
        replace(parcel, path=tmp_path / "absent.dcm"),
    )
    assert [(outcome.fate, outcome.code) for outcome in outcomes] == [
        (Fate.REFUSED, "not-dicom"),
        (Fate.REFUSED, "uid-mismatch"),
        (Fate.RETRY, "file-unreadable"),
    ]
