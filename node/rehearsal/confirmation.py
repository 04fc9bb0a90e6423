"""How a simulated PACS says what it holds: Storage Commitment, and C-FIND."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID
from pynetdicom import AE, build_role, evt

from node.peers.peer import Peer

SUCCESS = 0x0000
# Storage Commitment Push Model: its SOP Class and its one well-known SOP Instance (PS3.4 J.3).
STORAGE_COMMITMENT = UID("1.2.840.10008.1.20.1")
COMMITMENT_INSTANCE = UID("1.2.840.10008.1.20.1.1")
# Event Type IDs (PS3.4 table J.3-3), and the Failure Reason (0008,1197) of an Instance that is not there.
ALL_HELD, SOME_MISSING = 1, 2
NO_SUCH_INSTANCE = 0x0112
REPORT_LIMIT_S = 10.0
# Patient Root and Study Root Query/Retrieve Information Model - FIND.
FIND_SOP_CLASSES = (UID("1.2.840.10008.5.1.4.1.2.1.1"), UID("1.2.840.10008.5.1.4.1.2.2.1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One Instance that a PACS holds."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str

    @property
    def keys(self) -> dict[str, str]:
        """Return its unique keys, by the keyword of the element."""
        return {
            "StudyInstanceUID": self.study_instance_uid,
            "SeriesInstanceUID": self.series_instance_uid,
            "SOPInstanceUID": self.sop_instance_uid,
            "SOPClassUID": self.sop_class_uid,
        }


class Commitments:
    """Answers N-ACTION requests, and reports on an Association of its own.

    Parameters
    ----------
    aet
        Under which the PACS calls.
    node
        Who asked, and gets the report.
    held
        Returns what the PACS holds.

    References
    ----------
    DICOM PS3.4 J.3
    """

    def __init__(self, *, aet: str, node: Peer, held: Callable[[], Sequence[Holding]]) -> None:
        self._aet = aet
        self._node = node
        self._held = held
        self._reports: list[threading.Thread] = []
        self.requests = 0

    def answer(self, event: evt.Event) -> tuple[int, None]:
        """Take one request, and report on it soon."""
        self.requests += 1
        asked = event.action_information
        thread = threading.Thread(target=self._report, args=(asked,), name="storage-commitment", daemon=True)
        self._reports.append(thread)
        thread.start()
        return SUCCESS, None

    def finish(self) -> None:
        """Return when every report has left, or could not."""
        for thread in self._reports:
            thread.join()
        self._reports.clear()

    def _report(self, asked: Dataset) -> None:
        """Send one N-EVENT-REPORT; a node that takes none has been told nothing."""
        ae = AE(ae_title=self._aet)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = REPORT_LIMIT_S
        ae.add_requested_context(STORAGE_COMMITMENT)
        assoc = ae.associate(
            self._node.host,
            self._node.port,
            ae_title=self._node.aet,
            ext_neg=[build_role(STORAGE_COMMITMENT, scp_role=True)],
        )
        if not assoc.is_established:
            return
        if assoc.accepted_contexts:
            report = commitment_report(asked, {holding.sop_instance_uid for holding in self._held()})
            kind = SOME_MISSING if "FailedSOPSequence" in report else ALL_HELD
            assoc.send_n_event_report(report, kind, STORAGE_COMMITMENT, COMMITMENT_INSTANCE)
        assoc.release()


def commitment_report(asked: Dataset, held: set[str]) -> Dataset:
    """Return the Event Information that answers the Action Information of one request.

    References
    ----------
    DICOM PS3.4 table J.3-4
    """
    report = Dataset()
    report.TransactionUID = asked.TransactionUID
    there, missing = [], []
    for item in asked.ReferencedSOPSequence:
        answer = Dataset()
        answer.ReferencedSOPClassUID = item.ReferencedSOPClassUID
        answer.ReferencedSOPInstanceUID = item.ReferencedSOPInstanceUID
        if item.ReferencedSOPInstanceUID in held:
            there.append(answer)
        else:
            answer.FailureReason = NO_SUCH_INSTANCE
            missing.append(answer)
    if there:
        report.ReferencedSOPSequence = DicomSequence(there)
    if missing:
        report.FailedSOPSequence = DicomSequence(missing)
    return report


def find_matches(identifier: Dataset, held: Sequence[Holding]) -> Iterator[Dataset]:
    """Yield what is held that matches the unique keys of a query, on its level.

    References
    ----------
    DICOM PS3.4 C.4.1, C.6.1.1
    """
    level = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}.get(
        identifier.get("QueryRetrieveLevel", "IMAGE"), "SOPInstanceUID"
    )
    groups: dict[str, list[Holding]] = {}
    for holding in held:
        if all(_matches(identifier, keyword, value) for keyword, value in holding.keys.items()):
            groups.setdefault(holding.keys[level], []).append(holding)
    for group in groups.values():
        match = Dataset()
        match.QueryRetrieveLevel = identifier.get("QueryRetrieveLevel", "IMAGE")
        for keyword, value in group[0].keys.items():
            setattr(match, keyword, value)
            if keyword == level:
                break
        if level == "SOPInstanceUID":
            match.SOPClassUID = group[0].sop_class_uid
        elif level == "SeriesInstanceUID":
            match.NumberOfSeriesRelatedInstances = len(group)
        else:
            match.NumberOfStudyRelatedInstances = len(group)
        yield match


def _matches(identifier: Dataset, keyword: str, value: str) -> bool:
    """Return whether one key of a query allows a value; a list of UIDs allows each (PS3.4 C.2.2.2.2)."""
    asked = identifier.get(keyword)
    if not asked:
        return True
    return value in ([asked] if isinstance(asked, str) else list(asked))
