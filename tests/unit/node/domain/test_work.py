"""Seconds of a Job's work are told by stage and by part, also where an earlier version counted stages only."""

from node.domain.work import list_parts, sum_stages

SPENT = {
    "prepare": 0.25,
    "prepare.fetch": 0.1,
    "prepare.read": 0.4,
    "infer": 0.0,
    "infer.network": 1.0,
    "infer.measure": 0.002,
    "encode.write": 0.3,
}


def test_a_stage_is_the_sum_of_its_parts_and_its_rest() -> None:
    assert sum_stages(SPENT) == {"prepare": 0.75, "infer": 1.002, "encode": 0.3}


def test_parts_are_told_in_their_order_and_the_rest_at_last() -> None:
    parts = list_parts(SPENT)
    assert list(parts["prepare"].items()) == [("fetch", 0.1), ("read", 0.4), ("other", 0.25)]
    assert parts["infer"] == {"network": 1.0, "measure": 0.002}
    assert all(abs(sum(parts[name].values()) - spent) < 1e-9 for name, spent in sum_stages(SPENT).items())


def test_stages_come_in_the_order_of_the_work() -> None:
    assert list(sum_stages(dict(reversed(SPENT.items())))) == ["prepare", "infer", "encode"]


def test_what_an_earlier_version_counted_has_no_parts() -> None:
    earlier = {"prepare": 0.1, "infer": 0.2, "encode": 0.3}
    assert sum_stages(earlier) == earlier
    assert list_parts(earlier) == {}
    assert (sum_stages({}), list_parts({})) == ({}, {})
