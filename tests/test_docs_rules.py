"""docs/rules.md tells every condition, and its examples are rules."""

import re
import tomllib
from pathlib import Path

import pytest

from node.rules.conditions import CONDITIONS
from node.rules.grammar import RULE_KEYS, parse_rules
from node.rules.prior_terms import KEYS
from tests.shipped import PIPELINES, Needs

PAGE = Path(__file__).resolve().parent.parent / "docs" / "rules.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("key", sorted(CONDITIONS))
def test_each_condition_has_its_line_with_attribute_and_form(key: str) -> None:
    condition = CONDITIONS[key]
    assert f"| `{key}` | {condition.attribute} | {condition.form} |" in TEXT


def test_no_line_tells_of_a_condition_that_is_not_there() -> None:
    table = TEXT.partition("## Conditions")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(CONDITIONS)


@pytest.mark.parametrize("key", RULE_KEYS)
def test_each_key_of_a_rule_has_its_line(key: str) -> None:
    assert f"| `{key}` |" in TEXT


@pytest.mark.parametrize("key", KEYS)
def test_each_key_of_priors_has_its_line(key: str) -> None:
    table = TEXT.partition("## Priors")[2].partition("\n## ")[0]
    assert re.search(rf"^\| [^|]*`{key}`[^|]* \|", table, re.MULTILINE)


@pytest.mark.parametrize("code", ["no-rule-matched", "rules-undetermined", "input-missing"])
def test_each_refusal_has_its_line(code: str) -> None:
    assert f"| `{code}` |" in TEXT


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL))
def test_each_example_is_a_rule(example: str) -> None:
    tables = tomllib.loads(example)["rules"]
    pipelines = {**PIPELINES, "lung_growth": Needs("ct", optional_roles=("prior",))}
    assert parse_rules(tables, pipelines=pipelines, destinations=("pacs", "dose_server"), peers=("pacs",))
