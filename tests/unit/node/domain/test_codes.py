"""The table of codes against pydicom's dictionary of PS3.16: no entry claims what the dictionary does not say."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from pydicom.sr._concepts_dict import concepts

from node.domain import codes
from node.domain.codes import LOCAL_SCHEME, Code
from node.models import SHIPPED_MODELS, read_model

ROOT = Path(__file__).resolve().parents[4]
TABLE = [code for code in vars(codes).values() if isinstance(code, Code)]
SECONDARY, LOCAL = "two secondary sources", "local"
UNKNOWN_TO_PYDICOM = "not in pydicom"
# The tag that SNOMED CT puts behind a fully specified name.
SEMANTIC_TAG = re.compile(r"(?: \([a-z ]+\))+$")
Meanings = dict[str, frozenset[int]]
# Scheme, pydicom's name, Code Value: Code Meaning and context groups.
Dictionary = dict[str, dict[str, dict[str, tuple[str, list[int]]]]]


def normalize(meaning: str) -> str:
    """Return a meaning without case and without SNOMED's semantic tag."""
    return SEMANTIC_TAG.sub("", meaning).casefold()


def read_dictionary() -> dict[tuple[str, str], Meanings]:
    """Return, by value and scheme, each normalized meaning with the context groups that list it."""
    found: dict[tuple[str, str], Meanings] = {}
    for scheme, names in cast(Dictionary, concepts).items():
        for entries in names.values():
            for value, (meaning, context_groups) in entries.items():
                meanings = found.setdefault((value, scheme), {})
                meanings[normalize(meaning)] = meanings.get(normalize(meaning), frozenset()) | frozenset(context_groups)
    return found


DICTIONARY = read_dictionary()


def complain(code: Code) -> str:
    """Return what is wrong with an entry of the table; empty when nothing is."""
    meanings = DICTIONARY.get((code.value, code.scheme))
    is_claimed = code.provenance.startswith(("CID ", "TID ", "Annex D")) and UNKNOWN_TO_PYDICOM not in code.provenance
    if meanings is None:
        return f"{code.provenance!r} claims a dictionary that does not have it" if is_claimed else ""
    if not is_claimed:
        return f"{code.provenance!r}, yet pydicom knows it as {sorted(meanings)}"
    called = re.search(r"\(pydicom: (.+)\)$", code.provenance)
    meaning = normalize(called.group(1) if called else code.meaning)
    if meaning not in meanings:
        return f"pydicom calls it {sorted(meanings)}"
    group = re.match(r"CID (\d+)", code.provenance)
    if group and int(group.group(1)) not in meanings[meaning]:
        return f"is not in CID {group.group(1)} but in {sorted(meanings[meaning])}"
    return ""


@pytest.mark.parametrize("code", TABLE, ids=lambda code: f"{code.value} {code.meaning}")
def test_each_code_means_what_pydicom_says_or_says_that_pydicom_does_not_know(code: Code) -> None:
    assert complain(code) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        Code("27925004", "SCT", "Nodule", "CID 6047"),
        Code("27925004", "SCT", "Nodules", "CID 7151"),
        Code("27925004", "SCT", "Nodule", LOCAL),
        Code("27925004", "SCT", "Nodule", SECONDARY),
        Code("233604007", "SCT", "Pneumonia", "CID 7151"),
        Code("999999", "DCM", "Nothing", "Annex D"),
        Code("999999", "DCM", "Nothing", "TID 1500"),
        Code("27925004", "SCT", "Nodule", "TID 1500, not in pydicom"),
        Code("276214006", "SCT", "Finding category", "TID 1410 (pydicom: Finding type)"),
    ],
)
def test_a_wrong_claim_is_seen(wrong: Code) -> None:
    assert complain(wrong)


@pytest.mark.parametrize("code", TABLE, ids=lambda code: code.value)
def test_each_code_fits_its_elements_and_names_its_provenance(code: Code) -> None:
    assert 0 < len(code.value) <= 16
    assert 0 < len(code.scheme) <= 16
    assert 0 < len(code.meaning) <= 64
    assert re.match(r"(CID|TID) \d+|Annex D$|RFC \d+|two secondary sources$|local$", code.provenance)


def test_no_code_stands_twice() -> None:
    keys = [(code.value, code.scheme) for code in TABLE]
    assert len(keys) == len(set(keys))


def test_local_scheme_holds_what_could_not_be_verified_and_nothing_else() -> None:
    assert {code for code in TABLE if code.scheme == LOCAL_SCHEME} == {c for c in TABLE if c.provenance == LOCAL}
    local = {code.meaning for code in TABLE if code.scheme == LOCAL_SCHEME}
    assert local == {"Pleural thickening", "Lung opacity", "Lung lesion", "Enlarged cardiomediastinum"}


CHEST_XRAY_LABELS = (
    codes.ATELECTASIS,
    codes.CARDIOMEGALY,
    codes.CONSOLIDATION,
    codes.EMPHYSEMA,
    codes.ENLARGED_CARDIOMEDIASTINUM,
    codes.FIBROSIS,
    codes.HERNIA,
    codes.INFILTRATE,
    codes.LESION,
    codes.LUNG_LESION,
    codes.LUNG_OPACITY,
    codes.MASS,
    codes.NODULE,
    codes.PLEURAL_EFFUSION,
    codes.PLEURAL_THICKENING,
    codes.PNEUMONIA,
    codes.PNEUMOTHORAX,
    codes.PULMONARY_EDEMA,
    codes.RIB_FRACTURE,
)


def test_each_label_of_a_chest_xray_is_another_concept() -> None:
    assert len(set(CHEST_XRAY_LABELS)) == len({code.meaning for code in CHEST_XRAY_LABELS}) == 19


def test_provenance_does_not_make_another_code() -> None:
    assert Code("27925004", "SCT", "Nodule") == codes.NODULE
    assert hash(Code("27925004", "SCT", "Nodule")) == hash(codes.NODULE)
    assert codes.NODULE.as_json() == ["27925004", "SCT", "Nodule"]


@pytest.mark.parametrize("folder", sorted(path.parent for path in SHIPPED_MODELS.glob("*/model.toml")), ids=str)
def test_shipped_models_look_for_codes_of_the_table(folder: Path) -> None:
    for code in read_model(folder).looked_for:
        assert (code, code.meaning) in {(one, one.meaning) for one in TABLE}


def list_literals(tree: ast.AST) -> Iterator[str]:
    """Yield the value of each code that is written where it is used."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("Code", "CodedConcept") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def test_codes_are_written_in_the_table_only() -> None:
    strays = {
        f"{path.relative_to(ROOT)}: {value}"
        for room in ("node", "workers")
        for path in sorted((ROOT / room).rglob("*.py"))
        if path != Path(codes.__file__)
        for value in list_literals(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert strays == set()
    assert list(list_literals(ast.parse('hd.sr.CodedConcept("1", "DCM", "One")\nCode("2", "SCT", "Two")'))) == [
        "1",
        "2",
    ]
