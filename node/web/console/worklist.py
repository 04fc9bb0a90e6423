"""The worklist: which Study should be read next, and what the AI says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from node.domain.job import Priority
from node.domain.study import Attributes
from node.errors import RequestMalformed
from node.ledger.schema import EPOCH
from node.ledger.standings import Standing, StandingLedger
from node.ledger.worklist import Limits, Mark, Show, Tally, Wanted, WorklistLedger
from node.web.console.page import Pages
from node.web.console.telling import Chip, Saying, is_pending, seconds_to_result, tell_findings, tell_state
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services
from node.wording import patient_age, person_name, seconds_words, span

ROWS = 50
MAX_TYPED = 128
SHOWN = {
    Show.ALL: "All",
    Show.FINDINGS: "With findings",
    Show.PERSON: "Needs a person",
    Show.UNMATCHED: "No match",
}
PERIODS: Mapping[str, tuple[str, timedelta | None]] = {
    "24h": ("Last 24 h", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "all": ("All", None),
}
USUAL_PERIOD = "24h"
# As they stand in the URL; each is one choice.
MODALITIES: Mapping[str, tuple[str, ...]] = {
    "CT": ("CT",), "MR": ("MR",), "DX,CR": ("DX", "CR"), "MG": ("MG",), "US": ("US",), "PT": ("PT",), "NM": ("NM",),
    "XA,RF": ("XA", "RF"), "OT": ("OT",),
}  # fmt: skip
NAMES = {"DX,CR": "DX, CR", "XA,RF": "XA, RF", "OT": "Other"}
TYPED = ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the URL of the page says; empty is the usual."""

    show: str = Show.ALL
    modality: str = ""
    period: str = USUAL_PERIOD
    q: str = ""
    after: str = ""

    def url(self, **changes: str) -> str:
        """Return the URL of the page with these changes, on its first page; what is usual is left out."""
        changed = replace(self, **{"after": "", **changes})
        said = {name: getattr(changed, name) for name in ("show", "modality", "period", "q", "after")}
        usual = Asked()
        query = urlencode({name: value for name, value in said.items() if value != getattr(usual, name)})
        return f"/?{query}" if query else "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One Study, in words."""

    uid: str
    priority: str
    patient: str
    about: str
    modality: str
    description: str
    accession: str
    chip: Chip
    saying: Saying
    opened_at: datetime
    to_result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The rows of one Priority; `count` and `oldest` are empty where they are not counted."""

    priority: str
    rows: Sequence[Row]
    count: str
    oldest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One entry of a filter."""

    name: str
    url: str
    is_chosen: bool
    value: str = ""
    count: str = ""


def router(services: Services) -> APIRouter:
    """Return ``/``."""
    routes, pages = APIRouter(), Pages(services)
    shelf = _Shelf(ledger=WorklistLedger(services.engine), standings=StandingLedger(services.engine))
    node = services.settings.node

    @routes.get("/", response_class=HTMLResponse)
    def worklist(
        request: Request,
        visitor: Annotated[Visitor, Depends(authorize(Right.READ))],
        asked: Annotated[Asked, Depends(read_asked)],
    ) -> HTMLResponse:
        services.witnessing.searched(request, visitor, _keywords(asked))
        values = shelf.page(asked, now=services.clock())
        return pages.render(request, visitor, "worklist.html", asked=asked, aet=node.aet, port=node.port, **values)

    return routes


def read_asked(
    *,
    show: Annotated[str, Query(max_length=16)] = Show.ALL,
    modality: Annotated[str, Query(max_length=16)] = "",
    period: Annotated[str, Query(max_length=8)] = USUAL_PERIOD,
    q: Annotated[str, Query(max_length=MAX_TYPED)] = "",
    after: Annotated[str, Query(max_length=64)] = "",
) -> Asked:
    """Return what the URL asks for.

    Raises
    ------
    RequestMalformed
        If it is nothing that a page of ours asks for.
    """
    if show not in set(Show) or modality not in {"", *MODALITIES} or period not in PERIODS:
        raise RequestMalformed("the worklist has no such filter; choose one on the page")
    return Asked(show=show, modality=modality, period=period, q=q.strip(), after=after)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shelf:
    """Where pages come from."""

    ledger: WorklistLedger
    standings: StandingLedger

    def page(self, asked: Asked, *, now: datetime) -> Mapping[str, Any]:
        """Return what the template is made of."""
        length = PERIODS[asked.period][1]
        wanted = Wanted(
            show=Show(asked.show),
            modalities=MODALITIES.get(asked.modality, ()),
            since=None if length is None else now - length,
            words=asked.q,
        )
        sheet = self.ledger.read_sheet(wanted, after=_read_mark(asked.after), limit=ROWS)
        listing, standings = sheet.listing, self.standings.describe(sheet.listing.places)
        return {
            "groups": _groups(standings, sheet.tallies, now),
            "filters": _filters(asked, sheet.counts),
            "modalities": _modalities(asked),
            "periods": _periods(asked),
            "older": asked.url(after=write_mark(listing.places[-1].mark)) if listing.has_more else "",
            "newest": asked.url() if asked.after else "",
            "shown": len(standings),
            "is_bounded": listing.is_bounded,
            "is_blank": not standings and self.ledger.is_blank(),
            "everything": asked.url(show=Show.ALL, modality="", q="", period="all"),
            "period": PERIODS[asked.period][0].lower(),
            "now": now,
        }


def _groups(standings: Sequence[Standing], tallies: Mapping[Priority, Tally], now: datetime) -> Sequence[Group]:
    found: dict[Priority, list[Row]] = {}
    for standing in standings:
        found.setdefault(Priority(standing.place.mark.priority), []).append(_to_row(standing))
    return [
        Group(
            priority=priority.word,
            rows=rows,
            count=_count(tallies[priority].count) if priority in tallies else "",
            oldest=_since(tallies[priority].oldest_pending_at, now) if priority in tallies else "",
        )
        for priority, rows in found.items()
    ]


def _filters(asked: Asked, counts: Mapping[Show, int]) -> Sequence[Choice]:
    return [
        Choice(
            name=name,
            url=asked.url(show=show),
            is_chosen=asked.show == show,
            count=_count(counts[show]) if show in counts else "",
        )
        for show, name in SHOWN.items()
    ]


def _keywords(asked: Asked) -> Sequence[str]:
    """Return by what was searched, for the audit trail."""
    return (*(TYPED if asked.q else ()), *(("ModalitiesInStudy",) if asked.modality else ()))


def _modalities(asked: Asked) -> Sequence[Choice]:
    found = [Choice(name="Any modality", url=asked.url(modality=""), is_chosen=not asked.modality)]
    for value in MODALITIES:
        name = NAMES.get(value, value)
        found.append(Choice(name=name, url=asked.url(modality=value), is_chosen=asked.modality == value, value=value))
    return found


def _periods(asked: Asked) -> Sequence[Choice]:
    return [
        Choice(name=name, url=asked.url(period=value), is_chosen=asked.period == value, value=value)
        for value, (name, _) in PERIODS.items()
    ]


def _to_row(standing: Standing) -> Row:
    attributes, took_s = standing.attributes, seconds_to_result(standing)
    pending = is_pending(standing)
    return Row(
        uid=standing.place.study_instance_uid,
        priority=Priority(standing.place.mark.priority).word,
        patient=person_name(_text(attributes, "PatientName")),
        about=" · ".join(part for part in (_text(attributes, "PatientID"), _age_and_sex(attributes)) if part),
        modality=" ".join(standing.place.modalities),
        description=_text(attributes, "StudyDescription") or _text(attributes, "RequestedProcedureDescription"),
        accession=_text(attributes, "AccessionNumber"),
        chip=tell_state(standing),
        saying=tell_findings(standing),
        opened_at=standing.opened_at,
        to_result="pending" if pending else "none" if took_s is None else seconds_words(took_s),
    )


def _age_and_sex(attributes: Attributes) -> str:
    """Return ``68 y F``."""
    dates = {"birth": _text(attributes, "PatientBirthDate"), "study": _text(attributes, "StudyDate")}
    sex = _text(attributes, "PatientSex")
    said = patient_age(_text(attributes, "PatientAge"), **dates)
    return " ".join(part for part in (said, sex if sex in ("F", "M", "O") else "") if part)


def _text(attributes: Attributes, keyword: str) -> str:
    found = attributes.get(keyword, "")
    return ", ".join(map(str, found)) if isinstance(found, list) else str(found)


def _count(number: int) -> str:
    counted = Limits().counted
    return f"{counted}+" if number > counted else str(number)


def _since(moment: datetime | None, now: datetime) -> str:
    return "" if moment is None else span(max(0.0, (now - moment).total_seconds()))


def write_mark(mark: Mark) -> str:
    """Return a place in the list as it stands in the URL of the page behind it."""
    return f"{mark.priority}.{(mark.opened_at - EPOCH) // timedelta(microseconds=1)}.{mark.place_id}"


def _read_mark(text: str) -> Mark | None:
    """Return the place behind which the page begins; None: the beginning."""
    if not text:
        return None
    try:
        priority, opened, place = (int(part) for part in text.split("."))
        return Mark(priority=priority, opened_at=EPOCH + timedelta(microseconds=opened), place_id=place)
    except (ValueError, OverflowError) as exc:
        raise RequestMalformed("the worklist has no such page; begin with its first one") from exc
