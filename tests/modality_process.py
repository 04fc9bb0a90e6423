"""A modality in a process of its own that never gives up, and writes down what it sent and what was acknowledged.

Run as ``python -m tests.modality_process PORT FOLDER SEED ASSOCIATIONS``; SIGTERM ends it after the Instance in hand.
Each Association has a file ``<n>.txt`` in FOLDER with a line ``sent UID SHA256`` before the first byte of an Instance,
and ``kept UID SHA256`` or ``refused UID STATUS`` after its answer.
"""

import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread

from node.peers.peer import Peer
from tests.instances import SERIES, STUDY, ct_slice, encode
from tests.pdus import STORAGE_ID, STORE_RSP, Response, Wire, associated, message, store_rq

# Of the same length as those that take its place, so that the encoded data set needs no change of lengths.
PLACEHOLDER = "1.2.9.11111.11.1111111"
# Pixel Data of an Instance: most are small, so that many end at the moment of a kill; some are under way for long.
PIXEL_BYTES = (600, 600, 600, 30_000, 400_000)
# So many Instances share an Association, at most.
MAX_INSTANCES = 40
# Before it calls again.
PAUSE_S = 0.02
# Before the next Instance, at most: a modality reads it from somewhere.
THINKING_S = 0.01


@dataclass(frozen=True, slots=True)
class Content:
    """One version of an Instance, encoded."""

    uid: str
    data_set: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the data set."""
        return sha256(self.data_set).hexdigest()


def contents(seed: int, number: int) -> Iterator[Content]:
    """Yield what Association `number` sends: new Instances, some of them again, some again with other pixels."""
    chance = random.Random(f"{seed}/{number}")
    template = ct_slice(sop_instance_uid=PLACEHOLDER)
    # Each Association brings a Study of its own: a kill leaves some of them between two Series.
    template.StudyInstanceUID, template.SeriesInstanceUID = f"{STUDY}.{number + 1}", f"{SERIES}.{number + 1}"
    shapes = []
    for size in PIXEL_BYTES:
        template.Rows, template.Columns, template.PixelData = size // 200, 100, bytes(size)
        shapes.append((size, encode(template)[:-size]))
    for count in range(10**7):
        uid = f"1.2.9.{seed % 90_000 + 10_000}.{number + 10:02}.{count + 10**6}"
        versions: list[Content] = []
        for _ in range(chance.choices((1, 2, 3), (80, 15, 5))[0]):
            size, head = chance.choice(shapes)
            encoded = head.replace(PLACEHOLDER.encode(), uid.encode()) + chance.randbytes(size)
            versions.append(Content(uid, encoded))
            yield versions[-1]
            if chance.random() < 0.2:
                # The first once more: the version that counts is then not the youngest file.
                yield versions[0]


class Sender(Thread):
    """One Association at a time, opened again whenever it is lost."""

    def __init__(self, peer: Peer, folder: Path, *, seed: int, number: int, ending: Event) -> None:
        super().__init__(name=f"sender-{number}")
        self._peer = peer
        self._ending = ending
        self._chance = random.Random(f"again {seed}/{number}")
        self._contents = contents(seed, number)
        # Unbuffered: what is told here was told before anything that follows.
        self._book = os.open(folder / f"{number}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def run(self) -> None:
        """Send until the end is asked for."""
        content = next(self._contents)
        while not self._ending.wait(PAUSE_S):
            try:
                with associated(self._peer) as wire:
                    content = self._send_some(wire, content)
            except (OSError, AssertionError):
                # Nobody listens there, or nobody does yet.
                continue

    def _send_some(self, wire: Wire, content: Content) -> Content:
        """Send on one Association until it is lost or long enough; return what is to be sent next."""
        for message_id in range(1, MAX_INSTANCES + 1):
            self._note("sent", content.uid, content.digest)
            wire.send(message(STORAGE_ID, store_rq(message_id, sop_instance_uid=content.uid), content.data_set))
            answer = wire.answer()
            if not isinstance(answer, Response):
                # As modalities do: some send it again, some leave it.
                return content if self._chance.random() < 0.5 else next(self._contents)
            assert (answer.command_field, answer.message_id) == (STORE_RSP, message_id), answer
            if answer.status == 0:
                self._note("kept", content.uid, content.digest)
            else:
                self._note("refused", content.uid, f"{answer.status:04X}")
            content = next(self._contents)
            if self._ending.wait(self._chance.uniform(0.0, THINKING_S)):
                break
        wire.release()
        return content

    def _note(self, *words: str) -> None:
        os.write(self._book, f"{' '.join(words)}\n".encode())


def main(port: int, folder: Path, seed: int, associations: int) -> None:
    """Send on so many Associations until SIGTERM."""
    ending = Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    peer = Peer(aet="RADNODE", host="127.0.0.1", port=port)
    senders = [Sender(peer, folder, seed=seed, number=number, ending=ending) for number in range(associations)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
