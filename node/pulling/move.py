"""C-MOVE as its SCU: a peer is asked to send Instances to our own listener (PS3.4 C.4.2)."""

from time import monotonic

from pydicom import Dataset

from node.errors import DestinationDown
from node.peers.command import C_MOVE_RSP, SubOperations, encode_move_command
from node.peers.dialog import SUCCESS, Dialog, Message
from node.peers.query import PENDING
from node.pulling.carrier import CANCELED, SILENCE_S, SUB_OPERATIONS_FAILED, Progress, Want, judge_refusal
from node.pulling.search import make_identifier

# Study Root Query/Retrieve Information Model - MOVE.
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
# How long one look at the Association takes; seconds.
LOOK_S = 0.5


class MoveCarrier:
    """Instances come by C-STORE to the node's listener, as from any sender.

    Parameters
    ----------
    dialog
        Association on which `STUDY_ROOT_MOVE` was accepted.
    peer
        Its name, for people.
    aet
        Our own AE title.
    silence_s
        How long the peer may say nothing while it works.
    """

    def __init__(self, dialog: Dialog, *, peer: str, aet: str, silence_s: float = SILENCE_S) -> None:
        self._dialog = dialog
        self._peer = peer
        self._aet = aet
        self._silence_s = silence_s

    def bring(self, want: Want, progress: Progress) -> SubOperations:
        """Return after the peer has sent what is wanted; see `Carrier.bring`."""
        command = encode_move_command(
            message_id=self._dialog.next_message_id(), sop_class_uid=STUDY_ROOT_MOVE, destination=self._aet
        )
        self._dialog.request(STUDY_ROOT_MOVE, command, identify(want))
        came, is_canceled, heard_s = SubOperations(), False, monotonic()
        while True:
            message = self._dialog.poll(LOOK_S)
            if message is not None:
                heard_s = monotonic()
                came = message.command.sub_operations or came
                status = _status_of(message)
                if status not in PENDING:
                    return self._end(status, came, want)
            elif monotonic() - heard_s > self._silence_s:
                raise DestinationDown(f"{self._peer} said nothing of a C-MOVE for {self._silence_s:g} s")
            if not progress.note(came) and not is_canceled:
                self._dialog.cancel(STUDY_ROOT_MOVE)
                is_canceled = True

    def _end(self, status: int, came: SubOperations, want: Want) -> SubOperations:
        if status == SUCCESS and not came.completed + came.failed:
            # Counts are optional (PS3.7 9.1.4.1.7 to 9.1.4.1.10); Success says that none failed.
            return SubOperations(completed=want.count or 0)
        if status in {SUCCESS, SUB_OPERATIONS_FAILED, CANCELED}:
            return came
        raise judge_refusal(status, peer=self._peer, aet=self._aet)


def identify(want: Want) -> Dataset:
    """Return the identifier of a C-MOVE or C-GET (PS3.4 C.4.2.1.4).

    References
    ----------
    DICOM PS3.4 C.6.2.2
    """
    values = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": str(want.study_instance_uid)}
    if want.series_instance_uid is not None:
        values |= {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": want.series_instance_uid}
    if want.instances:
        values |= {"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": "\\".join(want.instances)}
    ds = make_identifier(values)
    del ds.SpecificCharacterSet
    return ds


def _status_of(message: Message) -> int:
    status = message.command.status
    if message.command.command_field != C_MOVE_RSP or status is None:
        raise DestinationDown("a C-MOVE was answered by another message, or without Status (0000,0900)")
    return status
