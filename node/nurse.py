"""What runs in the nursery: it forks itself into the processes that the node asks for, and tells how they ended."""

import array
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from setproctitle import setproctitle

VERB = "nursery"
# What a process does from its first moment to its last, with its words.
Program = Callable[[Sequence[str]], None]
# More than a web process is ever handed; what it is, and the line to the node, are two of them.
MAX_DESCRIPTORS = 64
MAX_MESSAGE_BYTES = 64
DESCRIPTOR = array.array("i")
OPEN_DESCRIPTORS = Path("/proc/self/fd")
FIRST_BEYOND_STANDARD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Which process is wanted.

    Attributes
    ----------
    program
        Name of what runs in it.
    words
        Its arguments; ``{0}`` stands for the first descriptor that it is handed, ``{1}`` for the second.
    environment
        All its variables.
    """

    program: str
    words: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    order: Order
    line: socket.socket
    descriptors: Sequence[int]


class Nurse:
    """Makes processes; it has one thread, and must never have another.

    Parameters
    ----------
    control
        Where orders come from.
    """

    def __init__(self, control: socket.socket, programs: Mapping[str, Program]) -> None:
        self._control = control
        self._programs = programs
        # Process id to where its exit code is told.
        self._lines: dict[int, socket.socket] = {}
        self._woken, self._waking = socket.socketpair()
        for end in (self._woken, self._waking):
            end.setblocking(False)

    def work(self) -> None:
        """Make what is asked for; return when the node is gone."""
        for name in (signal.SIGTERM, signal.SIGINT):
            # Service managers and terminals send them to all processes at once; the order is the node's business.
            signal.signal(name, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, _take_note)
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        watch = select.poll()
        for end in (self._control, self._woken):
            watch.register(end, select.POLLIN)
        while True:
            watch.poll()
            self._bury()
            with suppress(BlockingIOError):
                wanted = self._hear()
                if wanted is None:
                    return
                self._bear(wanted)

    def _bury(self) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(MAX_MESSAGE_BYTES)
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                with self._lines.pop(pid) as line, suppress(OSError):
                    line.send(str(os.waitstatus_to_exitcode(status)).encode())

    def _hear(self) -> _Wanted | None:
        content, ancillary, _, _ = self._control.recvmsg(
            MAX_MESSAGE_BYTES,
            socket.CMSG_SPACE(MAX_DESCRIPTORS * DESCRIPTOR.itemsize),
            socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT,
        )
        if not content:
            return None
        descriptors = array.array("i")
        for level, kind, told in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(told)
        place, line, *handed = descriptors
        with os.fdopen(place, encoding="utf-8") as file:
            file.seek(0)
            order = Order(**json.load(file))
        return _Wanted(order=order, line=socket.socket(fileno=line), descriptors=handed)

    def _bear(self, wanted: _Wanted) -> None:
        try:
            pid = os.fork()
            if pid == 0:
                run_to_its_end(lambda: self._become(wanted))
            self._lines[pid] = wanted.line
            wanted.line.send(str(pid).encode())
        except OSError:
            # No room for one more, which the node learns from the end of the line; or the node is gone.
            if wanted.line not in self._lines.values():
                wanted.line.close()
        for descriptor in wanted.descriptors:
            os.close(descriptor)

    def _become(self, wanted: _Wanted) -> None:
        """Be the process that is wanted, and none that knows of its elder brothers."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._control, self._woken, self._waking, *self._lines.values()):
            end.close()
        order = wanted.order
        words = [word.format(*wanted.descriptors) for word in order.words]
        os.environ.clear()
        os.environ.update(order.environment)
        name_process(order.program, *words)
        self._programs[order.program](words)


def serve(control: socket.socket, programs: Mapping[str, Program]) -> None:
    """Be the nursery until the node is gone; `control` and the standard streams are all that stays open."""
    _close_all_but(control.fileno())
    name_process(VERB)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    with control:
        control.set_inheritable(False)
        Nurse(control, programs).work()


def name_process(*words: str) -> None:
    """Let lists of processes show this one as if it had been started with these words."""
    setproctitle(" ".join((sys.executable, "-m", "node", *words)))


def fork_into(program: Callable[[], None]) -> int:
    """Return the process id of a fork of this process that runs `program` to its end, and nothing else."""
    for stream in (sys.stdout, sys.stderr):
        # What waits there would be written by both.
        stream.flush()
    pid = os.fork()
    if pid == 0:
        run_to_its_end(program)
    return pid


def run_to_its_end(program: Callable[[], None]) -> NoReturn:
    """Run `program` in a process that was forked, and end it; nothing of what called us goes on in it."""
    code: object = 1
    try:
        program()
        code = 0
    except SystemExit as exc:
        code = exc.code
    except BaseException:  # noqa: BLE001 the outermost edge: what the interpreter would do
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _take_note(_number: int, _frame: FrameType | None) -> None:
    """Wake who polls; Python writes to the wake-up descriptor only for signals that have a handler."""


def _close_all_but(kept: int) -> None:
    """Close what the node has open, or else it would live on here; the standard ones stay."""
    beyond = max(int(entry.name) for entry in OPEN_DESCRIPTORS.iterdir()) + 1
    os.closerange(FIRST_BEYOND_STANDARD, kept)
    os.closerange(max(kept + 1, FIRST_BEYOND_STANDARD), beyond)
