"""What happens when a peer asks for an Association, sends an Instance, echoes, or goes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, cast

from pynetdicom import evt
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import build_context

from node.audit.events import ASSOCIATION_REFUSED, Notice, Remote
from node.audit.transfer import Incoming
from node.dimse.acceptor import GuardedAssociation, Tally
from node.dimse.command import C_STORE_RQ, N_EVENT_REPORT_RQ, Command, Reply
from node.dimse.contexts import IMPLICIT, UNCOMPRESSED, VERIFICATION
from node.dimse.lane import Sink
from node.dimse.negotiation import Abortion, Refusal, Rejection, too_many
from node.dimse.reports import ReportSink, TakeReport
from node.dimse.services import Asked, Services, ServiceSink
from node.errors import Broken, NodeError
from node.intake.ports import Arrival
from node.intake.reception import Reception
from node.intake.station import Intake

logger = logging.getLogger(__name__)

SUCCESS = 0x0000
MAX_COMMENT = 64  # Error Comment (0000,0902) is LO
# What is too large is read on, and not kept, so that its sender hears why; what is so many times too large has no end.
ENDLESS = 2


class AssociationHandlers:
    """Serves one listener's Associations on behalf of `intake`; reports of Storage Commitment go to `take_report`.

    Parameters
    ----------
    services
        Who serves the normalized services, by SOP Class UID.
    """

    def __init__(self, intake: Intake, take_report: TakeReport, services: Services) -> None:
        self._intake = intake
        self._take_report = take_report
        self._services = services
        # Of each open Association that has begun to store.
        self._incoming: dict[str, Incoming] = {}

    def bindings(self) -> list[tuple[evt.EventType, Callable[..., Any]]]:
        """Return which handler serves which event of pynetdicom."""
        return [
            (evt.EVT_REQUESTED, self.requested),
            (evt.EVT_C_ECHO, self.echo),
        ]

    def requested(self, event: evt.Event) -> None:
        """Offer what we support of what is proposed, or refuse; who may not ask does not count as one too many."""
        assoc = _association(event)
        request = cast(A_ASSOCIATE, assoc.requestor.primitive)
        assoc.tally.calling_aet = request.calling_ae_title
        assoc.tally.called_aet = request.called_ae_title
        refusal = assoc.refusal
        if refusal is None and not assoc.server.admit(assoc):
            refusal = too_many(request.calling_ae_title)
        if refusal is not None:
            self._refuse(assoc, refusal)
            return
        assoc.acceptor.supported_contexts = [build_context(VERIFICATION, list(UNCOMPRESSED))]

    def tls_failed(self, assoc: GuardedAssociation, why: str) -> None:
        """Leave a line that a person may look for: a peer spoke, and no TLS connection came of it."""
        peer = str(assoc.requestor.address)
        logger.warning("tls handshake failed", extra={"peer": peer, "outcome": why})
        text = f"TLS with {peer} failed: {why}"
        self._intake.note_refusal(Notice(kind=ASSOCIATION_REFUSED, code="tls handshake failed", text=text, peer=peer))

    def _babbled(self, assoc: GuardedAssociation) -> None:
        peer = str(assoc.requestor.address)
        outcome = "no A-ASSOCIATE-RQ"
        logger.warning("connection refused", extra={"peer": peer, "outcome": outcome})
        text = f"{peer} did not begin with an A-ASSOCIATE-RQ; this port speaks DICOM only"
        self._intake.note_refusal(Notice(kind=ASSOCIATION_REFUSED, code=outcome, text=text, peer=peer))

    def _refuse(self, assoc: GuardedAssociation, refusal: Refusal) -> None:
        match refusal:
            case Rejection():
                assoc.acse.send_reject(*refusal.answer)
            case Abortion():
                assoc.acse.send_ap_abort(refusal.reason)
        # Returns when the answer is on the wire; without it the connection may be closed first.
        assoc.kill()
        logger.warning("association rejected", extra={"outcome": refusal.outcome, **_parties(assoc)})
        parties = _parties(assoc)
        notice = Notice(
            kind=ASSOCIATION_REFUSED,
            code=refusal.outcome,
            text=refusal.text,
            peer=parties["peer"],
            calling_aet=parties["calling_aet"],
        )
        self._intake.note_refusal(notice)

    def echo(self, event: evt.Event) -> int:  # noqa: ARG002 every handler is handed its event
        """Answer a C-ECHO."""
        return SUCCESS

    def begin(self, assoc: GuardedAssociation, request: Command, context_id: int) -> Sink:
        """Begin to receive the data set of a C-STORE, or of a normalized service."""
        context = assoc.guarded_socket.choices[context_id]
        if request.command_field == N_EVENT_REPORT_RQ:
            is_implicit = context.transfer_syntax_uid == IMPLICIT
            return ReportSink(self._take_report, assoc.tally.calling_aet, is_implicit=is_implicit)
        if request.command_field != C_STORE_RQ:
            asked = Asked(
                request=request,
                sop_class_uid=context.abstract_syntax_uid,
                calling_aet=assoc.tally.calling_aet,
                is_implicit=context.transfer_syntax_uid == IMPLICIT,
            )
            return ServiceSink(asked, self._services.get(context.abstract_syntax_uid))
        arrival = Arrival(
            transfer_syntax_uid=context.transfer_syntax_uid,
            # What a request leaves out, its Presentation Context says.
            sop_class_uid=request.sop_class_uid or context.abstract_syntax_uid,
            sop_instance_uid=request.sop_instance_uid,
            association_id=assoc.tally.association_id,
            calling_aet=assoc.tally.calling_aet,
            peer=str(assoc.requestor.address),
        )
        return StoreSink(self._intake, assoc.tally, arrival, self._incoming_of(arrival))

    def ended(self, assoc: GuardedAssociation) -> None:
        """Write the Association's one line, and tell intake that nothing more comes over it."""
        tally = assoc.tally
        if assoc.has_babbled:
            self._babbled(assoc)
        if not tally.is_admitted:
            logger.debug("connection closed", extra={"peer": assoc.requestor.address})
            return
        incoming = self._incoming.pop(tally.association_id, None)
        if incoming is not None:
            incoming.end()
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

    def _incoming_of(self, arrival: Arrival) -> Incoming:
        incoming = self._incoming.get(arrival.association_id)
        if incoming is None:
            remote = Remote(name=arrival.calling_aet, aet=arrival.calling_aet, address=arrival.peer)
            incoming = self._incoming[arrival.association_id] = self._intake.open_association(remote)
        return incoming

    def orphaned(self, association_id: str) -> None:
        """Tell intake that nothing more comes over an Association that another receiver had."""
        self._end_in_ledger(association_id)

    def _end_in_ledger(self, association_id: str) -> None:
        try:
            self._intake.association_ended(association_id)
        except NodeError as exc:
            # Nothing is lost: the Series settles after assembly.idle_seconds.
            logger.warning("association end not recorded", extra={"reason_code": exc.code})


class StoreSink:
    """One C-STORE under way: its data set goes to `intake`; what fails is logged at once and answered at the end."""

    def __init__(self, intake: Intake, tally: Tally, arrival: Arrival, incoming: Incoming) -> None:
        self.max_message_bytes = ENDLESS * intake.max_instance_bytes
        self._intake = intake
        self._incoming = incoming
        self._tally = tally
        self._arrival = arrival
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
                facts = self._reception.finish()
                if facts is not None:
                    self._incoming.count(facts)
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
            status, calling_aet = f"{exc.dimse_status:04X}", self._tally.calling_aet
            said = {"reason_code": exc.code, "status": status, "calling_aet": calling_aet}
            logger.warning("instance refused", extra=said)
            self._refuse(exc)
        except Exception as exc:  # the outer edge: one Instance must not end the Association
            logger.exception("instance broke the node", extra={"error_type": type(exc).__name__})
            self._refuse(Broken(f"{type(exc).__name__}; see the node's log"))

    def _refuse(self, cause: NodeError) -> None:
        self._intake.note_refused(self._arrival, cause)
        self._tally.refused += 1
        self._refusal = refusal(cause)
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
