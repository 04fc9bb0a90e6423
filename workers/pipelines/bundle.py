"""Any MONAI Bundle as a Pipeline: what goes in by role, what comes out as coded Findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray
from pydicom import Dataset

from node.errors import GeometryRefused, InputMissing, ModelInvalid, ModelOutputInvalid
from node.manifest import Bundle, BundleKind, WeightsFormat
from node.models import ModelCard
from workers.axes import reverse_axes
from workers.fitness.check import Fitness
from workers.inference.answers import is_finite, require_finite, require_sound
from workers.inference.bundle import load_bundle
from workers.inference.ladder import Footing, Ladder
from workers.inference.turn import device_turn
from workers.networks.torchvision_parts import provide_torchvision_parts
from workers.pipelines.base import Analysis
from workers.pipelines.bundle_boxes import read_boxes
from workers.pipelines.bundle_classes import read_classes
from workers.pipelines.bundle_mask import find_segments, read_mask
from workers.radiograph import Radiograph, read_radiograph
from workers.stopwatch import stage
from workers.volume import Volume, read_volume

# From axes (slice, row, column) and LPS to those of NIfTI, in which bundles are written: (column, row, slice) and RAS.
NIFTI_AXES = (2, 1, 0)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Two Series share a grid whose voxels lie so near to each other, mm.
GRID_TOLERANCE_MM = 0.1
MIN_SLICES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInput:
    """What a bundle is given.

    Attributes
    ----------
    images
        One (channels, columns, rows, slices) for a volume as a whole; (channels, columns, rows) for each slice, or for
        a radiograph.
    notes
        What was not read.
    """

    images: tuple[MetaTensor, ...]
    volume: Volume | None = None
    radiograph: Radiograph | None = None
    notes: tuple[str, ...] = ()


class BundlePipeline:
    """The Pipeline of every MONAI Bundle; roles are those of ``[inputs]``, channels in their order.

    Parameters
    ----------
    card
        Model folder with ``[bundle]`` and ``[[labels]]``. ``[preprocessing]`` may name `min_slices`; ``[thresholds]``
        `finding` (0..1), `undetermined_band` and `max_share`.
    device
        Where the network runs.

    Raises
    ------
    ModelInvalid
        If the model is no bundle, a file of it differs from its digest, or its config does not load.
    """

    def __init__(self, card: ModelCard, device: torch.device) -> None:
        if card.bundle is None:
            raise ModelInvalid(f"model {card.name}: model.toml has no table [bundle], and its pipeline is a bundle")
        self._card = card
        self._bundle: Bundle = card.bundle
        provide_torchvision_parts()
        self._fitness = Fitness(card)
        self._loaded = load_bundle(card, card.bundle, device)
        self._ladder = Ladder(self._loaded.network, device, batch=1)

    @property
    def networks(self) -> Mapping[str, torch.nn.Module]:
        """The network that is asked, by the name that its config gives it; none where it came with its weights."""
        is_built_here = self._card.weights_format in {WeightsFormat.SAFETENSORS, WeightsFormat.STATE_DICT}
        return {self._bundle.network: self._loaded.network} if is_built_here else {}

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> BundleInput:
        """Turn the Series of each role into a channel.

        Raises
        ------
        InputMissing, WrongModality, TooFewSlices, GeometryRefused
            If a Series is absent, of another Modality, no stack of slices, or on another grid than the first.
        PixelsUndecodable
            If an Instance cannot be decoded.
        """
        roles = (*self._card.required_roles, *self._card.optional_roles)
        for role in roles:
            if inputs.get(role) or role in self._card.required_roles:
                self._fitness.check_header(role, inputs.get(role) or ())
        if self._bundle.kind is BundleKind.CLASSIFICATION:
            return self._read_film(inputs[roles[0]])
        least = int(self._card.numbers.get("preprocessing", {}).get("min_slices", MIN_SLICES))
        with stage("read"):
            volumes = [read_volume(inputs[role], min_slices=least) for role in roles if inputs.get(role)]
        for volume in volumes:
            self._fitness.check_volume(volume)
            _check_grid(volume, volumes[0])
        channels = np.empty((len(volumes), *volumes[0].voxels.shape[::-1]), np.float32)
        for channel, volume in zip(channels, volumes, strict=True):
            reverse_axes(volume.voxels, channel)
        if self._bundle.dimensions == 2:
            images = _cut_slices(channels, volumes[0])
        else:
            images = (_tensor(channels, LPS_TO_RAS @ volumes[0].affine[:, [*NIFTI_AXES, 3]]),)
        return BundleInput(images=images, volume=volumes[0])

    @torch.inference_mode()
    def analyze(self, prepared: BundleInput) -> Analysis:
        """Ask the bundle and bring its answer to the grid of the first Series.

        Raises
        ------
        ModelOutputInvalid
            If the bundle fails, answers with NaN, or with what its `model.toml` does not expect.
        """
        asked = self._ladder.ask(lambda network, footing: [self._ask(one, network, footing) for one in prepared.images])
        notes = (*prepared.notes, *asked.notes)
        if prepared.radiograph is not None:
            answer = asked.answer[0].get(self._bundle.output)
            return read_classes(answer, self._card, prepared.radiograph, notes=notes)
        volume = prepared.volume
        if volume is None:
            raise InputMissing("neither a volume nor a radiograph was read; the Pipeline is at fault")
        if self._bundle.kind is BundleKind.DETECTION:
            return read_boxes(asked.answer[0], self._card, volume, notes=notes)
        answers = [item.get(self._bundle.output) for item in asked.answer]
        values, more = read_mask(answers, self._card, volume)
        return find_segments(values, self._card, volume, notes=(*notes, *more))

    def _ask(self, image: MetaTensor, network: torch.nn.Module, footing: Footing) -> dict[str, Any]:
        """Return what the bundle makes of one image, on the CPU."""
        loaded, key = self._loaded, self._bundle.image
        item = dict(loaded.run("preprocessing", lambda: loaded.preprocessing({key: MetaTensor(image)})))
        read = item[key]
        if not is_finite(read):
            raise ModelOutputInvalid(f"the preprocessing of the bundle {loaded.name} gives NaN; is the input empty?")
        answer = self._infer(read, network, footing)
        item |= answer if isinstance(answer, dict) else {self._bundle.output: self._keep_place(answer, read)}
        return dict(loaded.run("postprocessing", lambda: loaded.postprocessing(item)))

    @stage("network")
    @device_turn()
    def _infer(self, read: MetaTensor, network: torch.nn.Module, footing: Footing) -> torch.Tensor | dict[str, Any]:
        """Return the answer of the network on the CPU: a tensor, or of a detector what it lists by name."""
        loaded = self._loaded
        batch = read.as_tensor().to(footing.device)
        is_list = self._bundle.kind is BundleKind.DETECTION
        first = loaded.run("inferer", lambda: loaded.inferer([batch] if is_list else batch[None], network))[0]
        if not is_list:
            return first.float().cpu()  # type: ignore[no-any-return]  # what a bundle answers has no type
        return {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in first.items()}

    def _keep_place(self, answer: torch.Tensor, image: MetaTensor) -> torch.Tensor:
        """Return an answer that knows where its image lies, if it is one about places."""
        if self._bundle.kind is BundleKind.SEGMENTATION and self._bundle.dimensions == 2:
            # An empty slice may well be the same everywhere.
            require_finite(answer.numpy(), self._card.name)
        else:
            require_sound(answer.numpy(), self._card.name)
        if answer.shape[1:] != image.shape[1:]:
            return answer
        meta = {key: value for key, value in image.meta.items() if key != "affine"}
        return MetaTensor(answer, affine=image.affine, meta=meta)

    def _read_film(self, datasets: Sequence[Dataset]) -> BundleInput:
        first, *others = sorted(datasets, key=lambda ds: (int(ds.get("InstanceNumber") or 0), str(ds.SOPInstanceUID)))
        with stage("read"):
            radiograph = read_radiograph(first)
        self._fitness.check_film(radiograph)
        note = f"{len(others)} further image(s) of the Series were not read."
        pixels = radiograph.pixels.transpose()[None]
        return BundleInput(images=(_tensor(pixels, np.eye(4)),), radiograph=radiograph, notes=(note,) if others else ())


def _cut_slices(channels: NDArray[np.float32], volume: Volume) -> tuple[MetaTensor, ...]:
    """Return each slice as an image of its own, with the size of its pixels and no place in the patient."""
    slice_mm, row_mm, column_mm = volume.spacing_mm
    affine = np.diag([column_mm, row_mm, slice_mm, 1.0])
    return tuple(_tensor(channels[..., number], affine) for number in range(channels.shape[-1]))


def _tensor(channels: NDArray[np.float32], affine: NDArray[np.float64]) -> MetaTensor:
    shape = torch.tensor(channels.shape[1:])
    meta = {"original_channel_dim": 0, "spatial_shape": shape, "original_affine": affine, "space": "RAS"}
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(channels)), affine=torch.from_numpy(affine), meta=meta)


def _check_grid(volume: Volume, first: Volume) -> None:
    is_same = volume.voxels.shape == first.voxels.shape and np.allclose(
        volume.affine, first.affine, atol=GRID_TOLERANCE_MM / max(first.voxels.shape)
    )
    if not is_same or volume.frame_of_reference_uid != first.frame_of_reference_uid:
        raise GeometryRefused(
            f"series {volume.datasets[0].SeriesInstanceUID} is not on the grid of the first one, and this bundle reads "
            "several together; send them registered and resampled"
        )
