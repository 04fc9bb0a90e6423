"""A MONAI Bundle becomes a model folder: what its metadata say, and what a site must say, as `model.toml`."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.catalogue.writing import write_manifest
from node.errors import ModelInvalid
from node.manifest import BUNDLE_PIPELINE, MAX_LINE, BundleKind
from node.models import MODEL_FILE, digest_file, list_files

CONFIG = "configs/inference.json"
METADATA = ("configs/metadata.json", "metadata.json")
# As bundles call it, the best first.
WEIGHTS = ("models/model.safetensors", "models/model.pt", "models/model.ts", "models/model.pt2")
# Bundles of the same site come after the shipped pipelines; `series_offset` parts them where that matters.
SERIES_OFFSET = 50
NOTICE = "Not validated here, not for diagnosis"
# Words of `network_data_format.outputs.pred.format`, and of `task`, that tell what a bundle answers.
KIND_WORDS: Sequence[tuple[BundleKind, tuple[str, ...]]] = (
    (BundleKind.DETECTION, ("detect", "box")),
    (BundleKind.SEGMENTATION, ("segment", "labels", "mask")),
    (BundleKind.CLASSIFICATION, ("classif", "classes", "probabilit")),
)
LABEL_FORM = "VALUE=CODE,SCHEME,MEANING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a person says of a bundle beside what lies in it.

    Attributes
    ----------
    card
        A `model.toml` that is not in the bundle's folder; None: the one there, if there is one.
    labels
        Each ``VALUE=CODE,SCHEME,MEANING``.
    """

    card: Path | None = None
    labels: tuple[str, ...] = ()


def is_bundle(folder: Path) -> bool:
    """Tell whether a folder looks like a MONAI Bundle."""
    return (folder / CONFIG).is_file() or any((folder / path).is_file() for path in METADATA)


def complete_bundle(folder: Path, wishes: Wishes) -> None:
    """Write `model.toml` into a copy of a bundle: what is told there, then what is wished, then its metadata.

    Raises
    ------
    ModelInvalid
        If it has no metadata or inference config, no weights, a label no code, or a code a number that the metadata do
        not have.
    """
    if wishes == Wishes() and _is_complete(folder):
        return
    metadata = _read_metadata(folder)
    told = _read_card(wishes.card if wishes.card is not None else folder / MODEL_FILE)
    table = _describe(folder, metadata) | {key: value for key, value in told.items() if key != "bundle"}
    table["bundle"] = _guess_bundle(metadata) | dict(told.get("bundle", {}))
    table["labels"] = [*told.get("labels", []), *_read_labels(wishes.labels, folder, metadata)]
    if not table["labels"]:
        raise ModelInvalid(_ask_for_labels(folder, metadata))
    config = table["bundle"].get("config", CONFIG)
    if not (folder / config).is_file():
        raise ModelInvalid(f"{folder.name} has no {config}; a bundle is run by its inference config")
    weights = dict(table["weights"])
    if not (folder / weights["file"]).is_file():
        raise ModelInvalid(f"{folder.name} has no {weights['file']}; name its weights in {MODEL_FILE}: [weights] file")
    weights.setdefault("sha256", digest_file(folder / weights["file"]))
    table["weights"] = weights
    files = {path: digest_file(folder / path) for path in list_files(folder) if path != weights["file"]}
    table["bundle"] = {**table["bundle"], "files": files}
    (folder / MODEL_FILE).write_text(write_manifest(table), encoding="utf-8")


def _is_complete(folder: Path) -> bool:
    """Tell whether a bundle has been installed elsewhere: its `model.toml` names every file already."""
    return bool(_read_card(folder / MODEL_FILE).get("bundle", {}).get("files"))


def _read_metadata(folder: Path) -> Mapping[str, Any]:
    path = next((folder / one for one in METADATA if (folder / one).is_file()), None)
    if path is None:
        raise ModelInvalid(
            f"{folder.name} has no {METADATA[0]}; a MONAI Bundle has one: get the whole bundle, or write at least "
            '{"version": "...", "task": "...", "intended_use": "..."} there'
        )
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as exc:
        raise ModelInvalid(f"{folder.name}: {path.name} cannot be read as JSON ({exc}); get the bundle again") from exc
    if not isinstance(metadata, Mapping):
        raise ModelInvalid(f"{folder.name}: {path.name} is no JSON object; get the bundle again")
    return metadata


def _read_card(path: Path) -> dict[str, Any]:
    if not path.is_file():
        if path.name == MODEL_FILE:
            return {}
        raise ModelInvalid(f"{path} does not exist; name the file by --card")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise ModelInvalid(f"{path} cannot be read as TOML: {exc}") from exc


def _describe(folder: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what metadata and files say of a bundle, as the keys of a `model.toml`."""
    name = "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in folder.name)
    weights = next((path for path in WEIGHTS if (folder / path).is_file()), WEIGHTS[1])
    image = _format_of(metadata, "inputs", "image")
    modality = image.get("modality")
    # An example in the metadata may be "MR" or "n/a"; what is no Modality would match nothing.
    role = {"modality": modality} if isinstance(modality, str) and modality.isalpha() and modality.isupper() else {}
    return {
        "name": name[:MAX_LINE],
        "version": _line(metadata.get("version"), "0"),
        "pipeline": BUNDLE_PIPELINE,
        "title": _line(metadata.get("name"), folder.name.replace("_", " ")),
        "licence": _line(metadata.get("license") or metadata.get("copyright"), "see the bundle"),
        "intended_use": _line(metadata.get("intended_use") or metadata.get("description"), "not said by the bundle"),
        "notice": NOTICE,
        "series_offset": SERIES_OFFSET,
        "weights": {"file": weights} | ({"format": "torchscript"} if weights.endswith(".ts") else {}),
        "inputs": {"image": role},
    }


def _guess_bundle(metadata: Mapping[str, Any]) -> dict[str, Any]:
    said = [str(_format_of(metadata, "outputs", "pred").get("format", "")), str(metadata.get("task", ""))]
    shape = _format_of(metadata, "inputs", "image").get("spatial_shape")
    guessed: dict[str, Any] = {"dimensions": len(shape)} if isinstance(shape, list) and len(shape) in {2, 3} else {}
    for text in said:
        for kind, words in KIND_WORDS:
            if any(word in text.lower() for word in words):
                return {"kind": kind.value, **guessed}
    return guessed


def _format_of(metadata: Mapping[str, Any], side: str, key: str) -> Mapping[str, Any]:
    found: Any = metadata
    for step in ("network_data_format", side, key):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _line(value: object, default: str) -> str:
    text = " ".join(str(value or default).replace("\\", "/").split())
    return text[:MAX_LINE]


def _read_labels(texts: Sequence[str], folder: Path, metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    labels = [_read_label(text) for text in texts]
    things = _list_things(metadata)
    # Nothing but 0 may be the one channel of a label map, and what the numbers in it mean is not told then.
    is_told = bool(things.keys() - {"0"})
    for label in labels:
        if is_told and str(label["value"]) not in things:
            raise ModelInvalid(
                f"--label {label['value']}=...: {folder.name} has {_name_things(things)}; give one of these a code, or "
                f"write [[labels]] into {MODEL_FILE} if its metadata are wrong"
            )
    return labels


def _read_label(text: str) -> dict[str, Any]:
    value, equals, code = text.partition("=")
    parts = [part.strip() for part in code.split(",", 2)]
    if not equals or not value.strip().isdigit() or len(parts) != 3 or not all(parts):
        raise ModelInvalid(f"--label {text!r}: write {LABEL_FORM}, such as 1=27925004,SCT,Nodule")
    return {"name": parts[2], "value": int(value), "code": parts}


def _ask_for_labels(folder: Path, metadata: Mapping[str, Any]) -> str:
    """Return what is missing: each thing that the bundle names, and the option that gives it a code."""
    things = _list_things(metadata)
    said = _name_things(things) or "nothing"
    options = " ".join(f"--label {key}=CODE,SCHEME,MEANING" for key in things) or f"--label {LABEL_FORM}"
    return (
        f"{folder.name} has labels without codes (its metadata name {said}); give each a code, of SNOMED CT for "
        f"example: {options}, or write [[labels]] into {MODEL_FILE}"
    )


def _list_things(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return what the metadata name by number, but for the background."""
    channels = _format_of(metadata, "outputs", "pred").get("channel_def")
    named = channels if isinstance(channels, Mapping) else {}
    return {str(key): str(name) for key, name in named.items() if str(name).lower() != "background"}


def _name_things(things: Mapping[str, str]) -> str:
    return ", ".join(f"{key} = {name}" for key, name in things.items())
