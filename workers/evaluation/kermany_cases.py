"""The pediatric chest films of Kermany et al.: JPEG in folders NORMAL and PNEUMONIA."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import FileDataset

from node.errors import TruthInvalid
from workers.evaluation.case import Case
from workers.evaluation.truth import Truth
from workers.evaluation.wrapping import wrap_frontal_film

FOLDERS: Mapping[str, bool] = {"NORMAL": False, "PNEUMONIA": True}
ROLE, LABEL = "image", "pneumonia"
# NORMAL2-IM-0545 may or may not be the child of IM-0545: they count as one patient, on the safe side.
PATIENT = re.compile(r"(?:NORMAL2-)?(person\d+|IM-\d+)")
KINDS = ("bacteria", "virus")


def list_kermany_cases(folder: Path) -> Iterator[Case]:
    """Yield a case for each film below ``NORMAL`` and ``PNEUMONIA``; ``kind`` is a column.

    Raises
    ------
    TruthInvalid
        If a folder is absent, or a file is named as none of the data set is.
    """
    for name, is_ill in FOLDERS.items():
        if not (folder / name).is_dir():
            raise TruthInvalid(f"{folder / name} does not exist; name the folder that holds NORMAL and PNEUMONIA")
        for path in sorted((folder / name).iterdir()):
            match = PATIENT.match(path.name)
            if match is None:
                raise TruthInvalid(f"{path}: expected IM-<n>, NORMAL2-IM-<n> or person<n>; take it out of the folder")
            blank = wrap_frontal_film(np.zeros((8, 8), np.uint8), name=path.stem)
            kind = next((one for one in KINDS if one in path.name), "unknown") if is_ill else "normal"
            yield Case(
                study_instance_uid=str(blank.StudyInstanceUID),
                series_instance_uid=str(blank.SeriesInstanceUID),
                patient=match.group(1),
                names=frozenset({path.name, path.stem}),
                read=partial(_read_film, path),
                columns={"kind": kind},
                source=path.name,
                truth=Truth(labels={LABEL: is_ill}),
            )


def _read_film(path: Path) -> dict[str, Sequence[FileDataset]]:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"), np.uint8)
    return {ROLE: (wrap_frontal_film(pixels, name=path.stem),)}
