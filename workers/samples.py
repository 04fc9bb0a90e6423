"""Drawn Studies that a model reads as it reads those of patients: what is calibrated and warmed with.

They are those of the rehearsal (docs/decisions/0003): bodies that never were, with and without something to find.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from node.models import ModelCard
from node.rehearsal.brain_mr import brain_mr
from node.rehearsal.chest import draw_chest, draw_nodules
from node.rehearsal.chest_ct import chest_ct
from node.rehearsal.chest_xray import chest_xray
from node.rehearsal.headers import Patient

# Whoever is called Phantom is refused by a model that looks for such.
NAME = "Drawn^Sample"
# A grown-up has nodules and tumors, a pneumonia is a child's.
BIRTH_DATES = {"CT": "19620331", "MR": "19580615", "DX": "20210808"}
NODULES = 3
# Each role that the reference model of MR does not know gets the first of these.
SEQUENCES = ("flair", "t1", "t1c")

Inputs = Mapping[str, Sequence[Dataset]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large drawn Studies are; the fields of view stay as large as bodies are.

    Attributes
    ----------
    ct_slices, ct_slice_mm, ct_matrix
        Of a chest CT: slices, their distance in mm, and rows and columns.
    mr_slices, mr_slice_mm
        Of each sequence of a head.
    film_matrix
        Rows and columns of a radiograph.
    """

    ct_slices: int
    ct_slice_mm: float
    ct_matrix: int
    mr_slices: int
    mr_slice_mm: float
    film_matrix: int


REAL = Size(ct_slices=130, ct_slice_mm=2.0, ct_matrix=512, mr_slices=28, mr_slice_mm=5.0, film_matrix=1024)
# As small as the reference models still read with an answer.
SMALL = Size(ct_slices=90, ct_slice_mm=3.0, ct_matrix=256, mr_slices=14, mr_slice_mm=10.0, film_matrix=512)


def draw_inputs(card: ModelCard, *, seed: int, healthy: bool, size: Size) -> Inputs | None:
    """Return a Study as a Job hands it to a model, by role; None where nothing is drawn of a Modality that it needs."""
    asked = {role: _kind_of(card.modalities.get(role, ())) for role in card.required_roles}
    if any(kind is None for kind in asked.values()):
        return None
    asked |= {role: "MR" for role in card.optional_roles if role in SEQUENCES and "MR" in asked.values()}
    drawn = {kind: _draw(kind, seed, healthy, size) for kind in set(asked.values()) if kind is not None}
    return {role: _choose(drawn[kind], role) for role, kind in asked.items() if kind is not None}


def _kind_of(modalities: Sequence[str]) -> str | None:
    """Return what stands for a role that takes these Modalities; None where nothing does."""
    for modality in modalities:
        if modality in {"CT", "MR"}:
            return modality
        if modality in {"DX", "CR"}:
            return "DX"
    return None


def _draw(kind: str, seed: int, healthy: bool, size: Size) -> Mapping[str, Sequence[Dataset]]:
    """Return the Series of a Study by name; one without a name stands for any role."""
    patient = Patient(name=NAME, patient_id=f"SAMPLE-{kind}-{seed}", birth_date=BIRTH_DATES[kind])
    if kind == "CT":
        nodules = draw_nodules(draw_chest(seed), count=0 if healthy else NODULES)
        chest = chest_ct(
            seed=seed,
            nodules=nodules,
            slices=size.ct_slices,
            slice_distance_mm=size.ct_slice_mm,
            matrix=size.ct_matrix,
            patient=patient,
        )
        return {"": chest.datasets}
    if kind == "MR":
        head = brain_mr(
            seed=seed,
            with_lesion=not healthy,
            slices=size.mr_slices,
            slice_distance_mm=size.mr_slice_mm,
            patient=patient,
        )
        return dict(zip(SEQUENCES, (head.flair, head.t1, head.t1c), strict=True))
    film = chest_xray(seed=seed, with_opacity=not healthy, matrix=size.film_matrix, patient=patient)
    return {"": (film.dataset,)}


def _choose(series: Mapping[str, Sequence[Dataset]], role: str) -> Sequence[Dataset]:
    return series.get(role) or next(iter(series.values()))
