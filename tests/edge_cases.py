"""Cases at the edge of what Results can hold: one voxel, thirty Segments, UIDs of 64 characters, bare Findings."""

from dataclasses import replace

import numpy as np

from node.domain.codes import NODULE, Code
from node.domain.finding import Finding
from tests.analyses import SPACING_MM, Case, ct_case

VOXEL_MM3 = float(np.prod(SPACING_MM))
MAX_UID = 64
# Six boxes in each of five rows fit on 64 rows of 56 pixels.
BOX, STEP, IN_A_ROW = 4, (9, 8), 6


def one_voxel_case() -> Case:
    """Return a CT with a nodule of a single voxel, (4, 20, 30)."""
    case = ct_case()
    assert case.analysis.mask is not None
    mask = np.zeros_like(case.analysis.mask)
    mask[4, 20, 30] = 1
    sizes = {"long_axis_mm": 0.0, "short_axis_mm": 0.0, "volume_mm3": VOXEL_MM3}
    finding = Finding(label="Nodule 1", code=NODULE, segment_number=1, measurements=sizes)
    return replace(case, analysis=replace(case.analysis, findings=(finding,), mask=mask))


def crowded_case(count: int) -> Case:
    """Return a CT with up to 30 nodules, boxes of 3 × 4 × 4 voxels."""
    case = ct_case()
    assert case.analysis.mask is not None
    mask = np.zeros_like(case.analysis.mask)
    findings = []
    for number in range(1, count + 1):
        row, column = divmod(number - 1, IN_A_ROW)
        top, left = 4 + STEP[0] * row, 3 + STEP[1] * column
        mask[3:6, top : top + BOX, left : left + BOX] = number
        sizes = {"volume_mm3": 3 * BOX * BOX * VOXEL_MM3}
        findings.append(
            Finding(label=f"Nodule {number}", code=NODULE, confidence=0.9, segment_number=number, measurements=sizes)
        )
    return replace(case, analysis=replace(case.analysis, findings=tuple(findings), mask=mask))


def long_uids_case() -> Case:
    """Return a CT whose every UID has 64 characters."""
    case = ct_case()
    volume = case.analysis.reference
    assert volume is not None
    for ds in case.inputs["ct"]:
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            digits = str(ds[keyword].value).removeprefix("2.25.")
            setattr(ds, keyword, ("2.25." + digits * 2)[:MAX_UID])
    volume = replace(volume, frame_of_reference_uid=str(case.inputs["ct"][0].FrameOfReferenceUID))
    return replace(case, analysis=replace(case.analysis, reference=volume))


def bare_case() -> Case:
    """Return a CT whose Findings have neither certainty nor site nor key slice, and one a code of 19 characters."""
    case = ct_case()
    bare = [
        replace(finding, confidence=None, site=None, laterality=None, key_slice=None, center_mm=None)
        for finding in case.analysis.findings
    ]
    bare[1] = replace(bare[1], code=Code("1234567890123456789", "99HOSPITAL", "A concept with a long identifier"))
    return replace(case, analysis=replace(case.analysis, findings=tuple(bare)))


def corrected_case() -> Case:
    """Return a CT of which a person struck a nodule."""
    case = ct_case()
    return replace(case, provenance=replace(case.provenance, correction=("Nodule 3",)))
