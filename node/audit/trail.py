"""The trail: appends records to the newest file of its folder, whichever process does it, and keeps the chain whole."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from stat import S_IWUSR
from threading import Lock

from node.audit.message import Action, AuditEvent, Outcome, Source, encode_message, speakable, this_process
from node.audit.record import NOTHING_BEFORE, Record, encode_record, parse_record
from node.domain.codes import AUDIT_RECORDING_STOPPED, SECURITY_ALERT
from node.errors import AuditFull, AuditUnwritable

SUFFIX = ".jsonl"
# Told by the record that follows a line that a killed writer, or a loss of power, left unfinished.
DAMAGE = "audit-damaged"
# Closes such a line; without it, one that lacks nothing but its end would become a record afterwards.
UNFINISHED_END = b" unfinished\n"
TAIL_BYTES = 16 * 1024
FOLDER_MODE, OPEN_MODE, FINISHED_MODE = 0o700, 0o600, 0o400
# Whoever holds the lock needs 0.1 ms; a process that was stopped with it must not stop the others.
LOCK_TIMEOUT_S = 5.0
LOCK_POLL_S = 0.0005
# A volume, or what one user may take of it, is full.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of the chain.

    Attributes
    ----------
    path
        The newest file, None when there is none.
    inode, size_bytes
        Of that file, as it was.
    rest
        What stands in it behind the last whole record.
    """

    path: Path | None = None
    inode: int = 0
    size_bytes: int = 0
    sequence: int = 0
    digest: str = NOTHING_BEFORE
    rest: bytes = b""


class Trail:
    """Appends to one folder; several of them, in any processes and threads, may do so at a time.

    Parameters
    ----------
    clock
        Returns the time, in UTC.
    """

    def __init__(self, folder: Path, *, source: Source, clock: Callable[[], datetime]) -> None:
        self.folder = folder
        self._source = source
        self._clock = clock
        # A lock on an open file is held by the process; its threads need one of their own.
        self._mutex = Lock()
        self._folder_descriptor = -1
        self._descriptor = -1
        self._is_synced = True
        self._head = Head()

    def append(self, event: AuditEvent) -> None:
        """Return after one more record stands in the newest file; `sync` makes it survive a loss of power, too.

        What a killed writer left unfinished is closed, and told by a record of its own; nothing is ever taken away.

        Raises
        ------
        AuditFull
            If its volume has no room. The next attempt begins anew.
        AuditUnwritable
            If it cannot be written otherwise; likewise.
        """
        with self._mutex:
            try:
                with self._locked():
                    head = self._find_head()
                    if head.rest:
                        head = self._write(head, _tell_damage(head))
                    self._head = self._write(head, event)
            except OSError as exc:
                self._let_go()
                if exc.errno in NO_ROOM:
                    raise AuditFull(f"the audit trail in {self.folder} has no room; free space there") from exc
                raise AuditUnwritable(
                    f"the audit trail in {self.folder} cannot be written ({exc.strerror}); "
                    "see to space and rights of that folder"
                ) from exc

    def sync(self) -> None:
        """Return after everything that this process appended survives a loss of power.

        Raises
        ------
        AuditUnwritable
            If the disk refuses.
        """
        with self._mutex:
            if self._is_synced or self._descriptor < 0:
                return
            descriptor = os.dup(self._descriptor)
            self._is_synced = True
        try:
            # Outside the lock: whoever appends does not wait for the disk.
            os.fdatasync(descriptor)
        except OSError as exc:
            raise AuditUnwritable(f"the audit trail in {self.folder} is not on disk ({exc.strerror})") from exc
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of the files."""
        with self._mutex:
            self._let_go()

    def _let_go(self) -> None:
        for descriptor in (self._descriptor, self._folder_descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._folder_descriptor = -1
        self._head = Head()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._folder_descriptor < 0:
            self.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self._folder_descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        deadline_s = time.monotonic() + LOCK_TIMEOUT_S
        while not _try_lock(self._folder_descriptor):
            if time.monotonic() > deadline_s:
                raise OSError(errno.EAGAIN, f"another process has held its lock for {LOCK_TIMEOUT_S:g} s")
            time.sleep(LOCK_POLL_S)
        try:
            yield
        finally:
            fcntl.flock(self._folder_descriptor, fcntl.LOCK_UN)

    def _find_head(self) -> Head:
        """Return the end of the chain; nothing is read when nobody else has written."""
        known = self._head
        if known.path is not None:
            with suppress(FileNotFoundError):
                found = known.path.stat()
                # A file that may not be written any more is finished: there is a newer one.
                if found.st_ino == known.inode and found.st_size == known.size_bytes and found.st_mode & S_IWUSR:
                    return known
        return read_head(self.folder)

    def _write(self, head: Head, event: AuditEvent) -> Head:
        at = self._clock().astimezone(UTC)
        sequence = head.sequence + 1
        path = self._file_for(head, sequence, at)
        line, digest = encode_record(self._values(event, sequence, at, head.digest))
        is_same = path == head.path
        if is_same and head.rest and not head.rest.endswith(b"\n"):
            line = UNFINISHED_END + line
        self._open(path, inode=head.inode if is_same else 0)
        if os.write(self._descriptor, line) < len(line):
            # The next record tells of the piece.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._is_synced = False
        found = os.fstat(self._descriptor)
        return Head(path=path, inode=found.st_ino, size_bytes=found.st_size, sequence=sequence, digest=digest)

    def _file_for(self, head: Head, sequence: int, at: datetime) -> Path:
        """Return the newest file, or the next one when the date has changed, in whichever direction."""
        day = at.date().isoformat()
        if head.path is not None and head.path.stat().st_mode & S_IWUSR:
            if head.rest or head.path.name.split(".")[1] == day:
                return head.path
            # Before the next one exists: nobody may add to this one afterwards.
            head.path.chmod(FINISHED_MODE)
        return self.folder / f"{sequence:012d}.{day}{SUFFIX}"

    def _open(self, path: Path, *, inode: int) -> None:
        """Let `_descriptor` be the file at `path`, which is a new one when `inode` is 0."""
        if self._descriptor >= 0:
            if os.fstat(self._descriptor).st_ino == inode:
                return
            os.fdatasync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, OPEN_MODE)
        if not inode:
            owner = os.fstat(self._folder_descriptor)
            if os.geteuid() != owner.st_uid:
                # Root looks, or gives an order: the node must be able to go on in this file.
                os.fchown(self._descriptor, owner.st_uid, owner.st_gid)
            os.fsync(self._folder_descriptor)

    def _values(self, event: AuditEvent, sequence: int, at: datetime, previous: str) -> Mapping[str, str | int]:
        facts = {name: speakable(value) if isinstance(value, str) else value for name, value in event.facts.items()}
        return {
            "sequence": sequence,
            "at": at.isoformat(timespec="milliseconds"),
            "kind": event.kind,
            "outcome": event.outcome.name.lower().replace("_", "-"),
            "text": speakable(event.text),
            "source": speakable(self._source.source_id),
            **facts,
            "previous": previous,
            "message": encode_message(event, source=self._source, at=at),
        }


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def trail_files(folder: Path) -> list[Path]:
    """Return the files of a trail in the order of the chain; their names begin with their first record's number."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def read_head(folder: Path) -> Head:
    """Return where the chain in `folder` ends."""
    files = trail_files(folder)
    for path in reversed(files):
        record, rest = _read_tail(path)
        if record is not None or path == files[0]:
            newest = files[-1].stat()
            damaged = rest if path == files[-1] else files[-1].read_bytes()
            return Head(
                path=files[-1],
                inode=newest.st_ino,
                size_bytes=newest.st_size,
                sequence=record.sequence if record is not None else 0,
                digest=record.digest if record is not None else NOTHING_BEFORE,
                rest=damaged,
            )
    return Head()


def describe_rest(rest: bytes) -> Mapping[str, str | int | bool]:
    """Return the facts by which a later record, and the proof of the chain, know a damaged place again."""
    unfinished = not rest.endswith(b"\n") and b"\n" not in rest
    return {"damaged_bytes": len(rest), "damaged_sha256": sha256(rest).hexdigest(), "unfinished": unfinished}


def _read_tail(path: Path) -> tuple[Record | None, bytes]:
    """Return the last whole record of a file and what stands behind it."""
    size = path.stat().st_size
    window = TAIL_BYTES
    with path.open("rb") as file:
        while True:
            begin = max(0, size - window)
            file.seek(begin)
            content = file.read(size - begin)
            end = len(content)
            while (line_begin := content.rfind(b"\n", 0, max(end - 1, 0)) + 1) or begin == 0:
                record = parse_record(content[line_begin:end])
                if record is not None:
                    return record, content[end:]
                if line_begin == 0:
                    break
                end = line_begin
            if begin == 0:
                return None, content
            window *= 4


def _tell_damage(head: Head) -> AuditEvent:
    facts = describe_rest(head.rest)
    text = f"{len(head.rest)} bytes behind record {head.sequence} are no record; " + (
        "a writer was stopped in the middle" if facts["unfinished"] else "somebody or something changed the file"
    )
    return AuditEvent(
        kind=DAMAGE,
        event_id=SECURITY_ALERT,
        type_code=AUDIT_RECORDING_STOPPED,
        action=Action.EXECUTE,
        outcome=Outcome.MINOR_FAILURE if facts["unfinished"] else Outcome.SERIOUS_FAILURE,
        text=text,
        participants=(this_process(),),
        facts=facts,
    )
