"""Settings of other systems: where Results go, who sends, and who is asked."""

from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from node.domain.confirmation import ConfirmBy
from node.domain.fetch import Retrieve, check_query
from node.domain.fetch_terms import HOURS_PATTERN, SPAN_PATTERN
from node.errors import QueryRefused
from node.settings.section import AeTitle, HostName, Port, PositiveSeconds, Seconds, Section

# Transports by which a Destination can be asked what it holds.
HOLDING = frozenset({"cstore", "stow"})


class DeliverySettings(Section):
    """``[delivery]``: how long and how often a Destination is tried."""

    first_retry_seconds: PositiveSeconds
    max_retry_seconds: PositiveSeconds
    give_up_days: PositiveSeconds
    timeout_s: PositiveSeconds
    confirm_after_seconds: PositiveSeconds
    confirm_minutes: PositiveSeconds
    confirm_tries: Annotated[int, Field(ge=1, le=20)]


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
