"""Each field that the code logs is one that the whitelist lets through; a dropped field is a lost fact."""

import ast
from collections.abc import Iterator
from pathlib import Path

from node.logs import ALLOWED_FIELDS

ROOT = Path(__file__).resolve().parent.parent


def logged_fields() -> Iterator[tuple[str, str]]:
    for path in sorted((*ROOT.glob("node/**/*.py"), *ROOT.glob("workers/**/*.py"))):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            for keyword in call.keywords:
                if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
                    where = f"{path.relative_to(ROOT)}:{call.lineno}"
                    yield from ((where, str(key.value)) for key in keyword.value.keys if isinstance(key, ast.Constant))
                if keyword.arg and isinstance(call.func, ast.Name) and call.func.id == "log_context":
                    yield f"{path.relative_to(ROOT)}:{call.lineno}", keyword.arg


def test_every_logged_field_is_allowed() -> None:
    found = list(logged_fields())
    assert len(found) > 20
    assert [(where, name) for where, name in found if name not in ALLOWED_FIELDS] == []
