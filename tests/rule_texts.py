"""Rules of a text, as a node with these Pipelines and Destinations reads them."""

import tomllib

from node.rules.grammar import parse_rules
from node.rules.rule import Need, Rule

PIPELINES = {
    "lung_nodules": Need(pipeline="lung_nodules", required_roles=("ct",), optional_roles=()),
    "brain_tumour": Need(pipeline="brain_tumour", required_roles=("flair",), optional_roles=("t1",)),
}
DESTINATIONS = ("pacs", "archive")


def make_rules(text: str) -> tuple[Rule, ...]:
    """Return the rules that a text holds; none of an empty one."""
    return parse_rules(tomllib.loads(text).get("rules", ()), pipelines=PIPELINES, destinations=DESTINATIONS)
