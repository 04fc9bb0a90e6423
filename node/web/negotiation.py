"""Media types: what a request holds, what it accepts, and which of our offers fits best (PS3.18 8.7, RFC 9110 12)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from fastapi import Request

from node.errors import NotAcceptable, RequestMalformed

WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
MEDIA_TYPE = re.compile(rf"\s*(?P<type>{WORD}/{WORD})\s*")
# A value without quotes may hold more than it should: many clients write type=application/dicom.
PARAMETER = re.compile(rf';\s*(?:(?P<name>{WORD})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s;,"]+)))?\s*')
QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\Z")
MULTIPART_RELATED = "multipart/related"
DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
OCTETS = "application/octet-stream"
ANY = "*/*"
ANY_SYNTAX = "*"
DEFAULT_QUALITY = 1.0
# Longer than any client's; more ranges than this are read by nobody.
MAX_ACCEPT_CHARACTERS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType:
    """One media type.

    Attributes
    ----------
    name
        ``type/subtype`` in small letters.
    parameters
        Name in small letters to value, without its quotes.
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRange:
    """What a request accepts.

    Attributes
    ----------
    name
        ``type/subtype``, ``type/*`` or ``*/*``; of multipart/related what is in the parts.
    is_multipart
        Whether it asks for ``multipart/related; type=name``.
    transfer_syntax_uid
        As it says; ``*`` is any, and empty says nothing.
    quality
        Weight, 0-1; 0 is never.
    """

    name: str
    is_multipart: bool = False
    transfer_syntax_uid: str = ""
    quality: float = DEFAULT_QUALITY

    @property
    def precision(self) -> int:
        """How much it says; of two ranges that fit, that which says more counts (RFC 9110 12.5.1)."""
        if self.name == ANY:
            return 0
        return 1 if self.name.endswith("/*") else 2 + bool(self.transfer_syntax_uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the node can answer with; `transfer_syntax_uid` is empty where there is none."""

    name: str
    is_multipart: bool = False
    transfer_syntax_uid: str = ""

    @property
    def form(self) -> str:
        """A word for it in an ETag: each form of a content has one of its own (RFC 9110 8.8.3.3)."""
        return f"{crc32(repr((self.name, self.is_multipart, self.transfer_syntax_uid)).encode()):08x}"

    def fits(self, accepted: MediaRange) -> bool:
        """Return whether it lies in the range, whatever the weight."""
        if accepted.name == ANY and not accepted.is_multipart:
            return True
        if accepted.is_multipart != self.is_multipart:
            return False
        if accepted.transfer_syntax_uid not in ("", ANY_SYNTAX, self.transfer_syntax_uid):
            return False
        kind = self.name.partition("/")[0]
        return accepted.name in (self.name, f"{kind}/*", ANY)


def parse_media_type(text: str) -> MediaType:
    """Return the media type of a Content-Type.

    Raises
    ------
    RequestMalformed
        If it is none.
    """
    found, end = _read(text, 0)
    if end != len(text):
        raise RequestMalformed("Content-Type is no media type; correct the client")
    return found


def parse_accept(values: Iterable[str]) -> tuple[MediaRange, ...]:
    """Return what the values of Accept (or of the query parameter ``accept``) allow, in their order; none: anything.

    Raises
    ------
    RequestMalformed
        If one is no list of media ranges.
    """
    ranges: list[MediaRange] = []
    for text in values:
        if len(text) > MAX_ACCEPT_CHARACTERS:
            raise RequestMalformed(f"Accept has more than {MAX_ACCEPT_CHARACTERS} characters; correct the client")
        at = 0
        while at < len(text):
            found, at = _read(text, at)
            ranges.append(_range_of(found))
            if at < len(text) and text[at] != ",":
                raise RequestMalformed(f"Accept cannot be understood after character {at}; correct the client")
            at += 1
    return tuple(ranges) or (MediaRange(name=ANY),)


def accepted_by(request: Request) -> tuple[MediaRange, ...]:
    """Return what `request` accepts; the query parameter ``accept`` counts before the header (PS3.18 8.3.3.1).

    Raises
    ------
    RequestMalformed
        If what it says cannot be understood.
    """
    asked = request.query_params.getlist("accept")
    return parse_accept(asked or request.headers.getlist("accept"))


def choose(accepted: Sequence[MediaRange], offers: Sequence[Offer]) -> Offer:
    """Return the offer with the greatest weight; of equal ones the first.

    Raises
    ------
    NotAcceptable
        If none fits.
    """
    weights = [_weight(offer, accepted) for offer in offers]
    best = max(weights, default=0.0)
    if best <= 0:
        raise NotAcceptable(f"nothing that is accepted can be had here; the node has {', '.join(map(_show, offers))}")
    return offers[weights.index(best)]


def _weight(offer: Offer, accepted: Sequence[MediaRange]) -> float:
    fitting = [(found.precision, found.quality) for found in accepted if offer.fits(found)]
    return max(fitting, default=(0, 0.0))[1]


def _show(offer: Offer) -> str:
    name = f'{MULTIPART_RELATED}; type="{offer.name}"' if offer.is_multipart else offer.name
    return f"{name}; transfer-syntax={offer.transfer_syntax_uid}" if offer.transfer_syntax_uid else name


def _range_of(media_type: MediaType) -> MediaRange:
    parameters = media_type.parameters
    quality = parameters.get("q", "1")
    if not QUALITY.match(quality):
        raise RequestMalformed("a q in Accept is no weight from 0 to 1; correct the client")
    is_multipart = media_type.name == MULTIPART_RELATED
    return MediaRange(
        name=parameters.get("type", ANY).lower() if is_multipart else media_type.name,
        is_multipart=is_multipart,
        transfer_syntax_uid=parameters.get("transfer-syntax", ""),
        quality=float(quality),
    )


def _read(text: str, at: int) -> tuple[MediaType, int]:
    found = MEDIA_TYPE.match(text, at)
    if found is None:
        raise RequestMalformed(f"no media type at character {at} of a header; correct the client")
    parameters: dict[str, str] = {}
    at = found.end()
    while (parameter := PARAMETER.match(text, at)) is not None:
        if parameter["name"] is not None:
            quoted = parameter["quoted"]
            value = parameter["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            # A second one of the name is no news.
            parameters.setdefault(parameter["name"].lower(), value)
        at = parameter.end()
    return MediaType(name=found["type"].lower(), parameters=parameters), at
