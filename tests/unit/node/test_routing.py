"""The routing station: from a settled Study to orders."""

import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from node.domain.codes import NODULE
from node.domain.decision import Decision, Outcome
from node.domain.finding import Finding
from node.domain.forward import Forward
from node.domain.job import JobID, JobOrder, Priority, digest_inputs
from node.domain.steering import Answered, Steering
from node.domain.study import StudyFacts
from node.domain.switch import Mode
from node.domain.uids import StudyUID
from node.models import ModelCard
from node.routing import STUDIES_A_TICK, Routing, heed_switches, route_study
from node.rules.grammar import parse_rules
from node.rules.rule import Rule
from tests.studies import STUDY_UID, brain_mr_series, chest_ct_series, make_study

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_card(pipeline: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> ModelCard:
    return ModelCard(
        name=f"{pipeline}-model",
        version="1.2.3",
        pipeline=pipeline,
        licence="",
        intended_use="",
        notice="",
        series_offset=1,
        weights=Path("weights"),
        weights_sha256="",
        required_roles=required,
        optional_roles=optional,
        numbers={},
    )


MODELS = {
    "lung_nodules": make_card("lung_nodules", ("ct",)),
    "brain_tumour": make_card("brain_tumour", ("flair",), ("t1",)),
}


def make_rules(text: str) -> tuple[Rule, ...]:
    return parse_rules(tomllib.loads(text)["rules"], pipelines=MODELS, destinations=("pacs", "archive", "desk"))


def test_a_match_becomes_an_order_with_the_content_of_its_inputs() -> None:
    rules = make_rules(
        '[[rules]]\nname = "MR"\nwhen = { modality = "MR" }\nrun = ["brain_tumour"]\npriority = "high"\n'
        'deliver_to = ["pacs"]\n'
        'inputs = { flair = { description = "flair" }, t1 = { description = "t1" } }'
    )
    flair, t1 = brain_mr_series(4, "FLAIR"), brain_mr_series(3, "T1")
    decisions, orders, forwards = route_study(make_study(t1, flair, brain_mr_series(5, "T2")), rules, MODELS)
    assert [decision.outcome for decision in decisions] == [Outcome.MATCH]
    assert orders == (
        JobOrder(
            study_instance_uid=STUDY_UID,
            pipeline="brain_tumour",
            model="brain_tumour-model",
            model_version="1.2.3",
            rule="MR",
            priority=Priority.HIGH,
            inputs={"flair": flair.series_instance_uid, "t1": t1.series_instance_uid},
            content=digest_inputs({"flair": flair.sop_instance_uids, "t1": t1.sop_instance_uids}),
            deliver_to=("pacs",),
        ),
    )
    assert forwards == ()


TWO_RULES = """
[[rules]]
name = "first"
when = {{ modality = "CT", {first} }}
run = ["lung_nodules"]
priority = "low"
deliver_to = ["pacs"]
[[rules]]
name = "second"
when = {{ modality = "CT", {second} }}
run = ["lung_nodules"]
priority = "stat"
deliver_to = ["desk", "pacs"]
"""


def test_two_rules_that_ask_the_same_share_one_order() -> None:
    rules = make_rules(TWO_RULES.format(first='body_part = "CHEST"', second="slice_count = 40"))
    decisions, (order,), _ = route_study(make_study(chest_ct_series(2)), rules, MODELS)
    assert [decision.outcome for decision in decisions] == [Outcome.MATCH, Outcome.MATCH]
    assert (order.rule, order.priority, order.deliver_to) == ("first", Priority.STAT, ("pacs", "desk"))


def test_a_pipeline_is_ordered_once_and_the_passed_over_rule_says_so() -> None:
    rules = make_rules(TWO_RULES.format(first="slice_count = 40", second="slice_count = 50"))
    study = make_study(chest_ct_series(2, count=40), chest_ct_series(3, count=50))
    decisions, (order,), _ = route_study(study, rules, MODELS)
    assert order.inputs == {"ct": "1.2.3.2"}
    assert order.priority is Priority.LOW
    assert "is ordered by rule 'first' on other Series" in decisions[1].reason


def test_late_instances_are_another_content() -> None:
    rules = make_rules('[[rules]]\nname = "CT"\nwhen = { modality = "CT" }\nrun = ["lung_nodules"]')
    contents = {route_study(make_study(chest_ct_series(2, count=n)), rules, MODELS)[1][0].content for n in (40, 41)}
    assert len(contents) == 2


def test_forwards_hold_the_series_that_meet_the_rules() -> None:
    rules = make_rules(
        '[[rules]]\nname = "a"\nwhen = { modality = "CT" }\nforward = ["archive", "desk"]\n'
        '[[rules]]\nname = "b"\nwhen = { modality = "MR" }\nforward = ["desk"]\n'
        '[[rules]]\nname = "c"\nwhen = { modality = "US" }\nforward = ["pacs"]'
    )
    _, orders, forwards = route_study(make_study(chest_ct_series(2), brain_mr_series(3, "T2")), rules, MODELS)
    ct, mr = chest_ct_series(2).series_instance_uid, brain_mr_series(3, "T2").series_instance_uid
    assert orders == ()
    assert forwards == (
        Forward(destination="archive", series_instance_uids=(ct,)),
        Forward(destination="desk", series_instance_uids=(ct, mr)),
    )


class MemoryLedger:
    """A RoutingLedger without a disk."""

    def __init__(self, *studies: StudyFacts) -> None:
        self.settled = {study.study_instance_uid: study for study in studies}
        self.recorded: dict[StudyUID, dict[str, Any]] = {}
        self.is_switched = False
        self.heard_of: frozenset[str] | None = None

    def hear_answers(self, pipelines: frozenset[str], *, now: datetime) -> int:
        self.heard_of = pipelines
        return 0

    def settled_studies(self, limit: int) -> tuple[StudyUID, ...]:
        return tuple(self.settled)[:limit]

    def study_facts(self, study_instance_uid: StudyUID) -> StudyFacts:
        return self.settled[study_instance_uid]

    def record_routing(
        self,
        study: StudyFacts,
        *,
        decisions: tuple[Decision, ...],
        orders: tuple[JobOrder, ...],
        forwards: tuple[Forward, ...],
        steerings: tuple[Steering, ...],
        now: datetime,
    ) -> bool:
        if self.is_switched:
            self.is_switched = False
            return False
        del self.settled[study.study_instance_uid]
        recorded = {"decisions": decisions, "orders": orders, "forwards": forwards, "steerings": steerings, "now": now}
        self.recorded[study.study_instance_uid] = recorded
        return True


def rename(study: StudyFacts, uid: str) -> StudyFacts:
    return StudyFacts(
        study_instance_uid=StudyUID(uid), state=study.state, attributes=study.attributes, series=study.series
    )


CT_RULES = make_rules('[[rules]]\nname = "CT"\nwhen = { modality = "CT" }\nrun = ["lung_nodules"]')


def test_a_settled_study_is_recorded_once_with_all_decisions() -> None:
    ledger = MemoryLedger(make_study(chest_ct_series(2)), rename(make_study(brain_mr_series(2, "T2")), "1.2.4"))
    assert Routing(ledger, CT_RULES, MODELS).tick(NOW) is None
    assert ledger.settled == {}
    assert [order.pipeline for order in ledger.recorded[STUDY_UID]["orders"]] == ["lung_nodules"]
    refused = ledger.recorded[StudyUID("1.2.4")]
    assert refused["orders"] == ()
    assert [decision.outcome for decision in refused["decisions"]] == [Outcome.NO_MATCH]
    assert refused["now"] == NOW


def test_a_full_tick_asks_for_the_next_at_once() -> None:
    study = make_study(chest_ct_series(2))
    ledger = MemoryLedger(*(rename(study, f"1.2.{n}") for n in range(STUDIES_A_TICK + 1)))
    routing = Routing(ledger, CT_RULES, MODELS)
    assert routing.tick(NOW) == NOW
    assert routing.tick(NOW) is None
    assert ledger.settled == {}


def test_a_study_that_was_not_recorded_is_asked_again_at_once() -> None:
    ledger = MemoryLedger(make_study(chest_ct_series(2)))
    ledger.is_switched = True
    routing = Routing(ledger, CT_RULES, MODELS)
    assert routing.tick(NOW) == NOW
    assert routing.tick(NOW) is None
    assert ledger.settled == {}


def test_a_pipeline_that_is_off_is_not_ordered_and_the_decision_says_so() -> None:
    twice = make_rules(
        '[[rules]]\nname = "a"\nwhen = { modality = "CT" }\nrun = ["lung_nodules"]\n'
        '[[rules]]\nname = "b"\nwhen = { modality = "CT" }\nrun = ["lung_nodules"]\npriority = "stat"\n'
        '[[rules]]\nname = "c"\nwhen = { modality = "MR" }\nrun = ["brain_tumour"]\n'
        'inputs = { flair = { description = "flair" } }'
    )
    routed = route_study(make_study(chest_ct_series(2)), twice, MODELS)
    decisions, orders, _ = heed_switches(routed, twice, {"lung_nodules": Mode.OFF, "brain_tumour": Mode.OFF})
    assert orders == ()
    assert [one.outcome for one in decisions] == [Outcome.MATCH, Outcome.MATCH, Outcome.NO_MATCH]
    assert [one.reason.endswith("Pipeline lung_nodules is switched off and was not asked.") for one in decisions] == [
        True, True, False,
    ]  # fmt: skip


def test_a_pipeline_in_shadow_is_ordered_after_all_others_and_goes_nowhere() -> None:
    routed = route_study(make_study(chest_ct_series(2)), CT_RULES, MODELS)
    decisions, (order,), _ = heed_switches(routed, CT_RULES, {"lung_nodules": Mode.SHADOW})
    assert (order.is_shadow, order.priority, order.recipients) == (True, Priority.LOW, ())
    assert "Pipeline lung_nodules is in shadow" in decisions[0].reason


def test_switches_are_read_for_each_study() -> None:
    modes = {"lung_nodules": Mode.OFF}
    ledger = MemoryLedger(make_study(chest_ct_series(2)))
    routing = Routing(ledger, CT_RULES, MODELS, read_modes=lambda: modes)
    routing.tick(NOW)
    assert ledger.recorded[STUDY_UID]["orders"] == ()
    modes["lung_nodules"] = Mode.ON
    ledger.settled[STUDY_UID] = make_study(chest_ct_series(2))
    routing.tick(NOW)
    assert [order.is_shadow for order in ledger.recorded[STUDY_UID]["orders"]] == [False]


def test_a_pipeline_whose_model_is_not_to_be_had_is_not_ordered_and_the_decision_says_why() -> None:
    rules = make_rules(
        '[[rules]]\nname = "CT"\nwhen = { modality = "CT" }\nrun = ["lung_nodules"]\n'
        '[[rules]]\nname = "CT too"\nwhen = { modality = "CT" }\nrun = ["brain_tumour"]\n'
        'inputs = { flair = { modality = "CT" } }'
    )
    ledger = MemoryLedger(make_study(chest_ct_series(2)))
    models = {"brain_tumour": MODELS["brain_tumour"]}
    Routing(ledger, rules, models, faults={"lung_nodules": "model.toml is absent; add it"}).tick(NOW)
    recorded = ledger.recorded[STUDY_UID]
    assert [order.pipeline for order in recorded["orders"]] == ["brain_tumour"]
    first, second = (decision.reason for decision in recorded["decisions"])
    assert first.endswith("Pipeline lung_nodules is off, its model is not to be had: model.toml is absent; add it")
    assert "is off" not in second


STEERED = CT_RULES + make_rules(
    '[[rules]]\nname = "large"\npriority = "stat"\ndeliver_to = ["desk"]\n'
    'when = { modality = "CT", result = { pipeline = "lung_nodules", long_axis = ">= 8 mm" } }\n'
    '[[rules]]\nname = "then MR"\nrun = ["brain_tumour"]\ninputs = { flair = { modality = "CT" } }\n'
    'when = { result = { pipeline = "lung_nodules", count = ">= 2" } }'
)


def answered(*long_axes_mm: float) -> Answered:
    findings = (Finding(label="Nodule", code=NODULE, measurements={"long_axis_mm": size}) for size in long_axes_mm)
    return Answered(job_id=JobID("j"), pipeline="lung_nodules", findings=tuple(findings))


@pytest.mark.parametrize(
    ("answers", "steers", "orders"),
    [
        ((), [], ["lung_nodules"]),
        ((answered(),), [], ["lung_nodules"]),
        ((answered(7.0),), [], ["lung_nodules"]),
        ((answered(9.0),), ["large"], ["lung_nodules"]),
        ((answered(9.0, 4.0),), ["large"], ["lung_nodules", "brain_tumour"]),
    ],
)
def test_an_answer_steers_its_study_and_leads_to_further_pipelines(
    answers: tuple[Answered, ...], steers: list[str], orders: list[str]
) -> None:
    study = replace(make_study(chest_ct_series(2)), answered=answers)
    ledger = MemoryLedger(study)
    Routing(ledger, STEERED, MODELS).tick(NOW)
    recorded = ledger.recorded[STUDY_UID]
    assert [order.pipeline for order in recorded["orders"]] == orders
    assert [one.rule for one in recorded["steerings"]] == steers
    assert ledger.heard_of == frozenset({"lung_nodules"})
    for one in recorded["steerings"]:
        assert (one.pipeline, one.priority, one.deliver_to) == ("lung_nodules", Priority.STAT, ("desk",))
