"""Small synthetic Instances in any encoding, and a ledger in memory, for the tests of what receives them."""

import zlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from threading import Lock

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from node.domain.recording import Recording
from node.domain.study import InstanceFacts, KnownInstance, Place
from node.domain.uids import StudyUID
from node.errors import IdentifierClash
from node.intake.ports import Arrival

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
STUDY, SERIES, INSTANCE = "1.2.3", "1.2.3.4", "1.2.3.4.5"
# More than a test sends.
MAX_INSTANCE_BYTES = 2**32
NOON = datetime(2025, 1, 14, 12, tzinfo=UTC)


def ct_slice(*, sop_instance_uid: str = INSTANCE, level: int = 7) -> Dataset:
    """Return a CT Image of 4 x 6 pixels, each of value `level`."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CT_IMAGE_STORAGE, sop_instance_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, SERIES
    ds.Modality, ds.Manufacturer, ds.StudyDescription = "CT", "Phantom Works", "Thorax"
    ds.PatientName, ds.PatientID = "Grün^Käthe", "P1"
    ds.SliceThickness, ds.InstanceNumber = "2.5", "3"
    ds.ImagePositionPatient = [-10.5, 20, 30.25]
    ds.ReferencedImageSequence = [Dataset()]
    ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.9"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.BitsAllocated, ds.BitsStored = 4, 6, 1, 16, 12
    ds.HighBit, ds.PixelRepresentation, ds.PhotometricInterpretation = 11, 0, "MONOCHROME2"
    ds.PixelData = level.to_bytes(2, "little") * 24
    return ds


def encode(ds: Dataset, transfer_syntax_uid: str = EXPLICIT) -> bytes:
    """Return the encoded data set, without preamble and File Meta Information."""
    written = deepcopy(ds)
    if transfer_syntax_uid == JPEG_2000:
        written.PixelData = encapsulate([b"no code stream"])
        written["PixelData"].is_undefined_length = True
    if "PixelData" in written:
        written["PixelData"].VR = "OB" if transfer_syntax_uid == JPEG_2000 else "OW"
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = transfer_syntax_uid == IMPLICIT
    buffer.is_little_endian = transfer_syntax_uid != BIG_ENDIAN
    write_dataset(buffer, written)
    encoded = BytesIO(buffer.getvalue()).getvalue()
    if transfer_syntax_uid != DEFLATED:
        return encoded
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(encoded) + deflater.flush()


def arrival(
    *,
    sop_instance_uid: str = INSTANCE,
    transfer_syntax_uid: str = EXPLICIT,
    sop_class_uid: str = CT_IMAGE_STORAGE,
    association_id: str = "a1",
) -> Arrival:
    """Return how a test's Instance is announced."""
    return Arrival(
        transfer_syntax_uid=transfer_syntax_uid,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        association_id=association_id,
        calling_aet="MODALITY",
    )


@dataclass
class MemoryLedger:
    """An `IntakeLedger` that forgets everything at the end of the test."""

    instances: dict[str, InstanceFacts] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    refused_of: list[StudyUID | None] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def record_instance(self, facts: InstanceFacts) -> Recording:
        with self._lock:
            known = self.instances.get(facts.sop_instance_uid)
            if known is not None and known.digest == facts.digest:
                recording = Recording.SAME
            else:
                recording = Recording.NEW if known is None else Recording.CHANGED
                self.instances[facts.sop_instance_uid] = facts
            self.recordings.append(recording)
            return recording

    def find_known(self, place: Place) -> KnownInstance | None:
        known = self.instances.get(place.sop_instance_uid)
        if known is None:
            return None
        if known.place != place:
            raise IdentifierClash("of another series", place.study_instance_uid)
        return KnownInstance(*place[:2], known.digest, known.says, known.path)

    def known_digest(self, sop_instance_uid: str) -> str | None:
        known = self.instances.get(sop_instance_uid)
        return None if known is None else known.digest

    def known_paths(self) -> Mapping[str, int]:
        return {facts.path: facts.size_bytes for facts in self.instances.values()}

    def end_association(self, association_id: str, now: datetime) -> None:
        self.ended.append(association_id)

    def record_event(self, *, at: datetime, kind: str, text: str, study_instance_uid: StudyUID | None = None) -> None:
        self.events.append((kind, text))

    def record_refusal(
        self, *, at: datetime, kind: str, text: str, code: str, count: int, study_instance_uid: StudyUID | None = None
    ) -> None:
        self.events.append((kind, text))
        self.refused_of.append(study_instance_uid)
