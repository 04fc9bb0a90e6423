"""What happened, and what is wrong now."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from node.domain.alarm import Alarm, AlarmKind
from node.domain.uids import StudyUID
from node.ledger.alarms import AlarmLedger
from node.ledger.listings import Event, EventFilter, Listings
from node.web.api.conduct import LINE, UID, Reader, new_router
from node.web.api.contract import told
from node.web.api.paging import Page
from node.web.rights import Right
from node.web.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class EventResource:
    """One line of a time line.

    Attributes
    ----------
    kind
        Stable, kebab-case.
    text
        One sentence for people; no patient values.
    is_alarm
        Whether a person must act.
    """

    at: datetime
    kind: str
    text: str
    study_instance_uid: str | None
    job_id: str | None
    is_alarm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events, the last first.

    Attributes
    ----------
    next
        Where the next page is; null behind the last one.
    """

    items: tuple[EventResource, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmResource:
    """Something that a person must know of.

    Attributes
    ----------
    subject
        What it is about: an AE title, the name of a Pipeline or Destination.
    seen_at
        When it was last confirmed.
    healed_at
        When it was well again; null while it stands.
    """

    alarm_id: int
    kind: AlarmKind
    subject: str
    text: str
    raised_at: datetime
    seen_at: datetime
    healed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmPage:
    """Alarms, that which was raised last first.

    Attributes
    ----------
    next
        Where the next page is; null behind the last one.
    """

    items: tuple[AlarmResource, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingAlarms:
    """What is wrong now, the oldest first."""

    items: tuple[AlarmResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which Events are asked for."""

    kind: Annotated[str | None, Query(description="Only of this kind.", max_length=64, pattern=LINE)] = None
    study: Annotated[str | None, Query(description="Only of this Study.", max_length=64, pattern=UID)] = None
    only_alarms: Annotated[bool, Query(description="Only those on which a person must act.")] = False


def router(services: Services) -> APIRouter:
    """Return what programs ask of Events and alarms."""
    routes = new_router("events")
    listings, alarms = Listings(services.engine), AlarmLedger(services.engine)

    @routes.get("/events", **told(Right.READ))
    def list_events(request: Request, reader: Reader, page: Page, query: Annotated[EventQuery, Depends()]) -> EventPage:
        """List what happened, the last first; also what was refused before there was a Study to show it in."""
        study = None if query.study is None else StudyUID(query.study)
        wanted = EventFilter(kind=query.kind, study=study, only_alarms=query.only_alarms)
        found = listings.events(wanted, page.asked_for(int))
        if study is None:
            services.witnessing.searched(request, reader, ())
        else:
            services.witnessing.saw_each(request, reader, {study} if found.rows else ())
        items = tuple(map(to_event_resource, found.rows))
        return EventPage(items=items, next=page.point_to_next(found))

    @routes.get("/alarms", **told(Right.READ))
    def list_alarms(_reader: Reader, page: Page) -> AlarmPage:
        """List alarms, those that are well again, too."""
        found = alarms.page_alarms(page.asked_for(int))
        items = tuple(map(_to_alarm_resource, found.rows))
        return AlarmPage(items=items, next=page.point_to_next(found))

    @routes.get("/alarms/standing", **told(Right.READ))
    def list_standing_alarms(_reader: Reader) -> StandingAlarms:
        """List what is wrong now."""
        return StandingAlarms(items=tuple(map(_to_alarm_resource, alarms.standing_alarms())))

    return routes


def to_event_resource(event: Event) -> EventResource:
    """Return what is told of an Event."""
    return EventResource(**{name: getattr(event, name) for name in EventResource.__slots__})


def _to_alarm_resource(alarm: Alarm) -> AlarmResource:
    return AlarmResource(**{name: getattr(alarm, name) for name in AlarmResource.__slots__})
