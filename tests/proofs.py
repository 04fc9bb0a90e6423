"""A ledger with Deliveries that were sent, and a station that asks for proof of them at times of the test's choice."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType

from pydicom import dcmread
from sqlalchemy import select

from node.delivery.confirmer import Confirmer, Surroundings, Terms
from node.delivery.inquiry import Inquiry, TakeReport, open_inquiry
from node.domain.confirmation import ConfirmBy
from node.domain.result import Delivery, DeliveryState
from node.domain.study import InstanceFacts
from node.domain.uids import InstanceUID, SeriesUID, StudyUID
from node.ledger.commitments import CommitmentLedger
from node.ledger.orders import add_delivery
from node.ledger.schema import confirmations
from node.peers.patience import Patience
from node.peers.peer import DestinationSpec
from tests.ledgers import NOON, Books, at, copy_ledger

AFTER_S, WAIT_S, TRIES = 10.0, 600.0, 2
# How long an archive has for a report on the Association of the request.
LISTEN_S = 30.0
DESTINATION = "pacs"


class Proving:
    """One Destination, its Deliveries, and the station that asks it."""

    def __init__(
        self,
        folder: Path,
        ask: Callable[[TakeReport], AbstractContextManager[Inquiry]] | DestinationSpec,
        *,
        confirm: ConfirmBy = ConfirmBy.AUTO,
        listen_s: float = LISTEN_S,
    ) -> None:
        self.books = Books(copy_ledger(folder))
        self.ledger = CommitmentLedger(self.books.engine)
        self.now = NOON
        # How often the courier was woken.
        self.wakes = 0
        self._terms = Terms(
            confirm=confirm,
            after=timedelta(seconds=AFTER_S),
            wait=timedelta(seconds=WAIT_S),
            tries=TRIES,
            patience=Patience(first_retry_s=4.0, max_retry_s=60.0),
            listen_s=listen_s,
        )
        self._opens = partial(open_inquiry, ask) if isinstance(ask, DestinationSpec) else ask
        self.hire()

    def hire(self) -> None:
        """Begin with a station that remembers nothing."""
        self.station = Confirmer(
            destination=DESTINATION,
            ledger=self.ledger,
            terms=self._terms,
            surroundings=Surroundings(
                open_inquiry=self._opens, clock=lambda: self.now, chance=lambda: 0.0, resent=self._note_resent
            ),
        )

    def _note_resent(self) -> None:
        self.wakes += 1

    def close(self) -> None:
        """Let go of the ledger."""
        self.books.close()

    def send_files(self, *paths: Path) -> None:
        """Receive files, forward them to the Destination, and note at noon that it took them."""
        for path in paths:
            facts = facts_of(path)
            self.books.instances.record_instance(facts)
            self.order(facts)
        self.note_sent()

    def order(self, facts: InstanceFacts, *, destination: str = DESTINATION) -> None:
        """Order one Delivery of a received Instance."""
        values = {
            "destination": destination,
            "study_instance_uid": facts.study_instance_uid,
            "sop_instance_uid": facts.sop_instance_uid,
            "sop_class_uid": facts.sop_class_uid,
            "transfer_syntax_uid": facts.transfer_syntax_uid,
            "path": facts.path,
            "job_id": None,
            "state": DeliveryState.PENDING.value,
        }
        with self.ledger.writing() as connection:
            add_delivery(connection, values, now=NOON)

    def note_sent(self, second: float = 0.0) -> None:
        """Note that the Destination took all that waits for it."""
        for delivery in self.books.view.list_deliveries(destination=None, state=DeliveryState.PENDING, limit=99):
            self.books.deliveries.record_sent(delivery, now=at(second), reason_code=None, reason_text=None)

    def tick(self, second: float) -> datetime | None:
        """Let the station work so many seconds after noon."""
        self.now = at(second)
        return self.station.tick(self.now)

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """All Deliveries, oldest first."""
        return self.books.view.list_deliveries(destination=None, state=None, limit=99)[::-1]

    @property
    def states(self) -> list[str]:
        """State of each Delivery, oldest first."""
        return [delivery.state.value for delivery in self.deliveries]

    @property
    def questions(self) -> list[tuple[int, int, int]]:
        """How often each unproven Delivery was asked about in vain, not found, and lost."""
        columns = confirmations.c.asks, confirmations.c.misses, confirmations.c.losses
        with self.ledger.reading() as connection:
            rows = connection.execute(select(*columns).order_by(confirmations.c.delivery_id))
            return [(asks, misses, losses) for asks, misses, losses in rows]

    @property
    def transactions(self) -> list[str | None]:
        """Transaction UID of each unproven Delivery."""
        with self.ledger.reading() as connection:
            return list(connection.execute(select(confirmations.c.transaction_uid)).scalars())

    def events(self, *, study: StudyUID) -> Iterator[tuple[str, bool]]:
        """Yield kind of each event of a Study that is about a Delivery, and whether a person must act."""
        for event in self.books.view.study_story(study).events:
            if event.kind.startswith("delivery-"):
                yield event.kind, event.is_alarm


def facts_of(path: Path) -> InstanceFacts:
    """Return the Instance in a file."""
    ds = dcmread(path, stop_before_pixels=True)
    return InstanceFacts(
        study_instance_uid=StudyUID(ds.StudyInstanceUID),
        series_instance_uid=SeriesUID(ds.SeriesInstanceUID),
        sop_instance_uid=InstanceUID(ds.SOPInstanceUID),
        sop_class_uid=str(ds.SOPClassUID),
        transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
        attributes=MappingProxyType({"Modality": ds.Modality}),
        path=f"instances/{path.name}",
        size_bytes=path.stat().st_size,
        digest=f"digest of {path.name}",
        pixel_data_offset=None,
        association_id="a1",
        calling_aet="MODALITY",
        received_at=NOON,
    )
