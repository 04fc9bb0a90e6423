"""Settings of the web: where browsers find us, and who lets people in."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from node.settings.section import HostName, Port, Section, can_be_asked

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
THIS_MACHINE = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


class WebTlsSettings(Section):
    """``[web.tls]``: who we are to browsers; files in PEM."""

    certificate: str
    key: str

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> "WebTlsSettings":
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together; give both, or none")
        return self


class OidcSettings(Section):
    """``[web.oidc]``: the OpenID provider by which people of a hospital log in."""

    issuer: str
    client_id: str
    client_secret: SecretStr
    scopes: tuple[Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")], ...]
    ca: str
    role_claim: str
    admins: tuple[str, ...]
    operators: tuple[str, ...]
    viewers: tuple[str, ...]

    @model_validator(mode="after")
    def _can_be_asked(self) -> "OidcSettings":
        if not self.issuer:
            return self
        parts = urlsplit(self.issuer) if can_be_asked(self.issuer) else None
        if parts is None or (parts.scheme != "https" and parts.hostname not in LOOPBACK):
            raise ValueError("issuer must begin with https:// (on this machine http://) and name a host")
        if not self.client_id:
            raise ValueError("issuer needs client_id, as the provider knows this node")
        if "openid" not in self.scopes:
            raise ValueError('scopes must hold "openid"')
        if not (self.admins or self.operators or self.viewers):
            raise ValueError("issuer needs at least one of admins, operators, viewers; else nobody could come in")
        return self


class WebSettings(Section):
    """``[web]``: where browsers find us, and how long they are known."""

    bind: str
    port: Port
    hosts: tuple[HostName, ...]
    processes: Annotated[int, Field(ge=1, le=16)]
    behind_proxy: bool
    proxies: tuple[IPv4Network | IPv6Network, ...]
    session_idle_hours: Annotated[float, Field(gt=0, le=168)]
    session_days: Annotated[float, Field(gt=0, le=90)]
    tls: WebTlsSettings
    oidc: OidcSettings

    @model_validator(mode="after")
    def _speaks_one_way(self) -> "WebSettings":
        if self.behind_proxy and self.tls.certificate:
            raise ValueError("behind_proxy and tls exclude each other; the proxy has the certificate, or we have it")
        if self.proxies and not self.behind_proxy:
            raise ValueError("proxies are heeded with behind_proxy = true only")
        return self

    @property
    def trusted_proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Whose word on where a request comes from counts; nobody else connects. None without a proxy."""
        return (self.proxies or THIS_MACHINE) if self.behind_proxy else ()


class ViewerSettings(Section):
    """``[viewer]``: where the OHIF Viewer comes from."""

    registry: Annotated[str, Field(pattern=r"^(https?://.*)?$")]
