"""Rules as text: what is written reads back, and an error is found in its line."""

import tomllib
from typing import Any

import pytest

from node.errors import RuleInvalid
from node.rules.writing import find_line, write_rules
from node.settings.loading import load_settings
from tests.rule_texts import make_rules

ODD: list[dict[str, Any]] = [
    {
        "name": 'a "quoted" <b>rule</b> \x7f',
        "when": {"description": r"\bit's\b", "modality": ["CT", "MR"], "rows": 512},
        "run": ["lung_nodules"],
        "inputs": {"ct": [{"not": {"kernel": "^b[67]"}}], "odd role": {"any": [{"rows": 1.5}, {"view": "absent"}]}},
    },
    {"name": "b", "when": {"modality": "CT"}, "forward": ["pacs"], "priority": "stat"},
]


def test_the_shipped_rules_read_back_as_they_were() -> None:
    rules = load_settings(None, {}).rules
    assert tomllib.loads(write_rules(rules))["rules"] == [dict(rule) for rule in rules]


def test_odd_rules_read_back_as_they_were() -> None:
    assert tomllib.loads(write_rules(ODD))["rules"] == ODD


def test_a_pattern_is_written_as_a_person_would() -> None:
    text = write_rules([{"name": "a", "when": {"description": r"\bchest\b"}, "run": ["lung_nodules"]}])
    assert r"description = '\bchest\b'" in text


FIRST = '[[rules]]\nname = "first"\nrun = ["lung_nodules"]\nwhen = { modality = "CT" }\n'


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ('[[rules]]\nrun = ["lung_nodules"]\n', 5),
        ('[[rules]]\nname = "second"\nrun = ["lung_nodules"]\n[rules.when]\nmodalty = "CT"\n', 9),
        ('[[rules]]\nname = "second"\nrun = ["nothing"]\nwhen = { modality = "CT" }\n', 7),
        ('[[rules]]\nname = "second"\nwhen = { modality = "CT" }\n', 5),
        ('[[rules]]\nname = "second"\nrun = ["lung_nodules"]\nwhen = { any = [{ rows = "<= 3 mm" }] }\n', 8),
        ('[[rules]]\nname = "second"\npriority = "soon"\nrun = ["lung_nodules"]\nwhen = { modality = "CT" }\n', 7),
    ],
)
def test_an_error_of_the_grammar_is_found_in_its_line(second: str, line: int) -> None:
    text = FIRST + second
    with pytest.raises(Exception, match="rule") as caught:
        make_rules(text)
    assert find_line(text, str(caught.value)) == line


def test_an_error_of_toml_says_its_line_itself() -> None:
    text = f"{FIRST}[[rules]\n"
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    assert find_line(text, str(caught.value)) == 5


def test_what_speaks_of_no_line_has_none() -> None:
    assert find_line(FIRST, "the store is full") is None
    assert find_line(FIRST, str(RuleInvalid("rule 'third': when is empty"))) is None
