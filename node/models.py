"""Model folders as the node sees them: `model.toml`, read without torch."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from node.domain.codes import Code
from node.errors import ModelInvalid
from node.manifest import (
    Bundle,
    Fit,
    Label,
    WeightsFormat,
    check_manifest,
    find_format,
    read_bundle,
    read_fit,
    read_labels,
)

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
# What a Result may depend on beside names and weights.
NUMBER_TABLES = ("preprocessing", "thresholds", "calibration", "architecture", "bundle", "fit")
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
        The tables ``[preprocessing]``, ``[thresholds]``, ``[calibration]``, ``[architecture]``, ``[bundle]`` and
        ``[fit]`` as they stand in the file.
    weights_format
        How the weights are kept.
    labels
        ``[[labels]]`` with all that they say.
    modalities
        Role to the Modalities that it takes; a role that names none takes any.
    bundle
        How it is asked if it is a MONAI Bundle; None for a model of a Pipeline that knows its own network.
    fit
        ``[fit]``: which inputs it was made for.
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
    weights_format: WeightsFormat = WeightsFormat.SAFETENSORS
    labels: tuple[Label, ...] = ()
    modalities: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    bundle: Bundle | None = None
    fit: Fit = field(default_factory=Fit)

    @property
    def folder(self) -> Path:
        """The model folder; below it lie the weights, at any depth."""
        holders = (parent for parent in self.weights.parents if (parent / MODEL_FILE).is_file())
        return next(holders, self.weights.parent)

    def verify_weights(self) -> None:
        """Compare the weights, the input autoencoder and the files of a bundle with the digests in `model.toml`.

        Raises
        ------
        ModelInvalid
            If a file is absent or differs.
        """
        self._verify_file(self.weights, self.weights_sha256)
        if self.fit.autoencoder is not None:
            self._verify_file(self.fit.autoencoder.file, self.fit.autoencoder.sha256)
        if self.bundle is not None:
            self._verify_bundle(self.bundle)

    def _verify_file(self, path: Path, sha256: str) -> None:
        if not path.is_file():
            raise ModelInvalid(f"model {self.name}: {path} is absent; pull or copy the model again")
        found = digest_file(path)
        if found != sha256:
            raise ModelInvalid(
                f"model {self.name}: {path} has sha256 {found[:12]}…, model.toml names {sha256[:12]}…; restore the "
                "weights, never edit the digest to fit"
            )

    def _verify_bundle(self, bundle: Bundle) -> None:
        folder = self.folder
        found = {path: digest_file(folder / path) for path in list_files(folder)}
        expected = {**bundle.files, self.weights.relative_to(folder).as_posix(): self.weights_sha256}
        changed = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
        if changed:
            raise ModelInvalid(
                f"model {self.name}: {', '.join(changed[:5])} in {folder} are not what was installed, and a bundle is "
                "code: `radnode models remove` it, look at it, and add it again"
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
    complaints = check_manifest(table)
    if complaints:
        raise ModelInvalid(f"{path}: {'; '.join(complaints)}")
    weights, inputs = table["weights"], table["inputs"]
    roles = {role: bool(entry.get("required", True)) for role, entry in inputs.items()}
    labels = read_labels(table)
    return ModelCard(
        **{key: table[key] for key in REQUIRED_KEYS},
        weights=folder / weights["file"],
        weights_sha256=weights["sha256"],
        weights_format=find_format(weights),
        required_roles=tuple(role for role, required in roles.items() if required),
        optional_roles=tuple(role for role, required in roles.items() if not required),
        modalities={role: _read_modalities(entry) for role, entry in inputs.items()},
        numbers={key: table[key] for key in NUMBER_TABLES if key in table},
        title=table.get("title", ""),
        looked_for=tuple(label.code for label in labels),
        labels=labels,
        bundle=read_bundle(table),
        fit=read_fit(table, folder),
    )


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path) -> tuple[str, ...]:
    """Return the files of a model folder but `model.toml`, as paths below it."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return tuple(sorted(one.as_posix() for one in found if one.as_posix() != MODEL_FILE))


def _read_modalities(entry: Mapping[str, Any]) -> tuple[str, ...]:
    told = entry.get("modality", ())
    return (told,) if isinstance(told, str) else tuple(told)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A model folder that is none: where it is, why, and what to do."""

    folder: Path
    text: str


def list_models(folders: tuple[Path, ...]) -> tuple[ModelCard, ...]:
    """Return every model of `folders`, by name; the first folder wins.

    Raises
    ------
    ModelInvalid
        If a model folder is incomplete.
    """
    cards, faults = survey_folders(folders)
    if faults:
        raise ModelInvalid(faults[0].text)
    return cards


def survey_folders(folders: tuple[Path, ...]) -> tuple[tuple[ModelCard, ...], tuple[Fault, ...]]:
    """Return every model of `folders`, by name, the first folder wins; and the folders that are incomplete."""
    found: dict[str, ModelCard] = {}
    faults = []
    for path in (one for folder in folders for one in sorted(folder.glob(f"[!.]*/{MODEL_FILE}"))):
        try:
            card = read_model(path.parent)
        except ModelInvalid as exc:
            faults.append(Fault(folder=path.parent, text=str(exc)))
        else:
            found.setdefault(card.name, card)
    return tuple(found[name] for name in sorted(found)), tuple(faults)
