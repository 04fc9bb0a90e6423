"""The station that tells subscribers of workitems: N-EVENT-REPORT over Associations of our own (PS3.4 CC.2.4)."""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from pydicom import Dataset

from node.domain.workitem import EVENT, PUSH
from node.errors import DestinationDown, Misconfigured, NodeError
from node.ledger.subscriptions import WorkitemEvent
from node.peers.command import N_EVENT_REPORT_RSP, encode_report_command
from node.peers.dialog import Dialog
from node.peers.peer import DestinationSpec, peer_of

logger = logging.getLogger(__name__)

# Whoever cannot be told for so long asks for himself when he is back (PS3.4 CC.2.4.3).
MAX_ATTEMPTS = 5
FIRST_PAUSE = timedelta(seconds=2)
PRUNED_EVERY = timedelta(hours=1)
EVENTS_KEPT = timedelta(days=2)
# Of others, and over.
WORKITEMS_KEPT = timedelta(days=30)
# Hands one subscriber its events, in their order; raises where one was not taken.
Send = Callable[[DestinationSpec, Sequence[WorkitemEvent]], None]


class NewsLedger(Protocol):
    """What the herald asks of the ledger; each operation is one transaction."""

    def follow_jobs(self, *, now: datetime) -> int:
        """Commit what subscribers are told of Jobs that moved; return how many lines were read."""
        ...

    def due_events(self, aets: Collection[str], *, now: datetime, limit: int = 100) -> Sequence[WorkitemEvent]:
        """Return what is to be sent to these subscribers."""
        ...

    def record_sent(self, event_ids: Iterable[int]) -> None:
        """Commit that these are not to be sent any more."""
        ...

    def record_lost(self, event_ids: Collection[int], *, aet: str, code: str, now: datetime) -> None:
        """Commit that a subscriber is told these no more, and an Event that says so."""
        ...

    def record_failed(self, event_ids: Iterable[int], *, send_at: datetime) -> None:
        """Commit that these are sent again."""
        ...

    def prune(self, *, now: datetime, keep: timedelta, keep_events: timedelta) -> None:
        """Delete what nobody needs any more."""
        ...


class Herald:
    """Tells of Jobs and workitems; called by one thread at a time.

    Parameters
    ----------
    peers
        AE title of each subscriber that has an address to what it is; others listen by themselves, over HTTP.
    """

    def __init__(self, ledger: NewsLedger, peers: Mapping[str, DestinationSpec], send: Send) -> None:
        self._ledger = ledger
        self._peers = peers
        self._send = send
        self._pruned_at: datetime | None = None

    def tick(self, now: datetime) -> datetime | None:
        """Follow Jobs, and send what is due; return when to be called next."""
        read = self._ledger.follow_jobs(now=now)
        due: dict[str, list[WorkitemEvent]] = defaultdict(list)
        for event in self._ledger.due_events(self._peers.keys(), now=now) if self._peers else ():
            due[event.aet].append(event)
        next_at = [self._tell(aet, events, now) for aet, events in due.items()]
        self._prune(now)
        return now if read else min(filter(None, next_at), default=None)

    def _tell(self, aet: str, events: Sequence[WorkitemEvent], now: datetime) -> datetime | None:
        ids = [event.event_id for event in events]
        try:
            self._send(self._peers[aet], events)
        except (DestinationDown, Misconfigured) as exc:
            return self._bear(aet, events, exc, now)
        self._ledger.record_sent(ids)
        logger.info("workitems told", extra={"destination": aet, "count": len(ids)})
        return None

    def _bear(self, aet: str, events: Sequence[WorkitemEvent], exc: NodeError, now: datetime) -> datetime:
        attempts = events[0].attempts + 1
        lost = [event.event_id for event in events if event.attempts + 1 >= MAX_ATTEMPTS]
        kept = [event.event_id for event in events if event.attempts + 1 < MAX_ATTEMPTS]
        send_at: datetime = now + FIRST_PAUSE * 2 ** (attempts - 1)
        if lost:
            self._ledger.record_lost(lost, aet=aet, code=exc.code, now=now)
            logger.warning("workitems untold", extra={"destination": aet, "count": len(lost), "reason_code": exc.code})
        if kept:
            self._ledger.record_failed(kept, send_at=send_at)
        return send_at

    def _prune(self, now: datetime) -> None:
        if self._pruned_at is None or abs(now - self._pruned_at) >= PRUNED_EVERY:
            self._ledger.prune(now=now, keep=WORKITEMS_KEPT, keep_events=EVENTS_KEPT)
            self._pruned_at = now


def send_events(spec: DestinationSpec, events: Sequence[WorkitemEvent]) -> None:
    """Tell a subscriber, in one Association; what it answers is taken as that it has heard.

    Raises
    ------
    DestinationDown
        If it is not there, or ends the Association.
    Misconfigured
        If it does not take such events.

    References
    ----------
    DICOM PS3.4 CC.2.4
    """
    with Dialog(peer_of(spec), [EVENT]) as dialog:
        if EVENT not in dialog.accepted:
            raise Misconfigured(f"{spec.name} takes no UPS Event; allow {spec.calling_aet} there, or unsubscribe it")
        for event in events:
            command = encode_report_command(
                message_id=dialog.next_message_id(),
                sop_class_uid=PUSH,
                sop_instance_uid=event.sop_instance_uid,
                event_type=event.event_type,
            )
            dialog.request(EVENT, command, Dataset.from_json(dict(event.information)))
            if dialog.response().command.command_field != N_EVENT_REPORT_RSP:
                raise DestinationDown(f"{spec.name} answered an event with another message")
