"""The way to a Destination, step by step: the first that fails says where it ends, and nothing is stored there."""

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from node.delivery.fhir import FhirMessenger
from node.delivery.hl7 import probe_receiver
from node.delivery.inquiry import offered_ways
from node.domain.capability import WRITTEN_FORMS, Form
from node.domain.confirmation import ConfirmBy
from node.errors import DestinationDown, NodeError
from node.peers.association import StoreAssociation, echo
from node.peers.dicomweb import DicomwebService
from node.peers.peer import DestinationSpec, peer_of

HTTPS, HTTPS_PORT, HTTP_PORT = "https", 443, 80


class StepState(StrEnum):
    """What became of a step."""

    PASSED = "passed"
    PARTLY = "partly"
    FAILED = "failed"
    NOT_REACHED = "not-reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the way.

    Attributes
    ----------
    said
        What was found, or why it failed and what to do.
    """

    name: str
    state: StepState
    said: str = ""
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """How far one came.

    Attributes
    ----------
    accepted
        Forms whose Presentation Context was accepted; None where only sending tells, or nobody came so far.
    """

    steps: tuple[Step, ...]
    accepted: frozenset[Form] | None

    @property
    def is_passed(self) -> bool:
        """Whether no step failed."""
        return all(step.state in {StepState.PASSED, StepState.PARTLY} for step in self.steps)


@dataclass(slots=True)
class _Finding:
    accepted: frozenset[Form] | None = None


# Returns what was found, and whether that is all one could wish for.
_Act = Callable[[], tuple[str, bool]]


def walk_to(spec: DestinationSpec, *, limit_s: float) -> Walk:
    """Return how far one comes on the way to a Destination.

    Parameters
    ----------
    limit_s
        How long each answer may take; seconds. The name, the connection and each Association count by themselves.
    """
    found = _Finding()
    hurried = replace(spec, timeout_s=min(limit_s, spec.timeout_s))
    match spec.transport:
        case "cstore":
            acts = _dimse_acts(hurried, found)
        case "folder":
            acts = _folder_acts(Path(spec.url), found)
        case "hl7":
            acts = _mllp_acts(hurried)
        case "fhir":
            acts = _fhir_acts(hurried)
        case _:
            acts = _web_acts(hurried)
    return Walk(steps=tuple(_take(acts)), accepted=found.accepted)


def _take(acts: dict[str, _Act]) -> Iterator[Step]:
    has_failed = False
    for name, act in acts.items():
        if has_failed:
            yield Step(name=name, state=StepState.NOT_REACHED)
            continue
        began_s = perf_counter()
        try:
            said, is_whole = act()
            state = StepState.PASSED if is_whole else StepState.PARTLY
        except NodeError as exc:
            said, state, has_failed = str(exc), StepState.FAILED, True
        yield Step(name=name, state=state, said=said, milliseconds=(perf_counter() - began_s) * 1000)


def _dimse_acts(spec: DestinationSpec, found: _Finding) -> dict[str, _Act]:
    peer = peer_of(spec)

    def negotiate() -> tuple[str, bool]:
        with StoreAssociation(peer, WRITTEN_FORMS.values()) as assoc:
            found.accepted = assoc.accepted
        return f"accepted as {peer.calling_aet}{'' if peer.tls is None else ', by TLS'}", True

    def ask_echo() -> tuple[str, bool]:
        echo(peer)
        return "0x0000, Success", True

    return {
        "Name": lambda: _resolve(spec.host, spec.port, spec.timeout_s),
        "TCP": lambda: _connect(spec.host, spec.port, spec.timeout_s),
        "Association": negotiate,
        "C-ECHO": ask_echo,
        "Contexts": lambda: _count_contexts(spec, found.accepted or frozenset()),
    }


def _count_contexts(spec: DestinationSpec, accepted: frozenset[Form]) -> tuple[str, bool]:
    count = len(accepted & frozenset(WRITTEN_FORMS.values()))
    if not count:
        raise DestinationDown("none of the objects that radnode writes is accepted; see what it takes below")
    said = f"{count} of {len(WRITTEN_FORMS)} accepted"
    if spec.confirm is ConfirmBy.NONE:
        return f"{said}; it is not asked what it holds", count == len(WRITTEN_FORMS)
    ways = " or ".join(way.value for way in offered_ways(spec))
    return f"{said}; proves what it holds by {ways or 'nothing'}", count == len(WRITTEN_FORMS) and bool(ways)


def _web_acts(spec: DestinationSpec) -> dict[str, _Act]:
    def search() -> tuple[str, bool]:
        can_search = DicomwebService(spec).can_search()
        return ("answers a search" if can_search else "does not answer a search"), can_search

    scheme = "HTTPS" if urlsplit(spec.url).scheme == HTTPS else "HTTP"
    return _address_acts(spec) | {scheme: lambda: (DicomwebService(spec).probe(), True), "QIDO-RS": search}


def _fhir_acts(spec: DestinationSpec) -> dict[str, _Act]:
    # One question shows connection, credentials and version: what it says of itself.
    return _address_acts(spec) | {"FHIR": lambda: (FhirMessenger(spec).probe(), True)}


def _mllp_acts(spec: DestinationSpec) -> dict[str, _Act]:
    # No message is sent: a receiver would file it.
    return {
        "Name": lambda: _resolve(spec.host, spec.port, spec.timeout_s),
        "TCP": lambda: _connect(spec.host, spec.port, spec.timeout_s),
        "MLLP" if spec.tls is None else "MLLP by TLS": lambda: (probe_receiver(spec), True),
    }


def _address_acts(spec: DestinationSpec) -> dict[str, _Act]:
    parts = urlsplit(spec.url)
    host = parts.hostname or ""
    port = parts.port or (HTTPS_PORT if parts.scheme == HTTPS else HTTP_PORT)
    return {
        "Name": lambda: _resolve(host, port, spec.timeout_s),
        "TCP": lambda: _connect(host, port, spec.timeout_s),
    }


def _folder_acts(folder: Path, found: _Finding) -> dict[str, _Act]:
    def find() -> tuple[str, bool]:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise DestinationDown(f"{nearest} is no folder; correct destinations.*.url")
        return ("it is there" if nearest == folder else "it will be made"), True

    def may_write() -> tuple[str, bool]:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not os.access(nearest, os.W_OK):
            raise DestinationDown(f"{nearest} cannot be written; correct its rights")
        found.accepted = frozenset(WRITTEN_FORMS.values())
        return "radnode may write", True

    return {"Folder": find, "Rights": may_write}


def _resolve(host: str, port: int, limit_s: float) -> tuple[str, bool]:
    """Return the first address of a host; the system's own resolver knows no limit."""
    resolver = ThreadPoolExecutor(1, thread_name_prefix="resolver")
    asked = resolver.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        addresses = {str(entry[4][0]): None for entry in asked.result(limit_s)}
    except FutureTimeout as exc:
        raise DestinationDown(f"the name of {host} was not resolved within {limit_s:g} s; check the DNS") from exc
    except (OSError, UnicodeError) as exc:
        raise DestinationDown(f"{host} cannot be resolved; check its name, or the DNS") from exc
    finally:
        resolver.shutdown(wait=False)
    return ", ".join(addresses), True


def _connect(host: str, port: int, limit_s: float) -> tuple[str, bool]:
    try:
        with socket.create_connection((host, port), timeout=limit_s):
            return f"port {port} takes connections", True
    except TimeoutError as exc:
        said = f"no connection to port {port} within {limit_s:g} s; check port and firewall"
        raise DestinationDown(said) from exc
    except OSError as exc:
        said = f"no connection to port {port} ({exc.strerror or exc}); check the port, and that it runs"
        raise DestinationDown(said) from exc
