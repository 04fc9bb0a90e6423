"""Stores data sets over an Association written by hand, and looks at what the node kept and what it told about them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from node.header.part10 import read_part10
from node.ledger.schema import events, instances
from tests.instances import CT_IMAGE_STORAGE, EXPLICIT, INSTANCE, ct_slice, encode
from tests.node_process import NodeProcess
from tests.pdus import STORAGE_ID, Response, Wire, associate_rq, associated, message, proposal, store_rq
from tests.peers import wait_until

# Settings with which nothing of what comes is processed.
RULE_OF_NOTHING = """
[[rules]]
name = "nothing"
run = ["lung_nodules"]
when = { modality = "NONE" }
"""
# Associations at once, fewer than the node takes from one address.
CROWD = 12
# What a log says of an Instance that was not taken.
REFUSALS = frozenset({"instance refused", "instance broke the node"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A data set as a sender announces it.

    Attributes
    ----------
    data_set
        Encoded, without preamble and File Meta Information.
    """

    data_set: bytes
    transfer_syntax_uid: str = EXPLICIT
    sop_class_uid: str = CT_IMAGE_STORAGE
    sop_instance_uid: str = INSTANCE


def requested(offer: Offer) -> bytes:
    """Return an A-ASSOCIATE-RQ with the one context that `offer` needs."""
    return associate_rq(proposals=(proposal(STORAGE_ID, offer.sop_class_uid, offer.transfer_syntax_uid),))


@contextmanager
def storing(node: NodeProcess, offer: Offer) -> Iterator[Wire]:
    """Give an Association over which `offer` can be sent."""
    with associated(node.peer, requested(offer)) as wire:
        yield wire


def offered(offer: Offer, message_id: int = 1) -> bytes:
    """Return the message of `offer`."""
    request = store_rq(message_id, sop_class_uid=offer.sop_class_uid, sop_instance_uid=offer.sop_instance_uid)
    return message(STORAGE_ID, request, offer.data_set)


def store(node: NodeProcess, offer: Offer) -> Response:
    """Return what the node answers to the C-STORE of `offer`, the only one of its Association."""
    with storing(node, offer) as wire:
        wire.send(offered(offer))
        answer = wire.answer()
        assert isinstance(answer, Response), answer
        wire.release()
        return answer


def exercise(node: NodeProcess) -> None:
    """Let every receiver store and refuse, many at once: what it opens but once is open then."""

    def use(number: int) -> None:
        uid = f"{INSTANCE}.{number}"
        whole = encode(ct_slice(sop_instance_uid=uid))
        with storing(node, Offer(data_set=whole)) as wire:
            for data_set in (whole, whole, whole[:-2]) * 3:
                wire.send(offered(Offer(data_set=data_set, sop_instance_uid=uid)))
                wire.answer()

    with ThreadPoolExecutor(CROWD) as senders:
        list(senders.map(use, range(CROWD)))


class Archive:
    """What a node keeps and tells; `begin` forgets what it told so far."""

    def __init__(self, node: NodeProcess) -> None:
        self._node = node
        self._root = node.folder / "data" / "store"
        self.begin()

    def begin(self) -> None:
        """Look only at what comes from now on."""
        self._log_bytes = self._log.stat().st_size
        self._last_event = max((event for event, _, _ in self._events(0)), default=0)
        self._files = self.files()

    @property
    def _log(self) -> Path:
        return self._node.folder / "node.log"

    def files(self) -> frozenset[str]:
        """Return every file of the store, those under way included."""
        return frozenset(str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file())

    def new_files(self) -> frozenset[str]:
        """Return the files that came since `begin`."""
        return self.files() - self._files

    def log_lines(self) -> list[dict[str, object]]:
        """Return the lines of the log since `begin`."""
        with self._log.open("rb") as log:
            log.seek(self._log_bytes)
            return [json.loads(line) for line in log]

    def refusals(self) -> list[tuple[object, object]]:
        """Return status and code of each line of the log since `begin` that tells of a refused Instance."""
        told = [line for line in self.log_lines() if line["event"] in REFUSALS]
        return [(line.get("status"), line.get("reason_code")) for line in told]

    def events(self) -> list[tuple[str, str]]:
        """Return kind and text of each Event of an Instance since `begin`, as `radnode events` lists them."""
        found = [(kind, text) for _, kind, text in self._events(self._last_event)]
        return [(kind, text) for kind, text in found if kind.startswith("instance-")]

    def content(self, sop_instance_uid: str) -> bytes:
        """Return the data set of the version that counts, as soon as its row is committed."""

        def find() -> str | None:
            with self._node.view.reading() as connection:
                statement = select(instances.c.path).where(instances.c.sop_instance_uid == sop_instance_uid)
                return connection.execute(statement).scalar()

        return self.data_set(wait_until(find, what=f"the row of {sop_instance_uid}"))

    def data_set(self, path: str) -> bytes:
        """Return what a file of the store holds behind its File Meta Information."""
        content = (self._root / path).read_bytes()
        return content[read_part10(content).data_set_offset :]

    def _events(self, after: int) -> list[tuple[int, str, str]]:
        with self._node.view.reading() as connection:
            statement = select(events.c.event_id, events.c.kind, events.c.text).where(events.c.event_id > after)
            return [tuple(row) for row in connection.execute(statement.order_by(events.c.event_id))]
