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
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock

from node.children import Process
from node.logs import configure_logging
from node.nurse import MAX_MESSAGE_BYTES, Nurse, Order, Program, name_process, run_to_its_end

logger = logging.getLogger(__name__)

VERB = "nursery"
# It answers in milliseconds; one that is stopped must not stop the node for good.
BIRTH_S = 60.0
# The exit code of a process that ended when there was nobody to tell it.
UNKNOWN = 255
# Loads the programs of these names.
Load = Callable[[Sequence[str]], Mapping[str, Program]]


class Offspring:
    """A process that a nursery has forked.

    Parameters
    ----------
    line
        Whose other end the process holds as long as it lives, and the nursery until it has told the exit code.
    """

    def __init__(self, line: socket.socket, pid: int) -> None:
        self.pid = pid
        self._line = line
        self._code: int | None = None
        self._reading = Lock()

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0.0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code when it has ended; `UNKNOWN` where the nursery ended before it.

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
                self._line.settimeout(timeout)
                self._code = self._hear_code()
                self._line.close()
        except (TimeoutError, BlockingIOError) as exc:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0) from exc
        finally:
            self._reading.release()
        return self._code

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it by force."""
        self._signal(signal.SIGKILL)

    def _hear_code(self) -> int:
        try:
            told = self._line.recv(MAX_MESSAGE_BYTES)
        except ConnectionError:
            return UNKNOWN
        return int(told) if told else UNKNOWN

    def _signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Nursery:
    """The nursery as the node sees it; made when it is needed first, unless it was forked before.

    Parameters
    ----------
    programs
        Names of what may be asked for.
    log_level
        Of all that comes from it; this process has it already.
    """

    def __init__(self, programs: Sequence[str], *, log_level: str) -> None:
        self._programs = programs
        self._log_level = log_level
        self._control: socket.socket | None = None
        self._process: _Forked | subprocess.Popen[bytes] | None = None
        # The nursery makes one process at a time anyway.
        self._birth = Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the nursery, None while there is none."""
        return None if self._process is None else self._process.pid

    def fork(self, load: Load) -> None:
        """Fork the nursery from this process, which should have loaded what it needs, and must have no thread."""
        programs = load(self._programs)
        # Nobody may write into pages that are shared, not even to look for garbage.
        gc.freeze()
        for stream in (sys.stdout, sys.stderr):
            # What waits there would be written by both.
            stream.flush()
        ours, theirs = _open_line()
        pid = os.fork()
        if pid == 0:
            ours.close()
            run_to_its_end(lambda: _serve(theirs, programs))
        theirs.close()
        self._control, self._process = ours, _Forked(pid)

    def bear(self, order: Order, handed: Sequence[socket.socket]) -> Process:
        """Return a new process, which has these sockets, too.

        Raises
        ------
        OSError
            If it cannot be had.
        """
        with self._birth, ExitStack() as unless_born:
            if self._process is None or self._process.poll() is not None:
                self._begin_anew()
            ours, theirs = _open_line()
            unless_born.callback(ours.close)
            with theirs:
                self._ask(order, theirs, handed)
            ours.settimeout(BIRTH_S)
            told = ours.recv(MAX_MESSAGE_BYTES)
            if not told:
                raise ChildProcessError("the nursery could make no process")
            unless_born.pop_all()
        return Offspring(ours, int(told))

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

    def _begin_anew(self) -> None:
        if self._process is not None:
            logger.error("child ended", extra={"owner": VERB, "exit_code": self._process.poll()})
        self._end()
        ours, theirs = _open_line()
        with theirs:
            descriptor = str(theirs.fileno())
            options = ("--control", descriptor, "--log-level", self._log_level)
            command = (sys.executable, "-m", "node", VERB, *options, *self._programs)
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
        self._control = ours
        logger.info("child started", extra={"owner": VERB, "pid": self._process.pid})

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            # It has nothing that could be lost, and may have been stopped.
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
    name_process(VERB)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    with control:
        control.set_inheritable(False)
        Nurse(control, programs).work()


def _open_line() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
