"""Where Studies that the node fetches itself enter it: the same intake as whatever is sent (docs/decisions/0054)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from node.audit.events import Remote
from node.dimse.acceptor import Tally
from node.dimse.handlers import StoreSink
from node.intake.ports import Arrival
from node.intake.station import Intake
from node.peers.command import SubOperations
from node.peers.peer import DestinationSpec
from node.pulling.carrier import Berth
from node.web.multipart import MultipartReader
from node.web.submission import FileTaker, Origin, Submission

DICOM = "application/dicom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quay:
    """What all conversations share in which Studies are fetched.

    Attributes
    ----------
    association_prefix
        Returns how the ids begin of what stands for an Association.
    closers
        Threads that bring Instances to the disk while the next ones come.
    """

    intake: Intake
    association_prefix: Callable[[], str]
    closers: Executor

    @contextmanager
    def land(self, spec: DestinationSpec) -> Iterator["IntakeLanding"]:
        """Give the place where one conversation with a peer brings its Instances."""
        landing = IntakeLanding(self, spec)
        try:
            yield landing
        finally:
            landing.end()


class IntakeLanding:
    """Where the Instances of one conversation enter; see `node.pulling.carrier.Landing`."""

    def __init__(self, quay: Quay, spec: DestinationSpec) -> None:
        self._intake = quay.intake
        self._peer = Remote(name=spec.name, aet=spec.aet.strip(), address=spec.host)
        self._tally = Tally(association_id=f"{quay.association_prefix()}{uuid4().hex}", calling_aet=spec.aet.strip())
        self._incoming = quay.intake.open_association(self._peer)
        origin = Origin(association_id=f"{quay.association_prefix()}{uuid4().hex}", peer=spec.name)
        self._submission = Submission(quay.intake, origin, quay.closers)

    def begin(self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Berth:
        """Begin to receive one Instance, as of a C-STORE of the peer."""
        arrival = Arrival(
            transfer_syntax_uid=transfer_syntax_uid,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            association_id=self._tally.association_id,
            calling_aet=self._tally.calling_aet,
            peer=self._peer.address,
        )
        return StoreSink(self._intake, self._tally, arrival, self._incoming)

    def take_parts(self, boundary: str, chunks: Iterable[bytes]) -> None:
        """Receive every Part 10 file of a multipart body, as of a STOW-RS request.

        Raises
        ------
        RequestMalformed
            If it is none, or ends too early; what came whole was received.
        """
        files = _Files(self._submission)
        reader = MultipartReader(boundary, files)
        try:
            for chunk in chunks:
                reader.feed(chunk)
            reader.finish()
        finally:
            files.discard()
            self._submission.settle()

    @property
    def taken(self) -> SubOperations:
        """How many Instances were received so far, and refused."""
        stored = self._tally.stored + len(self._submission.stored)
        return SubOperations(completed=stored, failed=self._tally.refused + len(self._submission.failed))

    def end(self) -> None:
        """Tell that nothing more comes."""
        self._incoming.end()
        if self._tally.stored:
            self._intake.association_ended(self._tally.association_id)
        self._submission.end()


class _Files:
    """The parts of one body, each a Part 10 file; see `node.web.multipart.Sink`."""

    def __init__(self, submission: Submission) -> None:
        self._submission = submission
        self._taker: FileTaker | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin a part; one that is no Instance is read and not kept."""
        name = headers.get("content-type", DICOM).partition(";")[0].strip().lower()
        self._taker = FileTaker(self._submission) if name == DICOM else None

    def write(self, content: memoryview) -> None:
        """Take the next bytes of the part."""
        if self._taker is not None:
            self._taker.write(content)

    def end(self) -> None:
        """End the part: it came whole."""
        if self._taker is not None:
            self._taker.end()
            self._taker = None

    def discard(self) -> None:
        """Forget a part of which not all came."""
        if self._taker is not None:
            self._taker.discard()
