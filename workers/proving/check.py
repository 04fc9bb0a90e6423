"""The gate before anything leaves: Results are read again and proven against their sources and the Analysis."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from node.domain.result import OWN_MANUFACTURER, ResultKind
from node.errors import NotEligible, PixelsUndecodable, ResultCheckFailed, TooLarge
from workers.encoding.encoder import EncodedResult, find_source
from workers.encoding.header_values import read_text
from workers.encoding.quiet import quiet_libraries
from workers.frames import name_slice, spread_frames, whole_of
from workers.instances import choose_slices
from workers.pipelines.base import Analysis
from workers.pixels import rescale_pixels
from workers.proving.extras import prove_extras
from workers.proving.heat_map import prove_heat_map
from workers.proving.objects import UNREADABLE, Inspection
from workers.proving.originals import OriginalReader, Originals, SlicePlace, Values, gather_originals
from workers.proving.placed_segments import PlacedSegmentation
from workers.proving.proof import require
from workers.proving.references import Surroundings, read_header
from workers.proving.report import prove_report
from workers.proving.segmentation import prove_segmentation

# Must be what the source says, to the letter.
VERBATIM_KEYWORDS = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "StudyInstanceUID",
    "StudyID",
    "AccessionNumber",
)
# May be empty where the source holds no such value; an object with a malformed one would be refused elsewhere.
FORMATTED_KEYWORDS = {
    "PatientBirthDate": re.compile(r"\d{8}"),
    "PatientSex": re.compile(r"[MFO]"),
    "StudyDate": re.compile(r"\d{8}"),
    "StudyTime": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
}
# A SEG is proven before the SR that measures it.
ORDER = (ResultKind.SEG, *(kind for kind in ResultKind if kind is not ResultKind.SEG))

Inputs = Mapping[str, Sequence[Dataset]]


def check_results(results: Sequence[EncodedResult], analysis: Analysis, inputs: Inputs) -> None:
    """Read the Results again and prove them, first against their sources, then against the Analysis.

    Against the sources, as for the objects of anybody (`workers.proving.objects.Inspection`): patient and Study,
    UIDs, references, the place of each Frame, volume, extent and attenuation of each Segment, outlines. Against the
    Analysis: each Frame shows the mask, SEG and SR name the Findings, the SR says what was found.

    Raises
    ------
    ResultCheckFailed
        With everything that the sources contradict, else with the first thing that the Analysis does; none of the
        Results may leave the node.
    """
    try:
        with quiet_libraries():
            _check(results, analysis, inputs)
    except UNREADABLE as exc:
        # An element that a proof needs is absent or malformed: what cannot be proven does not leave.
        raise ResultCheckFailed(f"a Result cannot be proven: {type(exc).__name__} while it was read") from exc


def _check(results: Sequence[EncodedResult], analysis: Analysis, inputs: Inputs) -> None:
    counts = Counter(result.kind for result in results)
    is_segmented = analysis.reference is not None and bool(analysis.findings)
    require(counts[ResultKind.SR] == 1, f"{counts[ResultKind.SR]} SR where one is expected")
    # A radiograph may have one all the same: the heat map.
    is_due = counts[ResultKind.SEG] == int(is_segmented) or analysis.radiograph is not None
    require(is_due, f"{counts[ResultKind.SEG]} SEG, {int(is_segmented)} expected")
    objects = {result.kind: _read_again(result) for result in results}
    require(len(objects) == len(results), "two Results of one kind")
    objects = {kind: objects[kind] for kind in ORDER if kind in objects}
    inspection = _inspect(objects, analysis, inputs)
    source = find_source(analysis)
    for kind, ds in objects.items():
        _prove_origin(ds, kind, source)
    _prove_agreement(objects, inspection, analysis, inputs)
    if ResultKind.SC in objects:
        _prove_picture(objects[ResultKind.SC])


def _read_again(result: EncodedResult) -> Dataset:
    try:
        ds = dcmread(BytesIO(result.content))
    except (InvalidDicomError, OSError, ValueError, EOFError) as exc:
        raise ResultCheckFailed(f"{result.kind} cannot be read again: {type(exc).__name__}") from exc
    stated = (
        ("StudyInstanceUID", result.study_instance_uid),
        ("SeriesInstanceUID", result.series_instance_uid),
        ("SOPInstanceUID", result.sop_instance_uid),
        ("SOPClassUID", result.sop_class_uid),
    )
    for keyword, value in stated:
        require(read_text(ds, keyword) == value, f"{result.kind}: {keyword} differs between the file and its record")
    syntax = ds.file_meta.TransferSyntaxUID
    require(syntax == result.transfer_syntax_uid, f"{result.kind}: Transfer Syntax differs")
    return ds


def _inspect(objects: Mapping[ResultKind, Dataset], analysis: Analysis, inputs: Inputs) -> Inspection:
    """Return the Inspection of all objects, after it found nothing wrong and nothing that cannot be proven."""
    originals = _read_originals(analysis, inputs)
    headers = [read_header(ds) for ds in objects.values()]
    counts = Counter(header.sop_instance_uid for header in headers)
    inspection = Inspection(
        Surroundings(
            originals=originals,
            objects={header.sop_instance_uid: header for header in headers},
            doubled=frozenset(uid for uid, count in counts.items() if count > 1),
        )
    )
    complaints = [f"{kind}: {complaint}" for kind, ds in objects.items() for complaint in inspection.inspect(ds)]
    require(not complaints, " ".join(complaints))
    return inspection


def _read_originals(analysis: Analysis, inputs: Inputs) -> Originals:
    instances = {str(ds.SOPInstanceUID): whole_of(ds) for some in inputs.values() for ds in some}
    volume = analysis.reference
    places = {} if volume is None else {name_slice(ds).place: n for n, ds in enumerate(volume.datasets)}
    is_known = {uid for uid, _ in places} <= instances.keys()
    require(is_known, "the reference volume holds slices that were no input")

    def read_values(place: SlicePlace) -> Values:
        # Decoded once already, when the volume was read.
        if volume is not None and place in places:
            voxels: Values = volume.voxels[places[place]]
            return voxels
        return rescale_pixels(_find_slice(place, inputs))

    return gather_originals(map(OriginalReader().read, instances.values()), read_values)


def _find_slice(place: SlicePlace, inputs: Inputs) -> Dataset:
    """Return a slice that the Pipeline may have passed over: nobody has looked yet what its Instance is made of."""
    held = [ds for slices in inputs.values() for ds in choose_slices(slices, place[:1])]
    try:
        found = next((ds for ds in spread_frames(held) if name_slice(ds).place == place), None)
    except (NotEligible, TooLarge) as exc:
        raise PixelsUndecodable(str(exc)) from exc
    if found is None:
        raise ResultCheckFailed(f"{place[0]} has no frame {place[1]}")
    return found


def _prove_origin(ds: Dataset, kind: ResultKind, source: Dataset) -> None:
    """Prove that patient and Study are the source's to the letter, and that we say who made the object."""
    for keyword in VERBATIM_KEYWORDS:
        require(read_text(ds, keyword) == read_text(source, keyword), f"{kind}: {keyword} is not the source's")
    for keyword, pattern in FORMATTED_KEYWORDS.items():
        expected, found = read_text(source, keyword), read_text(ds, keyword)
        is_lost = not found and not pattern.fullmatch(expected)
        require(found == expected or is_lost, f"{kind}: {keyword} is not the source's")
    require(read_text(ds, "Manufacturer") == OWN_MANUFACTURER, f"{kind}: Manufacturer is not ours")
    described = read_text(ds, "SeriesDescription")
    require("AI" in described and "unverified" in described, f"{kind}: Series Description does not say AI, unverified")


def _prove_agreement(
    objects: Mapping[ResultKind, Dataset], inspection: Inspection, analysis: Analysis, inputs: Inputs
) -> None:
    seg, sr = objects.get(ResultKind.SEG), objects[ResultKind.SR]
    placed: PlacedSegmentation | None = None
    if seg is not None and analysis.reference is None:
        prove_heat_map(seg, analysis)
    elif seg is not None:
        placed = inspection.segmentations[str(seg.SOPInstanceUID)]
        prove_segmentation(placed, inspection.inventories[str(seg.SOPInstanceUID)], analysis)
    prove_report(sr, inspection.inventories[str(sr.SOPInstanceUID)], analysis, inputs, placed=placed)
    prove_extras(objects, analysis)


def _prove_picture(sc: Dataset) -> None:
    require(sc.get("BurnedInAnnotation") == "YES", "SC: Burned In Annotation does not warn of the patient's name")
    pixels = bytes(sc.PixelData)
    require(pixels.count(pixels[:1]) < len(pixels), "SC: the picture shows nothing")
    require(bool(sc.get("SourceImageSequence")), "SC: no source image is named")
