"""Transfers under way: one Study between this node and another one, told when it begins and when it is over."""

from collections import Counter
from typing import Protocol

from node.audit.events import Movement, Remote, StudySubject, subject_of, transfer_begun, transfer_ended
from node.audit.message import AuditEvent
from node.domain.study import InstanceFacts

# Studies that one Association may have open; with one more, all are told as over and a new count begins.
MAX_OPEN = 100


class Teller(Protocol):
    """Who keeps what the trail is told."""

    def record(self, event: AuditEvent) -> None:
        """Add one record; a failure is told elsewhere and raises nothing."""


class Transfer:
    """One Study on its way; the first Instance is told before its sender hears that it was taken."""

    def __init__(self, teller: Teller, movement: Movement) -> None:
        self._teller = teller
        self._movement = movement
        self._sop_classes: Counter[str] = Counter()

    def count(self, sop_class_uid: str) -> None:
        """Count one Instance that was taken."""
        if not self._sop_classes:
            self._teller.record(transfer_begun(self._movement))
        self._sop_classes[sop_class_uid] += 1

    def end(self) -> None:
        """Tell how many Instances were taken, if any."""
        if self._sop_classes:
            self._teller.record(transfer_ended(self._movement, self._sop_classes))
            self._sop_classes.clear()


class Incoming:
    """What one Association brings, Study by Study."""

    def __init__(self, teller: Teller, remote: Remote) -> None:
        self._teller = teller
        self._remote = remote
        self._transfers: dict[StudySubject, Transfer] = {}

    def count(self, facts: InstanceFacts) -> None:
        """Count one Instance that was taken."""
        subject = subject_of(facts)
        transfer = self._transfers.get(subject)
        if transfer is None:
            if len(self._transfers) >= MAX_OPEN:
                self.end()
            movement = Movement(subject=subject, remote=self._remote, is_incoming=True)
            transfer = self._transfers[subject] = Transfer(self._teller, movement)
        transfer.count(facts.sop_class_uid)

    def end(self) -> None:
        """Tell what came of each Study."""
        for transfer in self._transfers.values():
            transfer.end()
        self._transfers.clear()
