"""The web application on a real socket: uvicorn in a thread, a store in a folder, a ledger that is there."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from threading import Thread
from uuid import uuid4

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from starlette.types import ASGIApp, Receive, Scope, Send

from node.accounts.doorkeeper import csrf_of
from node.accounts.opening import open_doorkeeper, open_registry
from node.accounts.passwords import PasswordHashes
from node.accounts.registry import TokenOrder
from node.audit.events import stranger_refused
from node.audit.message import AuditEvent
from node.clock import Clock, utc_now
from node.domain.account import Right, Role
from node.header.part10 import file_meta
from node.intake.ports import IntakeTerms
from node.intake.station import Intake
from node.ledger.engine import Engine, open_engine
from node.ledger.instances import InstanceLedger
from node.ledger.registrar import Registrar
from node.ledger.retractions import RetractionLedger
from node.ledger.views import LedgerView
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.tls import server_context
from node.volumes import open_store
from node.web.app import create_app
from node.web.host import identity_of
from node.web.retraction import Retractor
from node.web.rights import PLAIN_COOKIE
from node.web.server import HEADERS_S, MAX_OF_ONE_ADDRESS, STALLED_S, Guards, WebServer
from node.web.services import Services
from node.web.tester import Tester
from node.web.witnessing import Witnessing
from tests.instances import EXPLICIT, ct_slice, encode
from tests.ledgers import copy_ledger

LIMIT_S = 60.0
STUDIES = "/dicom-web/studies"
BOUNDARY = "between-the-parts"
DICOM = "application/dicom"


# Nobody may delete, unless a test says so.
USUAL = frozenset(Right) - {Right.DELETE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Website:
    """A web server that runs, and what is behind it.

    Attributes
    ----------
    token
        What every request shows that comes with neither a token nor a cookie of its own; empty: none.
    told
        What the audit trail was told.
    """

    port: int
    services: Services
    folder: Path
    token: str
    told: list[AuditEvent]

    @property
    def url(self) -> str:
        """Base URL of the DICOMweb services."""
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def ask(
        self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[HTTPResponse, bytes]:
        """Return the response to one request, and its body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def log_in(self, role: Role = Role.OPERATOR, *, name: str = "") -> tuple[Mapping[str, str], str]:
        """Return the headers of somebody who is logged in, and what their forms send back as ``csrf``."""
        called = name or f"test-{uuid4().hex[:12]}"
        user = self.services.registry.add_user(called, role, password=None, by="test")
        secret = self.services.doorkeeper.admit(user, address="127.0.0.1")
        return {"Cookie": f"{PLAIN_COOKIE}={secret}"}, csrf_of(secret)

    def connect(self) -> socket.socket:
        """Return a connection, for what no client says."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_S)

    def files(self) -> Sequence[Path]:
        """Return every file that the store keeps, whole or not."""
        return sorted(path for path in (self.folder / "store").rglob("*") if path.is_file())


@contextmanager
def website(
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    headers_s: float = HEADERS_S,
    stalled_s: float = STALLED_S,
    max_of_one_address: int | None = MAX_OF_ONE_ADDRESS,
    name_association: Callable[[], str] = lambda: f"test.{uuid4().hex}",
    rights: frozenset[Right] = USUAL,
    clock: Clock = utc_now,
) -> Iterator[Website]:
    """Run the web application with `folder` for its data, and these settings.

    Parameters
    ----------
    rights
        Of the token that stands for whoever shows nothing; none: nobody is let in without a login of their own.
    """
    placed = {"RADNODE__NODE__DATA_DIR": str(folder), "RADNODE__LEDGER__URL": copy_ledger(folder)}
    settings = load_settings(None, {"RADNODE__STORE__RESERVE_BYTES": "0", **(environment or {}), **placed})
    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    registrar = Registrar(InstanceLedger(engine), lambda: None)
    told: list[AuditEvent] = []
    services = replace(_services(settings, engine, registrar, told, clock), name_association=name_association)
    order = TokenOrder(name=f"test-{uuid4().hex}", scopes=rights)
    token = services.registry.add_token(order, by="test") if rights else ""
    told.clear()
    guards = Guards(
        networks=settings.web.trusted_proxies or settings.security.allowed_networks,
        refused=lambda host: services.intake.note_refusal(stranger_refused(host)),
        headers_s=headers_s,
        stalled_s=stalled_s,
        max_of_one_address=max_of_one_address,
    )
    identity = identity_of(settings.web)
    tls = None if identity is None else server_context(identity)
    server = WebServer(ShowsToken(create_app(services), token), guards, drain_s=2.0, tls=tls)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        thread = Thread(target=server.run, args=(listening,))
        registrar.start()
        services.witnessing.start()
        thread.start()
        try:
            yield Website(port=port, services=services, folder=folder, token=token, told=told)
        finally:
            services.audience.close()
            server.stop()
            thread.join()
            services.pixels.close()
            services.witnessing.stop()
            registrar.stop()
            engine.dispose()


class ShowsToken:
    """Adds the test's token to whatever shows neither a token nor a cookie, before the application sees it."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._shown = (b"authorization", f"Bearer {token}".encode()) if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = scope.get("headers", [])
        if self._shown is not None and not {b"authorization", b"cookie"} & {name for name, _ in headers}:
            scope = {**scope, "headers": [*headers, self._shown]}
        await self._app(scope, receive, send)


def _services(
    settings: Settings, engine: Engine, registrar: Registrar, told: list[AuditEvent], clock: Clock
) -> Services:
    store = open_store(settings)
    # The same algorithm at a cost that tests can bear.
    hashes = PasswordHashes(memory_kib=64)
    return Services(
        settings=settings,
        engine=engine,
        view=LedgerView(engine),
        store=store,
        intake=Intake(
            store=store,
            ledger=registrar,
            clock=utc_now,
            terms=IntakeTerms(
                own_results=settings.security.own_results, max_instance_bytes=settings.store.max_instance_bytes
            ),
        ),
        doorkeeper=open_doorkeeper(engine, settings.web, hashes=hashes, clock=clock, tell=told.append),
        registry=open_registry(engine, hashes=hashes, clock=clock, tell=told.append),
        witnessing=Witnessing(told.append, LedgerView(engine).patient_id),
        record=told.append,
        clock=clock,
        name_association=lambda: f"test.{uuid4().hex}",
        are_receivers_ready=lambda: True,
        wait_committed=registrar.wait_committed,
        tester=Tester(settings, engine, clock=clock, record=told.append),
        retractor=Retractor(settings, RetractionLedger(engine), LedgerView(engine), record=told.append, clock=clock),
    )


def multipart(
    parts: Sequence[tuple[Mapping[str, str], bytes]], *, kind: str = DICOM, boundary: str = BOUNDARY
) -> tuple[bytes, Mapping[str, str]]:
    """Return the body of these parts, headers and content, and the headers of the request that sends it."""
    body = b"".join(part_of(headers, content, boundary) for headers, content in parts)
    content_type = f'multipart/related; type="{kind}"; boundary={boundary}'
    return body + f"\r\n--{boundary}--\r\n".encode(), {"Content-Type": content_type}


def part_of(headers: Mapping[str, str], content: bytes, boundary: str = BOUNDARY) -> bytes:
    """Return one part behind its boundary."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"\r\n--{boundary}\r\n{lines}\r\n".encode() + content


def files_of(*contents: bytes) -> Sequence[tuple[Mapping[str, str], bytes]]:
    """Return Part 10 files as parts."""
    return [({"Content-Type": DICOM}, content) for content in contents]


def part10(ds: Dataset, transfer_syntax_uid: str = EXPLICIT) -> bytes:
    """Return a data set as a Part 10 file."""
    meta = file_meta(
        sop_class_uid=ds.SOPClassUID, sop_instance_uid=ds.SOPInstanceUID, transfer_syntax_uid=transfer_syntax_uid
    )
    return meta + encode(ds, transfer_syntax_uid)


def fresh_slice(*, study: str = "", level: int = 7) -> Dataset:
    """Return a CT Image whose UIDs nobody has; `study` is that of another one, or empty."""
    ds = ct_slice(sop_instance_uid=generate_uid(), level=level)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study or generate_uid(), generate_uid()
    return ds
