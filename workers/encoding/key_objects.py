"""The slices that show the Findings best become a Key Object Selection Document (PS3.3 A.35.4)."""

from pydicom import Dataset

from node.domain import codes
from workers.encoding.concepts import to_concept
from workers.encoding.draft import Draft, each_once, list_key_images
from workers.encoding.headers import copy_header, refer_to
from workers.encoding.selection import Selection, write_selection
from workers.frames import gather_frames
from workers.provenance import KO_SERIES_NUMBER

TITLE = to_concept(codes.OF_INTEREST)
DESCRIPTION = "AI result, unverified. Not for diagnosis."


def encode_key_objects(draft: Draft) -> Dataset | None:
    """Return the selection of the key images of all Findings, and of the SR; None when nothing was found.

    Raises
    ------
    ResultCheckFailed
        If a segmented Finding has no mask to stand on.

    References
    ----------
    DICOM PS3.3 A.35.4, PS3.16 TID 2010
    """
    images = list_key_images(draft.analysis)
    if not images:
        return None
    provenance, header = draft.provenance, copy_header(draft.source)
    slices = each_once(images)
    instances = {str(ds.SOPInstanceUID): ds for ds in slices}.values()
    selected = [*(copy_header(ds) for ds in instances), refer_to(draft.report)]
    labels = ", ".join(f"AI {finding.label}" for finding, _ in images)
    model = provenance.model
    selection = Selection(
        title=TITLE,
        description=f"{DESCRIPTION} {labels}. Model {model.name} {model.version}.",
        objects=selected,
        frames={uid: tuple(numbers) for (_, uid), numbers in gather_frames(slices).items()},
        kind="KO",
        tag=("KO",),
        series_number=KO_SERIES_NUMBER,
    )
    return write_selection(selection, header, provenance)
