"""What is no rule stops start-up and names its key."""

import tomllib
from dataclasses import dataclass
from typing import Any

import pytest

from node.domain.job import Priority
from node.errors import Misconfigured, PipelineUnknown, RuleInvalid
from node.rules.grammar import parse_rules
from node.rules.rule import Rule
from node.settings.loading import shipped_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    required_roles: tuple[str, ...]
    optional_roles: tuple[str, ...] = ()


PIPELINES = {
    "lung_nodules": Needs(required_roles=("ct",)),
    "brain_tumour": Needs(required_roles=("flair",), optional_roles=("t1", "t1c")),
    "chest_xray": Needs(required_roles=("image",)),
}
DESTINATIONS = ("pacs", "archive")


def parse(text: str) -> tuple[Rule, ...]:
    return parse_rules(tomllib.loads(text).get("rules", []), pipelines=PIPELINES, destinations=DESTINATIONS)


STEERING = '[[rules]]\nname = "R"\nwhen = {{ {} }}'


def rule(body: str) -> str:
    return f'[[rules]]\nname = "R"\n{body}\n'


def ct_rule(when: str) -> str:
    return rule(f'when = {{ {when} }}\nrun = ["lung_nodules"]')


CT_RULE = 'when = { modality = "CT" }\nrun = ["lung_nodules"]'
MR_RULE = 'when = { modality = "MR" }\nrun = ["brain_tumour"]'


def test_the_shipped_rules_are_understood() -> None:
    tables = tomllib.loads(shipped_file().read_text(encoding="utf-8"))["rules"]
    rules = parse_rules(tables, pipelines=PIPELINES, destinations=())
    assert {need.pipeline for one in rules for need in one.needs} == set(PIPELINES)


def test_a_rule_says_itself_in_words() -> None:
    (found,) = parse(
        rule(
            'when = { modality = ["DX", "CR"], slice_spacing = "1..3mm", '
            'any = [{ body_part = "absent" }, { description = "lung", age = ">= 18 years" }], '
            'not = { view = ["LL", "absent"], image_type = ["ORIGINAL", "PRIMARY"] } }\n'
            'run = ["lung_nodules"]\npriority = "stat"'
        )
    )
    assert found.when.text == (
        "modality = DX or CR and slice_spacing 1 .. 3 mm "
        "and any of (body_part absent; description ~ lung and age >= 18 years) "
        "and not (view = LL or absent and image_type = ORIGINAL and PRIMARY)"
    )
    assert found.priority is Priority.STAT


def test_no_deliver_to_means_every_destination() -> None:
    assert parse(rule(CT_RULE))[0].deliver_to == ("archive", "pacs")
    assert parse(rule(f'{CT_RULE}\ndeliver_to = ["pacs"]'))[0].deliver_to == ("pacs",)


def test_a_role_may_be_one_table_or_a_list() -> None:
    (found,) = parse(
        rule(MR_RULE + '\ninputs = { flair = { protocol = "flair" }, t1 = [{ protocol = "t1" }, { rows = 256 }] }')
    )
    assert [alternative.text for alternative in found.inputs["flair"]] == ["protocol ~ flair"]
    assert [alternative.text for alternative in found.inputs["t1"]] == ["protocol ~ t1", "rows = 256"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rules]]\nrun = []", "rule 1: name is missing"),
        (rule(CT_RULE) + rule(CT_RULE), "another rule has it too"),
        (rule('when = { modality = "CT" }'), "run and forward are both missing"),
        (rule('run = ["lung_nodules"]'), "when must be a table"),
        (rule('when = {}\nrun = ["lung_nodules"]'), "when is empty"),
        (rule(f'{CT_RULE}\nprioriti = "stat"'), 'prioriti is no key of a rule; did you mean "priority"'),
        (rule(f'{CT_RULE}\npriority = "urgent"'), "priority: 'urgent' is none"),
        (rule(f'{CT_RULE}\npriority = "rutine"'), 'did you mean "routine"'),
        (rule(f'{CT_RULE}\ndeliver_to = ["packs"]'), "deliver_to: 'packs' is .* did you mean \"pacs\""),
        (rule(f'{CT_RULE}\nforward = ["nowhere"]'), "forward: 'nowhere' is no configured destination"),
        (rule('when = { modality = "CT" }\nrun = "lung_nodules"'), "run must be a list"),
        (rule('when = { modality = "CT" }\nrun = ["lung_nodules", "lung_nodules"]'), "twice"),
        (rule('when = { modality = "CT" }\nforward = ["pacs"]\ninputs = { ct = { rows = 1 } }'), "belong to run"),
        (ct_rule('slice_spacng = "<= 3 mm"'), 'when.slice_spacng is no condition; did you mean "slice_spacing"'),
        (ct_rule('slice_spacing = "<= 3 kg"'), "when.slice_spacing: .*unit 'kg'"),
        (ct_rule('slice_spacing = "5 .. 3 mm"'), "when.slice_spacing: .*first bound"),
        (ct_rule('modality = "<= 3 mm"'), "when.modality: .*compares numbers"),
        (ct_rule('modality = "1 .. 3"'), "when.modality: .*compares numbers"),
        (ct_rule('modality = 7'), "when.modality: 7 must be a text"),
        (ct_rule('modality = true'), "when.modality: True must be"),
        (ct_rule('modality = ""'), "when.modality: .*not empty"),
        (ct_rule('modality = []'), "when.modality is an empty list"),
        (ct_rule('modality = { a = 1 }'), "when.modality: .*must be a text or a number"),
        (ct_rule('description = "t1("'), "when.description: .*no regular expression"),
        (ct_rule('description = "((a{1000}){1000}){1000}"'), "when.description: .*repeats something more than 65536"),
        (ct_rule('description = "x{0,1}((a{,1000}){1,1000}){0,1000}"'), ".*repeats something more than 65536"),
        (ct_rule('orientation = "axail"'), 'when.orientation: .*did you mean "axial"'),
        (ct_rule('sop_class = "CT Image Sotrage"'), 'did you mean "CT Image Storage"'),
        (ct_rule('contrast = "gadolinium"'), "when.contrast: .*present"),
        (ct_rule('any = { modality = "CT" }'), "when.any must be a list"),
        (ct_rule('any = []'), "when.any must be a list"),
        (ct_rule('any = [{ modality = "CT" }, { roews = 1 }]'), r"when.any\[1\].roews is no condition"),
        (ct_rule('not = [{ modality = "CT" }]'), "when.not must be a table"),
        (ct_rule('not = { any = [{ rows = "2 mm" }] }'), r"when.not.any\[0\].rows"),
        (rule(MR_RULE + "\ninputs = { t1 = { rows = 1 } }"), "inputs.flair is missing"),
        (rule(MR_RULE + "\ninputs = { flare = { rows = 1 } }"), 'inputs.flare: is no role .* did you mean "flair"'),
        (rule(MR_RULE + "\ninputs = { flair = [] }"), "inputs.flair is empty"),
        (rule(MR_RULE + "\ninputs = { flair = [{ rows = 1 }, { rwos = 1 }] }"), r"inputs.flair\[1\].rwos"),
        (rule(MR_RULE + '\ninputs = "flair"'), "inputs must be a table"),
        (STEERING.format('result = { pipeline = "lungs" }'), "result.pipeline: 'lungs' is no configured pipeline"),
        (STEERING.format('result = { pipeline = "lung_nodules" }'), "a result is asked for, and nothing follows"),
        (STEERING.format('not = { result = { pipeline = "lung_nodules" } }'), 'write count = "= 0"'),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_by_key(text: str, message: str) -> None:
    with pytest.raises(RuleInvalid, match=message) as caught:
        parse(text)
    assert "rule" in str(caught.value)


def test_a_pipeline_of_two_required_roles_needs_inputs() -> None:
    pipelines = {"fusion": Needs(required_roles=("ct", "pet"))}
    tables: list[dict[str, Any]] = [{"name": "R", "when": {"modality": "CT"}, "run": ["fusion"]}]
    with pytest.raises(RuleInvalid, match="inputs is missing; pipeline 'fusion' requires ct, pet"):
        parse_rules(tables, pipelines=pipelines, destinations=())


def test_an_unknown_pipeline_is_named_with_the_nearest() -> None:
    with pytest.raises(PipelineUnknown, match=r"rule 'R': run: 'lung_nodule' .*did you mean .lung_nodules"):
        parse(rule('when = { modality = "CT" }\nrun = ["lung_nodule"]'))


def test_something_else_than_a_table_is_no_rule() -> None:
    with pytest.raises(Misconfigured, match="rule 1: is no table"):
        parse_rules(["CT"], pipelines=PIPELINES, destinations=())  # type: ignore[list-item]  # what a bad file gives
