"""Destinations: whether they can be reached, what they accept, what waits for them; and what a person may do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from pydicom.uid import UID

from node.alarms.backlog import explain_stray
from node.delivery.walk import StepState
from node.domain.alarm import Alarm, AlarmKind
from node.domain.capability import WRITTEN_FORMS, Capability, name_kind
from node.domain.result import Delivery, DeliveryState
from node.errors import NotFound, WrongState
from node.ledger.alarms import AlarmLedger
from node.ledger.capabilities import CapabilityLedger
from node.ledger.deliveries import DeliveryLedger
from node.ledger.fates import tell_delivery
from node.ledger.signs import SignLedger
from node.ledger.traffic import Traffic, TrafficLedger
from node.web.console.form import Form, posted
from node.web.console.page import Pages, go_to
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

Reader = Annotated[Visitor, Depends(authorize(Right.READ))]
Operated = Annotated[Form, Depends(posted(Right.OPERATE))]
PLACE = "/destinations"
LOOKED_BACK = timedelta(hours=1)
ABOUT_DESTINATIONS = frozenset({AlarmKind.DESTINATION_DOWN, AlarmKind.DELIVERIES_STUCK})
TRANSPORTS = {"cstore": "C-STORE", "stow": "STOW-RS", "folder": "folder", "hl7": "HL7", "fhir": "FHIR"}
CHIPS = {DeliveryState.PENDING: "waiting", DeliveryState.REFUSED: "refused", DeliveryState.LOST: "warning"}
STEP_CHIPS = {
    StepState.PASSED: "match",
    StepState.PARTLY: "warning",
    StepState.FAILED: "critical",
    StepState.NOT_REACHED: "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLine:
    """One kind of object that radnode writes, and whether the Destination takes it."""

    kind: str
    sop_class: str
    sop_class_uid: str
    transfer_syntax: str
    chip: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLine:
    """One Delivery that waits or ended badly."""

    delivery: Delivery
    kind: str
    chip: str
    state: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationLine:
    """One Destination in the list.

    Attributes
    ----------
    since
        Since when its state is what it is, where that is known (UTC).
    """

    name: str
    url: str
    address: str
    chip: str
    state: str
    since: datetime | None
    traffic: Traffic
    is_configured: bool


class Register:
    """Reads what the page says of Destinations."""

    def __init__(self, services: Services) -> None:
        self._services = services
        engine = services.engine
        self._alarms, self._signs, self._traffic = AlarmLedger(engine), SignLedger(engine), TrafficLedger(engine)
        self._capabilities = CapabilityLedger(engine)

    def lines(self, now: datetime) -> list[DestinationLine]:
        """Return every Destination of the settings, then those that the settings name no longer, and are waited for."""
        configured = self._services.settings.destinations
        strays = sorted(self._signs.waiting_destinations().difference(configured))
        alarms = self._alarms.standing_alarms()
        return [self._line(name, alarms, now) for name in (*configured, *strays)]

    def describe(self, line: DestinationLine) -> Mapping[str, Any]:
        """Return the values of the template for the one that is looked at."""
        destination = self._services.settings.destinations.get(line.name)
        known = None
        if destination is not None:
            known = self._capabilities.find_capability(line.name, destination.address)
        alarms = [alarm for alarm in self._alarms.standing_alarms() if _is_about(alarm, line.name)]
        return {
            "shown": line,
            "stray": "" if line.is_configured else explain_stray(line.name),
            "settings": destination,
            "warnings": alarms,
            "test": self._services.tester.last(line.name),
            "asked_at": None if known is None else known.asked_at,
            "forms": _form_lines(known),
            "open_deliveries": [_delivery_line(one) for one in self._traffic.list_open(line.name)],
            "step_chips": STEP_CHIPS,
        }

    def _line(self, name: str, alarms: Sequence[Alarm], now: datetime) -> DestinationLine:
        traffic = self._traffic.read_traffic(name, since=now - LOOKED_BACK)
        destination = self._services.settings.destinations.get(name)
        chip, state, since = _state(traffic, [alarm for alarm in alarms if _is_about(alarm, name)])
        if destination is None:
            chip, state = "warning", "Not in settings"
        address = "" if destination is None else destination.address.partition(" ")[2]
        transport = "no transport" if destination is None else TRANSPORTS[destination.transport]
        return DestinationLine(
            name=name,
            url=f"{PLACE}/{quote(name, safe='')}",
            address=f"{transport}, {address}" if address else transport,
            chip=chip,
            state=state,
            since=since,
            traffic=traffic,
            is_configured=destination is not None,
        )


def router(services: Services) -> APIRouter:
    """Return the pages of Destinations, and what their buttons do."""
    routes, pages, register = APIRouter(), Pages(services), Register(services)

    def show(request: Request, visitor: Visitor, name: str | None) -> Response:
        now = services.clock()
        lines = register.lines(now)
        if name is not None and name not in {line.name for line in lines}:
            raise NotFound(f"destination {name!r} is unknown; see {PLACE}")
        shown = next((line for line in lines if name in (None, line.name)), None)
        values = {} if shown is None else register.describe(shown)
        can_operate = Right.OPERATE in visitor.rights
        return pages.render(
            request, visitor, "destinations.html", here=PLACE, lines=lines, now=now, can_operate=can_operate,
            **{"shown": None, **values},
        )  # fmt: skip

    @routes.get(PLACE)
    def page(request: Request, visitor: Reader) -> Response:
        return show(request, visitor, None)

    @routes.get(PLACE + "/{name}")
    def page_of_one(request: Request, name: str, visitor: Reader) -> Response:
        return show(request, visitor, name)

    _add_orders(routes, services)
    return routes


def _add_orders(routes: APIRouter, services: Services) -> None:
    deliveries = DeliveryLedger(services.engine)

    @routes.post(PLACE)
    def test_all(form: Operated) -> Response:
        services.tester.test_all(ordered_by=form.visitor.name)
        return go_to(PLACE, say="destinations-tested")

    @routes.post(PLACE + "/{name}/test")
    def test(name: str, form: Operated) -> Response:
        if name not in services.settings.destinations:
            raise NotFound(f"destination {name!r} is not in the settings; nothing was tested")
        try:
            services.tester.test(name, ordered_by=form.visitor.name)
        except WrongState:
            return go_to(_url(name), say="destination-under-test")
        return go_to(_url(name), say="destination-tested")

    @routes.post(PLACE + "/{name}/retry")
    def retry(name: str, form: Operated) -> Response:
        account, now = form.visitor.name, services.clock()
        count = deliveries.retry_deliveries(destination=name, ordered_by=account, now=now)
        return go_to(_url(name), say="deliveries-due" if count else "deliveries-none")

    @routes.post(PLACE + "/{name}/dismiss")
    def dismiss(name: str, form: Operated) -> Response:
        account, now = form.visitor.name, services.clock()
        deliveries.dismiss_deliveries(destination=name, study=None, ordered_by=account, now=now)
        return go_to(_url(name), say="deliveries-dismissed")


def _url(name: str) -> str:
    return f"{PLACE}/{quote(name, safe='')}"


def _is_about(alarm: Alarm, name: str) -> bool:
    return alarm.kind in ABOUT_DESTINATIONS and alarm.subject == name


def _state(traffic: Traffic, alarms: Sequence[Alarm]) -> tuple[str, str, datetime | None]:
    """Return the chip of a Destination, its words, and since when it is so."""
    down = next((alarm for alarm in alarms if alarm.kind is AlarmKind.DESTINATION_DOWN), None)
    if down is not None:
        return "critical", "Down", down.raised_at
    if alarms or (traffic.waiting and traffic.reason):
        return "warning", f"{traffic.waiting} wait", traffic.oldest_at
    if traffic.bad:
        return "refused", f"{traffic.bad} refused", None
    if traffic.last_taken_at is None:
        return "off", "Nothing sent yet", None
    return "committed", "Fine", traffic.last_taken_at


def _form_lines(known: Capability | None) -> list[FormLine]:
    answers = {True: ("match", "Taken"), False: ("no-match", "Not taken"), None: ("undetermined", "Not known")}
    lines = []
    for kind, form in WRITTEN_FORMS.items():
        chip, answer = answers[None if known is None else known.takes(form)]
        sop_class_uid, syntax = form
        name = UID(sop_class_uid).name
        lines.append(
            FormLine(
                kind=kind,
                # A dictionary of another edition may not have it.
                sop_class="Label Map Segmentation Storage" if name == sop_class_uid else name,
                sop_class_uid=sop_class_uid,
                transfer_syntax=UID(syntax).name,
                chip=chip,
                answer=answer,
            )
        )
    return lines


def _delivery_line(delivery: Delivery) -> DeliveryLine:
    return DeliveryLine(
        delivery=delivery,
        kind=name_kind(delivery.sop_class_uid),
        chip=CHIPS[delivery.state],
        state=delivery.state.value.capitalize(),
        words=tell_delivery(delivery),
    )
