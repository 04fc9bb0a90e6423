"""The nursery: a process that has loaded everything, has no thread, and forks itself into those the node asks for.

What such a process would load for itself it shares with all others of the node, and is there at once. The node's own
process cannot be forked, because it has threads; so a nursery is forked from it before it has any. One that has died is
made anew as ``python -m node nursery``, and shares with its own children alone; those of the old one live on.
"""

import argparse
import array
import gc
import json
import logging
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock

from node.children import Process
from node.logs import configure_logging
from node.nurse import MAX_MESSAGE_BYTES, Nurse, Order, Program, fork_into, name_process

logger = logging.getLogger(__name__)

VERB = "nursery"
# It answers in milliseconds when it has loaded everything, which takes seconds, and three times that on a busy machine.
# One that is stopped must not stop the node for good.
BIRTH_S = 20.0
# The nursery tells an exit code in milliseconds; one that is stopped never does.
CODE_S = 1.0
# The exit code of a process that ended when there was nobody to tell it.
UNKNOWN = 255
OPEN_DESCRIPTORS = Path("/proc/self/fd")
FIRST_BEYOND_STANDARD = 3
# Loads the programs of these names.
Load = Callable[[Sequence[str]], Mapping[str, Program]]


class Offspring:
    """A process that a nursery has forked.

    Parameters
    ----------
    line
        Where the nursery tells the exit code. That the process has ended Linux itself tells, whatever the nursery does.
    """

    def __init__(self, line: socket.socket, pid: int) -> None:
        self.pid = pid
        self._line = line
        self._code: int | None = None
        self._reading = Lock()
        # Held while a signal is sent: a number that was closed may soon be that of another process.
        self._naming = Lock()
        self._process: int | None = None
        with suppress(ProcessLookupError):
            self._process = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0.0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code when it has ended; `UNKNOWN` where the nursery does not tell.

        Raises
        ------
        subprocess.TimeoutExpired
            If that takes longer; seconds.
        """
        if self._code is not None:
            return self._code
        # Whoever waits without a limit holds the lock until the end.
        if not self._reading.acquire(timeout=-1 if timeout is None else timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        try:
            if self._code is None:
                self._await_end(timeout)
                self._code = self._hear_code()
                self._close()
        finally:
            self._reading.release()
        return self._code

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it by force."""
        self._signal(signal.SIGKILL)

    def _await_end(self, timeout: float | None) -> None:
        if self._process is not None and not _wait_for([self._process], timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)

    def _hear_code(self) -> int:
        self._line.settimeout(CODE_S)
        try:
            told = self._line.recv(MAX_MESSAGE_BYTES)
        except (ConnectionError, TimeoutError):
            return UNKNOWN
        return int(told) if told else UNKNOWN

    def _close(self) -> None:
        self._line.close()
        with self._naming:
            if self._process is not None:
                os.close(self._process)
                self._process = None

    def _signal(self, number: signal.Signals) -> None:
        with self._naming, suppress(ProcessLookupError):
            if self._process is not None:
                signal.pidfd_send_signal(self._process, number)


class Nursery:
    """The nursery as the node sees it; made when it is needed first, unless it was forked before.

    Parameters
    ----------
    programs
        Names of what may be asked for.
    log_level
        Of all that comes from it; this process has it already.
    birth_s
        How long a birth may take before the nursery is given up; seconds.
    """

    def __init__(self, programs: Sequence[str], *, log_level: str, birth_s: float = BIRTH_S) -> None:
        self._programs = programs
        self._log_level = log_level
        self._birth_s = birth_s
        self._control: socket.socket | None = None
        self._process: _Forked | subprocess.Popen[bytes] | None = None
        # The nursery makes one process at a time anyway.
        self._birth = Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the nursery, None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def fork(self, load: Load) -> None:
        """Fork the nursery from this process, which should have loaded what it needs.

        Nothing is forked from one that has a thread, whose locks the nursery might find held for ever; the first birth
        then begins a nursery that loads everything for itself.
        """
        if threading.active_count() > 1:
            logger.error("nursery not forked", extra={"owner": VERB})
            return
        programs = load(self._programs)
        # Nobody may write into pages that are shared, not even to look for garbage.
        gc.freeze()
        ours, theirs = _open_line()
        with theirs:
            pid = fork_into(lambda: _serve(theirs, programs))
        self._control, self._process = ours, _Forked(pid)

    def bear(self, order: Order, handed: Sequence[socket.socket]) -> Process:
        """Return a new process, which has these sockets, too.

        Raises
        ------
        OSError
            If it cannot be had. A nursery that does not answer in time is ended, and the next birth begins another.
        """
        with self._birth, ExitStack() as unless_born:
            if self._process is None or self._process.poll() is not None:
                self._begin_anew()
            ours, theirs = _open_line()
            unless_born.callback(ours.close)
            with theirs:
                self._ask(order, theirs, handed)
            born = Offspring(ours, self._hear_birth(ours))
            unless_born.pop_all()
        return born

    def close(self) -> None:
        """End the nursery; what came from it lives on."""
        with self._birth:
            self._end()

    def _ask(self, order: Order, line: socket.socket, handed: Sequence[socket.socket]) -> None:
        if self._control is None:
            raise ChildProcessError("there is no nursery")
        # Settings may be longer than a message.
        with os.fdopen(os.memfd_create("order"), "w", encoding="utf-8") as file:
            json.dump(asdict(order), file)
            file.flush()
            descriptors = array.array("i", (file.fileno(), line.fileno(), *(end.fileno() for end in handed)))
            self._control.sendmsg([VERB.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])

    def _hear_birth(self, line: socket.socket) -> int:
        if self._control is None:
            raise ChildProcessError("there is no nursery")
        # Nothing ever comes from there but its end; a child that it could not tell of may hold the line open.
        if not _wait_for([line.fileno(), self._control.fileno()], self._birth_s):
            self._lose()
            raise TimeoutError("the nursery does not answer; it was ended")
        line.setblocking(False)
        try:
            told = line.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError as exc:
            self._lose()
            raise ChildProcessError("the nursery ended at a birth") from exc
        if not told:
            raise ChildProcessError("the nursery could make no process")
        return int(told)

    def _begin_anew(self) -> None:
        self._lose()
        ours, theirs = _open_line()
        with theirs:
            descriptor = str(theirs.fileno())
            options = ("--control", descriptor, "--log-level", self._log_level)
            command = (sys.executable, "-m", "node", VERB, *options, *self._programs)
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
        self._control = ours
        logger.info("child started", extra={"owner": VERB, "pid": self._process.pid})

    def _lose(self) -> None:
        process = self._process
        self._end()
        if process is not None:
            logger.error("child ended", extra={"owner": VERB, "exit_code": process.poll()})

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            # It has nothing that could be lost, and may have been stopped, which does not keep it from being killed.
            self._process.kill()
            self._process.wait()
            self._process = None


class _Forked:
    """A child that this very process has forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        return self._look(os.WNOHANG)

    def wait(self) -> int | None:
        return self._look(0)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _look(self, options: int) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:
                # Whoever started us ignores the ends of children, and so do we.
                self._code = UNKNOWN
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code


def main(words: Sequence[str], load: Load) -> None:
    """Run a nursery that was not forked to its end."""
    parser = argparse.ArgumentParser(prog=f"python -m node {VERB}")
    parser.add_argument("--control", type=int, required=True, help="descriptor of our end of the line to the node")
    parser.add_argument("--log-level", required=True)
    parser.add_argument("programs", nargs="+", help="names of what may be asked for")
    arguments = parser.parse_args(words)
    configure_logging(arguments.log_level)
    programs = load(arguments.programs)
    gc.freeze()
    _serve(socket.socket(fileno=arguments.control), programs)


def _serve(control: socket.socket, programs: Mapping[str, Program]) -> None:
    _close_all_but(control.fileno())
    name_process(VERB)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    with control:
        control.set_inheritable(False)
        Nurse(control, programs).work()


def _close_all_but(kept: int) -> None:
    """Close what the node has open, or else it would live on here; the standard ones stay."""
    beyond = max(int(entry.name) for entry in OPEN_DESCRIPTORS.iterdir()) + 1
    os.closerange(FIRST_BEYOND_STANDARD, kept)
    os.closerange(max(kept + 1, FIRST_BEYOND_STANDARD), beyond)


def _wait_for(descriptors: Sequence[int], timeout: float | None) -> bool:
    """Return whether one of them has something to tell, or has ended, within so many seconds."""
    watch = select.poll()
    for descriptor in descriptors:
        watch.register(descriptor, select.POLLIN)
    # Rounded up, or what is waited for a millisecond at a time would not be waited for.
    return bool(watch.poll(None if timeout is None else math.ceil(timeout * 1000)))


def _open_line() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
