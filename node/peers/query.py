"""Which objects of a Series, and how many of a Study, a DIMSE peer holds, asked by C-FIND (PS3.4 C.4.1)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic

from pydicom import Dataset

from node.errors import DestinationBusy, DestinationDown, NotDicom
from node.peers.command import C_FIND_RSP, encode_find_command
from node.peers.data_set import MessageReader
from node.peers.dialog import SUCCESS, Dialog

# Study Root Query/Retrieve Information Model - FIND.
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
SOP_INSTANCE_UID, MODALITY, SERIES_INSTANCE_UID = 0x00080018, 0x00080060, 0x0020000E
STUDY_RELATED_INSTANCES, SERIES_RELATED_INSTANCES = 0x00201208, 0x00201209
# Status of a response that brings a match; the second: optional keys were passed over (PS3.4 C.4.1.1.4).
PENDING = frozenset({0xFF00, 0xFF01})
# More would be no Series.
MAX_MATCHES = 100_000
# An IS has no more (PS3.5 6.2), and no Study so many Instances.
MAX_DIGITS = 9
# All matches together may take so many times as long as one response.
MAX_TIMEOUTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesCount:
    """What a peer says of a Series.

    Attributes
    ----------
    modality
        Modality (0008,0060); empty where it does not say.
    instances
        Number of Series Related Instances (0020,1209); None where it does not say.
    """

    series_instance_uid: str
    modality: str
    instances: int | None


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
    return frozenset(match[SOP_INSTANCE_UID] for match in _find(dialog, identifier, SOP_INSTANCE_UID)) - {""}


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
    counts = [match[SERIES_RELATED_INSTANCES] for match in _find(dialog, identifier, SERIES_RELATED_INSTANCES)]
    if not all(count.isdecimal() for count in counts):
        raise DestinationBusy("the destination does not count the Instances of a Series")
    return sum(map(int, counts))


def count_series(dialog: Dialog, study_instance_uid: str) -> tuple[SeriesCount, ...]:
    """Return what the peer says of each Series of a Study that it holds.

    Raises
    ------
    DestinationBusy, DestinationDown
        As `find_instances` does.

    References
    ----------
    DICOM PS3.4 C.6.2.1, C.3.4
    """
    identifier = _identifier("SERIES", study_instance_uid, "")
    identifier.Modality = ""
    identifier.NumberOfSeriesRelatedInstances = None
    matches = _find(dialog, identifier, SERIES_INSTANCE_UID, MODALITY, SERIES_RELATED_INSTANCES)
    return tuple(
        SeriesCount(
            series_instance_uid=match[SERIES_INSTANCE_UID],
            modality=match[MODALITY],
            instances=read_count(match[SERIES_RELATED_INSTANCES]),
        )
        for match in matches
        if match[SERIES_INSTANCE_UID]
    )


def count_study(dialog: Dialog, study_instance_uid: str) -> int | None:
    """Return how many Instances of a Study the peer says it holds; None where it does not count them.

    Raises
    ------
    DestinationBusy, DestinationDown
        As `find_instances` does.

    References
    ----------
    DICOM PS3.4 C.6.2.1, C.3.4
    """
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study_instance_uid
    identifier.NumberOfStudyRelatedInstances = None
    counts = [
        read_count(match[STUDY_RELATED_INSTANCES]) for match in _find(dialog, identifier, STUDY_RELATED_INSTANCES)
    ]
    if not counts:
        return 0
    return None if None in counts else sum(count or 0 for count in counts)


def read_count(text: str) -> int | None:
    """Return a number of Instances; None where it is none."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None


def _identifier(level: str, study_instance_uid: str, series_instance_uid: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    ds.StudyInstanceUID = study_instance_uid
    ds.SeriesInstanceUID = series_instance_uid
    return ds


def _find(dialog: Dialog, identifier: Dataset, *tags: int) -> Iterator[Mapping[int, str]]:
    """Yield the values of these elements of each match of a query; empty where one is absent."""
    for encoded in find_data_sets(dialog, STUDY_ROOT_FIND, identifier):
        try:
            reader = MessageReader(encoded)
            elements = reader.elements(*tags)
            values = {tag: reader.text(elements.get(tag)) for tag in tags}
        except NotDicom as exc:
            raise DestinationDown("a match of a C-FIND cannot be read") from exc
        yield values


def find_data_sets(dialog: Dialog, sop_class_uid: str, identifier: Dataset) -> Iterator[bytes]:
    """Yield each match of a query in Implicit VR Little Endian; all of them are to be taken.

    Raises
    ------
    DestinationBusy, DestinationDown
        As `find_instances` does.
    """
    command = encode_find_command(message_id=dialog.next_message_id(), sop_class_uid=sop_class_uid)
    dialog.request(sop_class_uid, command, identifier)
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
        yield message.data_set
    raise DestinationDown(f"a C-FIND brought {MAX_MATCHES} matches, and no end")
