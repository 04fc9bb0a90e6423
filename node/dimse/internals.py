"""What the node uses of pynetdicom beyond its documentation, in one place; a test compares it with what is installed.

Subclasses are the only way in: `GuardedHandler`, `GuardedServer`, `GuardedAssociation`, `GuardedSocket` and
`LaneProvider`. When pynetdicom changes one of these names, read the new source before you change this page.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler

VERSION = "3.0.4"

# Method to its parameters; overridden by us, or called.
METHODS: Mapping[Callable[..., Any], tuple[str, ...]] = {
    Association.__init__: ("self", "ae", "mode"),
    Association.run_reactor: ("self",),
    Association._run_reactor: ("self",),
    Association.kill: ("self",),
    Association.set_socket: ("self", "socket"),
    AssociationServer.__init__: (
        "self",
        "ae",
        "address",
        "ae_title",
        "contexts",
        "ssl_context",
        "evt_handlers",
        "request_handler",
    ),
    AssociationServer.get_request: ("self",),
    AssociationServer.service_actions: ("self",),
    AssociationSocket.__init__: ("self", "assoc", "client_socket", "address"),
    AssociationSocket.recv: ("self", "nr_bytes"),
    AssociationSocket._shutdown_socket: ("self",),
    DULServiceProvider.__init__: ("self", "assoc"),
    DULServiceProvider._decode_pdu: ("self", "bytestream"),
    DULServiceProvider._is_transport_event: ("self",),
    DULServiceProvider._read_pdu_data: ("self",),
    DULServiceProvider.idle_timer_expired: ("self",),
    DULServiceProvider.kill_dul: ("self",),
    DULServiceProvider.run_reactor: ("self",),
    DULServiceProvider.send_pdu: ("self", "primitive"),
    DULServiceProvider.stop_dul: ("self",),
    RequestHandler._create_association: ("self",),
}

# Attributes that an object has once it is made.
ASSOCIATION_ATTRIBUTES = ("_accepted_cx", "_reactor_checkpoint", "_server", "acse", "dimse", "dul", "requestor")
PROVIDER_ATTRIBUTES = (
    "_idle_timer",
    "_kill_thread",
    "_recv_pdu",
    "_run_loop_delay",
    "event_queue",
    "socket",
    "state_machine",
    "to_provider_queue",
    "to_user_queue",
)

# State and event to the action that the lane counts on (PS3.8 9.2.3).
ACTIONS: Mapping[tuple[str, str], str] = {
    ("Evt10", "Sta6"): "DT-2",
    ("Evt12", "Sta6"): "AR-2",
    ("Evt15", "Sta6"): "AA-1",
    ("Evt16", "Sta6"): "AA-3",
    ("Evt17", "Sta6"): "AA-4",
    ("Evt19", "Sta6"): "AA-8",
}
TRANSITIONS: Mapping[tuple[str, str], str] = TRANSITION_TABLE
