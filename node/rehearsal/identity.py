"""Who a node says it is, in an Association."""

from pynetdicom import AE

from node.peers.command import VERIFICATION
from node.peers.peer import Peer
from node.rehearsal.scenario import NodeIdentity
from node.tls import client_context

ANSWER_LIMIT_S = 20.0


def identify(peer: Peer, *, product: str = "") -> NodeIdentity:
    """Return what the node tells of its implementation; nothing where there is no Association.

    Parameters
    ----------
    product
        Its name and version, where they are known otherwise.

    References
    ----------
    DICOM PS3.7 D.3.3.2
    """
    ae = AE(ae_title=peer.calling_aet)
    ae.acse_timeout = ae.network_timeout = ae.connection_timeout = ANSWER_LIMIT_S
    ae.add_requested_context(VERIFICATION)
    tls = None if peer.tls is None else (client_context(peer.tls), peer.host)
    assoc = ae.associate(peer.host, peer.port, ae_title=peer.aet, tls_args=tls)
    version_name = class_uid = ""
    if assoc.is_established:
        version_name = assoc.acceptor.implementation_version_name or ""
        class_uid = str(assoc.acceptor.implementation_class_uid or "")
        assoc.release()
    return NodeIdentity(
        address=str(peer),
        implementation_version_name=version_name,
        implementation_class_uid=class_uid,
        product=product,
    )
