"""kill -9 at random moments under load: everything that was acknowledged is there, bit by bit, and nothing is torn.

Two moments for each durability in the default suite; `make kill` takes a hundred, and its seed repeats them.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from time import sleep

import psutil
import pytest

from node.domain.durability import Durability
from tests.node_process import Launch, NodeProcess, command_words
from tests.peers import free_port, wait_until
from tests.testimony import count_kept, prove_kept, read_testimony

SEED = int(os.environ.get("RADNODE_KILL_SEED", "4"))
MOMENTS = int(os.environ.get("RADNODE_KILLS", "6"))
ASSOCIATIONS = 4
# A kill comes at most so long after the first acknowledgments since the one before.
LONGEST_LIFE_S = 1.0
FIRST_ACKNOWLEDGMENTS = 5
# A node that starts is killed so long after its birth, at most.
LONGEST_START_S = 4.0
STOP_LIMIT_S = 30.0


class Victim(StrEnum):
    """Who is killed."""

    NODE = "the node with all its processes"
    PARENT = "the node's own process"
    RECEIVER = "one receiver"
    STARTING = "the node with all its processes, and again before it has started"


class Scene:
    """A node, a modality that sends to it all the time, and one who kills."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self._chance = random.Random(f"{SEED}/{durability}")
        # The node's file begins with the table [store].
        settings = f'durability = "{durability}"\n'
        self.node = NodeProcess(folder, settings, port=free_port(), launch=Launch(verb="serve"))
        self.data_dir = folder / "data"
        self._incoming = self.data_dir / "store" / ".incoming"
        self._books = folder / "modality"
        self._books.mkdir()

    def play(self, victims: list[Victim]) -> None:
        """Kill each of `victims` under load, then let the modality come to its end."""
        self.node.start()
        arguments = [str(self.node.peer.port), str(self._books), str(SEED), str(ASSOCIATIONS)]
        modality = subprocess.Popen([sys.executable, "-m", "tests.modality_process", *arguments])
        try:
            for victim in victims:
                self._wait_for_acknowledgments()
                sleep(self._chance.uniform(0.0, LONGEST_LIFE_S))
                self._strike(victim)
            self._wait_for_acknowledgments()
            modality.terminate()
            assert modality.wait(STOP_LIMIT_S) == 0
        finally:
            modality.kill()
            modality.wait()

    def prove(self) -> None:
        """Fail unless what the modality was told is true; the node is stopped."""
        testimony = read_testimony(self._books)
        # Nobody has to start it again for the rows that a receiver owed.
        wait_until(lambda: not testimony.without_row(self.data_dir), what="a row for all that was acknowledged")
        wait_until(lambda: not list(self._incoming.iterdir()), what="an end of what was half received")
        assert self.node.stop() == 0
        prove_kept(testimony, self.data_dir)

    def _strike(self, victim: Victim) -> None:
        if victim is Victim.RECEIVER:
            # Those who were served by another one must notice nothing; the dead one's come again.
            self._chance.choice(wait_until(self._find_receivers, what="a receiver")).kill()
            return
        if victim is Victim.PARENT:
            self.node.kill()
        else:
            self.node.kill_all()
        left = {path.name for path in self._incoming.iterdir()}
        if victim is Victim.STARTING:
            self.node.spawn()
            sleep(self._chance.uniform(0.0, LONGEST_START_S))
            self.node.kill_all()
        self.node.start()
        assert not left & {path.name for path in self._incoming.iterdir()}

    def _find_receivers(self) -> list[psutil.Process]:
        found = []
        for process in self.node.process.children(recursive=True):
            # The one that was killed last may not be buried yet.
            with suppress(psutil.Error):
                if "receiver" in command_words(process):
                    found.append(process)
        return found

    def _wait_for_acknowledgments(self) -> None:
        expected = count_kept(self._books) + FIRST_ACKNOWLEDGMENTS
        wait_until(lambda: count_kept(self._books) >= expected, what="Success for what is sent")


@pytest.fixture
def scene(tmp_path: Path, durability: Durability) -> Iterator[Scene]:
    made = Scene(tmp_path, durability)
    yield made
    made.node.stop()


@pytest.mark.parametrize("durability", list(Durability), ids=[f"{d}-seed-{SEED}" for d in Durability])
@pytest.mark.timeout(60 + 30 * MOMENTS)
def test_what_was_acknowledged_survives_every_kill(scene: Scene, durability: Durability) -> None:
    turns = [Victim.NODE, Victim.RECEIVER, Victim.PARENT, Victim.STARTING, Victim.RECEIVER]
    scene.play([turns[moment % len(turns)] for moment in range(-(-MOMENTS // len(Durability)))])
    scene.prove()
