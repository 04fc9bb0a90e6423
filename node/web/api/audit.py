"""The audit trail: read, and proven to be whole; that somebody looked is recorded."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query

from node.audit.events import audit_log_used
from node.audit.inspection import Proof, newest_records, prove_trail
from node.audit.record import Record
from node.ledger.pages import WINDOW, PageAsked, PageFound
from node.volumes import audit_folder
from node.web.api.conduct import LINE, Manager, new_router
from node.web.api.contract import told
from node.web.api.paging import Instant, Page, read_instant
from node.web.rights import Right
from node.web.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordResource:
    """One record of the trail.

    Attributes
    ----------
    sequence
        Counts from 1.
    message
        AuditMessage of PS3.15 A.5, XML; with the Patient ID.
    digest
        Kept elsewhere, it proves later that nothing before was changed or cut off.
    """

    sequence: int
    at: datetime
    kind: str
    outcome: str
    text: str
    source: str
    message: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPage:
    """Records, the last first.

    Attributes
    ----------
    next
        Where the next page is; null behind the last one. A page may be short, or empty, and have a next one.
    """

    items: tuple[RecordResource, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOrder:
    """What must be in the chain.

    Attributes
    ----------
    holds
        Digest of a record, kept elsewhere.
    """

    holds: Annotated[str | None, Body(pattern=r"^[0-9a-f]{64}$")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofResource:
    """Whether a record is missing, changed or in another place.

    Attributes
    ----------
    records
        Whole records up to the end, or to the first broken place.
    told_damages
        Unfinished lines of stopped writers that the record after them tells of.
    broken
        The first broken place in words.
    """

    is_whole: bool
    records: int
    first: int
    last: int
    last_digest: str
    told_damages: int
    unfinished_bytes: int
    broken: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordQuery:
    """Which records are asked for."""

    since: Instant = None
    kind: Annotated[
        str | None, Query(description="Only of this kind, such as association-refused.", max_length=64, pattern=LINE)
    ] = None


def router(services: Services) -> APIRouter:
    """Return what programs ask of the audit trail."""
    routes, folder = new_router("audit"), audit_folder(services.settings)

    @routes.get("/audit/records", **told(Right.MANAGE))
    def list_records(manager: Manager, page: Page, query: Annotated[RecordQuery, Depends()]) -> RecordPage:
        """List records, the last first; with the whole messages, Patient IDs included."""
        since = read_instant(query.since, name="since")
        asked = page.asked_for(int)
        found = _read_page(newest_records(folder), asked, since, query.kind)
        services.record(audit_log_used(folder.resolve().as_uri(), account=manager.name))
        items = tuple(map(_to_resource, found.rows))
        return RecordPage(items=items, next=page.point_to_next(found))

    @routes.post("/audit/verify", **told(Right.MANAGE))
    def verify_trail(manager: Manager, order: VerifyOrder) -> ProofResource:
        """Prove that no record is missing, changed or in another place; all of them are read."""
        proof = prove_trail(folder, holds=order.holds)
        services.record(audit_log_used(folder.resolve().as_uri(), account=manager.name))
        return ProofResource(is_whole=proof.is_whole, **{name: getattr(proof, name) for name in Proof.__slots__})

    return routes


def _read_page(
    records: Iterator[Record], asked: PageAsked, since: datetime | None, kind: str | None
) -> PageFound[Record]:
    """Return one page; of so many records at most it is asked whether they are wanted."""
    behind = None if asked.behind is None else asked.behind[0]
    told_before = (record for record in records if behind is None or record.sequence < behind)  # type: ignore[operator]  # a number in this listing
    found: list[Record] = []
    for number, record in enumerate(told_before, 1):
        if since is not None and record.at < since:
            return PageFound(rows=tuple(found))
        if kind in (None, record.kind):
            found.append(record)
        if len(found) == asked.limit or number == WINDOW:
            return PageFound(rows=tuple(found), rest=(record.sequence,) if record.sequence > 1 else None)
    return PageFound(rows=tuple(found))


def _to_resource(record: Record) -> RecordResource:
    return RecordResource(**{name: getattr(record, name) for name in RecordResource.__slots__})
