"""A rejection note tells archives and viewers that Results were taken back (IHE IOCM; PS3.3 A.35.4)."""

from collections.abc import Sequence

from pydicom import Dataset

from node.domain.result import ResultKind
from node.domain.retraction import REJECTION_TITLES, Retraction
from node.errors import ResultCheckFailed
from workers.encoding.concepts import to_concept
from workers.encoding.encoder import EncodedResult, serialize
from workers.encoding.headers import copy_header
from workers.encoding.quiet import quiet_libraries
from workers.encoding.selection import Selection, write_selection
from workers.provenance import Provenance

REJECTION_SERIES_NUMBER = 9700
# PS3.16 CID 7010; IHE RAD TF-3 4.66.4.1.3.
TITLES = {reason: to_concept(title) for reason, title in REJECTION_TITLES.items()}
TAG = "rejection note"


def encode_rejection(rejected: Sequence[Dataset], retraction: Retraction, provenance: Provenance) -> EncodedResult:
    """Return the Key Object Selection Document that rejects these objects.

    Parameters
    ----------
    rejected
        The Results as they were written, all of one Study; not empty.
    provenance
        Of the Job that wrote them, its time the moment of the order.

    Raises
    ------
    ResultCheckFailed
        If they belong to more than one patient or Study.

    References
    ----------
    DICOM PS3.16 TID 2010, CID 7010
    """
    for keyword in ("PatientID", "StudyInstanceUID"):
        if len({str(ds.get(keyword)) for ds in rejected}) != 1:
            raise ResultCheckFailed(f"rejection note: the objects differ in {keyword}; each Study needs its own note")
    with quiet_libraries():
        note = _write_note(rejected, retraction, provenance)
    return serialize(note, ResultKind.REJECTION_NOTE)


def _write_note(rejected: Sequence[Dataset], retraction: Retraction, provenance: Provenance) -> Dataset:
    headers = [copy_header(ds) for ds in rejected]
    selection = Selection(
        title=TITLES[retraction.order.reason],
        description=retraction.order.comment or None,
        objects=headers,
        kind=TAG,
        tag=(TAG, retraction.retraction_id),
        series_number=REJECTION_SERIES_NUMBER,
    )
    return write_selection(selection, headers[0], provenance)
