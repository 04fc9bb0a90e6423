"""Settings: shipped defaults < operator's file < environment; checked, frozen, passed down."""

import difflib
import json
import os
import sys
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from node.domain.confirmation import ConfirmBy
from node.domain.durability import Durability
from node.domain.fetch import Retrieve, check_query
from node.domain.fetch_terms import HOURS_PATTERN, SPAN_PATTERN
from node.domain.origin import ORIGINS_VARIABLE, Origins, decode_origins, encode_origins, origins_of
from node.domain.result import OptionalResult, SegmentationForm
from node.domain.retention import KeepUntil
from node.errors import QueryRefused, SettingsInvalid

ENVIRONMENT_PREFIX = "RADNODE__"
FILE_NAME = "settings.toml"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
THIS_MACHINE = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
# Tables whose keys are names that a site chooses.
NAMED_TABLES = frozenset({"pipelines", "destinations", "sources"})
# Transports by which a Destination can be asked what it holds.
HOLDING = frozenset({"cstore", "stow"})
# Below node.data_dir: what `radnode models add` and `pull` install where models.dirs names no folder.
MODELS_FOLDER = "models"
# The same: which Layouts were found to be fastest.
LAYOUTS_FOLDER = "calibration"
# Keys of a rule that a Pipeline's own table may hold; with the first it has a rule of its name.
WHEN = "when"
RULE_KEYS = (WHEN, "inputs", "priors", "priority", "deliver_to")

Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Minutes = Annotated[float, Field(ge=0)]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,253}$")]
# Of this node; journals of other processes count from there.
MAX_RECEIVERS = 64
Port = Annotated[int, Field(ge=0, le=65535)]
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")]


class Section(BaseModel):
    """One table of the file; unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class BrokerSettings(Section):
    """``[broker]``: the bell."""

    url: SecretStr
    resend_seconds: PositiveSeconds


class LedgerSettings(Section):
    """``[ledger]``: the queue of record."""

    url: SecretStr
    busy_timeout_s: PositiveSeconds


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


class DispatchSettings(Section):
    """``[dispatch]``: leases and attempts of Jobs."""

    lease_seconds: Annotated[float, Field(ge=2)]
    heartbeat_seconds: PositiveSeconds
    max_attempts: Annotated[int, Field(ge=1, le=10)]
    retry_seconds: Seconds
    ageing_seconds: PositiveSeconds
    drain_seconds: Annotated[float, Field(ge=0, le=25)]

    @model_validator(mode="after")
    def _heart_beats_twice_a_lease(self) -> "DispatchSettings":
        if self.heartbeat_seconds >= self.lease_seconds / 2:
            raise ValueError("heartbeat_seconds must be less than half of lease_seconds")
        return self


class DeliverySettings(Section):
    """``[delivery]``: how long and how often a Destination is tried."""

    first_retry_seconds: PositiveSeconds
    max_retry_seconds: PositiveSeconds
    give_up_days: PositiveSeconds
    timeout_s: PositiveSeconds
    confirm_after_seconds: PositiveSeconds
    confirm_minutes: PositiveSeconds
    confirm_tries: Annotated[int, Field(ge=1, le=20)]


class ResultsSettings(Section):
    """``[results]``: what becomes of answers that others replace."""

    reject_superseded: bool


class RetentionSettings(Section):
    """``[retention]``: how long Studies stay, and what must hold before they go."""

    studies_days: Annotated[float, Field(ge=0)]
    results_days: Annotated[float, Field(ge=0)]
    keep_until: KeepUntil
    high_percent: Annotated[float, Field(ge=0, lt=100)]
    low_percent: Annotated[float, Field(ge=0, lt=100)]

    @model_validator(mode="after")
    def _low_is_lower(self) -> "RetentionSettings":
        if self.high_percent and self.low_percent >= self.high_percent:
            raise ValueError("low_percent must be less than high_percent")
        return self


class TracingSettings(Section):
    """``[tracing]``: who is told how long each stage of a Study took."""

    endpoint: Annotated[str, Field(pattern=r"^(https?://.*)?$")]


class ViewerSettings(Section):
    """``[viewer]``: where the OHIF Viewer comes from."""

    registry: Annotated[str, Field(pattern=r"^(https?://.*)?$")]


class ModelsSettings(Section):
    """``[models]``: where model folders lie, and how much of them is kept in memory."""

    dirs: tuple[Path, ...]
    memory_bytes: Annotated[int, Field(ge=0)]


class ExpectationSettings(Section):
    """When something is expected at least once in so many minutes."""

    minutes: Annotated[float, Field(gt=0)]
    hours: tuple[Annotated[int, Field(ge=0, le=23)], Annotated[int, Field(ge=1, le=24)]] = (0, 24)
    days: Annotated[tuple[Annotated[int, Field(ge=1, le=7)], ...], Field(min_length=1)] = (1, 2, 3, 4, 5, 6, 7)

    @model_validator(mode="after")
    def _hours_are_in_order(self) -> "ExpectationSettings":
        if self.hours[0] >= self.hours[1]:
            raise ValueError("the first of hours must be less than the second; a night is two entries")
        return self


class SourceSettings(ExpectationSettings):
    """One of ``alarms.sources``: who should send."""

    aet: AeTitle


class MatchSettings(ExpectationSettings):
    """One of ``alarms.pipelines``: what should match."""

    pipeline: str


class AlarmSettings(Section):
    """``[alarms]``: what is watched, and who is told; zero is never."""

    webhook: SecretStr
    webhook_ca: str
    webhook_timeout_s: PositiveSeconds
    sources: tuple[SourceSettings, ...]
    pipelines: tuple[MatchSettings, ...]
    unmatched_studies: Annotated[int, Field(ge=0, le=10_000)]
    job_wait_minutes: Minutes
    no_worker_minutes: Minutes
    given_up_hours: Annotated[float, Field(ge=0)]
    delivery_wait_minutes: Minutes
    destination_down_minutes: Minutes
    store_margin_percent: Annotated[float, Field(ge=0)]
    calm_seconds: Seconds

    @field_validator("webhook")
    @classmethod
    def _is_url(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if text and not _can_be_asked(text):
            # What the library says would quote it, and it may hold a secret.
            raise ValueError(
                "must be empty, or begin with http:// or https:// and name a host, with a port of 1-65535 if any; "
                "spaces and what is not ASCII are written %XX in a path, and xn--... in a host"
            )
        return url


def _can_be_asked(url: str) -> bool:
    """Return whether a request can be made of a URL; none could be sent to another one, however often it is tried."""
    # RFC 3986 knows ASCII without spaces and controls only; `urlsplit` would pass over some of them.
    if not (url.isascii() and url.isprintable() and " " not in url):
        return False
    try:
        parts = urlsplit(url)
        # Labels of 1-63 characters, as the resolver wants them.
        (parts.hostname or "").encode("idna")
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class MetricsSettings(Section):
    """``[metrics]``: numbers for Prometheus, on the loopback address."""

    port: Port


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
        parts = urlsplit(self.issuer) if _can_be_asked(self.issuer) else None
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


class WorklistSettings(Section):
    """``[worklist]``: who is asked for the order of a Study by Modality Worklist."""

    ask: str
    aet: AeTitle | Literal[""]
    host: HostName | Literal[""]
    port: Port

    @model_validator(mode="after")
    def _one_is_asked(self) -> "WorklistSettings":
        if self.ask and self.host:
            raise ValueError("ask and host exclude each other; say who is asked, once")
        if len({bool(self.host), bool(self.port), bool(self.aet)}) > 1:
            raise ValueError("aet, host and port belong together; give all, or none")
        return self


class LogSettings(Section):
    """``[log]``: how much is told."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class PipelineSettings(Section):
    """``[pipelines.<name>]``: which model runs, and how its Results look."""

    model: str
    segmentation: SegmentationForm = SegmentationForm.BINARY
    optional_results: tuple[OptionalResult, ...] = ()
    time_limit_s: PositiveSeconds = 600.0


class DestinationTls(Section):
    """``[destinations.<name>.tls]``: how a Destination is reached by TLS; files in PEM."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    check_host: bool = True


class DestinationSettings(Section):
    """``[destinations.<name>]``: where Results go.

    Attributes
    ----------
    associations
        How many at once for one Study; with one, objects arrive in their order. C-STORE only.
    application, facility
        Who receives messages (MSH-5, MSH-6). HL7 only.
    token
        What is shown as bearer. FHIR only.
    per_minute
        How many objects it is sent at most; 0 sets no limit.
    tls
        None: a C-STORE Destination is called without TLS, and a STOW-RS one as its URL says.
    confirm
        How it is asked later whether it holds what it took.
    """

    transport: Literal["cstore", "stow", "folder", "hl7", "fhir"]
    aet: AeTitle | Literal[""] = ""
    host: str = ""
    port: Port = 0
    url: str = ""
    application: Annotated[str, Field(max_length=180)] = ""
    facility: Annotated[str, Field(max_length=180)] = ""
    token: SecretStr = SecretStr("")
    associations: Annotated[int, Field(ge=1, le=16)] = 1
    per_minute: Annotated[int, Field(ge=0)] = 0
    tls: DestinationTls | None = None
    confirm: ConfirmBy = ConfirmBy.AUTO

    @model_validator(mode="after")
    def _can_be_asked(self) -> "DestinationSettings":
        if self.confirm is ConfirmBy.COMMITMENT and self.transport != "cstore":
            raise ValueError("confirm is 'commitment', which only transport 'cstore' has; say 'auto' or 'query'")
        if self.confirm is ConfirmBy.QUERY and self.transport not in HOLDING:
            raise ValueError(f"confirm is 'query', and transport {self.transport!r} has none; say 'auto' or 'none'")
        return self

    @property
    def is_asked(self) -> bool:
        """Whether it is asked later whether it holds what it took, if it can be."""
        return self.confirm is not ConfirmBy.NONE and self.transport in HOLDING

    @property
    def is_told(self) -> bool:
        """Whether it is told of answers by messages, and takes no objects."""
        return self.transport in {"hl7", "fhir"}

    @property
    def address(self) -> str:
        """What tells this peer from another one under the same name; without a password that the URL may hold."""
        if self.transport == "cstore":
            return f"cstore {self.aet}@{self.host}:{self.port}"
        if self.transport == "hl7":
            return f"hl7 {self.host}:{self.port}"
        parts = urlsplit(self.url)
        return f"{self.transport} {parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()}"


class PollSettings(Section):
    """``[sources.<name>] poll``: how a peer is asked for new Studies by itself."""

    query: Mapping[str, str]
    every_seconds: Annotated[float, Field(ge=5)] = 60.0
    since: Annotated[str, Field(pattern=SPAN_PATTERN)] = "24h"

    @field_validator("query")
    @classmethod
    def _can_be_asked(cls, query: Mapping[str, str]) -> Mapping[str, str]:
        try:
            check_query(query)
        except QueryRefused as exc:
            raise ValueError(str(exc)) from exc
        if {"StudyDate", "StudyTime"} & query.keys():
            raise ValueError("a poll asks for what began since it asked last; leave StudyDate and StudyTime to it")
        return query


class SenderSettings(Section):
    """``[sources.<name>]``: who sends, and who knows how much there is.

    Attributes
    ----------
    aet
        Calling AE title; ``*`` is everybody that has no table.
    ask
        Destination that is asked how many Instances there are; empty: nobody, or the sender itself.
    host, port, url
        Where the sender itself answers C-FIND, or QIDO-RS.
    sends
        Whether a Series that it holds, and of which nothing came, is waited for.
    quiet_seconds
        Instead of that of ``[assembly]``; None: that one.
    retrieve
        How Studies are fetched from whoever is asked.
    hours
        When; empty: always.
    per_minute
        How many of them are begun a minute at most; 0 sets no limit.
    poll
        None: nothing is fetched that nobody asked for.
    """

    aet: AeTitle
    ask: str = ""
    host: HostName | Literal[""] = ""
    port: Port = 0
    url: Annotated[str, Field(pattern=r"^(https?://.*)?$")] = ""
    sends: Literal["studies", "series"] = "studies"
    quiet_seconds: Seconds | None = None
    retrieve: Retrieve = Retrieve.AUTO
    hours: Annotated[str, Field(pattern=HOURS_PATTERN)] = ""
    per_minute: Annotated[int, Field(ge=0)] = 0
    poll: PollSettings | None = None

    @model_validator(mode="after")
    def _can_be_fetched_from(self) -> "SenderSettings":
        if self.says_how_to_fetch and not (self.ask or self.host or self.url):
            raise ValueError("retrieve, hours, per_minute and poll need ask, host or url: who is fetched from")
        if self.host and self.retrieve is Retrieve.WADO:
            raise ValueError("retrieve is 'wado', and host is asked by DICOM; say 'move' or 'get', or give url")
        return self

    @property
    def says_how_to_fetch(self) -> bool:
        """Whether it says more of fetching than its absence would."""
        return bool(self.hours or self.per_minute or self.poll) or self.retrieve is not Retrieve.AUTO

    @model_validator(mode="after")
    def _one_is_asked(self) -> "SenderSettings":
        if bool(self.ask) + bool(self.host) + bool(self.url) > 1:
            raise ValueError("ask, host and url exclude each other; say who is asked, once")
        if bool(self.host) != bool(self.port):
            raise ValueError("host and port belong together")
        if self.host and self.aet == "*":
            raise ValueError("host needs the aet that is called there, and * is none; name a destination in ask")
        return self


class Settings(Section):
    """All settings of one process.

    Attributes
    ----------
    rules
        ``[[rules]]`` as plain tables; the rules' own grammar checks them (`node.rules.grammar`).
    """

    node: NodeSettings
    broker: BrokerSettings
    ledger: LedgerSettings
    store: StoreSettings
    assembly: AssemblySettings
    dispatch: DispatchSettings
    delivery: DeliverySettings
    results: ResultsSettings
    retention: RetentionSettings
    alarms: AlarmSettings
    metrics: MetricsSettings
    tracing: TracingSettings
    viewer: ViewerSettings
    models: ModelsSettings
    web: WebSettings
    security: SecuritySettings
    hl7: Hl7Settings
    orders: OrdersSettings
    worklist: WorklistSettings
    log: LogSettings
    pipelines: Mapping[str, PipelineSettings]
    destinations: Mapping[str, DestinationSettings] = Field(default_factory=dict)
    sources: Mapping[str, SenderSettings] = Field(default_factory=dict)
    rules: tuple[dict[str, Any], ...] = ()
    _origins: Origins = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: object) -> None:
        """Keep where the values are from; the loader hands it in."""
        self._origins = context if isinstance(context, Mapping) else {}

    @property
    def origins(self) -> Origins:
        """Dotted key to where its value stands; what is absent is a default."""
        return self._origins

    @model_validator(mode="after")
    def _expected_pipelines_exist(self) -> "Settings":
        for entry in self.alarms.pipelines:
            if entry.pipeline not in self.pipelines:
                known = ", ".join(self.pipelines)
                raise ValueError(f"alarms.pipelines names {entry.pipeline!r}, which is no pipeline; known are {known}")
        return self

    @model_validator(mode="after")
    def _asked_destinations_exist(self) -> "Settings":
        for name, entry in self.sources.items():
            asked = self.destinations.get(entry.ask)
            if entry.ask and (asked is None or asked.transport not in HOLDING):
                known = ", ".join(one for one, told in self.destinations.items() if told.transport in HOLDING)
                raise ValueError(
                    f"sources.{name}.ask names {entry.ask!r}, which is no destination that can be asked; known are "
                    f"{known or 'none'}"
                )
            if (entry.host or entry.url) and name in self.destinations:
                raise ValueError(f"sources.{name} has the name of a destination; give it another one, or ask that")
        asked = self.destinations.get(self.worklist.ask)
        if self.worklist.ask and (asked is None or asked.transport != "cstore"):
            raise ValueError(f"worklist.ask names {self.worklist.ask!r}, which is no destination of transport 'cstore'")
        telling = [entry.ask for entry in self.sources.values() if entry.ask and entry.says_how_to_fetch]
        if len(set(telling)) < len(telling):
            raise ValueError("two of sources say how to fetch from one destination; say it once")
        aets = [entry.aet for entry in self.sources.values()]
        if len(set(aets)) < len(aets):
            raise ValueError("two of sources have one aet")
        return self

    @property
    def store_root(self) -> Path:
        """Folder of the store."""
        return Path(self.store.url) if self.store.url else self.node.data_dir / "store"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger.url.get_secret_value() or f"sqlite:///{self.node.data_dir.resolve() / 'ledger.sqlite'}"

    @property
    def model_dirs(self) -> tuple[Path, ...]:
        """Folders with model folders of the site: those of ``models.dirs``, then the one of the node itself."""
        return (*self.models.dirs, self.node.data_dir / MODELS_FOLDER)

    @property
    def broker_dir(self) -> Path:
        """Folder in which an embedded broker keeps its files."""
        return self.node.data_dir / "broker"

    @property
    def layouts_dir(self) -> Path:
        """Folder with what calibrations of the models chose."""
        return self.node.data_dir / LAYOUTS_FOLDER

    def with_broker(self, url: str) -> "Settings":
        """Return these settings with the broker that really runs."""
        return self.model_copy(update={"broker": self.broker.model_copy(update={"url": SecretStr(url)})})

    def offline(self, data_dir: Path, *, rules: tuple[dict[str, Any], ...]) -> "Settings":
        """Return these settings for a node that lives in `data_dir` alone and knows no Destination."""
        changes: dict[str, Any] = {
            "node": self.node.model_copy(update={"data_dir": data_dir}),
            "ledger": self.ledger.model_copy(update={"url": SecretStr("")}),
            "store": self.store.model_copy(update={"url": ""}),
            "log": self.log.model_copy(update={"level": "ERROR"}),
            "web": self.web.model_copy(update={"port": 0}),
            "hl7": self.hl7.model_copy(update={"port": 0}),
            "worklist": self.worklist.model_copy(update={"ask": "", "aet": "", "host": "", "port": 0}),
            "models": self.models.model_copy(update={"dirs": self.model_dirs}),
            # Nobody waits for a second attempt; what failed once is reported.
            "dispatch": self.dispatch.model_copy(update={"max_attempts": 1}),
            "destinations": {},
            "sources": {},
            # Nothing comes after what there is; no maximum age is waited for either.
            "assembly": self.assembly.model_copy(update={"evidence": ("association-end", "quiet-time")}),
            "rules": rules,
        }
        return self.model_copy(update=changes)

    def as_environment(self) -> dict[str, str]:
        """Return variables from which another process loads these very settings."""
        # TOML has no word for none; what is none by default is left out.
        table = self.model_dump(mode="json", exclude_none=True)
        table["broker"]["url"] = self.broker.url.get_secret_value()
        table["ledger"]["url"] = self.ledger.url.get_secret_value()
        table["alarms"]["webhook"] = self.alarms.webhook.get_secret_value()
        table["web"]["oidc"]["client_secret"] = self.web.oidc.client_secret.get_secret_value()
        for name, entry in self.destinations.items():
            table["destinations"][name]["token"] = entry.token.get_secret_value()
        # Whole, because a name in the name of a variable would lose its capitals.
        whole = ("rules", *sorted(NAMED_TABLES))
        flat = {f"{ENVIRONMENT_PREFIX}{key.upper()}": _to_toml(table.pop(key)) for key in whole}
        _flatten(table, ENVIRONMENT_PREFIX, flat)
        flat[ORIGINS_VARIABLE] = encode_origins(self.origins)
        return flat


def shipped_file() -> Path:
    """Return the `settings.toml` that holds every default.

    Raises
    ------
    SettingsInvalid
        If this installation lacks it.
    """
    beside_package = Path(__file__).resolve().parent.parent / FILE_NAME
    installed = Path(sys.prefix) / "share" / "radnode" / FILE_NAME
    for path in (beside_package, installed):
        if path.is_file():
            return path
    raise SettingsInvalid(f"{installed} is absent; reinstall radnode")


def load_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the defaults, then `path`, then the environment.

    Raises
    ------
    SettingsInvalid
        If a file is absent or no TOML, a key is unknown, or a value is out of range.
    """
    table = _read_toml(shipped_file())
    file = {} if path is None else _read_toml(path)
    _overlay(table, file, where=str(path))
    variables = os.environ if environment is None else environment
    named = _from_environment(variables, defaults=table)
    _overlay(table, named, where="environment")
    if ORIGINS_VARIABLE in variables:
        return check_settings(table, decode_origins(variables[ORIGINS_VARIABLE]))
    said_by = {_dotted(name): f"environment {name}" for name in variables if name.startswith(ENVIRONMENT_PREFIX)}
    return check_settings(table, origins_of(file, str(path), said_by, named))


def check_settings(table: Mapping[str, Any], origins: Origins | None = None) -> Settings:
    """Return `table` as Settings.

    Parameters
    ----------
    origins
        Where its values stand, those that are no defaults.

    Raises
    ------
    SettingsInvalid
        If a key is unknown (naming the nearest known one) or a value is out of range.
    """
    try:
        return Settings.model_validate(_add_rules_of_pipelines(table), context=origins)
    except ValidationError as exc:
        raise SettingsInvalid("; ".join(_say(error) for error in exc.errors())) from exc


def _add_rules_of_pipelines(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `table` with a rule for each Pipeline whose table says when it runs."""
    pipelines = table.get("pipelines")
    if not isinstance(pipelines, Mapping):
        return table
    own = {name: entry for name, entry in pipelines.items() if isinstance(entry, Mapping) and WHEN in entry}
    plain = {name: {key: entry[key] for key in entry if key not in RULE_KEYS} for name, entry in own.items()}
    rules = [
        {"name": name, "run": [name], **{key: entry[key] for key in RULE_KEYS if key in entry}}
        for name, entry in own.items()
    ]
    return {**table, "pipelines": {**pipelines, **plain}, "rules": [*table.get("rules", ()), *rules]}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise SettingsInvalid(f"{path} does not exist; copy settings.toml there or correct --settings") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise SettingsInvalid(f"{path} cannot be read as TOML: {exc}") from exc


def _overlay(base: dict[str, Any], over: Mapping[str, Any], *, where: str) -> None:
    for section in NAMED_TABLES & base.keys() & over.keys():
        for name, entry in _as_table(over[section], section, where).items():
            _as_table(entry, f"{section}.{name}", where)
    _merge(base, over)


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value


def _as_table(entry: object, key: str, where: str) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise SettingsInvalid(f"{key} ({where}) must be a table of keys; see settings.toml")
    return entry


def _dotted(variable: str) -> str:
    return variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")


def _from_environment(environment: Mapping[str, str], *, defaults: Mapping[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        *sections, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        target, default = table, defaults
        for section in sections:
            target, default = target.setdefault(section, {}), default.get(section, {})
            if not isinstance(target, dict) or not isinstance(default, Mapping):
                raise SettingsInvalid(f"environment {variable}: {section} is no table of keys; see settings.toml")
        target[key] = _from_text(text, default=default.get(key))
    return table


def _from_text(text: str, *, default: object) -> object:
    # A value that is TOML (number, true, list, table) is that; anything else is the text itself.
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    # An AE title may be 123.
    return text if isinstance(default, str) and not isinstance(value, str) else value


def _flatten(table: Mapping[str, Any], prefix: str, into: dict[str, str]) -> None:
    for key, value in table.items():
        if isinstance(value, Mapping):
            _flatten(value, f"{prefix}{key.upper()}__", into)
        else:
            into[f"{prefix}{key.upper()}"] = _to_toml(value)


def _to_toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return "[" + ", ".join(_to_toml(item) for item in value) + "]"
        case dict():
            return "{ " + ", ".join(f"{_to_toml(str(k))} = {_to_toml(v)}" for k, v in value.items()) + " }"
        case _:
            return str(value)


def _say(error: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        return f"unknown setting {key}; " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}")
    if error["type"] == "missing":
        return f"setting {key} is missing; see settings.toml"
    return f"setting {key}: {error['msg']}"


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    inner: dict[tuple[str, ...], type[BaseModel]] = {
        ("pipelines",): PipelineSettings,
        ("destinations",): DestinationSettings,
        ("sources",): SenderSettings,
        ("sources", "poll"): PollSettings,
        ("destinations", "tls"): DestinationTls,
        ("security", "tls"): TlsSettings,
        ("hl7", "tls"): TlsSettings,
        ("web", "tls"): WebTlsSettings,
        ("web", "oidc"): OidcSettings,
    }
    tables = tuple(map(str, location))
    if tables[:1] and tables[0] in NAMED_TABLES:
        # The second is a name that a site chose.
        tables = (tables[0], *tables[2:])
    model: type[BaseModel] = Settings
    if tables:
        annotation = inner.get(tables) or model.model_fields[tables[0]].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return sorted(model.model_fields)
