"""What a Modality Worklist says of the order for a Study, asked by C-FIND (PS3.4 K.6.1)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue

from node.domain.imaging_order import ImagingOrder, OrderOrigin
from node.domain.job import Priority
from node.domain.uids import UID_PATTERN
from node.errors import DestinationDown, Misconfigured, NotDicom
from node.peers.data_set import MessageReader
from node.peers.dialog import Dialog
from node.peers.peer import DestinationSpec, peer_of
from node.peers.query import find_data_sets

MODALITY_WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
# One order has few steps; a peer that does not know the key answers with all of its worklist, which is looked through.
MAX_ENTRIES = 2000
# Requested Procedure Priority (0040,1003).
PRIORITIES = {
    "STAT": Priority.STAT,
    "HIGH": Priority.HIGH,
    "ROUTINE": Priority.ROUTINE,
    "MEDIUM": Priority.ROUTINE,
    "LOW": Priority.LOW,
}
MAX_TEXT = 200
# Returns the orders of the entries that match; raises DestinationDown, or DestinationBusy where they are not told.
AskWorklist = Callable[[str, str, str], Sequence[ImagingOrder]]


@contextmanager
def open_worklist(spec: DestinationSpec) -> Iterator[AskWorklist]:
    """Give a conversation with a Modality Worklist; what it gives is asked with a Study, its number and its patient.

    Raises
    ------
    DestinationDown
        If it does not answer, now or later.
    Misconfigured
        If a person must change something first, such as a peer that has no worklist.
    """
    with Dialog(peer_of(spec), [MODALITY_WORKLIST_FIND]) as dialog:
        if MODALITY_WORKLIST_FIND not in dialog.accepted:
            raise Misconfigured(f"{spec.name} has no Modality Worklist; allow {spec.calling_aet} there, or ask another")
        yield lambda study, number, patient_id: find_orders(dialog, study, number, patient_id, source=spec.name)


def find_orders(
    dialog: Dialog, study_instance_uid: str, accession_number: str, patient_id: str, *, source: str
) -> Sequence[ImagingOrder]:
    """Return the orders for a Study: by Accession Number and Patient ID, else by Study Instance UID.

    What a peer answers beside that, because it does not know a key, is left out.

    Raises
    ------
    DestinationBusy, DestinationDown
        As `node.peers.query.find_instances` does.
    """
    asked: list[dict[str, str]] = []
    if accession_number and patient_id:
        asked.append({"AccessionNumber": accession_number, "PatientID": patient_id})
    asked.append({"StudyInstanceUID": study_instance_uid})
    for keys in asked:
        entries = enumerate(find_data_sets(dialog, MODALITY_WORKLIST_FIND, _identifier(keys)))
        found = [_read(encoded) for at, encoded in entries if at < MAX_ENTRIES]
        fitting = [ds for ds in found if all(_text(ds, key) == value for key, value in keys.items())]
        if fitting:
            orders = (_to_order(ds, source) for ds in fitting)
            return list({order.identity: order for order in orders}.values())
    return []


def _identifier(keys: dict[str, str]) -> Dataset:
    """Return what is asked for: every key is to be returned, those with a value are matched (PS3.4 table K.6-1)."""
    ds, step, code = Dataset(), Dataset(), Dataset()
    for keyword in (
        "AccessionNumber", "PatientName", "PatientID", "IssuerOfPatientID", "StudyInstanceUID", "RequestingPhysician",
        "RequestingService", "RequestedProcedureDescription", "RequestedProcedureID", "RequestedProcedurePriority",
        "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest",
    ):  # fmt: skip
        setattr(ds, keyword, keys.get(keyword, ""))
    ds.SpecificCharacterSet = "ISO_IR 192"
    for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"):
        setattr(code, keyword, "")
    for keyword in ("Modality", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"):
        setattr(step, keyword, "")
    ds.RequestedProcedureCodeSequence, ds.ScheduledProcedureStepSequence = [code], [step]
    return ds


def _read(encoded: bytes) -> Dataset:
    try:
        # Reads all of it, and refuses what is cut.
        MessageReader(encoded).elements()
        ds: Dataset = read_dataset(BytesIO(encoded), is_implicit_VR=True, is_little_endian=True)
        ds.decode()
    except (NotDicom, ValueError, LookupError, AttributeError, NotImplementedError) as exc:
        raise DestinationDown("an entry of a Modality Worklist cannot be read") from exc
    return ds


def _to_order(ds: Dataset, source: str) -> ImagingOrder:
    placer, filler = (_text(ds, f"{who}OrderNumberImagingServiceRequest") for who in ("Placer", "Filler"))
    procedure, number, uid = (_text(ds, key) for key in ("RequestedProcedureID", "AccessionNumber", "StudyInstanceUID"))
    return ImagingOrder(
        identity="|".join((OrderOrigin.WORKLIST.value, source, uid, number, procedure)),
        origin=OrderOrigin.WORKLIST,
        source=source,
        placer_order_number=placer,
        filler_order_number=filler,
        accession_number=number,
        study_instance_uid=uid if UID_PATTERN.match(uid) else "",
        patient_id=_text(ds, "PatientID"),
        patient_id_issuer=_text(ds, "IssuerOfPatientID"),
        procedure_codes=tuple(
            f"{_text(code, 'CodingSchemeDesignator')}:{_text(code, 'CodeValue')}"
            for code in ds.get("RequestedProcedureCodeSequence") or ()
            if _text(code, "CodeValue")
        ),
        procedure_text=_text(ds, "RequestedProcedureDescription"),
        priority=PRIORITIES.get(_text(ds, "RequestedProcedurePriority").upper()),
        requested_by=" ".join(_text(ds, "RequestingPhysician").partition("=")[0].replace("^", " ").split()),
        requesting_service=_text(ds, "RequestingService"),
        scheduled_at=_begin(ds),
    )


def _begin(ds: Dataset) -> datetime | None:
    """Return when the first step is to begin, by this machine's clock; None where that is not told."""
    for step in ds.get("ScheduledProcedureStepSequence") or ():
        date, time = (_text(step, f"ScheduledProcedureStepStart{part}") for part in ("Date", "Time"))
        try:
            return datetime.strptime(date + (time.partition(".")[0] + "000000")[:6], "%Y%m%d%H%M%S").astimezone()
        except ValueError:
            continue
    return None


def _text(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    first = value[0] if isinstance(value, MultiValue) and value else value
    return "" if first is None else str(first).strip()[:MAX_TEXT]
