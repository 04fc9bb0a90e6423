"""Chest X-ray: pneumonia or not on one frontal radiograph, and where the network looked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset

from node.domain.codes import LUNG, PNEUMONIA
from node.domain.finding import Finding, Presence
from node.errors import NotEligible, WrongView
from node.manifest import Fit
from node.models import ModelCard
from workers.fitness.check import Fitness
from workers.fitness.header import read_age_years
from workers.inference.answers import require_sound
from workers.inference.attention import Attended, attend
from workers.inference.calibration import soften
from workers.inference.ladder import Footing, Ladder
from workers.inference.turn import device_turn
from workers.inference.weights import load_weights
from workers.networks.xray_densenet import ATTENDED, MATRIX, XrayDensenet, merge_mirrored, mirror, pool_evidence
from workers.pipelines.base import Analysis
from workers.pipelines.input_views import view_film
from workers.radiograph import Radiograph, read_radiograph
from workers.resampling import resize_images
from workers.stopwatch import stage

ROLE = "image"
BODY_PARTS = ("CHEST", "THORAX", "LUNG", "LUNGS")
FRONTAL_VIEWS = ("PA", "AP")
CHILDREN_ONLY = "the model learned from children of one to five and calls pneumonia too often in adults."
LATERAL_WORDS = ("LAT", "LATERAL", "LL", "RL", "OBLIQUE")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontalRadiograph:
    """The one radiograph of a Series that is read, and what the report has to say about the choice.

    Attributes
    ----------
    reservation
        A sentence that says why nobody may rely on the network's answer; None where nothing is known against it.
    """

    radiograph: Radiograph
    notes: tuple[str, ...]
    reservation: str | None = None


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
    shrunk: NDArray[np.float32] = resize_images(square[None], (matrix, matrix))[0]
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
        Model folder; ``[thresholds]`` names `pneumonia`, the half-width `undetermined_band` around it, and
        `oldest_years`; ``[calibration]`` names `temperature`.
    device
        Where the network runs.
    """

    def __init__(self, card: ModelCard, device: torch.device) -> None:
        self._network = load_weights(XrayDensenet(), card)
        self._ladder = Ladder(self._network, device, batch=1)
        self._fitness = Fitness(card, usual=Fit(body_parts=BODY_PARTS, views=FRONTAL_VIEWS), modalities=("DX", "CR"))
        thresholds = card.numbers["thresholds"]
        self._threshold = float(thresholds["pneumonia"])
        self._band = float(thresholds["undetermined_band"])
        self._oldest_years = float(thresholds["oldest_years"])
        self._temperature = float(card.numbers["calibration"]["temperature"])

    @property
    def networks(self) -> Mapping[str, torch.nn.Module]:
        """The networks that are asked, by name."""
        return {"densenet": self._network}

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> FrontalRadiograph:
        """Choose the frontal image of the Series and decode it.

        Raises
        ------
        InputMissing, WrongModality, WrongBodyPart, WrongView, NotEligible
            If no Instance is a frontal chest radiograph, or it is not fit in another way (`workers.fitness`).
        PixelsUndecodable
            If the chosen Instance cannot be decoded.
        """
        datasets = inputs.get(ROLE) or ()
        self._fitness.check_header(ROLE, datasets)
        ds, notes = choose_frontal(datasets)
        if min(ds.Rows, ds.Columns) < MATRIX:
            raise NotEligible(
                f"instance {ds.SOPInstanceUID}: {ds.Rows} x {ds.Columns} pixels where {MATRIX} are needed; "
                "send the original, not a preview"
            )
        with stage("read"):
            radiograph = read_radiograph(ds)
        self._fitness.check_film(radiograph)
        unusual = self._fitness.check_likeness(partial(view_film, radiograph.pixels))
        return FrontalRadiograph(
            radiograph=radiograph,
            notes=(*notes, *unusual, *describe_limits(ds)),
            reservation=question_age(ds, oldest_years=self._oldest_years),
        )

    def analyze(self, prepared: FrontalRadiograph) -> Analysis:
        """Classify the radiograph; with a positive label, map what moved the score (Grad-CAM).

        Of a film with a reservation nothing is said but the network's number, in words: as a certainty it would be
        taken for one.

        Raises
        ------
        ModelOutputInvalid
            If the network answers with NaN, or the same at each place.
        """
        pixels = prepared.radiograph.pixels
        film = standardize(torch.from_numpy(shrink(crop_square(pixels)))[None, None])

        @stage("network")
        @device_turn()
        def question(network: torch.nn.Module, footing: Footing) -> Attended:
            layer = network.get_submodule(ATTENDED)
            seen = attend(network, layer, mirror(film).to(footing.device), score_of=pool_evidence)
            return Attended(answer=seen.answer.float().cpu(), maps=seen.maps.float().cpu())

        asked = self._ladder.ask(question)
        places = asked.answer.answer
        require_sound(places.numpy(), "chest X-ray")
        probability = float(soften(merge_mirrored(pool_evidence(places)), temperature=self._temperature)[0])
        notes = (*prepared.notes, *asked.notes)
        if prepared.reservation is not None:
            notes = (f"{prepared.reservation} The network's own number was {probability:.2f}.", *notes)
            return self._answer(prepared, None, Presence.UNDETERMINED, notes=notes)
        presence = decide_presence(probability, threshold=self._threshold, band=self._band)
        analysis = self._answer(prepared, probability, presence, notes=notes)
        if presence is Presence.PRESENT:
            maps = asked.answer.maps
            heat = scale_heat(((maps[0] + maps[1].flip(-1)) / 2).numpy(), probability)
            analysis = replace(analysis, heat=spread_heat(heat, pixels.shape))
        return analysis

    def _answer(
        self, prepared: FrontalRadiograph, confidence: float | None, presence: Presence, *, notes: tuple[str, ...]
    ) -> Analysis:
        finding = Finding(label="Pneumonia", code=PNEUMONIA, presence=presence, confidence=confidence, site=LUNG)
        return Analysis(findings=(finding,), radiograph=prepared.radiograph, threshold=self._threshold, notes=notes)


def decide_presence(confidence: float, *, threshold: float, band: float) -> Presence:
    """Return what a probability means; within `band` of the threshold nobody knows."""
    if abs(confidence - threshold) < band:
        return Presence.UNDETERMINED
    return Presence.PRESENT if confidence >= threshold else Presence.ABSENT


def scale_heat(attention: NDArray[np.float32], probability: float) -> NDArray[np.float32]:
    """Return attention (rows, columns) >= 0 on a scale on which the strongest place carries the film's probability."""
    largest = float(attention.max())
    return attention * np.float32(probability / largest if largest > 0 else 0.0)


def spread_heat(heat: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the heat of the square in the middle on the image's own (rows, columns); zero outside of it."""
    top, left, side = locate_square(shape)
    large = resize_images(heat[None], (side, side), smooth=False)
    full = np.zeros((shape[0], shape[1]), np.float32)
    full[top : top + side, left : left + side] = np.clip(large[0], 0, 1)
    return full


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
    if read_age_years(ds) is None:
        notes.append(f"The patient's age is not known from Patient's Age or Patient's Birth Date: {CHILDREN_ONLY}")
    return tuple(notes)


def question_age(ds: Dataset, *, oldest_years: float) -> str | None:
    """Return why the network's answer says nothing of a patient of this age; None where the age is not against it."""
    years = read_age_years(ds)
    # Somebody is seventeen until the next birthday.
    if years is None or math.floor(years) <= oldest_years:
        return None
    return f"Undetermined, because Patient's Age is above {oldest_years:g} years: {CHILDREN_ONLY}"
