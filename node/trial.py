"""An edit of the rules, tried on the Studies of the ledger before it is installed; nothing is stored.

It is tried by a process of its own, which its time limit ends whatever it does.
"""

import copyreg
import math
import os
import pickle
import resource
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from types import MappingProxyType
from typing import Any

from node.domain.study import StudyFacts
from node.domain.switch import Mode
from node.domain.uids import StudyUID
from node.errors import NotFound, PipelineUnknown, RuleInvalid
from node.ledger.engine import Engine, open_engine
from node.ledger.history import HistoryLedger
from node.ledger.studies import StudyLedger
from node.ledger.switches import SwitchLedger
from node.routing import heed_switches, route_study, tell_faults
from node.rules.dry_run import DryRun, Wish, dry_run, wish_of
from node.rules.rule import Rule
from node.rules.writing import find_line, write_rules
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.site import ModelSurvey, find_models, read_rules, read_tables, survey_models

MAX_TEXT = 200_000
# Sections of settings that rules speak of; those of one group name each other.
GROUPS = (("node",), ("models",), ("pipelines",), ("destinations", "sources", "worklist"))
# As a module that is run, it would be another one than that in which the answer is read.
ENTRY = "from node.trial import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a trial may take.

    Attributes
    ----------
    studies
        The newest so many are asked.
    seconds
        After so long no further Study is asked.
    around_s
        So much longer the trial may take, to begin and to end on a busy machine, before it is ended by force.
    """

    studies: int = 500
    seconds: float = 10.0
    around_s: float = 20.0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edit:
    """Rules as text, and the settings whose Destinations and Pipelines they name."""

    settings: Settings
    text: str


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
        raise _place(exc, text) from exc


def try_settings(edited: Settings, settings: Settings, *, text: str, since: datetime, limits: Limits) -> Trial:
    """Return what the rules of other settings, with their Destinations and Pipelines, would have done otherwise.

    Parameters
    ----------
    edited
        Of what it says nothing, it has from `settings`: a file may hold the rules alone.
    text
        The file of `edited`; a rule that cannot be evaluated is told with its line there.

    Raises
    ------
    RuleInvalid, PipelineUnknown
        As `try_edit`.
    """
    edited = _complete(edited, settings)
    try:
        read_rules(edited, find_models(edited))
    except (RuleInvalid, PipelineUnknown) as exc:
        raise _place(exc, text) from exc
    return _try_beside(write_rules(edited.rules), edited, settings, since=since, limits=limits)


def try_edit(text: str, settings: Settings, *, since: datetime, limits: Limits) -> Trial:
    """Return what the rules of `text` would have done otherwise with the Studies that changed after `since`.

    Pipelines count as they are switched now; one that is off, or has no model, starts on nothing.

    Raises
    ------
    RuleInvalid, PipelineUnknown
        If these rules, or those of the settings, cannot be evaluated, or take without end.
    """
    read_edit(text, settings)
    return _try_beside(text, settings, settings, since=since, limits=limits)


def _complete(edited: Settings, settings: Settings) -> Settings:
    """Return `edited` with the sections of `settings` of which it says nothing, and of which rules speak."""
    said = {key.partition(".")[0] for key in edited.origins}
    absent = [name for group in GROUPS if said.isdisjoint(group) for name in group]
    return edited.model_copy(update={name: getattr(settings, name) for name in absent})


def _place(exc: RuleInvalid | PipelineUnknown, text: str) -> RuleInvalid:
    """Return the error with the line of `text` of which it speaks."""
    line = find_line(text, str(exc))
    return RuleInvalid(str(exc) if line is None else f"line {line}: {exc}")


def _try_beside(text: str, edited: Settings, settings: Settings, *, since: datetime, limits: Limits) -> Trial:
    """Return what a process of its own finds, with the rules of `text` among the settings `edited`."""
    read_rules(settings, find_models(settings))
    environment = {**os.environ, **settings.as_environment()}
    try:
        done = subprocess.run(
            [sys.executable, "-c", ENTRY],
            input=pickle.dumps((text, edited.as_environment(), since, limits)),
            stdout=subprocess.PIPE,
            # What Python says of a fault may quote values of a patient.
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=limits.seconds + limits.around_s,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as exc:
        raise RuleInvalid(
            f"the trial was ended: it died, or took far more than {limits.seconds:g} s; try fewer rules at a time, or "
            "again when the node has less to do"
        ) from exc
    trial: Trial = pickle.loads(done.stdout)  # noqa: S301 written by a process of our own
    return trial


def main() -> None:
    """Try the edit that standard input tells of, and write what was found to standard output."""
    text, environment, since, limits = pickle.load(sys.stdin.buffer)  # noqa: S301 written by a process of our own
    # Whoever asked may be gone, and ends it no more.
    seconds = math.ceil(limits.seconds + limits.around_s)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    # A Decision holds mappings that nobody may change; the answer is a copy.
    copyreg.pickle(MappingProxyType, _copy)
    settings, edited = load_settings(), load_settings(None, environment)
    engine = open_engine(settings.ledger_url, busy_timeout_s=settings.ledger.busy_timeout_s)
    trial = _try_rules(engine, settings, _Edit(settings=edited, text=text), since=since, limits=limits)
    pickle.dump(trial, sys.stdout.buffer)
    engine.dispose()


def _copy(mapping: "MappingProxyType[Any, Any]") -> tuple[type, tuple[dict[Any, Any]]]:
    return dict, (dict(mapping),)


def _try_rules(engine: Engine, settings: Settings, edit: _Edit, *, since: datetime, limits: Limits) -> Trial:
    history, until = HistoryLedger(engine), monotonic() + limits.seconds
    survey, modes = survey_models(settings), SwitchLedger(engine).read_modes()
    edited = read_edit(edit.text, edit.settings)
    uids = history.recent_studies(since, limit=limits.studies)
    found = dry_run(
        _read_studies(StudyLedger(engine), uids),
        current=_asking(read_rules(settings, survey.models), survey, modes),
        edited=_asking(edited, survey_models(edit.settings), modes),
        is_time_up=lambda: monotonic() >= until,
    )
    return Trial(found=found, studies=history.count_studies(since))


def _asking(rules: Sequence[Rule], survey: ModelSurvey, modes: Mapping[str, Mode]) -> Callable[[StudyFacts], Wish]:
    """Return what tells what routing would do with a Study."""

    def ask(study: StudyFacts) -> Wish:
        routed = tell_faults(route_study(study, rules, survey.models), rules, survey.faults)
        return wish_of(*heed_switches(routed, rules, modes))

    return ask


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
