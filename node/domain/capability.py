"""What a Destination accepts, of the objects that radnode writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

# SOP Class UID and Transfer Syntax UID: what one Presentation Context is about.
Form = tuple[str, str]

# Label Map Segmentation Storage, which pydicom.uid has no name for.
LABEL_MAP: Form = ("1.2.840.10008.5.1.4.1.1.66.7", str(JPEGLSLossless))
# Every form in which radnode writes a Result, by the word for people.
WRITTEN_FORMS: Mapping[str, Form] = {
    "SEG": (str(SegmentationStorage), str(ExplicitVRLittleEndian)),
    "SR": (str(Comprehensive3DSRStorage), str(ExplicitVRLittleEndian)),
    # The default Transfer Syntax, which every peer must take (PS3.5 10.1): the picture goes where nothing else does.
    "SC": (str(SecondaryCaptureImageStorage), str(ImplicitVRLittleEndian)),
    "KO": (str(KeyObjectSelectionDocumentStorage), str(ExplicitVRLittleEndian)),
    "PR": (str(GrayscaleSoftcopyPresentationStateStorage), str(ExplicitVRLittleEndian)),
    "PDF": (str(EncapsulatedPDFStorage), str(ExplicitVRLittleEndian)),
    "LABELMAP": LABEL_MAP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What one Destination was last seen to accept.

    Attributes
    ----------
    address
        Where it was then; another address is another peer, of which nothing is known.
    accepted
        Forms of which it accepted the Presentation Context, or took an object.
    refused
        Forms of which it did not accept the Presentation Context, or refused an object. Refused objects are in both
        sets: what a peer agrees on in an Association, it may refuse afterwards.
    asked_at
        When it was last probed (UTC); None where only its answers are known.
    """

    destination: str
    address: str
    accepted: frozenset[Form]
    refused: frozenset[Form]
    asked_at: datetime | None

    def takes(self, form: Form) -> bool | None:
        """Return whether objects of this form are taken; None when it is not known."""
        if form in self.refused:
            return False
        return True if form in self.accepted else None

    def describe(self) -> str:
        """Return in words what it takes: ``takes SEG, SR; not LABELMAP``."""
        words: dict[bool | None, list[str]] = {True: [], False: [], None: []}
        for word, form in WRITTEN_FORMS.items():
            words[self.takes(form)].append(word)
        parts = (("takes", words[True]), ("not", words[False]), ("not known:", words[None]))
        return "; ".join(f"{lead} {', '.join(found)}" for lead, found in parts if found)


def name_kind(sop_class_uid: str) -> str:
    """Return the short word for a kind of object: that of our own Results, else the name of its SOP Class."""
    for word, (written, _) in WRITTEN_FORMS.items():
        if written == sop_class_uid:
            return word
    return UID(sop_class_uid).name.removesuffix(" Storage")
