"""Pulls: Studies that are fetched from a PACS, ordered, listed, paused and resumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query, Request

from node.audit.orders import pull_ordered, pull_switched
from node.destinations import PullPeer, find_pull_peer, pull_peers
from node.domain.fetch import (
    MAX_VALUE,
    QUERY_KEYS,
    Fetch,
    FetchReason,
    FetchState,
    FoundStudy,
    PullSource,
    Retrieve,
)
from node.ledger.fetches import FetchFilter, FetchLedger
from node.pulls import PullWish, ask_peer, order_pull
from node.web.api.conduct import LINE, NamePath, Operator, Reader, new_router
from node.web.api.contract import told
from node.web.api.paging import MOST, Page
from node.web.rights import Right
from node.web.services import Services

# Keys that a query may have, and more than any has.
MAX_KEYS = 20
NAMES: dict[str, Any] = {"propertyNames": {"enum": list(QUERY_KEYS)}}

Name = Annotated[str, Body(min_length=1, max_length=64, pattern=LINE)]
Value = Annotated[str, Body(max_length=MAX_VALUE, pattern=LINE)]
OrderPath = Annotated[str, Path(description="Id of an order for Studies.", pattern=r"^[0-9a-f]{1,32}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOrder:
    """Which Studies are to be fetched.

    Attributes
    ----------
    source
        Name of a Destination or source of the settings.
    query
        Values by keyword, such as PatientID, StudyDate (a range has a hyphen), ModalitiesInStudy.
    limit
        How many Studies at most, the latest.
    dry_run
        Whether it is only told what there is.
    """

    source: Name
    query: Annotated[dict[str, Value], Body(min_length=1, max_length=MAX_KEYS, json_schema_extra=NAMES)]
    limit: Annotated[int, Body(ge=1, le=MOST)] = 100
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStudyResource:
    """A Study that a peer has.

    Attributes
    ----------
    series, instances
        How many the peer counts; null where it does not.
    """

    study_instance_uid: str
    study_date: str
    study_time: str
    modalities: tuple[str, ...]
    series: int | None
    instances: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledResource:
    """What a peer has of what was asked for.

    Attributes
    ----------
    order
        Under which its Studies are listed; null where nothing is fetched.
    left_out
        How many more match.
    """

    source: str
    order: str | None
    studies: tuple[FoundStudyResource, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PullResource:
    """One Study that is fetched, or was.

    Attributes
    ----------
    reason
        pull (somebody asked for it), poll (it is new there) or prior (a Job compares with it).
    on_behalf
        The order or the Job; empty for a poll.
    instances
        How many the peer has; null where it does not say it.
    done, held, failed
        How many came, were here before, and did not come.
    reason_code
        Why it waits, or did not come whole; see docs/errors.md.
    """

    pull_id: int
    source: str
    study_instance_uid: str
    reason: FetchReason
    on_behalf: str
    asked_by: str
    state: FetchState
    attempts: int
    instances: int | None
    done: int
    held: int
    failed: int
    asked_at: datetime
    changed_at: datetime
    not_before: datetime
    reason_code: str | None
    in_words: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PullPage:
    """Studies that are fetched or were, that which was ordered last first.

    Attributes
    ----------
    next
        Where the next page is; null behind the last one.
    """

    items: tuple[PullResource, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSourceResource:
    """From whom Studies can be fetched.

    Attributes
    ----------
    retrieve
        How: auto, move, get, or wado.
    is_open
        Whether it is a time at which something is fetched that no Job waits for.
    paused_at
        Since when nothing is begun; null where it is.
    polled_at
        When it was asked for new Studies last; null: never.
    waiting, under_way, fetched, not_fetched
        How many Studies.
    """

    name: str
    retrieve: Retrieve
    is_open: bool
    is_polled: bool
    paused_at: datetime | None
    paused_by: str
    reason: str
    polled_at: datetime | None
    waiting: int
    under_way: int
    fetched: int
    not_fetched: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSourceList:
    """All from whom Studies can be fetched."""

    items: tuple[PullSourceResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseOrder:
    """Why nothing is fetched for a time.

    Attributes
    ----------
    reason
        For whoever asks later; no patient's name.
    """

    reason: Annotated[str, Body(max_length=200, pattern=LINE)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanceledPulls:
    """How many Studies that waited or were under way are canceled."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PullQuery:
    """Which Studies are asked for."""

    source: Annotated[str | None, Query(description="Only from this one.", max_length=64, pattern=LINE)] = None
    state: Annotated[FetchState | None, Query(description="Only in this state.")] = None
    reason: Annotated[FetchReason | None, Query(description="Only for this reason.")] = None
    on_behalf: Annotated[
        str | None, Query(description="Only of this order, or for this Job.", max_length=64, pattern=LINE)
    ] = None

    def as_filter(self) -> FetchFilter:
        """Return the same for the ledger."""
        return FetchFilter(source=self.source, state=self.state, reason=self.reason, on_behalf=self.on_behalf)


def router(services: Services) -> APIRouter:
    """Return what programs ask of pulls, and order."""
    routes, queue = new_router("pulls"), FetchLedger(services.engine)

    @routes.get("/pulls", **told(Right.READ))
    def list_pulls(request: Request, reader: Reader, page: Page, query: Annotated[PullQuery, Depends()]) -> PullPage:
        """List Studies that are fetched or were, that which was ordered last first."""
        found = queue.list_fetches(query.as_filter(), page.asked_for(int))
        services.witnessing.saw_each(request, reader, (fetch.order.study_instance_uid for fetch in found.rows))
        return PullPage(items=tuple(map(_to_resource, found.rows)), next=page.point_to_next(found))

    @routes.post("/pulls", **told(Right.OPERATE, 404, 502))
    def order_pulls(operator: Operator, order: PullOrder) -> PulledResource:
        """Ask a PACS for Studies and fetch them; what is here already is not fetched again.

        The answer tells what the PACS has; its Studies are listed under `order` from then on.
        """
        wish = PullWish(source=order.source, query=order.query, limit=order.limit)
        answered = ask_peer(services.settings, wish)
        order_id = None
        if answered.studies and not order.dry_run:
            order_id = order_pull(queue, answered, asked_by=operator.name, now=services.clock())
            services.record(pull_ordered(answered.source, account=operator.name, studies=len(answered.studies)))
        studies = tuple(map(_to_found, answered.studies))
        return PulledResource(source=answered.source, order=order_id, studies=studies, left_out=answered.left_out)

    @routes.post("/pulls/{order}/cancel", **told(Right.OPERATE))
    def cancel_pulls(operator: Operator, order: OrderPath) -> CanceledPulls:
        """End an order; what came of it stays."""
        asked = FetchFilter(reason=FetchReason.PULL, on_behalf=order)
        return CanceledPulls(count=queue.cancel(asked, by=operator.name, now=services.clock()))

    _add_sources(routes, services, queue)
    return routes


def _add_sources(routes: APIRouter, services: Services, queue: FetchLedger) -> None:
    settings = services.settings

    def resource(name: str, peer: PullPeer) -> PullSourceResource:
        known = queue.read_sources().get(name, PullSource(name=name))
        counts = queue.count_states().get(name, {})
        return PullSourceResource(
            name=name,
            retrieve=Retrieve.WADO if peer.spec.transport == "stow" else peer.terms.retrieve,
            is_open=peer.terms.hours is None or peer.terms.hours.is_open(services.clock()),
            is_polled=peer.terms.poll is not None,
            paused_at=known.paused_at,
            paused_by=known.paused_by,
            reason=known.pause_reason,
            polled_at=known.polled_at,
            **_named(counts),
        )

    @routes.get("/pull-sources", **told(Right.READ))
    def list_pull_sources(_reader: Reader) -> PullSourceList:
        """List from whom Studies can be fetched, and how that stands."""
        return PullSourceList(items=tuple(resource(name, peer) for name, peer in pull_peers(settings).items()))

    @routes.post("/pull-sources/{name}/pause", **told(Right.OPERATE, 404, 409))
    def pause_pull_source(operator: Operator, name: NamePath, order: PauseOrder) -> PullSourceResource:
        """Begin no other Study of a source; that which is under way comes to its end."""
        peer = find_pull_peer(settings, name)
        queue.pause(peer.spec.name, by=operator.name, reason=order.reason, now=services.clock())
        services.record(pull_switched(peer.spec.name, account=operator.name, is_paused=True))
        return resource(peer.spec.name, peer)

    @routes.post("/pull-sources/{name}/resume", **told(Right.OPERATE, 404, 409))
    def resume_pull_source(operator: Operator, name: NamePath) -> PullSourceResource:
        """Fetch from a source again."""
        peer = find_pull_peer(settings, name)
        queue.resume(peer.spec.name)
        services.record(pull_switched(peer.spec.name, account=operator.name, is_paused=False))
        return resource(peer.spec.name, peer)


def _named(counts: Mapping[FetchState, int]) -> dict[str, int]:
    names = ("waiting", "under_way", "fetched", "not_fetched")
    return {name: counts.get(state, 0) for name, state in zip(names, FetchState, strict=True)}


def _to_found(study: FoundStudy) -> FoundStudyResource:
    return FoundStudyResource(**{name: getattr(study, name) for name in FoundStudyResource.__slots__})


def _to_resource(fetch: Fetch) -> PullResource:
    order, fetched = fetch.order, fetch.fetched
    kept = ("state", "attempts", "asked_at", "changed_at", "not_before", "reason_code")
    told_of = ("source", "study_instance_uid", "reason", "on_behalf", "asked_by")
    return PullResource(
        pull_id=fetch.fetch_id,
        instances=fetched.expected,
        in_words=fetch.reason_text,
        **{name: getattr(fetched, name) for name in ("done", "held", "failed")},
        **{name: getattr(order, name) for name in told_of},
        **{name: getattr(fetch, name) for name in kept},
    )
