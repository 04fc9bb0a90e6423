"""The port through which objects leave the node, and the transports that fit it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from node.delivery.cstore import CStoreTransport
from node.delivery.fhir import FhirMessenger
from node.delivery.folder import FolderTransport
from node.delivery.hl7 import Hl7Messenger
from node.delivery.message import MessageTransport, Messenger, ReadAnswer, stands_for_none
from node.delivery.stow import StowTransport
from node.errors import SettingsInvalid
from node.peers.parcel import Parcel, Report
from node.peers.peer import DestinationSpec
from node.tls import client_context


class Transport(Protocol):
    """A way to one Destination."""

    def send(self, parcels: Sequence[Parcel], report: Report) -> None:
        """Send the objects of one Study, in their order, and report each one as soon as its answer is known.

        Returns after every parcel was reported. A crash, or an error from `report`, leaves only the unreported ones to
        do.

        Raises
        ------
        DestinationDown
            If the Destination does not answer; parcels not yet reported were not taken, or it is not known.
        Misconfigured
            If the Destination answers, but a person must change something before it takes anything.
        """


# A new transport is one file beside this one and one line here: of objects, or of messages about answers.
TRANSPORTS: Mapping[str, Callable[[DestinationSpec], Transport]] = {
    "cstore": CStoreTransport,
    "stow": StowTransport,
    "folder": FolderTransport,
}
MESSENGERS: Mapping[str, Callable[[DestinationSpec], Messenger]] = {
    "hl7": Hl7Messenger,
    "fhir": FhirMessenger,
}


def open_transport(spec: DestinationSpec, *, read_answer: ReadAnswer = stands_for_none) -> Transport:
    """Return the transport that a Destination's settings ask for; nothing is connected yet.

    Parameters
    ----------
    read_answer
        Returns how the answer stands for which an object stands; asked when a message about it is written.

    Raises
    ------
    SettingsInvalid
        If the transport is unknown, a key that it needs is missing, or a file of its TLS cannot be used.
    """
    known = ", ".join(sorted((*TRANSPORTS, *MESSENGERS)))
    if spec.transport not in (*TRANSPORTS, *MESSENGERS):
        raise SettingsInvalid(f"destinations.{spec.name}.transport is {spec.transport!r}; use one of: {known}")
    if spec.tls is not None:
        # Better told at the start than at the first Delivery; each connection reads the files anew.
        client_context(spec.tls)
    if spec.transport in MESSENGERS:
        return MessageTransport(MESSENGERS[spec.transport](spec), read_answer)
    return TRANSPORTS[spec.transport](spec)
