"""What the node uses of pynetdicom beyond its documentation, in one place; a test compares it with what is installed.

Subclasses are the only way in: `GuardedAssociation`, `GuardedSocket`, `ForgivingMachine`, `SteadyTimer` and
`LaneProvider`.
When pynetdicom changes one of these names, read the new source before you change this page.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine
from pynetdicom.timer import Timer
from pynetdicom.transport import AddressInformation, AssociationSocket

VERSION = "3.0.4"

# Method to its parameters; overridden by us, or called.
METHODS: Mapping[Callable[..., Any], tuple[str, ...]] = {
    ACSE.send_ap_abort: ("self", "reason"),
    ACSE.send_reject: ("self", "result", "source", "diagnostic"),
    Association.__init__: ("self", "ae", "mode"),
    Association.run_reactor: ("self",),
    Association._run_reactor: ("self",),
    Association.kill: ("self",),
    Association.set_socket: ("self", "socket"),
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
    StateMachine.__init__: ("self", "dul"),
    StateMachine.do_action: ("self", "event"),
    AddressInformation.from_tuple: ("address_info",),
    Timer.__init__: ("self", "timeout"),
    Timer.restart: ("self",),
    Timer.start: ("self",),
    Timer.stop: ("self",),
}

# Attributes that an object has once it is made.
ASSOCIATION_ATTRIBUTES = ("_reactor_checkpoint", "_server", "acse", "dimse", "dul", "requestor")
PROVIDER_ATTRIBUTES = (
    "_idle_timer",
    "_kill_thread",
    "_recv_pdu",
    "_run_loop_delay",
    "artim_timer",
    "event_queue",
    "socket",
    "state_machine",
    "to_provider_queue",
    "to_user_queue",
)

# State and event to the action that the lane counts on (PS3.8 9.2.3).
ACTIONS: Mapping[tuple[str, str], str] = {
    ("Evt6", "Sta2"): "AE-6",
    ("Evt8", "Sta3"): "AE-8",
    ("Evt15", "Sta3"): "AA-1",
    ("Evt10", "Sta6"): "DT-2",
    ("Evt12", "Sta6"): "AR-2",
    ("Evt15", "Sta6"): "AA-1",
    ("Evt16", "Sta6"): "AA-3",
    ("Evt17", "Sta6"): "AA-4",
    ("Evt19", "Sta6"): "AA-8",
}
TRANSITIONS: Mapping[tuple[str, str], str] = TRANSITION_TABLE
