"""The patients of LGG-MRI-Segmentation (kaggle_3m): TIF slices of three sequences, each with a drawn mask."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import FileDataset

from node.errors import TruthInvalid
from workers.evaluation.case import Case
from workers.evaluation.truth import Labels, Truth, require_grid
from workers.evaluation.wrapping import wrap_stack
from workers.volume import Volume

# The TIFs have no geometry; see workers/training/lgg.py.
SPACING_MM = (5.0, 0.9375, 0.9375)
SEQUENCES: Mapping[str, tuple[int, str]] = {
    "t1": (0, "AX T1 pre"),
    "flair": (1, "AX FLAIR"),
    "t1c": (2, "AX T1 post gad"),
}
FLAIR = 1
PATIENT = re.compile(r"TCGA_([A-Z]{2})_[A-Z0-9]{4}")
SLICE_NUMBER = re.compile(r"_(\d+)\.tif$")


def list_lgg_cases(folder: Path) -> Iterator[Case]:
    """Yield a case for each folder ``TCGA_<site>_<patient>_<date>`` below `folder`; ``site`` is a column.

    Raises
    ------
    TruthInvalid
        If there is none.
    """
    folders = sorted(one for one in folder.rglob("TCGA_*") if one.is_dir())
    if not folders:
        raise TruthInvalid(f"{folder} holds no folder TCGA_<site>_<patient>_<date>; is it kaggle_3m?")
    for one in folders:
        match = PATIENT.match(one.name)
        if match is None:
            raise TruthInvalid(f"{one}: expected TCGA_<site>_<patient>_<date>; take it out of the folder")
        wrapped = wrap_stack(
            np.zeros((1, 8, 8), np.uint16), key=one.name, number=FLAIR + 1, description="", spacing_mm=SPACING_MM
        )
        yield Case(
            study_instance_uid=str(wrapped[0].StudyInstanceUID),
            series_instance_uid=str(wrapped[0].SeriesInstanceUID),
            patient=match.group(),
            names=frozenset({one.name}),
            read=partial(_read_patient, one),
            columns={"site": match.group(1)},
            source=one.name,
            truth=Truth(marks=partial(_read_drawn, one)),
        )


def _list_slices(folder: Path) -> list[Path]:
    found = (path for path in folder.glob("*.tif") if not path.stem.endswith("_mask"))
    return sorted(found, key=lambda path: int(SLICE_NUMBER.findall(path.name)[0]))


def _read_tif(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image, np.uint8)


def _read_patient(folder: Path) -> dict[str, Sequence[FileDataset]]:
    """Return the sequences; one that is the FLAIR again, which the data set puts where it is absent, is left out."""
    pixels = np.stack([_read_tif(path) for path in _list_slices(folder)])
    return {
        role: wrap_stack(
            pixels[..., channel].astype(np.uint16),
            key=folder.name,
            number=channel + 1,
            description=description,
            spacing_mm=SPACING_MM,
        )
        for role, (channel, description) in SEQUENCES.items()
        if channel == FLAIR or not np.array_equal(pixels[..., channel], pixels[..., FLAIR])
    }


def _read_drawn(folder: Path, volume: Volume) -> Labels:
    drawn = [_read_tif(path.with_name(f"{path.stem}_mask.tif")) > 0 for path in _list_slices(folder)]
    return require_grid(np.stack(drawn), volume, name=str(folder))
