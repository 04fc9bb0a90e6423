"""Destinations: listed with what they take, and tried."""

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter

from node.delivery.walk import StepState
from node.domain.capability import WRITTEN_FORMS, Capability
from node.domain.confirmation import ConfirmBy
from node.errors import NotFound
from node.ledger.capabilities import CapabilityLedger
from node.web.api.conduct import NamePath, Operator, Reader, new_router
from node.web.api.contract import told
from node.web.rights import Right
from node.web.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationResource:
    """Where Results go.

    Attributes
    ----------
    transport
        cstore, stow, folder, hl7 or fhir.
    address
        Without a password that a URL may hold.
    confirm
        How it is asked later whether it holds what it took.
    takes
        Kinds of Results, such as SEG, that it is known to take.
    refuses
        Kinds that it is known not to take.
    asked_at
        When it was last asked what it takes; null where only its answers are known, or nothing.
    """

    name: str
    transport: str
    address: str
    uses_tls: bool
    confirm: ConfirmBy
    takes: tuple[str, ...]
    refuses: tuple[str, ...]
    asked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationList:
    """All Destinations of the settings."""

    items: tuple[DestinationResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResource:
    """One step of the way to a Destination.

    Attributes
    ----------
    said
        What was found, or why it failed and what to do.
    """

    name: str
    state: StepState
    said: str
    milliseconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedResource:
    """How far one comes on the way to a Destination; nothing is stored there."""

    name: str
    is_passed: bool
    steps: tuple[StepResource, ...]
    destination: DestinationResource


def router(services: Services) -> APIRouter:
    """Return what programs ask of Destinations, and try."""
    routes, ledger = new_router("destinations"), CapabilityLedger(services.engine)

    @routes.get("/destinations", **told(Right.READ))
    def list_destinations(_reader: Reader) -> DestinationList:
        """List the Destinations of the settings, and what they are known to take."""
        names = services.settings.destinations
        return DestinationList(items=tuple(_to_resource(services, ledger, name) for name in names))

    @routes.get("/destinations/{name}", **told(Right.READ, 404))
    def get_destination(_reader: Reader, name: NamePath) -> DestinationResource:
        """Tell of one Destination."""
        return _to_resource(services, ledger, _known(services, name))

    @routes.post("/destinations/{name}/test", **told(Right.OPERATE, 404, 409))
    def try_destination(operator: Operator, name: NamePath) -> TriedResource:
        """Try the way to a Destination step by step: name, connection, C-ECHO or its like, what it takes."""
        walk = services.tester.test(_known(services, name), ordered_by=operator.name).walk
        return TriedResource(
            name=name,
            is_passed=walk.is_passed,
            steps=tuple(
                StepResource(name=one.name, state=one.state, said=one.said, milliseconds=one.milliseconds)
                for one in walk.steps
            ),
            destination=_to_resource(services, ledger, name),
        )

    return routes


def _known(services: Services, name: str) -> str:
    if name not in services.settings.destinations:
        known = ", ".join(services.settings.destinations) or "none"
        raise NotFound(f"no destination of the settings has that name; known: {known}")
    return name


def _to_resource(services: Services, ledger: CapabilityLedger, name: str) -> DestinationResource:
    entry = services.settings.destinations[name]
    known = ledger.find_capability(name, entry.address)
    return DestinationResource(
        name=name,
        transport=entry.transport,
        address=entry.address,
        uses_tls=entry.tls is not None or entry.url.startswith("https:"),
        confirm=entry.confirm,
        takes=_kinds(known, is_taken=True),
        refuses=_kinds(known, is_taken=False),
        asked_at=None if known is None else known.asked_at,
    )


def _kinds(known: Capability | None, *, is_taken: bool) -> tuple[str, ...]:
    if known is None:
        return ()
    return tuple(word for word, form in WRITTEN_FORMS.items() if known.takes(form) is is_taken)
