"""The audit trail for people who manage the node; that they looked is recorded itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from threading import Lock
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from node.audit.events import audit_log_used
from node.audit.inspection import Proof, newest_records, prove_trail
from node.audit.record import Record
from node.volumes import audit_folder
from node.web.console.form import Form, posted
from node.web.console.page import Pages, go_to
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

Manager = Annotated[Visitor, Depends(authorize(Right.MANAGE))]
PLACE = "/audit"
SPANS = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30), "all": None}
ON_A_PAGE = 50
# So many are looked at for one page; whoever filters an old trail goes on from there.
LOOKED_AT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which records are shown.

    Attributes
    ----------
    kind
        Only of this kind; empty: of each.
    since
        Only from then on (UTC); None: all.
    before
        Only those with a smaller sequence number; 0: from the newest on.
    """

    kind: str = ""
    since: datetime | None = None
    before: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One page of records, newest first.

    Attributes
    ----------
    older
        `Wanted.before` of the next page; 0 where there is none.
    """

    records: tuple[Record, ...]
    older: int


def read_sheet(records: Iterable[Record], wanted: Wanted) -> Sheet:
    """Return the first page of what is wanted of `records`, which come newest first."""
    found: list[Record] = []
    last = 0
    behind = (record for record in records if not wanted.before or record.sequence < wanted.before)
    for record in islice(behind, LOOKED_AT):
        if wanted.since is not None and record.at < wanted.since:
            return Sheet(records=tuple(found), older=0)
        if len(found) == ON_A_PAGE:
            return Sheet(records=tuple(found), older=found[-1].sequence)
        last = record.sequence
        if wanted.kind in ("", record.kind):
            found.append(record)
    # The first record of all has number 1; anything above it means that not all was looked at.
    return Sheet(records=tuple(found), older=last if last > 1 and next(iter(behind), None) is not None else 0)


def router(services: Services) -> APIRouter:
    """Return the page of the trail, and its proof."""
    routes, pages, folder = APIRouter(), Pages(services), audit_folder(services.settings)
    proofs: list[tuple[datetime, Proof]] = []
    proving = Lock()

    @routes.get(PLACE)
    def page(request: Request, visitor: Manager, kind: str = "", since: str = "all", before: int = 0) -> Response:
        span = SPANS.get(since)
        wanted = Wanted(
            kind=kind.strip(), since=None if span is None else services.clock() - span, before=max(0, before)
        )
        sheet = read_sheet(newest_records(folder), wanted)
        if folder.is_dir():
            services.record(audit_log_used(folder.resolve().as_uri(), account=visitor.name))
        kinds = sorted({record.kind for record in sheet.records} | ({wanted.kind} if wanted.kind else set()))
        return pages.render(
            request, visitor, "audit.html", sheet=sheet, wanted=wanted, since=since if since in SPANS else "all",
            spans=tuple(SPANS), kinds=kinds, proof=proofs[-1] if proofs else None, folder=str(folder),
        )  # fmt: skip

    @routes.post(f"{PLACE}/verify")
    def verify(form: Annotated[Form, Depends(posted(Right.MANAGE))]) -> Response:
        # One at a time, and nobody waits for another: it reads all that there is.
        if not proving.acquire(blocking=False):
            return go_to(PLACE, say="trail-under-proof")
        try:
            proofs[:] = [(services.clock(), prove_trail(folder))]
        finally:
            proving.release()
        if folder.is_dir():
            services.record(audit_log_used(folder.resolve().as_uri(), account=form.visitor.name))
        return go_to(PLACE, say="trail-proven")

    return routes
