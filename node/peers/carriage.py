"""Files on their way over one Association, or over several at once."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

from node.domain.capability import Form
from node.errors import DestinationDown, Misconfigured
from node.peers.association import StoreAssociation
from node.peers.parcel import Outcome
from node.peers.part10 import FileHead
from node.peers.peer import Peer

# Presentation Context IDs are the odd numbers 1-255 (PS3.8 9.3.2.2).
MAX_CONTEXTS = 128
# The second Association lost in a row says more about the peer than about the objects.
LOSSES_UNTIL_DOWN = 2


def carry(
    peer: Peer, files: Sequence[tuple[Path, FileHead]], note: Callable[[int, Outcome], None], *, associations: int = 1
) -> None:
    """Send files on one Association, or on a further one where 128 Presentation Contexts do not suffice.

    A file during which the Association is lost is noted as RETRY, and the next ones go on a new Association: it may be
    that file that breaks the peer.

    Parameters
    ----------
    note
        Told the place in `files` and its outcome as soon as that is known, by one thread at a time; the next file goes
        on that Association after it returns.
    associations
        How many at once, >= 1. On one, files arrive in their order. A peer that grants fewer gets fewer.

    Raises
    ------
    DestinationDown
        If no Association can be opened, or two in a row are lost; files not noted were not taken.
    Misconfigured
        If the peer does not know one of the AE titles.
    """
    forms = [(head.sop_class_uid, head.transfer_syntax_uid) for _, head in files]
    for batch in batches(forms):
        keys = tuple(dict.fromkeys(forms[index] for index in batch))
        load = _Load(peer=peer, files=files, keys=keys, note=note, waiting=deque(batch))
        if associations == 1 or len(batch) == 1:
            load.carry(deque())
        else:
            load.share(min(associations, len(batch)))


def batches(keys: Sequence[Form]) -> Iterator[list[int]]:
    """Yield the places in `keys` that go on one Association, in order: at most 128 different pairs each."""
    batch: list[int] = []
    seen: set[Form] = set()
    for index, key in enumerate(keys):
        if key not in seen and len(seen) == MAX_CONTEXTS:
            yield batch
            batch, seen = [], set()
        batch.append(index)
        seen.add(key)
    if batch:
        yield batch


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """The files of one batch, and what the Associations that carry them must know of each other.

    Attributes
    ----------
    waiting
        Places in `files` that no Association has taken yet.
    is_open
        Set when the first Association stands, or cannot.
    has_failed
        Set when one ended with an error; the others finish the file that they are sending, and note it.
    """

    peer: Peer
    files: Sequence[tuple[Path, FileHead]]
    keys: tuple[Form, ...]
    note: Callable[[int, Outcome], None]
    waiting: deque[int]
    is_open: Event = field(default_factory=Event)
    has_failed: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)

    def share(self, associations: int) -> None:
        """Send everything on several Associations, each in a thread of its own and with a file to begin with."""
        firsts = [deque([self.waiting.popleft()]) for _ in range(associations)]
        with ThreadPoolExecutor(max_workers=associations, thread_name_prefix="send") as pool:
            futures = [
                pool.submit(copy_context().run, self._carry_beside, own, is_further=place > 0)
                for place, own in enumerate(firsts)
            ]
            try:
                for future in as_completed(futures):
                    # Of several errors, the first says most.
                    future.result()
            except BaseException:
                self.has_failed.set()
                raise
        # What an Association was to begin with that the peer did not grant.
        self.carry(deque())

    def _carry_beside(self, own: deque[int], *, is_further: bool) -> None:
        """Send `own` and what waits, and let the others know of an error."""
        try:
            if is_further:
                self.is_open.wait()
            self.carry(own, is_further=is_further)
        except BaseException:
            self.has_failed.set()
            raise
        finally:
            self.is_open.set()

    def carry(self, own: deque[int], *, is_further: bool = False) -> None:
        """Send `own`, then what waits, until nothing is left or another Association failed.

        Parameters
        ----------
        is_further
            Whether another one stands already, so that this one may be refused.
        """
        losses = 0
        while (own or self.waiting) and not self.has_failed.is_set():
            with ExitStack() as stack:
                try:
                    assoc = stack.enter_context(StoreAssociation(self.peer, self.keys))
                except (DestinationDown, Misconfigured):
                    if not is_further:
                        raise
                    self.waiting.extendleft(own)
                    return
                self.is_open.set()
                losses = self._carry_on(assoc, own, losses)

    def _carry_on(self, assoc: StoreAssociation, own: deque[int], losses: int) -> int:
        """Send on one Association until it is lost or nothing is left; return how many were lost in a row."""
        while not self.has_failed.is_set() and (index := self._take(own)) is not None:
            try:
                outcome = assoc.store(*self.files[index])
            except DestinationDown as exc:
                self._note(index, Outcome.retry(exc))
                if losses + 1 >= LOSSES_UNTIL_DOWN:
                    raise
                return losses + 1
            self._note(index, outcome)
            if not assoc.is_sound:
                # Our own file failed half-way: the peer is not to blame, but this Association is spent.
                return losses
            losses = 0
        return losses

    def _take(self, own: deque[int]) -> int | None:
        """Return the next place in `files`, or None when there is none."""
        if own:
            return own.popleft()
        try:
            return self.waiting.popleft()
        except IndexError:
            return None

    def _note(self, index: int, outcome: Outcome) -> None:
        """Tell one outcome."""
        with self.lock:
            self.note(index, outcome)
