"""Whether a Destination can be reached, and what it accepts, before anything is sent to it."""

from dataclasses import replace
from pathlib import Path

from node.delivery.fhir import FhirMessenger
from node.delivery.hl7 import probe_receiver
from node.domain.capability import WRITTEN_FORMS, Form
from node.errors import DestinationDown, Misconfigured
from node.peers.association import StoreAssociation, echo
from node.peers.dicomweb import DicomwebService
from node.peers.peer import DestinationSpec, peer_of
from node.store.volume import find_nearest_folder, prove_writable

# Whoever is there takes a connection sooner, also when a packet is lost.
KNOCK_LIMIT_S = 2.5


def probe_destination(spec: DestinationSpec) -> str:
    """Return in words what was found.

    Raises
    ------
    DestinationDown
        If the Destination does not answer, or the folder cannot be written.
    Misconfigured
        If a person must change something first.
    """
    match spec.transport:
        case "cstore":
            peer = peer_of(spec)
            echo(peer)
            return f"{peer} answers C-ECHO"
        case "folder":
            return _probe_folder(Path(spec.url))
        case "hl7":
            return probe_receiver(spec)
        case "fhir":
            return FhirMessenger(spec).probe()
        case _:
            return DicomwebService(spec).probe()


def probe_forms(spec: DestinationSpec) -> frozenset[Form] | None:
    """Return which of `WRITTEN_FORMS` a Destination accepts, without sending any; None where only sending tells.

    A C-STORE peer is asked in one Association that proposes them all. A STOW-RS service has no such question, nor who
    is told by messages.

    Raises
    ------
    DestinationDown
        If there is no Association.
    Misconfigured
        If the peer does not know one of the AE titles.
    """
    match spec.transport:
        case "cstore":
            with StoreAssociation(peer_of(spec), WRITTEN_FORMS.values()) as assoc:
                return assoc.accepted
        case "folder":
            return frozenset(WRITTEN_FORMS.values())
        case _:
            return None


def knock(spec: DestinationSpec) -> None:
    """Return when a Destination that was down is there again; one connection, and nothing is sent on it.

    Raises
    ------
    DestinationDown
        If it is not; where nobody answers at all, within `KNOCK_LIMIT_S`.
    Misconfigured
        If a C-STORE peer does not know one of the AE titles.
    """
    match spec.transport:
        case "cstore":
            with StoreAssociation(replace(peer_of(spec), connect_s=KNOCK_LIMIT_S), WRITTEN_FORMS.values()):
                return
        case "folder":
            _probe_folder(Path(spec.url))
        case "hl7":
            probe_receiver(spec, connect_s=KNOCK_LIMIT_S)
        case "fhir":
            FhirMessenger(spec).probe(connect_s=KNOCK_LIMIT_S)
        case _:
            try:
                DicomwebService(spec).probe(connect_s=KNOCK_LIMIT_S)
            except Misconfigured:
                # It answers; a service that stores need not have the search by which it is asked.
                return


def _probe_folder(folder: Path) -> str:
    try:
        prove_writable(find_nearest_folder(folder))
    except OSError as exc:
        raise DestinationDown(
            f"folder {folder} cannot be written ({exc.strerror}); correct the path or its rights"
        ) from exc
    return f"{folder} can be written"
