"""A simulated PACS: keeps what it is sent as Part 10 files, and misbehaves when told to."""

import errno
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.transport import ThreadedAssociationServer

from node.clock import utc_now
from node.errors import CANNOT_UNDERSTAND, INVALID_SOP_INSTANCE, OUT_OF_RESOURCES, Broken, PortInUse
from node.peers.peer import Peer
from node.rehearsal.confirmation import FIND_SOP_CLASSES, STORAGE_COMMITMENT, Commitments, Holding, find_matches
from node.rehearsal.record import PacsRecord, ReceivedInstance, StoreRequest

SUCCESS = 0x0000
PENDING = 0xFF00
C_STORE_RSP = 0x8001
VERIFICATION = UID("1.2.840.10008.1.1")
LOOPBACK = "127.0.0.1"
# pynetdicom listens with a backlog of 5: a few impatient peers would be refused by the kernel.
BACKLOG = 128
# A thread whose peer never asked for an Association waits longer; it keeps nobody from ending.
HANG_UP_LIMIT_S = 5.0
WARNINGS = range(0xB000, 0xC000)
# Tag, length and value of Status (0000,0900), which Command Group Length counts.
STATUS_BYTES = 10
# How soon a request that gets no answer is seen to be over; seconds.
LOOK_EVERY_S = 0.05
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
    silent_count
        How many C-STORE requests get no response at all; the Association stays until the sender ends it.
    no_status_count
        How many get a response without Status (0000,0900), and are not stored.
    delay_s
        How long each C-STORE waits for its response; seconds.
    max_pdu_bytes
        Maximum Length that it announces; bytes, 0 for no limit.
    lost_count
        How many Instances are answered with Success and lost at once: it does not hold them when it is asked.
    """

    is_down: bool = False
    refused_sop_classes: frozenset[str] = frozenset()
    status: int = OUT_OF_RESOURCES
    status_count: int = 0
    abort_after: int | None = None
    silent_count: int = 0
    no_status_count: int = 0
    delay_s: float = 0.0
    max_pdu_bytes: int = 0
    lost_count: int = 0


WELL_BEHAVED = Misbehavior()


@dataclass(slots=True)
class _Tally:
    """Counters that handlers change, under the PACS's condition."""

    received: list[ReceivedInstance] = field(default_factory=list)
    requests: int = 0
    requests_since_change: int = 0
    associations: int = 0
    log: list[StoreRequest] = field(default_factory=list)
    queries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What becomes of one request."""

    status: int = SUCCESS
    aborts: bool = False
    is_silent: bool = False
    has_status: bool = True
    is_lost: bool = False
    delay_s: float = 0.0

    @property
    def keeps(self) -> bool:
        """Whether the Instance is stored."""
        is_told = not self.aborts and not self.is_silent and self.has_status
        return is_told and (self.status == SUCCESS or self.status in WARNINGS)

    def describe(self, status: int) -> str:
        """Return the answer in words."""
        if self.aborts:
            return "aborted"
        if self.is_silent:
            return "no response"
        if not self.has_status:
            return "no Status"
        return f"{status:04X}, then lost" if self.is_lost else f"{status:04X}"


class SimulatedPacs:
    """A C-STORE SCP with C-ECHO, and C-FIND of what it holds; a context manager.

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
    host
        The address to listen at.
    """

    def __init__(
        self,
        folder: Path,
        *,
        aet: str = "PACS",
        port: int = 0,
        misbehavior: Misbehavior = WELL_BEHAVED,
        host: str = LOOPBACK,
    ) -> None:
        self.folder = folder
        self._aet = aet
        self._host = host
        self._port = port
        self._misbehavior = misbehavior
        self._commitments: Commitments | None = None
        self._leaving = threading.Event()
        self._changed = threading.Condition()
        self._tally = _Tally()
        self._server: ThreadedAssociationServer | None = None
        self._placeholder: socket.socket | None = None
        self._wires: list[socket.socket] = []

    @property
    def peer(self) -> Peer:
        """Return how to reach it; the port is known after `start`."""
        return Peer(aet=self._aet, host=self._host, port=self._port)

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
        self._leaving.clear()
        try:
            if self._misbehavior.is_down:
                self._placeholder = _hold_port(self._host, self._port)
                self._port = self._placeholder.getsockname()[1]
            else:
                self._server = self._listen()
                self._port = self._server.server_address[1]
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            raise PortInUse(f"port {self._port} on {self._host} is taken; choose another, or 0") from exc

    def stop(self) -> None:
        """Close the port and every connection; returns when its threads are done."""
        self._leaving.set()
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            _hang_up(server)
        # pynetdicom leaves a connection open that the sender broke.
        for wire in self._wires:
            wire.close()
        self._wires.clear()
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
        if self._commitments is not None:
            self._commitments.finish()

    def offer_commitment(self, node: Peer) -> None:
        """Offer Storage Commitment from the next start or change on.

        Parameters
        ----------
        node
            Who gets the N-EVENT-REPORT, on an Association that the PACS opens.
        """
        self._commitments = Commitments(aet=self._aet, node=node, held=self._holdings)

    def change(self, misbehavior: Misbehavior) -> None:
        """Behave otherwise from now on, on the same port; open Associations are lost."""
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
            log=tuple(self._tally.log),
            commitment_requests=0 if self._commitments is None else self._commitments.requests,
            queries=self._tally.queries,
        )

    def _listen(self) -> ThreadedAssociationServer:
        """Return a running server that takes every Storage SOP Class it does not refuse."""
        ae = AE(ae_title=self._aet)
        ae.add_supported_context(VERIFICATION)
        storage = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
        for sop_class_uid in sorted(storage - self._misbehavior.refused_sop_classes):
            ae.add_supported_context(sop_class_uid, ALL_TRANSFER_SYNTAXES)
        for sop_class_uid in FIND_SOP_CLASSES:
            ae.add_supported_context(sop_class_uid)
        if self._commitments is not None:
            ae.add_supported_context(STORAGE_COMMITMENT)
        ae.maximum_pdu_size = self._misbehavior.max_pdu_bytes
        ae.maximum_associations = BACKLOG
        server = ae.start_server(
            (self._host, self._port),
            block=False,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, self._hold_wire),
                (evt.EVT_ACCEPTED, self._count_association),
                (evt.EVT_C_STORE, self._receive),
                (evt.EVT_DIMSE_SENT, self._leave_status_out),
                (evt.EVT_C_ECHO, _answer_echo),
                (evt.EVT_C_FIND, self._find),
                *([] if self._commitments is None else [(evt.EVT_N_ACTION, self._commitments.answer)]),
            ],
        )
        if server is None or server.socket is None:
            raise Broken("pynetdicom started no server although it was asked not to block; check its version")
        server.socket.listen(BACKLOG)
        return server

    def _hold_wire(self, event: evt.Event) -> None:
        """Send small packets at once: with Nagle each C-STORE waits 40-80 ms for an acknowledgment."""
        wire = event.assoc.dul.socket
        if wire is not None and wire.socket is not None:
            self._wires.append(wire.socket)
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _count_association(self, event: evt.Event) -> None:
        """Count one accepted Association."""
        del event
        with self._changed:
            self._tally.associations += 1
            self._changed.notify_all()

    def _receive(self, event: evt.Event) -> int:
        """Answer one C-STORE: store it, unless told otherwise."""
        plan = self._next_plan()
        status = plan.status
        instance = self._read(event)
        if isinstance(instance, int):
            status = instance
        elif plan.keeps and not plan.is_lost:
            _write_whole(instance.path, event.encoded_dataset())
        self._leaving.wait(plan.delay_s)
        self._note(event, plan, status, None if isinstance(instance, int) else instance)
        if plan.aborts:
            event.assoc.abort()
        elif plan.is_silent:
            self._outwait(event.assoc)
        return status

    def _next_plan(self) -> _Plan:
        """Count one request and return what becomes of it."""
        with self._changed:
            self._tally.requests += 1
            self._tally.requests_since_change += 1
            number, behavior = self._tally.requests_since_change, self._misbehavior
            self._changed.notify_all()
        return _Plan(
            status=behavior.status if number <= behavior.status_count else SUCCESS,
            aborts=behavior.abort_after is not None and number > behavior.abort_after,
            is_silent=number <= behavior.silent_count,
            has_status=number > behavior.no_status_count,
            is_lost=number <= behavior.lost_count,
            delay_s=behavior.delay_s,
        )

    def _outwait(self, assoc: Association) -> None:
        """Return when the sender has ended the Association, or the PACS goes."""
        while assoc.dul.state_machine.current_state != "Sta1":
            self._leaving.wait(LOOK_EVERY_S)
        # Without it pynetdicom would answer now.
        assoc.kill()

    def _leave_status_out(self, event: evt.Event) -> None:
        """Take the Status (0000,0900) out of the responses that are to have none."""
        command = event.message.command_set
        with self._changed:
            lacks_status = self._tally.requests_since_change <= self._misbehavior.no_status_count
        if lacks_status and command.CommandField == C_STORE_RSP:
            del command.Status
            command.CommandGroupLength -= STATUS_BYTES

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """Answer one C-FIND with what is held."""
        with self._changed:
            self._tally.queries += 1
            self._changed.notify_all()
        for match in find_matches(event.identifier, self._holdings()):
            yield PENDING, match

    def _holdings(self) -> tuple[Holding, ...]:
        """Return what is held, each Instance once."""
        with self._changed:
            held = {instance.sop_instance_uid: instance for instance in self._tally.received}
        return tuple(
            Holding(
                study_instance_uid=instance.study_instance_uid,
                series_instance_uid=instance.series_instance_uid,
                sop_instance_uid=instance.sop_instance_uid,
                sop_class_uid=instance.sop_class_uid,
            )
            for instance in held.values()
        )

    def _note(self, event: evt.Event, plan: _Plan, status: int, instance: ReceivedInstance | None) -> None:
        """Write one request into the record."""
        asked = cast("C_STORE", event.request)
        request = StoreRequest(
            at=utc_now(),
            study_instance_uid="" if instance is None else instance.study_instance_uid,
            sop_instance_uid=str(asked.AffectedSOPInstanceUID),
            sop_class_uid=str(asked.AffectedSOPClassUID),
            answer=plan.describe(status),
            is_taken=plan.keeps and instance is not None,
        )
        with self._changed:
            self._tally.log.append(request)
            if request.is_taken and not plan.is_lost and instance is not None:
                self._tally.received.append(instance)
            self._changed.notify_all()

    def _read(self, event: evt.Event) -> ReceivedInstance | int:
        """Return what one Instance is, or the Status with which it is refused."""
        try:
            ds = dcmread(BytesIO(event.encoded_dataset()), stop_before_pixels=True, specific_tags=_PATH_KEYWORDS)
            study, series, sop = (str(ds.get(keyword, "")) for keyword in _PATH_KEYWORDS)
        except (InvalidDicomError, EOFError, ValueError):
            return CANNOT_UNDERSTAND
        if not all(_UID.fullmatch(uid) and set(uid) != {"."} for uid in (study, series, sop)):
            return INVALID_SOP_INSTANCE
        return ReceivedInstance(
            study_instance_uid=study,
            series_instance_uid=series,
            sop_instance_uid=sop,
            sop_class_uid=str(event.request.AffectedSOPClassUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            calling_aet=event.assoc.requestor.ae_title.strip(),
            path=self.folder / study / series / f"{sop}.dcm",
        )


def _answer_echo(event: evt.Event) -> int:
    """Answer a C-ECHO."""
    del event
    return SUCCESS


def _hang_up(server: ThreadedAssociationServer) -> None:
    """Close the connections of all Associations and wait for their threads."""
    ending = server.active_associations
    for assoc in ending:
        wire = assoc.dul.socket
        if wire is not None and wire.socket is not None:
            # Not AE.shutdown(): its abort is an error in the thread of one that was just rejected or released.
            with suppress(OSError):
                wire.socket.shutdown(socket.SHUT_RDWR)
    for assoc in ending:
        assoc.join(HANG_UP_LIMIT_S)


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file so that its name never shows a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}.part")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _hold_port(host: str, port: int) -> socket.socket:
    """Return a socket that keeps a port to itself and listens to nobody."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, port))
    except OSError:
        holder.close()
        raise
    return holder
