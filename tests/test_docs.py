"""The documents say what the code does: settings, error codes, commands, targets, licences of models."""

import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from typer import Context
from typer.main import get_group

import node.errors
from node.cli.main import app
from node.errors import NodeError
from node.models import SHIPPED_MODELS, list_models
from node.settings.environment import ENVIRONMENT_PREFIX
from node.settings.loading import load_settings
from node.settings.peers import DestinationSettings
from node.settings.running import PipelineSettings
from node.settings.whole import Settings

ROOT = Path(__file__).resolve().parent.parent
SETTINGS_LINES = (ROOT / "settings.toml").read_text(encoding="utf-8").splitlines()
README = (ROOT / "README.md").read_text(encoding="utf-8")
ERRORS_PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
KEY_LINE = re.compile(r"(?:# )?(?P<key>[a-z_]+) = (?P<value>[^#]*?)\s*(?:# (?P<comment>.+))?$")
ERROR_ROW = re.compile(r"^\| `([a-z-]+)` \| ([0-9A-F]{4}) \| (\d{3}) \| (.+) \| (.+) \|$", re.MULTILINE)
REASON_ROW = re.compile(r"^\| `([a-z-]+)` \| (?:Study|Job|Delivery|Event) \|", re.MULTILINE)


def settings_keys(*, commented_tables: bool = True) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield table and key line of settings.toml, those in comments too, without the rules."""
    table = ""
    for line in SETTINGS_LINES:
        bare = line.removeprefix("# ") if commented_tables else line
        if bare.startswith("["):
            table = bare.split("]")[0].strip("[]")
        elif table.split(".")[0] != "rules" and (found := KEY_LINE.match(line)):
            yield table, found


def test_every_key_of_the_settings_file_has_a_comment() -> None:
    silent = [f"{table}.{found['key']}" for table, found in settings_keys() if not found["comment"]]
    assert not silent, silent


def fields_of(annotation: object) -> type[BaseModel] | None:
    """Return the table behind a field: the model itself, or the values of a mapping of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Mapping, types.MappingProxyType) or str(annotation).startswith("collections.abc.Map"):
        return fields_of(get_args(annotation)[1])
    return None


def keys_of(model: type[BaseModel]) -> Iterator[str]:
    """Yield the keys of a table, and those of the tables inside it."""
    for key, field in model.model_fields.items():
        inner = fields_of(field.annotation)
        yield from keys_of(inner) if inner is not None else [key]


def test_every_key_that_the_code_reads_is_in_the_settings_file() -> None:
    written = {(table.split(".")[0], found["key"]) for table, found in settings_keys()}
    read = {
        (section, key)
        for section, field in Settings.model_fields.items()
        if (model := fields_of(field.annotation)) is not None
        for key in keys_of(model)
        if model is not DestinationSettings
    }
    assert written - {("destinations", key) for key in DestinationSettings.model_fields} == read


def test_the_settings_file_shows_every_key_of_a_destination_and_of_a_pipeline() -> None:
    text = "\n".join(SETTINGS_LINES)
    for key in DestinationSettings.model_fields:
        assert re.search(rf"^#.*\b{key}\b", text, re.MULTILINE), key
    for name in tomllib.loads(text)["pipelines"]:
        shown = {found["key"] for table, found in settings_keys() if table == f"pipelines.{name}"}
        assert shown == set(PipelineSettings.model_fields)


def test_the_settings_file_alone_is_enough() -> None:
    assert load_settings(None, {}).node.aet == "RADNODE"


def example_settings() -> list[str]:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "rules.md")
    return re.findall(r"^```toml\n(.*?)^```", pages, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", [*example_settings(), (ROOT / "deploy" / "radnode.toml").read_text()])
def test_an_example_of_settings_loads(example: str, tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(example)
    load_settings(path, {})


def test_variables_in_the_documents_name_settings() -> None:
    texts = [page.read_text(encoding="utf-8") for page in [*PAGES, *sorted((ROOT / "deploy").rglob("*.*"))]]
    named = set(re.findall(rf"{ENVIRONMENT_PREFIX}([A-Z_]+)__([A-Z_]+)", "\n".join(texts))) - {("SECTION", "KEY")}
    assert named
    for section, key in named:
        model = fields_of(Settings.model_fields[section.lower()].annotation)
        assert model is not None
        assert key.lower() in model.model_fields, f"{section}.{key}"


def error_kinds() -> dict[str, type[NodeError]]:
    kinds = (kind for kind in vars(node.errors).values() if isinstance(kind, type) and issubclass(kind, NodeError))
    return {kind.code: kind for kind in kinds}


def test_every_error_code_has_its_line_with_its_statuses() -> None:
    told = {code: (int(dimse, 16), int(http)) for code, dimse, http, _, _ in ERROR_ROW.findall(ERRORS_PAGE)}
    assert told == {code: (kind.dimse_status, kind.http_status) for code, kind in error_kinds().items()}


def test_every_line_of_an_error_code_says_what_happened_and_what_to_do() -> None:
    for code, _, _, what, remedy in ERROR_ROW.findall(ERRORS_PAGE):
        assert what.strip().endswith("."), code
        assert remedy.strip().endswith("."), code


def test_every_reason_that_is_no_error_is_a_word_of_the_code() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for package in ("node", "workers")
                     for path in (ROOT / package).rglob("*.py"))  # fmt: skip
    for reason in REASON_ROW.findall(ERRORS_PAGE):
        assert f'"{reason}"' in code, reason


def commands() -> dict[str, Any]:
    """Return every command of the command line by the words a person types."""
    found: dict[str, Any] = {}
    group = get_group(app)
    ctx = Context(group)
    for name in group.list_commands(ctx):
        command: Any = group.get_command(ctx, name)
        if hasattr(command, "commands"):
            found |= {f"{name} {inner}": entry for inner, entry in command.commands.items()}
        if getattr(command, "invoke_without_command", True):
            found[name] = command
    return found


def typed_commands(text: str) -> list[str]:
    """Return the command lines `radnode …` in code of a page: fenced blocks, and spans between backticks."""
    fenced = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in fenced for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line.split("#")[0].strip() for line in [*lines, *spans] if re.match(r"radnode \w", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_documents_exist(page: Path) -> None:
    known = commands()
    for line in typed_commands(page.read_text(encoding="utf-8")):
        words = line.split()[1:]
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert name in known, line
        options = {option for parameter in known[name].params for option in parameter.opts} | {"--help"}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= options, line


def test_the_readme_names_every_command() -> None:
    typed = " ".join(typed_commands(README)) + " "
    rows = re.findall(r"^\| `radnode ([^`]+)`", README, re.MULTILINE)
    named = {" ".join(row.split()[:2]) for row in rows} | {row.split()[0] for row in rows}
    missing = [name for name in commands() if name not in named and f"radnode {name} " not in typed]
    assert not missing, missing


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".ci" / "run"], ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_in_the_documents_exist(page: Path) -> None:
    typed = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert typed <= make_targets()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_shipped_model_has_a_card_with_its_licence() -> None:
    for card in list_models((SHIPPED_MODELS,)):
        page = (ROOT / "docs" / "models" / f"{card.name}.md").read_text(encoding="utf-8")
        assert re.split(r"[:;]", card.licence)[0].removeprefix("Weights ") in page, card.name


def test_decisions_are_short_and_say_context_choice_and_price() -> None:
    for page in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert re.match(rf"# {page.name[:4]}: ", text), page.name
        assert all(f"**{part}.**" in text for part in ("Context", "Choice", "Price")), page.name
        assert len(text.splitlines()) <= 12, page.name


def test_constraints_are_exact_and_cover_every_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin) for pin in pins)
    pinned = {normalized(pin.split("==")[0]) for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(w for extra in project["optional-dependencies"].values() for w in extra)]
    assert {normalized(re.split(r"[\[=><~! ]", entry)[0]) for entry in wanted} <= pinned


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
