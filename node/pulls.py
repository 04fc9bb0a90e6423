"""What a person or program asks to be fetched: the peer is asked at once, and what it has is put into the queue."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from node.destinations import find_pull_peer
from node.domain.fetch import FetchOrder, FetchReason, FoundStudy, check_query
from node.ledger.fetches import FetchLedger
from node.pulling.search import open_search
from node.settings.whole import Settings

# Of its identifier, which people type.
ORDER_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PullWish:
    """What is asked for.

    Attributes
    ----------
    source
        Name of a Destination or source.
    query
        Values by keyword.
    limit
        How many Studies at most, the latest.
    """

    source: str
    query: Mapping[str, str]
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a peer has of it.

    Attributes
    ----------
    source
        Name of the peer, as the queue has it.
    studies
        The latest first.
    left_out
        How many more match.
    """

    source: str
    studies: tuple[FoundStudy, ...]
    left_out: int


def ask_peer(settings: Settings, wish: PullWish) -> Answered:
    """Return what a peer has.

    Raises
    ------
    NotFound
        If nothing can be fetched from anybody of that name.
    QueryRefused
        If it cannot be asked so.
    DestinationDown, DestinationBusy, Misconfigured
        If it does not answer.
    """
    spec = find_pull_peer(settings, wish.source).spec
    query = check_query(wish.query)
    with open_search(spec) as search:
        found = search.find_studies(query)
    latest = sorted(found, key=lambda study: (study.study_date, study.study_time), reverse=True)
    return Answered(source=spec.name, studies=tuple(latest[: wish.limit]), left_out=max(0, len(latest) - wish.limit))


def order_pull(queue: FetchLedger, answered: Answered, *, asked_by: str, now: datetime) -> str:
    """Return the identifier of an order for these Studies, after it was committed."""
    order_id = uuid4().hex[:ORDER_DIGITS]
    orders = [
        FetchOrder(
            source=answered.source,
            study_instance_uid=study.study_instance_uid,
            reason=FetchReason.PULL,
            on_behalf=order_id,
            instances=study.instances,
            asked_by=asked_by,
        )
        for study in answered.studies
    ]
    queue.enqueue(orders, now=now)
    return order_id
