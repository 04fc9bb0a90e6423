"""A fast C-STORE SCU for files that are no Deliveries: `radnode send` and the simulated modality."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from node.errors import DestinationDown, Misconfigured, NotDicom, NotFound, SettingsInvalid
from node.header.part10 import PREAMBLE, has_prefix
from node.peers.carriage import carry
from node.peers.parcel import Fate, Outcome
from node.peers.part10 import FileHead, read_file_head
from node.peers.peer import Peer, is_ae_title

PEER = re.compile(r"(?P<aet>[^@]+)@(?P<host>\[[0-9A-Fa-f:.]+\]|[^@:\s]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentFile:
    """What became of one file.

    Attributes
    ----------
    sop_instance_uid
        None if the file is no DICOM file.
    size_bytes
        Length of the file; 0 if it could not be read.
    """

    path: Path
    sop_instance_uid: str | None
    size_bytes: int
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReport:
    """What became of all files, in the order in which they were given."""

    peer: Peer
    files: tuple[SentFile, ...]
    seconds: float

    @property
    def sent(self) -> int:
        """How many files the peer took."""
        return sum(file.outcome.fate is Fate.SENT for file in self.files)

    @property
    def sent_bytes(self) -> int:
        """Length of the files that the peer took; bytes."""
        return sum(file.size_bytes for file in self.files if file.outcome.fate is Fate.SENT)

    @property
    def failed(self) -> tuple[SentFile, ...]:
        """The files that the peer did not take."""
        return tuple(file for file in self.files if file.outcome.fate is not Fate.SENT)


Progress = Callable[[SentFile], None]


def parse_peer(text: str, *, calling_aet: str = "RADNODE") -> Peer:
    """Return the peer of ``AET@HOST:PORT``; an IPv6 address stands in brackets.

    Raises
    ------
    SettingsInvalid
        If the text has another form, or `calling_aet` cannot be an AE title.
    """
    if not is_ae_title(calling_aet):
        raise SettingsInvalid(f"calling AE title {calling_aet!r}: an AE title has 1-16 ASCII characters")
    found = PEER.fullmatch(text.strip())
    if found is None or not is_ae_title(found["aet"]) or not 1 <= int(found["port"]) <= 0xFFFF:
        raise SettingsInvalid(f"peer {text!r}: expected AET@HOST:PORT, such as PACS@192.0.2.7:104")
    host, port = found["host"].strip("[]"), int(found["port"])
    return Peer(aet=found["aet"].strip(), host=host, port=port, calling_aet=calling_aet.strip())


def find_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the Part 10 files among `paths`: files as named, folders searched to the bottom.

    In a folder, files without the DICOM prefix are passed over: collections hold lists and licenses beside the
    Instances. A file named outright is always returned, so that its refusal is reported.

    Raises
    ------
    NotFound
        If a path does not exist.
    NotDicom
        If a folder holds no Part 10 file.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [child for child in sorted(path.rglob("*")) if child.is_file() and _has_prefix(child)]
            if not inside:
                raise NotDicom(f"{path}: no DICOM file in this folder; name another")
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise NotFound(f"{path} does not exist; name DICOM files or folders with them")
    return tuple(found)


def _has_prefix(path: Path) -> bool:
    """Return whether a file claims to be DICOM."""
    with path.open("rb") as file:
        return has_prefix(file.read(len(PREAMBLE)))


def send_files(
    paths: Sequence[Path], peer: Peer, *, associations: int = 1, progress: Progress | None = None
) -> SendReport:
    """Return what became of each file after all were sent or could not be.

    A file that breaks the Association is not tried again; the next ones go on a new Association. When none can be
    opened, the remaining files are reported with the reason.

    Parameters
    ----------
    paths
        Part 10 files; their bytes are sent as they are. One that is named twice is sent twice.
    associations
        How many at once, >= 1. On one, files arrive in their order.
    progress
        Called after each file, by one thread at a time; what follows waits until it returns.
    """
    began = perf_counter()
    tally = _Tally(progress)
    ready: dict[int, tuple[int, Path, FileHead]] = {}
    for place, path in enumerate(paths):
        try:
            ready[len(ready)] = (place, path, read_file_head(path))
        except NotDicom as exc:
            tally.add(place, path, None, Outcome.refused(exc))
        except OSError as exc:
            tally.add(place, path, None, Outcome.refused(NotFound(f"file {path.name}: {exc.strerror}")))

    def note(index: int, outcome: Outcome) -> None:
        tally.add(*ready.pop(index), outcome)

    try:
        carry(peer, [(path, head) for _, path, head in ready.values()], note, associations=associations)
    except (DestinationDown, Misconfigured) as exc:
        for place, path, head in ready.values():
            tally.add(place, path, head, Outcome.retry(exc))
    files = tuple(tally.files[place] for place in range(len(paths)))
    return SendReport(peer=peer, files=files, seconds=perf_counter() - began)


class _Tally:
    """Collects the outcomes, by the place of each file in the order given."""

    def __init__(self, progress: Progress | None) -> None:
        self.files: dict[int, SentFile] = {}
        self._progress = progress

    def add(self, place: int, path: Path, head: FileHead | None, outcome: Outcome) -> None:
        """Note one outcome and tell whoever watches."""
        sent = SentFile(
            path=path,
            sop_instance_uid=None if head is None else head.sop_instance_uid,
            size_bytes=0 if head is None else head.size_bytes,
            outcome=outcome,
        )
        self.files[place] = sent
        if self._progress is not None:
            self._progress(sent)
