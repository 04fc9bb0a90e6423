"""MR brain tumour: the FLAIR abnormality, from FLAIR alone or with T1 before and after contrast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset
from scipy import ndimage

from node.domain.codes import BRAIN, NEOPLASM
from node.domain.finding import Finding
from node.errors import (
    GeometryRefused,
    ModelOutputInvalid,
    NotEligible,
    PixelsUndecodable,
    WrongBodyPart,
)
from node.manifest import Fit
from node.models import ModelCard
from workers.fitness.check import Fitness
from workers.inference.answers import require_sound
from workers.inference.ladder import Footing, Ladder
from workers.inference.turn import device_turn
from workers.inference.weights import load_weights
from workers.measurements import Measures, Region, cut_region, find_side, measure_region, note_limits
from workers.networks.tumour_unet import build_tumour_unet, count_away
from workers.pipelines.axial_stack import (
    AxialStack,
    Turn,
    add_neighbours,
    center_window,
    crop_plane,
    mark_head,
    shrink_stack,
    standardize,
    turn_volume,
    uncrop_plane,
)
from workers.pipelines.base import Analysis
from workers.pipelines.input_views import view_head
from workers.pipelines.sequence_fit import SequencePair, fit_sequence
from workers.resampling import resize_images
from workers.stopwatch import stage
from workers.volume import Volume, read_volume

REFERENCE = "flair"
BODY_PARTS = ("BRAIN", "HEAD", "SKULL", "HEADNECK", "NEURO", "CRANIUM")
# Channels of the network in their order; the name is the one that the report uses.
CHANNELS = {"t1": "T1 before contrast", REFERENCE: "FLAIR", "t1c": "T1 after contrast"}
# A newborn's head and an adult's with nose and coil padding; a trunk is wider, a limb is narrower.
HEAD_WIDTH_MM, HEAD_LENGTH_MM = (75.0, 250.0), (95.0, 310.0)
# An axial plane coarser than this shows no outline worth measuring.
MAX_PIXEL_MM = 3.0
MAX_SHARE = 0.5  # of the head; no tumour fills more
# Skin, fat and bone: of 22 patients' drawn abnormalities, 0.1 % lie nearer to the surface, and scalp fat is bright too.
SCALP_MM = 7.0
BATCH = 8
TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner belong together


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadStudy:
    """A head on the network's grid, and how to come back to the FLAIR's own.

    Attributes
    ----------
    volume
        The FLAIR, whose grid the mask will have.
    turn, stack
        How its axes became axial slices, and those slices at the network's pixel size.
    corner
        First row and column of the network's window in `stack`.
    channels
        (slices, 3, rows, columns) float32; an absent channel is zero.
    head
        (slices, rows, columns) bool, on `stack`.
    notes
        What was not read, and why.
    """

    volume: Volume
    turn: Turn
    stack: AxialStack
    corner: tuple[int, int]
    channels: NDArray[np.float32]
    head: NDArray[np.bool_]
    notes: tuple[str, ...]


class BrainTumour:
    """The Pipeline `brain_tumour`: roles `flair`, and where there are any `t1` and `t1c`.

    Parameters
    ----------
    card
        Model folder. ``[preprocessing]`` names `matrix`, `pixel_mm`, `min_slices` and, where the network is shown the
        FLAIR of neighbours too, `neighbour_mm`; ``[thresholds]`` names `abnormality` (0..1) and `min_volume_mm3`.
    device
        Where the network runs.

    Raises
    ------
    ModelInvalid
        If the weights are absent, differ from their digest or do not fit.
    """

    def __init__(self, card: ModelCard, device: torch.device) -> None:
        preprocessing, thresholds = card.numbers["preprocessing"], card.numbers["thresholds"]
        self._neighbour_mm = float(preprocessing.get("neighbour_mm", 0.0))
        self._network = load_weights(build_tumour_unet(has_neighbours=self._neighbour_mm > 0), card)
        self._ladder = Ladder(self._network, device, batch=BATCH)
        self._fitness = Fitness(card, usual=Fit(body_parts=BODY_PARTS), modalities=("MR",))
        self._matrix = int(preprocessing["matrix"])
        self._pixel_mm = float(preprocessing["pixel_mm"])
        self._min_slices = int(preprocessing["min_slices"])
        self._threshold = float(thresholds["abnormality"])
        self._min_volume_mm3 = float(thresholds["min_volume_mm3"])

    @property
    def networks(self) -> Mapping[str, torch.nn.Module]:
        """The networks that are asked, by name."""
        return {"unet": self._network}

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> HeadStudy:
        """Bring the FLAIR to the network's grid, and each T1 to its place on it, moved where the head has moved.

        Raises
        ------
        InputMissing, WrongModality, WrongBodyPart, TooFewSlices, GeometryRefused
            If the FLAIR is absent or is no stack of slices through a head.
        NotEligible
            If it is not fit in another way (`workers.fitness`).
        PixelsUndecodable
            If a slice of the FLAIR cannot be decoded.
        """
        volume = self._read_head(REFERENCE, inputs.get(REFERENCE) or ())
        turned, turn = turn_volume(volume)
        check_plane(turned)
        with stage("resample"):
            stack = shrink_stack(turned, pixel_mm=self._pixel_mm)
        with stage("place"):
            head = mark_head(stack.voxels)
        check_head(head, stack)
        shown = view_head(stack)
        self._fitness.check_tissue(shown)
        unusual = self._fitness.check_likeness(lambda: shown)
        corner = center_window(head, self._matrix)
        channels = np.zeros((len(head), len(CHANNELS), self._matrix, self._matrix), np.float32)
        notes = [*unusual]
        for number, role in enumerate(CHANNELS):
            voxels: NDArray[np.float32] | None = stack.voxels
            note = ""
            if role != REFERENCE:
                voxels, note = self._read_companion(role, inputs.get(role) or (), volume, stack, head)
            if voxels is not None:
                channels[:, number] = crop_plane(standardize(voxels), corner, self._matrix)
            notes += [note] if note else []
        if not channels[:, (0, 2)].any():
            notes.append("FLAIR alone was read.")
        return HeadStudy(
            volume=volume, turn=turn, stack=stack, corner=corner, channels=channels, head=head, notes=tuple(notes)
        )

    def analyze(self, prepared: HeadStudy) -> Analysis:
        """Mark the abnormality on the FLAIR's own grid and measure it.

        Raises
        ------
        ModelOutputInvalid
            If the network answers with NaN, or marks more of the head than a tumour can fill.
        """
        channels = self._show(prepared)
        asked = self._ladder.ask(lambda network, footing: ask_slices(network, channels, footing))
        require_sound(asked.answer, "brain tumor")
        with stage("outline"):
            chance = self._spread(prepared, asked.answer)
            min_voxels = self._min_volume_mm3 / prepared.volume.voxel_mm3
            lesion = drop_specks(chance >= self._threshold, min_voxels=min_voxels)
        check_share(lesion, prepared)
        notes = [
            *prepared.notes,
            *asked.notes,
            "Tumor and edema are not told apart; what is bright on FLAIR is one segment.",
        ]
        findings: tuple[Finding, ...] = ()
        if lesion.any():
            with stage("measure"):
                region = cut_region(prepared.volume, lesion)
                measures = measure_region(prepared.volume, region)
                findings = (describe_lesion(prepared, region, measures, confidence=float(chance[lesion].mean())),)
            notes += note_limits(prepared.volume, {findings[0].label: measures})
        return Analysis(
            findings=findings,
            reference=prepared.volume,
            mask=lesion.astype(np.uint8) if findings else None,
            threshold=self._threshold,
            notes=tuple(notes),
        )

    def _read_head(self, role: str, datasets: Sequence[Dataset]) -> Volume:
        """Return one Series as a Volume when it is fit to be read as a head."""
        self._fitness.check_header(role, datasets)
        with stage("read"):
            volume = read_volume(datasets, min_slices=self._min_slices)
        self._fitness.check_volume(volume)
        return volume

    def _read_companion(
        self, role: str, datasets: Sequence[Dataset], reference: Volume, grid: AxialStack, head: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32] | None, str]:
        """Return a T1 on the FLAIR's slices, or None; and what the report must say of it."""
        name = CHANNELS[role]
        if not datasets:
            return None, f"{name} was absent."
        try:
            volume = self._read_head(role, datasets)
        except (NotEligible, PixelsUndecodable) as exc:
            # An optional Series must not stop the Study; the report says that it was left out, and why.
            return None, f"{name} was not read ({exc.code})."
        turned, _ = turn_volume(volume)
        pair = SequencePair(
            name=name,
            reference_name=CHANNELS[REFERENCE],
            other=shrink_stack(turned, pixel_mm=self._pixel_mm),
            reference=grid,
            head=head,
            shares_frame=volume.frame_of_reference_uid == reference.frame_of_reference_uid,
        )
        with stage("place"):
            return fit_sequence(pair)

    def _show(self, prepared: HeadStudy) -> NDArray[np.float32]:
        """Return what the network is shown: the sequences and, if it learned with them, the FLAIR of neighbours."""
        if not self._neighbour_mm:
            return prepared.channels
        away = count_away(prepared.stack.spacing_mm[0], neighbour_mm=self._neighbour_mm)
        return add_neighbours(prepared.channels, list(CHANNELS).index(REFERENCE), away=away)

    def _spread(self, prepared: HeadStudy, chance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability on the FLAIR's own grid, zero in the scalp and outside of the head."""
        depth_mm = ndimage.distance_transform_edt(prepared.head, sampling=prepared.stack.spacing_mm)
        small = uncrop_plane(chance, prepared.corner, prepared.stack.voxels.shape[1:])
        small[depth_mm < SCALP_MM] = 0
        shape = [prepared.volume.voxels.shape[axis] for axis in prepared.turn.order]
        return prepared.turn.undo(resize_images(small, (shape[1], shape[2])))


@stage("network")
@device_turn()
@torch.inference_mode()
def ask_slices(network: torch.nn.Module, channels: NDArray[np.float32], footing: Footing) -> NDArray[np.float32]:
    """Return the probability of each pixel, (slices, rows, columns); the mirrored slice has a say."""
    parts = []
    for part in torch.split(torch.from_numpy(channels), footing.batch):
        slices = part.to(footing.device)
        mirrored = torch.sigmoid(network(slices.flip(3))).flip(3)
        parts.append(((torch.sigmoid(network(slices)) + mirrored) / 2)[:, 0].float().cpu())
    chance: NDArray[np.float32] = torch.cat(parts).numpy()
    return chance


def check_plane(stack: AxialStack) -> None:
    """Refuse a stack whose axial plane is too coarse, such as thick sagittal slices.

    Raises
    ------
    GeometryRefused
        With the pixel size that was found.
    """
    pixel_mm = max(stack.spacing_mm[1:])
    if pixel_mm > MAX_PIXEL_MM:
        raise GeometryRefused(
            f"axial pixels of {pixel_mm:.1f} mm where at most {MAX_PIXEL_MM:.1f} mm are read; send axial slices"
        )


def check_head(head: NDArray[np.bool_], stack: AxialStack) -> None:
    """Refuse what has not the size of a head.

    Raises
    ------
    WrongBodyPart
        With the size that was found.
    """
    sizes = []
    for axis in (1, 2):
        seen = np.flatnonzero(head.any(axis=tuple(a for a in range(3) if a != axis)))
        sizes.append(float(seen[-1] - seen[0] + 1) * stack.spacing_mm[axis] if seen.size else 0.0)
    length, width = sizes
    if not (HEAD_WIDTH_MM[0] <= width <= HEAD_WIDTH_MM[1] and HEAD_LENGTH_MM[0] <= length <= HEAD_LENGTH_MM[1]):
        raise WrongBodyPart(f"what is seen is {width:.0f} mm wide and {length:.0f} mm long, which is no head")


def check_share(lesion: NDArray[np.bool_], prepared: HeadStudy) -> None:
    """Refuse a mask that fills the head.

    Raises
    ------
    ModelOutputInvalid
        With the share that was found.
    """
    head_mm3 = float(prepared.head.sum()) * float(np.prod(prepared.stack.spacing_mm))
    share = float(lesion.sum()) * prepared.volume.voxel_mm3 / head_mm3
    if share > MAX_SHARE:
        raise ModelOutputInvalid(f"the network marks {share:.0%} of the head; the input is unlike what it has learned")


def describe_lesion(prepared: HeadStudy, region: Region, measures: Measures, *, confidence: float) -> Finding:
    """Return the whole abnormality as one Finding."""
    midline_mm = find_midline(prepared, measures.center_mm)
    return Finding(
        label="FLAIR abnormality",
        code=NEOPLASM,
        confidence=confidence,
        center_mm=measures.center_mm,
        measurements=measures.values,
        site=BRAIN,
        laterality=None if midline_mm is None else find_side(prepared.volume, region, midline_mm=midline_mm),
        segment_number=1,
        key_slice=measures.key_slice,
    )


def find_midline(prepared: HeadStudy, point_mm: tuple[float, float, float]) -> float | None:
    """Return x of the head's middle beside a point (LPS), mm, or None where its slice shows no head."""
    matrix = np.linalg.inv(prepared.stack.affine)
    number, row = (matrix @ np.array([*point_mm, 1.0]))[:2]
    plane = int(np.clip(round(float(number)), 0, len(prepared.head) - 1))
    seen = np.flatnonzero(prepared.head[plane].any(axis=0))
    if not seen.size:
        return None
    middle = prepared.stack.affine @ np.array([number, row, (seen[0] + seen[-1]) / 2, 1.0])
    return float(middle[0])


def drop_specks(mask: NDArray[np.bool_], *, min_voxels: float) -> NDArray[np.bool_]:
    """Return the mask without its connected pieces of fewer than `min_voxels` voxels."""
    if not mask.any():
        return mask
    # One pass, and no list of all voxels.
    (box,) = ndimage.find_objects(mask.view(np.uint8))
    labels, _ = ndimage.label(mask[box], structure=TOUCHING)
    large = np.bincount(labels.ravel()) >= min_voxels
    large[0] = False
    kept = np.zeros_like(mask)
    kept[box] = large[labels]
    return kept
