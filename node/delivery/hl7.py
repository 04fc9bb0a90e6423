"""HL7 transport: answers leave as ORU^R01 over MLLP, on one connection that is kept.

References: HL7 v2.5.1 2.9.2 (acknowledgment), 2.15.8 (MSA), tables 0008 and 0357.
"""

import re
import weakref
from dataclasses import replace

from node.domain.answer import Answer
from node.errors import (
    DestinationBusy,
    DestinationDown,
    MessageFraming,
    MessageRefused,
    ReportRefused,
    SettingsInvalid,
)
from node.hl7.acknowledgment import CONDITIONS, INTERNAL_ERROR
from node.hl7.mllp import Line, Receiver
from node.hl7.oru import Parties, write_report
from node.hl7.reader import Message, Segment, read_message
from node.peers.parcel import Outcome
from node.peers.peer import DestinationSpec
from node.peers.status import DOUBTFUL_TRIES, UNPROCESSED_TRIES

MAX_PORT = 0xFFFF
# Acknowledgment codes (MSA-1, table 0008). CA: it is safe there, whatever follows.
TAKEN, REFUSED, REJECTED = frozenset({"AA", "CA"}), frozenset({"AE", "CE"}), frozenset({"AR", "CR"})
# A receiver that rejects these takes no such message, ever; all else it may take later (2.9.2.2).
UNSUPPORTED = frozenset({200, 201, 202, 203})
# What of ERR may be shown: a number, and a place; texts could quote the patient.
PLACE = re.compile(r"[A-Z][A-Z0-9]{2}(\^\d{1,3})*")


class Hl7Messenger:
    """Tells one receiver of ORU^R01."""

    def __init__(self, spec: DestinationSpec) -> None:
        self._name = spec.name
        self._parties = Parties(sender=spec.calling_aet.strip(), application=spec.application, facility=spec.facility)
        self._line = Line(receiver_of(spec))
        # A connection that nobody closes is told as a leak when this is thrown away.
        weakref.finalize(self, self._line.close)

    def tell(self, answer: Answer) -> Outcome:
        """Return what became of the message; see `Messenger.tell`.

        One without an answer is sent again as it is, with its Message Control ID (MSH-10).
        """
        message = write_report(answer, self._parties)
        # A receiver that cannot be reached is down; one that is lost over a message may not like that one.
        self._line.open()
        try:
            acknowledgment = read_message(self._line.ask(message.encoded))
        except DestinationDown as exc:
            return Outcome.retry(exc)
        except (MessageFraming, MessageRefused) as exc:
            self._line.close()
            return self._doubt(f"answered with something that is no acknowledgment ({exc.code})")
        return self._judge(acknowledgment, message.control_id)

    def _judge(self, acknowledgment: Message, control_id: str) -> Outcome:
        """Return what a receiver says of a message."""
        said = acknowledgment.first("MSA")
        if said is None:
            return self._doubt("answered with a message that is no acknowledgment")
        if said.text(2) != control_id:
            # What comes next on this connection may be about yet another one.
            self._line.close()
            return Outcome.retry(DestinationDown(f"destination {self._name} acknowledged another message"))
        return Outcome.sent() if said.text(1) in TAKEN else self._judge_failure(said.text(1), *_explain(acknowledgment))

    def _judge_failure(self, code: str, condition: int, words: str) -> Outcome:
        """Return what follows from an acknowledgment code, and the error condition with it."""
        if code in REJECTED and condition not in UNSUPPORTED:
            return Outcome.retry(DestinationBusy(f"destination {self._name} rejected it for now ({code}{words})"))
        if code in REFUSED and condition == INTERNAL_ERROR:
            failed = ReportRefused(f"destination {self._name} failed to process it ({code}{words})")
            return Outcome.retry(failed, tries=UNPROCESSED_TRIES)
        if code in REFUSED | REJECTED:
            return Outcome.refused(ReportRefused(f"destination {self._name} refused it ({code}{words})"))
        return self._doubt("answered without an acknowledgment code")

    def _doubt(self, what: str) -> Outcome:
        """Return a failure that is believed after some tries; the message may have been taken all the same."""
        return Outcome.retry(ReportRefused(f"destination {self._name} {what}"), tries=DOUBTFUL_TRIES)


def receiver_of(spec: DestinationSpec) -> Receiver:
    """Return the receiver that a Destination's settings name.

    Raises
    ------
    SettingsInvalid
        If host or port cannot be one; the message names the key.
    """
    prefix = f"destinations.{spec.name}"
    if not spec.host:
        raise SettingsInvalid(f"{prefix}.host is empty; give the address of the HL7 receiver")
    if not 1 <= spec.port <= MAX_PORT:
        raise SettingsInvalid(f"{prefix}.port is {spec.port}; give the MLLP port of the receiver, 1-65535")
    return Receiver(name=spec.name, host=spec.host, port=spec.port, timeout_s=spec.timeout_s, tls=spec.tls)


def probe_receiver(spec: DestinationSpec, *, connect_s: float | None = None) -> str:
    """Return in words that a receiver takes connections; no message is sent.

    Raises
    ------
    DestinationDown, Misconfigured
        As `Line.open` does.
    """
    receiver = receiver_of(spec)
    line = Line(receiver if connect_s is None else replace(receiver, timeout_s=connect_s))
    line.open()
    line.close()
    return f"{receiver.host}:{receiver.port} takes connections{'' if receiver.tls is None else ' by TLS'}"


def _explain(acknowledgment: Message) -> tuple[int, str]:
    """Return the error condition (table 0357), 0 where none is told, and what may be said of it."""
    error = acknowledgment.first("ERR")
    if error is None:
        return 0, ""
    condition = _condition(error)
    words = [CONDITIONS.get(condition, f"condition {condition}")] if condition else []
    place = "^".join(part for parts in error.repetitions(2)[:1] for part in parts).rstrip("^")
    words += [f"at {place}"] * bool(PLACE.fullmatch(place))
    return condition, "".join(f", {word}" for word in words)


def _condition(error: Segment) -> int:
    # Before version 2.5, it stands in the fourth component of the only field, before its meaning.
    old = error.text(1, 4).split(error.separators.subcomponent)[0]
    said = error.text(3) or old
    return int(said) if said.isascii() and said.isdigit() else 0
