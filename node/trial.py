"""An edit of the rules, tried on the Studies of the ledger before it is installed; nothing is stored."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

from node.domain.study import StudyFacts
from node.domain.uids import StudyUID
from node.errors import NotFound, PipelineUnknown, RuleInvalid
from node.ledger.engine import Engine
from node.ledger.history import HistoryLedger
from node.ledger.studies import StudyLedger
from node.rules.dry_run import DryRun, dry_run
from node.rules.rule import Rule
from node.rules.writing import find_line
from node.settings import Settings
from node.site import find_models, read_rules, read_tables

MAX_TEXT = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a trial may take.

    Attributes
    ----------
    studies
        The newest so many are asked.
    seconds
        After so long no further Study is asked.
    """

    studies: int = 500
    seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of it.

    Attributes
    ----------
    studies
        How many there are in the span of time, whether or not they were asked.
    """

    found: DryRun
    studies: int


def read_edit(text: str, settings: Settings) -> tuple[Rule, ...]:
    """Return the rules that `text` holds as ``[[rules]]``, checked as at start-up.

    Raises
    ------
    RuleInvalid
        If it is no TOML, holds anything else, or a rule that cannot be evaluated; with the line where that is known.
    """
    if len(text) > MAX_TEXT:
        raise RuleInvalid(f"the text is longer than {MAX_TEXT} characters; give the rules only")
    try:
        return read_tables(settings, find_models(settings), _read_tables(text))
    except (RuleInvalid, PipelineUnknown) as exc:
        line = find_line(text, str(exc))
        raise RuleInvalid(str(exc) if line is None else f"line {line}: {exc}") from exc


def try_edit(engine: Engine, settings: Settings, edited: tuple[Rule, ...], *, since: datetime, limits: Limits) -> Trial:
    """Return what `edited` rules would have done otherwise with the Studies that changed after `since`.

    Raises
    ------
    RuleInvalid, PipelineUnknown
        If the rules of the settings cannot be evaluated themselves.
    """
    history, until = HistoryLedger(engine), monotonic() + limits.seconds
    uids = history.recent_studies(since, limit=limits.studies)
    found = dry_run(
        _read_studies(StudyLedger(engine), uids),
        current=read_rules(settings, find_models(settings)),
        edited=edited,
        is_time_up=lambda: monotonic() >= until,
    )
    return Trial(found=found, studies=history.count_studies(since))


def _read_studies(ledger: StudyLedger, uids: tuple[StudyUID, ...]) -> Iterator[StudyFacts]:
    for uid in uids:
        try:
            yield ledger.study_facts(uid)
        except NotFound:
            # It was purged since the list was made.
            continue


def _read_tables(text: str) -> Sequence[Mapping[str, Any]]:
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise RuleInvalid(f"this is no TOML: {exc}") from exc
    others = [key for key in table if key != "rules"]
    if others:
        raise RuleInvalid(f"{others[0]} is no rule; only [[rules]] are tried here")
    tables = table.get("rules", [])
    if not isinstance(tables, list):
        raise RuleInvalid("rules must be written as [[rules]]")
    return tables
