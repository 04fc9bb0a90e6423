"""What comes from a nursery: its words, variables and sockets, and how it ends; each in an interpreter of its own."""

import json
import subprocess
import sys
from pathlib import Path

from tests.peers import wait_until

# It is forked from a process without threads, which pytest's is not.
BEGIN = """
import ctypes, json, os, signal, socket, subprocess, sys, threading, time
from node.nurse import Order
from node.nursery import Nursery
from node.offspring import UNKNOWN

def speak(words):
    told = {
        "words": words,
        "variables": dict(os.environ),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "title": open("/proc/self/cmdline").read().rstrip("\\0"),
    }
    socket.socket(fileno=int(words[1])).sendall(json.dumps(told).encode())

def end(words):
    sys.exit(int(words[0]))

def fail(words):
    raise RuntimeError("it failed")

def sleep(words):
    time.sleep(600)

def follow(words):
    socket.socket(fileno=int(words[0])).recv(1)

PROGRAMS = {"speak": speak, "end": end, "fail": fail, "sleep": sleep, "follow": follow}
# One that is begun anew has the programs of a node, and none of these.
nursery = Nursery((*PROGRAMS, "receiver"), log_level="INFO", birth_s=%s)

def fork():
    nursery.fork(lambda names: {name: PROGRAMS[name] for name in names if name in PROGRAMS})

fork()

def bear(program, *words, handed=(), environment=None):
    order = Order(program=program, words=words, environment=dict(os.environ) if environment is None else environment)
    return nursery.bear(order, handed)

def wait_until(holds):
    until_s = time.monotonic() + 30
    while not holds() and time.monotonic() < until_s:
        time.sleep(0.01)
"""
LIMIT_S = 60.0


def run(script: str, *, birth_s: float = 20.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BEGIN % birth_s + script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)


def test_a_process_has_its_words_variables_and_sockets_and_nothing_of_its_brothers() -> None:
    ended = run("""
brother = bear("sleep")
ours, theirs = socket.socketpair()
longer_than_a_message = "x" * 1_000_000
environment = {"RADNODE_TEST": longer_than_a_message}
child = bear("speak", "--link", "{0}", handed=[theirs], environment=environment)
theirs.close()
told = json.loads(b"".join(iter(lambda: ours.recv(65536), b"")))
assert told.pop("variables") == environment
assert child.wait(60) == 0
brother.kill()
brother.wait()
nursery.close()
print(json.dumps(told))
""")
    told = json.loads(ended.stdout)
    link = int(told["words"][1])
    assert told["words"] == ["--link", str(link)]
    assert told["title"] == f"{sys.executable} -m node speak --link {link}"
    # The three standard ones, the line to the node, what it was handed, and the folder that it reads.
    assert len(told["descriptors"]) == 6


def test_the_node_learns_how_each_process_ended() -> None:
    ended = run("""
codes = [bear("end", "0").wait(), bear("end", "7").wait(), bear("fail").wait()]
stays = bear("sleep")
codes.append(stays.poll())
try:
    stays.wait(0.01)
except subprocess.TimeoutExpired:
    codes.append("late")
stays.kill()
codes += [stays.wait(), stays.poll()]
stays.terminate()
nursery.close()
print(json.dumps(codes))
""")
    assert json.loads(ended.stdout) == [0, 7, 1, None, "late", -9, -9]
    assert "RuntimeError: it failed" in ended.stderr


def test_a_process_outlives_its_nursery_and_its_end_is_seen_all_the_same() -> None:
    ended = run("""
nursery.start()
stays, stopped = bear("sleep"), nursery.pid
os.kill(stopped, signal.SIGSTOP)
nursery.close()
print(stays.poll(), os.path.exists(f"/proc/{stopped}"))
stays.kill()
print(stays.wait(60) == UNKNOWN)
""")
    assert ended.stdout.split() == ["None", "False", "True"]


def test_a_process_of_a_dead_nursery_is_waited_for_by_the_node_where_that_inherits_it() -> None:
    """As it does where it is the first process of a container."""
    ended = run("""
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
orphan = bear("sleep")
os.kill(nursery.pid, signal.SIGKILL)
wait_until(lambda: nursery.pid is None)
orphan.kill()
print(orphan.wait(60), os.path.exists(f"/proc/{orphan.pid}"))
nursery.close()
""")
    assert ended.stdout.split() == ["-9", "False"]


def test_a_nursery_that_dies_is_followed_by_another_before_anybody_is_born() -> None:
    ended = run("""
nursery.start()
first = nursery.pid
os.kill(first, signal.SIGKILL)
wait_until(lambda: nursery.pid not in (None, first))
print(nursery.pid not in (None, first))
nursery.close()
print(nursery.pid)
""")
    assert ended.stdout.split() == ["True", "None"]
    # Whoever looks at the log this week learns of it, once; nobody has lost anything.
    assert ended.stderr.splitlines() == ["child ended"]


def test_a_birth_waits_for_the_nursery_that_follows_a_dead_one() -> None:
    ended = run("""
nursery.start()
first = nursery.pid
os.kill(first, signal.SIGKILL)
wait_until(lambda: nursery.pid != first)
print(bear("receiver", "--help").wait(60))
nursery.close()
""")
    assert ended.stdout.split()[-1] == "0"


def test_the_end_of_a_process_is_seen_while_its_nursery_is_stopped() -> None:
    ended = run("""
stays, falls = bear("sleep"), bear("sleep")
os.kill(nursery.pid, signal.SIGSTOP)
print(stays.poll())
falls.kill()
print(falls.wait(60) == UNKNOWN, falls.poll() == UNKNOWN, stays.poll())
os.kill(nursery.pid, signal.SIGCONT)
stays.kill()
print(stays.wait(60), len(os.listdir("/proc/self/fd")))
nursery.close()
""")
    # The three standard ones, the line to the nursery, what tells of its end, and the folder that it reads.
    assert ended.stdout.split() == ["None", "True", "True", "None", "-9", "6"]


def test_a_nursery_that_does_not_answer_is_ended_and_the_next_birth_has_another() -> None:
    ended = run(
        """
stuck = nursery.pid
os.kill(stuck, signal.SIGSTOP)
try:
    bear("end", "0")
except TimeoutError:
    wait_until(lambda: nursery.pid is None)
    print("late", nursery.pid, os.path.exists(f"/proc/{stuck}"))
fork()
print(bear("end", "3").wait())
nursery.close()
""",
        birth_s=0.2,
    )
    assert ended.stdout.split() == ["late", "None", "False", "3"]


def test_a_nursery_that_ends_before_it_tells_of_a_child_is_not_waited_for() -> None:
    ended = run("""
def fall():
    if os.getpid() != node:
        os.kill(os.getpid(), signal.SIGKILL)

node = os.getpid()
os.register_at_fork(after_in_parent=fall)
nursery.close()
fork()
ours, theirs = socket.socketpair()
began = time.monotonic()
try:
    bear("follow", "{0}", handed=[theirs])
except ChildProcessError:
    wait_until(lambda: nursery.pid is None)
    print("gone", nursery.pid, time.monotonic() - began < 10)
""")
    assert ended.stdout.split() == ["gone", "None", "True"]


def test_a_nursery_has_nothing_open_of_the_node() -> None:
    ended = run("""
nursery.close()
low = open(os.devnull)
os.dup2(low.fileno(), 100, inheritable=True)
fork()
bear("end", "0").wait()
# It may still be about to close the line on which it has told the exit code.
wait_until(lambda: len(os.listdir(f"/proc/{nursery.pid}/fd")) <= 6)
print(len(os.listdir(f"/proc/{nursery.pid}/fd")))
nursery.close()
""")
    # The three standard ones, the line to the node, and the two by which a signal wakes it.
    assert int(ended.stdout) == 6


def test_a_nursery_is_not_forked_from_a_process_with_threads() -> None:
    ended = run("""
nursery.close()
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
fork()
print(nursery.pid)
""")
    assert ended.stdout.split() == ["None"]
    assert "nursery not forked" in ended.stderr


def test_a_node_that_was_told_to_ignore_the_ends_of_children_has_a_nursery_all_the_same() -> None:
    ended = run("""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
codes = [bear("end", "3").wait()]
nursery.close()
print(codes, nursery.pid)
""")
    assert ended.stdout.split() == ["[3]", "None"]


def test_a_nursery_ends_with_the_node(tmp_path: Path) -> None:
    place = tmp_path / "pid"
    run(f"open({str(place)!r}, 'w').write(str(nursery.pid)); os._exit(0)")
    state = Path(f"/proc/{place.read_text()}/stat")

    def has_ended() -> bool:
        try:
            return state.read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(has_ended, what="the end of the nursery")
