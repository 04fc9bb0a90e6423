"""A simulated modality: sends Instances to a peer by C-STORE, over one or several Associations."""

import random
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from node.errors import DestinationBusy, DestinationDown, DestinationRefused, NotDicom, SettingsInvalid

# PS3.8 9.3.2: context ids are the odd numbers of one byte.
MAX_CONTEXTS = 128
PREAMBLE_BYTES = 128
SUCCESS = 0x0000
OUT_OF_RESOURCES = range(0xA700, 0xA800)  # PS3.4 B.2.3
WARNINGS = range(0xB000, 0xC000)
_PEER = re.compile(r"(?P<aet>[^@\\]{1,16})@(?P<host>\[[0-9A-Fa-f:.]+\]|[^@:\s]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Whom to send to.

    Attributes
    ----------
    aet
        AE title, 1..16 characters.
    host
        Name or address.
    port
        TCP port, 1..65535.
    """

    aet: str
    host: str
    port: int


def parse_peer(text: str) -> Peer:
    """Return the peer of `AET@HOST:PORT`.

    Raises
    ------
    SettingsInvalid
        If the text has another form.
    """
    found = _PEER.fullmatch(text.strip())
    if found is None or not 0 < int(found["port"]) < 2**16:
        raise SettingsInvalid(f"peer {text!r}: expected AET@HOST:PORT, such as PACS@192.0.2.7:104")
    return Peer(aet=found["aet"].strip(), host=found["host"].strip("[]"), port=int(found["port"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An Instance to send.

    Attributes
    ----------
    source
        A Part 10 file, whose bytes go out as they are, or a Dataset, which is encoded once more.
    sop_class_uid, sop_instance_uid, transfer_syntax_uid
        What its file meta information says.
    """

    source: Path | Dataset
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    @property
    def context(self) -> tuple[str, str]:
        """Return the SOP Class and Transfer Syntax that a Presentation Context must offer."""
        return (self.sop_class_uid, self.transfer_syntax_uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOutcome:
    """What the peer said about one Instance.

    Attributes
    ----------
    instance
        Which Instance.
    status
        Status (0000,0900) of the response; None where none came.
    failure_code
        Code of the error in `node.errors` that tells what to do next; None if the peer has it.
    """

    instance: Outgoing
    status: int | None
    failure_code: str | None

    @property
    def is_stored(self) -> bool:
        """Return whether the peer says that it has the Instance, with or without a warning."""
        return self.failure_code is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a modality behaves.

    Attributes
    ----------
    calling_aet
        Its AE title.
    shuffle_seed
        None sends in the order given; a number shuffles, always the same way.
    timeout_s
        Longest wait for a connection, a negotiation or a response, s, > 0.
    before_each
        Called with the number already sent before each Instance, in the thread of its
        Association; it may wait for something. None goes on at once.
    """

    calling_aet: str = "MODALITY"
    shuffle_seed: int | None = None
    timeout_s: float = 30.0
    before_each: Callable[[int], None] | None = None


DEFAULT_HABITS = Habits()


def find_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the Part 10 files among paths: files as named, folders searched to the bottom.

    In a folder, files without the DICOM prefix are passed over: collections hold lists and licences
    beside the Instances. A file named outright is always returned, so that `send` refuses it aloud.

    Raises
    ------
    NotDicom
        If a path does not exist, or a folder holds no Part 10 file.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.is_file() and _has_prefix(p)]
            if not inside:
                raise NotDicom(f"{path}: no DICOM file in this folder; name another")
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise NotDicom(f"{path}: no such file or folder; check the path")
    return tuple(found)


def _has_prefix(path: Path) -> bool:
    """Return whether a file starts as PS3.10 7.1 says."""
    with path.open("rb") as stream:
        return stream.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] == b"DICM"


def send(
    sources: Sequence[Path | Dataset],
    peer: Peer,
    *,
    associations: int = 1,
    habits: Habits = DEFAULT_HABITS,
    progress: Callable[[SendOutcome], None] | None = None,
) -> tuple[SendOutcome, ...]:
    """Send Instances and return what became of each, in the order of `sources`.

    Parameters
    ----------
    sources
        Part 10 files or Datasets with file meta information.
    peer
        Whom to send to.
    associations
        How many Associations to hold at a time, >= 1; Instances are dealt out in turn.
    habits
        Order, pauses, names, patience.
    progress
        Called after each Instance, in the thread of its Association.

    Returns
    -------
    tuple
        One outcome for each source. A failure is not retried here: the caller sends
        `[o.instance.source for o in outcomes if not o.is_stored]` again if it wants to.

    Raises
    ------
    NotDicom
        If a source has no file meta information; nothing is sent then.
    """
    # Sends the bytes of a file as they are, in pieces; without it pydicom would re-encode them.
    _config.STORE_SEND_CHUNKED_DATASET = True
    queue = list(enumerate(describe_source(source) for source in sources))
    if habits.shuffle_seed is not None:
        random.Random(habits.shuffle_seed).shuffle(queue)  # noqa: S311 - an order, not a secret
    hands = [queue[i::associations] for i in range(associations) if queue[i::associations]]
    outcomes: dict[int, SendOutcome] = {}

    def report(index: int, outcome: SendOutcome) -> None:
        outcomes[index] = outcome
        if progress is not None:
            progress(outcome)

    with ThreadPoolExecutor(max_workers=max(1, len(hands))) as pool:
        jobs = [pool.submit(_send_hand, hand, peer, habits, report) for hand in hands]
        for job in jobs:
            job.result()
    return tuple(outcomes[index] for index in range(len(sources)))


def describe_source(source: Path | Dataset) -> Outgoing:
    """Return what must be known about an Instance before it can be offered.

    Raises
    ------
    NotDicom
        If the file meta information is absent or incomplete.
    """
    name = str(source) if isinstance(source, Path) else "the Dataset"
    try:
        meta = read_file_meta_info(source) if isinstance(source, Path) else source.file_meta
        return Outgoing(
            source=source,
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
        )
    except (InvalidDicomError, AttributeError, EOFError, OSError) as exc:
        raise NotDicom(f"{name}: no complete file meta information; send a Part 10 file") from exc


def _send_hand(
    hand: Sequence[tuple[int, Outgoing]],
    peer: Peer,
    habits: Habits,
    report: Callable[[int, SendOutcome], None],
) -> None:
    """Send one share of the Instances, over as many Associations as their contexts need."""
    sent = 0
    for batch in batches(hand):
        contexts = [build_context(*pair) for pair in dict.fromkeys(i.context for _, i in batch)]
        assoc = _associate(peer, contexts, habits)
        is_lost = not assoc.is_established
        for index, instance in batch:
            if habits.before_each is not None:
                habits.before_each(sent)
            outcome = _fail_unsent(assoc, instance) if is_lost else _send_one(assoc, instance)
            # pynetdicom still calls it established for a moment, and the next request would wait
            # for the whole timeout (4 of 12 tries): an Association without an answer is not used again.
            is_lost = is_lost or outcome.failure_code == DestinationDown.code
            report(index, outcome)
            sent += 1
        if is_lost:
            assoc.abort()
        else:
            assoc.release()


def batches(hand: Sequence[tuple[int, Outgoing]]) -> Iterator[list[tuple[int, Outgoing]]]:
    """Yield runs of Instances that need no more than 128 Presentation Contexts each."""
    batch: list[tuple[int, Outgoing]] = []
    contexts: set[tuple[str, str]] = set()
    for index, instance in hand:
        if instance.context not in contexts and len(contexts) == MAX_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        contexts.add(instance.context)
        batch.append((index, instance))
    if batch:
        yield batch


def _associate(peer: Peer, contexts: list[PresentationContext], habits: Habits) -> Association:
    """Return an Association, established or not."""
    ae = AE(ae_title=habits.calling_aet)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = habits.timeout_s
    return ae.associate(
        peer.host,
        peer.port,
        contexts=contexts,
        ae_title=peer.aet,
        evt_handlers=[(evt.EVT_CONN_OPEN, set_nodelay)],
    )


def set_nodelay(event: evt.Event) -> None:
    """Send small packets at once: with Nagle each C-STORE waits 40-80 ms for an acknowledgement."""
    wire = event.assoc.dul.socket
    if wire is not None and wire.socket is not None:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _fail_unsent(assoc: Association, instance: Outgoing) -> SendOutcome:
    """Return why an Instance could not be offered: its context was refused, or nobody was there."""
    refused = {context.abstract_syntax for context in assoc.rejected_contexts}
    is_refused = instance.sop_class_uid in refused
    error = DestinationRefused if is_refused else DestinationDown
    return SendOutcome(instance=instance, status=None, failure_code=error.code)


def _send_one(assoc: Association, instance: Outgoing) -> SendOutcome:
    """Send one Instance; a missing response is a failure like any other."""
    try:
        response = assoc.send_c_store(instance.source)
    except ValueError:
        # No Presentation Context was accepted for it.
        return SendOutcome(instance=instance, status=None, failure_code=DestinationRefused.code)
    except RuntimeError:
        # The Association ended between the check and the call.
        return SendOutcome(instance=instance, status=None, failure_code=DestinationDown.code)
    status = response.get("Status")
    return SendOutcome(instance=instance, status=status, failure_code=failure_of(status))


def failure_of(status: int | None) -> str | None:
    """Return the code of the error that a C-STORE Status means, or None where the peer stored it.

    References
    ----------
    DICOM PS3.4 B.2.3
    """
    if status is None:
        return DestinationDown.code
    if status == SUCCESS or status in WARNINGS:
        return None
    if status in OUT_OF_RESOURCES:
        return DestinationBusy.code
    return DestinationRefused.code
