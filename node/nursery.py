"""The nursery: a process that has loaded everything, has no thread, and forks itself into those the node asks for.

What such a process would load for itself it shares with all others of the node, and is there at once. The node's own
process cannot be forked, because it has threads; so a nursery is forked from it before it has any. One that has died is
followed by ``python -m node nursery``, which shares with its own children alone; those of the old one live on.
"""

import argparse
import array
import gc
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial

from node.children import Child, Process, end_child
from node.logs import configure_logging
from node.nurse import MAX_MESSAGE_BYTES, VERB, Order, Program, fork_into, serve
from node.offspring import Offspring, take_code, wait_for

logger = logging.getLogger(__name__)

# It answers in milliseconds when it has loaded everything, which takes seconds, and three times that on a busy machine.
# One that is stopped must not stop the node for good.
BIRTH_S = 20.0
# The nursery tells an exit code in milliseconds; one that is stopped never does.
CODE_S = 1.0
# It ends in milliseconds when its line does; one that is stopped never does.
STOP_S = 1.0
# Loads the programs of these names.
Load = Callable[[Sequence[str]], Mapping[str, Program]]


class Nursery:
    """The nursery as the node sees it; from its start on one that dies is followed by another.

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
        self._process: Process | None = None
        # None while there is nobody to ask.
        self._control: socket.socket | None = None
        # Held through a birth: the nursery makes one process at a time anyway. Notified when there is another nursery.
        self._birth = threading.Condition()
        # Nobody loses anything when it dies.
        self._keeper = Child(VERB, self._begin, stop_timeout_s=STOP_S, end_level=logging.WARNING)

    @property
    def pid(self) -> int | None:
        """Process id of the nursery, None while there is none."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def fork(self, load: Load) -> None:
        """Fork the nursery from this process, which should have loaded what it needs.

        Nothing is forked from one that has a thread, whose locks the nursery might find held for ever; the start then
        begins a nursery that loads everything for itself.
        """
        if threading.active_count() > 1:
            logger.error("nursery not forked", extra={"owner": VERB})
            return
        programs = load(self._programs)
        # Nobody may write into pages that are shared, not even to look for garbage.
        gc.freeze()
        ours, theirs = _open_line()
        with theirs:
            pid = fork_into(lambda: serve(theirs, programs))
        self._control, self._process = ours, Offspring(pid, partial(take_code, pid))

    def start(self) -> None:
        """Begin a nursery where none was forked, and another one whenever it dies."""
        self._keeper.start()

    def bear(self, order: Order, handed: Sequence[socket.socket]) -> Process:
        """Return a new process, which has these sockets, too.

        Raises
        ------
        OSError
            If it cannot be had. A nursery that does not answer in time is ended; one that died is waited for as long.
        """
        with self._birth, ExitStack() as unless_born:
            control = self._await_control()
            ours, theirs = _open_line()
            unless_born.callback(ours.close)
            with theirs:
                _ask(control, order, (theirs, *handed))
            pid = self._hear_birth(control, ours)
            born = Offspring(pid, partial(_hear_code, ours, pid))
            unless_born.pop_all()
        return born

    def close(self) -> None:
        """End the nursery; what came from it lives on."""
        self._keeper.expect_end()
        with self._birth:
            self._let_go()
        if self._process is not None:
            end_child(self._process, timeout_s=STOP_S)
        self._keeper.stop()

    def _begin(self) -> Process:
        with self._birth:
            if self._process is None or self._process.poll() is not None:
                self._let_go()
                self._control, self._process = self._spawn()
                self._birth.notify_all()
            return self._process

    def _spawn(self) -> tuple[socket.socket, Process]:
        ours, theirs = _open_line()
        with theirs:
            descriptor = str(theirs.fileno())
            options = ("--control", descriptor, "--log-level", self._log_level)
            command = (sys.executable, "-m", "node", VERB, *options, *self._programs)
            return ours, subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))

    def _await_control(self) -> socket.socket:
        """Return the line to a nursery that lives."""
        self._birth.wait_for(self._is_there, self._birth_s)
        if self._control is None:
            raise ChildProcessError("there is no nursery")
        return self._control

    def _is_there(self) -> bool:
        # Nothing ever comes from there but its end.
        return self._control is not None and not wait_for([self._control.fileno()], 0.0)

    def _hear_birth(self, control: socket.socket, line: socket.socket) -> int:
        # A child that the nursery could not tell of may hold the line open.
        if not wait_for([line.fileno(), control.fileno()], self._birth_s):
            self._give_up()
            raise TimeoutError("the nursery does not answer; it was ended")
        line.setblocking(False)
        try:
            told = line.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError as exc:
            raise ChildProcessError("the nursery ended at a birth") from exc
        if not told:
            raise ChildProcessError("the nursery could make no process")
        return int(told)

    def _give_up(self) -> None:
        # It has nothing that could be lost, and may have been stopped, which does not keep it from being killed.
        if self._process is not None:
            self._process.kill()
        self._let_go()

    def _let_go(self) -> None:
        """Close the line to the nursery, at which it ends."""
        if self._control is not None:
            self._control.close()
            self._control = None


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
    serve(socket.socket(fileno=arguments.control), programs)


def _ask(control: socket.socket, order: Order, handed: Sequence[socket.socket]) -> None:
    # Settings may be longer than a message.
    with os.fdopen(os.memfd_create("order"), "w", encoding="utf-8") as file:
        json.dump(asdict(order), file)
        file.flush()
        descriptors = array.array("i", (file.fileno(), *(end.fileno() for end in handed)))
        control.sendmsg([VERB.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])


def _hear_code(line: socket.socket, pid: int) -> int:
    """Return the exit code that the nursery tells of a process that has ended."""
    with line:
        line.settimeout(CODE_S)
        try:
            told = line.recv(MAX_MESSAGE_BYTES)
        except (ConnectionError, TimeoutError):
            told = b""
    # The children of a nursery that died are those of the first process of a container, which the node may be.
    return int(told) if told else take_code(pid)


def _open_line() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
