"""Agreement of an SR with the Analysis it was made from: it says of each Finding what the Analysis says."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pydicom import Dataset

from node.domain import codes
from node.domain.codes import Code
from node.domain.finding import Finding, Presence
from workers.encoding.groups import MEASUREMENTS, PRESENCE_CODES
from workers.pipelines.base import Analysis, number_segment
from workers.proving.inventory import EVIDENCE, Inventory
from workers.proving.placed_segments import PlacedSegmentation
from workers.proving.proof import require
from workers.proving.report_reading import ReadGroup, read_code, read_groups, read_name, walk_content
from workers.proving.segmentation import name_side

# Certainty is written in percent with one digit behind the point.
CERTAINTY_TOLERANCE = 0.06
# Half of the last digit that `workers.encoding.groups` writes, and a little.
ROUNDING = {name: 0.51 * 10.0**-digits for name, (_, _, _, digits) in MEASUREMENTS.items()}
# Code of CID 6047 by what the labels came to; a label that stayed undetermined was not answered.
SUMMARIES: Mapping[frozenset[Presence], Code] = MappingProxyType(
    {
        frozenset(): codes.WITHOUT_FINDINGS,
        frozenset({Presence.ABSENT}): codes.WITHOUT_FINDINGS,
        frozenset({Presence.PRESENT}): codes.WITH_FINDINGS,
        frozenset({Presence.PRESENT, Presence.ABSENT}): codes.WITH_FINDINGS,
        frozenset({Presence.PRESENT, Presence.UNDETERMINED}): codes.PARTLY_WITH_FINDINGS,
        frozenset(Presence): codes.PARTLY_WITH_FINDINGS,
        frozenset({Presence.ABSENT, Presence.UNDETERMINED}): codes.PARTLY_WITHOUT_FINDINGS,
        frozenset({Presence.UNDETERMINED}): codes.NO_ANSWER,
    }
)
FLAGS = (("CompletionFlag", "COMPLETE"), ("VerificationFlag", "UNVERIFIED"), ("PreliminaryFlag", "PRELIMINARY"))


def prove_report(
    sr: Dataset,
    inventory: Inventory,
    analysis: Analysis,
    inputs: Mapping[str, Sequence[Dataset]],
    *,
    placed: PlacedSegmentation | None,
) -> None:
    """Prove that an SR says what the Analysis found; that its numbers are true was proven before.

    Parameters
    ----------
    inventory
        What the SR refers to.
    placed
        The SEG of the same Analysis on the inputs of the Job; None without one.

    Raises
    ------
    ResultCheckFailed
        If the SR contradicts the Analysis or the SEG.
    """
    for keyword, value in FLAGS:
        require(sr.get(keyword) == value, f"SR: {keyword} is not {value}")
    _prove_evidence(inventory, inputs, placed)
    _prove_summary(sr, analysis)
    groups = read_groups(sr)
    if placed is None:
        _prove_labels(groups, analysis)
        return
    for finding in analysis.findings:
        _prove_segment_group(groups, finding, placed)
    _prove_outlines(groups, placed)
    referred = sum(len(group.segments) for group in groups)
    require(referred == len(analysis.findings), f"SR: {referred} groups refer to {len(analysis.findings)} segments")


def _prove_evidence(
    inventory: Inventory, inputs: Mapping[str, Sequence[Dataset]], placed: PlacedSegmentation | None
) -> None:
    listed = {one.sop_instance_uid for one in inventory.references if one.place in EVIDENCE}
    needed = {str(ds.SOPInstanceUID) for datasets in inputs.values() for ds in datasets}
    if placed is not None:
        needed.add(placed.reading.sop_instance_uid)
    require(listed == needed, f"SR: the evidence lists {len(listed)} Instances, {len(needed)} were used")


def _prove_summary(sr: Dataset, analysis: Analysis) -> None:
    expected = SUMMARIES[frozenset(finding.presence for finding in analysis.findings)].value
    items = [item for item in walk_content(sr) if read_name(item) == codes.SUMMARY.value]
    said = [read_code(item, "ConceptCodeSequence")[0] for item in items]
    require(said == [expected], f"SR: the summary says {said}, {expected} is true")


def _prove_labels(groups: Sequence[ReadGroup], analysis: Analysis) -> None:
    for finding in analysis.findings:
        own = [group for group in groups if group.tracking_id == f"AI {finding.label}"]
        require(len(own) == 1, f"SR: {len(own)} groups for the label {finding.label}")
        expected = PRESENCE_CODES[finding.presence]
        is_said = own[0].answers.get(codes.PRESENCE.value) == expected.value
        require(is_said, f"SR: presence of {finding.label} is not {expected.meaning}")
        _prove_certainty(own[0], finding)
        _prove_names(own[0], finding)
    if not analysis.findings:
        said = {group.answers.get(codes.PRESENCE.value) for group in groups}
        require(said == {codes.ABSENT.value}, "SR: something is there although nothing was found")


def _prove_names(group: ReadGroup, finding: Finding) -> None:
    """Prove that a group calls its Finding by its own codes."""
    names = [("code", codes.FINDING, finding.code), ("site", codes.FINDING_SITE, finding.site)]
    if finding.segment_number is not None:
        names.append(("category", codes.FINDING_CATEGORY, finding.category))
    for words, name, expected in names:
        is_said = group.answers.get(name.value) == (None if expected is None else expected.value)
        require(is_said, f"SR: {words} of {finding.label} is not the finding's")


def _prove_segment_group(groups: Sequence[ReadGroup], finding: Finding, placed: PlacedSegmentation) -> None:
    number = number_segment(finding)
    own = [group for group in groups if (placed.reading.sop_instance_uid, number) in group.segments]
    require(len(own) == 1, f"SR: {len(own)} groups refer to segment {number} of the SEG")
    group, segment = own[0], placed.find_segment(number)
    tracking_uid = "" if segment is None else segment.tracking_uid
    require(group.tracking_uid == tracking_uid != "", f"SR: segment {number} has another Tracking UID in the SEG")
    require(group.side == name_side(finding.laterality), f"SR: laterality of segment {number} is not the finding's")
    missing = [
        name
        for name, (concept, _, _, _) in MEASUREMENTS.items()
        if name in finding.measurements and group.find_number(concept.value) is None
    ]
    require(not missing, f"SR: {', '.join(missing)} of segment {number} missing")
    _prove_certainty(group, finding)
    for one in groups:
        if one.tracking_uid == tracking_uid:
            is_named = one.tracking_id == f"AI {finding.label}"
            require(is_named, f"SR: an outline or segment of {finding.label} is tracked under another name")
            _prove_names(one, finding)
            _prove_measurements(one, finding)


def _prove_measurements(group: ReadGroup, finding: Finding) -> None:
    """Prove that whatever a group measures is what was measured of its Finding."""
    for name, (concept, _, _, _) in MEASUREMENTS.items():
        stated, measured = group.find_number(concept.value), finding.measurements.get(name)
        if stated is not None:
            require(measured is not None, f"SR: {name} of {finding.label} is stated but was not measured")
            is_same = measured is not None and abs(stated - measured) <= ROUNDING[name]
            require(is_same, f"SR: {name} of {finding.label} is not the finding's")


def _prove_certainty(group: ReadGroup, finding: Finding) -> None:
    stated = group.find_number(codes.CERTAINTY.value)
    require((stated is None) == (finding.confidence is None), f"SR: certainty of {finding.label} is stated wrongly")
    if stated is not None and finding.confidence is not None:
        is_same = abs(stated - 100 * finding.confidence) <= CERTAINTY_TOLERANCE
        require(is_same, f"SR: certainty of {finding.label} is not the model's")


def _prove_outlines(groups: Sequence[ReadGroup], placed: PlacedSegmentation) -> None:
    """Prove that each outline encloses nothing but its own segment, on a slice of it."""
    numbers = {segment.tracking_uid: segment.number for segment in placed.reading.segments}
    for group in groups:
        require(group.tracking_uid in numbers, f"SR: {group.name} is tracked but is no segment of the SEG")
        for outline in group.outlines:
            boxes = placed.find_boxes(numbers[group.tracking_uid], outline.place)
            require(len(boxes) == 1, f"SR: the outline of {group.name} lies on a slice without its segment")
            columns, rows = zip(*outline.points, strict=True)
            is_inside = boxes[0].left <= min(columns) and max(columns) <= boxes[0].right
            is_inside &= boxes[0].top <= min(rows) and max(rows) <= boxes[0].bottom
            require(is_inside, f"SR: the outline of {group.name} leaves its segment")
