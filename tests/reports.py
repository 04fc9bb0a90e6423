"""SEG and SR of a Case without the pictures, and what an SR says: for tests of many Cases."""

from collections.abc import Iterator, Mapping

from pydicom import Dataset

from node.domain.codes import Code
from node.domain.result import ResultKind
from tests.analyses import Case, read_results
from workers.encoding.encoder import EncodedResult, find_source, serialize
from workers.encoding.quiet import quiet_libraries
from workers.encoding.report import encode_report
from workers.encoding.segmentation import encode_segmentation
from workers.proving.check import check_results


def encode_report_of(case: Case) -> tuple[EncodedResult, ...]:
    """Return the SEG, where something was segmented, and the SR."""
    analysis, provenance = case.analysis, case.provenance
    with quiet_libraries():
        seg = encode_segmentation(analysis, provenance) if analysis.reference and analysis.findings else None
        sr = encode_report(analysis, provenance, case.inputs, source=find_source(analysis), segmentation=seg)
        results = [serialize(sr, ResultKind.SR)]
        if seg is not None:
            results.insert(0, serialize(seg, ResultKind.SEG))
    return tuple(results)


def read_report_of(case: Case) -> Mapping[ResultKind, Dataset]:
    """Return SEG and SR of a Case after they passed the gate."""
    results = encode_report_of(case)
    check_results(results, case.analysis, case.inputs)
    return read_results(results)


def walk(ds: Dataset) -> Iterator[Dataset]:
    """Yield every content item of an SR, parents first."""
    for item in ds.get("ContentSequence") or ():
        yield item
        yield from walk(item)


def named(ds: Dataset, code: Code) -> list[Dataset]:
    """Return the content items with this concept name."""
    return [item for item in walk(ds) if item.ConceptNameCodeSequence[0].CodeValue == code.value]


def answers(ds: Dataset, code: Code) -> list[str]:
    """Return the Code Values that stand under this concept name."""
    return [str(item.ConceptCodeSequence[0].CodeValue) for item in named(ds, code)]
