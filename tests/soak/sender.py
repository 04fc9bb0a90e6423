"""A modality of the soak, in a process of its own: sends Studies, never gives up, writes down what it was told.

Run as ``python -m tests.soak.sender PORT FOLDER SEED NUMBER``; SIGTERM ends it after the Study in hand. In FOLDER,
``<number>.txt`` is what `tests.testimony` reads, every line on disk before anything that follows; ``<number>.plan``
has a line of JSON for each Study that was begun, and another when all of it was acknowledged.
"""

import json
import os
import random
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation

from node.peers.peer import Peer
from tests.instances import EXPLICIT
from tests.pdus import STORE_RSP, Response, Wire, associate_rq, associated, message, proposal, store_rq
from tests.soak.studies import Kind, Maker, Planned, Sent

CONTEXTS: Mapping[str, int] = {CTImageStorage: 1, DigitalXRayImageStorageForPresentation: 3}
REQUEST = associate_rq(proposals=tuple(proposal(number, uid, EXPLICIT) for uid, number in CONTEXTS.items()))
# Before it calls again.
PAUSE_S = 0.3
# Between two Studies.
SHORTEST_REST_S, LONGEST_REST_S = 2.0, 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one modality says of a Study.

    Attributes
    ----------
    is_whole
        Whether each of its Instances was acknowledged.
    """

    study_instance_uid: str
    kind: Kind
    instances: frozenset[str]
    is_whole: bool


class Modality:
    """One modality; each Study leaves as it was planned, and what is not acknowledged is sent again.

    Parameters
    ----------
    folder
        Where it writes.
    number
        Which of the modalities it is, >= 0.
    """

    def __init__(self, peer: Peer, folder: Path, *, seed: int, number: int) -> None:
        self._peer = peer
        self._ending = Event()
        self._chance = random.Random(f"rest {seed}/{number}")
        self._maker = Maker(f"{seed}/{number}")
        self._told = _open_book(folder / f"{number}.txt")
        self._plans = _open_book(folder / f"{number}.plan")

    def end(self) -> None:
        """Begin no further Study."""
        self._ending.set()

    def run(self) -> None:
        """Send until the end is asked for."""
        for planned in self._maker.studies():
            self._note_plan(planned, is_whole=False)
            for wave in planned.waves:
                self._ending.wait(wave.pause_s)
                with ThreadPoolExecutor(len(wave.associations)) as lines:
                    list(lines.map(self._send_all, wave.associations))
            self._note_plan(planned, is_whole=True)
            if self._ending.wait(self._chance.uniform(SHORTEST_REST_S, LONGEST_REST_S)):
                return

    def _send_all(self, instances: Sequence[Sent]) -> None:
        """Return when every Instance was acknowledged, over as many Associations as that takes."""
        waiting = list(instances)
        pause = Event()
        while waiting:
            try:
                with associated(self._peer, REQUEST) as wire:
                    self._send_some(wire, waiting)
            except (OSError, AssertionError):
                # Nobody listens there, or nobody does yet, or nobody has time.
                pause.wait(PAUSE_S)

    def _send_some(self, wire: Wire, waiting: list[Sent]) -> None:
        """Take from `waiting` what is acknowledged, until the Association is lost or something is refused."""
        for message_id, sent in enumerate(list(waiting), start=1):
            uid = sent.sop_instance_uid
            self._note("sent", uid, sent.digest)
            request = store_rq(message_id, sop_class_uid=sent.sop_class_uid, sop_instance_uid=uid)
            wire.send(message(CONTEXTS[sent.sop_class_uid], request, sent.data_set))
            answer = wire.answer()
            if not isinstance(answer, Response):
                raise ConnectionError
            assert (answer.command_field, answer.message_id) == (STORE_RSP, message_id), answer
            if answer.status != 0:
                self._note("refused", uid, f"{answer.status:04X}")
                break
            self._note("kept", uid, sent.digest)
            waiting.pop(0)
        wire.release()
        if waiting:
            raise ConnectionError

    def _note(self, *words: str) -> None:
        _write_down(self._told, " ".join(words))

    def _note_plan(self, planned: Planned, *, is_whole: bool) -> None:
        instances = [sent.sop_instance_uid for sent in planned.instances]
        line = {"study": planned.study_instance_uid, "kind": planned.kind, "instances": instances, "whole": is_whole}
        _write_down(self._plans, json.dumps(line))


def read_plans(folder: Path) -> dict[str, Plan]:
    """Return what the modalities have said last of each Study, by Study Instance UID."""
    return {plan.study_instance_uid: plan for plan in _plans(folder)}


def _plans(folder: Path) -> Iterator[Plan]:
    for book in sorted(folder.glob("*.plan")):
        for line in map(json.loads, book.read_text().splitlines()):
            yield Plan(
                study_instance_uid=line["study"],
                kind=Kind(line["kind"]),
                instances=frozenset(line["instances"]),
                is_whole=line["whole"],
            )


def _open_book(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def _write_down(book: int, line: str) -> None:
    os.write(book, f"{line}\n".encode())
    os.fsync(book)


def main(port: int, folder: Path, seed: int, number: int) -> None:
    """Send until SIGTERM."""
    peer = Peer(aet="RADNODE", host="127.0.0.1", port=port)
    modality = Modality(peer, folder, seed=seed, number=number)
    signal.signal(signal.SIGTERM, lambda *_: modality.end())
    modality.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
