"""Which Presentation Contexts the node accepts: every Storage SOP Class in every Transfer Syntax, as sent."""

from collections.abc import Iterable, Mapping
from functools import cache

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context

VERIFICATION = "1.2.840.10008.1.1"
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
# Retired, yet in every archive that is older than the retirement.
# pynetdicom does not list them; UID to the keyword they are registered under.
RETIRED_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.3": "RetiredUltrasoundMultiFrameImageStorage",
    "1.2.840.10008.5.1.4.1.1.5": "RetiredNuclearMedicineImageStorage",
    "1.2.840.10008.5.1.4.1.1.6": "RetiredUltrasoundImageStorage",
    "1.2.840.10008.5.1.4.1.1.12.3": "RetiredXRayAngiographicBiPlaneImageStorage",
}


@cache
def storage_sop_classes() -> tuple[str, ...]:
    """Return the UID of every Storage SOP Class that is accepted, sorted."""
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    return tuple(sorted(known | set(RETIRED_CLASSES), key=_numerically))


@cache
def accepted_syntaxes() -> Mapping[str, frozenset[str]]:
    """Return SOP Class UID to the Transfer Syntaxes in which it is accepted."""
    every = frozenset(str(uid) for uid in ALL_TRANSFER_SYNTAXES)
    return {VERIFICATION: frozenset(UNCOMPRESSED), **dict.fromkeys(storage_sop_classes(), every)}


def transfer_syntaxes() -> tuple[str, ...]:
    """Return the UID of every Transfer Syntax in which Storage SOP Classes are accepted, sorted."""
    return tuple(sorted(map(str, ALL_TRANSFER_SYNTAXES), key=_numerically))


def contexts_for(proposed: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Return what we support among the `proposed` contexts, each with its Transfer Syntaxes in order of choice.

    The requestor's order decides, so that nobody has to decompress what he lists first; only Explicit VR Little Endian
    goes before Implicit VR Little Endian, because it keeps the Value Representation of private elements.

    References
    ----------
    DICOM PS3.8 9.3.2.2, PS3.4 B.4.2
    """
    wanted: dict[str, dict[str, None]] = {}
    for context in proposed:
        offered = wanted.setdefault(str(context.abstract_syntax), {})
        offered.update(dict.fromkeys(map(str, context.transfer_syntax)))
    supported = []
    for sop_class_uid, offered in wanted.items():
        accepted = accepted_syntaxes().get(sop_class_uid, frozenset())
        chosen = _explicit_first([uid for uid in offered if uid in accepted])
        # A SOP Class that we know keeps its context, so that the answer is "transfer syntaxes not supported".
        if accepted:
            supported.append(build_context(sop_class_uid, chosen or [str(ExplicitVRLittleEndian)]))
    return supported


def _explicit_first(uids: list[str]) -> list[str]:
    explicit, implicit = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
    if explicit in uids and implicit in uids and uids.index(implicit) < uids.index(explicit):
        uids.remove(explicit)
        uids.insert(uids.index(implicit), explicit)
    return uids


def _numerically(uid: str) -> tuple[int, ...]:
    return tuple(int(component) for component in UID(uid).split("."))
