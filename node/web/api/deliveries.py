"""Deliveries: listed, made due again, taken note of."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response

from node.domain.result import Delivery, DeliveryState
from node.domain.uids import StudyUID
from node.ledger.deliveries import DeliveryLedger
from node.ledger.fates import tell_delivery
from node.ledger.listings import DeliveryFilter, Listings
from node.web.api.conduct import LINE, UID, Operator, Reader, StudyPath, new_router
from node.web.api.contract import told
from node.web.api.paging import MAX_SERIAL, Page
from node.web.api.sheet import Taking, sheet_response, walk, wants_sheet
from node.web.rights import Right
from node.web.services import Services

COLUMNS = (
    "delivery_id", "destination", "study_instance_uid", "sop_instance_uid", "job_id", "state", "attempts", "not_before",
    "reason_code", "in_words",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryResource:
    """One object on its way to one Destination.

    Attributes
    ----------
    job_id
        Null for an Instance that a rule forwards.
    in_words
        What became of it so far, for people.
    not_before
        When the next attempt may begin.
    reason_code
        Why the last attempt failed, or the warning with which it was taken; see docs/errors.md.
    seen_at
        When a person took note that it stays refused.
    """

    delivery_id: int
    destination: str
    study_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    job_id: str | None
    state: DeliveryState
    in_words: str
    attempts: int
    not_before: datetime
    reason_code: str | None
    seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPage:
    """Deliveries, that which was ordered last first.

    Attributes
    ----------
    next
        Where the next page is; null behind the last one.
    """

    items: tuple[DeliveryResource, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOrder:
    """Which Deliveries are sent again.

    Attributes
    ----------
    destination
        Only to this one; null: to all.
    """

    destination: Annotated[str | None, Body(max_length=64, pattern=LINE)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DismissOrder:
    """To which Destination it is taken note of."""

    destination: Annotated[str, Body(max_length=64, pattern=LINE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DismissOfStudyOrder:
    """To which Destination it is taken note of.

    Attributes
    ----------
    destination
        Null: to all.
    """

    destination: Annotated[str | None, Body(max_length=64, pattern=LINE)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How many it was."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryQuery:
    """Which Deliveries are asked for."""

    destination: Annotated[str | None, Query(description="Only to this Destination.", max_length=64, pattern=LINE)] = (
        None
    )
    state: Annotated[DeliveryState | None, Query(description="Only in this state.")] = None
    study: Annotated[str | None, Query(description="Only of this Study.", max_length=64, pattern=UID)] = None

    def as_filter(self) -> DeliveryFilter:
        """Return the same for the ledger."""
        study = None if self.study is None else StudyUID(self.study)
        return DeliveryFilter(destination=self.destination, state=self.state, study=study)


def router(services: Services) -> APIRouter:
    """Return what programs ask of Deliveries, and order."""
    routes = new_router("deliveries")
    listings = Listings(services.engine)

    @routes.get("/deliveries", response_model=DeliveryPage, **told(Right.READ, 406, sheet=True))
    def list_deliveries(
        request: Request, reader: Reader, page: Page, query: Annotated[DeliveryQuery, Depends()]
    ) -> DeliveryPage | Response:
        """List Deliveries, that which was ordered last first."""
        asked = page.asked_for(int)
        read = partial(listings.deliveries, query.as_filter())
        if wants_sheet(request):
            taking = Taking(witnessing=services.witnessing, request=request, visitor=reader, name="deliveries")
            return sheet_response(COLUMNS, map(_cells, walk(read, asked, limit=page.limit)), taking)
        found = read(asked)
        services.witnessing.saw_each(request, reader, (delivery.study_instance_uid for delivery in found.rows))
        items = tuple(map(to_delivery_resource, found.rows))
        return DeliveryPage(items=items, next=page.point_to_next(found))

    _add_orders(routes, services)
    return routes


def _add_orders(routes: APIRouter, services: Services) -> None:
    ledger, now = DeliveryLedger(services.engine), services.clock

    @routes.post("/deliveries/retry", **told(Right.OPERATE))
    def retry_deliveries(operator: Operator, order: RetryOrder) -> Counted:
        """Make Deliveries due again that wait, were refused or lost."""
        destination, name = order.destination, operator.name
        return Counted(count=ledger.retry_deliveries(destination=destination, ordered_by=name, now=now()))

    @routes.post("/studies/{study_instance_uid}/deliveries/retry", **told(Right.OPERATE))
    def retry_deliveries_of_study(operator: Operator, study_instance_uid: StudyPath) -> Counted:
        """Make all Deliveries of one Study due again that wait, were refused or lost."""
        study, name = StudyUID(study_instance_uid), operator.name
        return Counted(count=ledger.retry_of_study(study, ordered_by=name, now=now()))

    @routes.post("/studies/{study_instance_uid}/deliveries/{delivery_id}/retry", **told(Right.OPERATE))
    def retry_delivery(
        operator: Operator,
        study_instance_uid: StudyPath,
        delivery_id: Annotated[int, Path(description="Number of the Delivery.", ge=0, le=MAX_SERIAL)],
    ) -> Counted:
        """Make one Delivery due again; none where it has arrived, or is not of this Study."""
        study, name = StudyUID(study_instance_uid), operator.name
        return Counted(count=ledger.retry_of_study(study, delivery_id=delivery_id, ordered_by=name, now=now()))

    @routes.post("/deliveries/dismiss", **told(Right.OPERATE))
    def dismiss_deliveries(operator: Operator, order: DismissOrder) -> Counted:
        """Take note that Deliveries stay refused, lost or unconfirmed; retention keeps their Studies no longer."""
        destination, name = order.destination, operator.name
        return Counted(count=ledger.dismiss_deliveries(destination=destination, study=None, ordered_by=name, now=now()))

    @routes.post("/studies/{study_instance_uid}/deliveries/dismiss", **told(Right.OPERATE))
    def dismiss_deliveries_of_study(
        operator: Operator, study_instance_uid: StudyPath, order: DismissOfStudyOrder
    ) -> Counted:
        """Take note that Deliveries of one Study stay refused, lost or unconfirmed; retention keeps it no longer."""
        study, destination = StudyUID(study_instance_uid), order.destination
        return Counted(
            count=ledger.dismiss_deliveries(destination=destination, study=study, ordered_by=operator.name, now=now())
        )


def to_delivery_resource(delivery: Delivery) -> DeliveryResource:
    """Return what is told of a Delivery."""
    kept = [name for name in DeliveryResource.__slots__ if name != "in_words"]
    return DeliveryResource(in_words=tell_delivery(delivery), **{name: getattr(delivery, name) for name in kept})


def _cells(delivery: Delivery) -> list[object]:
    known = {"state": delivery.state.value, "not_before": delivery.not_before.isoformat()}
    resource = to_delivery_resource(delivery)
    return [known[name] if name in known else getattr(resource, name) for name in COLUMNS]
