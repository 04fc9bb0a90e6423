"""A Pipeline that reads an earlier Study beside a Study: how much the bright part has grown, by threshold alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.domain.codes import NODULE
from node.domain.finding import Finding
from node.domain.prior import PRIOR_ROLE
from node.models import ModelCard, read_model
from workers.pipelines.base import Analysis
from workers.volume import Volume, read_volume

PIPELINE = "growth"
BRIGHT_HU = 0.0
MODEL = f"""
name = "growth-model"
version = "1.0.0"
pipeline = "{PIPELINE}"
licence = "MIT"
intended_use = "tests"
notice = "For tests."
series_offset = 7
[weights]
file = "weights.safetensors"
sha256 = "{"0" * 64}"
[inputs.ct]
[inputs.{PRIOR_ROLE}]
required = false
[[labels]]
code = {NODULE.as_json()!r}
"""


def growth_card(folder: Path) -> ModelCard:
    """Return the model of the Pipeline, as its folder tells it."""
    folder.mkdir()
    (folder / "model.toml").write_text(MODEL)
    return read_model(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bright:
    """The bright part of a Series."""

    volume: Volume
    mask: NDArray[np.bool_]

    @property
    def mm3(self) -> float:
        """How large it is."""
        return float(self.mask.sum()) * self.volume.voxel_mm3


class GrowthPipeline:
    """Measures what is bright, in the Study and in an earlier one where there is one."""

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> Mapping[str, Bright]:
        """Return the bright part by role."""
        volumes = {role: read_volume(datasets) for role, datasets in inputs.items()}
        return {role: Bright(volume=volume, mask=volume.voxels > BRIGHT_HU) for role, volume in volumes.items()}

    def analyze(self, prepared: Mapping[str, Bright]) -> Analysis:
        """Return one Finding, and in a note how it compares with the earlier Study."""
        bright, prior = prepared["ct"], prepared.get(PRIOR_ROLE)
        note = "There is no earlier Study to compare with."
        if prior is not None:
            note = f"The bright part was {prior.mm3:.0f} mm3 and is {bright.mm3:.0f} mm3."
        found = np.argwhere(bright.mask)
        center = bright.volume.to_patient_mm(found.mean(axis=0).tolist())
        finding = Finding(
            label="Nodule 1",
            code=NODULE,
            center_mm=center,
            measurements={
                "long_axis_mm": 8.0,
                "short_axis_mm": 8.0,
                "volume_mm3": bright.mm3,
                "mean_hu": float(bright.volume.voxels[bright.mask].mean()),
            },
            segment_number=1,
            key_slice=int(bright.mask.sum(axis=(1, 2)).argmax()),
        )
        mask = bright.mask.astype(np.uint8)
        return Analysis(findings=(finding,), reference=bright.volume, mask=mask, notes=(note,))
