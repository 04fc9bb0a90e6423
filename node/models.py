"""Model folders as the node sees them: `model.toml`, read without torch."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.domain.codes import Code
from node.errors import ModelInvalid

MODEL_FILE = "model.toml"
REQUIRED_KEYS = (
    "name",
    "version",
    "pipeline",
    "licence",
    "intended_use",
    "notice",
    "series_offset",
)
# They become text of one line in every Result: LO, PS3.5 6.2.
LINE_KEYS = ("name", "version", "pipeline", "title")
MAX_LINE = 64
# Series Numbers of two kinds of Results are a hundred apart.
MAX_SERIES_OFFSET = 99
CODE_PARTS = ("value", "scheme", "meaning")
SHIPPED_MODELS = Path(__file__).resolve().parent.parent / "workers" / "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What `model.toml` says of one model.

    Attributes
    ----------
    required_roles, optional_roles
        Names of the Series that the model reads.
    title
        Words for people in Series Descriptions and on the summary picture, such as ``Lung Nodules``; empty where
        `model.toml` gives none.
    looked_for
        The codes of ``[[labels]]``: what the model can find, and what is absent when it finds nothing.
    series_offset
        k in the Series Numbers 9100+k (SEG), 9200+k (SR), 9300+k (SC); 0 to 99.
    numbers
        The tables ``[preprocessing]``, ``[thresholds]`` and ``[architecture]`` as they stand in the file.
    """

    name: str
    version: str
    pipeline: str
    licence: str
    intended_use: str
    notice: str
    series_offset: int
    weights: Path
    weights_sha256: str
    required_roles: tuple[str, ...]
    optional_roles: tuple[str, ...]
    numbers: Mapping[str, Any]
    title: str = ""
    looked_for: tuple[Code, ...] = ()

    def verify_weights(self) -> None:
        """Compare the weights with the digest that `model.toml` names.

        Raises
        ------
        ModelInvalid
            If the file is absent or differs.
        """
        if not self.weights.is_file():
            raise ModelInvalid(f"model {self.name}: {self.weights} is absent; pull or copy the model again")
        found = hashlib.sha256(self.weights.read_bytes()).hexdigest()
        if found != self.weights_sha256:
            raise ModelInvalid(
                f"model {self.name}: {self.weights} has sha256 {found[:12]}…, model.toml names "
                f"{self.weights_sha256[:12]}…; restore the weights, never edit the digest to fit"
            )


def read_model(folder: Path) -> ModelCard:
    """Read the model in `folder`; the weights are not opened.

    Raises
    ------
    ModelInvalid
        If `model.toml` is absent, no TOML, or lacks a key, or if a value cannot stand in a Result.
    """
    path = folder / MODEL_FILE
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ModelInvalid(f"{path} is absent; a model folder needs it") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise ModelInvalid(f"{path} cannot be read as TOML: {exc}") from exc
    weights, inputs = _table(table, "weights"), _table(table, "inputs")
    missing = [key for key in REQUIRED_KEYS if key not in table]
    missing += [f"weights.{key}" for key in ("file", "sha256") if key not in weights]
    missing += [] if inputs else ["inputs"]
    missing += [f"inputs.{role} (a table)" for role, entry in inputs.items() if not isinstance(entry, Mapping)]
    if missing:
        raise ModelInvalid(f"{path}: {', '.join(missing)} missing")
    _check_values(table, path)
    roles = {role: bool(entry.get("required", True)) for role, entry in inputs.items()}
    return ModelCard(
        **{key: table[key] for key in REQUIRED_KEYS},
        weights=folder / weights["file"],
        weights_sha256=weights["sha256"],
        required_roles=tuple(role for role, required in roles.items() if required),
        optional_roles=tuple(role for role, required in roles.items() if not required),
        numbers={key: table[key] for key in ("preprocessing", "thresholds", "architecture") if key in table},
        title=table.get("title", ""),
        looked_for=_read_labels(table, path),
    )


def _check_values(table: Mapping[str, Any], path: Path) -> None:
    for key in LINE_KEYS:
        text = table.get(key, "")
        if not isinstance(text, str) or len(text) > MAX_LINE or not text.isprintable() or "\\" in text:
            raise ModelInvalid(f"{path}: {key} is {text!r}; give at most {MAX_LINE} characters without a backslash")
    offset = table["series_offset"]
    if type(offset) is not int or not 0 <= offset <= MAX_SERIES_OFFSET:
        raise ModelInvalid(f"{path}: series_offset is {offset!r}; give a whole number from 0 to {MAX_SERIES_OFFSET}")


def _read_labels(table: Mapping[str, Any], path: Path) -> tuple[Code, ...]:
    labels = table.get("labels", [])
    codes = []
    for label in labels if isinstance(labels, list) else [labels]:
        code = label.get("code") if isinstance(label, Mapping) else None
        parts = [part for part in code if isinstance(part, str) and part] if isinstance(code, list) else []
        if len(parts) != len(CODE_PARTS):
            raise ModelInvalid(f"{path}: each of [[labels]] needs code = [{', '.join(CODE_PARTS)}], found {code!r}")
        codes.append(Code(*parts))
    return tuple(codes)


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key)
    return value if isinstance(value, Mapping) else {}


def find_model(name: str, folders: tuple[Path, ...]) -> ModelCard:
    """Return the model called `name` from the first of `folders` that holds it.

    Raises
    ------
    ModelInvalid
        If no folder holds it, or the one found is incomplete.
    """
    for folder in folders:
        if (folder / name / MODEL_FILE).is_file():
            return read_model(folder / name)
    looked = ", ".join(str(folder) for folder in folders)
    raise ModelInvalid(f"model {name!r} is in none of {looked}; see `radnode models list`")


def list_models(folders: tuple[Path, ...]) -> tuple[ModelCard, ...]:
    """Return every model of `folders`, by name; the first folder wins.

    Raises
    ------
    ModelInvalid
        If a model folder is incomplete.
    """
    found: dict[str, ModelCard] = {}
    for folder in folders:
        for path in sorted(folder.glob(f"*/{MODEL_FILE}")):
            card = read_model(path.parent)
            found.setdefault(card.name, card)
    return tuple(found[name] for name in sorted(found))
