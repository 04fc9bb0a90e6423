"""Chest X-ray: pneumonia or not on one frontal radiograph, and where the network looked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset
from torch.nn.functional import interpolate

from node.domain.codes import LUNG, PNEUMONIA
from node.domain.finding import Finding, Presence
from node.errors import InputMissing, NotEligible, WrongBodyPart, WrongModality, WrongView
from node.models import ModelCard
from workers.inference.answers import require_sound
from workers.inference.ladder import Footing, Ladder
from workers.inference.weights import load_weights
from workers.networks.xray_densenet import XrayDensenet, pool_evidence
from workers.pipelines.base import Analysis
from workers.radiograph import Radiograph, read_radiograph

ROLE = "image"
MATRIX = 128  # rows and columns that the network reads
MODALITIES = ("DX", "CR")
BODY_PARTS = ("CHEST", "THORAX", "LUNG", "LUNGS")
FRONTAL_VIEWS = ("PA", "AP")
LATERAL_WORDS = ("LAT", "LATERAL", "LL", "RL", "OBLIQUE")
ADULT_YEARS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontalRadiograph:
    """The one radiograph of a Series that is read, and what the report has to say about the choice."""

    radiograph: Radiograph
    notes: tuple[str, ...]


def crop_square(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the square in the middle of an image."""
    top, left, side = locate_square(pixels.shape)
    return pixels[top : top + side, left : left + side]


def locate_square(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return first row, first column and side of the square in the middle of (rows, columns)."""
    rows, columns = shape[0], shape[1]
    side = min(rows, columns)
    return (rows - side) // 2, (columns - side) // 2, side


def shrink(square: NDArray[np.float32], *, matrix: int = MATRIX) -> NDArray[np.float32]:
    """Return a square image at the network's matrix, without aliasing."""
    batch = torch.from_numpy(np.ascontiguousarray(square))[None, None]
    small = interpolate(batch, size=(matrix, matrix), mode="bilinear", align_corners=False, antialias=True)
    shrunk: NDArray[np.float32] = small[0, 0].numpy()
    return shrunk


def standardize(batch: torch.Tensor) -> torch.Tensor:
    """Return (batch, 1, rows, columns) with mean 0 and spread 1 in each image.

    Training and Pipeline both end in this function; it makes the network blind to exposure and windows.
    """
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    spread = batch.std(dim=(1, 2, 3), keepdim=True)
    return (batch - mean) / (spread + 1e-5)


class ChestXray:
    """The Pipeline `chest_xray`: one role, `image`.

    Parameters
    ----------
    card
        Model folder; ``[thresholds]`` names `pneumonia` and the half-width `undetermined_band` around it.
    device
        Where the network runs.
    """

    def __init__(self, card: ModelCard, device: torch.device) -> None:
        self._network = load_weights(XrayDensenet(), card)
        self._ladder = Ladder(self._network, device, batch=1)
        thresholds = card.numbers["thresholds"]
        self._threshold = float(thresholds["pneumonia"])
        self._band = float(thresholds["undetermined_band"])

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> FrontalRadiograph:
        """Choose the frontal image of the Series and decode it.

        Raises
        ------
        InputMissing, WrongModality, WrongBodyPart, WrongView, NotEligible
            If no Instance is a frontal chest radiograph.
        PixelsUndecodable
            If the chosen Instance cannot be decoded.
        """
        datasets = inputs.get(ROLE) or ()
        if not datasets:
            raise InputMissing(f"role {ROLE!r}: the Series holds no Instances; send it again")
        for ds in datasets:
            check_chest(ds)
        ds, notes = choose_frontal(datasets)
        if min(ds.Rows, ds.Columns) < MATRIX:
            raise NotEligible(
                f"instance {ds.SOPInstanceUID}: {ds.Rows} x {ds.Columns} pixels where {MATRIX} are needed; "
                "send the original, not a preview"
            )
        return FrontalRadiograph(radiograph=read_radiograph(ds), notes=(*notes, *describe_limits(ds)))

    @torch.inference_mode()
    def analyze(self, prepared: FrontalRadiograph) -> Analysis:
        """Classify the radiograph; with a positive label, map where it comes from.

        Raises
        ------
        ModelOutputInvalid
            If the network answers with NaN, or the same at each place.
        """
        pixels = prepared.radiograph.pixels
        film = standardize(torch.from_numpy(shrink(crop_square(pixels)))[None, None])

        def question(network: torch.nn.Module, footing: Footing) -> torch.Tensor:
            answer: torch.Tensor = network(film.to(footing.device)).float().cpu()
            return answer

        asked = self._ladder.ask(question)
        places = asked.answer
        require_sound(places.numpy(), "chest X-ray")
        confidence = float(torch.sigmoid(pool_evidence(places))[0])
        presence = decide_presence(confidence, threshold=self._threshold, band=self._band)
        heat = None
        if presence is Presence.PRESENT:
            heat = spread_heat(torch.sigmoid(places)[0].numpy(), pixels.shape)
        finding = Finding(label="Pneumonia", code=PNEUMONIA, presence=presence, confidence=confidence, site=LUNG)
        return Analysis(
            findings=(finding,),
            radiograph=prepared.radiograph,
            heat=heat,
            threshold=self._threshold,
            notes=(*prepared.notes, *asked.notes),
        )


def decide_presence(confidence: float, *, threshold: float, band: float) -> Presence:
    """Return what a probability means; within `band` of the threshold nobody knows."""
    if abs(confidence - threshold) < band:
        return Presence.UNDETERMINED
    return Presence.PRESENT if confidence >= threshold else Presence.ABSENT


def spread_heat(heat: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the heat of the square in the middle on the image's own (rows, columns); zero outside of it."""
    top, left, side = locate_square(shape)
    large = interpolate(torch.from_numpy(heat)[None, None], size=(side, side), mode="bilinear", align_corners=False)
    full = np.zeros((shape[0], shape[1]), np.float32)
    full[top : top + side, left : left + side] = np.clip(large[0, 0].numpy(), 0, 1)
    return full


def check_chest(ds: Dataset) -> None:
    """Refuse what is no projection X-ray of a chest.

    Raises
    ------
    WrongModality, WrongBodyPart
        With the value that was found.
    """
    if ds.get("Modality") not in MODALITIES:
        raise WrongModality(f"instance {ds.SOPInstanceUID}: Modality {ds.get('Modality')!r} where DX or CR is read")
    part = str(ds.get("BodyPartExamined") or "").strip().upper()
    if part and part not in BODY_PARTS:
        raise WrongBodyPart(f"instance {ds.SOPInstanceUID}: Body Part Examined {part!r} where CHEST is read")


def choose_frontal(datasets: Sequence[Dataset]) -> tuple[Dataset, tuple[str, ...]]:
    """Return the first frontal Instance by Instance Number, and a note where others were passed over.

    Raises
    ------
    WrongView
        If no Instance is frontal.
    """
    frontal = [ds for ds in datasets if is_frontal(ds)]
    if not frontal:
        found = sorted({str(ds.get("ViewPosition") or "unnamed") for ds in datasets})
        raise WrongView(
            f"series {datasets[0].get('SeriesInstanceUID')}: View Position {', '.join(found)} where PA or AP is read"
        )
    frontal.sort(key=lambda ds: (int(ds.get("InstanceNumber") or 0), str(ds.SOPInstanceUID)))
    passed = len(datasets) - 1
    note = f"{passed} further image(s) of the Series were not read."
    return frontal[0], (note,) if passed else ()


def is_frontal(ds: Dataset) -> bool:
    """Tell whether an Instance is, by all that its header says, a frontal view.

    An absent View Position (0018,5101) is taken as frontal unless a description says otherwise.
    """
    view = str(ds.get("ViewPosition") or "").upper().replace("_", " ").split()
    if view:
        return view[0] in FRONTAL_VIEWS
    said = " ".join(str(ds.get(k) or "") for k in ("SeriesDescription", "AcquisitionDeviceProcessingDescription"))
    said += " ".join(str(item.get("CodeMeaning") or "") for item in ds.get("ViewCodeSequence") or ())
    words = "".join(c if c.isalpha() else " " for c in said.upper()).split()
    return not any(word in LATERAL_WORDS for word in words)


def describe_limits(ds: Dataset) -> tuple[str, ...]:
    """Return the sentences that a reader of the report needs about this image."""
    notes = []
    if not ds.get("ViewPosition"):
        notes.append("View Position is absent; the image was taken to be frontal.")
    if not ds.get("BodyPartExamined"):
        notes.append("Body Part Examined is absent; the image was taken to be a chest.")
    # PS3.5 6.2 wants 053Y; archives also write 53.
    age = str(ds.get("PatientAge") or "").upper().removesuffix("Y")
    if age.isdigit() and int(age) >= ADULT_YEARS:
        notes.append("The patient is an adult; the model learned from children of one to five and overcalls in adults.")
    return tuple(notes)
