"""Gate and receiver in one process: what the node has in several, for tests that look inside."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from pynetdicom.association import Association

from node.dimse.channel import Channel, open_pair
from node.dimse.gate import Gate
from node.dimse.reports import TakeReport
from node.dimse.scp import NO_SERVICES, ListenerSettings, open_server
from node.dimse.services import Services
from node.intake.ports import IntakeTerms
from node.intake.station import Intake
from node.store.files import FileStore, Reserve
from tests.instances import MAX_INSTANCE_BYTES, MemoryLedger
from tests.ledgers import NOON

LIMIT_S = 20.0
AET = "RADNODE"


class DicomListener:
    """One gate, and one receiver that is a thread; reports of Storage Commitment go to `take_report`."""

    def __init__(
        self,
        settings: ListenerSettings,
        intake: Intake,
        take_report: TakeReport = lambda _: 0,
        services: Services = NO_SERVICES,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._take_report = take_report
        self._services = services
        self.refused: list[str] = []
        self._gate = Gate(settings, committed=lambda: None, refused=self.refused.append)
        self._receiver = Thread(target=self._receive, name="receiver", daemon=True)

    def start(self) -> tuple[str, int]:
        """Return address and port, on which connections are served from now on."""
        address = self._gate.start()
        ours, self._theirs = open_pair()
        self._gate.attach(1, ours)
        self._receiver.start()
        assert self._gate.wait_until_ready(1, LIMIT_S)
        return address

    def stop(self, drain_s: float = 10.0) -> None:
        """Return when no Association is left."""
        self._gate.stop(drain_s)
        self._receiver.join(drain_s + LIMIT_S)
        assert not self._receiver.is_alive()

    def _receive(self) -> None:
        with self._theirs:
            channel = Channel(self._theirs)
            server = open_server(self._settings, channel, self._intake, self._take_report, self._services)
            server.drain(server.serve())


class ShutGate(Event):
    """Lets nobody pass whoever opens it, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.is_reached = Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, and tell that somebody does."""
        self.is_reached.set()
        return super().wait(timeout)

    def set(self) -> None:
        """Stay shut."""

    def let_go(self) -> None:
        """Open for good."""
        super().set()


@contextmanager
def sole_reader(assoc: Association) -> Iterator[Association]:
    """Keep the thread of a requestor from reading answers.

    pynetdicom pauses it for each request, but goes by a flag that may be old: then the thread takes the answer off the
    queue, and the call that asked waits for it in vain. Of requests that follow at once on a busy machine, one in some
    hundreds is lost so.
    """
    gate, own = ShutGate(), assoc._reactor_checkpoint
    assoc._reactor_checkpoint = gate
    assert gate.is_reached.wait(LIMIT_S)
    try:
        yield assoc
    finally:
        assoc._reactor_checkpoint = own
        gate.let_go()


@contextmanager
def listening_for(services: Services, folder: Path, *, dimse_timeout_s: float = 30.0) -> Iterator[int]:
    """Serve normalized services, and yield the port; what is stored meanwhile is kept in `folder`."""
    settings = ListenerSettings(
        aet=AET,
        bind="127.0.0.1",
        port=0,
        max_pdu_bytes=65536,
        max_associations=8,
        max_associations_per_peer=8,
        dimse_timeout_s=dimse_timeout_s,
    )
    intake = Intake(
        store=FileStore(folder / "store", Reserve(reserve_bytes=0, reserve_percent=0.0)),
        ledger=MemoryLedger(),
        clock=lambda: NOON,
        terms=IntakeTerms(own_results="store", max_instance_bytes=MAX_INSTANCE_BYTES),
    )
    listener = DicomListener(settings, intake, services=services)
    _, port = listener.start()
    try:
        yield port
    finally:
        listener.stop()
