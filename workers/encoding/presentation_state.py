"""Outlines and words on the key images become a Grayscale Softcopy Presentation State (PS3.3 A.33.1)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue

from node.domain.finding import Finding
from workers.drawing.heat_levels import LEVELS, reduce_heat, trace_level
from workers.drawing.slice_panel import choose_window
from workers.drawing.wording import say_certainty, say_size
from workers.encoding.concepts import OTHER_COLOR
from workers.encoding.draft import Draft, each_once, list_key_images
from workers.encoding.header_values import read_numbers
from workers.encoding.headers import copy_header
from workers.encoding.heat_map import require_heat
from workers.encoding.segmentation import track
from workers.encoding.stamping import identify_object, name_body_part, stamp_object
from workers.frames import gather_frames, name_slice
from workers.outline import trace_outlines
from workers.pipelines.base import Analysis, require_mask
from workers.pixels import rescale_pixels
from workers.provenance import PR_SERIES_NUMBER, Provenance

CONTENT_LABEL = "AI_FINDINGS"
LAYER = "AI FINDINGS"
# Graphic Data is FL, whose length has 16 bits in Explicit VR: 8191 points at most (PS3.5 7.1.2).
MAX_POINTS = 8000
RESCALE_KEYWORDS = ("RescaleSlope", "RescaleIntercept", "RescaleType")
FILM_PERCENTILES = (1.0, 99.0)
WINDOW_FORMAT = ".6g"  # a DS holds 16 characters

Lines = list[NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marked:
    """A Finding, its key image with the header of that, and the closed lines around it, (column, row) pixels."""

    finding: Finding
    image: Dataset
    header: Dataset
    lines: Lines


def encode_presentation_state(draft: Draft) -> Dataset | None:
    """Return outlines and words of all Findings on their key images.

    None when nothing was found, when nothing says where it lies, or when the key images differ in their rescaling:
    a presentation state has one Modality LUT.

    Raises
    ------
    ResultCheckFailed
        If a segmented Finding has no mask to stand on, or the heat map is not the radiograph's.
    PixelsUndecodable
        If a radiograph without window cannot be decoded again.

    References
    ----------
    DICOM PS3.3 A.33.1, C.10.5, C.11.8
    """
    marked = _mark_images(draft.analysis)
    rescaling = {tuple(str(one.header.get(keyword)) for keyword in RESCALE_KEYWORDS) for one in marked}
    if len(rescaling) != 1:
        return None
    state = _present(marked, draft)
    _name_frames(state, marked)
    _keep_aspect(state, draft.source)
    header = copy_header(draft.source)
    name_body_part(state, header)
    stamp_object(state, header, draft.provenance, kind="PR")
    # A presentation state has a creation in place of a content time (PS3.3 C.11.10).
    state.PresentationCreationDate, state.PresentationCreationTime = state.ContentDate, state.ContentTime
    del state.ContentDate, state.ContentTime
    return state


def _present(marked: Sequence[_Marked], draft: Draft) -> Dataset:
    provenance = draft.provenance
    layer = hd.pr.GraphicLayer(
        layer_name=LAYER,
        order=1,
        description="AI result, unverified",
        display_color=hd.color.CIELabColor.from_rgb(*OTHER_COLOR),
    )
    images = {str(one.header.SOPInstanceUID): one.header for one in marked}
    return hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=list(images.values()),
        **identify_object(provenance, "PR", series_number=PR_SERIES_NUMBER),
        content_label=CONTENT_LABEL,
        content_description=provenance.series_description("PR"),
        content_creator_name=f"AI^{provenance.node_aet}",
        graphic_annotations=[_annotate(one, layer, provenance) for one in marked],
        graphic_layers=[layer],
        modality_lut_transformation=_rescale(marked[0].header),
        voi_lut_transformations=[_choose_voi(draft)],
        presentation_lut_transformation=_choose_shape(draft.source),
    )


def _mark_images(analysis: Analysis) -> list[_Marked]:
    """Return what is to be drawn; empty when nothing was found or nothing says where it lies."""
    images = list_key_images(analysis)
    headers = {name_slice(ds): _copy_image(ds) for ds in each_once(images)}
    if not images:
        return []
    if analysis.radiograph is not None:
        heat = require_heat(analysis)
        lines = [] if heat is None else _trace_heat(heat)
        # The heat map tells what moved the score of the first label that is present.
        finding, ds = images[0]
        return [_Marked(finding=finding, image=ds, header=headers[name_slice(ds)], lines=lines)] if lines else []
    volume, mask = require_mask(analysis)
    places = {name_slice(ds): index for index, ds in enumerate(volume.datasets)}
    return [
        _Marked(
            finding=finding,
            image=ds,
            header=headers[name_slice(ds)],
            lines=trace_outlines(mask[places[name_slice(ds)]] == finding.segment_number),
        )
        for finding, ds in images
    ]


def _name_frames(state: Dataset, marked: Sequence[_Marked]) -> None:
    """Put in place to which Frames the state applies, and each annotation (PS3.3 C.11.11, C.10.5).

    highdicom takes the headers of Frames for those of single-frame images.
    """
    frames = {uid: numbers for (_, uid), numbers in gather_frames([one.image for one in marked]).items()}
    for series in state.ReferencedSeriesSequence:
        _put_frames(series.ReferencedImageSequence, frames)
    for annotation, one in zip(state.GraphicAnnotationSequence, marked, strict=True):
        named = name_slice(one.image)
        if named.frame_number is not None:
            _put_frames(annotation.ReferencedImageSequence, {named.sop_instance_uid: [named.frame_number]})


def _put_frames(references: Iterable[Dataset], frames: Mapping[str, list[int]]) -> None:
    for item in references:
        numbers = frames[str(item.ReferencedSOPInstanceUID)]
        if numbers:
            item.ReferencedFrameNumber = numbers


def _trace_heat(heat: NDArray[np.float32]) -> Lines:
    reduced = reduce_heat(heat)
    shape = (heat.shape[0], heat.shape[1])
    return [line for level in LEVELS for line in trace_level(reduced, level, shape=shape)]


def _copy_image(ds: Dataset) -> Dataset:
    """Return the header of an image without its own gray scale; highdicom would copy it where none is given."""
    header = copy_header(ds)
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        if keyword in header:
            delattr(header, keyword)
    return header


def _annotate(marked: _Marked, layer: hd.pr.GraphicLayer, provenance: Provenance) -> hd.pr.GraphicAnnotation:
    finding = marked.finding
    tracking_uid, tracking_id = track(provenance, finding)
    graphics = [
        hd.pr.GraphicObject(
            graphic_type=hd.pr.GraphicTypeValues.POLYLINE,
            graphic_data=piece,
            units=hd.pr.AnnotationUnitsValues.PIXEL,
            tracking_id=tracking_id,
            tracking_uid=tracking_uid,
        )
        for line in marked.lines
        for piece in _split(line)
    ]
    points = np.vstack(marked.lines)
    column, row = (float(value) for value in points[points[:, 1].argmin()])
    words = hd.pr.TextObject(
        text_value=_say(tracking_id, finding),
        units=hd.pr.AnnotationUnitsValues.PIXEL,
        anchor_point=(column, row),
        tracking_id=tracking_id,
        tracking_uid=tracking_uid,
    )
    return hd.pr.GraphicAnnotation(
        referenced_images=[marked.header], graphic_layer=layer, graphic_objects=graphics, text_objects=[words]
    )


def _split(line: NDArray[np.float64]) -> Lines:
    """Return a line in pieces that are short enough; each begins where the one before ended."""
    starts = range(0, max(1, len(line) - 1), MAX_POINTS - 1)
    return [line[start : start + MAX_POINTS] for start in starts]


def _say(tracking_id: str, finding: Finding) -> str:
    """Return the words at an outline, such as ``AI Nodule 1, 8.4 mm, unverified``."""
    parts = (tracking_id, say_size(finding) or say_certainty(finding), "unverified")
    return ", ".join(part for part in parts if part)


def _rescale(header: Dataset) -> hd.ModalityLUTTransformation | None:
    """Return the Modality LUT by which the voxels were rescaled; None where there was none."""
    if all(header.get(keyword) is None for keyword in RESCALE_KEYWORDS[:2]):
        return None
    slope, intercept = (header.get(keyword) for keyword in RESCALE_KEYWORDS[:2])
    default = "HU" if header.get("Modality") == "CT" else "US"
    return hd.ModalityLUTTransformation(
        rescale_intercept=0.0 if intercept is None else float(intercept),
        rescale_slope=1.0 if slope is None else float(slope),
        rescale_type=str(header.get("RescaleType") or default),
    )


def _choose_voi(draft: Draft) -> hd.pr.SoftcopyVOILUTTransformation:
    volume = draft.analysis.reference
    if volume is not None:
        window = choose_window(volume)
        center, width = window.center, window.width
    else:
        center, width = _choose_film_window(draft.source)
    return hd.pr.SoftcopyVOILUTTransformation(
        window_center=float(format(center, WINDOW_FORMAT)), window_width=float(format(width, WINDOW_FORMAT))
    )


def _choose_film_window(source: Dataset) -> tuple[float, float]:
    """Return center and width that the film names itself, else from its gray values."""
    header = copy_header(source)
    center, width = (_first(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    # With a Modality LUT of its own, the film's window would not fit what is written here.
    if center is not None and width is not None and width >= 1 and "ModalityLUTSequence" not in source:
        return center, width
    low, high = (float(value) for value in np.percentile(rescale_pixels(source), FILM_PERCENTILES))
    return (low + high) / 2, max(high - low, 1.0)


def _first(value: object) -> float | None:
    """Return the first value of a DS; None where there is none."""
    first = value[0] if isinstance(value, MultiValue) and value else value
    return float(first) if isinstance(first, float) else None


def _choose_shape(source: Dataset) -> hd.PresentationLUTTransformation:
    # What a low value means is said by Photometric Interpretation alone; the state must turn it (PS3.3 C.11.6.1).
    is_inverse = source.get("PhotometricInterpretation") == "MONOCHROME1"
    return hd.PresentationLUTTransformation(presentation_lut_shape="INVERSE" if is_inverse else "IDENTITY")


def _keep_aspect(state: Dataset, source: Dataset) -> None:
    """Put in place the shape of the pixels; highdicom calls them square, which squeezes an image that has others."""
    header = copy_header(source)
    spacing, aspect = (read_numbers(header, keyword, 2) for keyword in ("PixelSpacing", "PixelAspectRatio"))
    for item in state.DisplayedAreaSelectionSequence:
        # Of no meaning where an image is not one of many tiles (PS3.3 C.10.4).
        del item.PixelOriginInterpretation
        if spacing and min(spacing) > 0:
            item.PresentationPixelSpacing = list(header.PixelSpacing)
            del item.PresentationPixelAspectRatio
        elif aspect and min(aspect) > 0:
            item.PresentationPixelAspectRatio = list(header.PixelAspectRatio)
