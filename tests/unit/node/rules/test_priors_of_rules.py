"""The table ``priors`` of a rule: what may be written, what is checked, and what a Study makes of it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from node.domain.decision import Outcome
from node.domain.prior import PriorState, PriorTerms
from node.domain.study import SeriesFacts, SoughtPriors, StudyFacts
from node.errors import RuleInvalid
from node.rules.evaluate import evaluate
from node.rules.explain import explain
from node.rules.grammar import parse_rules
from node.rules.priors import choose_prior, tell_prior
from node.rules.rule import Rule
from node.rules.scrutiny import Fault, scrutinize
from tests.shipped import Needs
from tests.studies import chest_ct_series, make_study

PIPELINES = {"growth": Needs("ct", optional_roles=("prior",)), "lung_nodules": Needs("ct")}
UNTIL = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WHO = {"PatientID": "CANARY", "PatientBirthDate": "19620331"}
NEVER_OF = "CANARY"


def make_rules(*tables: dict[str, Any]) -> tuple[Rule, ...]:
    basis = {"when": {"modality": "CT"}, "run": ["growth"]}
    named = [{"name": f"R{number}", **basis, **table} for number, table in enumerate(tables)]
    return parse_rules(named, pipelines=PIPELINES, destinations=("pacs",), peers=("pacs", "archive"))


def make_rule(**table: Any) -> Rule:
    (rule,) = make_rules({"priors": {"from": "pacs"}, **table})
    return rule


def test_what_is_written_is_what_is_wanted() -> None:
    written = {
        "from": "archive",
        "modality": ["ct", "PT"],
        "body_part": "CHEST",
        "newest": 2,
        "not_older_than": "18 months",
        "wait_seconds": 30,
    }
    rule = make_rule(priors=written)
    assert rule.priors is not None
    assert rule.priors.terms == PriorTerms(
        source="archive",
        modalities=("CT", "PT"),
        body_parts=("CHEST",),
        newest=2,
        max_age_days=548,
        wait_s=30.0,
    )
    assert PriorTerms.from_json(rule.priors.terms.as_json()) == rule.priors.terms
    assert make_rule().priors != rule.priors


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"priors": "pacs"}, "priors must be a table"),
        ({"priors": {}}, "priors.from is missing"),
        ({"priors": {"from": "pasc"}}, "priors.from: from 'pasc' nothing can be fetched; did you mean \"pacs\"?"),
        ({"priors": {"from": "pacs", "newset": 1}}, 'priors.newset is no key of priors; did you mean "newest"?'),
        ({"priors": {"from": "pacs", "newest": 0}}, "priors.newest is 0; write a whole number from 1 to 5"),
        ({"priors": {"from": "pacs", "newest": True}}, "priors.newest is True"),
        ({"priors": {"from": "pacs", "not_older_than": "5"}}, "priors.not_older_than is '5'; write"),
        ({"priors": {"from": "pacs", "wait_seconds": -1}}, "priors.wait_seconds is -1; write seconds"),
        ({"priors": {"from": "pacs", "modality": "<= 3"}}, "priors.modality: '<= 3' compares numbers"),
        ({"priors": {"from": "pacs"}, "run": ["lung_nodules"]}, r"its model.toml needs a table \[inputs.prior\]"),
        ({"inputs": {"ct": {"modality": "CT"}, "prior": {"modality": "CT"}}}, "inputs.prior belongs to priors"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_key(table: dict[str, Any], words: str) -> None:
    with pytest.raises(RuleInvalid, match=words):
        make_rules(table)


def test_what_is_said_in_vain_is_told() -> None:
    priors = {"from": "pacs", "modality": "MR"}
    impossible = make_rules({"priors": priors})
    assert [(one.fault, one.text) for one in scrutinize(impossible)] == [
        (Fault.IMPOSSIBLE, "priors: modality = MR and modality = CT never hold together")
    ]
    shadowed = make_rules({}, {"priors": {"from": "pacs"}})
    (remark,) = scrutinize(shadowed)
    assert remark.fault is Fault.SHADOWED
    assert "its own priors are never looked for" in remark.text
    assert not scrutinize(make_rules({"priors": {"from": "pacs"}}))


def sought(rule: Rule, state: PriorState, *studies: StudyFacts, **changes: Any) -> SoughtPriors:
    assert rule.priors is not None
    told: dict[str, Any] = {"is_late": False, "text": "", **changes}
    return SoughtPriors(terms=rule.priors.terms, state=state, until=UNTIL, studies=studies, **told)


def prior_study(*series: SeriesFacts, date: str = "20240301") -> StudyFacts:
    return make_study(*series, StudyDate=date)


def choose(rule: Rule, *found: SoughtPriors) -> tuple[str, str, dict[str, str]]:
    """Return the outcome of the role, what is said of it, and the inputs."""
    study = replace(make_study(chest_ct_series(2, **WHO)), priors=found)
    decision = evaluate(rule, study)
    told = tell_prior(decision, choose_prior(rule, study, decision))
    assert told.outcome is Outcome.MATCH
    assert told.reason == f"{decision.reason} {told.trace[-1].found}."
    assert any(line.endswith(f"input prior (found: {told.trace[-1].found})") for line in explain([told]))
    assert NEVER_OF not in f"{told}"
    return told.trace[-1].outcome.value, told.trace[-1].found, dict(told.inputs)


def test_explain_says_what_became_of_the_prior() -> None:
    rule = make_rule()
    here = prior_study(chest_ct_series(7, **WHO))
    assert choose(rule) == (
        "undetermined",
        "It waits for a prior from pacs, 60 s at most",
        {"ct": "1.2.3.2"},
    )
    assert choose(rule, sought(rule, PriorState.FETCHING))[:2] == (
        "undetermined",
        "It waits for a prior from pacs, until 03:04:05 UTC at most",
    )
    outcome, words, _ = choose(rule, sought(rule, PriorState.SOUGHT, is_late=True))
    assert (outcome, words.startswith("Without a prior: none came from pacs in 60 s")) == ("undetermined", True)
    assert choose(rule, sought(rule, PriorState.ABSENT, text="none found at pacs"))[:2] == (
        "no-match",
        "Without a prior: none found at pacs",
    )
    assert choose(rule, sought(rule, PriorState.HERE, here)) == (
        "match",
        "With the prior of 2024-03-01",
        {"ct": "1.2.3.2", "prior": "1.2.3.7"},
    )
    assert choose(rule, sought(rule, PriorState.HERE, here, is_late=True))[1].endswith(", which came late")
    # What was found is here no more.
    assert choose(rule, sought(rule, PriorState.HERE))[0] == "undetermined"


@pytest.mark.parametrize(
    ("whose", "words"),
    [
        ({"PatientBirthDate": "19620401"}, "its birth date differs"),
        ({"PatientID": "other"}, "its Patient ID differs"),
        ({"PatientID": None}, "it tells no Patient ID"),
        ({"IssuerOfPatientID": "elsewhere"}, "the Study tells no Issuer of Patient ID"),
    ],
)
def test_a_series_of_somebody_else_is_never_chosen(whose: dict[str, Any], words: str) -> None:
    rule = make_rule()
    stranger = prior_study(chest_ct_series(7, **{**WHO, **whose}))
    outcome, told, inputs = choose(rule, sought(rule, PriorState.HERE, stranger))
    assert (outcome, told, inputs) == (
        "no-match",
        f"Without a prior: the one of 2024-03-01 is not read: {words}",
        {"ct": "1.2.3.2"},
    )


def test_the_newest_with_a_series_that_fits_is_read() -> None:
    rule = make_rule(inputs={"ct": {"modality": "CT"}, "prior": {"kernel": "soft"}})
    newer = prior_study(chest_ct_series(7, ConvolutionKernel="bone", **WHO), date="20240601")
    older = prior_study(chest_ct_series(8, ConvolutionKernel="soft", **WHO))
    outcome, words, inputs = choose(rule, sought(rule, PriorState.HERE, newer, older))
    assert (outcome, words, inputs["prior"]) == ("match", "With the prior of 2024-03-01", "1.2.3.8")


def test_nobody_can_tell_a_prior_of_whom_nothing_is_told() -> None:
    rule, study = make_rule(), make_study(chest_ct_series(2))
    choice = choose_prior(rule, study, evaluate(rule, study))
    assert (choice.awaits, choice.words) == (
        None,
        "Without a prior: the Study tells no Patient ID, and nobody could tell whose it is.",
    )


def test_a_study_that_came_as_prior_matches_no_rule() -> None:
    study = replace(make_study(chest_ct_series(2, **WHO)), is_prior=True)
    decision = evaluate(make_rule(), study)
    assert (decision.outcome, decision.found) == (Outcome.NO_MATCH, "fetched as prior")
    assert ">>  no-match: a Study of its own (found: fetched as prior)" in explain([decision])
