"""A simulated PACS: keeps what it is sent as Part 10 files, and misbehaves when told to."""

import errno
import os
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.transport import ThreadedAssociationServer

from node.delivery.association import Peer
from node.errors import CANNOT_UNDERSTAND, INVALID_SOP_INSTANCE, OUT_OF_RESOURCES, Broken, PortInUse

SUCCESS = 0x0000
VERIFICATION = UID("1.2.840.10008.1.1")
LOOPBACK = "127.0.0.1"
# pynetdicom listens with a backlog of 5: a few impatient peers would be refused by the kernel.
BACKLOG = 128
WARNINGS = range(0xB000, 0xC000)
_UID = re.compile(r"[0-9.]{1,64}")
_PATH_KEYWORDS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Misbehavior:
    """How a PACS departs from what it should do; the default departs in nothing.

    Attributes
    ----------
    is_down
        Its port refuses connections.
    refused_sop_classes
        SOP Class UIDs for which it accepts no Presentation Context.
    status
        Status (0000,0900) that it answers instead of success; B000..BFFF still stores.
    status_count
        How many C-STORE requests get that Status, counted from when this behavior began.
    abort_after
        After so many C-STORE requests it aborts the Association instead of answering; None never.
        Each later request is aborted too, until the behavior changes.
    """

    is_down: bool = False
    refused_sop_classes: frozenset[str] = frozenset()
    status: int = OUT_OF_RESOURCES
    status_count: int = 0
    abort_after: int | None = None


WELL_BEHAVED = Misbehavior()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedInstance:
    """One C-STORE that was stored.

    Attributes
    ----------
    study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid
        What it is.
    transfer_syntax_uid
        How its bytes came.
    calling_aet
        Who sent it.
    path
        Where it lies; an Instance that came twice lies there once.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    calling_aet: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PacsRecord:
    """What a PACS has seen so far.

    Attributes
    ----------
    received
        Every C-STORE that was stored, in order, repeats included.
    requests
        Number of C-STORE requests, refused ones included.
    associations
        Number of Associations that were accepted.
    """

    received: tuple[ReceivedInstance, ...] = ()
    requests: int = 0
    associations: int = 0

    @property
    def sop_instance_uids(self) -> frozenset[str]:
        """Return the distinct Instances that it holds."""
        return frozenset(instance.sop_instance_uid for instance in self.received)


@dataclass(slots=True)
class _Tally:
    """Counters that handlers change, under the PACS's condition."""

    received: list[ReceivedInstance] = field(default_factory=list)
    requests: int = 0
    requests_since_change: int = 0
    associations: int = 0


class SimulatedPacs:
    """A C-STORE SCP on the loopback interface, with C-ECHO; a context manager.

    Parameters
    ----------
    folder
        Where Instances go, as `<study>/<series>/<sop>.dcm`; made if absent.
    aet
        Its AE title.
    port
        TCP port; 0 lets the system choose one, which is then kept over stops and starts.
    misbehavior
        How it departs from what it should do.
    """

    def __init__(
        self, folder: Path, *, aet: str = "PACS", port: int = 0, misbehavior: Misbehavior = WELL_BEHAVED
    ) -> None:
        self.folder = folder
        self._aet = aet
        self._port = port
        self._misbehavior = misbehavior
        self._changed = threading.Condition()
        self._tally = _Tally()
        self._server: ThreadedAssociationServer | None = None
        self._placeholder: socket.socket | None = None

    @property
    def peer(self) -> Peer:
        """Return how to reach it; the port is known after `start`."""
        return Peer(aet=self._aet, host=LOOPBACK, port=self._port)

    @property
    def record(self) -> PacsRecord:
        """Return what it has seen so far."""
        with self._changed:
            return self._snapshot()

    def start(self) -> None:
        """Listen, or hold the port closed if it is to be down; returns when the port is taken.

        Raises
        ------
        PortInUse
            If another process has the port.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            if self._misbehavior.is_down:
                self._placeholder = _hold_port(self._port)
                self._port = self._placeholder.getsockname()[1]
            else:
                self._server = self._listen()
                self._port = self._server.server_address[1]
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            raise PortInUse(f"port {self._port} on {LOOPBACK} is taken; choose another, or 0") from exc

    def stop(self) -> None:
        """Abort what is open and close the port; returns when its threads are done."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.ae.shutdown()
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None

    def change(self, misbehavior: Misbehavior) -> None:
        """Behave otherwise from now on, on the same port; open Associations are aborted."""
        self.stop()
        with self._changed:
            self._misbehavior = misbehavior
            self._tally.requests_since_change = 0
        self.start()

    def wait_for(self, predicate: Callable[[PacsRecord], bool], *, timeout_s: float) -> bool:
        """Return whether a condition on the record came true before the time was up.

        The predicate is called after each change, with the PACS held: it must be quick.
        """
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self._snapshot()), timeout=timeout_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _snapshot(self) -> PacsRecord:
        """Return the record; the condition is held."""
        return PacsRecord(
            received=tuple(self._tally.received),
            requests=self._tally.requests,
            associations=self._tally.associations,
        )

    def _listen(self) -> ThreadedAssociationServer:
        """Return a running server that takes every Storage SOP Class it does not refuse."""
        ae = AE(ae_title=self._aet)
        ae.add_supported_context(VERIFICATION)
        storage = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
        for sop_class_uid in sorted(storage - self._misbehavior.refused_sop_classes):
            ae.add_supported_context(sop_class_uid, ALL_TRANSFER_SYNTAXES)
        ae.maximum_pdu_size = 0
        ae.maximum_associations = BACKLOG
        server = ae.start_server(
            (LOOPBACK, self._port),
            block=False,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, _set_nodelay),
                (evt.EVT_ACCEPTED, self._count_association),
                (evt.EVT_C_STORE, self._receive),
                (evt.EVT_C_ECHO, _answer_echo),
            ],
        )
        if server is None or server.socket is None:
            raise Broken("pynetdicom started no server although it was asked not to block; check its version")
        server.socket.listen(BACKLOG)
        return server

    def _count_association(self, event: evt.Event) -> None:
        """Count one accepted Association."""
        del event
        with self._changed:
            self._tally.associations += 1
            self._changed.notify_all()

    def _receive(self, event: evt.Event) -> int:
        """Answer one C-STORE: store it, unless told otherwise."""
        status, aborts = self._next_answer()
        if aborts:
            event.assoc.abort()
            return status
        if status == SUCCESS or status in WARNINGS:
            refusal = self._keep(event)
            status = status if refusal is None else refusal
        return status

    def _next_answer(self) -> tuple[int, bool]:
        """Count one request and return the Status it gets, and whether it is aborted instead."""
        with self._changed:
            self._tally.requests += 1
            self._tally.requests_since_change += 1
            number, plan = self._tally.requests_since_change, self._misbehavior
            self._changed.notify_all()
        aborts = plan.abort_after is not None and number > plan.abort_after
        return (plan.status if number <= plan.status_count else SUCCESS), aborts

    def _keep(self, event: evt.Event) -> int | None:
        """Write one Instance as it came; return the Status of a refusal, or None when it lies there."""
        part_10 = event.encoded_dataset()
        try:
            ds = dcmread(BytesIO(part_10), stop_before_pixels=True, specific_tags=_PATH_KEYWORDS)
            study, series, sop = (str(ds.get(keyword, "")) for keyword in _PATH_KEYWORDS)
        except (InvalidDicomError, EOFError, ValueError):
            return CANNOT_UNDERSTAND
        if not all(_UID.fullmatch(uid) and set(uid) != {"."} for uid in (study, series, sop)):
            return INVALID_SOP_INSTANCE
        path = self.folder / study / series / f"{sop}.dcm"
        _write_whole(path, part_10)
        instance = ReceivedInstance(
            study_instance_uid=study,
            series_instance_uid=series,
            sop_instance_uid=sop,
            sop_class_uid=str(event.request.AffectedSOPClassUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            calling_aet=event.assoc.requestor.ae_title.strip(),
            path=path,
        )
        with self._changed:
            self._tally.received.append(instance)
            self._changed.notify_all()
        return None


def _set_nodelay(event: evt.Event) -> None:
    """Send small packets at once: with Nagle each C-STORE waits 40-80 ms for an acknowledgment."""
    wire = event.assoc.dul.socket
    if wire is not None and wire.socket is not None:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _answer_echo(event: evt.Event) -> int:
    """Answer a C-ECHO."""
    del event
    return SUCCESS


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file so that its name never shows a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}.part")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _hold_port(port: int) -> socket.socket:
    """Return a socket that keeps a port to itself and listens to nobody."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, port))
    except OSError:
        holder.close()
        raise
    return holder
