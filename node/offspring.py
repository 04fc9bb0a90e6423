"""A process that was forked, as this one sees it: Linux tells when it has ended, and who is its parent how."""

import math
import os
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock

# The exit code of a process that ended when there was nobody to tell it.
UNKNOWN = 255


class Offspring:
    """A process that was forked, here or elsewhere.

    Parameters
    ----------
    ask_code
        Called once, when it has ended; returns its exit code.
    """

    def __init__(self, pid: int, ask_code: Callable[[], int]) -> None:
        self.pid = pid
        self._ask_code = ask_code
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
        """Return its exit code when it has ended.

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
                self._code = self._ask_code()
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
        if self._process is not None and not wait_for([self._process], timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)

    def _close(self) -> None:
        with self._naming:
            if self._process is not None:
                os.close(self._process)
                self._process = None

    def _signal(self, number: signal.Signals) -> None:
        with self._naming, suppress(ProcessLookupError):
            if self._process is not None:
                signal.pidfd_send_signal(self._process, number)


def take_code(pid: int) -> int:
    """Return the exit code of a child that has ended; `UNKNOWN` where it is none of this process.

    It is none, either, where whoever started this process has told it to ignore the ends of children.
    """
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return UNKNOWN
    return os.waitstatus_to_exitcode(status)


def wait_for(descriptors: Sequence[int], timeout: float | None) -> bool:
    """Return whether one of them has something to tell, or has ended, within so many seconds."""
    watch = select.poll()
    for descriptor in descriptors:
        watch.register(descriptor, select.POLLIN)
    # Rounded up, or what is waited for a millisecond at a time would not be waited for.
    return bool(watch.poll(None if timeout is None else math.ceil(timeout * 1000)))
