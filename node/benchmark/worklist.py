"""How long a page of the worklist takes: asked of the web application over HTTP, HTML and all."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from math import ceil
from pathlib import Path
from socket import create_server
from statistics import median
from time import perf_counter, process_time
from uuid import uuid4

from node.accounts.opening import open_doorkeeper, open_registry
from node.accounts.registry import TokenOrder
from node.benchmark.report import Target
from node.clock import utc_now
from node.domain.account import Right
from node.errors import Broken
from node.intake.ports import IntakeTerms
from node.intake.station import Intake
from node.ledger.benchmark_crowd import Note, fill, find_member, require_empty
from node.ledger.engine import Engine, migrate, open_engine
from node.ledger.instances import InstanceLedger
from node.ledger.registrar import Registrar
from node.ledger.retractions import RetractionLedger
from node.ledger.views import LedgerView
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.volumes import open_store
from node.web.app import create_app
from node.web.console.worklist import write_mark
from node.web.retraction import Retractor
from node.web.server import Guards, WebServer
from node.web.services import Services
from node.web.tester import Tester
from node.web.witnessing import Witnessing

LIMIT_S = 120.0
TARGET_MS = 150.0
P95 = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one request took, milliseconds of the clock and of the processor."""

    wall_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one page took, milliseconds.

    Attributes
    ----------
    cpu_ms
        Of the processor, of the process that serves and of whoever asks, at the median; a server of PostgreSQL aside.
    """

    page: str
    cpu_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float


def measure(ledger_url: str, *, studies: int, rounds: int, folder: Path, note: Note) -> Sequence[Row]:
    """Return what each page takes, of a ledger that is filled with so many Studies first.

    Parameters
    ----------
    ledger_url
        Of an empty database.

    Raises
    ------
    WrongState
        If it is the ledger of a node; nothing was changed.
    """
    settings = load_settings(None, {"RADNODE__NODE__DATA_DIR": str(folder), "RADNODE__LEDGER__URL": ledger_url})
    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    try:
        require_empty(engine)
        migrate(engine)
        fill(engine, studies_wanted=studies, now=utc_now(), note=note)
        with _serving(settings, engine) as (port, token):
            taken: dict[str, list[Taken]] = {}
            # The first round makes templates, and does not count.
            for number in range(rounds + 1):
                note(f"asking for pages, round {number} of {rounds}")
                for name, path in _pages(engine, studies):
                    one = _ask(port, token, path)
                    taken.setdefault(name, []).extend([one] if number else [])
    finally:
        engine.dispose()
    return [_to_row(name, times) for name, times in taken.items()]


def describe_rows(rows: Sequence[Row]) -> str:
    """Return a table for the page of documents."""
    lines = ["| Page | p50, ms | p95, ms | max, ms | CPU, ms |", "| --- | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {row.page} | {row.p50_ms:.0f} | {row.p95_ms:.0f} | {row.max_ms:.0f} | {row.cpu_ms:.0f} |" for row in rows
    ]
    return "\n".join(lines)


def targets(rows: Sequence[Row]) -> Sequence[Target]:
    """Return what was promised of a page."""
    slowest = max(row.p95_ms for row in rows)
    return [Target(what="slowest page of the worklist, p95, ms", measured=slowest, at_most=TARGET_MS)]


def _pages(engine: Engine, studies: int) -> Sequence[tuple[str, str]]:
    """Return the name and URL of everything that is asked for; people are searched who are there."""
    one = find_member(engine, studies // 2)
    everything = "/?period=all"
    return (
        ("usual: last 24 h", "/"),
        ("last 7 days", "/?period=7d"),
        ("all", everything),
        ("all, with findings", f"{everything}&show=findings"),
        ("all, needs a person", f"{everything}&show=person"),
        ("all, no match", f"{everything}&show=no-match"),
        ("all, CT", f"{everything}&modality=CT"),
        ("all, with findings, NM", f"{everything}&show=findings&modality=NM"),
        ("all, from the middle", f"{everything}&after={write_mark(one.mark)}"),
        ("search: Patient ID", f"{everything}&q={one.patient_id}"),
        ("search: Accession Number", f"{everything}&q={one.accession_number}"),
        ("search: Study Instance UID", f"{everything}&q={one.study_instance_uid}"),
        ("search: family and given name", f"{everything}&q={one.family}+{one.given}"),
        ("search: given name", f"{everything}&q={one.given}"),
        ("search: the most common name", f"{everything}&q=bababa"),
        ("search: one letter", f"{everything}&q=b"),
        ("search: a common name that never needs a person in NM", f"{everything}&q=bababa&show=person&modality=NM"),
        ("search: nobody", f"{everything}&q=zzzzzz"),
    )


def _ask(port: int, token: str, path: str) -> Taken:
    """Return what one page took."""
    connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    begun_s, cpu_s = perf_counter(), process_time()
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": "text/html"})
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != HTTPStatus.OK or b"</html>" not in body:
        raise Broken(f"the worklist answered {response.status} to {path}")
    return Taken(wall_ms=1000 * (perf_counter() - begun_s), cpu_ms=1000 * (process_time() - cpu_s))


def _to_row(name: str, taken: Sequence[Taken]) -> Row:
    ordered = sorted(one.wall_ms for one in taken)
    return Row(
        page=name,
        p50_ms=median(ordered),
        p95_ms=ordered[ceil(P95 * len(ordered)) - 1],
        max_ms=ordered[-1],
        cpu_ms=median(one.cpu_ms for one in taken),
    )


@contextmanager
def _serving(settings: Settings, engine: Engine) -> Iterator[tuple[int, str]]:
    """Run the application; gives its port, and a token that may read."""
    registrar = Registrar(InstanceLedger(engine), _nobody)
    store = open_store(settings)
    services = Services(
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
        doorkeeper=open_doorkeeper(engine, settings.web, clock=utc_now, tell=_nobody),
        registry=open_registry(engine, clock=utc_now, tell=_nobody),
        record=_nobody,
        clock=utc_now,
        name_association=lambda: uuid4().hex,
        are_receivers_ready=lambda: True,
        wait_committed=registrar.wait_committed,
        tester=Tester(settings, engine, clock=utc_now, record=_nobody),
        retractor=Retractor(settings, RetractionLedger(engine), LedgerView(engine), record=_nobody, clock=utc_now),
        witnessing=Witnessing(_nobody, LedgerView(engine).patient_id),
    )
    order = TokenOrder(name=f"bench-{uuid4().hex}", scopes=frozenset({Right.READ}))
    token = services.registry.add_token(order, by="bench")
    server = WebServer(create_app(services), Guards(refused=_nobody), drain_s=1.0)
    with create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1], token
        finally:
            services.audience.close()
            server.stop()
            thread.join()
            services.pixels.close()
            services.registry.revoke_token(order.name, by="bench")


def _nobody(*_told: object) -> None:
    """Hear what a node would tell."""
