"""WADO-RS: whole Instances as they were received, their metadata and bulk data (PS3.18 10.4)."""

import json
import logging
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from node.errors import FileUnreadable
from node.header.scan import EXPLICIT_LITTLE_ENDIAN
from node.ledger.holdings import Holding
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
    bytes_response,
    is_known,
    multipart_response,
    not_modified,
    region_response,
    tag_of,
)
from node.web.places import DICOM_WEB, INSTANCE, SERIES, STUDY, Shelf, open_shelf, url_of
from node.web.rights import Right, authorize
from node.web.services import Services

logger = logging.getLogger(__name__)

METADATA = (Offer(name=DICOM_JSON), Offer(name="application/json"), Offer(name=DICOM_XML, is_multipart=True))
# Headers that one request to the pool reads: the way there costs as much as reading one.
HEADERS_AT_ONCE = 16


def router(services: Services) -> APIRouter:
    """Return the routes that retrieve Instances and metadata, and those that refuse to delete."""
    routes, shelf = APIRouter(prefix=DICOM_WEB, dependencies=[Depends(authorize(Right.READ))]), open_shelf(services)

    @routes.get(STUDY)
    @routes.get(SERIES)
    def retrieve(request: Request, study: str, series: str = "") -> Response:
        return _many(shelf, request, shelf.find(study, series))

    @routes.get(INSTANCE)
    def retrieve_instance(request: Request, study: str, series: str, instance: str) -> Response:
        return _one(shelf, request, shelf.one(study, series, instance))

    @routes.get(f"{STUDY}/metadata")
    @routes.get(f"{SERIES}/metadata")
    @routes.get(f"{INSTANCE}/metadata")
    def metadata(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        return _metadata(shelf, request, shelf.find(study, series, instance))

    @routes.delete(STUDY, dependencies=[Depends(authorize(Right.DELETE))])
    @routes.delete(SERIES, dependencies=[Depends(authorize(Right.DELETE))])
    @routes.delete(INSTANCE, dependencies=[Depends(authorize(Right.DELETE))])
    def delete() -> None:
        """Never get here: nobody has the right."""

    return routes


def _offers(holding: Holding) -> Sequence[Offer]:
    stored = holding.transfer_syntax_uid
    offers = [Offer(name=DICOM, is_multipart=alone, transfer_syntax_uid=stored) for alone in (True, False)]
    if stored != EXPLICIT_LITTLE_ENDIAN:
        plain = EXPLICIT_LITTLE_ENDIAN
        offers += [Offer(name=DICOM, is_multipart=alone, transfer_syntax_uid=plain) for alone in (True, False)]
    return offers


def _many(shelf: Shelf, request: Request, holdings: Sequence[Holding]) -> Response:
    accepted = accepted_by(request)
    # Of all of them before the first is sent: afterwards nothing can be refused.
    chosen = [_choose_multipart(accepted, holding) for holding in holdings]
    parts = (
        _part(shelf, request, holding, offer, is_under_way=number > 0)
        for number, (holding, offer) in enumerate(zip(holdings, chosen, strict=True))
    )
    return multipart_response(parts, kind=DICOM)


def _choose_multipart(accepted: Sequence[MediaRange], holding: Holding) -> Offer:
    return choose(accepted, [offer for offer in _offers(holding) if offer.is_multipart])


def _one(shelf: Shelf, request: Request, holding: Holding) -> Response:
    offer = choose(accepted_by(request), _offers(holding))
    is_stored = offer.transfer_syntax_uid == holding.transfer_syntax_uid
    tag = tag_of(holding.digest, offer.form)
    if is_known(request, tag):
        return not_modified(tag)
    if offer.is_multipart:
        return multipart_response([_part(shelf, request, holding, offer)], kind=DICOM, headers={"ETag": tag})
    media_type = f"{DICOM}; transfer-syntax={offer.transfer_syntax_uid}"
    if is_stored:
        return region_response(request, Region(path=shelf.path(holding)), media_type=media_type, tag=tag)
    return bytes_response(request, shelf.pixels.transcode(str(shelf.path(holding))), media_type=media_type, tag=tag)


def _part(shelf: Shelf, request: Request, holding: Holding, offer: Offer, *, is_under_way: bool = False) -> Part:
    return Part(
        media_type=f"{DICOM}; transfer-syntax={offer.transfer_syntax_uid}",
        content=_content(shelf, holding, offer.transfer_syntax_uid, is_under_way=is_under_way),
        location=url_of(request, holding),
    )


def _content(shelf: Shelf, holding: Holding, transfer_syntax_uid: str, *, is_under_way: bool) -> Iterator[bytes]:
    if transfer_syntax_uid == holding.transfer_syntax_uid:
        yield from Region(path=shelf.path(holding)).chunks()
    else:
        yield shelf.pixels.transcode(str(shelf.path(holding)), is_under_way=is_under_way)


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
        return multipart_response(parts, kind=DICOM_XML)
    return StreamingResponse(_array(groups), media_type=offer.name)


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
            _tell_unread(group[unread.place], unread.code)
        if found.content:
            is_under_way = True
            yield found.content


def _tell_unread(holding: Holding, code: str) -> None:
    named = {
        "study_uid": holding.study_instance_uid,
        "series_uid": holding.series_instance_uid,
        "instance_uid": holding.sop_instance_uid,
    }
    logger.error("instance not read", extra={"reason_code": code, **named})


def _array(groups: Iterator[bytes]) -> Iterator[bytes]:
    before = b"["
    for group in groups:
        yield before + group
        before = b","
    yield b"]"
