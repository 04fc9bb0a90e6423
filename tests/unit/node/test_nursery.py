"""What comes from a nursery: its words, variables and sockets, and how it ends; each in an interpreter of its own."""

import json
import subprocess
import sys
from pathlib import Path

from tests.peers import wait_until

# It is forked from a process without threads, which pytest's is not.
BEGIN = """
import json, os, signal, socket, subprocess, sys, threading, time
from node.nurse import Order
from node.nursery import UNKNOWN, Nursery

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
nursery = Nursery(tuple(PROGRAMS), log_level="INFO", birth_s=%s)

def fork():
    nursery.fork(lambda names: {name: PROGRAMS[name] for name in names})

fork()

def bear(program, *words, handed=(), environment=None):
    order = Order(program=program, words=words, environment=dict(os.environ) if environment is None else environment)
    return nursery.bear(order, handed)
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
stays = bear("sleep")
os.kill(nursery.pid, signal.SIGSTOP)
nursery.close()
print(stays.poll())
stays.kill()
print(stays.wait(60) == UNKNOWN)
""")
    assert ended.stdout.split() == ["None", "True"]


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
    # The three standard ones, the line to the nursery, and the folder that it reads.
    assert ended.stdout.split() == ["None", "True", "True", "None", "-9", "5"]


def test_a_nursery_that_does_not_answer_is_ended_and_the_next_birth_has_another() -> None:
    ended = run(
        """
stuck = nursery.pid
os.kill(stuck, signal.SIGSTOP)
try:
    bear("end", "0")
except TimeoutError:
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
until_s = time.monotonic() + 30
# It may still be about to close the line on which it has told the exit code.
while len(found := os.listdir(f"/proc/{nursery.pid}/fd")) > 6 and time.monotonic() < until_s:
    time.sleep(0.01)
print(len(found))
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
