"""Where orders are taken: each message is answered after what it says is durable."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from uuid import uuid4

from node.clock import Clock
from node.domain.imaging_order import ImagingOrder
from node.errors import Broken, MessageRefused, NodeError
from node.hl7.acknowledgment import Stamp, accept, refuse
from node.hl7.order_message import read_orders
from node.hl7.reader import Message, read_message

logger = logging.getLogger(__name__)

# Commits the orders of the message of this digest, all or none; raises LedgerBusy.
Record = Callable[[Sequence[ImagingOrder], str], object]


class OrderDesk:
    """Takes messages from any number of threads.

    Parameters
    ----------
    record
        Commits what a message says; one that comes again changes nothing.
    committed
        Called after that.
    """

    def __init__(self, record: Record, *, committed: Callable[[], None], clock: Clock) -> None:
        self._record = record
        self._committed = committed
        self._clock = clock

    def answer(self, encoded: bytes, *, peer: str) -> Sequence[bytes]:
        """Return what is answered to a message; the sender's name is `peer`, for the log."""
        message: Message | None = None
        try:
            message = read_message(encoded)
            orders = read_orders(message)
            self._record(orders, hashlib.sha256(encoded).hexdigest())
        except NodeError as exc:
            place = exc.place if isinstance(exc, MessageRefused) else ""
            logger.warning("message refused", extra={"peer": peer, "reason_code": exc.code, "step": place})
            return refuse(message, exc, self._stamp())
        except Exception as exc:  # the outer edge: one message must not end the listener
            logger.exception("message broke the node", extra={"peer": peer, "error_type": type(exc).__name__})
            return refuse(message, Broken(f"{type(exc).__name__}; see the node's log"), self._stamp())
        self._committed()
        logger.info("message taken", extra={"peer": peer, "count": len(orders)})
        return accept(message, self._stamp())

    def complain(self, error: NodeError, *, peer: str) -> Sequence[bytes]:
        """Return what is answered to something that is no message."""
        logger.warning("message refused", extra={"peer": peer, "reason_code": error.code})
        return refuse(None, error, self._stamp())

    def _stamp(self) -> Stamp:
        # MSH-10 has 20 characters before version 2.7; a commit acknowledgment has one more letter than its number.
        return Stamp(control_id=uuid4().hex[:18], now=self._clock())
