"""Processes that the node starts: they end with it, and start again when they end without it."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
# A child that lived so long was healthy; its next fall starts with the shortest pause again.
HEALTHY_AFTER_S = 60.0


class Process(Protocol):
    """A process that was started, as `subprocess.Popen` shows it."""

    @property
    def pid(self) -> int:
        """Process id."""

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code when it has ended; raises `subprocess.TimeoutExpired`."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it by force."""


class Child:
    """One process that should always run while the node does.

    Parameters
    ----------
    end_level
        Of the log's line that tells of an end which nobody has asked for.
    """

    def __init__(
        self, name: str, spawn: Callable[[], Process], *, stop_timeout_s: float, end_level: int = logging.ERROR
    ) -> None:
        self._name = name
        self._end_level = end_level
        self._spawn = spawn
        self._stop_timeout_s = stop_timeout_s
        self._stopping = threading.Event()
        self._spawned = threading.Event()
        # Held while a child is born, so that none is born after `stop` has looked for it.
        self._birth = threading.Lock()
        self._process: Process | None = None
        # Linux sends the death signal when the spawning *thread* ends; this one lives as long as the child.
        self._thread = threading.Thread(target=self._keep_running, name=f"child-{name}", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id of the running child; None between two lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start the child; returns when its process exists."""
        self._thread.start()
        self._spawned.wait()

    def expect_end(self) -> None:
        """Take it for no accident when the child ends from now on; it is not started again."""
        self._stopping.set()

    def stop(self) -> None:
        """End the child, by force when it does not end in time; returns when it is gone."""
        self._stopping.set()
        with self._birth:
            process = self._process
        if process is not None:
            end_child(process, timeout_s=self._stop_timeout_s)
        if self._thread.is_alive():
            self._thread.join()

    def _keep_running(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            lived_s = self._live_once()
            pause_s = FIRST_PAUSE_S if lived_s > HEALTHY_AFTER_S else min(pause_s * 2, LONGEST_PAUSE_S)
            self._stopping.wait(pause_s)

    def _live_once(self) -> float:
        born = time.monotonic()
        try:
            with self._birth:
                if self._stopping.is_set():
                    return 0.0
                process = self._process = self._spawn()
        except (OSError, subprocess.SubprocessError) as exc:
            logger.exception("child not started", extra={"owner": self._name, "error_type": type(exc).__name__})
            return 0.0
        finally:
            self._spawned.set()
        logger.info("child started", extra={"owner": self._name, "pid": process.pid})
        code = process.wait()
        level = logging.INFO if self._stopping.is_set() else self._end_level
        logger.log(level, "child ended", extra={"owner": self._name, "exit_code": code})
        return time.monotonic() - born


def end_with_parent(parent_pid: int) -> None:
    """Ask Linux to send this process SIGTERM when its parent dies; it comes at once where that has happened already.

    Elsewhere nothing is asked, and a killed parent leaves its children; they are found again at the next start.

    Parameters
    ----------
    parent_pid
        Who started this process, by his own account: whoever asks for the parent may be given its heir.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:
            os.kill(os.getpid(), signal.SIGTERM)


def end_child(process: Process, *, timeout_s: float) -> None:
    """Ask `process` to end, and kill it when it has not done so in time."""
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
