"""One request that stores: each Instance goes to intake as it comes, and what became of it is kept for the answer."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass

from node.audit.events import Remote
from node.audit.transfer import Incoming
from node.domain.study import InstanceFacts
from node.errors import Broken, NodeError, TooLarge
from node.header.part10 import read_part10
from node.intake.ports import Arrival
from node.intake.reception import Reception
from node.intake.station import Intake

logger = logging.getLogger(__name__)

# In which the File Meta Information of every file lies, and the header of nearly every Instance.
HEAD_BYTES = 64 * 1024
# What is too large is read on, and not kept, so that its sender hears why; what is so many times too large has no end.
ENDLESS = 2
# So many Instances of one request wait for the disk at a time; one after the other would take several times as long.
MAX_CLOSING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An Instance that is durable; `facts` are None where it is our own Result, which settings drop."""

    sop_class_uid: str
    sop_instance_uid: str
    facts: InstanceFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What was not stored; the UIDs are empty where nobody knows them."""

    sop_class_uid: str
    sop_instance_uid: str
    cause: NodeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a request came from, and what it said of all its Instances.

    Attributes
    ----------
    association_id
        Stands for the Association.
    peer
        Address that it came from.
    study_instance_uid
        Study to which they belong; empty where it said nothing.
    """

    association_id: str
    peer: str
    study_instance_uid: str = ""

    def arrival(self, *, sop_class_uid: str = "", sop_instance_uid: str = "", transfer_syntax_uid: str = "") -> Arrival:
        """Return how one of its Instances came."""
        return Arrival(
            transfer_syntax_uid=transfer_syntax_uid,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            association_id=self.association_id,
            calling_aet="",
            peer=self.peer,
            study_instance_uid=self.study_instance_uid,
        )


Outcome = Stored | Failed


class Submission:
    """What one request brings; `settle` and `end` must follow, however it goes.

    Parameters
    ----------
    closers
        Threads that bring Instances to the disk while the next ones come.
    """

    def __init__(self, intake: Intake, origin: Origin, closers: Executor) -> None:
        self.intake = intake
        self.origin = origin
        self._closers = closers
        self._incoming: Incoming = intake.open_association(Remote(name=origin.peer, address=origin.peer))
        self._outcomes: list[Outcome] = []
        # In the order in which they came; those that are being closed, by their SOP Instance UID.
        self._closing: deque[tuple[str, Future[Outcome]]] = deque()

    @property
    def stored(self) -> Sequence[Stored]:
        """What is durable, in its order, as of the last `settle`."""
        return [outcome for outcome in self._outcomes if isinstance(outcome, Stored)]

    @property
    def failed(self) -> Sequence[Failed]:
        """What was not stored, in its order, as of the last `settle`."""
        return [outcome for outcome in self._outcomes if isinstance(outcome, Failed)]

    def close(self, reception: Reception, arrival: Arrival) -> None:
        """Finish `reception` in a thread; of two with one UID that which came first is finished first."""
        uid = arrival.sop_instance_uid
        if any(under_way == uid for under_way, _ in self._closing):
            self.settle()
        if len(self._closing) >= MAX_CLOSING:
            self._settle_oldest()
        self._closing.append((uid, self._closers.submit(self._finish, reception, arrival)))

    def refuse(self, arrival: Arrival, cause: NodeError) -> None:
        """Take note that something was not stored, here, in the log, and where a person looks for it."""
        self.settle()
        self._outcomes.append(self._refusal(arrival, cause))

    def settle(self) -> None:
        """Return when everything that came whole is durable, or refused."""
        while self._closing:
            self._settle_oldest()

    def end(self) -> None:
        """Tell that nothing more comes."""
        self.settle()
        self._incoming.end()
        if not self.stored:
            return
        try:
            self.intake.association_ended(self.origin.association_id)
        except NodeError as exc:
            # Nothing is lost: the Series settles after assembly.idle_seconds.
            logger.warning("association end not recorded", extra={"reason_code": exc.code})

    def _settle_oldest(self) -> None:
        _, closing = self._closing.popleft()
        outcome = closing.result()
        if isinstance(outcome, Stored) and outcome.facts is not None:
            self._incoming.count(outcome.facts)
        self._outcomes.append(outcome)

    def _finish(self, reception: Reception, arrival: Arrival) -> Outcome:
        try:
            with as_node_errors():
                facts = reception.finish()
        except NodeError as exc:
            return self._refusal(arrival, exc)
        return Stored(sop_class_uid=arrival.sop_class_uid, sop_instance_uid=arrival.sop_instance_uid, facts=facts)

    def _refusal(self, arrival: Arrival, cause: NodeError) -> Failed:
        said = {"reason_code": cause.code, "status": f"{cause.dimse_status:04X}", "peer": self.origin.peer}
        logger.warning("instance refused", extra=said)
        self.intake.note_refused(arrival, cause)
        return Failed(sop_class_uid=arrival.sop_class_uid, sop_instance_uid=arrival.sop_instance_uid, cause=cause)


@contextmanager
def as_node_errors() -> Iterator[None]:
    """Take every error inside that is none of ours for a fault of ours: one Instance must not end the others.

    Raises
    ------
    Broken
        In the place of any other exception, which is logged with its traceback.
    """
    try:
        yield
    except NodeError:
        raise
    except Exception as exc:  # the outer edge of one Instance
        kind = type(exc).__name__
        logger.exception("instance broke the node", extra={"error_type": kind})
        raise Broken(f"{kind}; see the node's log") from exc


class FileTaker:
    """One Part 10 file on its way in; its File Meta Information is read, and what follows goes to intake."""

    def __init__(self, submission: Submission) -> None:
        self._submission = submission
        self._arrival = submission.origin.arrival()
        self._head: bytes | None = b""
        self._reception: Reception | None = None
        self._is_refused = False
        self._left_bytes = ENDLESS * submission.intake.max_instance_bytes

    def write(self, content: memoryview) -> None:
        """Take the next bytes of the file; what fails is told at once, and the rest passed over.

        Raises
        ------
        TooLarge
            If the file goes on long after it was refused for its length.
        """
        self._left_bytes -= len(content)
        if self._left_bytes < 0:
            raise TooLarge("a part has no end; see store.max_instance_bytes")
        if self._is_refused:
            return
        with self._refusing():
            if self._head is not None:
                if self._head or len(content) < HEAD_BYTES:
                    self._head += content
                    content = memoryview(self._head)
                if len(content) >= HEAD_BYTES:
                    self._open(content)
            elif self._reception is not None:
                self._reception.write((content,))

    def end(self) -> None:
        """Let the Instance be brought to the disk, if it was not refused."""
        if self._is_refused:
            return
        with self._refusing():
            if self._head is not None:
                self._open(memoryview(self._head))
            reception, self._reception = self._reception, None
            if reception is not None:
                self._submission.close(reception, self._arrival)

    def discard(self) -> None:
        """Forget what came; nothing happens after `end`."""
        if self._reception is not None:
            self._reception.discard()

    def _open(self, begun: memoryview) -> None:
        # The first piece is most of an Instance, and is not copied for its header.
        part10 = read_part10(bytes(begun[:HEAD_BYTES]))
        self._head = None
        self._arrival = self._submission.origin.arrival(
            sop_class_uid=part10.sop_class_uid,
            sop_instance_uid=part10.sop_instance_uid,
            transfer_syntax_uid=part10.transfer_syntax_uid,
        )
        self._reception = self._submission.intake.receive(self._arrival)
        self._reception.write((begun[part10.data_set_offset :],))

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            with as_node_errors():
                yield
        except NodeError as exc:
            self._is_refused = True
            self.discard()
            self._submission.refuse(self._arrival, exc)


class Passed:
    """A part that is read and not kept, because nobody here understands it."""

    def __init__(self, submission: Submission, cause: NodeError) -> None:
        submission.refuse(submission.origin.arrival(), cause)
        self._left_bytes = ENDLESS * submission.intake.max_instance_bytes

    def write(self, content: memoryview) -> None:
        """Pass over the next bytes.

        Raises
        ------
        TooLarge
            If there is no end to them.
        """
        self._left_bytes -= len(content)
        if self._left_bytes < 0:
            raise TooLarge("a part has no end; see store.max_instance_bytes")

    def end(self) -> None:
        """Do nothing: it was refused when it began."""

    def discard(self) -> None:
        """Do nothing: nothing was kept."""
