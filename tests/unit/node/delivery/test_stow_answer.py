"""A STOW-RS answer is read Instance by Instance; no word about one is no acknowledgment."""

import pytest
from pydicom.dataset import Dataset

from node.delivery.stow import judge_instance
from node.errors import DestinationDown, SettingsInvalid
from node.peers.dicomweb import DicomwebService
from node.peers.parcel import Fate
from node.peers.peer import DestinationSpec


def item(uid: str, **elements: int) -> Dataset:
    ds = Dataset()
    ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def answer(stored: list[Dataset], failed: list[Dataset]) -> Dataset:
    ds = Dataset()
    if stored:
        ds.ReferencedSOPSequence = stored
    if failed:
        ds.FailedSOPSequence = failed
    return ds


def test_each_instance_has_its_own_fate() -> None:
    found = answer(
        [item("1.1"), item("1.2", WarningReason=0xB000)],
        [
            item("1.3", FailureReason=0xA700),
            item("1.4", FailureReason=0x0122),
            item("1.5", FailureReason=0xC000),
            item("1.6", FailureReason=0xC122),
        ],
    )
    fates = [judge_instance(f"1.{number}", found, 202) for number in range(1, 7)]
    assert [(outcome.fate, outcome.code) for outcome in fates] == [
        (Fate.SENT, None),
        (Fate.SENT, "sent-with-warning"),
        (Fate.RETRY, "destination-busy"),
        (Fate.REFUSED, "sop-class-not-supported"),
        (Fate.RETRY, "destination-refused"),
        (Fate.REFUSED, "sop-class-not-supported"),
    ]


def test_instance_that_is_not_mentioned_was_not_acknowledged() -> None:
    assert judge_instance("1.9", answer([item("1.1")], []), 200).fate is Fate.RETRY
    assert judge_instance("1.9", Dataset(), 202).fate is Fate.RETRY


def test_plain_200_without_a_list_means_all_stored() -> None:
    assert judge_instance("1.9", Dataset(), 200).fate is Fate.SENT


def test_failure_without_reason_is_never_success() -> None:
    assert judge_instance("1.1", answer([], [item("1.1")]), 202).fate is Fate.RETRY
    assert judge_instance("1.1", answer([item("1.1")], [item("1.1", FailureReason=0xA700)]), 202).fate is Fate.RETRY


@pytest.mark.parametrize(
    "url", ["http://reader:s3cret@127.0.0.1:1/dicom-web", "ftp://reader:s3cret@127.0.0.1/dicom-web"]
)
def test_what_is_said_of_a_service_holds_no_password(url: str) -> None:
    spec = DestinationSpec(name="pacs", transport="stow", url=url, timeout_s=2.0)
    with pytest.raises((DestinationDown, SettingsInvalid)) as caught:
        DicomwebService(spec).probe()
    assert "127.0.0.1" in str(caught.value)
    assert "s3cret" not in str(caught.value)
