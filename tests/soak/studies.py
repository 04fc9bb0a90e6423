"""What the modalities of the soak send: small Studies of their own UIDs, over one or two Associations, some doubled."""

import random
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import sha256

from pydicom import Dataset

from node.rehearsal.chest import Nodule
from node.rehearsal.chest_ct import chest_ct
from node.rehearsal.chest_xray import chest_xray
from tests.instances import ct_slice, encode

# The fewest and smallest that the shipped Pipelines read with an answer.
SLICES = 24
SLICE_DISTANCE_MM = 3.0
CT_MATRIX = 128
FILM_MATRIX = 256
# Many and tiny: most kills of a receiver meet one of them on its way.
OTHERS = 80
NODULE = Nodule(center_mm=(-64.2, 41.6, 4.0), diameter_mm=12.0)
# For Study, Series and SOP Instance UID; as long as those that take their place, so that no length changes.
PLACEHOLDERS = tuple(f"2.25.{str(digit) * 35}" for digit in (4, 5, 6))
# Before a further Association of the same Study: shorter and longer than the quiet time that settles a Series.
LONGEST_PAUSE_S = 4.0
# How often a Study is divided, sent once more, and one of its Instances doubled in its Association.
DIVIDED, AGAIN, DOUBLED = 0.5, 0.3, 0.2


class Kind(StrEnum):
    """What a Study holds."""

    FILM = "chest X-ray of one film"
    FILMS = "chest X-ray of two films"
    CT = "chest CT"
    OTHER = "Series that no rule asks for"


# A CT takes the worker ten times as long as a film.
SHARES = {Kind.FILM: 45, Kind.FILMS: 20, Kind.CT: 10, Kind.OTHER: 25}
# Modality (0008,0060) of what an answer consists of.
ANSWERS: Mapping[Kind, tuple[str, ...]] = {
    Kind.FILM: ("SR",),
    Kind.FILMS: ("SR",),
    Kind.CT: ("SEG", "SR"),
    Kind.OTHER: (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One Instance, encoded as Explicit VR Little Endian."""

    sop_class_uid: str
    sop_instance_uid: str
    data_set: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the data set."""
        return sha256(self.data_set).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """What is sent at one time.

    Attributes
    ----------
    pause_s
        How long the modality waits before it.
    associations
        The Instances of each; all of them are open at once.
    """

    pause_s: float
    associations: tuple[tuple[Sent, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One Study, and the order in which it leaves."""

    study_instance_uid: str
    kind: Kind
    instances: tuple[Sent, ...]
    waves: tuple[Wave, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """An Instance, encoded, with placeholders for its UIDs."""

    sop_class_uid: str
    data_set: bytes

    def fill(self, study: str, series: str, instance: str) -> Sent:
        """Return a new Instance with these UIDs."""
        data_set = self.data_set
        for placeholder, uid in zip(PLACEHOLDERS, (study, series, instance), strict=True):
            data_set = data_set.replace(placeholder.encode(), uid.encode())
        return Sent(sop_class_uid=self.sop_class_uid, sop_instance_uid=instance, data_set=data_set)


def make_templates(datasets: Sequence[Dataset]) -> tuple[Template, ...]:
    """Return the Instances of one Series, numbered in their order."""
    made = []
    for number, dataset in enumerate(datasets, start=1):
        ds = deepcopy(dataset)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = PLACEHOLDERS
        ds.InstanceNumber = number
        made.append(Template(ds.SOPClassUID, encode(ds)))
    return tuple(made)


@cache
def _templates() -> Mapping[Kind, tuple[Template, ...]]:
    film = chest_xray(with_opacity=True, matrix=FILM_MATRIX).dataset
    scan = chest_ct(nodules=(NODULE,), slices=SLICES, slice_distance_mm=SLICE_DISTANCE_MM, matrix=CT_MATRIX)
    other = ct_slice()
    other.StudyDescription = "Knee"
    return {
        Kind.FILM: make_templates((film,)),
        Kind.FILMS: make_templates((film, film)),
        Kind.CT: make_templates(scan.datasets),
        Kind.OTHER: make_templates((other,) * OTHERS),
    }


class Maker:
    """Draws Studies; the same seed draws the same ones."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)

    def studies(self) -> Iterator[Planned]:
        """Yield new Studies for ever."""
        while True:
            kind = self._chance.choices(list(SHARES), list(SHARES.values()))[0]
            study_instance_uid, instances = self._draw(kind)
            yield Planned(
                study_instance_uid=study_instance_uid,
                kind=kind,
                instances=instances,
                waves=tuple(self._waves(instances)),
            )

    def _draw(self, kind: Kind) -> tuple[str, tuple[Sent, ...]]:
        study, series = self._uid(), self._uid()
        return study, tuple(template.fill(study, series, self._uid()) for template in _templates()[kind])

    def _waves(self, instances: tuple[Sent, ...]) -> Iterator[Wave]:
        chance = self._chance
        order = list(instances)
        if chance.random() < DOUBLED:
            order.append(order[0])
        first, second = tuple(order), tuple[Sent, ...]()
        if len(instances) > 1 and chance.random() < DIVIDED:
            first, second = tuple(order[: len(order) // 2]), tuple(order[len(order) // 2 :])
        if second and chance.random() < DIVIDED:
            yield Wave(pause_s=0.0, associations=(first, second))
        else:
            yield Wave(pause_s=0.0, associations=(first,))
            if second:
                yield Wave(pause_s=chance.uniform(0.0, LONGEST_PAUSE_S), associations=(second,))
        if chance.random() < AGAIN:
            yield Wave(pause_s=chance.uniform(0.0, LONGEST_PAUSE_S), associations=(instances,))

    def _uid(self) -> str:
        return f"2.25.1{self._chance.randrange(10**34):034}"
