"""C-GET as its SCU: a peer sends Instances on the Association on which they are asked for (PS3.4 C.4.3)."""

from collections.abc import Mapping
from itertools import product
from time import monotonic

from node.domain.capability import Form
from node.errors import DestinationDown, Misconfigured, NotDicom
from node.peers.association import associate
from node.peers.command import (
    C_GET_RSP,
    C_STORE_RQ,
    Command,
    SubOperations,
    encode_cancel_command,
    encode_get_command,
    encode_store_response,
    read_command,
)
from node.peers.data_set import encode_data_set
from node.peers.dialog import IMPLICIT, MAX_DATA_SET_BYTES, SUCCESS
from node.peers.negotiation import ACCEPTED, Acceptance
from node.peers.pdata import (
    COMMAND_FRAGMENT,
    LAST_FRAGMENT,
    MAX_COMMAND_BYTES,
    encode_command,
    encode_message,
    fragment_bytes,
    read_fragments,
)
from node.peers.peer import Peer
from node.peers.query import PENDING
from node.peers.upper_layer import MAX_PDU_BYTES, P_DATA_TF, UpperLayer
from node.pulling.carrier import (
    CANCELED,
    SILENCE_S,
    SUB_OPERATIONS_FAILED,
    Berth,
    Landing,
    Progress,
    Want,
    judge_refusal,
)
from node.pulling.move import identify

# Study Root Query/Retrieve Information Model - GET.
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
GET_CONTEXT, MESSAGE_ID = 1, 1
# One Association has so many Presentation Contexts (PS3.8 9.3.2.2); the first is that of C-GET.
MAX_CONTEXTS = 127
LOOK_S = 0.5
# Each in a context of its own, so that the peer sends what it has as it is: what archives hold most, first.
TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.1", IMPLICIT, "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203",
)  # fmt: skip
# Where a peer does not say what it holds: what Pipelines read, and what lies beside it.
USUAL_CLASSES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{last}"
    for last in (
        "2", "4", "1", "1.1", "2.1", "4.1", "7", "1.2", "6.1", "3.1", "128", "20", "88.33", "88.22", "88.67", "66.4",
        "11.1", "104.1", "12.1", "13.1.3", "88.11", "88.59",
    )
)  # fmt: skip


class GetCarrier:
    """Instances come on an Association of ours; each want has one."""

    def __init__(self, peer: Peer, landing: Landing, *, silence_s: float = SILENCE_S) -> None:
        self._peer = peer
        self._landing = landing
        self._silence_s = silence_s

    def bring(self, want: Want, progress: Progress) -> SubOperations:
        """Return after the peer has sent what is wanted; see `Carrier.bring`."""
        contexts = propose(want.sop_classes)
        storage = {form[0] for context_id, form in contexts.items() if context_id != GET_CONTEXT}
        layer, answer = associate(self._peer, contexts, scp_roles=sorted(storage), max_pdu_bytes=MAX_PDU_BYTES)
        try:
            accepted = self._judge(contexts, answer)
            talk = _Talk(layer, accepted, self._landing, fragment=fragment_bytes(answer.max_pdu_bytes))
            status, came = self._talk(talk, want, progress)
        except OSError as exc:
            layer.abort()
            raise DestinationDown(f"{self._peer} broke the Association while it sent: {exc}") from exc
        except NotDicom as exc:
            layer.abort()
            raise DestinationDown(f"{self._peer} sent something that is no message: {exc}") from exc
        except BaseException:
            layer.abort()
            raise
        layer.release()
        if status in {SUCCESS, SUB_OPERATIONS_FAILED, CANCELED}:
            return came
        raise judge_refusal(status, peer=str(self._peer), aet=self._peer.calling_aet)

    def _judge(self, contexts: Mapping[int, Form], answer: Acceptance) -> Mapping[int, Form]:
        """Return the Presentation Contexts in which the peer may send."""
        accepted = {
            context_id: form
            for context_id, form in contexts.items()
            if answer.results.get(context_id) == ACCEPTED and answer.transfer_syntaxes[context_id] == form[1]
        }
        if GET_CONTEXT not in accepted:
            raise Misconfigured(f"{self._peer} answers no C-GET; allow {self._peer.calling_aet} there, or use C-MOVE")
        sendable = {key: form for key, form in accepted.items() if form[0] in answer.scp_roles}
        if not sendable:
            raise Misconfigured(f"{self._peer} sends nothing of this kind by C-GET (SCP role refused); use C-MOVE")
        return sendable

    def _talk(self, talk: "_Talk", want: Want, progress: Progress) -> tuple[int, SubOperations]:
        talk.ask(want)
        is_canceled, heard_s = False, monotonic()
        try:
            while talk.status is None:
                if talk.listen(LOOK_S):
                    heard_s = monotonic()
                elif monotonic() - heard_s > self._silence_s:
                    raise DestinationDown(f"{self._peer} said nothing of a C-GET for {self._silence_s:g} s")
                if not progress.note(talk.came) and not is_canceled:
                    talk.cancel()
                    is_canceled = True
        finally:
            talk.close()
        return talk.status, talk.came


class _Talk:
    """What comes on one Association: Instances, and responses to the C-GET.

    Attributes
    ----------
    came
        What was received so far, by our own count: the peer's may have been lost.
    status
        Of the last response; None until it came.
    """

    def __init__(self, layer: UpperLayer, contexts: Mapping[int, Form], landing: Landing, *, fragment: int) -> None:
        self._layer = layer
        self._contexts = contexts
        self._landing = landing
        self._fragment = fragment
        self._encoded = bytearray()
        self._command: Command | None = None
        self._berth: Berth | None = None
        self._data_bytes = 0
        self._failed_there = 0
        self.came = SubOperations()
        self.status: int | None = None

    def ask(self, want: Want) -> None:
        """Send the C-GET."""
        command = encode_get_command(message_id=MESSAGE_ID, sop_class_uid=STUDY_ROOT_GET)
        self._layer.send(encode_command(command, context_id=GET_CONTEXT, fragment=self._fragment))
        identifier = encode_data_set(identify(want))
        self._layer.send(encode_message(identifier, context_id=GET_CONTEXT, fragment=self._fragment))

    def cancel(self) -> None:
        """Ask the peer to end it; its last response comes soon."""
        command = encode_cancel_command(cancels=MESSAGE_ID)
        self._layer.send(encode_command(command, context_id=GET_CONTEXT, fragment=self._fragment))

    def listen(self, within_s: float) -> bool:
        """Take what comes in so many seconds; return whether anything did."""
        try:
            kind, body = self._layer.receive(within_s)
        except TimeoutError:
            return False
        if kind != P_DATA_TF:
            raise ConnectionAbortedError(f"PDU of type {kind:02X}H")
        for context_id, control, piece in read_fragments(body):
            self._take(context_id, control, piece)
        return True

    def close(self) -> None:
        """Forget an Instance of which not all came."""
        if self._berth is not None:
            self._berth.discard()

    def _take(self, context_id: int, control: int, piece: memoryview) -> None:
        is_command = bool(control & COMMAND_FRAGMENT)
        if is_command != (self._command is None) or self.status is not None:
            raise NotDicom("fragments of two messages are mixed")
        if is_command:
            self._encoded += piece
            if len(self._encoded) > MAX_COMMAND_BYTES:
                raise NotDicom(f"a Command Set has more than {MAX_COMMAND_BYTES} bytes")
        else:
            self._take_data(piece)
        if control & LAST_FRAGMENT:
            self._end_part(context_id, is_command=is_command)

    def _take_data(self, piece: memoryview) -> None:
        self._data_bytes += len(piece)
        limit = MAX_DATA_SET_BYTES if self._berth is None else self._berth.max_message_bytes
        if self._data_bytes > limit:
            raise NotDicom(f"a data set has more than {limit} bytes")
        if self._berth is not None:
            self._berth.write((piece,))

    def _end_part(self, context_id: int, *, is_command: bool) -> None:
        if is_command:
            self._command = self._begin(read_command(bytes(self._encoded)), context_id)
            self._encoded.clear()
            if self._command.has_data_set:
                return
        command, self._command = self._command, None
        berth, self._berth, self._data_bytes = self._berth, None, 0
        if command is None:
            raise NotDicom("a data set without a command")
        if berth is None:
            self._heed(command)
        else:
            self._answer(command, berth, context_id)

    def _begin(self, command: Command, context_id: int) -> Command:
        """Return the command of a message that may come here, after room was made for what it brings."""
        if command.command_field == C_GET_RSP and command.answers == MESSAGE_ID:
            return command
        form = self._contexts.get(context_id)
        if command.command_field != C_STORE_RQ or command.message_id is None or form is None:
            raise NotDicom("neither an Instance nor a response came")
        if not command.has_data_set:
            raise NotDicom("an Instance without a data set")
        self._berth = self._landing.begin(
            sop_class_uid=command.sop_class_uid or form[0],
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid=form[1],
        )
        return command

    def _answer(self, command: Command, berth: Berth, context_id: int) -> None:
        """Answer a C-STORE; Success only after the Instance is durable."""
        status = berth.finish().status
        is_taken = status == SUCCESS
        self.came = SubOperations(completed=self.came.completed + is_taken, failed=self.came.failed + (not is_taken))
        response = encode_store_response(command, status=status)
        self._layer.send(encode_command(response, context_id=context_id, fragment=self._fragment))

    def _heed(self, command: Command) -> None:
        """Take note of a response to the C-GET: what failed there never came here."""
        if command.status is None:
            raise NotDicom("a response without Status (0000,0900)")
        if command.status not in PENDING:
            there = command.sub_operations or SubOperations()
            failed = max(there.failed, self.came.failed)
            self.came = SubOperations(completed=self.came.completed, failed=failed)
            self.status = command.status


def propose(sop_classes: frozenset[str]) -> Mapping[int, Form]:
    """Return the Presentation Contexts for a C-GET of these SOP Classes, or of the usual ones, by ID."""
    classes = sorted(sop_classes) or USUAL_CLASSES
    room = max(1, (MAX_CONTEXTS - 1) // len(classes))
    forms = [(uid, syntax) for syntax, uid in product(TRANSFER_SYNTAXES[:room], classes)]
    every: list[Form] = [(STUDY_ROOT_GET, IMPLICIT), *forms[: MAX_CONTEXTS - 1]]
    return {2 * place + 1: form for place, form in enumerate(every)}
