"""WADO-RS: whole Instances as they were received, their metadata and bulk data (PS3.18 10.4)."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from node.errors import FileUnreadable
from node.header.scan import EXPLICIT_LITTLE_ENDIAN
from node.ledger.holdings import Holding
from node.web.gathering import Reading, count_classes, gather
from node.web.native import to_xml
from node.web.negotiation import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    MediaRange,
    Offer,
    accepted_by,
    choose,
)
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
from node.web.places import DICOM_WEB, INSTANCE, SERIES, STUDY, Reader, Shelf, open_shelf, url_of
from node.web.services import Services

METADATA = (Offer(name=DICOM_JSON), Offer(name="application/json"), Offer(name=DICOM_XML, is_multipart=True))
# Headers that one request to the pool reads: the way there costs as much as reading one.
HEADERS_AT_ONCE = 16


def router(services: Services) -> APIRouter:
    """Return the routes that retrieve Instances and metadata."""
    routes, shelf, sees = APIRouter(prefix=DICOM_WEB), open_shelf(services), services.witnessing

    @routes.get(STUDY)
    @routes.get(SERIES)
    def retrieve(request: Request, visitor: Reader, study: str, series: str = "") -> Response:
        holdings = shelf.find(study, series)
        sees.retrieved(request, visitor, study, count_classes(holdings))
        return _many(Reading(shelf=shelf, request=request, visitor=visitor), holdings)

    @routes.get(INSTANCE)
    def retrieve_instance(request: Request, visitor: Reader, study: str, series: str, instance: str) -> Response:
        holding = shelf.one(study, series, instance)
        sees.retrieved(request, visitor, study, count_classes([holding]))
        return _one(shelf, request, holding)

    @routes.get(f"{STUDY}/metadata")
    @routes.get(f"{SERIES}/metadata")
    @routes.get(f"{INSTANCE}/metadata")
    def metadata(request: Request, visitor: Reader, study: str, series: str = "", instance: str = "") -> Response:
        holdings = shelf.find(study, series, instance)
        sees.saw(request, visitor, study)
        return _metadata(shelf, request, holdings)

    return routes


def _offers(holding: Holding) -> Sequence[Offer]:
    stored = holding.transfer_syntax_uid
    offers = [Offer(name=DICOM, is_multipart=alone, transfer_syntax_uid=stored) for alone in (True, False)]
    if stored != EXPLICIT_LITTLE_ENDIAN:
        plain = EXPLICIT_LITTLE_ENDIAN
        offers += [Offer(name=DICOM, is_multipart=alone, transfer_syntax_uid=plain) for alone in (True, False)]
    return offers


def _many(reading: Reading, holdings: Sequence[Holding]) -> Response:
    accepted = accepted_by(reading.request)
    # Of all of them before the first is sent: afterwards nothing can be refused.
    chosen = [(holding, _choose_multipart(accepted, holding)) for holding in holdings]

    def make(place: int, is_under_way: bool) -> Part:
        return _part(reading.shelf, reading.request, *chosen[place], is_under_way=is_under_way)

    return gather(reading, holdings, make, kind=DICOM)


def _choose_multipart(accepted: Sequence[MediaRange], holding: Holding) -> Offer:
    return choose(accepted, [offer for offer in _offers(holding) if offer.is_multipart])


def _one(shelf: Shelf, request: Request, holding: Holding) -> Response:
    offer = choose(accepted_by(request), _offers(holding))
    is_stored = offer.transfer_syntax_uid == holding.transfer_syntax_uid
    tag = tag_of(holding.digest, offer.form)
    if is_known(request, tag):
        return not_modified(tag)
    if offer.is_multipart:
        part = _part(shelf, request, holding, offer)
        return multipart_response([part], kind=DICOM, streamers=shelf.pixels.streamers, headers={"ETag": tag})
    media_type = f"{DICOM}; transfer-syntax={offer.transfer_syntax_uid}"
    if is_stored:
        return region_response(request, Region(path=shelf.whole(holding)), media_type=media_type, tag=tag)
    return cargo_response(request, shelf.pixels.transcode(str(shelf.path(holding))), media_type=media_type, tag=tag)


def _part(shelf: Shelf, request: Request, holding: Holding, offer: Offer, *, is_under_way: bool = False) -> Part:
    return Part(
        media_type=f"{DICOM}; transfer-syntax={offer.transfer_syntax_uid}",
        content=_content(shelf, holding, offer.transfer_syntax_uid, is_under_way=is_under_way),
        location=url_of(request, holding),
    )


def _content(shelf: Shelf, holding: Holding, transfer_syntax_uid: str, *, is_under_way: bool) -> Iterator[bytes]:
    if transfer_syntax_uid == holding.transfer_syntax_uid:
        yield from Region(path=shelf.whole(holding)).chunks()
    else:
        yield from shelf.pixels.transcode(str(shelf.path(holding)), is_under_way=is_under_way).chunks()


def _metadata(shelf: Shelf, request: Request, holdings: Sequence[Holding]) -> Response:
    offer = choose(accepted_by(request), METADATA)
    rest = _models(shelf, request, holdings)
    first = next(rest, None)
    if first is None:
        raise FileUnreadable("no file of what is asked for can be read; see the log of the node, and the store's disk")
    groups = chain([first], rest)
    if offer.name == DICOM_XML:
        parts = (
            Part(media_type=DICOM_XML, content=[to_xml(model)])
            for group in groups
            for model in json.loads(b"[" + group + b"]")
        )
        return multipart_response(parts, kind=DICOM_XML, streamers=shelf.pixels.streamers)
    return StreamingResponse(in_threads(_array(groups), shelf.pixels.streamers), media_type=offer.name)


def _models(shelf: Shelf, request: Request, holdings: Sequence[Holding]) -> Iterator[bytes]:
    """Yield the headers of some Instances after the other, as the inside of JSON arrays.

    Of many an Instance whose file cannot be read is left out, and told to the operator: it must not hide the others.

    Raises
    ------
    FileUnreadable
        If the only one cannot be read.
    """
    left, is_under_way = iter(holdings), False
    while group := list(islice(left, HEADERS_AT_ONCE)):
        urls = [f"{url_of(request, holding)}/bulkdata" for holding in group]
        paths = [str(shelf.path(holding)) for holding in group]
        found = shelf.pixels.models(paths, urls, is_under_way=is_under_way)
        if found.unread and len(holdings) == 1:
            raise FileUnreadable(found.unread[0].text)
        for unread in found.unread:
            shelf.leave_out(group[unread.place], unread.code)
        if found.content:
            is_under_way = True
            yield found.content


def _array(groups: Iterator[bytes]) -> Iterator[bytes]:
    before = b"["
    for group in groups:
        yield before + group
        before = b","
    yield b"]"
