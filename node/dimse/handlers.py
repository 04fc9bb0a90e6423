"""What happens when a peer asks for an Association, sends an Instance, echoes, or goes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, cast

from pynetdicom import evt
from pynetdicom.pdu_primitives import A_ASSOCIATE

from node.dimse.acceptor import GuardedAssociation, Tally
from node.dimse.command import Command, Reply
from node.dimse.contexts import contexts_for
from node.errors import Broken, NodeError
from node.intake.ports import Arrival
from node.intake.reception import Reception
from node.intake.station import Intake

logger = logging.getLogger(__name__)

SUCCESS = 0x0000
# A-ASSOCIATE-RJ: rejected transient, service provider (presentation related), local limit exceeded (PS3.8 9.3.4).
LOCAL_LIMIT_EXCEEDED = (0x02, 0x03, 0x02)
CALLING_AET_NOT_RECOGNIZED = (0x01, 0x03)
CALLED_AET_NOT_RECOGNIZED = (0x01, 0x07)
MAX_COMMENT = 64  # Error Comment (0000,0902) is LO


class AssociationHandlers:
    """Serves one listener's Associations on behalf of `intake`.

    Parameters
    ----------
    aet
        Our own AE title, for the text of a rejection.
    """

    def __init__(self, intake: Intake, *, aet: str) -> None:
        self._intake = intake
        self._aet = aet

    def bindings(self) -> list[tuple[evt.EventType, Callable[..., Any]]]:
        """Return which handler serves which event of pynetdicom."""
        return [
            (evt.EVT_REQUESTED, self.requested),
            (evt.EVT_REJECTED, self.rejected),
            (evt.EVT_C_ECHO, self.echo),
        ]

    def requested(self, event: evt.Event) -> None:
        """Offer what we support of what is proposed, or reject when there are too many Associations."""
        assoc = _association(event)
        request = cast(A_ASSOCIATE, assoc.requestor.primitive)
        assoc.tally.calling_aet = request.calling_ae_title
        assoc.tally.called_aet = request.called_ae_title
        if not assoc.server.admit(assoc):
            assoc.acse.send_reject(*LOCAL_LIMIT_EXCEEDED)
            # Returns when the rejection is on the wire; without it the connection may be closed first.
            assoc.kill()
            logger.warning("association rejected", extra={"outcome": "local limit exceeded", **_parties(assoc)})
            return
        assoc.acceptor.supported_contexts = contexts_for(request.presentation_context_definition_list)

    def rejected(self, event: evt.Event) -> None:
        """Leave a line that a person may look for."""
        assoc = _association(event)
        answer = cast(A_ASSOCIATE, assoc.acceptor.primitive)
        calling, called = assoc.tally.calling_aet, assoc.tally.called_aet
        reasons: dict[tuple[int | None, int | None], str] = {
            CALLING_AET_NOT_RECOGNIZED: f"{calling} is not in security.calling_aets; add it there if it may send",
            CALLED_AET_NOT_RECOGNIZED: f"{calling} called {called}, this node is {self._aet}; correct its settings",
        }
        text = reasons.get((answer.result_source, answer.diagnostic), f"{calling} was rejected")
        logger.warning("association rejected", extra={"outcome": "AE title not recognized", **_parties(assoc)})
        self._intake.note_refusal("association-refused", text)

    def echo(self, event: evt.Event) -> int:  # noqa: ARG002 every handler is handed its event
        """Answer a C-ECHO."""
        return SUCCESS

    def begin(self, assoc: GuardedAssociation, request: Command, context_id: int) -> "StoreSink":
        """Begin to receive the data set of a C-STORE."""
        context = assoc._accepted_cx[context_id]
        arrival = Arrival(
            transfer_syntax_uid=str(context.transfer_syntax[0]),
            # What a request leaves out, its Presentation Context says.
            sop_class_uid=request.sop_class_uid or str(context.abstract_syntax),
            sop_instance_uid=request.sop_instance_uid,
            association_id=assoc.tally.association_id,
            calling_aet=assoc.tally.calling_aet,
        )
        return StoreSink(self._intake, assoc.tally, arrival)

    def ended(self, assoc: GuardedAssociation) -> None:
        """Write the Association's one line, and tell intake that nothing more comes over it."""
        tally = assoc.tally
        if not tally.is_admitted:
            logger.debug("connection closed", extra={"peer": assoc.requestor.address})
            return
        if tally.stored:
            self._end_in_ledger(tally.association_id)
        logger.info(
            "association ended",
            extra={
                **_parties(assoc),
                "outcome": _outcome(assoc),
                "stored_count": tally.stored,
                "refused_count": tally.refused,
                "bytes": tally.received_bytes,
                "seconds": round(monotonic() - tally.begun_s, 3),
            },
        )

    def _end_in_ledger(self, association_id: str) -> None:
        try:
            self._intake.association_ended(association_id)
        except NodeError as exc:
            # Nothing is lost: the Series settles after assembly.idle_seconds.
            logger.warning("association end not recorded", extra={"reason_code": exc.code})


class StoreSink:
    """One C-STORE under way: its data set goes to `intake`; what fails is logged at once and answered at the end."""

    def __init__(self, intake: Intake, tally: Tally, arrival: Arrival) -> None:
        self._tally = tally
        self._reception: Reception | None = None
        self._refusal: Reply | None = None
        with self._refusing():
            self._reception = intake.receive(arrival)

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Take the next fragments of the data set."""
        self._tally.received_bytes += sum(map(len, fragments))
        if self._reception is not None and self._refusal is None:
            with self._refusing():
                self._reception.write(fragments)

    def finish(self) -> Reply:
        """Return the answer: Success only after the Instance is durable, and recorded or adopted at the next start."""
        if self._reception is not None and self._refusal is None:
            with self._refusing():
                self._reception.finish()
        if self._refusal is not None:
            return self._refusal
        self._tally.stored += 1
        return Reply(status=SUCCESS)

    def discard(self) -> None:
        """Forget what came: the peer went, or broke the protocol."""
        if self._reception is not None:
            self._reception.discard()

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except NodeError as exc:
            self._refuse(exc)
            calling_aet = self._tally.calling_aet
            said = {"reason_code": exc.code, "status": f"{exc.dimse_status:04X}", "calling_aet": calling_aet}
            logger.warning("instance refused", extra=said)
        except Exception as exc:  # the outer edge: one Instance must not end the Association
            self._refuse(Broken(f"{type(exc).__name__}; see the node's log"))
            logger.exception("instance broke the node", extra={"error_type": type(exc).__name__})

    def _refuse(self, exc: NodeError) -> None:
        self._tally.refused += 1
        self._refusal = refusal(exc)
        self.discard()


def refusal(exc: NodeError) -> Reply:
    """Return the response that tells a peer why.

    References
    ----------
    DICOM PS3.4 B.2.3, PS3.7 C
    """
    comment = f"{exc.code}: {exc}".replace("\\", "/").encode("ascii", "replace").decode()
    shown = "".join(c if c.isprintable() else " " for c in comment)[:MAX_COMMENT].rstrip()
    return Reply(status=exc.dimse_status, comment=shown)


def _association(event: evt.Event) -> GuardedAssociation:
    # The server makes no other kind.
    return cast(GuardedAssociation, event.assoc)


def _parties(assoc: GuardedAssociation) -> dict[str, str]:
    tally = assoc.tally
    return {"calling_aet": tally.calling_aet, "called_aet": tally.called_aet, "peer": str(assoc.requestor.address)}


def _outcome(assoc: GuardedAssociation) -> str:
    if assoc.is_released:
        return "released"
    if assoc.is_rejected:
        return "rejected"
    return "aborted" if assoc.is_aborted else "connection lost"
