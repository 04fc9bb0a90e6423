"""Rules: what each runs, how often it matched, why a Study was (not) processed, and what an edit would change."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from node.domain.uids import StudyUID, check_uid
from node.errors import BadIdentifier, Misconfigured, NotFound
from node.ledger.history import HistoryLedger, RuleCount
from node.ledger.views import StudyStory
from node.rules.rule import Rule
from node.rules.writing import write_rules
from node.site import find_models, read_rules
from node.trial import Limits, Trial, try_edit
from node.web.console.form import Form, posted
from node.web.console.page import Pages
from node.web.console.why import Why, explain
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

Reader = Annotated[Visitor, Depends(authorize(Right.READ))]
PLACE = "/rules"
DAY = timedelta(days=1)
# The word of the form to how far back an edit is tried.
SPANS: Mapping[str, timedelta] = {"1d": DAY, "7d": 7 * DAY}
LIMITS = Limits()
SHOWN = 100
CONTEXT_LINES = 3
NO_COUNT = RuleCount()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleLine:
    """One rule in the list."""

    number: int
    rule: Rule
    does: str
    day: RuleCount
    week: RuleCount


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffLine:
    """One line of a difference; `sign` is ``+``, ``-`` or a space."""

    sign: str
    text: str


class Clerk:
    """Reads what the page says of the rules."""

    def __init__(self, services: Services, limits: Limits) -> None:
        self._services, self._limits = services, limits
        self._history = HistoryLedger(services.engine)
        self._trying = Lock()

    def describe(self) -> dict[str, Any]:
        """Return the values of the template that are there in any case."""
        now = self._services.clock()
        day, week = (self._history.count_decisions(now - span) for span in (SPANS["1d"], SPANS["7d"]))
        rules, fault = self._read_rules()
        lines = [
            RuleLine(
                number=number,
                rule=rule,
                does=_tell_what(rule),
                day=day.get(rule.name, NO_COUNT),
                week=week.get(rule.name, NO_COUNT),
            )
            for number, rule in enumerate(rules, start=1)
        ]
        text = write_rules(self._services.settings.rules)
        return {
            "lines": lines,
            "fault": fault,
            "origin": self._services.settings.origins.get("rules", "the shipped defaults"),
            "asked": "",
            "unknown": "",
            "story": None,
            "whys": (),
            "text": text,
            "span": "7d",
            "spans": tuple(SPANS),
            "trial": None,
            "edit_fault": "",
            "diff": (),
            "shown": SHOWN,
            "limits": self._limits,
        }

    def explain(self, asked: str) -> dict[str, Any]:
        """Return the values that tell why a Study was, or was not, processed."""
        try:
            uid = StudyUID(check_uid(asked.strip(), keyword="StudyInstanceUID"))
            story: StudyStory = self._services.view.study_story(uid)
        except (BadIdentifier, NotFound) as exc:
            return {"asked": asked, "unknown": str(exc)}
        rules, _ = self._read_rules()
        texts = {rule.name: [part.text for part in rule.when.parts] for rule in rules}
        whys: Sequence[Why] = explain(story.decisions, lambda name: texts.get(name, ()))
        return {"asked": asked, "story": story, "whys": whys}

    def try_out(self, text: str, word: str) -> dict[str, Any]:
        """Return the values that tell what an edit would change; one trial at a time."""
        settings, now = self._services.settings, self._services.clock()
        span = word if word in SPANS else "7d"
        # A browser sends CRLF.
        edited = "\n".join(text.splitlines())
        values = {"text": edited, "span": span, "diff": diff_of(write_rules(settings.rules), edited)}
        if not self._trying.acquire(blocking=False):
            return {**values, "edit_fault": "Another edit is tried at this moment; send it again when that is done."}
        try:
            trial: Trial = try_edit(edited, settings, since=now - SPANS[span], limits=self._limits)
        except Misconfigured as exc:
            return {**values, "edit_fault": str(exc)}
        finally:
            self._trying.release()
        return {**values, "trial": trial}

    def _read_rules(self) -> tuple[Sequence[Rule], str]:
        settings = self._services.settings
        try:
            return read_rules(settings, find_models(settings)), ""
        except Misconfigured as exc:
            return (), str(exc)


def router(services: Services, *, limits: Limits = LIMITS) -> APIRouter:
    """Return the page of rules, and the trial of an edit."""
    routes, pages, clerk = APIRouter(), Pages(services), Clerk(services, limits)

    def show(request: Request, visitor: Visitor, values: Mapping[str, Any]) -> Response:
        can_try = Right.OPERATE in visitor.rights
        return pages.render(request, visitor, "rules.html", can_try=can_try, **{**clerk.describe(), **values})

    @routes.get(PLACE)
    def page(request: Request, visitor: Reader, study: str = "") -> Response:
        values = clerk.explain(study) if study.strip() else {}
        if values.get("story") is not None:
            services.witnessing.saw(request, visitor, study.strip())
        return show(request, visitor, values)

    @routes.post(PLACE)
    def try_out(request: Request, form: Annotated[Form, Depends(posted(Right.OPERATE))]) -> Response:
        return show(request, form.visitor, clerk.try_out(form.text("rules"), form.text("span")))

    return routes


def diff_of(installed: str, edited: str) -> tuple[DiffLine, ...]:
    """Return the lines that differ, with some around them; nothing where none does."""
    lines = difflib.unified_diff(installed.splitlines(), edited.splitlines(), n=CONTEXT_LINES, lineterm="")
    # The first two name the files, of which there are none.
    return tuple(_diff_line(line) for line in list(lines)[2:])


def _diff_line(line: str) -> DiffLine:
    return DiffLine(sign=" ", text="…") if line.startswith("@@") else DiffLine(sign=line[:1], text=line[1:])


def _tell_what(rule: Rule) -> str:
    told = []
    if rule.needs:
        told.append(f"runs {', '.join(need.pipeline for need in rule.needs)}, priority {rule.priority.word}")
    if rule.forward:
        told.append(f"forwards to {', '.join(rule.forward)}")
    return "; ".join(told)
