"""The pool: processes that may die of what they read, each with a bound on its memory and its time."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any

from anyio import CapacityLimiter

from node.cage.process import DONE, Bounds, CagedProcess, Idlers
from node.errors import (
    DecoderDied,
    DecodersBusy,
    FileUnreadable,
    NodeError,
    NotFound,
    PixelsUndecodable,
)
from node.web.cargo import MAX_OUTSTANDING_BYTES, Cargo, Hold
from node.web.look import Look

# What runs in each process.
MODULE = "node.web.picture"
REFUSALS: Mapping[str, type[NodeError]] = {kind.code: kind for kind in (FileUnreadable, NotFound, PixelsUndecodable)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How much the pool may take.

    Attributes
    ----------
    processes
        At most; each is started when it is needed first.
    memory_bytes
        Address space of each; Python and its libraries take 0.2 GB of it.
    seconds
        Of one request; beyond, its process is killed.
    wait_s
        How long a request waits for a process that is free.
    waiting
        Requests that may wait for one; the next is refused at once. Each keeps a thread of the 40 that all readers
        share. A browser asks for six things at a time.
    streaming
        Threads that go on with answers of which a part is out already; none of them is one of those 40.
    outstanding_bytes
        All answers together that wait for their clients, in memory and in files.
    """

    processes: int = 2
    memory_bytes: int = 3 * 2**30
    seconds: float = 60.0
    wait_s: float = 30.0
    waiting: int = 12
    streaming: int = 16
    outstanding_bytes: int = MAX_OUTSTANDING_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A file that cannot be read: its place among those that were asked for, from 0, and the error."""

    place: int
    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Headers of some files.

    Attributes
    ----------
    content
        Inside of a JSON array.
    unread
        What is left out.
    """

    content: bytes
    unread: Sequence[Unread] = ()


class PixelPool:
    """Reads, cuts, decodes and shows what peers sent, in processes that nobody misses.

    Parameters
    ----------
    folder
        Where large answers wait for their clients, in files without names; None: where temporary files are.

    Attributes
    ----------
    streamers
        Threads for answers that go on when a part of them is out: they wait for a process in any case, so that they
        must not wait in the threads that all readers share.
    """

    def __init__(self, limits: PoolLimits | None = None, *, folder: Path | None = None) -> None:
        self._limits = limits or PoolLimits()
        place = Path(tempfile.gettempdir()) if folder is None else folder
        self._hold = Hold(place, most_bytes=self._limits.outstanding_bytes, wait_s=self._limits.wait_s)
        self._free = BoundedSemaphore(self._limits.processes)
        bounds = Bounds(memory_bytes=self._limits.memory_bytes, seconds=self._limits.seconds)
        self._idlers = Idlers(lambda: CagedProcess(MODULE, bounds))
        self._lock = Lock()
        self._waiting = 0
        self.streamers = CapacityLimiter(self._limits.streaming)

    def frame(self, path: str, number: int, *, is_stored: bool, is_under_way: bool = False) -> Cargo:
        """Return a Frame as it is stored, or as in Explicit VR Little Endian.

        Parameters
        ----------
        is_under_way
            Whether a part of the answer is out already, which no refusal can follow: then it waits in any case.

        Raises
        ------
        NotFound
            If there is no such Frame.
        PixelsUndecodable
            If no decoder understands it, or it is too large.
        FileUnreadable
            If the file cannot be read.
        DecodersBusy
            If no process becomes free, or too many answers wait for their clients.
        DecoderDied
            If its process died, or took too long.
        StoreFull
            If there is no room for a large answer.
        """
        request = {"task": "frame", "path": path, "number": number, "is_stored": is_stored}
        return self._fetch(request, is_under_way=is_under_way)

    def place(self, path: str) -> Mapping[str, int]:
        """Return where the pixels of a file are, as `locate_pixels` tells it; raises as `frame` does."""
        place: Mapping[str, int] = json.loads(self._ask({"task": "place", "path": path}))
        return place

    def picture(self, path: str, number: int, look: Look, *, is_under_way: bool = False) -> Cargo:
        """Return a picture of a Frame; raises as `frame` does."""
        request = {"task": "picture", "path": path, "number": number, "look": asdict(look)}
        return self._fetch(request, is_under_way=is_under_way)

    def models(self, paths: Sequence[str], bulk_urls: Sequence[str], *, is_under_way: bool = False) -> Models:
        """Return the headers that can be read.

        Raises
        ------
        DecodersBusy
            If no process becomes free.
        DecoderDied
            If its process died of the only file, and nothing is out yet.
        """
        try:
            return self._models(paths, bulk_urls, is_under_way=is_under_way)
        except DecoderDied as exc:
            if len(paths) == 1 and not is_under_way:
                raise
            if len(paths) == 1:
                return Models(content=b"", unread=[Unread(place=0, code=exc.code, text=str(exc))])
        # Of one of them; the others are read by themselves.
        found = [self.models([path], [url], is_under_way=True) for path, url in zip(paths, bulk_urls, strict=True)]
        return Models(
            content=b",".join(one.content for one in found if one.content),
            unread=[replace(gone, place=place) for place, one in enumerate(found) for gone in one.unread],
        )

    def value(self, path: str, steps: Sequence[str]) -> Cargo:
        """Return one value of a header; raises as `frame` does."""
        return self._fetch({"task": "value", "path": path, "steps": list(steps)})

    def contours(self, path: str) -> bytes:
        """Return the outlines of a SEG as `read_contours` tells them; raises as `frame` does."""
        return self._ask({"task": "contours", "path": path})

    def transcode(self, path: str, *, is_under_way: bool = False) -> Cargo:
        """Return an Instance as a Part 10 file in Explicit VR Little Endian; raises as `frame` does."""
        return self._fetch({"task": "transcode", "path": path}, is_under_way=is_under_way)

    def close(self) -> None:
        """End every process."""
        self._idlers.close()

    def _models(self, paths: Sequence[str], bulk_urls: Sequence[str], *, is_under_way: bool) -> Models:
        request = {"task": "models", "paths": list(paths), "bulk_urls": list(bulk_urls)}
        told, _, content = self._ask(request, is_under_way=is_under_way).partition(b"\n")
        unread = [Unread(place=place, code=code, text=text) for place, code, text in json.loads(told)]
        return Models(content=content, unread=unread)

    def _ask(self, request: Mapping[str, Any], *, is_under_way: bool = False) -> bytes:
        """Return an answer that is small whatever the file holds."""
        with self._decoder(is_under_way=is_under_way) as decoder:
            answer = decoder.ask(request)
            content = b"".join(answer.pieces)
        if answer.status != DONE:
            raise _refusal(content)
        return content

    def _fetch(self, request: Mapping[str, Any], *, is_under_way: bool = False) -> Cargo:
        """Return an answer that waits for its client, who may be slow.

        While it waits for room it keeps no process from others: it lets the answer go, and asks for it again.
        """
        room: Cargo | None = None
        while True:
            with self._decoder(is_under_way=is_under_way) as decoder:
                answer = decoder.ask(request)
                refusal = b"" if answer.status == DONE else b"".join(answer.pieces)
                if refusal:
                    break
                if room is None or room.size_bytes != answer.size_bytes:
                    room = self._hold.find_room(answer.size_bytes)
                for piece in answer.pieces:
                    if room is not None:
                        room.write(piece)
            if room is not None:
                return room
            room = self._hold.load(answer.size_bytes, is_under_way=is_under_way)
        raise _refusal(refusal)

    @contextmanager
    def _decoder(self, *, is_under_way: bool = False) -> Iterator[CagedProcess]:
        if not self._free.acquire(blocking=False):
            self._wait(is_under_way=is_under_way)
        try:
            with self._idlers.lend() as decoder:
                yield decoder
        finally:
            self._free.release()

    def _wait(self, *, is_under_way: bool) -> None:
        # What is under way waits in threads of its own, and takes no place of others.
        place = 0 if is_under_way else 1
        busy = DecodersBusy(f"{self._limits.processes} requests are being decoded, and others wait; try again")
        with self._lock:
            if place and self._waiting >= self._limits.waiting:
                raise busy
            self._waiting += place
        try:
            if not self._free.acquire(timeout=self._limits.wait_s):
                raise busy
        finally:
            with self._lock:
                self._waiting -= place


def _refusal(told: bytes) -> NodeError:
    refusal = json.loads(told)
    return REFUSALS[refusal["code"]](refusal["text"])
