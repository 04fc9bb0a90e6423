"""Studies of three kinds that are new each time: other UIDs, the same pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pydicom.dataset import FileDataset
from pydicom.uid import UID

from node.domain.uids import derive_uid
from node.rehearsal.brain_mr import brain_mr
from node.rehearsal.chest_ct import chest_ct
from node.rehearsal.chest_xray import chest_xray

CT, MR, XRAY = "CT", "MR", "X-ray"
# Kind to the Pipeline that the shipped rules ask.
PIPELINES: Mapping[str, str] = {CT: "lung_nodules", MR: "brain_tumour", XRAY: "chest_xray"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the Studies are.

    Attributes
    ----------
    ct_slices, ct_matrix
        Slices 2 mm apart, their rows and columns.
    mr_slices
        Of each of three Series of 256 x 256.
    xray_matrix
        Rows and columns.
    """

    ct_slices: int = 100
    ct_matrix: int = 512
    mr_slices: int = 28
    xray_matrix: int = 2048


USUAL = Sizes()
SMALL = Sizes(ct_slices=48, ct_matrix=256, mr_slices=18, xray_matrix=512)


class KindPress:
    """Writes Studies of each kind; each is drawn once, when it is asked for."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._drawn: dict[str, Sequence[FileDataset]] = {}

    def write(self, kind: str, folder: Path) -> Sequence[Path]:
        """Return the Part 10 files of a Study that never was before, below `folder`."""
        key = uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for number, ds in enumerate(self._draw(kind)):
            instance = derive_uid("backlog", key, str(number))
            ds.StudyInstanceUID = derive_uid("backlog", key, "study")
            ds.SeriesInstanceUID = derive_uid("backlog", key, f"series {ds.SeriesNumber}")
            ds.SOPInstanceUID = instance
            ds.file_meta.MediaStorageSOPInstanceUID = UID(instance)
            path = folder / f"{key}-{number:04}.dcm"
            ds.save_as(path, enforce_file_format=True)
            files.append(path)
        return files

    def _draw(self, kind: str) -> Sequence[FileDataset]:
        if kind not in self._drawn:
            self._drawn[kind] = _draw(kind, self._sizes)
        return self._drawn[kind]


def _draw(kind: str, sizes: Sizes) -> Sequence[FileDataset]:
    if kind == CT:
        return chest_ct(slices=sizes.ct_slices, matrix=sizes.ct_matrix).datasets
    if kind == MR:
        return brain_mr(slices=sizes.mr_slices).datasets
    return (chest_xray(matrix=sizes.xray_matrix).dataset,)
