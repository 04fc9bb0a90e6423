"""The gate before anything leaves: Results are read again and proven against their sources."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from node.domain.result import OWN_MANUFACTURER, ResultKind
from node.domain.uids import check_uid
from node.errors import BadIdentifier, ResultCheckFailed
from workers.encoding.encoder import EncodedResult, find_source
from workers.encoding.proof import require
from workers.encoding.proof_report import prove_report
from workers.encoding.proof_segmentation import prove_segmentation
from workers.encoding.quiet import quiet_libraries
from workers.pipelines.base import Analysis

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
# These name a Study, a request or an earlier report, not an Instance at hand.
FOREIGN_SEQUENCES = (
    "ReferencedStudySequence",
    "ReferencedPatientSequence",
    "ReferencedRequestSequence",
    "ReferencedPerformedProcedureStepSequence",
    "PredecessorDocumentsSequence",
)


def check_results(
    results: Sequence[EncodedResult], analysis: Analysis, inputs: Mapping[str, Sequence[Dataset]]
) -> None:
    """Read the Results again and prove them against the Analysis and its sources.

    Proven: patient and Study are the source's; every UID is valid; every reference resolves; each Frame lies where
    its source slice lies and shows what the mask shows; voxels × slice distance × pixel spacing is the volume of the
    SR within 1 %; SEG and SR name the same tracked findings; the SR says what was found.

    Raises
    ------
    ResultCheckFailed
        At the first contradiction; none of the Results may leave the node.
    """
    try:
        with quiet_libraries():
            _check(results, analysis, inputs)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as exc:
        # An element that a proof needs is absent or malformed: what cannot be proven does not leave.
        raise ResultCheckFailed(f"a Result cannot be proven: {type(exc).__name__} while it was read") from exc


def _check(results: Sequence[EncodedResult], analysis: Analysis, inputs: Mapping[str, Sequence[Dataset]]) -> None:
    counts = Counter(result.kind for result in results)
    is_segmented = analysis.reference is not None and bool(analysis.findings)
    require(counts[ResultKind.SR] == 1, f"{counts[ResultKind.SR]} SR where one is expected")
    require(counts[ResultKind.SEG] == int(is_segmented), f"{counts[ResultKind.SEG]} SEG, {int(is_segmented)} expected")
    objects = {result.kind: _read_again(result) for result in results}
    require(len(objects) == len(results), "two Results of one kind")
    source = find_source(analysis)
    for kind, ds in objects.items():
        _prove_origin(ds, kind, source, inputs)
        _prove_uids(ds, kind)
        _prove_references(ds, kind, inputs, objects)
    seg = objects.get(ResultKind.SEG)
    segments = {} if seg is None else prove_segmentation(seg, analysis, inputs)
    prove_report(objects[ResultKind.SR], analysis, inputs, segmentation=seg, segments=segments)
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
        require(str(ds.get(keyword)) == value, f"{result.kind}: {keyword} differs between the file and its record")
    meta = ds.file_meta
    require(meta.TransferSyntaxUID == result.transfer_syntax_uid, f"{result.kind}: Transfer Syntax differs")
    require(meta.get("MediaStorageSOPInstanceUID") == ds.SOPInstanceUID, f"{result.kind}: file meta names another UID")
    require(meta.get("MediaStorageSOPClassUID") == ds.SOPClassUID, f"{result.kind}: file meta names another SOP Class")
    return ds


def _prove_origin(ds: Dataset, kind: ResultKind, source: Dataset, inputs: Mapping[str, Sequence[Dataset]]) -> None:
    """Prove that patient and Study are the source's, and that we say who made the object."""
    for keyword in VERBATIM_KEYWORDS:
        require(_text(ds, keyword) == _text(source, keyword), f"{kind}: {keyword} is not the source's")
    for keyword, pattern in FORMATTED_KEYWORDS.items():
        expected, found = _text(source, keyword), _text(ds, keyword)
        is_lost = not found and not pattern.fullmatch(expected)
        require(found == expected or is_lost, f"{kind}: {keyword} is not the source's")
    for datasets in inputs.values():
        for one in datasets:
            for keyword in ("PatientID", "StudyInstanceUID"):
                require(_text(ds, keyword) == _text(one, keyword), f"{kind}: {keyword} differs among the inputs")
    require(_text(ds, "Manufacturer") == OWN_MANUFACTURER, f"{kind}: Manufacturer is not ours")
    described = _text(ds, "SeriesDescription")
    require("AI" in described and "unverified" in described, f"{kind}: Series Description does not say AI, unverified")


def _text(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    return "" if value is None else str(value).strip()


def _prove_uids(ds: Dataset, kind: ResultKind) -> None:
    for element in [*ds.file_meta, *ds.iterall()]:
        if element.VR != "UI" or not element.value:
            continue
        values = [element.value] if isinstance(element.value, str) else element.value
        for value in values:
            try:
                check_uid(str(value), keyword=element.keyword)
            except BadIdentifier as exc:
                raise ResultCheckFailed(f"{kind}: {exc}") from exc


def _prove_references(
    ds: Dataset, kind: ResultKind, inputs: Mapping[str, Sequence[Dataset]], objects: Mapping[ResultKind, Dataset]
) -> None:
    """Prove that every referenced Instance is an input or another Result of the same Job."""
    known = {str(one.SOPInstanceUID): str(one.SOPClassUID) for datasets in inputs.values() for one in datasets}
    own = {str(one.SOPInstanceUID) for one in objects.values()}
    require(len(own) == len(objects) and not own & known.keys(), f"{kind}: a SOP Instance UID is used twice")
    known |= {str(one.SOPInstanceUID): str(one.SOPClassUID) for one in objects.values()}
    for item in _walk_references(ds):
        uid = str(item.ReferencedSOPInstanceUID)
        require(uid in known, f"{kind}: {uid} is referenced but is neither input nor Result")
        require(
            str(item.get("ReferencedSOPClassUID")) == known[uid], f"{kind}: {uid} is referenced as another SOP Class"
        )


def _walk_references(ds: Dataset) -> Iterator[Dataset]:
    if "ReferencedSOPInstanceUID" in ds:
        yield ds
    for element in ds:
        if element.VR == "SQ" and element.keyword not in FOREIGN_SEQUENCES:
            for item in element.value:
                yield from _walk_references(item)


def _prove_picture(sc: Dataset) -> None:
    require(sc.get("BurnedInAnnotation") == "YES", "SC: Burned In Annotation does not warn of the patient's name")
    expected = int(sc.Rows) * int(sc.Columns) * int(sc.SamplesPerPixel)
    require(len(sc.PixelData) == expected + expected % 2, "SC: Pixel Data has another length than Rows and Columns say")
    require(bool(sc.get("SourceImageSequence")), "SC: no source image is named")
