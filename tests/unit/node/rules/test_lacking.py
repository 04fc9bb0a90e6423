"""What it would take for a rule to match."""

import tomllib

import pytest

from node.rules.grammar import parse_rules
from node.rules.lacking import find_lack
from node.rules.rule import Rule
from tests.studies import brain_mr_series, chest_ct_series, make_study
from tests.unit.node.rules.test_grammar import PIPELINES


def make_rule(when: str, more: str = "") -> Rule:
    text = f'[[rules]]\nname = "R"\nwhen = {{ {when} }}\nrun = ["lung_nodules"]\n{more}'
    return parse_rules(tomllib.loads(text)["rules"], pipelines=PIPELINES, destinations=())[0]


@pytest.mark.parametrize(
    ("when", "texts"),
    [
        ('modality = "CT"', []),
        ('modality = "CT", rows = 16, slice_count = "> 500"', ["rows = 16", "slice_count > 500"]),
        ('modality = "CT", view = "PA"', ["view = PA"]),
    ],
)
def test_everything_that_the_nearest_series_does_not_meet_is_told(when: str, texts: list[str]) -> None:
    lack = find_lack(make_rule(when), make_study(brain_mr_series(1, "T2"), chest_ct_series(2)))
    assert [clause.text for clause in lack.clauses] == texts
    assert lack.nearest.startswith("Series 2") == bool(texts)


def test_a_role_without_a_series_is_what_lacks() -> None:
    rule = make_rule('modality = "CT"', 'inputs = { ct = { kernel = "sharp" } }')
    (clause,) = find_lack(rule, make_study(chest_ct_series(2))).clauses
    assert clause.text.startswith("input ct")


def test_of_a_study_without_series_the_rule_itself_is_told() -> None:
    lack = find_lack(make_rule('modality = "CT"'), make_study())
    assert (lack.nearest, len(lack.clauses)) == ("", 1)
