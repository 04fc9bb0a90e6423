"""Who is spoken to: a Destination as the settings name it, and the Application Entity that it is."""

from dataclasses import dataclass, field

from node.domain.confirmation import ConfirmBy
from node.errors import SettingsInvalid
from node.tls import TlsTrust

MAX_AET_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSpec:
    """One ``[destinations.<name>]`` of the settings, with what the node itself adds.

    Attributes
    ----------
    name
        The key in the settings; shown to people.
    transport
        Alias of the transport: ``cstore``, ``stow``, ``folder``, ``hl7`` or ``fhir``.
    aet, host, port
        Called AE title (``cstore``) and TCP address (``cstore`` and ``hl7``).
    url
        Base of the DICOMweb service (``stow``) or of the FHIR service (``fhir``), or path of the folder (``folder``).
    application, facility
        Receiving Application and Facility (MSH-5, MSH-6); ``hl7`` only.
    token
        Bearer token; ``fhir`` only. Never shown.
    calling_aet
        Our own AE title, 1-16 characters.
    timeout_s
        Silence that counts as failure; seconds, > 0.
    associations
        How many at once for one Study, 1-16; ``cstore`` only.
    tls
        How TLS is spoken; None: as the transport does by itself.
    confirm
        How it is asked later whether it holds what it took.
    """

    name: str
    transport: str
    aet: str = ""
    host: str = ""
    port: int = 0
    url: str = ""
    application: str = ""
    facility: str = ""
    token: str = field(default="", repr=False)
    associations: int = 1
    tls: TlsTrust | None = None
    confirm: ConfirmBy = ConfirmBy.AUTO
    calling_aet: str = "RADNODE"
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """An Application Entity that we call.

    Attributes
    ----------
    aet
        Called AE title, 1-16 characters.
    calling_aet
        Our own AE title, 1-16 characters.
    timeout_s
        Silence that counts as failure; seconds, > 0.
    connect_s
        How long a TCP connection may take; seconds; None: `timeout_s`.
    tls
        How it is called by TLS; None: without.
    """

    aet: str
    host: str
    port: int
    calling_aet: str = "RADNODE"
    timeout_s: float = 30.0
    connect_s: float | None = None
    tls: TlsTrust | None = None

    def __str__(self) -> str:
        """Return the peer as people write it: ``AET@host:port``."""
        return f"{self.aet}@{self.host}:{self.port}"


def is_ae_title(text: str) -> bool:
    """Return whether `text` can be an AE title: 1-16 characters that are not all spaces (PS3.5 6.2, AE)."""
    return 1 <= len(text.strip()) <= MAX_AET_LENGTH and text.isascii() and text.isprintable() and "\\" not in text


def peer_of(spec: DestinationSpec) -> Peer:
    """Return the peer that a Destination's settings name.

    Raises
    ------
    SettingsInvalid
        If one of the AE titles, the host or the port cannot be one; the message names the key.
    """
    prefix = f"destinations.{spec.name}"
    for key, title in ((f"{prefix}.aet", spec.aet), ("node.aet", spec.calling_aet)):
        if not is_ae_title(title):
            raise SettingsInvalid(f"{key} is {title!r}; an AE title has 1-16 ASCII characters")
    if not spec.host:
        raise SettingsInvalid(f"{prefix}.host is empty; give the address of the PACS")
    if not 1 <= spec.port <= 0xFFFF:
        raise SettingsInvalid(f"{prefix}.port is {spec.port}; give the DICOM port of the PACS, 1-65535")
    return Peer(
        aet=spec.aet.strip(),
        host=spec.host,
        port=spec.port,
        calling_aet=spec.calling_aet.strip(),
        timeout_s=spec.timeout_s,
        tls=spec.tls,
    )
