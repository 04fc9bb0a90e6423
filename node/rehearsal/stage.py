"""Where scenarios are played: the node from outside, between a simulated modality and a simulated PACS."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError

from node.clock import utc_now
from node.domain.capability import name_kind
from node.errors import NotFound
from node.peers.peer import Peer
from node.peers.sender import Progress, SendReport
from node.rehearsal.modality import send
from node.rehearsal.pacs import WELL_BEHAVED, Misbehavior, SimulatedPacs
from node.rehearsal.record import PacsRecord, ReceivedInstance, StoreRequest
from node.rehearsal.repertoire import Repertoire, Take

REFERENCED_SOP_INSTANCE_UID = 0x00081155

Kinds = Counter[str]
# What the ledger of a node of ours says of a Study: whether all is finished and right, and a sentence.
Insight = Callable[[str], tuple[bool, str]]


class Expects(StrEnum):
    """What the node is for."""

    RESULTS = "results"
    ORIGINALS = "originals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things take here; all in seconds.

    Attributes
    ----------
    patience_s
        How long Results may take, once nothing is in their way.
    watch_s
        How long is watched that nothing more comes.
    outage_s
        How long the PACS is away.
    pause_s
        How long the modality pauses in the middle of a Study.
    delay_s
        How long a slow PACS takes for one Instance.
    question_s
        How long is waited that the node asks the PACS what it holds.
    """

    patience_s: float = 300.0
    watch_s: float = 10.0
    outage_s: float = 30.0
    pause_s: float = 10.0
    delay_s: float = 3.0
    question_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What came out for one phantom when nothing was wrong.

    Attributes
    ----------
    kinds
        How many objects of each SOP Class.
    covered
        Which Instances they refer to, or are, by their place in the phantom.
    size_bytes
        Of all objects together.
    seconds
        From the last Instance to the last object.
    """

    kinds: Kinds
    covered: frozenset[int]
    size_bytes: int
    seconds: float


@dataclass(slots=True)
class _Notes:
    """What happened since the scenario began."""

    began_at: datetime = field(default_factory=utc_now)
    lines: list[tuple[datetime, str]] = field(default_factory=list)
    takes: list[Take] = field(default_factory=list)


class Stage:
    """Acts on the node as modality and PACS, and tells what can be seen of it.

    Parameters
    ----------
    node
        Where it receives, and the AE title of the modality that calls it.
    pacs
        Running; the node sends its Results there.
    insight
        Of a node of ours; None otherwise.
    """

    def __init__(
        self,
        *,
        node: Peer,
        pacs: SimulatedPacs,
        repertoire: Repertoire,
        pace: Pace,
        expects: Expects = Expects.RESULTS,
        insight: Insight | None = None,
    ) -> None:
        self.node = node
        self.pacs = pacs
        self.repertoire = repertoire
        self.pace = pace
        self.expects = expects
        self.insight = insight
        self.references: dict[str, Reference] = {}
        self.all_takes: list[Take] = []
        self._notes = _Notes()
        self._seen: list[tuple[Take, int]] = []
        self._excused: set[str] = set()

    @property
    def single(self) -> str:
        """Name of the phantom that is answered soonest."""
        return min(self.references, key=lambda name: self.references[name].seconds)

    @property
    def many(self) -> str:
        """Name of the phantom of several Instances that is answered soonest.

        Raises
        ------
        NotFound
            If there is none.
        """
        several = [name for name in self.references if self.repertoire.pieces[name].is_series]
        if not several:
            raise NotFound("no phantom of several Instances was answered")
        return min(several, key=lambda name: self.references[name].seconds)

    @property
    def smallest(self) -> str:
        """Name of the phantom whose Results have the fewest bytes."""
        return min(self.references, key=lambda name: self.references[name].size_bytes)

    def begin(self) -> None:
        """Forget the notes of the scenario before, and let the PACS behave."""
        self._notes = _Notes()
        self.pacs.change(WELL_BEHAVED)

    def end(self) -> None:
        """Remember how much came for each Study of the scenario."""
        self._seen += [(take, len(self.requests(take))) for take in self._notes.takes]

    def seen_before(self) -> list[tuple[Take, int]]:
        """Return each Study with the number of C-STORE requests until its scenario had ended."""
        return [(take, count) for take, count in self._seen if take.study_instance_uid not in self._excused]

    def excuse(self, take: Take) -> None:
        """Take no offense at what comes of a Study after its scenario."""
        self._excused.add(take.study_instance_uid)

    @property
    def began_at(self) -> datetime:
        """When the scenario began (UTC)."""
        return self._notes.began_at

    def note(self, text: str) -> None:
        """Keep one line of evidence."""
        self._notes.lines.append((utc_now(), text))

    def evidence(self) -> list[tuple[datetime, str]]:
        """Return what was done and what the PACS was asked since the scenario began, in order."""
        uids = {take.study_instance_uid for take in self._notes.takes}
        seen = [
            (request.at, f"PACS: {name_kind(request.sop_class_uid)} …{request.sop_instance_uid[-6:]}: {request.answer}")
            for request in self.pacs.record.log
            if request.at >= self.began_at and request.study_instance_uid in uids
        ]
        return sorted([*self._notes.lines, *seen])

    def take(self, piece: str) -> Take:
        """Return a phantom as a Study that the node has not seen."""
        take = self.repertoire.take(piece)
        self._notes.takes.append(take)
        self.all_takes.append(take)
        return take

    def send(
        self,
        datasets: Sequence[FileDataset],
        *,
        associations: int = 1,
        shuffle_seed: int | None = None,
        progress: Progress | None = None,
    ) -> SendReport:
        """Send Instances as the modality; see `modality.send`."""
        report = send(
            datasets,
            self.node,
            calling_aet=self.node.calling_aet,
            associations=associations,
            shuffle_seed=shuffle_seed,
            progress=progress,
        )
        over = "1 Association" if associations == 1 else f"{associations} Associations"
        self.note(f"Modality: {report.sent} of {len(datasets)} Instances answered with Success, over {over}")
        return report

    def misbehave(self, behavior: Misbehavior, words: str) -> None:
        """Let the PACS depart from what it should do, from now on."""
        self.pacs.change(behavior)
        self.note(f"PACS: {words}")

    def recover(self) -> None:
        """Let the PACS behave again."""
        self.pacs.change(WELL_BEHAVED)
        self.note("PACS: well again")

    def requests(self, take: Take) -> list[StoreRequest]:
        """Return what the PACS was asked to store for one Study, of what counts here."""
        return [request for request in self.pacs.record.log if self._counts(request, take)]

    def arrived(self, take: Take) -> list[ReceivedInstance]:
        """Return what the PACS holds for one Study, of what counts here, in order; what came twice is there twice."""
        return [instance for instance in self.pacs.record.received if self._counts(instance, take)]

    def kinds(self, take: Take) -> Kinds:
        """Return how many distinct objects of each SOP Class arrived for one Study."""
        return Counter({i.sop_instance_uid: i.sop_class_uid for i in self.arrived(take)}.values())

    def wait_for(self, holds: Callable[[PacsRecord], bool], *, timeout_s: float) -> bool:
        """Return whether it came true of what the PACS has seen, in time."""
        return self.pacs.wait_for(holds, timeout_s=timeout_s)

    def wait_for_kinds(self, take: Take, wanted: Kinds, *, timeout_s: float | None = None) -> bool:
        """Return whether at least so many objects of each SOP Class arrived in time."""

        def there(record: PacsRecord) -> bool:
            held = {i.sop_instance_uid: i.sop_class_uid for i in record.received if self._counts(i, take)}
            return Counter(held.values()) >= wanted

        return self.wait_for(there, timeout_s=self.pace.patience_s if timeout_s is None else timeout_s)

    def wait_for_requests(self, take: Take, count: int, *, timeout_s: float | None = None) -> bool:
        """Return whether the PACS was asked so often in time to store something of one Study."""

        def asked(record: PacsRecord) -> bool:
            return sum(self._counts(request, take) for request in record.log) >= count

        return self.wait_for(asked, timeout_s=self.pace.patience_s if timeout_s is None else timeout_s)

    def rest(self, seconds: float) -> None:
        """Return after so many seconds, whatever comes."""
        self.wait_for(lambda _: False, timeout_s=seconds)

    def watch(self, take: Take) -> bool:
        """Return whether nothing more came of one Study for as long as is watched."""
        count = len(self.requests(take))
        return not self.wait_for_requests(take, count + 1, timeout_s=self.pace.watch_s)

    def covered(self, take: Take, instances: Iterable[ReceivedInstance]) -> frozenset[int]:
        """Return which Instances of a Study these objects refer to, or are, by their place."""
        uids: set[str] = set()
        for instance in instances:
            uids |= {instance.sop_instance_uid} | referenced_uids(instance.path)
        return frozenset(take.places[uid] for uid in uids if uid in take.places)

    def _counts(self, item: StoreRequest | ReceivedInstance, take: Take) -> bool:
        """Return whether an object is what the node is to bring out of one Study."""
        is_original = item.sop_instance_uid in take.places
        return item.study_instance_uid == take.study_instance_uid and is_original == (self.expects is Expects.ORIGINALS)


def referenced_uids(path: Path) -> set[str]:
    """Return every Referenced SOP Instance UID (0008,1155) of a file, however deep; none where it cannot be read."""
    try:
        ds = dcmread(path, stop_before_pixels=True)
        return {str(element.value) for element in ds.iterall() if element.tag == REFERENCED_SOP_INSTANCE_UID}
    except (InvalidDicomError, EOFError, ValueError, TypeError):
        return set()


def patient_id_of(path: Path) -> str:
    """Return the Patient ID (0010,0020) of a file; empty where it has none or cannot be read."""
    try:
        return str(dcmread(path, specific_tags=["PatientID"]).get("PatientID", ""))
    except (InvalidDicomError, EOFError, ValueError):
        return ""


def describe_kinds(kinds: Mapping[str, int]) -> str:
    """Return in words how many objects of each kind: ``1 SEG, 1 SR``."""
    named = sorted((name_kind(uid), count) for uid, count in kinds.items() if count > 0)
    return ", ".join(f"{count} {name}" for name, count in named) or "none"
