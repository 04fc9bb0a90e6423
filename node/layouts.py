"""How the networks of a model are laid out on a device: what calibrations chose, in files."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import uuid4

from node.errors import StoreFull

FORMAT = 2
DIGEST_DIGITS = 16
UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class Memory(StrEnum):
    """In which order the numbers of a tensor lie: channel after channel, or all channels of a place together."""

    CONTIGUOUS = "contiguous"
    CHANNELS_LAST = "channels-last"


class Precision(StrEnum):
    """In which numbers a network computes; its weights and what it answers stay float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one network is asked."""

    memory: Memory = Memory.CONTIGUOUS
    precision: Precision = Precision.FLOAT32

    def __str__(self) -> str:
        return f"{self.memory.value} {self.precision.value}"


PLAIN = Layout()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a calibration found of one Layout of one network, against `PLAIN`.

    Attributes
    ----------
    times_faster
        Median over rounds in turn.
    difference
        Of the whole model's answers: the largest of 1 - Dice of its masks and the differences of its probabilities;
        None where it was not asked for, since the Layout was not faster. Infinite where findings came or went.
    """

    layout: Layout
    times_faster: float
    difference: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The Layout of one network, and what was tried for it."""

    layout: Layout
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What a choice holds for: with another of these another one may be better, or may answer otherwise.

    Attributes
    ----------
    weights_sha256
        Of the model.
    device
        Name of the CPU with the instructions that matter, or of the accelerator.
    torch
        Its version.
    numbers_sha256
        Of `ModelCard.numbers`: a threshold decides what a small difference turns.
    product
        Version of radnode, whose code is around the networks.
    """

    weights_sha256: str
    device: str
    torch: str
    numbers_sha256: str
    product: str

    @property
    def digest(self) -> str:
        """The name of the choice."""
        told = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:DIGEST_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The Layouts of one model on one device.

    Attributes
    ----------
    networks
        By the names that the Pipeline gives them.
    samples
        How many drawn Studies were asked about; 0 where the model reads none of them, and stays plain.
    """

    model: str
    version: str
    grounds: Grounds
    networks: Mapping[str, Chosen]
    samples: int
    at: datetime

    @property
    def words(self) -> str:
        """The networks that are not plain, and how they are laid out; empty where all are plain."""
        laid = ((name, chosen.layout) for name, chosen in self.networks.items() if chosen.layout != PLAIN)
        return ", ".join(f"{name} {layout}" for name, layout in laid)

    @property
    def is_rounded(self) -> bool:
        """Whether a network computes in fewer digits than it was made with."""
        return any(chosen.layout.precision is not Precision.FLOAT32 for chosen in self.networks.values())


class LayoutBook:
    """The calibrations of one installation, a file each, below ``node.data_dir``.

    A choice counts from its first moment on and is never changed by accident: two processes that calibrate at once
    keep the one whose file was there first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, model: str, grounds: Grounds) -> Calibration | None:
        """Return what was chosen for a model on these grounds; None where nothing was, or the file is damaged."""
        found = _read(self._locate(model, grounds))
        return found if found is not None and found.grounds == grounds else None

    def list_for(self, model: str, weights_sha256: str) -> tuple[Calibration, ...]:
        """Return what was chosen for these weights, on any device, the latest last."""
        paths = sorted(self._folder.glob(f"{_name(model)}.{'[0-9a-f]' * DIGEST_DIGITS}.json"))
        found = [one for path in paths if (one := _read(path)) is not None]
        of_these = (one for one in found if one.grounds.weights_sha256 == weights_sha256)
        return tuple(sorted(of_these, key=lambda one: one.at))

    def keep(self, calibration: Calibration, *, replaces: bool = False) -> Calibration:
        """Return what counts from now on: this calibration, unless there is a sound one that it does not replace.

        Returns after the bytes are on disk and have their name.

        Raises
        ------
        StoreFull
            If the folder does not take the file.
        """
        path = self._locate(calibration.model, calibration.grounds)
        replaces = replaces or (path.exists() and _read(path) is None)
        scratch = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with scratch.open("xb") as file:
                file.write(_encode(calibration))
                file.flush()
                os.fsync(file.fileno())
            if replaces:
                scratch.replace(path)
            else:
                # Unlike a rename it never takes the place of a file.
                with contextlib.suppress(FileExistsError):
                    os.link(scratch, path)
        except OSError as exc:
            raise StoreFull(f"{self._folder} does not take a calibration ({exc.strerror}); see to its volume") from exc
        finally:
            with contextlib.suppress(OSError):
                scratch.unlink()
        return _read(path) or calibration

    def _locate(self, model: str, grounds: Grounds) -> Path:
        return self._folder / f"{_name(model)}.{grounds.digest}.json"


def _name(model: str) -> str:
    return UNSAFE.sub("_", model)


def _encode(calibration: Calibration) -> bytes:
    told = {
        "format": FORMAT,
        "model": calibration.model,
        "version": calibration.version,
        "grounds": asdict(calibration.grounds),
        "samples": calibration.samples,
        "at": calibration.at.isoformat(),
        "networks": {
            name: {
                "layout": _encode_layout(chosen.layout),
                "trials": [
                    {
                        "layout": _encode_layout(trial.layout),
                        "times_faster": trial.times_faster,
                        "difference": trial.difference,
                    }
                    for trial in chosen.trials
                ],
            }
            for name, chosen in calibration.networks.items()
        },
    }
    return json.dumps(told, indent=1).encode()


def _encode_layout(layout: Layout) -> Mapping[str, str]:
    return {"memory": layout.memory.value, "precision": layout.precision.value}


def _read(path: Path) -> Calibration | None:
    try:
        return _decode(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        # Absent or damaged: the next calibration writes it anew.
        return None


def _decode(told: Mapping[str, Any]) -> Calibration | None:
    if told["format"] != FORMAT:
        return None
    return Calibration(
        model=str(told["model"]),
        version=str(told["version"]),
        grounds=Grounds(**told["grounds"]),
        networks={name: _decode_chosen(chosen) for name, chosen in told["networks"].items()},
        samples=int(told["samples"]),
        at=datetime.fromisoformat(told["at"]),
    )


def _decode_chosen(told: Mapping[str, Any]) -> Chosen:
    trials = tuple(
        Trial(
            layout=_decode_layout(one["layout"]),
            times_faster=float(one["times_faster"]),
            difference=None if one["difference"] is None else float(one["difference"]),
        )
        for one in told["trials"]
    )
    return Chosen(layout=_decode_layout(told["layout"]), trials=trials)


def _decode_layout(told: Mapping[str, Any]) -> Layout:
    return Layout(memory=Memory(told["memory"]), precision=Precision(told["precision"]))
