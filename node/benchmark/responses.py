"""Whether every response finds its sender: many small objects to dcmtk's storescp, each counted on both sides.

pynetdicom's requestor loses about one response in 14,000 to its own reactor, waits for the whole timeout and returns an
empty answer.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from node.benchmark.load import Load, Sent
from node.benchmark.receivers import AET, NODELAY, PDU_BYTES, Receiver, Running, find_dcmtk
from node.peers.carriage import carry
from node.peers.parcel import Fate, Outcome
from node.peers.part10 import read_file_head
from node.peers.peer import Peer

# Different objects, sent again and again.
OBJECTS = 100
KILOBYTES = 2
# A response that is lost is missed after so long.
TIMEOUT_S = 10.0
# Forked processes write into one file, and not always whole lines.
REQUEST = "Received Store Request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """What became of so many C-STORE requests.

    Attributes
    ----------
    sent
        How many were given to the sender.
    answered
        How many of them it reports as taken, each by a response of its own.
    failed
        How many it reports as something else: no response, one of another message, one without Status.
    twice
        How many it reports more than once.
    requests
        How many the receiver saw.
    seconds
        From the first to the last.
    """

    sent: int
    answered: int
    failed: int
    twice: int
    requests: int
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Whether every object was sent once and answered once."""
        return self.sent == self.answered == self.requests and not self.failed and not self.twice


def count_responses(*, instances: int, associations: int, folder: Path) -> Responses:
    """Send so many objects on so many Associations, and return what became of them.

    Raises
    ------
    NotFound
        If storescp is not installed, or does not start.
    DestinationDown
        If two Associations in a row are lost.
    """
    sent = Sent(folder / "load", Load(instances=min(instances, OBJECTS), kilobytes=KILOBYTES))
    known = [(path, read_file_head(path)) for path in sent.files]
    files = [known[place % len(known)] for place in range(instances)]
    fates: Counter[Fate] = Counter()
    reported: Counter[int] = Counter()

    def note(place: int, outcome: Outcome) -> None:
        fates[outcome.fate] += 1
        reported[place] += 1

    place = folder / "receiver"
    with Running(_storescp(), place) as receiver:
        peer = Peer(aet=AET, host="127.0.0.1", port=receiver.port, timeout_s=TIMEOUT_S)
        begun_s = monotonic()
        carry(peer, files, note, associations=associations)
        seconds = monotonic() - begun_s
        receiver.wait_until_calm()
    return Responses(
        sent=instances,
        answered=fates[Fate.SENT],
        failed=fates.total() - fates[Fate.SENT],
        twice=sum(count > 1 for count in reported.values()),
        requests=(place / "output.txt").read_text(encoding="utf-8").count(REQUEST),
        seconds=seconds,
    )


def _storescp() -> Receiver:
    """Return a storescp that throws away what comes, and says of each that it came; a process for each Association."""

    def command(port: int, _folder: Path) -> Sequence[str]:
        program = find_dcmtk("storescp")
        return (program, "--ignore", "--fork", "-v", "--max-pdu", str(PDU_BYTES), "-aet", AET, str(port))

    return Receiver(
        name="storescp --ignore",
        is_durable=False,
        command=command,
        count=lambda _port, _folder: 0,
        kept=".",
        environment=NODELAY,
    )
