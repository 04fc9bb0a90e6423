"""STOW-RS transport (PS3.18 10.5): Part 10 files as they are, in one request, each with its own answer."""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus

import requests
from pydicom.dataset import Dataset

from node.errors import (
    DestinationBusy,
    DestinationRefused,
    SopClassNotSupported,
)
from node.peers.dicomweb import DOWN, MISCONFIGURED, DicomwebService, FileClient
from node.peers.parcel import Outcome, Parcel, Report
from node.peers.peer import DestinationSpec
from node.peers.status import DOUBTFUL_TRIES, SUCCESS, UNPROCESSED_TRIES, judge_status

# Objects are gathered into requests of about this size; they are in memory while they are sent.
REQUEST_BYTES = 32 * 1024 * 1024
# The object itself is at fault.
REFUSED: Mapping[int, tuple[type[DestinationRefused], str]] = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (DestinationRefused, "takes no object of this size"),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (SopClassNotSupported, "does not take this SOP Class or Transfer Syntax"),
}
# Failure Reason (0008,1197) of STOW-RS alone, PS3.18 table I.2-2; for C-STORE it is one of "cannot understand".
TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122


class StowTransport:
    """Objects leave by STOW-RS."""

    def __init__(self, spec: DestinationSpec) -> None:
        self._service = DicomwebService(spec)
        self._name = spec.name

    def send(self, parcels: Sequence[Parcel], report: Report) -> None:
        """Send the objects of one Study and report each one; see `Transport.send`."""
        with self._service.client() as client:
            for batch in _batches(parcels, report):
                self._send_batch(client, batch, report)

    def _send_batch(self, client: FileClient, batch: Sequence[tuple[Parcel, bytes]], report: Report) -> None:
        """Send one request; one that failed as a whole is taken apart, so that one object cannot doom the others."""
        contents = [content for _, content in batch]
        response = self._service.ask(lambda: client.store_files(contents))
        answer = read_answer(response)
        if response.ok or mentions_instances(answer):
            for parcel, _ in batch:
                report(parcel, judge_instance(parcel.sop_instance_uid, answer, response.status_code))
        elif len(batch) > 1 and response.status_code not in MISCONFIGURED and response.status_code not in DOWN:
            for single in batch:
                self._send_batch(client, [single], report)
        else:
            outcome = self._judge_http(response.status_code)
            for parcel, _ in batch:
                report(parcel, outcome)

    def _judge_http(self, status: int) -> Outcome:
        """Return what follows for an object that was sent alone, or raise what concerns the whole Destination."""
        self._service.check_whole(status)
        if status in REFUSED:
            kind, words = REFUSED[status]
            return Outcome.refused(kind(f"destination {self._name} {words} (HTTP {status})"))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            failed = DestinationRefused(f"destination {self._name} failed to process the object (HTTP {status})")
            return Outcome.retry(failed, tries=UNPROCESSED_TRIES)
        error = DestinationRefused(f"destination {self._name} did not take the object (HTTP {status})")
        return Outcome.retry(error, tries=DOUBTFUL_TRIES)


def read_answer(response: requests.Response) -> Dataset:
    """Return the Store Instances Response (PS3.18 10.5.3), empty where the server gave none that can be read."""
    if "json" not in response.headers.get("Content-Type", ""):
        return Dataset()
    try:
        answer = response.json()
        return Dataset.from_json(answer[0] if isinstance(answer, list) else answer)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return Dataset()


def mentions_instances(answer: Dataset) -> bool:
    """Return whether `answer` says something about single Instances."""
    return bool(answer.get("ReferencedSOPSequence") or answer.get("FailedSOPSequence"))


def judge_instance(sop_instance_uid: str, answer: Dataset, http_status: int) -> Outcome:
    """Return what a server said about one Instance.

    Parameters
    ----------
    answer
        Store Instances Response Module.
    http_status
        Status of the response: 200 all stored, 202 some with failures or warnings, 409 none.

    References
    ----------
    DICOM PS3.18 10.5.3, PS3.3 C.34
    """
    for failed in answer.get("FailedSOPSequence") or ():
        if failed.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            return _judge_failure(int(failed.get("FailureReason") or 0))
    for stored in answer.get("ReferencedSOPSequence") or ():
        if stored.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            warning = stored.get("WarningReason")
            return Outcome.sent() if warning is None else judge_status(int(warning))
    if http_status == HTTPStatus.OK and not mentions_instances(answer):
        return Outcome.sent()
    # No word is no acknowledgment, as with a missing Status.
    return Outcome.retry(DestinationBusy(f"not mentioned in the answer (HTTP {http_status})"))


def _judge_failure(reason: int) -> Outcome:
    """Return what follows from a Failure Reason (0008,1197)."""
    if reason == SUCCESS:
        return Outcome.retry(DestinationBusy("listed as failed, without a reason"), tries=DOUBTFUL_TRIES)
    if reason == TRANSFER_SYNTAX_NOT_SUPPORTED:
        return Outcome.refused(SopClassNotSupported(f"failure reason {reason:04X}H: Transfer Syntax not supported"))
    return judge_status(reason)


def _batches(parcels: Sequence[Parcel], report: Report) -> Iterator[list[tuple[Parcel, bytes]]]:
    """Yield the objects with their bytes, gathered to requests; those that cannot be read are reported at once."""
    batch: list[tuple[Parcel, bytes]] = []
    gathered = 0
    for parcel in parcels:
        try:
            content = parcel.path.read_bytes()
        except OSError as exc:
            report(parcel, Outcome.unreadable(parcel.sop_instance_uid, exc))
            continue
        if not parcel.is_whole(len(content)):
            report(parcel, Outcome.cut(parcel.sop_instance_uid))
            continue
        if batch and gathered + len(content) > REQUEST_BYTES:
            yield batch
            batch, gathered = [], 0
        batch.append((parcel, content))
        gathered += len(content)
    if batch:
        yield batch
