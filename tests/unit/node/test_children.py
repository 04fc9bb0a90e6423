"""Children run while the node does: they come back when they fall, and are gone when the node stops."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from node.children import Child, end_child
from tests.peers import wait_until

SLEEPER = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
STUBBORN = [
    sys.executable,
    "-S",
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()",
]
LIMIT_S = 20.0


def spawner(command: list[str]) -> Callable[[], "subprocess.Popen[bytes]"]:
    return lambda: subprocess.Popen(command, stdout=subprocess.DEVNULL)


def test_a_started_child_runs_until_it_is_stopped() -> None:
    child = Child("test", spawner(SLEEPER), stop_timeout_s=LIMIT_S)
    child.start()
    pid = child.pid
    assert pid is not None
    child.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_killed_child_comes_back() -> None:
    child = Child("test", spawner(SLEEPER), stop_timeout_s=LIMIT_S)
    child.start()
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: child.pid not in (None, first), what="a second life", limit_s=LIMIT_S)
    child.stop()


@pytest.mark.parametrize("error", [OSError("no such program"), subprocess.SubprocessError("preexec_fn")])
def test_a_child_that_cannot_be_spawned_is_tried_again_and_can_be_stopped(error: Exception) -> None:
    tries: list[int] = []

    def spawn() -> "subprocess.Popen[bytes]":
        tries.append(1)
        if len(tries) < 2:
            raise error
        return spawner(SLEEPER)()

    child = Child("test", spawn, stop_timeout_s=LIMIT_S)
    child.start()
    wait_until(lambda: child.pid is not None, what="a child at the second try", limit_s=LIMIT_S)
    child.stop()


def test_stop_ends_a_child_that_never_could_be_spawned() -> None:
    def spawn() -> "subprocess.Popen[bytes]":
        raise OSError("no such program")

    child = Child("test", spawn, stop_timeout_s=LIMIT_S)
    child.start()
    child.stop()
    assert child.pid is None


def test_a_child_that_is_born_while_the_node_stops_is_ended() -> None:
    """The child had fallen; stop is asked while the next one is being made."""
    lives: list[subprocess.Popen[bytes]] = []
    is_stopping, is_spawning = threading.Event(), threading.Event()

    def spawn() -> "subprocess.Popen[bytes]":
        if lives:
            is_spawning.set()
            assert is_stopping.wait(LIMIT_S)
        lives.append(spawner(SLEEPER)())
        return lives[-1]

    child = Child("test", spawn, stop_timeout_s=LIMIT_S)
    child.start()
    lives[0].kill()
    assert is_spawning.wait(LIMIT_S)
    stopper = threading.Thread(target=child.stop, daemon=True)
    stopper.start()
    wait_until(child._stopping.is_set, what="stop has begun", limit_s=LIMIT_S)
    is_stopping.set()
    stopper.join(LIMIT_S)
    is_stuck = stopper.is_alive()
    for life in lives:
        life.kill()
        life.wait()
    assert not is_stuck


def test_a_child_that_was_never_started_stops_too() -> None:
    Child("test", spawner(SLEEPER), stop_timeout_s=LIMIT_S).stop()


def test_a_child_that_ignores_sigterm_is_killed() -> None:
    with subprocess.Popen(STUBBORN, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"deaf\n"
        end_child(process, timeout_s=0.05)
        assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("of_whom", "code"), [("os.getppid()", 0), ("os.getppid() + 1", -signal.SIGTERM)])
def test_child_that_comes_after_its_parents_end_ends_at_once(of_whom: str, code: int) -> None:
    begin = f"import os; from node.children import end_with_parent; end_with_parent({of_whom})"
    assert subprocess.run([sys.executable, "-c", begin], check=False, timeout=LIMIT_S).returncode == code
