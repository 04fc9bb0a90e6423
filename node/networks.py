"""Where the node listens, and who may connect at all, by address."""

import errno
import ipaddress
import socket
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from node.errors import Misconfigured, PortInUse

Network = IPv4Network | IPv6Network


def is_allowed(host: str, networks: Sequence[Network]) -> bool:
    """Return whether `host`, an IP address, lies in one of `networks`; without any, every address does."""
    if not networks:
        return True
    address = ipaddress.ip_address(host)
    # What comes by IPv4 to a socket that takes both.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in networks)


def is_loopback(bind: str) -> bool:
    """Return whether what listens at `bind` is reached from this machine only."""
    if bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False


def open_listener(bind: str, port: int, *, section: str, backlog: int) -> socket.socket:
    """Return a socket that listens at `bind` and `port`; 0 is any free port.

    Parameters
    ----------
    section
        Of the settings that name them, for messages.

    Raises
    ------
    PortInUse
        If another process listens there.
    Misconfigured
        If the address is none of this machine, or the port needs more rights.
    """
    try:
        return _listen(bind, port, backlog)
    except OSError as exc:
        raise _bind_error(f"{bind}:{port}", section, exc) from exc


def _listen(bind: str, port: int, backlog: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    takes_both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server(address[:2], family=family, backlog=backlog, dualstack_ipv6=takes_both)


def _bind_error(where: str, section: str, exc: OSError) -> Misconfigured:
    if exc.errno == errno.EADDRINUSE:
        return PortInUse(f"{where} is taken by another process; stop it, or set {section}.port to another port")
    if exc.errno == errno.EACCES:
        return Misconfigured(f"{where} needs more rights; set {section}.port to 1024 or above")
    return Misconfigured(f"cannot listen on {where} ({exc.strerror}); set {section}.bind to an address of this machine")
