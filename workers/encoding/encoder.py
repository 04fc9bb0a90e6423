"""An Analysis becomes the bytes of DICOM Results: SEG, SR, the picture, and what else is wished for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from types import MappingProxyType

from pydicom import Dataset, dcmwrite

from node.domain.result import OptionalResult, ResultKind, ResultWishes
from node.domain.uids import InstanceUID, SeriesUID, StudyUID
from node.errors import ResultCheckFailed
from workers.drawing.page import draw_page
from workers.encoding.document import encode_document
from workers.encoding.draft import Draft
from workers.encoding.headers import copy_header
from workers.encoding.heat_map import encode_heat_map
from workers.encoding.key_objects import encode_key_objects
from workers.encoding.picture import encode_picture
from workers.encoding.presentation_state import encode_presentation_state
from workers.encoding.quiet import quiet_libraries
from workers.encoding.report import encode_report
from workers.encoding.segmentation import encode_segmentation
from workers.pipelines.base import Analysis
from workers.provenance import Provenance

# What is written only where it is wished for: its kind, and who makes it, None where there is nothing to write. The
# picture is not here: it is always made.
OPTIONAL: Mapping[OptionalResult, tuple[ResultKind, Callable[[Draft], Dataset | None]]] = MappingProxyType(
    {
        OptionalResult.KEY_OBJECTS: (ResultKind.KO, encode_key_objects),
        OptionalResult.PRESENTATION_STATE: (ResultKind.PR, encode_presentation_state),
        OptionalResult.PDF: (ResultKind.DOC, encode_document),
        OptionalResult.HEAT_MAP: (ResultKind.SEG, encode_heat_map),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedResult:
    """One Result as it will be stored and sent.

    Attributes
    ----------
    content
        Part 10 file; serialized once, used for store, C-STORE and STOW-RS.
    is_substitute
        See `node.domain.result.Result`.
    """

    kind: ResultKind
    study_instance_uid: StudyUID
    series_instance_uid: SeriesUID
    sop_instance_uid: InstanceUID
    sop_class_uid: str
    transfer_syntax_uid: str
    content: bytes
    is_substitute: bool = False


def encode(
    analysis: Analysis,
    provenance: Provenance,
    inputs: Mapping[str, Sequence[Dataset]],
    wishes: ResultWishes,
) -> tuple[EncodedResult, ...]:
    """Return the Results of one Job: SEG (when something was segmented), SR, picture, and what else is wished for.

    The same arguments give the same bytes. Sources are not changed. Prove the Results with
    `workers.proving.check.check_results` before they leave.

    Parameters
    ----------
    inputs
        Role to the source Instances of its Series.

    Raises
    ------
    ResultCheckFailed
        If the Analysis contradicts itself or does not tell which image was read.
    """
    with quiet_libraries():
        return _encode(analysis, provenance, inputs, wishes)


def find_source(analysis: Analysis) -> Dataset:
    """Return the Instance from which patient and Study are taken.

    Raises
    ------
    ResultCheckFailed
        If the analysis names neither a volume nor a radiograph.
    """
    if analysis.reference is not None:
        return analysis.reference.datasets[0]
    if analysis.radiograph is not None:
        return analysis.radiograph.dataset
    raise ResultCheckFailed("the analysis does not say which image was read; this is a fault of the Pipeline")


def _encode(
    analysis: Analysis,
    provenance: Provenance,
    inputs: Mapping[str, Sequence[Dataset]],
    wishes: ResultWishes,
) -> tuple[EncodedResult, ...]:
    source = find_source(analysis)
    results = []
    segmentation = None
    if analysis.reference is not None and analysis.findings:
        provenance = replace(provenance, segmentation=wishes.segmentation)
        segmentation = encode_segmentation(analysis, provenance)
        results.append(serialize(segmentation, ResultKind.SEG))
    report = encode_report(analysis, provenance, inputs, source=source, segmentation=segmentation)
    results.append(serialize(report, ResultKind.SR))
    page = draw_page(analysis, provenance, header=copy_header(source))
    picture = encode_picture(page, analysis, provenance, source=source)
    is_wished = OptionalResult.PICTURE in wishes.optional
    results.append(serialize(picture, ResultKind.SC, is_substitute=not is_wished))
    draft = Draft(
        analysis=analysis,
        provenance=provenance,
        source=source,
        segmentation=segmentation,
        report=report,
        page=page,
        picture=picture,
    )
    for wish, (kind, encode_optional) in OPTIONAL.items():
        made = encode_optional(draft) if wish in wishes.optional else None
        if made is not None:
            results.append(serialize(made, kind))
    return tuple(results)


def serialize(ds: Dataset, kind: ResultKind, *, is_substitute: bool = False) -> EncodedResult:
    """Return the Part 10 file of one object."""
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return EncodedResult(
        kind=kind,
        study_instance_uid=StudyUID(str(ds.StudyInstanceUID)),
        series_instance_uid=SeriesUID(str(ds.SeriesInstanceUID)),
        sop_instance_uid=InstanceUID(str(ds.SOPInstanceUID)),
        sop_class_uid=str(ds.SOPClassUID),
        transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
        content=buffer.getvalue(),
        is_substitute=is_substitute,
    )
