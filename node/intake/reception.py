"""One Instance on its way in: written as it comes, judged when it is whole, never held in memory."""

from collections.abc import Sequence
from typing import Protocol

from blake3 import blake3

from node.domain.study import InstanceFacts
from node.errors import NotDicom, TooLarge, UidMismatch
from node.header.part10 import file_meta
from node.header.scan import Beginning, Header, scan_beginning, scan_data_set
from node.intake.ports import Arrival
from node.store.port import Spool

# In which the header of nearly every Instance lies.
MAX_HEAD_BYTES = 64 * 1024


class Taker(Protocol):
    """What a Reception asks of intake."""

    def take(self, spool: Spool, header: Header, arrival: Arrival, digest: str) -> InstanceFacts | None:
        """Return after the Instance in `spool` is durable and recorded."""


class Reception:
    """One Instance on its way in; exactly one of `finish` and `discard` ends it.

    Parameters
    ----------
    max_bytes
        Longest data set that is taken.
    """

    def __init__(self, taker: Taker, spool: Spool, arrival: Arrival, *, max_bytes: int) -> None:
        self._taker = taker
        self._spool = spool
        self._arrival = arrival
        self._digest = blake3()
        meta = file_meta(
            sop_class_uid=arrival.sop_class_uid,
            sop_instance_uid=arrival.sop_instance_uid,
            transfer_syntax_uid=arrival.transfer_syntax_uid,
            sending_aet=arrival.calling_aet,
        )
        self._offset = len(meta)
        self._left_bytes = self._max_bytes = max_bytes
        # Written with the first fragments.
        self._meta: tuple[bytes, ...] = (meta,)
        self._begun: Beginning | None = None

    def write(self, fragments: Sequence[bytes | memoryview]) -> None:
        """Append the next bytes of the data set.

        Raises
        ------
        TooLarge
            If the data set is longer than it may be.
        StoreFull
            If the store fell below its reserve, or became full.
        Transient
            If the store failed.
        """
        self._left_bytes -= sum(map(len, fragments))
        if self._left_bytes < 0:
            raise TooLarge(f"more than {self._max_bytes} bytes; see store.max_instance_bytes")
        if self._meta:
            # While the rest is under way.
            head = bytes(fragments[0][:MAX_HEAD_BYTES])
            self._begun = scan_beginning(head, transfer_syntax_uid=self._arrival.transfer_syntax_uid)
        for fragment in fragments:
            self._digest.update(fragment)
        self._spool.write((*self._meta, *fragments))
        self._meta = ()

    def finish(self) -> InstanceFacts | None:
        """Return after the bytes are durable *and* recorded; the sender may then be told Success.

        The same content again is taken without keeping anything. Other content under a known UID becomes a second
        file, and counts from now on; no reader ever sees a mixture.

        Returns
        -------
        facts
            None when the object is our own Result and settings drop those.

        Raises
        ------
        NotDicom
            If the data set is cut, damaged or none.
        BadIdentifier
            If a UID is missing or malformed.
        UidMismatch
            If data set and announcement name another Instance, SOP Class or Study.
        IdentifierClash
            If the UID belongs to an Instance of another Series.
        StoreFull
            If the store is full; nothing was kept.
        Transient
            If store or ledger failed; the sender should try again.
        """
        try:
            header = self._scan()
            _check_match(header, self._arrival)
            return self._taker.take(self._spool, header, self._arrival, self._digest.hexdigest())
        finally:
            self.discard()

    def _scan(self) -> Header:
        if self._meta:
            raise NotDicom("the request brought no data set; resend the Instance")
        with self._spool.view() as content:
            return scan_data_set(
                content,
                transfer_syntax_uid=self._arrival.transfer_syntax_uid,
                start=self._offset,
                begun=self._begun,
            )

    def discard(self) -> None:
        """Forget what came; nothing happens after `finish`."""
        self._spool.discard()


def _check_match(header: Header, arrival: Arrival) -> None:
    announced = (arrival.sop_class_uid, arrival.sop_instance_uid)
    if announced != (header.sop_class_uid, header.sop_instance_uid):
        raise UidMismatch(
            f"Instance {header.sop_instance_uid} of SOP Class {header.sop_class_uid} was announced as "
            f"{arrival.sop_instance_uid} of {arrival.sop_class_uid}; correct the sender"
        )
    if arrival.study_instance_uid not in ("", header.study_instance_uid):
        raise UidMismatch(
            f"Instance {header.sop_instance_uid} belongs to Study {header.study_instance_uid} and was sent to "
            f"{arrival.study_instance_uid}; correct the sender"
        )
