"""A report of Storage Commitment that comes on an Association of the Destination's own (PS3.4 J.3.3)."""

import logging
from collections.abc import Callable, Sequence

from node.dimse.command import Reply
from node.domain.confirmation import CommitmentReport
from node.errors import PROCESSING_FAILURE, NodeError
from node.peers.commitment import read_report

logger = logging.getLogger(__name__)

SUCCESS = 0x0000
# A report on 10,000 objects has 1.5 MB.
MAX_REPORT_BYTES = 4 * 2**20

TakeReport = Callable[[CommitmentReport], int]


class ReportSink:
    """One N-EVENT-REPORT under way.

    Parameters
    ----------
    take_report
        Commits what a report says, and returns of how many Deliveries.
    calling_aet
        Who reports; for the log.
    is_implicit
        Whether it comes in Implicit VR Little Endian; Explicit otherwise.
    """

    def __init__(self, take_report: TakeReport, calling_aet: str, *, is_implicit: bool) -> None:
        self.max_message_bytes = MAX_REPORT_BYTES
        self._take_report = take_report
        self._calling_aet = calling_aet
        self._is_implicit = is_implicit
        self._encoded = bytearray()

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Take the next fragments of the Event Information."""
        for fragment in fragments:
            self._encoded += fragment

    def finish(self) -> Reply:
        """Return the answer: Success only after what is reported is committed.

        A report that nobody waits for is answered so too: it may come again because our first answer was lost.
        """
        said = {"calling_aet": self._calling_aet}
        try:
            count = self._take_report(read_report(bytes(self._encoded), is_implicit=self._is_implicit))
        except NodeError as exc:
            logger.warning("commitment report refused", extra={**said, "reason_code": exc.code})
            return Reply(status=PROCESSING_FAILURE, comment=exc.code)
        logger.info("commitment reported", extra={**said, "count": count})
        return Reply(status=SUCCESS)

    def discard(self) -> None:
        """Forget it: the peer went, or broke the protocol."""
        self._encoded.clear()
