"""A CT of a phantom that is a new Study each time: other UIDs, the same pixels."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from uuid import uuid4

from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from node.domain.uids import derive_uid
from node.rehearsal.chest import draw_chest, draw_nodules
from node.rehearsal.chest_ct import chest_ct

SEED = 7
# Brighter than bone, so that a threshold finds them and nothing else.
NODULE_HU = 2500.0
NODULES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class InventedStudy:
    """One Study of one Series.

    Attributes
    ----------
    files
        Its Instances, in the order of the slices.
    headers
        The same without pixels, as Part 10: all that whoever only counts needs.
    """

    study_instance_uid: str
    files: Sequence[Path]
    headers: Sequence[bytes]


class StudyPress:
    """Writes Studies of one phantom.

    Parameters
    ----------
    slices, matrix
        Instances of each, and their rows and columns.
    """

    def __init__(self, *, slices: int, matrix: int) -> None:
        drawn = draw_nodules(draw_chest(SEED), count=NODULES, half_height_mm=max(8.0, slices / 2.0))
        nodules = [replace(nodule, hu=NODULE_HU) for nodule in drawn]
        self._datasets = chest_ct(seed=SEED, nodules=nodules, slices=slices, matrix=matrix).datasets

    def write(self, folder: Path) -> InventedStudy:
        """Return a Study that never was before, below `folder`."""
        key = uuid4().hex
        study, series = derive_uid("latency", key, "study"), derive_uid("latency", key, "series")
        folder.mkdir()
        files, headers = [], []
        for number, ds in enumerate(self._datasets):
            _name(ds, study=study, series=series, instance=derive_uid("latency", key, str(number)))
            path = folder / f"{number:04}.dcm"
            ds.save_as(path, enforce_file_format=True)
            files.append(path)
            headers.append(_without_pixels(ds))
        return InventedStudy(study_instance_uid=study, files=files, headers=headers)


def _name(ds: FileDataset, *, study: str, series: str, instance: str) -> None:
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, series, instance
    ds.file_meta.MediaStorageSOPInstanceUID = UID(instance)


def _without_pixels(ds: FileDataset) -> bytes:
    header = Dataset({tag: element for tag, element in ds.items() if tag.group != 0x7FE0})
    header.file_meta = copy(ds.file_meta)
    out = BytesIO()
    header.save_as(out, enforce_file_format=True)
    return out.getvalue()
