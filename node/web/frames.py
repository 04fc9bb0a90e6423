"""WADO-RS: Frames as they are stored or decoded, and values that metadata leave out (PS3.18 10.4.1.1)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydicom.uid import UID

from node.errors import NotFound, RequestMalformed
from node.header.scan import EXPLICIT_LITTLE_ENDIAN
from node.ledger.holdings import Holding
from node.web.cargo import Cargo
from node.web.gathering import count_classes
from node.web.negotiation import ANY_SYNTAX, OCTETS, MediaRange, Offer, accepted_by, choose
from node.web.payload import (
    Part,
    Region,
    cargo_response,
    in_threads,
    is_known,
    multipart_response,
    not_modified,
    region_response,
    tag_of,
)
from node.web.places import DICOM_WEB, INSTANCE, Reader, Shelf, open_shelf, read_frame_numbers, url_of
from node.web.services import Services

PIXELS = frozenset({"7FE00008", "7FE00009", "7FE00010"})
TAG_DIGITS = 8
# Deeper than any IOD nests.
MAX_STEPS = 65
# What a code stream is called (PS3.18 table 8.7.3-5); the rest is JPEG.
MEDIA_TYPES: Mapping[str, str] = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.100": "video/mpeg",
    "1.2.840.10008.1.2.4.101": "video/mpeg",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.104": "video/mp4",
    "1.2.840.10008.1.2.4.105": "video/mp4",
    "1.2.840.10008.1.2.4.106": "video/mp4",
    "1.2.840.10008.1.2.4.107": "video/mp4",
    "1.2.840.10008.1.2.4.108": "video/mp4",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Frames of one Instance, in the form that was chosen."""

    holding: Holding
    numbers: Sequence[int]
    offer: Offer

    @property
    def is_stored(self) -> bool:
        """Whether they go out as code streams."""
        return self.offer.transfer_syntax_uid != EXPLICIT_LITTLE_ENDIAN

    @property
    def media_type(self) -> str:
        """Of each Frame."""
        return f"{self.offer.name}; transfer-syntax={self.offer.transfer_syntax_uid}"


def router(services: Services) -> APIRouter:
    """Return the routes that retrieve Frames and bulk data."""
    routes, shelf, sees = APIRouter(prefix=DICOM_WEB), open_shelf(services), services.witnessing

    @routes.get(f"{INSTANCE}/frames/{{numbers}}")
    def frames(request: Request, visitor: Reader, study: str, series: str, instance: str, numbers: str) -> Response:
        wanted, holding = read_frame_numbers(numbers), shelf.one(study, series, instance)
        sees.retrieved(request, visitor, study, count_classes([holding]))
        offer = _choose(accepted_by(request), holding, alone=len(wanted) == 1)
        return _frames(shelf, request, _Wanted(holding=holding, numbers=wanted, offer=offer))

    @routes.get(f"{INSTANCE}/bulkdata/{{place:path}}")
    def bulkdata(request: Request, visitor: Reader, study: str, series: str, instance: str, place: str) -> Response:
        steps, holding = _read_steps(place), shelf.one(study, series, instance)
        sees.retrieved(request, visitor, study, count_classes([holding]))
        if steps[0] in PIXELS and len(steps) == 1:
            return _pixels(shelf, request, holding)
        return _value(shelf, request, holding, steps)

    return routes


def _choose(accepted: Sequence[MediaRange], holding: Holding, *, alone: bool) -> Offer:
    """Return the form in which Frames go out: code streams as they are stored, but where decoded ones are asked for."""
    plain = _both(OCTETS, EXPLICIT_LITTLE_ENDIAN)
    uid = UID(holding.transfer_syntax_uid)
    offers = plain
    if uid.is_encapsulated:
        as_octets = _both(OCTETS, uid)
        # Octets without a Transfer Syntax are decoded ones (PS3.18 8.7.3.5.2); with any, they are the stored ones.
        takes_any = any(one.name == OCTETS and one.transfer_syntax_uid == ANY_SYNTAX for one in accepted)
        octets = [*as_octets, *plain] if takes_any else [*plain, *as_octets]
        offers = [*_both(MEDIA_TYPES.get(uid, "image/jpeg"), uid), *octets]
    return choose(accepted, [offer for offer in offers if offer.is_multipart or alone])


def _both(name: str, transfer_syntax_uid: str) -> list[Offer]:
    return [
        Offer(name=name, is_multipart=is_multipart, transfer_syntax_uid=transfer_syntax_uid)
        for is_multipart in (True, False)
    ]


def _frames(shelf: Shelf, request: Request, wanted: _Wanted) -> Response:
    holding, offer = wanted.holding, wanted.offer
    tag = tag_of(holding.digest, f"{','.join(map(str, wanted.numbers))}-{offer.form}")
    if is_known(request, tag):
        return not_modified(tag)
    if not offer.is_multipart:
        (cargo,) = _cargoes(shelf, wanted)
        return cargo_response(request, cargo, media_type=wanted.media_type, tag=tag)
    count = shelf.pixels.place(str(shelf.path(holding)))["frames"]
    if max(wanted.numbers) > count:
        # Later, when the first are on their way, it could not be told.
        raise NotFound(f"instance {holding.sop_instance_uid} has Frames 1 to {count}")
    address = url_of(request, holding)
    parts = (
        Part(media_type=wanted.media_type, content=cargo.chunks(), location=f"{address}/frames/{number}")
        for number, cargo in zip(wanted.numbers, _cargoes(shelf, wanted), strict=True)
    )
    return multipart_response(parts, kind=offer.name, streamers=shelf.pixels.streamers, headers={"ETag": tag})


def _cargoes(shelf: Shelf, wanted: _Wanted) -> Iterator[Cargo]:
    path = str(shelf.path(wanted.holding))
    for place, number in enumerate(wanted.numbers):
        yield shelf.pixels.frame(path, number, is_stored=wanted.is_stored, is_under_way=place > 0)


def _pixels(shelf: Shelf, request: Request, holding: Holding) -> Response:
    """Return all pixels: a part for each code stream, or one for all of what is not compressed."""
    place = shelf.pixels.place(str(shelf.path(holding)))
    is_encapsulated = UID(holding.transfer_syntax_uid).is_encapsulated
    offer = _choose(accepted_by(request), holding, alone=not is_encapsulated or place["frames"] == 1)
    wanted = _Wanted(holding=holding, numbers=range(1, place["frames"] + 1), offer=offer)
    if is_encapsulated:
        return _frames(shelf, request, wanted)
    tag = tag_of(holding.digest, f"pixels-{offer.form}")
    if is_known(request, tag):
        return not_modified(tag)
    if "offset" not in place:
        part = Part(media_type=wanted.media_type, content=_chunks(shelf, wanted))
    else:
        region = Region(path=shelf.path(holding), offset=place["offset"], size_bytes=place["length"])
        if not offer.is_multipart:
            return region_response(request, region, media_type=wanted.media_type, tag=tag)
        part = Part(media_type=wanted.media_type, content=region.chunks())
    if not offer.is_multipart:
        content = in_threads(iter(part.content), shelf.pixels.streamers)
        return StreamingResponse(content, media_type=wanted.media_type, headers={"ETag": tag})
    return multipart_response([part], kind=OCTETS, streamers=shelf.pixels.streamers, headers={"ETag": tag})


def _chunks(shelf: Shelf, wanted: _Wanted) -> Iterator[bytes]:
    """Yield the Frames as one value; the first is read before the answer begins."""
    cargoes = _cargoes(shelf, wanted)
    first = next(cargoes)
    return (chunk for cargo in chain([first], cargoes) for chunk in cargo.chunks())


def _value(shelf: Shelf, request: Request, holding: Holding, steps: Sequence[str]) -> Response:
    offer = choose(accepted_by(request), [Offer(name=OCTETS, is_multipart=True), Offer(name=OCTETS)])
    tag = tag_of(holding.digest, f"{'.'.join(steps)}-{offer.form}")
    if is_known(request, tag):
        return not_modified(tag)
    cargo = shelf.pixels.value(str(shelf.path(holding)), steps)
    if offer.is_multipart:
        part = Part(media_type=OCTETS, content=cargo.chunks())
        return multipart_response([part], kind=OCTETS, streamers=shelf.pixels.streamers, headers={"ETag": tag})
    return cargo_response(request, cargo, media_type=OCTETS, tag=tag)


def _read_steps(place: str) -> Sequence[str]:
    """Return the tags and item numbers of an address: the tag of the value, or of a sequence, an item, and so on."""
    steps = place.upper().split("/")
    tags, items = steps[::2], steps[1::2]
    are_tags = all(len(step) == TAG_DIGITS and set(step) <= set("0123456789ABCDEF") for step in tags)
    are_items = all(step.isascii() and step.isdigit() and len(step) < TAG_DIGITS for step in items)
    if not are_tags or not are_items or len(steps) % 2 == 0 or len(steps) > MAX_STEPS:
        raise RequestMalformed("bulk data are addressed as the metadata say: a tag, or sequence/item/tag")
    return steps
