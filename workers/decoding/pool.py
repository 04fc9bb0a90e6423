"""The decoder pool of one worker: a codestream that hangs or kills its decoder costs a Job a refusal, nothing else."""

import json
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.cage.process import DONE, Bounds, CagedProcess, Idlers
from node.codecs import MAX_PIXELS
from node.errors import DecoderDied, InputMissing, PixelsUndecodable
from workers.decoding.form import Form
from workers.decoding.frame_file import FrameFile
from workers.decoding.window import ODD, UNREAD, Window

MODULE = "workers.decoding.captive"
# No stored value takes more bytes (PS3.5 8.1.1).
WIDEST_BYTES = 8
STORED_TYPES = frozenset(
    {"|u1", "|i1"} | {f"{order}{kind}{width}" for order in "<>" for kind in "ui" for width in (2, 4, 8)}
) | {"<f4", "<f8", ">f4", ">f8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLimits:
    """How much the pool may take.

    Attributes
    ----------
    processes
        At most, > 0; each is started when it is needed first, and takes a core while it decodes. One is enough for
        being able to kill it.
    memory_bytes
        Address space of each.
    seconds
        Of one slice; beyond, its process is killed.
    """

    processes: int = 1
    memory_bytes: int = 3 * 2**30
    seconds: float = 60.0


class DecoderPool:
    """Decodes slices in processes of their own; what it gives lies in memory that is shared with them.

    Parameters
    ----------
    module
        What each process runs; it answers as `workers.decoding.captive` does.
    """

    def __init__(self, limits: DecoderLimits | None = None, *, module: str = MODULE) -> None:
        self.limits = limits or DecoderLimits()
        bounds = Bounds(memory_bytes=self.limits.memory_bytes, seconds=self.limits.seconds)
        self._free = BoundedSemaphore(self.limits.processes)
        self._idlers = Idlers(lambda: _Decoder(module, bounds))
        weakref.finalize(self, self._idlers.close)

    @contextmanager
    def decode(self, path: Path, form: Form) -> Iterator[NDArray[np.generic] | None]:
        """Give the stored values of a slice, (rows, columns); None where the file is not as its Form says.

        They are valid inside of the block only.

        Raises
        ------
        PixelsUndecodable
            If no decoder understands the slice, or two processes died of it, or one took too long. Which Instance it
            is, is the caller's to say.
        InputMissing
            If the file is gone.
        OSError
            If it cannot be read.
        """
        request = {"task": "decode", "path": str(path), "form": form.as_json()}
        with self._answer(request, (form.rows, form.columns)) as pixels:
            yield pixels

    @contextmanager
    def decode_frame(self, file: FrameFile, number: int) -> Iterator[NDArray[np.generic]]:
        """Give the stored values of one Frame of a file, from 1; as `decode`."""
        form = file.form
        request = {
            "task": "frame", "path": str(file.path), "form": form.as_json(), "pieces": file.pieces[number - 1],
        }  # fmt: skip
        with self._answer(request, (form.rows, form.columns)) as pixels:
            yield _require_told(pixels)

    @contextmanager
    def read(self, path: Path, shape: tuple[int, int]) -> Iterator[NDArray[np.generic]]:
        """Give the stored values of a slice of which the ledger tells too little; as `decode`.

        Parameters
        ----------
        shape
            Rows and columns, as its header announces them.
        """
        request = {"task": "read", "path": str(path)}
        with self._answer(request, shape) as found:
            yield _require_told(found)

    def close(self) -> None:
        """End every process; those that are needed later start again."""
        self._idlers.close()

    def list_pids(self) -> tuple[int, ...]:
        """Return the process ids of the decoders that wait for work."""
        return self._idlers.list_pids()

    @contextmanager
    def _answer(self, request: Mapping[str, Any], shape: tuple[int, int]) -> Iterator[NDArray[np.generic] | None]:
        try:
            with self._free, ExitStack() as lent:
                decoder, status, told = self._ask(request, shape, lent)
                if status == DONE and not told.startswith(UNREAD):
                    yield decoder.look(told, shape)
        except DecoderDied as exc:
            raise PixelsUndecodable(
                f"its decoder died, needed more than {self.limits.memory_bytes / 2**30:.2g} GiB, or took more than "
                f"{self.limits.seconds:g} s; resend it from its source, in another Transfer Syntax"
            ) from exc
        if status != DONE:
            raise PixelsUndecodable(json.loads(told)["text"])
        if told.startswith(UNREAD):
            raise _tell_unread(int(told[len(UNREAD) :]), request["path"])

    def _ask(
        self, request: Mapping[str, Any], shape: tuple[int, int], lent: ExitStack, *, is_fresh: bool = False
    ) -> tuple["_Decoder", bytes, bytes]:
        """Return the decoder, which `lent` gives back, with status and words of its answer.

        A decoder may die of other things than a slice: a fresh one is asked once more. One that takes too long is not.
        """
        decoder: _Decoder | None = None
        try:
            with ExitStack() as trial:
                decoder = trial.enter_context(self._idlers.lend(is_fresh=is_fresh))
                status, told = decoder.show(request, shape)
                lent.enter_context(trial.pop_all())
                return decoder, status, told
        except DecoderDied:
            if is_fresh or decoder is None or decoder.is_late:
                raise
        return self._ask(request, shape, lent, is_fresh=True)


def _require_told(found: NDArray[np.generic] | None) -> NDArray[np.generic]:
    if found is None:
        raise PixelsUndecodable("its decoder did not say what it decoded")
    return found


def _tell_unread(number: int, path: str) -> OSError | InputMissing:
    exc = OSError(number, os.strerror(number), path)
    if isinstance(exc, FileNotFoundError):
        return InputMissing("its file is gone from the store; send it again")
    return exc


class _Decoder(CagedProcess):
    """One process with the window into which it writes."""

    def __init__(self, module: str, bounds: Bounds) -> None:
        self._window = Window()
        descriptor = self._window.descriptor
        with ExitStack() as unused:
            unused.callback(self._window.close)
            super().__init__(module, bounds, words=("--window", str(descriptor)), descriptors=(descriptor,))
            unused.pop_all()

    def show(self, request: Mapping[str, Any], shape: tuple[int, int]) -> tuple[bytes, bytes]:
        """Return the status of its answer and what it says, when it has written into the window.

        Raises
        ------
        DecoderDied
            As `ask`.
        """
        # More is refused by whoever decodes; of room that nobody touches, none is taken.
        self._window.make_room(min(max(shape[0] * shape[1], 1), MAX_PIXELS) * WIDEST_BYTES)
        answer = self.ask(request)
        return answer.status, b"".join(answer.pieces)

    def look(self, told: bytes, shape: tuple[int, int]) -> NDArray[np.generic] | None:
        """Return what is in the window, by what was said of it; None where the file was odd.

        Raises
        ------
        DecoderDied
            If what was said is not of this shape, or of no stored value's type.
        """
        if told == ODD:
            return None
        answer = json.loads(told)
        if tuple(answer["shape"]) != shape or answer["dtype"] not in STORED_TYPES:
            raise DecoderDied("a decoder says that it has decoded something else; look at the Instance")
        return self._window.look(np.dtype(answer["dtype"]), shape)

    def end(self) -> None:
        """Kill it, and let go of pipes and window."""
        super().end()
        self._window.close()
