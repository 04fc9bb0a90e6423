"""Station 6: PENDING Deliveries of one Destination leave, each with its own back-off."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from node.audit.transfer import Transfer
from node.delivery.health import Health
from node.delivery.lookout import Lookout
from node.delivery.outbox import DeliveryLedger
from node.delivery.transport import Transport
from node.domain.result import Delivery
from node.domain.uids import StudyUID
from node.errors import Broken, DestinationBusy, DestinationDown, LedgerBusy, Misconfigured, NodeError
from node.peers.pace import Pace
from node.peers.parcel import Fate, Outcome, Parcel
from node.peers.patience import Patience

logger = logging.getLogger(__name__)

STUDY_DELIVERED = "study delivered"
DELIVERY_REFUSED = "delivery refused"
DESTINATION_DEFERRED = "destination deferred"
DESTINATION_MISCONFIGURED = "destination misconfigured"
GAVE_UP = "gave-up"
# What one object met is no word on the Destination: that it is down stands at all that waits, once it was deferred.
UNANSWERED = "unanswered"

# How many Deliveries are taken from the ledger at once.
DUE_LIMIT = 500
# After so long a tick ends, though more is due: a node that is told to end does not wait for all of a backlog.
TICK_LIMIT = timedelta(seconds=1)
# So long an answer that may be doubted is, while the Destination takes nothing at all; what can stand in goes then.
DOUBTED_FOR = timedelta(days=1)
# By what part of `give_up_days` a Delivery may be older when it is given up.
AGE_STEP = 0.001

# What keeps everything that waits for a Destination.
Obstacle = DestinationDown | DestinationBusy | Misconfigured


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
        self._health = Health(destination)
        self._pace = Pace(patience.per_minute)
        # Answers that are not in the ledger yet, with their time, and are written before anything else is sent.
        self._answers: deque[tuple[Delivery, Outcome, datetime]] = deque()
        self._failures = 0
        self._is_down = False
        self._closed_until: datetime | None = None
        self._aged_at: datetime | None = None
        # Retries ordered by hand as far as they are known; those from before are history.
        self._orders: int | None = None

    def tick(self, now: datetime) -> datetime | None:
        """Send what is due, then see what the Destination accepts if that is not known; return when to be called next.

        Each answer is committed to the ledger before the next object is sent, so a crash repeats one object at most.
        What a ledger that does not answer cannot take is kept, and written first, so that no object is sent a second
        time. Where another node has tried the Delivery meanwhile, or it was made due anew, that holds, not the answer.
        A Destination that is down costs one connection per back-off step, however many Deliveries wait or arrive; when
        it is there again, all of them leave, the oldest first.

        Raises
        ------
        LedgerBusy
            If an answer could not be written.
        """
        # What a person orders while this tick lasts is for the next one.
        is_urged = self._is_urged()
        if self._patience.is_lasting(self._closed_until, now=now) and not is_urged:
            return self._closed_until
        self._closed_until = None
        self._write_answers(Counter())
        if self._is_down and self._is_due(now) and not self._has_returned():
            self._give_up()
            return self._next_call(now)
        return self._send_due(now) or self._next_call(now)

    def _is_urged(self) -> bool:
        """Return whether a person has ordered a retry since it was looked at last; whoever does, has seen to it."""
        known, self._orders = self._orders, self._ledger.retries_ordered(self._destination)
        return known is not None and self._orders > known

    def _is_due(self, now: datetime) -> bool:
        """Return whether anything waits that may be sent now."""
        next_delivery_at = self._ledger.next_delivery_at(self._destination)
        return next_delivery_at is not None and next_delivery_at <= now

    def _send_due(self, now: datetime) -> datetime | None:
        """Send what is due, Study by Study; return when to go on, None when all is sent or something is in the way."""
        began = self._surroundings.clock()
        # What ended otherwise, by hand or of age, is no suspect any more.
        if suspects := self._health.suspects:
            self._health.forget(suspects - self._ledger.still_pending(suspects))
        for study in _group_by_study(self._ledger.due_deliveries(self._destination, now, DUE_LIMIT)):
            # A Result may have been taken back while the Studies before it were sent.
            pending = self._ledger.still_pending(study.keys())
            waiting = {number: delivery for number, delivery in study.items() if number in pending}
            at = self._surroundings.clock()
            # After a failure one object shows whether the Destination takes anything again.
            room = self._pace.room(at, wanted=min(1, len(waiting)) if self._failures else len(waiting))
            self._pace.spend(room)
            if room and not self._deliver(dict(islice(waiting.items(), room))):
                self._give_up()
                return None
            if room < len(waiting):
                return self._pace.opens_at(at)
            if at - began >= TICK_LIMIT:
                return at
        return None

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

    def _deliver(self, study: Mapping[int, Delivery]) -> bool:
        """Send objects of one Study; return whether the Destination takes anything at all."""
        began = self._surroundings.clock()
        tally: Counter[Fate] = Counter()
        waiting = dict(study)
        obstacle: Obstacle | None = None
        transfer = self._surroundings.depart(next(iter(study.values())).study_instance_uid)

        def report(parcel: Parcel, outcome: Outcome) -> None:
            nonlocal obstacle
            if outcome.fate is Fate.SENT:
                transfer.count(parcel.sop_class_uid)
            obstacle = self._health.judge(parcel.delivery_id, outcome)
            self._take_answer(waiting.pop(parcel.delivery_id), outcome, tally)

        try:
            self._transport.send([self._parcel(delivery) for delivery in study.values()], report)
        except (DestinationDown, DestinationBusy, Misconfigured) as exc:
            obstacle = exc
        else:
            at = self._surroundings.clock()
            self._answers.extend((delivery, _forgotten(delivery), at) for delivery in waiting.values())
        finally:
            transfer.end()
        self._write_answers(tally)
        self._log_study(next(iter(study.values())), tally, began)
        if tally[Fate.SENT] or obstacle is None:
            self._failures = 0
        if obstacle is not None:
            self._defer(obstacle)
        return obstacle is None

    def _take_answer(self, delivery: Delivery, outcome: Outcome, tally: Counter[Fate]) -> None:
        """Write an answer, or keep it where the ledger does not take it now."""
        is_ledger_there = not self._answers
        self._answers.append((delivery, outcome, self._surroundings.clock()))
        if is_ledger_there:
            # What is sent meanwhile is kept as well, without waiting for the ledger once more; then the tick ends.
            with suppress(LedgerBusy):
                self._write_answers(tally)

    def _write_answers(self, tally: Counter[Fate]) -> None:
        """Commit every answer that is not in the ledger yet."""
        while self._answers:
            delivery, outcome, at = self._answers[0]
            fate = self._record(delivery, outcome, at)
            self._answers.popleft()
            tally[fate] += 1
            if fate is not Fate.RETRY:
                # What the Destination takes is learned from the next object as well.
                with suppress(LedgerBusy):
                    self._lookout.learn((delivery.sop_class_uid, delivery.transfer_syntax_uid), outcome)

    def _parcel(self, delivery: Delivery) -> Parcel:
        """Return a Delivery as the transports know it."""
        return Parcel(
            delivery_id=delivery.delivery_id,
            sop_class_uid=delivery.sop_class_uid,
            sop_instance_uid=delivery.sop_instance_uid,
            transfer_syntax_uid=delivery.transfer_syntax_uid,
            path=self._surroundings.locate(delivery.path),
            size_bytes=delivery.size_bytes,
        )

    def _record(self, delivery: Delivery, outcome: Outcome, now: datetime) -> Fate:
        """Commit what became of one object that was answered at `now`, and return its fate."""
        attempts = delivery.attempts + 1
        fate = outcome.fate
        code, text = outcome.code, outcome.text
        if fate is Fate.RETRY and self._is_believed(delivery, outcome, now):
            fate = Fate.REFUSED
        elif fate is Fate.RETRY and self._is_older(delivery, self._patience.give_up_after, now):
            fate, code, text = Fate.REFUSED, GAVE_UP, self._explain_overdue(text)
        match fate:
            case Fate.SENT:
                self._ledger.record_sent(delivery, now=now, reason_code=code, reason_text=text)
            case Fate.REFUSED:
                self._refuse(delivery, code or GAVE_UP, text or "", now=now)
            case Fate.LEFT_OUT:
                self._ledger.leave_out(delivery)
            case Fate.RETRY:
                not_before = now + self._patience.pause(attempts, self._surroundings.chance())
                self._ledger.record_retry(
                    delivery,
                    now=now,
                    not_before=not_before,
                    reason=(UNANSWERED if code == DestinationDown.code else code or NodeError.code, text or ""),
                    is_doubtful=outcome.tries is not None and not self._health.excuses(delivery.delivery_id),
                )
        return fate

    def _is_believed(self, delivery: Delivery, outcome: Outcome, now: datetime) -> bool:
        """Return whether an object had such an outcome often enough to be given up."""
        if outcome.tries is None:
            return False
        if self._health.excuses(delivery.delivery_id):
            return self._is_older(delivery, DOUBTED_FOR, now)
        return delivery.doubts + 1 >= outcome.tries

    def _defer(self, error: Obstacle) -> None:
        """Close the Destination for one back-off step."""
        now = self._surroundings.clock()
        self._failures += 1
        # The first, second, fourth, eighth … time: an outage of a day is not told 10,000 times.
        is_news = self._failures.bit_count() == 1
        # One that is busy answers, and only the next object tells when it no longer is.
        self._is_down = not isinstance(error, DestinationBusy)
        pause = self._patience.knock_pause if self._is_down else self._patience.pause
        self._closed_until = now + pause(self._failures, self._surroundings.chance())
        self._ledger.defer_deliveries(
            self._destination,
            now=now,
            not_before=self._closed_until,
            reason=(error.code, str(error)),
            is_news=is_news,
        )
        needs_person = isinstance(error, Misconfigured)
        level = logging.ERROR if needs_person else logging.WARNING
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

    def _give_up(self) -> None:
        """Refuse what a Destination has kept waiting for too long."""
        now = self._surroundings.clock()
        if self._aged_at is not None and abs(now - self._aged_at) < self._patience.give_up_after * AGE_STEP:
            return
        self._aged_at = now
        for delivery in self._ledger.overdue_deliveries(self._destination, now - self._patience.give_up_after):
            self._refuse(delivery, GAVE_UP, self._explain_overdue(delivery.reason_text), now=now)

    def _refuse(self, delivery: Delivery, code: str, text: str, *, now: datetime) -> None:
        """Commit a refusal, and tell it as loudly as it needs."""
        needs_person = self._ledger.record_refused(delivery, now=now, reason_code=code, reason_text=text)
        self._log(logging.ERROR if needs_person else logging.WARNING, DELIVERY_REFUSED, delivery, code)

    def _is_older(self, delivery: Delivery, age: timedelta, now: datetime) -> bool:
        """Return whether a Delivery was ordered, or last made due by hand, so long ago."""
        ordered_at = self._ledger.delivery_age_start(delivery.delivery_id)
        return ordered_at is not None and now - ordered_at >= age

    def _explain_overdue(self, reason: str | None) -> str:
        """Return why a Delivery was given up, with what last went wrong."""
        days = self._patience.give_up_days
        return f"not delivered within {days:g} days; correct the destination and retry. Last: {reason or 'no answer'}"

    def _log_study(self, delivery: Delivery, tally: Counter[Fate], began: datetime) -> None:
        """Write the canonical line of one Association."""
        if tally.total() == tally[Fate.LEFT_OUT]:
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


def _forgotten(delivery: Delivery) -> Outcome:
    """Return what keeps a transport that returns without a word about an object from being called again at once."""
    return Outcome.retry(Broken(f"the transport said nothing about Instance {delivery.sop_instance_uid}"))


def _group_by_study(due: tuple[Delivery, ...]) -> list[dict[int, Delivery]]:
    """Return the Deliveries of each Study by their key; what failed least goes first.

    An object that breaks the Destination each time would otherwise stand before all others for ever.
    """
    studies: dict[str, dict[int, Delivery]] = {}
    for delivery in sorted(due, key=lambda delivery: delivery.attempts):
        studies.setdefault(delivery.study_instance_uid, {})[delivery.delivery_id] = delivery
    return list(studies.values())
