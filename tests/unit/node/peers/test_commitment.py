"""Event Information of Storage Commitment: what is read of it, and that damage is told from an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.sequence import Sequence

from node.domain.confirmation import Unproven
from node.errors import Rejected
from node.peers.commitment import action_information, read_report
from node.peers.data_set import encode_data_set as encode

TRANSACTION = "2.25.7"


def item(uid: str, reason: int | None = None) -> Dataset:
    ds = Dataset()
    ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
    if reason is not None:
        ds.FailureReason = reason
    return ds


def event(*, held: tuple[str, ...] = (), failed: tuple[tuple[str, int | None], ...] = ()) -> Dataset:
    ds = Dataset()
    ds.TransactionUID = TRANSACTION
    if held:
        ds.ReferencedSOPSequence = Sequence([item(uid) for uid in held])
    if failed:
        ds.FailedSOPSequence = Sequence([item(uid, reason) for uid, reason in failed])
    return ds


WHOLE = encode(event(held=("1.2.1", "1.2.2"), failed=(("1.2.3", 0x0112),)))


def test_both_lists_are_read() -> None:
    report = read_report(WHOLE)
    assert (report.transaction_uid, sorted(report.held)) == (TRANSACTION, ["1.2.1", "1.2.2"])
    assert dict(report.failed) == {"1.2.3": 0x0112}


def in_lists_of_undefined_length(ds: Dataset) -> Dataset:
    for keyword in ("ReferencedSOPSequence", "FailedSOPSequence"):
        ds[keyword].is_undefined_length = True
        for one in ds[keyword].value:
            one.is_undefined_length_sequence_item = True
    return ds


def test_lists_of_undefined_length_are_read_too() -> None:
    ds = in_lists_of_undefined_length(event(held=("1.2.1", "1.2.2"), failed=(("1.2.3", 0x0112),)))
    encoded = encode(ds)
    assert len(encoded) > len(WHOLE)
    assert read_report(encoded) == read_report(WHOLE)


def test_what_is_in_both_lists_is_not_held() -> None:
    report = read_report(encode(event(held=("1.2.1",), failed=(("1.2.1", 0x0110),))))
    assert (report.held, dict(report.failed)) == (frozenset(), {"1.2.1": 0x0110})


def test_a_failure_without_a_reason_leaves_it_open() -> None:
    assert dict(read_report(encode(event(failed=(("1.2.1", None),)))).failed) == {"1.2.1": 0x0110}


@pytest.mark.parametrize("encoded", [b"", encode(item("1.2.3")), b"\xff" * 40])
def test_what_is_no_report_is_refused(encoded: bytes) -> None:
    with pytest.raises(Rejected):
        read_report(encoded)


@given(st.integers(1, len(WHOLE) - 1))
def test_a_report_that_is_cut_is_refused_or_says_less_of_no_object(length: int) -> None:
    try:
        report = read_report(WHOLE[:length])
    except Rejected:
        return
    # Cut between two elements: a list is there as a whole, or not at all.
    assert report.held in (frozenset(), {"1.2.1", "1.2.2"})


@given(st.data())
def test_any_bytes_are_read_or_refused(data: st.DataObject) -> None:
    changed = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(WHOLE) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_report(bytes(changed), is_implicit=data.draw(st.booleans()))
    except Rejected:
        return


def test_a_request_names_transaction_and_objects() -> None:
    one = Unproven(
        delivery_id=1,
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid="1.2.3.4",
        transaction_uid=None,
        asks=0,
        misses=0,
    )
    ds = action_information(TRANSACTION, [one])
    (reference,) = ds.ReferencedSOPSequence
    assert (ds.TransactionUID, reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (
        TRANSACTION,
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.3.4",
    )
