"""Station 6b: what a Destination took is asked for again, until it is proven that it holds it."""

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Protocol

from node.delivery.inquiry import Inquiry, TakeReport, Way
from node.domain.confirmation import Aftermath, CommitmentReport, ConfirmBy, Unproven
from node.errors import DestinationBusy, DestinationDown, Misconfigured
from node.peers.patience import Patience

logger = logging.getLogger(__name__)

DELIVERIES_CONFIRMED = "deliveries confirmed"
COMMITMENT_REPORTED = "commitment reported"
DELIVERIES_LOST = "deliveries lost"
DELIVERIES_GIVEN_UP = "deliveries given up"
DELIVERIES_UNCONFIRMED = "deliveries unconfirmed"
DESTINATION_REFUSES_QUESTIONS = "destination refuses questions"
DESTINATION_NOT_ASKED = "destination not asked"
# How much is asked about in one conversation, and so in one transaction at most: its report must fit into what the
# receiver takes.
LIMIT = 1000
# An archive may file an object a while after it took it: what a query does not find is looked for again, so many
# times as long after the first look, then after this part of the time that a report has, then after all of it.
SECOND_LOOK = 3
THIRD_LOOK = 1 / 6
# After so long a tick ends, though more is to be asked about: a node that is told to end does not wait for all of it.
TICK_LIMIT = timedelta(seconds=5)
# A Destination that ends the conversation over a question so many times in a row refuses questions of that kind, and
# is asked otherwise for a while.
BREAKS = 2
FORGIVEN_AFTER = timedelta(hours=1)
# How often is looked whether a report came on another Association than ours.
LOOK_EVERY_S = 0.25


class ProofLedger(Protocol):
    """What the confirmer needs of the ledger; each operation is one transaction."""

    def due_proofs(self, destination: str, *, now: datetime, sent_before: datetime, limit: int) -> tuple[Unproven, ...]:
        """Return what the Destination is to be asked about now, whole Studies together."""

    def next_proof_at(self, destination: str, *, after: timedelta) -> datetime | None:
        """Return when something is to be asked about next, so long after its sending at the earliest."""

    def count_sent(self, destination: str, series_instance_uid: str) -> int:
        """Return how many objects of a Series the Destination should hold."""

    def begin_commitment(self, delivery_ids: Collection[int], transaction_uid: str, *, ask_at: datetime) -> None:
        """Commit that a Storage Commitment is about to be asked for."""

    def withdraw_question(self, delivery_ids: Collection[int], *, ask_at: datetime) -> None:
        """Commit that a Storage Commitment was not asked for after all."""

    def is_awaited(self, transaction_uids: Collection[str]) -> bool:
        """Return whether one of these transactions is still without a report on all its objects."""

    def record_report(self, report: CommitmentReport, *, now: datetime) -> int:
        """Commit what a Destination reports."""

    def has_found(self, destination: str, sop_class_uid: str, *, by: str) -> bool:
        """Return whether the Destination was seen to hold an object of this SOP Class when it was asked in this way."""

    def record_held(self, delivery_ids: Collection[int], *, by: str, now: datetime) -> None:
        """Commit that the Destination holds these objects."""

    def record_missing(self, delivery_ids: Collection[int], *, by: str, now: datetime) -> None:
        """Commit that the Destination does not hold these objects."""

    def put_off(self, delivery_ids: Collection[int], *, ask_at: datetime, is_missed: bool = False) -> None:
        """Commit that a question brought no answer that counts."""

    def give_up(self, delivery_ids: Collection[int], *, now: datetime) -> None:
        """Commit that nobody asks about these objects any more, with an alarm."""

    def forgo(self, destination: str, delivery_ids: Collection[int] | None = None) -> None:
        """Commit that the Destination is not asked about these objects, or about any."""

    def forget_retracted(self, destination: str) -> None:
        """Commit that nobody asks about what was taken back."""

    def follow_losses(self, destination: str, *, tries: int, now: datetime) -> Aftermath:
        """Commit what follows for each object that was lost: it is sent again, or a person is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How and how often a Destination is asked.

    Attributes
    ----------
    after
        How long after its sending an object is asked about.
    wait
        How long a report may take, and the pause after a question without an answer.
    tries
        Questions without an answer, or sendings of what was lost, until a person is told.
    patience
        How long a Destination that cannot be reached is left alone.
    listen_s
        How long an Association is kept for a report on it; seconds.
    """

    confirm: ConfirmBy
    after: timedelta
    wait: timedelta
    tries: int
    patience: Patience
    listen_s: float = 5.0

    def look_pauses(self) -> tuple[timedelta, ...]:
        """Return how long after each look that found nothing an object is looked for again; after them it is gone."""
        second = SECOND_LOOK * self.after
        return second, max(second, self.wait * THIRD_LOOK), max(second, self.wait)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a confirmer is given by the process it lives in.

    Attributes
    ----------
    open_inquiry
        Gives a conversation with the Destination; see `node.delivery.inquiry.open_inquiry`.
    clock
        The time now (UTC).
    chance
        Uniform in [0, 1).
    resent
        Called when something is to be sent again.
    """

    open_inquiry: Callable[[TakeReport], AbstractContextManager[Inquiry]]
    clock: Callable[[], datetime]
    chance: Callable[[], float]
    resent: Callable[[], None]


class Confirmer:
    """Asks one Destination whether it holds what it took; called by one thread at a time.

    Parameters
    ----------
    destination
        Its name in the settings.
    """

    def __init__(self, *, destination: str, ledger: ProofLedger, terms: Terms, surroundings: Surroundings) -> None:
        self._destination = destination
        self._ledger = ledger
        self._terms = terms
        self._patience = terms.patience
        self._surroundings = surroundings
        self._clock = surroundings.clock
        self._failures = 0
        self._closed_until: datetime | None = None
        # How often in a row a question by each way ended the conversation, and when that was last.
        self._breaks: Counter[Way] = Counter()
        self._broken_at: datetime | None = None
        # By which way objects of which SOP Class were found here.
        self._finds: set[tuple[str, str]] = set()
        self._ends_at = datetime.max.replace(tzinfo=UTC)

    def tick(self, now: datetime) -> datetime | None:
        """Send on its way again what was lost, and ask about what is due; return when to be called next.

        Each question is committed before it is asked, and each answer before it is acknowledged. A Destination that
        cannot be reached, or ends the conversation over a question, is called again after a growing pause; that counts
        for no object as a question.

        Raises
        ------
        LedgerBusy
            If something could not be committed; it is asked again.
        """
        self._follow_losses(now)
        if self._terms.confirm is ConfirmBy.NONE:
            self._ledger.forgo(self._destination)
            return None
        if self._patience.is_lasting(self._closed_until, now=now):
            return self._closed_until
        self._ledger.forget_retracted(self._destination)
        due = self._give_up(self._due(now), now)
        if due:
            try:
                self._ask(due)
                self._failures, self._closed_until = 0, None
            except (DestinationDown, Misconfigured) as exc:
                self._close(exc)
                return self._closed_until
        return self._ledger.next_proof_at(self._destination, after=self._terms.after)

    def _due(self, now: datetime) -> tuple[Unproven, ...]:
        """Return what is due, with what is due soon: objects that left together are asked about together."""
        before = now - self._terms.after
        due = self._ledger.due_proofs(self._destination, now=now, sent_before=before, limit=LIMIT)
        if not due:
            return ()
        soon = before + self._terms.after / 2
        return self._ledger.due_proofs(self._destination, now=now, sent_before=soon, limit=LIMIT)

    def _follow_losses(self, now: datetime) -> None:
        aftermath = self._ledger.follow_losses(self._destination, tries=self._terms.tries, now=now)
        if aftermath.resent:
            logger.warning(DELIVERIES_LOST, extra={"destination": self._destination, "count": aftermath.resent})
            self._surroundings.resent()
        if aftermath.given_up:
            logger.error(DELIVERIES_GIVEN_UP, extra={"destination": self._destination, "count": aftermath.given_up})

    def _give_up(self, due: Sequence[Unproven], now: datetime) -> list[Unproven]:
        """Return what is asked about once more; of the rest a person is told."""
        over = [one.delivery_id for one in due if one.asks >= self._terms.tries]
        if over:
            self._ledger.give_up(over, now=now)
            logger.error(DELIVERIES_UNCONFIRMED, extra={"destination": self._destination, "count": len(over)})
        return [one for one in due if one.asks < self._terms.tries]

    def _ask(self, due: Sequence[Unproven]) -> None:
        """Ask about everything that is due in one conversation."""
        transactions: set[str] = set()
        self._forgive()
        with self._surroundings.open_inquiry(self._take_report) as inquiry:
            self._ends_at = self._clock() + TICK_LIMIT
            for (_, transaction_uid), group in groupby(sorted(due, key=_study_of), key=_study_of):
                objects = list(group)
                way = self._choose(inquiry.ways, objects)
                if way is None:
                    self._miss_way(objects)
                else:
                    transactions |= self._ask_by(way, inquiry, transaction_uid, objects)
                if self._is_late():
                    break
            self._listen(inquiry, transactions)

    def _is_late(self) -> bool:
        """Return whether the rest is to be left to the next tick."""
        return self._clock() >= self._ends_at

    def _forgive(self) -> None:
        """Try again, after a while, what ended conversations; a longer one means that the clock was set back."""
        if self._broken_at is not None and not timedelta(0) <= self._clock() - self._broken_at < FORGIVEN_AFTER:
            self._breaks.clear()
            self._broken_at = None

    def _choose(self, ways: Sequence[Way], objects: Sequence[Unproven]) -> Way | None:
        """Return how to ask: the best way first, and where that brought no answer the next."""
        usable = [way for way in ways if self._breaks[way] < BREAKS]
        was_asked = any(one.asks for one in objects)
        return next(iter(usable[1:] if was_asked and len(usable) > 1 else usable), None)

    def _ask_by(self, way: Way, inquiry: Inquiry, transaction_uid: str, objects: Sequence[Unproven]) -> set[str]:
        """Ask in one way; return the transactions on which a report may come in this conversation."""
        try:
            if way is Way.COMMITMENT:
                transactions = self._request(inquiry, transaction_uid, objects)
            else:
                transactions = set()
                self._find(inquiry, way, objects)
        except DestinationDown:
            self._breaks[way] += 1
            self._broken_at = self._clock()
            raise
        self._breaks[way] = 0
        return transactions

    def _request(self, inquiry: Inquiry, transaction_uid: str, objects: Sequence[Unproven]) -> set[str]:
        """Ask for a report; return the transactions on which one may come in this conversation."""
        # Once more with the same one, so that a late report answers both (PS3.4 J.3.2).
        uid = transaction_uid or f"2.25.{uuid.uuid4().int}"
        ids = _ids(objects)
        self._ledger.begin_commitment(ids, uid, ask_at=self._clock() + self._terms.wait)
        try:
            is_taken = inquiry.request(uid, objects)
        except DestinationDown:
            self._ledger.withdraw_question(ids, ask_at=self._clock())
            raise
        if is_taken:
            return {uid}
        others = [way for way in inquiry.ways if way is not Way.COMMITMENT]
        if others:
            self._find(inquiry, others[0], objects)
        return set()

    def _find(self, inquiry: Inquiry, way: Way, objects: Sequence[Unproven]) -> None:
        """Ask which objects are there, Series by Series."""
        by_series = attrgetter("series_instance_uid")
        known = [one for one in objects if one.series_instance_uid is not None]
        for _, group in groupby(sorted(known, key=by_series), key=by_series):
            asked = list(group)
            try:
                held = inquiry.find(asked, self._count_sent)
            except DestinationBusy:
                self._ledger.put_off(_ids(asked), ask_at=self._clock() + self._terms.wait)
            else:
                self._record(asked, held, by=way.value)
            if self._is_late():
                return
        unknown = [one for one in objects if one.series_instance_uid is None]
        if unknown:
            self._ledger.put_off(_ids(unknown), ask_at=self._clock() + self._terms.wait)

    def _record(self, asked: Sequence[Unproven], held: frozenset[str], *, by: str) -> None:
        """Commit what a query found; what it did not find is looked for again before it counts as lost."""
        now = self._clock()
        found = [one for one in asked if one.sop_instance_uid in held]
        absent = [one for one in asked if one.sop_instance_uid not in held]
        if found:
            self._finds |= {(by, one.sop_class_uid) for one in found}
            self._ledger.record_held(_ids(found), by=by, now=now)
            logger.info(DELIVERIES_CONFIRMED, extra={"destination": self._destination, "count": len(found)})
        pauses = self._terms.look_pauses()
        for looks, pause in enumerate(pauses):
            if missed := [one for one in absent if one.misses == looks]:
                self._ledger.put_off(_ids(missed), ask_at=now + pause, is_missed=True)
        gone = [one for one in absent if one.misses >= len(pauses)]
        if lost := [one for one in gone if self._would_find(one, by)]:
            self._ledger.record_missing(_ids(lost), by=by, now=now)
        if unclear := [one for one in gone if not self._would_find(one, by)]:
            self._ledger.put_off(_ids(unclear), ask_at=now + self._terms.wait)

    def _would_find(self, one: Unproven, by: str) -> bool:
        """Return whether this way ever found an object of the kind: many a PACS lets us store, and not query all."""
        key = by, one.sop_class_uid
        if key not in self._finds and self._ledger.has_found(self._destination, one.sop_class_uid, by=by):
            self._finds.add(key)
        return key in self._finds

    def _miss_way(self, objects: Sequence[Unproven]) -> None:
        """Commit what follows where the Destination offers no way that is allowed, or refuses each."""
        if self._broken_at is not None and self._breaks.total():
            logger.warning(DESTINATION_REFUSES_QUESTIONS, extra={"destination": self._destination})
            self._ledger.put_off(_ids(objects), ask_at=self._broken_at + FORGIVEN_AFTER)
        elif self._terms.confirm is ConfirmBy.AUTO:
            self._ledger.forgo(self._destination, _ids(objects))
        else:
            self._ledger.put_off(_ids(objects), ask_at=self._clock() + self._terms.wait)

    def _listen(self, inquiry: Inquiry, transactions: Collection[str]) -> None:
        """Keep the conversation for reports, until all have come on it or elsewhere, or the Destination ends it."""
        looks = int(self._terms.listen_s / LOOK_EVERY_S) if transactions else 0
        # Every question has had its answer: who breaks it off now only reports elsewhere.
        with suppress(DestinationDown):
            for _ in range(looks):
                if not self._ledger.is_awaited(transactions) or not inquiry.listen(LOOK_EVERY_S):
                    break
        self._follow_losses(self._clock())

    def _take_report(self, report: CommitmentReport) -> None:
        """Commit a report that came in a conversation of ours."""
        answered = self._ledger.record_report(report, now=self._clock())
        logger.info(COMMITMENT_REPORTED, extra={"destination": self._destination, "count": answered})

    def _count_sent(self, series_instance_uid: str) -> int:
        return self._ledger.count_sent(self._destination, series_instance_uid)

    def _close(self, error: DestinationDown | Misconfigured) -> None:
        """Leave a Destination that cannot be asked alone for one step."""
        self._failures += 1
        self._closed_until = self._clock() + self._patience.pause(self._failures, self._surroundings.chance())
        # Once: the Deliveries that fail tell the rest.
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        logger.log(level, DESTINATION_NOT_ASKED, extra={"destination": self._destination, "reason_code": error.code})


def _study_of(one: Unproven) -> tuple[str, str]:
    """Return the Study of an object, and the transaction in which it was asked about, "" when in none."""
    return one.study_instance_uid, one.transaction_uid or ""


def _ids(objects: Iterable[Unproven]) -> list[int]:
    return [one.delivery_id for one in objects]
