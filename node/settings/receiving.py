"""Settings of what comes in: who we are, who may send, where bytes rest, and when a Series is whole."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from node.domain.durability import Durability
from node.settings.section import AeTitle, Port, PositiveSeconds, Seconds, Section

# Of this node; journals of other processes count from there.
MAX_RECEIVERS = 64


class NodeSettings(Section):
    """``[node]``: who we are and where we listen."""

    aet: AeTitle
    bind: str
    port: Port
    data_dir: Path
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=1048576)]
    max_associations: Annotated[int, Field(ge=1, le=1000)]
    max_associations_per_peer: Annotated[int, Field(ge=1, le=1000)]
    dimse_timeout_s: PositiveSeconds
    receivers: Annotated[int, Field(ge=1, le=MAX_RECEIVERS)]


class StoreSettings(Section):
    """``[store]``: where bytes rest."""

    url: str
    reserve_bytes: Annotated[int, Field(ge=0)]
    reserve_percent: Annotated[float, Field(ge=0, le=90)]
    max_instance_bytes: Annotated[int, Field(ge=1_000_000)]
    durability: Durability


class AssemblySettings(Section):
    """``[assembly]``: when a Series is whole."""

    quiet_seconds: Seconds
    idle_seconds: Seconds
    evidence: tuple[
        Literal[
            "association-end",
            "counts",
            "availability",
            "procedure-step",
            "images-in-acquisition",
            "slice-gaps",
            "learned-quiet",
            "quiet-time",
        ],
        ...,
    ]
    belief_seconds: Seconds
    doubt_seconds: Seconds
    max_age_minutes: PositiveSeconds
    at_max_age: Literal["go-on", "refuse"]
    questions_per_minute: Annotated[int, Field(ge=0, le=6000)]

    @model_validator(mode="after")
    def _idle_is_longer(self) -> "AssemblySettings":
        if self.idle_seconds <= self.quiet_seconds:
            raise ValueError("idle_seconds must be greater than quiet_seconds")
        return self


class TlsSettings(Section):
    """``[security.tls]``: how peers reach us by TLS; files in PEM."""

    certificate: str
    key: str
    ca: str

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> "TlsSettings":
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together; give both, or none")
        if self.ca and not self.certificate:
            raise ValueError("ca asks peers for certificates, which needs certificate and key of our own")
        return self


class SecuritySettings(Section):
    """``[security]``: who may do what."""

    calling_aets: tuple[AeTitle, ...]
    allowed_networks: tuple[IPv4Network | IPv6Network, ...]
    own_results: Literal["store", "drop"]
    tls: TlsSettings


class Hl7Settings(Section):
    """``[hl7]``: where HL7 v2 messages with orders come in."""

    bind: str
    port: Port
    allowed_networks: tuple[IPv4Network | IPv6Network, ...]
    max_connections: Annotated[int, Field(ge=1, le=200)]
    max_message_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)]
    message_s: PositiveSeconds
    tls: TlsSettings


class OrdersSettings(Section):
    """``[orders]``: how long orders are kept."""

    keep_days: Annotated[float, Field(gt=0)]
