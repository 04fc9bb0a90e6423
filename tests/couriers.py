"""A courier as the node has it, with a real ledger and real sockets, and a clock that the test moves."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count, islice
from pathlib import Path
from random import Random

from node.delivery.courier import Courier, Surroundings
from node.delivery.lookout import Lookout
from node.delivery.probe import knock
from node.delivery.transport import open_transport
from node.domain.result import Delivery, DeliveryState
from node.ledger.answers import AnswerLedger
from node.ledger.capabilities import CapabilityLedger
from node.ledger.orders import add_delivery
from node.peers.patience import Patience
from node.peers.peer import DestinationSpec
from tests.ledgers import NOON, Books, copy_ledger
from tests.objects import parcel_of, write_object
from tests.trails import Listener

NAME = "pacs"
SEED = 7


class Clock:
    """The time, as the test sets it."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


@dataclass
class Office:
    """A ledger, a store, and the clock of everybody who works there.

    Parameters
    ----------
    busy_timeout_s
        How long the ledger is waited for; seconds.
    """

    folder: Path
    busy_timeout_s: float = 20.0
    clock: Clock = field(default_factory=Clock)
    _numbers: "count[int]" = field(default_factory=count)

    def __post_init__(self) -> None:
        self.url = copy_ledger(self.folder)
        self.books = Books(self.url, busy_timeout_s=self.busy_timeout_s)
        self.store = self.folder / "store"

    def order(self, studies: int, *, each: int = 2, destination: str = NAME) -> list[str]:
        """Order so many Studies of `each` objects to a Destination now; returns their SOP Instance UIDs."""
        orders = [
            self._order(study, write_object(self.store / str(study), str(number), study=str(study), pixel_bytes=16))
            for study in islice(self._numbers, studies)
            for number in range(each)
        ]
        with self.books.deliveries.writing() as connection:
            for values in orders:
                add_delivery(connection, {**values, "destination": destination, "job_id": None}, now=self.clock.now)
        return [values["sop_instance_uid"] for values in orders]

    def _order(self, study: int, path: Path) -> dict[str, str]:
        parcel = parcel_of(path)
        return {
            "study_instance_uid": f"1.2.{study}",
            "sop_instance_uid": parcel.sop_instance_uid,
            "sop_class_uid": parcel.sop_class_uid,
            "transfer_syntax_uid": parcel.transfer_syntax_uid,
            "path": str(path.relative_to(self.store)),
            "state": DeliveryState.PENDING.value,
        }

    def hire(self, spec: DestinationSpec, *, patience: Patience | None = None) -> "Hand":
        """Return the courier of a Destination."""
        return Hand(self, spec, patience or Patience())

    def deliveries(self, destination: str = NAME) -> list[Delivery]:
        """Return every Delivery to a Destination."""
        return list(self.books.view.list_deliveries(destination=destination, state=None, limit=10_000))

    def states(self, destination: str = NAME) -> set[str]:
        """Return the states in which they are."""
        return {delivery.state.value for delivery in self.deliveries(destination)}

    def attempts(self, destination: str = NAME) -> set[int]:
        """Return how often they were tried."""
        return {delivery.attempts for delivery in self.deliveries(destination)}


class Hand:
    """One courier, and how often it knocked and was called."""

    def __init__(self, office: Office, spec: DestinationSpec, patience: Patience) -> None:
        self.knocks: list[datetime] = []
        self.calls = 0
        self._clock = office.clock
        self._knock = partial(knock, spec)
        chance = Random(SEED).random
        self.courier = Courier(
            destination=spec.name,
            ledger=office.books.deliveries,
            transport=open_transport(spec, read_answer=AnswerLedger(office.books.engine).read_answer),
            lookout=Lookout(
                destination=spec.name,
                address=f"{spec.transport} of a test",
                probe=lambda: None,
                ledger=CapabilityLedger(office.books.engine),
                patience=patience,
                chance=chance,
            ),
            patience=patience,
            surroundings=Surroundings(
                locate=office.store.joinpath,
                clock=office.clock,
                chance=chance,
                depart=Listener().depart,
                knock=self._note_knock,
            ),
        )

    def _note_knock(self) -> None:
        self.knocks.append(self._clock.now)
        self._knock()

    def call(self) -> datetime | None:
        """Call the courier once."""
        self.calls += 1
        return self.courier.tick(self._clock.now)

    def work(self, *, until: datetime | None = None, holds: Callable[[], bool] = lambda: True) -> None:
        """Call the courier each time that it asks for it, while `holds`, until nothing is left or a time has come."""
        while (until is None or self._clock.now < until) and holds() and (asked_again := self.call()):
            self._clock.now = asked_again
