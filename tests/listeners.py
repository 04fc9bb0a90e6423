"""Gate and receiver in one process: what the node has in several, for tests that look inside."""

from threading import Thread

from node.dimse.channel import Channel, open_pair
from node.dimse.gate import Gate
from node.dimse.reports import TakeReport
from node.dimse.scp import NO_SERVICES, ListenerSettings, open_server
from node.dimse.services import Services
from node.intake.station import Intake

LIMIT_S = 20.0


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
