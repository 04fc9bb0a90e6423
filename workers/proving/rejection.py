"""Proof of a rejection note: it names exactly what is taken back, of the right patient and Study."""

from collections.abc import Sequence
from io import BytesIO

from pydicom import Dataset, dcmread

from node.errors import ResultCheckFailed
from workers.encoding.encoder import EncodedResult
from workers.encoding.header_values import read_text
from workers.encoding.quiet import quiet_libraries
from workers.proving.objects import UNREADABLE, Inspection
from workers.proving.originals import OriginalReader, SlicePlace, Values, gather_originals
from workers.proving.proof import require
from workers.proving.references import Surroundings, read_header


def check_rejection(encoded: EncodedResult, rejected: Sequence[Dataset]) -> None:
    """Read a rejection note again and prove it against the objects that it rejects.

    Raises
    ------
    ResultCheckFailed
        If it contradicts them, or names more or less than them; it must not leave the node.
    """
    try:
        with quiet_libraries():
            _check(dcmread(BytesIO(encoded.content)), rejected)
    except UNREADABLE as exc:
        raise ResultCheckFailed(f"a rejection note cannot be proven: {type(exc).__name__} while it was read") from exc


def _check(note: Dataset, rejected: Sequence[Dataset]) -> None:
    originals = gather_originals(map(OriginalReader().read, rejected), _read_no_values)
    uid = read_text(note, "SOPInstanceUID")
    inspection = Inspection(Surroundings(originals=originals, objects={uid: read_header(note)}))
    complaints = [str(complaint) for complaint in inspection.inspect(note)]
    require(not complaints, "rejection note: " + " ".join(complaints))
    named = {
        str(item.ReferencedSOPInstanceUID)
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    require(named == originals.by_uid.keys(), "rejection note: it does not name exactly what is taken back")


def _read_no_values(place: SlicePlace) -> Values:
    raise ResultCheckFailed(f"rejection note: it speaks of pixels of {place[0]}")
