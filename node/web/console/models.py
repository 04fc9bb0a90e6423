"""Models: which version is on, how good it is, what radiologists say of it; and the switch of each Pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from markupsafe import Markup

from node.audit.orders import pipeline_switched
from node.domain.review import ModelVerdicts
from node.domain.switch import Mode, Switch
from node.errors import ModelInvalid, NotFound, RequestMalformed, WrongState
from node.ledger.flow import FlowLedger
from node.ledger.reviews import ReviewLedger
from node.ledger.switches import SwitchLedger
from node.models import ModelCard, find_model
from node.site import model_folders
from node.web.console.documents import read_document, to_html
from node.web.console.form import Form, posted
from node.web.console.page import Pages, go_to
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

Reader = Annotated[Visitor, Depends(authorize(Right.READ))]
PLACE = "/models"
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
MAX_REASON = 200
NO_VERDICT = "none yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineLine:
    """One Pipeline with its model.

    Attributes
    ----------
    card
        None where the model cannot be read; `fault` says why.
    fault
        Why model or weights are not as they should be; empty where they are.
    document
        What was measured, as HTML; None where this installation has no such document.
    in_hour, in_day, in_week
        Jobs that were answered in that time.
    """

    name: str
    mode: Mode
    switch: Switch | None
    card: ModelCard | None
    fault: str
    document: Markup | None
    in_hour: int
    in_day: int
    in_week: int
    verdicts: str


class Verifier:
    """Compares weights with their digest, again only when the file has changed."""

    def __init__(self) -> None:
        self._found: dict[tuple[Path, str], tuple[tuple[int, int], str]] = {}

    def fault_of(self, card: ModelCard) -> str:
        """Return why the weights are not the ones that the card names; empty where they are."""
        try:
            state = card.weights.stat()
        except OSError:
            return f"{card.weights} is absent; pull or copy the model again"
        stamp = (state.st_mtime_ns, state.st_size)
        key = (card.weights, card.weights_sha256)
        known = self._found.get(key)
        if known is None or known[0] != stamp:
            known = (stamp, _compare(card))
            self._found[key] = known
        return known[1]


class Catalogue:
    """Reads what the page says of Pipelines."""

    def __init__(self, services: Services) -> None:
        self._services = services
        engine = services.engine
        self._flow, self._reviews, self._switches = FlowLedger(engine), ReviewLedger(engine), SwitchLedger(engine)
        self._verifier = Verifier()

    def lines(self) -> list[PipelineLine]:
        """Return every Pipeline of the settings, in their order."""
        now = self._services.clock()
        answered = [self._flow.count_answers(now - span) for span in (HOUR, DAY, WEEK)]
        verdicts = {(one.pipeline, one.model, one.model_version): one for one in self._reviews.verdicts_by_model()}
        switches = self._switches.read_switches()
        lines = []
        for name in self._services.settings.pipelines:
            card, fault = self._read_card(name)
            in_hour, in_day, in_week = (counts.get(name, 0) for counts in answered)
            key = (name, "", "") if card is None else (name, card.name, card.version)
            lines.append(
                PipelineLine(
                    name=name,
                    mode=switches[name].mode if name in switches else Mode.ON,
                    switch=switches.get(name),
                    card=card,
                    fault=fault,
                    document=None if card is None else _document_of(card),
                    in_hour=in_hour,
                    in_day=in_day,
                    in_week=in_week,
                    verdicts=_tell_verdicts(verdicts.get(key)),
                )
            )
        return lines

    def _read_card(self, pipeline: str) -> tuple[ModelCard | None, str]:
        settings = self._services.settings
        try:
            card = find_model(settings.pipelines[pipeline].model, model_folders(settings))
        except ModelInvalid as exc:
            return None, str(exc)
        return card, self._verifier.fault_of(card)


def router(services: Services) -> APIRouter:
    """Return the page of models, the question before a switch, and the switch."""
    routes, pages, catalogue = APIRouter(), Pages(services), Catalogue(services)
    switches = SwitchLedger(services.engine)

    @routes.get(PLACE)
    def page(request: Request, visitor: Reader) -> Response:
        may_switch = Right.MANAGE in visitor.rights
        return pages.render(request, visitor, "models.html", lines=catalogue.lines(), may_switch=may_switch, modes=Mode)

    @routes.get(PLACE + "/{name}/switch")
    def ask(request: Request, name: str, visitor: Annotated[Visitor, Depends(authorize(Right.MANAGE))]) -> Response:
        wanted = _mode(request.query_params.get("mode", ""))
        line = next((one for one in catalogue.lines() if one.name == name), None)
        if line is None:
            raise NotFound(f"pipeline {name!r} is unknown; see {PLACE}")
        return pages.render(
            request, visitor, "switch.html", here=PLACE, line=line, wanted=wanted, max_reason=MAX_REASON
        )

    @routes.post(PLACE + "/{name}/switch")
    def switch(name: str, form: Annotated[Form, Depends(posted(Right.MANAGE))]) -> Response:
        if name not in services.settings.pipelines:
            raise NotFound(f"pipeline {name!r} is unknown; see {PLACE}")
        wanted = Switch(
            pipeline=name,
            mode=_mode(form.text("mode")),
            changed_by=form.visitor.name,
            changed_at=services.clock(),
            reason=" ".join(form.text("reason").split())[:MAX_REASON],
        )
        try:
            switches.switch_pipeline(wanted)
        except WrongState:
            return go_to(PLACE, say="pipeline-unchanged")
        services.record(pipeline_switched(wanted))
        return go_to(PLACE, say="pipeline-switched")

    return routes


def _mode(word: str) -> Mode:
    try:
        return Mode(word)
    except ValueError as exc:
        raise RequestMalformed("mode is on, shadow or off") from exc


def _compare(card: ModelCard) -> str:
    try:
        card.verify_weights()
    except ModelInvalid as exc:
        return str(exc)
    return ""


def _document_of(card: ModelCard) -> Markup | None:
    text = read_document(f"models/{card.name}.md")
    # Of another version it says nothing.
    is_of_version = text is not None and card.version in text.partition("\n")[0]
    return to_html(text) if text is not None and is_of_version else None


def _tell_verdicts(counts: ModelVerdicts | None) -> str:
    if counts is None:
        return NO_VERDICT
    told: Mapping[str, int] = {"accept": counts.accepted, "reject": counts.rejected, "correct": counts.corrected}
    return ", ".join(f"{count} {word}" for word, count in told.items())
