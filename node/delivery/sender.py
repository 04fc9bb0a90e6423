"""A fast C-STORE SCU for files that are no Deliveries: `radnode send` and the simulated modality."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import perf_counter

from node.delivery.association import Peer
from node.delivery.cstore import carry
from node.delivery.parcel import Fate, Outcome
from node.delivery.part10 import FileHead, read_file_head
from node.errors import DestinationDown, Misconfigured, NotDicom, NotFound


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


def send_files(
    paths: Sequence[Path], peer: Peer, *, associations: int = 1, progress: Progress | None = None
) -> SendReport:
    """Return what became of each file after all were sent or could not be.

    A file that breaks the Association is not tried again; the next ones go on a new Association. When none can be
    opened, the remaining files are reported with the reason.

    Parameters
    ----------
    paths
        Part 10 files; their bytes are sent as they are.
    associations
        How many in parallel, >= 1; each takes every n-th file.
    progress
        Called after each file, by one thread at a time.
    """
    began = perf_counter()
    tally = _Tally(progress)
    with ThreadPoolExecutor(max_workers=max(1, associations), thread_name_prefix="send") as pool:
        shares = [paths[start::associations] for start in range(associations)]
        for future in [pool.submit(_send_share, share, peer, tally) for share in shares if share]:
            future.result()
    return SendReport(files=tuple(tally.files[path] for path in dict.fromkeys(paths)), seconds=perf_counter() - began)


class _Tally:
    """Collects the outcomes of all threads."""

    def __init__(self, progress: Progress | None) -> None:
        self.files: dict[Path, SentFile] = {}
        self._progress = progress
        self._lock = Lock()

    def add(self, path: Path, head: FileHead | None, outcome: Outcome) -> None:
        """Note one outcome and tell whoever watches."""
        sent = SentFile(
            path=path,
            sop_instance_uid=None if head is None else head.sop_instance_uid,
            size_bytes=0 if head is None else head.size_bytes,
            outcome=outcome,
        )
        with self._lock:
            self.files[path] = sent
            if self._progress is not None:
                self._progress(sent)


def _send_share(paths: Sequence[Path], peer: Peer, tally: _Tally) -> None:
    """Send the files of one thread."""
    ready: list[tuple[Path, FileHead]] = []
    for path in paths:
        try:
            ready.append((path, read_file_head(path)))
        except NotDicom as exc:
            tally.add(path, None, Outcome.refused(exc))
        except OSError as exc:
            tally.add(path, None, Outcome.refused(NotFound(f"file {path.name}: {exc.strerror}")))
    remaining = dict(enumerate(ready))

    def note(index: int, outcome: Outcome) -> None:
        tally.add(*remaining.pop(index), outcome)

    try:
        carry(peer, ready, note)
    except (DestinationDown, Misconfigured) as exc:
        for path, head in remaining.values():
            tally.add(path, head, Outcome.retry(exc))
