"""The shipped rules and the roles of the shipped Pipelines, for tests of rules."""

import tomllib

from node.rules.grammar import parse_rules
from node.rules.rule import Rule
from node.settings.loading import shipped_file


class Needs:
    """Roles of one Pipeline."""

    def __init__(self, *required_roles: str, optional_roles: tuple[str, ...] = ()) -> None:
        self.required_roles = required_roles
        self.optional_roles = optional_roles


PIPELINES = {
    "lung_nodules": Needs("ct"),
    "brain_tumour": Needs("flair", optional_roles=("t1", "t1c")),
    "chest_xray": Needs("image"),
}


def shipped_rules() -> dict[str, Rule]:
    tables = tomllib.loads(shipped_file().read_text(encoding="utf-8"))["rules"]
    return {rule.needs[0].pipeline: rule for rule in parse_rules(tables, pipelines=PIPELINES, destinations=())}
