"""Which Presentation Contexts the node accepts: every Storage SOP Class in every Transfer Syntax, as sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts

from node.dimse.command import (
    C_ECHO_RQ,
    C_FIND_RQ,
    C_STORE_RQ,
    N_ACTION_RQ,
    N_CREATE_RQ,
    N_EVENT_REPORT_RQ,
    N_GET_RQ,
    N_SET_RQ,
)
from node.domain.workitem import EVENT, PULL, PUSH, QUERY, WATCH

VERIFICATION = "1.2.840.10008.1.1"
# Push Model, of which we are the SCU (PS3.4 J).
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
# PS3.4 F.7 and R.3.
MODALITY_PERFORMED_PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
INSTANCE_AVAILABILITY_NOTIFICATION = "1.2.840.10008.5.1.4.33"
# Which requests are served in a Presentation Context of each SOP Class; of all others it is C-STORE.
SERVED: Mapping[str, frozenset[int]] = {
    VERIFICATION: frozenset({C_ECHO_RQ}),
    STORAGE_COMMITMENT: frozenset({N_EVENT_REPORT_RQ}),
    MODALITY_PERFORMED_PROCEDURE_STEP: frozenset({N_CREATE_RQ, N_SET_RQ}),
    INSTANCE_AVAILABILITY_NOTIFICATION: frozenset({N_CREATE_RQ}),
    # PS3.4 CC.2. Events go out over Associations of our own.
    PUSH: frozenset({N_CREATE_RQ, N_ACTION_RQ, N_GET_RQ}),
    WATCH: frozenset({N_ACTION_RQ, N_GET_RQ, C_FIND_RQ}),
    PULL: frozenset({C_FIND_RQ, N_GET_RQ, N_SET_RQ, N_ACTION_RQ}),
    EVENT: frozenset(),
    QUERY: frozenset({C_FIND_RQ}),
}
# All workitems are of one SOP Class, whichever is negotiated (PS3.4 CC.3.1); who searches names that of the context.
WORKITEM_CLASSES = frozenset({PUSH, WATCH, PULL, EVENT, QUERY})
STORED = frozenset({C_STORE_RQ})
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
UNCOMPRESSED = (IMPLICIT, EXPLICIT, "1.2.840.10008.1.2.2")
# Result/Reason of a Presentation Context (PS3.8 table 9-18).
ACCEPTED = 0
NO_ABSTRACT_SYNTAX = 3
NO_TRANSFER_SYNTAX = 4
# Retired, yet in every archive that is older than the retirement.
# pynetdicom does not list them: Ultrasound Multi-frame, Nuclear Medicine, Ultrasound, X-Ray Angiographic Bi-Plane.
RETIRED_CLASSES = frozenset({
    "1.2.840.10008.5.1.4.1.1.3",
    "1.2.840.10008.5.1.4.1.1.5",
    "1.2.840.10008.5.1.4.1.1.6",
    "1.2.840.10008.5.1.4.1.1.12.3",
})  # fmt: skip


@cache
def storage_sop_classes() -> tuple[str, ...]:
    """Return the UID of every Storage SOP Class that is accepted, sorted."""
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    return tuple(sorted(known | RETIRED_CLASSES, key=_numerically))


@cache
def accepted_syntaxes() -> Mapping[str, frozenset[str]]:
    """Return SOP Class UID to the Transfer Syntaxes in which it is accepted."""
    every = frozenset(str(uid) for uid in ALL_TRANSFER_SYNTAXES)
    normalized = dict.fromkeys(SERVED, frozenset({IMPLICIT, EXPLICIT}))
    others = {**normalized, VERIFICATION: frozenset(UNCOMPRESSED)}
    return {**others, **dict.fromkeys(storage_sop_classes(), every)}


def transfer_syntaxes() -> tuple[str, ...]:
    """Return the UID of every Transfer Syntax in which Storage SOP Classes are accepted, sorted."""
    return tuple(sorted(map(str, ALL_TRANSFER_SYNTAXES), key=_numerically))


def is_offered(command_field: int, sop_class_uid: str) -> bool:
    """Return whether requests of this kind are served in an accepted Presentation Context of this SOP Class."""
    return command_field in SERVED.get(sop_class_uid, STORED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What becomes of one proposed Presentation Context.

    Attributes
    ----------
    result
        Result/Reason of PS3.8 table 9-18.
    transfer_syntax_uid
        In which objects come; of no meaning unless the context is accepted.
    """

    result: int
    abstract_syntax_uid: str
    transfer_syntax_uid: str

    @property
    def is_accepted(self) -> bool:
        """Whether objects may come in this context."""
        return self.result == ACCEPTED


@cache
def known_names() -> frozenset[bytes]:
    """Return the UID of every SOP Class and Transfer Syntax that is accepted, as it stands in a proposal."""
    return frozenset(uid.encode() for uid in (*accepted_syntaxes(), *transfer_syntaxes()))


# The programs of a hospital propose the same again and again.
@lru_cache(maxsize=4096)
def choose(abstract_syntax: bytes, proposed: tuple[bytes, ...]) -> Choice:
    """Return what becomes of a Presentation Context.

    Parameters
    ----------
    abstract_syntax
        One of `known_names`; empty when it is none.
    proposed
        Those of `known_names` that are proposed, in the requestor's order.

    The requestor's order decides, so that nobody has to decompress what he lists first; only Explicit VR Little Endian
    goes before Implicit VR Little Endian, because it keeps the Value Representation of private elements.

    References
    ----------
    DICOM PS3.8 9.3.2.2, PS3.4 B.4.2
    """
    sop_class_uid = abstract_syntax.decode("latin-1")
    accepted = accepted_syntaxes().get(sop_class_uid)
    if accepted is None:
        return Choice(result=NO_ABSTRACT_SYNTAX, abstract_syntax_uid="", transfer_syntax_uid=IMPLICIT)
    known = [uid for uid in (name.decode("latin-1") for name in proposed) if uid in accepted]
    if not known:
        return Choice(result=NO_TRANSFER_SYNTAX, abstract_syntax_uid=sop_class_uid, transfer_syntax_uid=IMPLICIT)
    chosen = EXPLICIT if known[0] == IMPLICIT and EXPLICIT in known else known[0]
    return Choice(result=ACCEPTED, abstract_syntax_uid=sop_class_uid, transfer_syntax_uid=chosen)


def _numerically(uid: str) -> tuple[int, ...]:
    return tuple(int(component) for component in UID(uid).split("."))
