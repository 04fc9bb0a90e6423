"""What an edit of the rules would change, told Study by Study."""

from collections.abc import Callable
from pathlib import Path

from node.domain.decision import Outcome
from node.domain.job import Priority
from node.domain.study import StudyFacts
from node.models import ModelCard
from node.routing import route_study
from node.rules.dry_run import DryRun, Wish, dry_run, wish_of
from tests.rule_texts import make_rules
from tests.studies import brain_mr_series, chest_ct_series, make_study

CT = '[[rules]]\nname = "CT"\nwhen = { modality = "CT" }\nrun = ["lung_nodules"]\n'
THIN = '[[rules]]\nname = "CT"\nwhen = { modality = "CT", slice_count = ">= 100" }\nrun = ["lung_nodules"]\n'
AWAY = '[[rules]]\nname = "copies"\nwhen = { modality = "CT" }\nforward = ["archive"]\n'


MODELS = {
    "lung_nodules": ModelCard(
        name="model", version="1", pipeline="lung_nodules", licence="", intended_use="", notice="", series_offset=1,
        weights=Path("weights"), weights_sha256="", required_roles=("ct",), optional_roles=(), numbers={},
    )
}  # fmt: skip


def never() -> bool:
    return False


def try_out(before: str, after: str, *studies: StudyFacts, is_time_up: Callable[[], bool] = never) -> DryRun:
    return dry_run(studies, current=asking(before), edited=asking(after), is_time_up=is_time_up)


def asking(text: str) -> Callable[[StudyFacts], Wish]:
    rules = make_rules(text)
    return lambda study: wish_of(*route_study(study, rules, MODELS))


def test_an_edit_that_says_the_same_changes_nothing() -> None:
    found = try_out(CT, CT, make_study(chest_ct_series(2)))
    assert (found.tried, found.is_whole, found.differences) == (1, True, ())


def test_a_pipeline_that_stops_is_told_with_the_clause_that_decides() -> None:
    found = try_out(CT, THIN, make_study(chest_ct_series(2, count=40)), make_study(brain_mr_series(2, "T2")))
    (one,) = found.differences
    assert (found.tried, one.starts, one.stops, one.otherwise) == (2, (), ("lung_nodules",), ())
    assert found.stopped == {"lung_nodules": 1}
    assert one.before is not None
    assert one.after is not None
    assert (one.before.outcome, one.after.outcome) == (Outcome.MATCH, Outcome.NO_MATCH)
    assert (one.after.clause, one.after.found) == ("slice_count >= 100", "40")


def test_a_rule_that_is_new_starts_what_it_runs() -> None:
    found = try_out(AWAY, AWAY + CT, make_study(chest_ct_series(2)))
    (one,) = found.differences
    assert (one.starts, one.stops, one.before) == (("lung_nodules",), (), None)
    assert found.started == {"lung_nodules": 1}


def test_a_forward_is_a_difference_too() -> None:
    (one,) = try_out(CT, CT + AWAY, make_study(chest_ct_series(2))).differences
    assert one.starts == ("forward to archive",)
    (back,) = try_out(AWAY, "", make_study(chest_ct_series(2))).differences
    assert (back.stops, back.after) == (("forward to archive",), None)


def test_another_priority_destination_or_series_is_told_as_otherwise() -> None:
    study = make_study(chest_ct_series(2), chest_ct_series(3, count=60))
    for edit in ('priority = "stat"', 'deliver_to = ["archive"]', "inputs = { ct = { series_number = 2 } }"):
        (one,) = try_out(CT, f"{CT}{edit}\n", study).differences
        assert (one.starts, one.stops, one.otherwise) == ((), (), ("lung_nodules",)), edit


def test_two_rules_that_want_the_same_are_one_job_as_routing_orders_it() -> None:
    twice = CT + CT.replace('"CT"\nwhen', '"again"\nwhen') + 'priority = "stat"\ndeliver_to = ["archive"]\n'
    run = asking(twice)(make_study(chest_ct_series(2))).runs["lung_nodules"]
    assert (run.priority, run.deliver_to >= {"archive"}) == (Priority.STAT, True)


def test_nobody_is_asked_when_the_time_is_up() -> None:
    answers = iter([False, True])
    studies = [make_study(chest_ct_series(2)) for _ in range(3)]
    found = try_out(CT, THIN, *studies, is_time_up=lambda: next(answers))
    assert (found.tried, found.is_whole) == (1, False)
