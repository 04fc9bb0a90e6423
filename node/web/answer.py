"""The answer to a request that stores: what was stored, what was not, and why (PS3.18 10.5.3 and I)."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Protocol

from node.errors import Transient
from node.web.submission import Failed, Stored

REFERENCED_SOP_CLASS_UID = "00081150"
REFERENCED_SOP_INSTANCE_UID = "00081155"
RETRIEVE_URL = "00081190"
FAILURE_REASON = "00081197"
FAILED_SOP_SEQUENCE = "00081198"
REFERENCED_SOP_SEQUENCE = "00081199"
OTHER_FAILURES_SEQUENCE = "0008119A"

Item = dict[str, dict[str, Any]]


class Judged(Protocol):
    """A request of which all is decided."""

    @property
    def stored(self) -> Sequence[Stored]:
        """What is durable, in its order."""

    @property
    def failed(self) -> Sequence[Failed]:
        """What was not stored, in its order."""


def status_of(submission: Judged) -> int:
    """Return the HTTP status: 200 where all was stored, 202 where not all was.

    Where nothing was, it is what all failures have in common, such as 413 or 507, else 409.

    References
    ----------
    DICOM PS3.18 10.5.3.1
    """
    if submission.stored:
        return HTTPStatus.ACCEPTED if submission.failed else HTTPStatus.OK
    common = {failed.cause.http_status for failed in submission.failed}
    return common.pop() if len(common) == 1 else HTTPStatus.CONFLICT


def may_succeed_later(submission: Judged) -> bool:
    """Return whether the node asks to come again: some of what failed may succeed by itself."""
    return any(isinstance(failed.cause, Transient) for failed in submission.failed)


def response_module(submission: Judged, *, base_url: str) -> Item:
    """Return the Store Instances Response Module in the DICOM JSON Model.

    Parameters
    ----------
    base_url
        Of the DICOMweb services, without a slash at its end.

    References
    ----------
    DICOM PS3.18 I.2 and F.2
    """
    named = [failed for failed in submission.failed if failed.sop_class_uid and failed.sop_instance_uid]
    others = [failed for failed in submission.failed if not (failed.sop_class_uid and failed.sop_instance_uid)]
    module: Item = {RETRIEVE_URL: _study_url(submission.stored, base_url)}
    if named:
        module[FAILED_SOP_SEQUENCE] = _sequence([{**_reference(failed), **_reason(failed)} for failed in named])
    if submission.stored:
        stored = [{**_reference(entry), **_retrieve(entry, base_url)} for entry in submission.stored]
        module[REFERENCED_SOP_SEQUENCE] = _sequence(stored)
    if others:
        module[OTHER_FAILURES_SEQUENCE] = _sequence([_reason(failed) for failed in others])
    return module


def _study_url(stored: Sequence[Stored], base_url: str) -> dict[str, Any]:
    studies = {entry.facts.study_instance_uid for entry in stored if entry.facts is not None}
    # Type 2: of several Studies, or of none, there is no one URL.
    return _value("UR", f"{base_url}/studies/{studies.pop()}") if len(studies) == 1 else {"vr": "UR"}


def _reference(entry: Stored | Failed) -> Item:
    return {
        REFERENCED_SOP_CLASS_UID: _value("UI", entry.sop_class_uid),
        REFERENCED_SOP_INSTANCE_UID: _value("UI", entry.sop_instance_uid),
    }


def _retrieve(entry: Stored, base_url: str) -> Item:
    if entry.facts is None:
        return {}
    study, series, instance = entry.facts.place
    return {RETRIEVE_URL: _value("UR", f"{base_url}/studies/{study}/series/{series}/instances/{instance}")}


def _reason(failed: Failed) -> Item:
    return {FAILURE_REASON: _value("US", failed.cause.dimse_status)}


def _value(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def _sequence(items: Sequence[Item]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": list(items)}
