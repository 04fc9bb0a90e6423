"""Station 6: PENDING Deliveries of one Destination leave, each with its own back-off."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from node.audit.transfer import Transfer
from node.delivery.lookout import Lookout
from node.delivery.parcel import Fate, Outcome, Parcel
from node.delivery.patience import Patience
from node.delivery.transport import Transport
from node.domain.result import Delivery
from node.domain.uids import StudyUID
from node.errors import Broken, DestinationBusy, DestinationDown, Misconfigured, NodeError

logger = logging.getLogger(__name__)

STUDY_DELIVERED = "study delivered"
DELIVERY_REFUSED = "delivery refused"
DESTINATION_DEFERRED = "destination deferred"
DESTINATION_MISCONFIGURED = "destination misconfigured"
GAVE_UP = "gave-up"

# How many Deliveries are taken from the ledger at once.
DUE_LIMIT = 500


class DeliveryLedger(Protocol):
    """What the courier needs of the ledger; each operation is one transaction.

    The operations named `record_` count one attempt. `defer_deliveries` counts none: the objects were not tried, and an
    outage must not use up the few attempts of an object that the Destination cannot understand.
    """

    def due_deliveries(self, destination: str, now: datetime, limit: int) -> tuple[Delivery, ...]:
        """Return PENDING Deliveries whose `not_before` has come, those with fewest attempts first."""

    def still_pending(self, delivery_ids: Collection[int]) -> frozenset[int]:
        """Return which of these Deliveries are PENDING."""

    def next_delivery_at(self, destination: str) -> datetime | None:
        """Return the earliest `not_before` of a PENDING Delivery; None if there is none."""

    def record_sent(self, delivery_id: int, *, now: datetime, reason_code: str | None, reason_text: str | None) -> None:
        """Turn a Delivery SENT; the reason is the warning with which it was taken."""

    def record_refused(self, delivery_id: int, *, now: datetime, reason_code: str, reason_text: str) -> bool:
        """Turn a Delivery REFUSED, order what can stand in for it, and return whether a person must act."""

    def record_retry(
        self, delivery_id: int, *, now: datetime, not_before: datetime, reason_code: str, reason_text: str
    ) -> None:
        """Leave a Delivery PENDING until `not_before`."""

    def defer_deliveries(
        self, destination: str, *, now: datetime, not_before: datetime, reason_code: str, reason_text: str
    ) -> None:
        """Let every PENDING Delivery of the Destination wait until `not_before` at least."""

    def delivery_age_start(self, delivery_id: int) -> datetime | None:
        """Return when the Delivery was ordered; None if it is not there any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a courier is given by the process it lives in.

    Attributes
    ----------
    locate
        Turns the path of a Delivery, relative to the store's root, into an absolute one.
    clock
        The time now (UTC).
    chance
        Uniform in [0, 1).
    depart
        Returns what tells the audit trail of one Study on its way.
    knock
        Returns when a Destination that was down is there again, and raises DestinationDown or Misconfigured when not.
    """

    locate: Callable[[str], Path]
    clock: Callable[[], datetime]
    chance: Callable[[], float]
    depart: Callable[[StudyUID], Transfer]
    knock: Callable[[], object]


class Courier:
    """Takes what is due to one Destination; never called inside a GPU task, and by one thread at a time.

    Parameters
    ----------
    destination
        Its name in the settings.
    """

    def __init__(
        self,
        *,
        destination: str,
        ledger: DeliveryLedger,
        transport: Transport,
        lookout: Lookout,
        patience: Patience,
        surroundings: Surroundings,
    ) -> None:
        self._destination = destination
        self._ledger = ledger
        self._transport = transport
        self._lookout = lookout
        self._patience = patience
        self._surroundings = surroundings
        self._failures = 0
        self._is_down = False
        self._closed_until: datetime | None = None

    def tick(self, now: datetime) -> datetime | None:
        """Send what is due, then see what the Destination accepts if that is not known; return when to be called next.

        Each answer is committed to the ledger before the next object is sent, so a crash repeats one object at most.
        A Destination that is down costs one connection per back-off step, however many Deliveries wait or arrive; when
        it is there again, all of them leave.

        Raises
        ------
        LedgerBusy
            If an answer could not be written; that object will be sent again, with the same UID and bytes.
        """
        closed_for = timedelta(0) if self._closed_until is None else self._closed_until - now
        # Longer than any pause: somebody has set the clock back.
        if timedelta(0) < closed_for <= self._patience.longest_pause:
            return self._closed_until
        self._closed_until = None
        due = self._ledger.due_deliveries(self._destination, now, DUE_LIMIT)
        waiting = {delivery.delivery_id: delivery for delivery in due}
        if due and self._is_down and not self._has_returned():
            self._give_up(waiting.values())
            return self._next_call(now)
        for study in _group_by_study(due):
            # A Result may have been taken back while the Studies before it were sent.
            pending = self._ledger.still_pending(study.keys())
            for delivery_id in study.keys() - pending:
                del study[delivery_id], waiting[delivery_id]
            if study and not self._deliver(study, waiting):
                self._give_up(waiting.values())
                break
        return self._next_call(now)

    def _has_returned(self) -> bool:
        """Return whether a Destination that was down is there again."""
        try:
            self._surroundings.knock()
        except (DestinationDown, Misconfigured) as exc:
            self._defer(exc)
            return False
        self._is_down = False
        return True

    def _next_call(self, now: datetime) -> datetime | None:
        """Return the earliest time at which something can be done."""
        next_delivery_at = self._ledger.next_delivery_at(self._destination)
        if self._closed_until is not None:
            return None if next_delivery_at is None else max(next_delivery_at, self._closed_until)
        # Only now that all is sent: a probe holds up no Delivery, and a Destination that is down is not asked.
        refresh_at = self._lookout.refresh(now)
        return min((at for at in (next_delivery_at, refresh_at) if at is not None), default=None)

    def _deliver(self, study: Mapping[int, Delivery], waiting: dict[int, Delivery]) -> bool:
        """Send the objects of one Study; return whether the Destination is there at all.

        What got an answer is taken out of `waiting`.
        """
        began = self._surroundings.clock()
        tally: Counter[Fate] = Counter()
        transfer = self._surroundings.depart(next(iter(study.values())).study_instance_uid)

        def report(parcel: Parcel, outcome: Outcome) -> None:
            if outcome.fate is Fate.SENT:
                transfer.count(parcel.sop_class_uid)
            tally[self._record(waiting.pop(parcel.delivery_id), outcome)] += 1

        error: DestinationDown | DestinationBusy | Misconfigured | None = None
        try:
            self._transport.send([self._parcel(delivery) for delivery in study.values()], report)
        except (DestinationDown, DestinationBusy, Misconfigured) as exc:
            error = exc
        finally:
            transfer.end()
        if tally[Fate.SENT] or error is None:
            self._failures = 0
        if error is not None:
            self._defer(error)
        else:
            forgotten = [waiting.pop(delivery_id) for delivery_id in study if delivery_id in waiting]
            self._record_forgotten(forgotten, tally)
        self._log_study(next(iter(study.values())), tally, began)
        return error is None

    def _parcel(self, delivery: Delivery) -> Parcel:
        """Return a Delivery as the transports know it."""
        return Parcel(
            delivery_id=delivery.delivery_id,
            sop_class_uid=delivery.sop_class_uid,
            sop_instance_uid=delivery.sop_instance_uid,
            transfer_syntax_uid=delivery.transfer_syntax_uid,
            path=self._surroundings.locate(delivery.path),
        )

    def _record(self, delivery: Delivery, outcome: Outcome) -> Fate:
        """Commit what became of one object and return its fate."""
        now = self._surroundings.clock()
        attempts = delivery.attempts + 1
        fate = outcome.fate
        code, text = outcome.code, outcome.text
        if fate is Fate.RETRY and outcome.tries is not None and attempts >= outcome.tries:
            fate = Fate.REFUSED
        elif fate is Fate.RETRY and self._is_overdue(delivery, now):
            fate, code, text = Fate.REFUSED, GAVE_UP, self._explain_overdue(text)
        match fate:
            case Fate.SENT:
                self._ledger.record_sent(delivery.delivery_id, now=now, reason_code=code, reason_text=text)
            case Fate.REFUSED:
                self._refuse(delivery, code or GAVE_UP, text or "", now=now)
            case Fate.RETRY:
                not_before = now + self._patience.pause(attempts, self._surroundings.chance())
                self._ledger.record_retry(
                    delivery.delivery_id,
                    now=now,
                    not_before=not_before,
                    reason_code=code or NodeError.code,
                    reason_text=text or "",
                )
        if fate is not Fate.RETRY:
            self._lookout.learn((delivery.sop_class_uid, delivery.transfer_syntax_uid), outcome)
        return fate

    def _record_forgotten(self, forgotten: Iterable[Delivery], tally: Counter[Fate]) -> None:
        """Keep a transport that returns without a word about an object from being called again at once."""
        for delivery in forgotten:
            error = Broken(f"the transport said nothing about Instance {delivery.sop_instance_uid}")
            tally[self._record(delivery, Outcome.retry(error))] += 1

    def _defer(self, error: DestinationDown | DestinationBusy | Misconfigured) -> None:
        """Close the Destination for one back-off step."""
        now = self._surroundings.clock()
        self._failures += 1
        # One that is busy answers, and only the next object tells when it no longer is.
        self._is_down = not isinstance(error, DestinationBusy)
        pause = self._patience.knock_pause if self._is_down else self._patience.pause
        self._closed_until = now + pause(self._failures, self._surroundings.chance())
        self._ledger.defer_deliveries(
            self._destination,
            now=now,
            not_before=self._closed_until,
            reason_code=error.code,
            reason_text=str(error),
        )
        needs_person = isinstance(error, Misconfigured)
        level = logging.ERROR if needs_person else logging.WARNING
        # The first, second, fourth, eighth … time: an outage of a day is not told 10,000 times.
        is_news = self._failures.bit_count() == 1
        logger.log(
            level if is_news else logging.DEBUG,
            DESTINATION_MISCONFIGURED if needs_person else DESTINATION_DEFERRED,
            extra={
                "destination": self._destination,
                "reason_code": error.code,
                "failures": self._failures,
                "not_before": self._closed_until.isoformat(),
            },
        )

    def _give_up(self, waiting: Iterable[Delivery]) -> None:
        """Refuse what a Destination that is down has kept waiting for too long."""
        now = self._surroundings.clock()
        for delivery in waiting:
            if self._is_overdue(delivery, now):
                self._refuse(delivery, GAVE_UP, self._explain_overdue(delivery.reason_text), now=now)

    def _refuse(self, delivery: Delivery, code: str, text: str, *, now: datetime) -> None:
        """Commit a refusal, and tell it as loudly as it needs."""
        needs_person = self._ledger.record_refused(delivery.delivery_id, now=now, reason_code=code, reason_text=text)
        self._log(logging.ERROR if needs_person else logging.WARNING, DELIVERY_REFUSED, delivery, code)

    def _is_overdue(self, delivery: Delivery, now: datetime) -> bool:
        """Return whether a Delivery that has just failed is too old to be tried again."""
        ordered_at = self._ledger.delivery_age_start(delivery.delivery_id)
        return ordered_at is not None and now - ordered_at >= timedelta(days=self._patience.give_up_days)

    def _explain_overdue(self, reason: str | None) -> str:
        """Return why a Delivery was given up, with what last went wrong."""
        days = self._patience.give_up_days
        return f"not delivered within {days:g} days; correct the destination and retry. Last: {reason or 'no answer'}"

    def _log_study(self, delivery: Delivery, tally: Counter[Fate], began: datetime) -> None:
        """Write the canonical line of one Association."""
        if not tally.total():
            return
        logger.info(
            STUDY_DELIVERED,
            extra={
                "destination": self._destination,
                "study_uid": delivery.study_instance_uid,
                "sent": tally[Fate.SENT],
                "retried": tally[Fate.RETRY],
                "refused": tally[Fate.REFUSED],
                "seconds": (self._surroundings.clock() - began).total_seconds(),
            },
        )

    def _log(self, level: int, event: str, delivery: Delivery, code: str | None) -> None:
        """Write a line about one object."""
        facts = {"destination": self._destination, "delivery_id": delivery.delivery_id, "reason_code": code}
        logger.log(level, event, extra=facts)


def _group_by_study(due: tuple[Delivery, ...]) -> list[dict[int, Delivery]]:
    """Return the Deliveries of each Study by their key; what failed least goes first.

    An object that breaks the Destination each time would otherwise stand before all others for ever.
    """
    studies: dict[str, dict[int, Delivery]] = {}
    for delivery in sorted(due, key=lambda delivery: delivery.attempts):
        studies.setdefault(delivery.study_instance_uid, {})[delivery.delivery_id] = delivery
    return list(studies.values())
