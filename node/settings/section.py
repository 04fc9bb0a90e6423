"""A table of the settings, and the kinds of values in it."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Minutes = Annotated[float, Field(ge=0)]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,253}$")]
Port = Annotated[int, Field(ge=0, le=65535)]
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")]


class Section(BaseModel):
    """One table of the file; unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def can_be_asked(url: str) -> bool:
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
