"""Normalized services: one table from SOP Class to who serves it, and what becomes of a request on the way."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from node.dimse.attribute_list import AttributeList, show
from node.dimse.command import UNRECOGNIZED_OPERATION, Command, Reply
from node.dimse.contexts import WORKITEM_CLASSES
from node.domain.workitem import PUSH
from node.errors import (
    MISTYPED_ARGUMENT,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    AttributeRefused,
    BadIdentifier,
    Broken,
    NodeError,
    NotAuthorized,
    NotDicom,
    NoticeFinal,
    NoticeKnown,
    NoticeUnknown,
    WorkitemRefused,
)

logger = logging.getLogger(__name__)

# A Procedure Step on 10,000 Instances has 1 MB.
MAX_LIST_BYTES = 4 * 2**20
# Whose status a peer is told; of others it is a failure to process, which may be tried again.
TOLD = (
    AttributeRefused, BadIdentifier, NotAuthorized, NoticeFinal, NoticeKnown, NoticeUnknown, WorkitemRefused,
)  # fmt: skip
# Error ID (0000,0903) of a Procedure Step that may no longer be updated (PS3.4 F.7.2.2.3).
NO_LONGER_UPDATED = 0xA710


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request.

    Attributes
    ----------
    sop_class_uid
        That of its Presentation Context.
    calling_aet
        Who asks.
    is_implicit
        Whether its Attribute List is in Implicit VR.
    """

    request: Command
    sop_class_uid: str
    calling_aet: str
    is_implicit: bool


# Serves a request on its Attribute List; what it refuses, it raises.
Serve = Callable[[Asked, AttributeList], Reply]
# By SOP Class UID.
Services = Mapping[str, Serve]


class ServiceSink:
    """One request of a normalized service under way.

    Parameters
    ----------
    serve
        None: nobody serves it here.
    """

    def __init__(self, asked: Asked, serve: Serve | None) -> None:
        self.max_message_bytes = MAX_LIST_BYTES
        self._asked = asked
        self._serve = serve
        self._encoded = bytearray()

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Take the next fragments of the Attribute List."""
        for fragment in fragments:
            self._encoded += fragment

    def finish(self) -> Reply:
        """Return the answer: Success only after what follows is committed."""
        asked, said = self._asked, {"calling_aet": self._asked.calling_aet}
        if self._serve is None:
            return Reply(status=UNRECOGNIZED_OPERATION)
        if asked.request.sop_class_uid not in {asked.sop_class_uid, "", _common_class(asked.sop_class_uid)}:
            return Reply(status=SOP_CLASS_NOT_SUPPORTED, comment="not the SOP Class of the Presentation Context")
        try:
            reply = self._serve(asked, AttributeList(bytes(self._encoded), is_implicit=asked.is_implicit))
        except NodeError as exc:
            reply = refuse(exc)
            status = f"{reply.status:04X}"
            logger.warning("notice refused", extra={**said, "reason_code": exc.code, "status": status})
            return reply
        except Exception as exc:  # the outer edge: one request must not end the Association
            logger.exception("notice broke the node", extra={**said, "error_type": type(exc).__name__})
            return refuse(Broken(f"{type(exc).__name__}; see the node's log"))
        logger.info("notice taken", extra=said)
        return reply

    def discard(self) -> None:
        """Forget it: the peer went, or broke the protocol."""
        self._encoded.clear()


def _common_class(sop_class_uid: str) -> str:
    """Return of which SOP Class the Instances are that a Presentation Context is about."""
    return PUSH if sop_class_uid in WORKITEM_CLASSES else sop_class_uid


def refuse(exc: NodeError) -> Reply:
    """Return the response that tells a peer why; its values are not repeated.

    References
    ----------
    DICOM PS3.7 annex C
    """
    if isinstance(exc, NotDicom):
        return Reply(status=MISTYPED_ARGUMENT, comment=exc.code)
    tags = (exc.tag,) if isinstance(exc, AttributeRefused) and exc.tag else ()
    named = "".join(f" {show(tag)}" for tag in tags)
    return Reply(
        status=exc.dimse_status if isinstance(exc, TOLD) else PROCESSING_FAILURE,
        comment=f"{exc.code}{named}",
        error_id=NO_LONGER_UPDATED if isinstance(exc, NoticeFinal) else None,
        attributes=tags,
    )
