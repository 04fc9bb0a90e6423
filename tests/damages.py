"""Everything that can be wrong with a Result: each Damage changes one object, and says who must notice it."""

from dataclasses import dataclass

import numpy as np

from node.domain.result import ResultKind
from node.domain.uids import derive_uid
from tests.analyses import SPACING_MM, Case
from tests.changes import (
    ATTENUATION,
    CERTAINTY,
    DOC,
    KO,
    LONG_AXIS,
    PR,
    SC,
    SEG,
    SR,
    VOLUME,
    Change,
    add_label,
    annotate_unlisted,
    blank_pixels,
    change_orientation,
    change_spacing,
    change_unit,
    claim_frame,
    code_segment,
    cut_document,
    cut_pixels,
    describe_segment,
    disagree,
    double_frame,
    draw_outside,
    drop,
    drop_frame,
    empty_segment,
    encoded,
    file_evidence_elsewhere,
    list_itself,
    list_nothing_used,
    list_part_of_series,
    list_under_other_series,
    lose,
    lose_evidence,
    lose_evidence_of_series,
    move_frames,
    move_outline,
    multiply,
    name_nobody,
    name_other_series,
    other_segment,
    precede_itself,
    put,
    refer,
    rename_outline,
    rewrite,
    say,
    say_in_outline,
    shift_slices,
    show_other_image,
    skip_number,
    spoil_document,
    state,
    swap_labels,
    swap_outline_slices,
    swap_positions,
    swap_sources,
    take_uid_of,
    turn_fractions,
    turn_labels,
    turn_pixels,
    turn_side_of_both,
    turn_side_of_segment,
    undescribe_segment,
)
from workers.encoding.encoder import EncodedResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One thing done to one object.

    Attributes
    ----------
    case, kind
        Which Result of which Case.
    said
        What the complaint says, a regular expression.
    is_seen_by_anybody
        False where only the Analysis tells that it is wrong: the object agrees with itself and with its originals.
    """

    name: str
    kind: ResultKind
    change: Change
    said: str
    case: str = "ct"
    is_seen_by_anybody: bool = True

    def apply(self) -> tuple[Case, list[EncodedResult]]:
        """Return the Case with its Results, one of them damaged; the records stay as they were."""
        case, results = encoded(self.case)
        return case, [rewrite(one, self.change) if one.kind is self.kind else one for one in results]


ELSEWHERE = derive_uid("test", "elsewhere")
# One slice further, one pixel to the side; the row direction of these Cases is x.
ONE_SLICE = (0.0, 0.0, SPACING_MM[0])
ONE_PIXEL = (SPACING_MM[2], 0.0, 0.0)

FRAME_DAMAGES = (
    Damage(name="two frames swap their places", kind=SEG, change=swap_positions, said="Image Position"),
    Damage(name="tilted frames swap", kind=SEG, case="tilted", change=swap_positions, said="Image Position"),
    Damage(name="two frames swap their sources", kind=SEG, change=swap_sources, said="Image Position"),
    Damage(name="frames one slice off", kind=SEG, change=move_frames(*ONE_SLICE), said="2.00 mm away"),
    Damage(name="frames one pixel off", kind=SEG, change=move_frames(*ONE_PIXEL), said="0.70 mm away"),
    Damage(name="labels one pixel off", kind=SEG, case="labelmap", change=move_frames(*ONE_PIXEL), said="0.70 mm away"),
    Damage(
        name="frames of the next slices",
        kind=SEG,
        change=shift_slices,
        said="slices are segmented|does not show",
        is_seen_by_anybody=False,
    ),
    Damage(name="frames upside down", kind=SEG, change=turn_pixels(lambda f: f[::-1]), said="attenuation|outline"),
    Damage(name="left for right", kind=SEG, change=turn_pixels(lambda f: f[:, :, ::-1]), said="outline"),
    Damage(name="rows upside down", kind=SEG, case="tilted", change=turn_pixels(lambda f: f[:, ::-1]), said="outline"),
    Damage(
        name="pixels one column off", kind=SEG, change=turn_pixels(lambda f: np.roll(f, 1, axis=2)), said="attenuation"
    ),
    Damage(
        name="pixels one column off, no CT",
        kind=SEG,
        case="mr",
        change=turn_pixels(lambda f: np.roll(f, 1, axis=2)),
        said="does not show the mask",
        is_seen_by_anybody=False,
    ),
    Damage(name="rows and columns spacing swapped", kind=SEG, change=change_spacing, said="Pixel Spacing"),
    Damage(name="mirrored orientation", kind=SEG, change=change_orientation, said="Image Orientation"),
    Damage(name="untilted", kind=SEG, case="tilted", change=change_orientation, said="Image Orientation"),
    Damage(
        name="another frame of reference", kind=SEG, change=put("FrameOfReferenceUID", "1.2.3"), said="Reference UID"
    ),
    Damage(name="wrong rows", kind=SEG, change=put("Rows", 56), said="Rows and Columns"),
    Damage(name="no geometry", kind=SEG, change=drop("SharedFunctionalGroupsSequence"), said="geometry of frames"),
)
PIXEL_DAMAGES = (
    Damage(name="empty frames", kind=SEG, change=turn_pixels(np.zeros_like), said="segments 1, 2: .* one pixel"),
    Damage(name="an empty segment", kind=SEG, change=turn_pixels(empty_segment), said="segment 2: .* one pixel"),
    Damage(name="no label", kind=SEG, case="labelmap", change=turn_labels(np.zeros_like), said="at least one pixel"),
    Damage(name="cut pixels", kind=SEG, change=cut_pixels, said="Pixel Data: expected"),
    Damage(name="cut labels", kind=SEG, case="labelmap", change=cut_pixels, said="can be decoded"),
    Damage(name="a frame is lost", kind=SEG, change=drop_frame, said="Pixel Data: expected"),
    Damage(name="a frame too many", kind=SEG, change=claim_frame, said="Number of Frames"),
    Damage(name="a frame twice", kind=SEG, change=double_frame, said="one Frame for each Segment"),
    Damage(name="a frame of another segment", kind=SEG, change=other_segment, said="volume of group 1"),
    Damage(name="a segment is not described", kind=SEG, change=undescribe_segment, said="that Segment Sequence"),
    Damage(name="a label is not described", kind=SEG, case="labelmap", change=undescribe_segment, said="pixel value 2"),
    Damage(name="a label too many", kind=SEG, case="labelmap", change=turn_labels(add_label), said="pixel value 3"),
    Damage(name="labels swapped", kind=SEG, case="labelmap", change=turn_labels(swap_labels), said="volume of group"),
    Damage(
        name="a segment of another type",
        kind=SEG,
        change=code_segment("SegmentedPropertyTypeCodeSequence", "4147007"),
        said="type of segment 1",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="a segment of another category",
        kind=SEG,
        case="labelmap",
        change=code_segment("SegmentedPropertyCategoryCodeSequence", "85756007"),
        said="category of segment 1",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="a segment in another organ",
        kind=SEG,
        change=code_segment("AnatomicRegionSequence", "12738006"),
        said="site of segment 1",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="a segment under another label",
        kind=SEG,
        change=describe_segment("SegmentLabel", "Nodule 9"),
        said="label of segment 1",
        is_seen_by_anybody=False,
    ),
    Damage(name="a segment number is skipped", kind=SEG, change=skip_number, said="Segment Number: expected 1, 2, 3"),
    Damage(name="cut fractions", kind=SEG, case="xray", change=cut_pixels, said="Pixel Data: expected"),
    Damage(
        name="fractions upside down",
        kind=SEG,
        case="xray",
        change=turn_fractions,
        said="heat map does not show",
        is_seen_by_anybody=False,
    ),
    Damage(name="a cut picture", kind=SC, change=cut_pixels, said="Pixel Data: expected"),
    Damage(name="a picture of other rows", kind=SC, change=put("Rows", 17), said="Pixel Data: expected"),
    Damage(name="a cut document", kind=DOC, change=cut_document, said="Document Length"),
    Damage(name="a document that is no pdf", kind=DOC, change=spoil_document, said="a PDF"),
    Damage(name="lines beside the image", kind=PR, change=draw_outside, said="points inside the image"),
)
IDENTITY_DAMAGES = (
    Damage(name="another patient id", kind=SEG, change=put("PatientID", "T-2"), said="PatientID"),
    Damage(name="no patient id", kind=KO, change=put("PatientID", ""), said="PatientID"),
    Damage(name="another patient's name", kind=SR, change=put("PatientName", "Other^Test"), said="PatientName"),
    Damage(name="another birth date", kind=PR, change=put("PatientBirthDate", "19620330"), said="PatientBirthDate"),
    Damage(name="another sex", kind=DOC, change=put("PatientSex", "M"), said="PatientSex"),
    Damage(name="a lost sex", kind=SC, change=put("PatientSex", ""), said="PatientSex", is_seen_by_anybody=False),
    Damage(
        name="another issuer",
        kind=SR,
        change=put("IssuerOfPatientID", "Away"),
        said="IssuerOfPatientID",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="another accession", kind=SC, case="xray", change=put("AccessionNumber", "A-2"), said="AccessionNumber"
    ),
    Damage(name="another study date", kind=SEG, change=put("StudyDate", "20250115"), said="StudyDate"),
    Damage(name="another study id", kind=SR, case="mr", change=put("StudyID", "S2"), said="StudyID"),
    Damage(
        name="another manufacturer",
        kind=SEG,
        change=put("Manufacturer", "Else"),
        said="Manufacturer",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="a verified description",
        kind=SR,
        change=put("SeriesDescription", "AI Lung Nodules SR"),
        said="unverified",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="a picture that shows nothing",
        kind=SC,
        change=blank_pixels,
        said="shows nothing",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="a picture that hides its letters",
        kind=SC,
        change=put("BurnedInAnnotation", "NO"),
        said="Burned In Annotation",
        is_seen_by_anybody=False,
    ),
)
UID_DAMAGES = (
    Damage(name="another study", kind=SR, change=put("StudyInstanceUID", "1.2.3"), said="StudyInstanceUID"),
    Damage(
        name="another series",
        kind=SEG,
        change=put("SeriesInstanceUID", ELSEWHERE),
        said="SeriesInstanceUID|Series of the referenced",
    ),
    Damage(name="another instance", kind=SC, change=put("SOPInstanceUID", "1.2.3"), said="SOPInstanceUID"),
    Damage(name="the uid of the SEG", kind=SC, change=take_uid_of(SEG), said="SOPInstanceUID"),
    Damage(
        name="a uid of 65 characters",
        kind=SEG,
        change=put("SynchronizationFrameOfReferenceUID", "1." + "2" * 63),
        said="at most 64",
    ),
    Damage(name="a uid with letters", kind=SR, change=put("DeviceUID", "1.2.x"), said="at most 64"),
)
REFERENCE_DAMAGES = (
    Damage(name="a frame of nobody", kind=SEG, change=name_nobody, said="which nobody has"),
    Damage(name="a heat map of nobody", kind=SEG, case="xray", change=name_nobody, said="which nobody has"),
    Damage(
        name="part of the source series",
        kind=SEG,
        change=list_part_of_series,
        said="not listed whole",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="sources that are not listed", kind=SEG, change=list_nothing_used, said="every Instance that the object"
    ),
    Damage(name="sources of another series", kind=SEG, change=list_under_other_series, said="Series of the referenced"),
    Damage(
        name="evidence is incomplete",
        kind=SR,
        case="mr",
        change=lose_evidence,
        said="evidence",
        is_seen_by_anybody=False,
    ),
    Damage(name="evidence without the SEG", kind=SR, change=lose_evidence_of_series, said="evidence"),
    Damage(name="evidence of another series", kind=SR, change=file_evidence_elsewhere, said="Series of the referenced"),
    Damage(name="no evidence", kind=SR, change=drop("CurrentRequestedProcedureEvidenceSequence"), said="evidence"),
    Damage(
        name="a reference to nobody", kind=SR, change=refer("ReferencedSOPInstanceUID", ELSEWHERE), said="nobody has"
    ),
    Damage(
        name="a reference of another class",
        kind=SR,
        change=refer("ReferencedSOPClassUID", "1.2.840.10008.5.1.4.1.1.4"),
        said="SOP Class of the referenced",
    ),
    Damage(name="precedes itself", kind=SR, change=precede_itself, said="Predecessor"),
    Damage(name="refers to itself", kind=SR, change=list_itself, said="itself"),
    Damage(
        name="a picture of nobody",
        kind=SC,
        case="xray",
        change=lambda ds: setattr(ds.SourceImageSequence[0], "ReferencedSOPInstanceUID", ELSEWHERE),
        said="nobody has",
    ),
    Damage(
        name="a picture of nothing",
        kind=SC,
        case="xray",
        change=put("SourceImageSequence", []),
        said="source image",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="a key object of nobody", kind=KO, change=refer("ReferencedSOPInstanceUID", ELSEWHERE), said="nobody has"
    ),
    Damage(
        name="no evidence of key objects",
        kind=KO,
        change=drop("CurrentRequestedProcedureEvidenceSequence"),
        said="evidence",
    ),
    Damage(name="a state of nobody", kind=PR, change=show_other_image, said="nobody has"),
    Damage(name="a state of an unlisted image", kind=PR, change=annotate_unlisted, said="Referenced Series Sequence"),
)
NUMBER_DAMAGES = (
    Damage(name="volume by slice thickness", kind=SR, change=multiply(VOLUME, 1.5), said="which Slice Thickness gives"),
    Damage(name="another volume", kind=SR, change=multiply(VOLUME, 1.02), said="volume of group 1"),
    Damage(name="volume in milliliters", kind=SR, change=change_unit(VOLUME, "ml"), said="volume of group 1"),
    Damage(
        name="a volume is missing",
        kind=SR,
        change=lose(VOLUME),
        said="volume_mm3 of segment 1 missing",
        is_seen_by_anybody=False,
    ),
    Damage(name="a far too long axis", kind=SR, change=multiply(LONG_AXIS, 2.0), said="from edge to edge"),
    Damage(
        name="a longer axis",
        kind=SR,
        change=multiply(LONG_AXIS, 1.05),
        said="long_axis_mm of Nodule 1",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="a far too long axis in the plane",
        kind=SR,
        change=say_in_outline(LONG_AXIS, 2.0),
        said="end of its outline",
    ),
    Damage(
        name="an outline under another name",
        kind=SR,
        change=rename_outline("AI Nodule 9"),
        said="an outline or segment of Nodule 1 is tracked under another name",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="a longer axis in the plane",
        kind=SR,
        change=say_in_outline(LONG_AXIS, 1.01),
        said="long_axis_mm of Nodule 1",
        is_seen_by_anybody=False,
    ),
    Damage(name="another attenuation", kind=SR, change=say(ATTENUATION, "-300.0"), said="attenuation of group 1"),
    Damage(
        name="another certainty", kind=SR, change=say(CERTAINTY, "55.0"), said="certainty", is_seen_by_anybody=False
    ),
    Damage(
        name="certainty of another label",
        kind=SR,
        case="xray",
        change=say(CERTAINTY, "12.0"),
        said="certainty",
        is_seen_by_anybody=False,
    ),
    Damage(name="an area for a volume", kind=SR, change=change_unit(VOLUME, "mm2"), said="unit of volume"),
    Damage(name="a unit of one's own", kind=SR, change=change_unit(LONG_AXIS, "mm", "99X"), said="unit of length"),
    Damage(name="two numbers in one", kind=SR, change=disagree, said="Floating Point Value"),
)
CONTENT_DAMAGES = (
    Damage(
        name="says nothing was found",
        kind=SR,
        change=state("111017", "111241"),
        said="summary",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="presence turned round",
        kind=SR,
        case="xray",
        change=state("121052", "121054"),
        said="presence",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="claims verification",
        kind=SR,
        change=put("VerificationFlag", "VERIFIED"),
        said="VerificationFlag",
        is_seen_by_anybody=False,
    ),
    Damage(
        name="claims to be final",
        kind=SR,
        case="xray",
        change=put("PreliminaryFlag", "FINAL"),
        said="PreliminaryFlag",
        is_seen_by_anybody=False,
    ),
    Damage(name="another template", kind=SR, change=drop("ContentTemplateSequence"), said="Template Identifier"),
    Damage(name="no language", kind=SR, change=lose("121049"), said="language"),
    Damage(name="no measurements", kind=SR, case="xray", change=lose("126010"), said="measurements or evaluations"),
    Damage(name="no content", kind=SR, case="xray", change=drop("ContentSequence"), said="procedure reported"),
    Damage(
        name="both groups on one segment",
        kind=SR,
        change=refer("ReferencedSegmentNumber", 2, to_segment=True),
        said="Tracking UID",
    ),
    Damage(
        name="a segment that is not there",
        kind=SR,
        change=refer("ReferencedSegmentNumber", 7, to_segment=True),
        said="number 7",
    ),
    Damage(
        name="another tracking uid", kind=SEG, change=describe_segment("TrackingUID", ELSEWHERE), said="Tracking UID"
    ),
    Damage(
        name="another tracking id", kind=SEG, change=describe_segment("TrackingID", "AI X"), said="Tracking Identifier"
    ),
    Damage(name="left in the SEG", kind=SEG, change=turn_side_of_segment, said="laterality"),
    Damage(name="sides swapped in the SR", kind=SR, change=turn_side_of_both, said="laterality of group 1"),
    Damage(name="source series of somebody", kind=SR, change=name_other_series, said="source Series"),
    Damage(name="an outline beside its nodule", kind=SR, change=move_outline(20.0), said="beside it on its slice"),
    Damage(
        name="an outline a little off",
        kind=SR,
        change=move_outline(1.0),
        said="leaves its segment",
        is_seen_by_anybody=False,
    ),
    Damage(name="outlines on each other's slice", kind=SR, change=swap_outline_slices, said="slice without it"),
    Damage(name="an outline beside the image", kind=SR, change=move_outline(60.0), said="points inside"),
)
DAMAGES = (
    *FRAME_DAMAGES,
    *PIXEL_DAMAGES,
    *IDENTITY_DAMAGES,
    *UID_DAMAGES,
    *REFERENCE_DAMAGES,
    *NUMBER_DAMAGES,
    *CONTENT_DAMAGES,
)
