"""What follows from a refusal: the summary picture goes where a Destination takes no SEG or SR."""

from datetime import datetime
from enum import Enum

from sqlalchemy import Connection, select

from node.domain.result import Delivery, DeliveryState, Result, ResultKind
from node.errors import DestinationRefused, SopClassNotSupported
from node.ledger.orders import add_delivery
from node.ledger.results import delivery_values
from node.ledger.rows import to_result
from node.ledger.schema import deliveries, results

# The Destination said no; with any other reason it was not the object that it did not want.
SAID_NO = frozenset({DestinationRefused.code, SopClassNotSupported.code})
# What a picture can stand in for.
ANSWERS = frozenset({ResultKind.SEG, ResultKind.SR})
# Nobody misses them where SEG, SR or picture arrive.
EXTRAS = frozenset({ResultKind.KO, ResultKind.PR, ResultKind.DOC})
REFUSED = DeliveryState.REFUSED.value


class Consequence(Enum):
    """What follows from a refused Delivery; the value is said with its reason."""

    PICTURE_GOES = "the summary picture goes instead"
    PICTURE_REFUSED = "the summary picture was refused as well"
    NO_PICTURE = "there is no picture that could go instead"
    ANSWER_REFUSED = "so was what it stands in for"
    NONE_NEEDED = "what else the Job wrote goes"
    NONE_HELPS = ""

    @property
    def needs_person(self) -> bool:
        """True when nothing that radnode can do brings the answer to the Destination."""
        return self not in {Consequence.PICTURE_GOES, Consequence.NONE_NEEDED}


def follow_refusal(connection: Connection, delivery: Delivery, reason_code: str, *, now: datetime) -> Consequence:
    """Order the picture where it can stand in for what was refused, in the caller's transaction.

    Parameters
    ----------
    delivery
        Already REFUSED in this transaction.
    """
    written = _find_results(connection, delivery)
    kind = next((one.kind for one in written if one.sop_instance_uid == delivery.sop_instance_uid), None)
    if reason_code not in SAID_NO or kind is None or kind is ResultKind.REJECTION_NOTE:
        return Consequence.NONE_HELPS
    if kind in EXTRAS:
        return Consequence.NONE_NEEDED
    if kind is ResultKind.SC:
        answers = [one for one in written if one.kind in ANSWERS]
        is_missed = any(_state(connection, delivery.destination, one) == REFUSED for one in answers)
        return Consequence.ANSWER_REFUSED if is_missed else Consequence.NONE_NEEDED
    return _send_picture(connection, delivery, written, now=now)


def _send_picture(
    connection: Connection, delivery: Delivery, written: tuple[Result, ...], *, now: datetime
) -> Consequence:
    pictures = [one for one in written if one.kind is ResultKind.SC and one.retracted_at is None]
    if not pictures:
        return Consequence.NO_PICTURE
    add_delivery(connection, delivery_values(pictures[0], delivery.destination), now=now)
    is_refused = _state(connection, delivery.destination, pictures[0]) == REFUSED
    return Consequence.PICTURE_REFUSED if is_refused else Consequence.PICTURE_GOES


def _find_results(connection: Connection, delivery: Delivery) -> tuple[Result, ...]:
    """Return what was written together with the Result of a Delivery; nothing for an Instance that a rule forwards.

    A Job whose answer was corrected wrote more than once: what was taken back says nothing about what stands.
    """
    wanted = results.c.job_id == delivery.job_id
    written = tuple(map(to_result, connection.execute(select(results).where(wanted)).mappings()))
    times = {one.retracted_at for one in written if one.sop_instance_uid == delivery.sop_instance_uid}
    return tuple(one for one in written if one.retracted_at in times)


def _state(connection: Connection, destination: str, result: Result) -> str | None:
    """Return how far a Result is on its way to a Destination; None when it is not on its way."""
    wanted = (
        deliveries.c.destination == destination,
        deliveries.c.sop_instance_uid == result.sop_instance_uid,
        deliveries.c.path == result.path,
    )
    state: str | None = connection.execute(select(deliveries.c.state).where(*wanted)).scalar_one_or_none()
    return state
