"""What the parts of a findings page share: the Volume, the mask, the window, and the words for a slice."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.domain.finding import Finding
from workers.drawing.page_frame import PageContext
from workers.drawing.slice_panel import Window
from workers.frames import number_frame
from workers.instances import read_values
from workers.pipelines.base import find_key_slice
from workers.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What all panels of the page share."""

    page: PageContext
    volume: Volume
    mask: NDArray[np.uint8]
    window: Window
    findings: tuple[Finding, ...]

    def key(self, finding: Finding) -> int:
        """Return the index of the key slice of a Finding."""
        return find_key_slice(finding, self.mask)

    def image(self, index: int) -> str:
        """Return the words for a slice, as people find it in their viewer."""
        return name_image(self.volume, index)


def name_image(volume: Volume, index: int) -> str:
    """Return ``image 142`` by Instance Number, else ``slice 142``; of a multi-frame Instance ``frame 12``.

    Where the Series has other Instances too, ``image 2 frame 12``.
    """
    ds = volume.datasets[index]
    frame, number = number_frame(ds), ds.get("InstanceNumber")
    if frame is None:
        return f"image {number}" if number is not None else f"slice {index + 1}"
    is_only = len(set(read_values(volume.datasets, "SOPInstanceUID"))) == 1
    return f"frame {frame}" if is_only or number is None else f"image {number} frame {frame}"


def caption_whole(volume: Volume, index: int, window: Window) -> str:
    """Return the caption of a panel that shows a whole slice."""
    name, total = name_image(volume, index), len(volume.datasets)
    is_same = name.rpartition(" ")[2] == str(index + 1)
    place = f"{name} of {total}" if is_same else f"{name} (slice {index + 1} of {total})"
    return f"{place.capitalize()}   {window.words}".strip()


def say_slices(volume: Volume) -> str:
    """Return number and distance of the slices."""
    return f"{len(volume.datasets)} slices of {volume.spacing_mm[0]:.1f} mm"
