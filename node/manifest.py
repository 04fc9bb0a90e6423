"""What `model.toml` may hold: each key, what it must be, and what to write where it is not."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from node.domain.codes import Code
from node.domain.prior import PRIOR_ROLE

# Text of one line in every Result: LO, PS3.5 6.2.
MAX_LINE = 64
# Code Value (0008,0100) is SH, PS3.5 6.2.
MAX_CODE_VALUE = 16
# Series Numbers of two kinds of Results are a hundred apart.
MAX_SERIES_OFFSET = 99
MAX_LABEL_VALUE = 65_535
SHA256 = re.compile(r"[0-9a-f]{64}")
CODE_PARTS = ("value", "scheme", "meaning")
BUNDLE_PIPELINE = "bundle"

Table = Mapping[str, Any]
Check = Callable[[object], bool]


class WeightsFormat(StrEnum):
    """How weights are kept; the last two are networks of their own, that is code, and read of a bundle only."""

    SAFETENSORS = "safetensors"
    STATE_DICT = "state-dict"
    TORCHSCRIPT = "torchscript"
    EXPORT = "export"


FORMATS: Mapping[str, WeightsFormat] = MappingProxyType(
    {
        ".safetensors": WeightsFormat.SAFETENSORS,
        ".pt": WeightsFormat.STATE_DICT,
        ".pth": WeightsFormat.STATE_DICT,
        ".ts": WeightsFormat.TORCHSCRIPT,
        ".pt2": WeightsFormat.EXPORT,
    }
)


class BundleKind(StrEnum):
    """What a bundle answers."""

    SEGMENTATION = "segmentation"
    DETECTION = "detection"
    CLASSIFICATION = "classification"


class BoxSpace(StrEnum):
    """In which coordinates a bundle gives its boxes."""

    WORLD_RAS = "world-ras"
    WORLD_LPS = "world-lps"
    VOXEL = "voxel"


class BoxMode(StrEnum):
    """How six numbers are a box: two corners, or center and edges."""

    CORNERS = "xyzxyz"
    CENTER = "cccwhd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One of ``[[labels]]``.

    Attributes
    ----------
    value
        The number under which the model knows it: in a mask, of a box, or the channel of a classifier.
    category
        What kind of thing it is (PS3.16 CID 7150); None: a morphologically abnormal structure.
    site
        Where in the body; None: it is not said.
    """

    name: str
    code: Code
    value: int
    category: Code | None = None
    site: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """``[bundle]``: how a MONAI Bundle is asked, and how its answer is read.

    Attributes
    ----------
    dimensions
        3: the volume at once; 2: each of its slices, or a radiograph.
    config
        The inference config, below the model folder.
    network, preprocessing, inferer, postprocessing
        Where these stand in the config.
    image, output
        Keys of what goes in and of what comes out of the transforms.
    boxes, scores, classes
        Keys of what a detector answers.
    files
        Path below the model folder to the SHA-256 of every other file: a bundle is code.
    """

    kind: BundleKind
    dimensions: int = 3
    config: str = "configs/inference.json"
    network: str = "network_def"
    preprocessing: str = "preprocessing"
    inferer: str = "inferer"
    postprocessing: str = "postprocessing"
    image: str = "image"
    output: str = "pred"
    boxes: str = "box"
    scores: str = "label_scores"
    classes: str = "label"
    box_space: BoxSpace = BoxSpace.WORLD_RAS
    box_mode: BoxMode = BoxMode.CENTER
    files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class Plane(StrEnum):
    """How slices lie in the patient."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


class Contrast(StrEnum):
    """Whether a Series was taken with a contrast agent."""

    WITH = "with"
    WITHOUT = "without"


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoencoder:
    """``[fit.autoencoder]``: what scores how unlike the training data an input is.

    Attributes
    ----------
    file
        Its weights, in the model folder.
    threshold
        Score up to which an input is ordinary, > 0.
    band
        How far above it an input is still read, with a sentence in the report.
    """

    file: Path
    sha256: str
    threshold: float
    band: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """``[fit]``: which inputs the model was made for; what is absent is not asked.

    Attributes
    ----------
    body_parts, views
        Values of Body Part Examined (0018,0015) and View Position (0018,5101).
    age_years, slice_spacing_mm, pixel_spacing_mm, field_of_view_mm
        Least and most, both included.
    phantoms
        Whether phantoms and tests of the machine are read too.
    """

    body_parts: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    orientation: Plane | None = None
    contrast: Contrast | None = None
    age_years: tuple[float, float] | None = None
    slice_spacing_mm: tuple[float, float] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    field_of_view_mm: tuple[float, float] | None = None
    phantoms: bool = False
    autoencoder: Autoencoder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What one key must be; `advice` completes the sentence that begins with "write"."""

    is_right: Check
    advice: str
    is_required: bool = False


def check_manifest(table: Table) -> list[str]:
    """Return everything that is wrong with the table of a `model.toml`: key, what was found, what to write."""
    complaints = _check_table(table, "", TOP)
    weights, inputs = _inner(table, "weights"), table.get("inputs")
    complaints += _check_table(weights, "weights.", WEIGHTS)
    for role, entry in inputs.items() if isinstance(inputs, Mapping) else ():
        if isinstance(entry, Mapping):
            complaints += _check_table(entry, f"inputs.{role}.", INPUT)
            if role == PRIOR_ROLE and entry.get("required", True) is not False:
                complaints.append(f"inputs.{role} is required; write required = false: not every patient has one")
        else:
            complaints.append(f"inputs.{role} is {_show(entry)}; write a table: [inputs.{role}]")
    complaints += _check_labels(table)
    complaints += _check_fit(table)
    if "calibration" in table:
        complaints += _check_table(_inner(table, "calibration"), "calibration.", CALIBRATION)
    if "bundle" in table:
        complaints += _check_table(_inner(table, "bundle"), "bundle.", BUNDLE)
        complaints += _check_bundle(table)
    elif _holds_network(weights):
        complaints.append(
            f"weights.file is {_show(weights['file'])}, a network of its own, which is read of a bundle only; write "
            "safetensors or a state dict"
        )
    elif table.get("pipeline") == BUNDLE_PIPELINE:
        complaints.append("bundle is absent; write a table [bundle] with kind, or another pipeline")
    return complaints


def read_labels(table: Table) -> tuple[Label, ...]:
    """Return the labels of a table in which `check_manifest` finds nothing wrong."""
    return tuple(
        Label(
            name=entry.get("name", entry["code"][2]),
            code=Code(*entry["code"]),
            value=entry.get("value", number),
            category=Code(*entry["category"]) if "category" in entry else None,
            site=Code(*entry["site"]) if "site" in entry else None,
        )
        for number, entry in enumerate(table.get("labels", ()), 1)
    )


def read_bundle(table: Table) -> Bundle | None:
    """Return ``[bundle]`` of a table in which `check_manifest` finds nothing wrong; None where there is none."""
    if "bundle" not in table:
        return None
    told = dict(table["bundle"])
    for key, kind in (("kind", BundleKind), ("box_space", BoxSpace), ("box_mode", BoxMode)):
        if key in told:
            told[key] = kind(told[key])
    return Bundle(**told)


def read_fit(table: Table, folder: Path) -> Fit:
    """Return ``[fit]`` of a table in which `check_manifest` finds nothing wrong; without one, nothing is asked."""
    told = dict(table.get("fit", {}))
    for key, kind in (("orientation", Plane), ("contrast", Contrast)):
        if key in told:
            told[key] = kind(told[key])
    for key in FIT_RANGES:
        if key in told:
            told[key] = tuple(float(one) for one in told[key])
    for key in FIT_WORDS:
        told[key] = tuple(told.get(key, ()))
    if "autoencoder" in told:
        told["autoencoder"] = Autoencoder(**{**told["autoencoder"], "file": folder / told["autoencoder"]["file"]})
    return Fit(**told)


def find_format(weights: Table) -> WeightsFormat:
    """Return how weights are kept: as ``weights.format`` says, else as the name of the file does."""
    told = weights.get("format")
    return WeightsFormat(told) if told else FORMATS[PurePosixPath(weights["file"]).suffix.lower()]


def _holds_network(weights: Table) -> bool:
    """Tell whether weights bring their network, that is code."""
    if any("weights." in one for one in _check_table(weights, "weights.", WEIGHTS)):
        return False
    return find_format(weights) in {WeightsFormat.TORCHSCRIPT, WeightsFormat.EXPORT}


def _inner(table: Table, key: str) -> Table:
    value = table.get(key)
    return value if isinstance(value, Mapping) else {}


def _check_table(table: Table, prefix: str, rules: Mapping[str, _Rule]) -> list[str]:
    complaints = []
    for key, rule in rules.items():
        if key not in table:
            complaints += [f"{prefix}{key} is absent; write {rule.advice}"] if rule.is_required else []
        elif not rule.is_right(table[key]):
            complaints.append(f"{prefix}{key} is {_show(table[key])}; write {rule.advice}")
    for key in table:
        if key not in rules:
            near = get_close_matches(str(key), rules, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(rules)}"
            complaints.append(f"{prefix}{key} is no key of model.toml; {remedy}")
    return complaints


def _check_labels(table: Table) -> list[str]:
    labels = table.get("labels", [])
    if not isinstance(labels, list):
        return [f"labels is {_show(labels)}; write [[labels]], each with code = [{', '.join(CODE_PARTS)}]"]
    complaints = []
    for number, label in enumerate(labels, 1):
        if isinstance(label, Mapping):
            complaints += _check_table(label, f"labels {number}: ", LABEL)
        else:
            complaints.append(f"labels {number} is {_show(label)}; write code = [{', '.join(CODE_PARTS)}]")
    return complaints


def _check_fit(table: Table) -> list[str]:
    if "fit" not in table:
        return []
    fit = _inner(table, "fit")
    complaints = _check_table(fit, "fit.", FIT)
    if "autoencoder" in fit:
        complaints += _check_table(_inner(fit, "autoencoder"), "fit.autoencoder.", AUTOENCODER)
        if "bundle" in table:
            complaints.append("fit.autoencoder is asked of no bundle; take it out, or write limits into [fit]")
    return complaints


def _check_bundle(table: Table) -> list[str]:
    labels = table.get("labels")
    entries = [entry for entry in labels if isinstance(entry, Mapping)] if isinstance(labels, list) else []
    complaints = [] if entries else ["labels is absent; a bundle needs [[labels]] with name, value and code for each"]
    values = [entry.get("value") for entry in entries]
    complaints += [
        f"labels {number}: value is absent; write the number that the bundle gives it (channel_def of metadata.json)"
        for number, value in enumerate(values, 1)
        if value is None
    ]
    if len(set(values)) != len(values):
        complaints.append(f"labels have the values {values}; write each value once")
    if table.get("pipeline", BUNDLE_PIPELINE) != BUNDLE_PIPELINE:
        complaints.append(f'pipeline is {_show(table["pipeline"])}; write "{BUNDLE_PIPELINE}", or no table [bundle]')
    bundle = _inner(table, "bundle")
    if bundle.get("kind") == BundleKind.DETECTION and bundle.get("dimensions", 3) != 3:
        complaints.append("bundle.dimensions is 2; write 3: boxes are read in volumes only")
    if bundle.get("kind") == BundleKind.CLASSIFICATION and bundle.get("dimensions", 3) != 2:
        complaints.append("bundle.dimensions is 3; write 2: only radiographs are classified")
    return complaints


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}…"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_line(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_LINE and value.isprintable() and "\\" not in value


def _is_name(value: object) -> bool:
    return _is_line(value) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", str(value)))


def _is_path(value: object) -> bool:
    """Tell whether a value is a relative path that does not leave its folder."""
    if not isinstance(value, str) or not value:
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts


def _is_weights_file(value: object) -> bool:
    return _is_path(value) and PurePosixPath(str(value)).suffix.lower() in FORMATS


def _is_whole(least: int, most: int) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _is_one_of(kind: type[StrEnum]) -> Check:
    return lambda value: value in set(kind)


def _is_code(value: object) -> bool:
    if not isinstance(value, list) or len(value) != len(CODE_PARTS):
        return False
    return all(_is_line(part) and part for part in value) and len(value[0]) <= MAX_CODE_VALUE


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def _is_file_list(value: object) -> bool:
    return isinstance(value, Mapping) and all(_is_path(key) and _is_digest(told) for key, told in value.items())


def _is_word_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_line(one) and bool(one) for one in value)


def _is_number(value: object) -> bool:
    return type(value) in {int, float} and math.isfinite(float(str(value)))


def _is_range(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and 0 <= value[0] <= value[1]


def _is_safetensors(value: object) -> bool:
    return _is_path(value) and PurePosixPath(str(value)).suffix == ".safetensors"


def _names(kind: type[StrEnum]) -> str:
    return " or ".join(f'"{one.value}"' for one in kind)


LINE = f"at most {MAX_LINE} characters without a backslash"
TABLE = _Rule(is_right=_is_table, advice="a table")
KEY = _Rule(is_right=_is_text, advice="a key of the bundle's config or of its transforms, in quotes")
ONE_CODE = f'code = [{", ".join(CODE_PARTS)}], such as ["27925004", "SCT", "Nodule"]'

TOP: Mapping[str, _Rule] = MappingProxyType(
    {
        "name": _Rule(
            is_right=_is_name,
            advice=f"the name of the folder: at most {MAX_LINE} letters, digits, dots, hyphens",
            is_required=True,
        ),
        "version": _Rule(is_right=_is_line, advice=f"the version in quotes, {LINE}", is_required=True),
        "pipeline": _Rule(is_right=_is_line, advice=f"the Pipeline that it is made for, {LINE}", is_required=True),
        "title": _Rule(is_right=_is_line, advice=f"words for people, {LINE}"),
        "licence": _Rule(is_right=_is_text, advice='the licence, such as "Apache-2.0"', is_required=True),
        "intended_use": _Rule(is_right=_is_text, advice="one sentence: what it is for", is_required=True),
        "notice": _Rule(is_right=_is_text, advice="what each Result says of the model, in quotes", is_required=True),
        "series_offset": _Rule(
            is_right=_is_whole(0, MAX_SERIES_OFFSET),
            advice=f"a whole number from 0 to {MAX_SERIES_OFFSET}",
            is_required=True,
        ),
        "weights": _Rule(is_right=_is_table, advice="a table [weights] with file and sha256", is_required=True),
        "inputs": _Rule(
            is_right=lambda value: isinstance(value, Mapping) and bool(value),
            advice="a table for each Series that it reads, such as [inputs.ct]",
            is_required=True,
        ),
        # Looked at one by one.
        "labels": _Rule(is_right=lambda _: True, advice="[[labels]]"),
        "preprocessing": TABLE,
        "thresholds": TABLE,
        "calibration": TABLE,
        "architecture": TABLE,
        "bundle": TABLE,
        "fit": TABLE,
    }
)
WEIGHTS: Mapping[str, _Rule] = MappingProxyType(
    {
        "file": _Rule(
            is_right=_is_weights_file,
            advice=f"a file below the model folder that ends in {', '.join(FORMATS)}; a bare pickle is never read",
            is_required=True,
        ),
        "sha256": _Rule(
            is_right=_is_digest,
            advice="the SHA-256 of that file, 64 digits 0-9a-f (sha256sum FILE)",
            is_required=True,
        ),
        "format": _Rule(is_right=_is_one_of(WeightsFormat), advice=_names(WeightsFormat)),
    }
)
INPUT: Mapping[str, _Rule] = MappingProxyType(
    {
        "required": _Rule(is_right=lambda value: isinstance(value, bool), advice="true or false"),
        "modality": _Rule(
            is_right=lambda value: _is_text(value) or (isinstance(value, list) and all(map(_is_text, value))),
            advice='a Modality such as "CT", or a list of them',
        ),
    }
)
LABEL: Mapping[str, _Rule] = MappingProxyType(
    {
        "name": _Rule(is_right=lambda value: _is_line(value) and bool(value), advice=f"words for people, {LINE}"),
        "value": _Rule(is_right=_is_whole(0, MAX_LABEL_VALUE), advice="the number that the model gives it"),
        "code": _Rule(is_right=_is_code, advice=ONE_CODE, is_required=True),
        "category": _Rule(is_right=_is_code, advice=ONE_CODE),
        "site": _Rule(is_right=_is_code, advice=ONE_CODE),
    }
)
BUNDLE: Mapping[str, _Rule] = MappingProxyType(
    {
        "kind": _Rule(is_right=_is_one_of(BundleKind), advice=_names(BundleKind), is_required=True),
        "dimensions": _Rule(is_right=_is_whole(2, 3), advice="2 or 3"),
        "config": _Rule(is_right=_is_path, advice="a file below the model folder"),
        **dict.fromkeys(("network", "preprocessing", "inferer", "postprocessing", "image", "output"), KEY),
        **dict.fromkeys(("boxes", "scores", "classes"), KEY),
        "box_space": _Rule(is_right=_is_one_of(BoxSpace), advice=_names(BoxSpace)),
        "box_mode": _Rule(is_right=_is_one_of(BoxMode), advice=_names(BoxMode)),
        "files": _Rule(is_right=_is_file_list, advice="path = sha256 of each file; `radnode models add` writes it"),
    }
)
CALIBRATION: Mapping[str, _Rule] = MappingProxyType(
    {
        "temperature": _Rule(
            is_right=lambda value: _is_number(value) and float(str(value)) > 0,
            advice="a number above 0 that a classifier's score is divided by; 1.0 leaves it as it is",
            is_required=True,
        )
    }
)
FIT_WORDS = ("body_parts", "views")
FIT_RANGES = ("age_years", "slice_spacing_mm", "pixel_spacing_mm", "field_of_view_mm")
FIT: Mapping[str, _Rule] = MappingProxyType(
    {
        **dict.fromkeys(FIT_WORDS, _Rule(is_right=_is_word_list, advice='a list of words, such as ["CHEST"]')),
        **dict.fromkeys(FIT_RANGES, _Rule(is_right=_is_range, advice="least and most, such as [0.5, 3.0]")),
        "orientation": _Rule(is_right=_is_one_of(Plane), advice=_names(Plane)),
        "contrast": _Rule(is_right=_is_one_of(Contrast), advice=_names(Contrast)),
        "phantoms": _Rule(is_right=lambda value: isinstance(value, bool), advice="true or false"),
        "autoencoder": TABLE,
    }
)
AUTOENCODER: Mapping[str, _Rule] = MappingProxyType(
    {
        "file": _Rule(is_right=_is_safetensors, advice="a .safetensors file below the model folder", is_required=True),
        "sha256": _Rule(is_right=_is_digest, advice="the SHA-256 of that file", is_required=True),
        "threshold": _Rule(
            is_right=lambda value: _is_number(value) and float(str(value)) > 0,
            advice="the score up to which an input is ordinary, above 0",
            is_required=True,
        ),
        "band": _Rule(
            is_right=lambda value: _is_number(value) and float(str(value)) >= 0,
            advice="how far above the threshold an input is still read, 0 or more",
        ),
    }
)
