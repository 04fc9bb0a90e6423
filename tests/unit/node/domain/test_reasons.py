"""No code is written anywhere that has no words, and no line in docs/errors.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from node.domain.reasons import REASONS, explain_reason
from node.errors import NodeError

ROOT = Path(__file__).resolve().parents[4]
CODE = re.compile(r"[a-z]+(-[a-z]+)+\Z|purged\Z|restored\Z|retracted\Z|superseded\Z")
# Functions whose first argument is the code of a reason.
TAKES_CODE = frozenset({"canceled"})


def constants(tree: ast.Module) -> dict[str, str]:
    """Return the texts that a module gives names."""
    return {
        target.id: part.value.value
        for part in tree.body
        if isinstance(part, ast.Assign) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)
        for target in part.targets
        if isinstance(target, ast.Name)
    }


def code_positions(part: ast.AST) -> Iterator[ast.expr]:
    """Yield what stands where the code of a reason belongs."""
    match part:
        case ast.keyword(arg="reason_code", value=value):
            yield value
        case ast.keyword(arg="reason", value=ast.Tuple(elts=[first, _])):
            yield first
        case ast.Assign(targets=[ast.Name(id="reason")], value=ast.Tuple(elts=[first, _])):
            yield first
        case ast.Return(value=ast.Tuple(elts=[first, ast.Constant() | ast.JoinedStr()])):
            yield first
        case ast.Dict(keys=keys, values=values):
            yield from (
                value
                for key, value in zip(keys, values, strict=True)
                if isinstance(key, ast.Constant) and key.value == "reason_code"
            )
        case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in TAKES_CODE:
            yield first
        case _:
            return


def written_codes() -> set[str]:
    paths = (*ROOT.glob("node/**/*.py"), *ROOT.glob("workers/**/*.py"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    trees = [ast.parse(text) for text in texts if "reason" in text or "canceled(" in text]
    # A name that is imported means the same elsewhere.
    everywhere = {name: text for tree in trees for name, text in constants(tree).items()}
    found = set()
    for tree in trees:
        names = {**everywhere, **constants(tree)}
        for part in ast.walk(tree):
            for value in code_positions(part):
                code = value.value if isinstance(value, ast.Constant) else names.get(getattr(value, "id", ""))
                if isinstance(code, str) and CODE.match(code):
                    found.add(code)
    return found


def kinds(root: type[NodeError]) -> Iterator[type[NodeError]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def test_every_code_that_is_written_has_words_and_a_line() -> None:
    codes = written_codes()
    assert {"worker-lost", "canceled-by-hand", "superseded", "time-limit", "retracted"} <= codes
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    known = set(REASONS) | {kind.code for kind in kinds(NodeError)}
    assert codes - known == set()
    assert [code for code in codes | set(REASONS) if f"| `{code}` |" not in page] == []


def test_every_error_speaks_for_itself() -> None:
    for kind in kinds(NodeError):
        said = explain_reason(kind.code)
        assert len(said.split()) > 2, kind
        assert said != kind.code


def test_a_code_of_a_newer_radnode_is_shown_as_it_is() -> None:
    assert explain_reason("moon-in-the-way") == "moon-in-the-way"
