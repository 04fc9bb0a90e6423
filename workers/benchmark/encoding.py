"""What it costs to write Results, and to prove them: `radnode bench encode`."""

from dataclasses import replace
from importlib.metadata import version
from platform import python_version
from typing import Any

from pydicom import Dataset

from node.domain.result import ResultKind, ResultWishes, SegmentationForm
from workers.benchmark.case import ROLE, Case, nodule_case, organ_case
from workers.benchmark.rounds import Measurement, Subject, measure_in_turn
from workers.drawing.page import draw_page
from workers.encoding.encoder import encode, serialize
from workers.encoding.headers import copy_header
from workers.encoding.picture import encode_picture
from workers.encoding.quiet import quiet_libraries
from workers.encoding.report import encode_report
from workers.encoding.segmentation import call_highdicom, encode_segmentation
from workers.pipelines.base import require_mask
from workers.proving.check import check_results

LIBRARIES = ("pydicom", "highdicom", "pyjpegls", "numpy")
NODULES, ORGANS = "3 nodules on 400 slices", "20 segments on 400 slices"
BINARY, LABELMAP, DEFAULT = "SEG BINARY", "SEG LABELMAP", "SEG BINARY by highdicom's default call"


def measure_encoding(*, rounds: int) -> dict[str, Any]:
    """Return what writing and proving Results takes, in the form that `radnode bench` shows.

    Parameters
    ----------
    rounds
        How often each Subject is measured; >= 1.
    """
    with quiet_libraries():
        nodules = measure_in_turn(_list_nodule_subjects(nodule_case()), rounds=rounds)
        organs = measure_in_turn(_list_organ_subjects(organ_case()), rounds=rounds)
    return {
        "bench": "encode",
        "rounds": rounds,
        "unit": "CPU seconds",
        "tables": [
            {"title": title, "rows": [one.as_json() for one in measured.values()]}
            for title, measured in ((NODULES, nodules), (ORGANS, organs))
        ],
        "ratios": [
            _compare("20 segments: BINARY against highdicom's default call", organs[BINARY], organs[DEFAULT]),
            _compare("20 segments: LABELMAP against BINARY", organs[LABELMAP], organs[BINARY]),
            _compare("20 segments: LABELMAP against highdicom's default call", organs[LABELMAP], organs[DEFAULT]),
        ],
        "versions": {"Python": python_version()} | {library: version(library) for library in LIBRARIES},
    }


def _list_nodule_subjects(case: Case) -> list[Subject]:
    analysis, inputs, provenance = case.analysis, case.inputs, case.provenance
    source = inputs[ROLE][0]
    segmentation = encode_segmentation(analysis, provenance)
    results = encode(analysis, provenance, inputs, ResultWishes())

    def write_report(seg: Dataset) -> int:
        report = encode_report(analysis, provenance, inputs, source=source, segmentation=seg)
        return len(serialize(report, ResultKind.SR).content)

    def write_both() -> int:
        seg = encode_segmentation(analysis, provenance)
        return len(serialize(seg, ResultKind.SEG).content) + write_report(seg)

    def write_picture() -> int:
        page = draw_page(analysis, provenance, header=copy_header(source))
        return len(serialize(encode_picture(page, analysis, provenance, source=source), ResultKind.SC).content)

    return [
        Subject(name=BINARY, run=lambda: _write(case, SegmentationForm.BINARY)),
        Subject(name=LABELMAP, run=lambda: _write(case, SegmentationForm.LABELMAP)),
        Subject(name="SR", run=lambda: write_report(segmentation)),
        Subject(name="SEG BINARY and SR", run=write_both),
        Subject(name="summary picture", run=write_picture),
        Subject(name="check of SEG, SR and picture", run=lambda: check_results(results, analysis, inputs)),
    ]


def _list_organ_subjects(case: Case) -> list[Subject]:
    return [
        Subject(name=BINARY, run=lambda: _write(case, SegmentationForm.BINARY)),
        Subject(name=DEFAULT, run=lambda: _write_by_highdicom(case)),
        Subject(name=LABELMAP, run=lambda: _write(case, SegmentationForm.LABELMAP)),
    ]


def _write(case: Case, form: SegmentationForm) -> int:
    seg = encode_segmentation(case.analysis, replace(case.provenance, segmentation=form))
    return len(serialize(seg, ResultKind.SEG).content)


def _write_by_highdicom(case: Case) -> int:
    """Hand all slices over and let highdicom find out which hold something."""
    _, mask = require_mask(case.analysis)
    seg = call_highdicom(case.analysis.findings, case.provenance, sources=case.inputs[ROLE], labels=mask)
    return len(serialize(seg, ResultKind.SEG).content)


def _compare(name: str, one: Measurement, other: Measurement) -> dict[str, Any]:
    return {"name": name, "times_faster": round(other.median_s / one.median_s, 2)}
