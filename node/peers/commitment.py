"""Storage Commitment Push Model as its SCU: what is asked by N-ACTION, and what an N-EVENT-REPORT says (PS3.4 J)."""

from collections.abc import Iterable, Mapping

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from node.domain.confirmation import CommitmentReport, Unproven
from node.domain.uids import check_uid
from node.errors import DestinationDown
from node.peers.command import N_ACTION_RSP, encode_action_command
from node.peers.data_set import MessageReader, as_text
from node.peers.dialog import COMMITMENT_INSTANCE, STORAGE_COMMITMENT, Dialog

REQUEST_COMMITMENT = 1
PROCESSING_FAILURE = 0x0110
TRANSACTION_UID, FAILED_SEQUENCE, REFERENCED_SEQUENCE = 0x00081195, 0x00081198, 0x00081199
REFERENCED_INSTANCE, FAILURE_REASON = 0x00081155, 0x00081197
REASON_BYTES = 2


def request_commitment(dialog: Dialog, transaction_uid: str, objects: Iterable[Unproven]) -> int:
    """Return the Status (0000,0900) with which a request to answer for these objects was taken; its report comes later.

    Raises
    ------
    DestinationDown
        If the Association is lost, or there is no response.

    References
    ----------
    DICOM PS3.4 J.3.2
    """
    command = encode_action_command(
        message_id=dialog.next_message_id(),
        sop_class_uid=STORAGE_COMMITMENT,
        sop_instance_uid=COMMITMENT_INSTANCE,
        action_type=REQUEST_COMMITMENT,
    )
    dialog.request(STORAGE_COMMITMENT, command, action_information(transaction_uid, objects))
    response = dialog.response().command
    if response.command_field != N_ACTION_RSP or response.status is None:
        raise DestinationDown("an N-ACTION was answered by another message, or without Status (0000,0900)")
    return response.status


def action_information(transaction_uid: str, objects: Iterable[Unproven]) -> Dataset:
    """Return the Action Information of a request.

    References
    ----------
    DICOM PS3.4 table J.3-2
    """
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = DicomSequence(map(_reference, objects))
    return ds


def read_report(encoded: bytes, *, is_implicit: bool = True) -> CommitmentReport:
    """Return what the Event Information of an N-EVENT-REPORT says.

    Parameters
    ----------
    encoded
        In Little Endian.

    Raises
    ------
    NotDicom
        If it is cut or damaged.
    BadIdentifier
        If it names no transaction.

    References
    ----------
    DICOM PS3.4 table J.3-4
    """
    reader = MessageReader(encoded, is_implicit=is_implicit)
    found = reader.elements(TRANSACTION_UID, FAILED_SEQUENCE, REFERENCED_SEQUENCE)
    failed = {_object_of(item): _reason_of(item) for item in reader.items(found.get(FAILED_SEQUENCE))}
    held = {_object_of(item) for item in reader.items(found.get(REFERENCED_SEQUENCE))}
    transaction_uid = check_uid(reader.text(found.get(TRANSACTION_UID)), keyword="TransactionUID")
    # Who is named in both lists is not held for sure.
    return CommitmentReport(transaction_uid=transaction_uid, held=frozenset(held - failed.keys()), failed=failed)


def _object_of(item: Mapping[int, bytes]) -> str:
    return as_text(item.get(REFERENCED_INSTANCE, b""))


def _reason_of(item: Mapping[int, bytes]) -> int:
    value = item.get(FAILURE_REASON, b"")
    return int.from_bytes(value, "little") if len(value) == REASON_BYTES else PROCESSING_FAILURE


def _reference(one: Unproven) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = one.sop_class_uid
    item.ReferencedSOPInstanceUID = one.sop_instance_uid
    return item
