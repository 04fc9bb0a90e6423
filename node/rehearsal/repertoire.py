"""What a rehearsal sends: three phantoms, under new UIDs each time, so that no Study is known to the node."""

import copy
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import FileDataset
from pydicom.uid import UID

from node.rehearsal.brain_mr import brain_mr
from node.rehearsal.chest_ct import chest_ct
from node.rehearsal.chest_xray import chest_xray
from node.rehearsal.headers import PHANTOM_SPACE

UID_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
# Found again by it, and deleted, when the rehearsal is over.
PATIENT_ID_PREFIX = "REHEARSAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One phantom Study.

    Attributes
    ----------
    name
        Stable, kebab-case.
    words
        What it is, for people.
    is_series
        Whether it has more than one Instance.
    draw
        Returns its Instances; the same each time.
    """

    name: str
    words: str
    is_series: bool
    draw: Callable[[], Sequence[FileDataset]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """A phantom under UIDs of its own: one Study that nobody has seen before.

    Attributes
    ----------
    piece
        Name of the phantom.
    datasets
        The Instances, in the order of the phantom.
    places
        The place of each in that order, by SOP Instance UID.
    """

    piece: str
    study_instance_uid: str
    datasets: tuple[FileDataset, ...]
    places: Mapping[str, int]


def pieces() -> tuple[Piece, ...]:
    """Return the phantoms, the quickest to process first."""
    return (
        Piece(name="chest-xray", words="a chest X-ray", is_series=False, draw=lambda: [chest_xray().dataset]),
        Piece(
            name="mr-brain", words="an MR of the head, three Series", is_series=True, draw=lambda: brain_mr().datasets
        ),
        Piece(name="ct-chest", words="a CT of the chest", is_series=True, draw=lambda: chest_ct().datasets),
    )


class Repertoire:
    """Draws each phantom once, and hands out takes of it.

    Parameters
    ----------
    run
        What the UIDs of this rehearsal are made from, and its Patient ID (0010,0020); another run, other Studies.
    """

    def __init__(self, run: str, chosen: Sequence[Piece]) -> None:
        self.pieces: Mapping[str, Piece] = {piece.name: piece for piece in chosen}
        self._run = run
        self._drawn: dict[str, Sequence[FileDataset]] = {}
        self._takes = 0

    @property
    def patient_id(self) -> str:
        """Return the Patient ID (0010,0020) of everything that is sent."""
        return f"{PATIENT_ID_PREFIX}-{self._run}"

    def prepare(self, name: str) -> None:
        """Draw a phantom, so that its first take costs no more than any other."""
        if name not in self._drawn:
            self._drawn[name] = self.pieces[name].draw()

    def take(self, name: str) -> Take:
        """Return a phantom as a Study of its own."""
        self.prepare(name)
        self._takes += 1
        datasets = tuple(self._renamed(ds, f"{self._run}/{self._takes}") for ds in self._drawn[name])
        return Take(
            piece=name,
            study_instance_uid=str(datasets[0].StudyInstanceUID),
            datasets=datasets,
            places={str(ds.SOPInstanceUID): place for place, ds in enumerate(datasets)},
        )

    def _renamed(self, source: FileDataset, space: str) -> FileDataset:
        """Return a copy under UIDs that follow from `space`."""
        ds = copy.deepcopy(source)
        for keyword in UID_KEYWORDS:
            if keyword in ds:
                name = f"{space}/{ds[keyword].value}"
                setattr(ds, keyword, UID(f"2.25.{uuid.uuid5(PHANTOM_SPACE, name).int}"))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.PatientID = self.patient_id
        return ds
