"""Transports that tell of answers instead of sending objects: one message for an answer, written when it leaves.

The SR stands for the answer, and the rejection note for the news that it was taken back; whichever leaves, the message
tells how the answer stands then (docs/decisions/0055).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from node.domain.answer import Answer
from node.errors import NotFound
from node.peers.parcel import Fate, Outcome, Parcel, Report

# Reason of a Delivery that waits until the rules were asked what follows from the answer.
UNHEARD = "answer-unheard"
UNHEARD_TEXT = "the rules are still asked what follows from this answer, such as how urgent it is"

# Returns the answer for which an object stands, by its SOP Instance UID; None for one that stands for none.
ReadAnswer = Callable[[str], Answer | None]


def stands_for_none(_sop_instance_uid: str) -> Answer | None:
    """Return None: where no ledger is, no object stands for an answer."""
    return None


class Messenger(Protocol):
    """A way to tell one RIS or HIS."""

    def tell(self, answer: Answer) -> Outcome:
        """Return what became of the message that tells how an answer stands.

        Raises
        ------
        DestinationDown, DestinationBusy, Misconfigured
            As `Transport.send` does.
        """


class MessageTransport:
    """Objects stand for answers, of which one Destination is told."""

    def __init__(self, messenger: Messenger, read_answer: ReadAnswer) -> None:
        self._messenger = messenger
        self._read_answer = read_answer

    def send(self, parcels: Sequence[Parcel], report: Report) -> None:
        """Tell the answers of one Study, each once, and report each object; see `Transport.send`."""
        told: dict[tuple[str, str], Outcome] = {}
        for parcel in parcels:
            try:
                answer = self._read_answer(parcel.sop_instance_uid)
            except NotFound as exc:
                report(parcel, Outcome.refused(exc))
                continue
            if answer is None:
                report(parcel, Outcome(fate=Fate.LEFT_OUT))
            elif not answer.is_heard:
                report(parcel, Outcome(fate=Fate.RETRY, code=UNHEARD, text=UNHEARD_TEXT))
            else:
                if answer.key not in told:
                    told[answer.key] = self._messenger.tell(answer)
                report(parcel, told[answer.key])
