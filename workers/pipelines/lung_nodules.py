"""CT lung nodules: candidates in the lungs, a small network, an outline and millimetres for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset

from node.domain.codes import LUNG, NODULE
from node.domain.finding import Finding
from node.errors import GeometryRefused, ModelOutputInvalid
from node.manifest import Fit, Plane
from node.models import ModelCard
from workers.fitness.check import Fitness
from workers.inference.answers import require_sound
from workers.inference.ladder import Footing, Ladder
from workers.inference.weights import load_weights
from workers.measurements import Measures, Region, find_side, measure_region, note_limits
from workers.networks.nodule_networks import NoduleNetworks
from workers.pipelines.base import Analysis
from workers.pipelines.input_views import view_chest
from workers.pipelines.lung_candidates import (
    COARSE_MM,
    Coarse,
    Lungs,
    coarsen,
    find_candidates,
    find_lungs,
)
from workers.pipelines.lung_patches import BATCH, cut_patches, score_patches
from workers.pipelines.nodule_mask import mark_nodule
from workers.pipelines.nodule_outline import find_core, outline_nodule
from workers.stopwatch import stage
from workers.volume import Volume, read_volume

ROLE = "ct"
MAX_FINDINGS = 100  # a Segment Number a nodule; more are no reference model's business
SAME_PLACE_MM = 15.0
# Most of what is round in a lung is a vessel: who takes this share of so many for nodules says yes to everything.
MAX_SHARE, MIN_ASKED = 0.9, 50
CUT_LUNG_CM2 = 15.0  # lung in the first or last slice: the Series does not cover all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class ChestCt:
    """One chest CT, read and found to hold lungs.

    Attributes
    ----------
    volume
        The reference grid of the results.
    coarse, lungs
        The same at 2 mm, and where its lungs are.
    notes
        What is unusual about it.
    """

    volume: Volume
    coarse: Coarse
    lungs: Lungs
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """One outlined nodule with its measures and its certainty, 0..1."""

    outline: Region
    measures: Measures
    confidence: float


class LungNodules:
    """The Pipeline `lung_nodules`: one role, `ct`.

    Parameters
    ----------
    card
        Model folder. ``[preprocessing]`` names `min_slices`, `max_slice_distance_mm` and `candidates`;
        ``[thresholds]`` names `nodule` (0..1), `min_long_axis_mm` and `max_long_axis_mm`.
    device
        Where the network runs.

    Raises
    ------
    ModelInvalid
        If the weights are absent, differ from their digest or do not fit.
    """

    def __init__(self, card: ModelCard, device: torch.device) -> None:
        self._networks = NoduleNetworks()
        self._ladder = Ladder(load_weights(self._networks, card), device, batch=BATCH)
        self._fitness = Fitness(card, usual=Fit(orientation=Plane.AXIAL), modalities=("CT",))
        preprocessing, thresholds = card.numbers["preprocessing"], card.numbers["thresholds"]
        self._min_slices = int(preprocessing["min_slices"])
        self._max_slice_distance_mm = float(preprocessing["max_slice_distance_mm"])
        self._candidates = int(preprocessing["candidates"])
        self._threshold = float(thresholds["nodule"])
        self._min_long_axis_mm = float(thresholds["min_long_axis_mm"])
        self._max_long_axis_mm = float(thresholds["max_long_axis_mm"])

    @property
    def networks(self) -> Mapping[str, torch.nn.Module]:
        """The networks that are asked, by name."""
        return {"classifier": self._networks.classifier, "outliner": self._networks.outliner}

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> ChestCt:
        """Return the chest CT of role `ct`, or refuse it.

        Raises
        ------
        InputMissing, WrongModality
            If role `ct` is empty or holds no CT.
        TooFewSlices, GeometryRefused
            If the slices are too few, too far apart, not axial, or form no even stack.
        WrongBodyPart
            If there is no lung of a plausible size.
        NotEligible
            If it is not fit in another way (`workers.fitness`).
        PixelsUndecodable
            If one slice cannot be decoded.
        """
        datasets = inputs.get(ROLE) or ()
        self._fitness.check_header(ROLE, datasets)
        with stage("read"):
            volume = read_volume(datasets, min_slices=self._min_slices)
        self._fitness.check_volume(volume)
        self._check_slices(volume)
        with stage("resample"):
            coarse = coarsen(volume)
        with stage("place"):
            lungs = find_lungs(coarse, volume.affine)
        unusual = self._fitness.check_likeness(partial(view_chest, coarse.voxels, coarse.place(volume.affine)))
        return ChestCt(volume=volume, coarse=coarse, lungs=lungs, notes=unusual)

    def analyze(self, prepared: ChestCt) -> Analysis:
        """Return the nodules, most certain first.

        Raises
        ------
        ModelOutputInvalid
            If the network answers with NaN, the same to everything, or yes to nearly everything.
        """
        asked = self._ladder.ask(lambda _, footing: self._find_nodules(prepared, footing))
        nodules, unclear = asked.answer
        volume = prepared.volume
        mask = np.zeros(volume.voxels.shape, dtype=np.uint8)
        findings = []
        for number, nodule in enumerate(nodules, start=1):
            mask[nodule.outline.box][nodule.outline.mask] = number
            findings.append(_describe(prepared, nodule, number))
        measured = {finding.label: nodule.measures for finding, nodule in zip(findings, nodules, strict=True)}
        return Analysis(
            findings=tuple(findings),
            reference=volume,
            mask=mask if findings else None,
            threshold=self._threshold,
            notes=(*prepared.notes, *asked.notes, *self._notes(prepared, unclear), *note_limits(volume, measured)),
        )

    def _check_slices(self, volume: Volume) -> None:
        name = _name(volume.datasets[0])
        distance_mm = volume.spacing_mm[0]
        if distance_mm > self._max_slice_distance_mm:
            msg = (
                f"{name}: expected slices at most {self._max_slice_distance_mm:.1f} mm apart, found "
                f"{distance_mm:.1f} mm: small nodules fall between. Route the thin Series."
            )
            raise GeometryRefused(msg)

    def _find_nodules(self, chest: ChestCt, footing: Footing) -> tuple[list[Nodule], int]:
        """Return the nodules in order of certainty, and how many could not be outlined."""
        with stage("candidates"):
            found = find_candidates(chest.coarse, chest.lungs, limit=self._candidates)
        score = partial(self._score, chest, batch=footing.batch)
        scores = score(found.index)
        self._check_share(scores)
        order = [n for n in np.argsort(-scores, kind="stable") if scores[n] >= self._threshold]
        nodules: list[Nodule] = []
        unclear: list[NDArray[np.float64]] = []
        for n in order:
            index = found.index[n]
            if any(_covers(nodule.outline, index) for nodule in nodules):
                continue
            with stage("outline"):
                outline = outline_nodule(
                    chest.volume, chest.coarse, chest.lungs, index=index, radius_mm=float(found.radius_mm[n])
                )
            measures = None if outline is None else self._measure(chest, outline)
            if outline is None or measures is None or self._is_too_large(measures):
                unclear.append(index * chest.volume.spacing_mm)
            elif self._is_new(outline, measures, nodules):
                # The candidate's middle and the outline's own have a say each.
                second = float(score(outline.center_index()[None])[0])
                confidence = (float(scores[n]) + second) / 2
                nodules.append(Nodule(outline=outline, measures=measures, confidence=confidence))
        kept = [nodule for nodule in nodules if nodule.confidence >= self._threshold]
        kept.sort(key=lambda nodule: -nodule.confidence)
        return self._mark(chest, kept[:MAX_FINDINGS]), _count_apart(unclear)

    def _mark(self, chest: ChestCt, nodules: Sequence[Nodule]) -> list[Nodule]:
        """Return the nodules as the second network outlines them; where it sees none of a nodule's size, as grown."""
        marked = list(nodules)
        for number, nodule in enumerate(nodules):
            middle = nodule.outline.center_index()
            with stage("outline"):
                outline = mark_nodule(self._networks.outliner, chest.volume, chest.coarse, chest.lungs, index=middle)
            if outline is None or not _overlap(outline, nodule.outline):
                continue
            measures = self._measure(chest, outline)
            others = [other for other in marked if other is not marked[number]]
            if not self._is_too_large(measures) and self._is_new(outline, measures, others):
                marked[number] = Nodule(outline=outline, measures=measures, confidence=nodule.confidence)
        return marked

    @staticmethod
    def _measure(chest: ChestCt, outline: Region) -> Measures:
        with stage("measure"):
            return measure_region(chest.volume, outline)

    def _score(self, chest: ChestCt, index: NDArray[np.float64], *, batch: int) -> NDArray[np.float64]:
        with stage("resample"):
            patches = cut_patches(chest.volume, chest.coarse, index)
        scores = score_patches(self._networks.classifier, patches, recheck_from=self._threshold / 2, batch=batch)
        require_sound(scores, "lung nodule")
        return scores

    def _check_share(self, scores: NDArray[np.float64]) -> None:
        called = int((scores >= self._threshold).sum())
        if len(scores) >= MIN_ASKED and called > MAX_SHARE * len(scores):
            raise ModelOutputInvalid(
                f"the network takes {called} of {len(scores)} round things in the lungs for nodules; the input is "
                "unlike what it has learned, or the weights are damaged"
            )

    def _is_too_large(self, measures: Measures) -> bool:
        return measures.values["long_axis_mm"] > self._max_long_axis_mm

    def _is_new(self, outline: Region, measures: Measures, others: list[Nodule]) -> bool:
        if measures.values["long_axis_mm"] < self._min_long_axis_mm:
            return False
        return not any(_overlap(outline, other.outline) for other in others)

    def _notes(self, chest: ChestCt, unclear: int) -> tuple[str, ...]:
        slices = len(chest.volume.voxels)
        notes = [
            f"{slices} of {slices} slices were read, {chest.volume.spacing_mm[0]:.2f} mm apart.",
            f"Nodules with a long axis below {self._min_long_axis_mm:g} mm are not reported.",
        ]
        cell_cm2 = (COARSE_MM / 10) ** 2
        for name, plane in (("first", chest.lungs.mask[0]), ("last", chest.lungs.mask[-1])):
            if float(plane.sum()) * cell_cm2 > CUT_LUNG_CM2:
                notes.append(f"The {name} slice still shows lung: what lies beyond was not seen.")
        if unclear:
            notes.append(
                f"{unclear} suspicious places are not reported: no outline of at most "
                f"{self._max_long_axis_mm:.0f} mm ends inside the lung."
            )
        return tuple(notes)


def _name(ds: Dataset) -> str:
    return f"series {ds.get('SeriesInstanceUID', 'without UID')}"


def _describe(chest: ChestCt, nodule: Nodule, number: int) -> Finding:
    volume, outline = chest.volume, nodule.outline
    return Finding(
        label=f"Nodule {number}",
        code=NODULE,
        confidence=nodule.confidence,
        center_mm=volume.to_patient_mm(find_core(volume, outline).tolist()),
        measurements=nodule.measures.values,
        site=LUNG,
        laterality=find_side(volume, outline, midline_mm=chest.lungs.midline_mm),
        segment_number=number,
        key_slice=nodule.measures.key_slice,
    )


def _count_apart(places_mm: list[NDArray[np.float64]]) -> int:
    """Return how many places there are when those close to another count once."""
    apart: list[NDArray[np.float64]] = []
    for place in places_mm:
        if all(float(np.linalg.norm(place - other)) > SAME_PLACE_MM for other in apart):
            apart.append(place)
    return len(apart)


def _covers(outline: Region, index: NDArray[np.float64]) -> bool:
    corner = np.array([part.start for part in outline.box])
    place = np.round(index).astype(int) - corner
    if (place < 0).any() or (place >= outline.mask.shape).any():
        return False
    return bool(outline.mask[tuple(place)])


def _overlap(one: Region, other: Region) -> bool:
    both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one.box, other.box, strict=True)]
    if any(part.start >= part.stop for part in both):
        return False

    def cut(outline: Region) -> NDArray[np.bool_]:
        inner = tuple(
            slice(part.start - whole.start, part.stop - whole.start)
            for part, whole in zip(both, outline.box, strict=True)
        )
        return outline.mask[inner]

    return bool((cut(one) & cut(other)).any())
