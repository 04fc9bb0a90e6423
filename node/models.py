"""Model folders as the node sees them: `model.toml`, read without torch."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
SHIPPED_MODELS = Path(__file__).resolve().parent.parent / "workers" / "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What `model.toml` says of one model.

    Attributes
    ----------
    required_roles, optional_roles
        Names of the Series that the model reads.
    series_offset
        k in the Series Numbers 9100+k (SEG), 9200+k (SR), 9300+k (SC).
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
        If `model.toml` is absent, no TOML, or lacks a key.
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
    roles = {role: bool(entry.get("required", True)) for role, entry in inputs.items()}
    return ModelCard(
        **{key: table[key] for key in REQUIRED_KEYS},
        weights=folder / weights["file"],
        weights_sha256=weights["sha256"],
        required_roles=tuple(role for role, required in roles.items() if required),
        optional_roles=tuple(role for role, required in roles.items() if not required),
        numbers={key: table[key] for key in ("preprocessing", "thresholds", "architecture") if key in table},
    )


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
