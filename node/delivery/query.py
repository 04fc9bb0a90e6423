"""Which objects of a Series a C-STORE peer holds, asked by C-FIND (PS3.4 C.4.1)."""

from collections.abc import Iterator
from time import monotonic

from pydicom import Dataset

from node.delivery.command import C_FIND_RSP, encode_find_command
from node.delivery.data_set import MessageReader
from node.delivery.dialog import SUCCESS, Dialog
from node.errors import DestinationBusy, DestinationDown, NotDicom

# Study Root Query/Retrieve Information Model - FIND.
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
SOP_INSTANCE_UID, SERIES_RELATED_INSTANCES = 0x00080018, 0x00201209
# Status of a response that brings a match; the second: optional keys were passed over (PS3.4 C.4.1.1.4).
PENDING = frozenset({0xFF00, 0xFF01})
# More would be no Series.
MAX_MATCHES = 100_000
# All matches together may take so many times as long as one response.
MAX_TIMEOUTS = 4


def find_instances(dialog: Dialog, study_instance_uid: str, series_instance_uid: str) -> frozenset[str]:
    """Return the SOP Instance UID of every Instance of a Series that the peer holds.

    Raises
    ------
    DestinationBusy
        If the peer does not answer the query: it failed, or this level is not supported.
    DestinationDown
        If the Association is lost.

    References
    ----------
    DICOM PS3.4 C.6.2.1
    """
    identifier = _identifier("IMAGE", study_instance_uid, series_instance_uid)
    identifier.SOPInstanceUID = ""
    return frozenset(_find(dialog, identifier, SOP_INSTANCE_UID)) - {""}


def count_instances(dialog: Dialog, study_instance_uid: str, series_instance_uid: str) -> int:
    """Return how many Instances of a Series the peer says it holds; for peers that do not name them.

    Raises
    ------
    DestinationBusy, DestinationDown
        As `find_instances` does; busy also where the peer does not count.

    References
    ----------
    DICOM PS3.4 C.3.4
    """
    identifier = _identifier("SERIES", study_instance_uid, series_instance_uid)
    identifier.NumberOfSeriesRelatedInstances = None
    counts = tuple(_find(dialog, identifier, SERIES_RELATED_INSTANCES))
    if not all(count.isdecimal() for count in counts):
        raise DestinationBusy("the destination does not count the Instances of a Series")
    return sum(map(int, counts))


def _identifier(level: str, study_instance_uid: str, series_instance_uid: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    ds.StudyInstanceUID = study_instance_uid
    ds.SeriesInstanceUID = series_instance_uid
    return ds


def _find(dialog: Dialog, identifier: Dataset, tag: int) -> Iterator[str]:
    """Yield the value of one element of each match of a query; empty where it is absent."""
    command = encode_find_command(message_id=dialog.next_message_id(), sop_class_uid=STUDY_ROOT_FIND)
    dialog.request(STUDY_ROOT_FIND, command, identifier)
    until_s = monotonic() + MAX_TIMEOUTS * dialog.timeout_s
    for _ in range(MAX_MATCHES):
        message = dialog.response(until_s=until_s)
        status = message.command.status
        if message.command.command_field != C_FIND_RSP or status is None:
            raise DestinationDown("a C-FIND was answered by another message, or without Status (0000,0900)")
        if status not in PENDING:
            if status != SUCCESS:
                raise DestinationBusy(f"the destination answered a C-FIND with status {status:04X}H")
            return
        try:
            reader = MessageReader(message.data_set)
            value = reader.text(reader.elements(tag).get(tag))
        except NotDicom as exc:
            raise DestinationDown("a match of a C-FIND cannot be read") from exc
        yield value
    raise DestinationDown(f"a C-FIND for one Series brought {MAX_MATCHES} matches, and no end")
