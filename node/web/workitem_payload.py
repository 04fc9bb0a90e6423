"""What requests about workitems hold, and what answers hold: one data set, in JSON or XML (PS3.18 11, F.2)."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Request, Response

from node.domain.workitem import DataSet
from node.errors import MediaTypeNotSupported, NodeError, RequestMalformed, TooComplex
from node.header.json_model import read_model, write_model
from node.web.body import Basket, Body
from node.web.native import MAX_DEPTH, dataset_response, from_xml
from node.web.negotiation import DICOM_JSON, DICOM_XML, Offer, accepted_by, choose, parse_media_type

# As over DIMSE: a step on 10,000 Instances has 1 MB.
MAX_BYTES = 4 * 2**20
KINDS = (DICOM_JSON, "application/json", DICOM_XML)
ANSWERS = tuple(Offer(name=kind) for kind in KINDS)
# Of the message, or of the file that a data set may have come from.
NOT_OF_DATA_SETS = ("0000", "0002")
TAG_DIGITS = 8


class PayloadReader:
    """Reads the data set of a request, within limits.

    Parameters
    ----------
    silence_s
        Longest time without a byte.
    limiter
        How many threads may work on bodies at a time.
    """

    def __init__(self, *, silence_s: float, limiter: CapacityLimiter) -> None:
        self._silence_s = silence_s
        self._limiter = limiter

    async def read(self, request: Request, *, is_optional: bool = False) -> DataSet:
        """Return the data set of a request; an empty one where it has no body and needs none.

        Raises
        ------
        MediaTypeNotSupported
            If it is neither JSON nor XML.
        TooLarge, RequestStalled
            If there is too much of it, or it does not come.
        RequestMalformed, NotDicom
            If it cannot be read.
        """
        body = Body(request, silence_s=self._silence_s, limiter=self._limiter)
        basket = Basket(MAX_BYTES)
        try:
            kind = _kind_of(request, is_optional=is_optional)
            await body.pour(basket.put)
        except NodeError:
            await body.drain()
            raise
        if is_optional and not basket.content:
            return {}
        return await run_sync(parse_payload, kind, bytes(basket.content), limiter=self._limiter)


def parse_payload(kind: str, content: bytes) -> DataSet:
    """Return the data set of a body, as this node writes it: every value is one of its Value Representation.

    Raises
    ------
    RequestMalformed
        If it is no JSON or XML, or no one data set.
    NotDicom
        If a value is not what its Value Representation says, or sequences nest too deep.
    """
    model = from_xml(content) if kind == DICOM_XML else _from_json(content)
    _check_model(model, depth=0)
    kept = {tag: element for tag, element in model.items() if not tag.startswith(NOT_OF_DATA_SETS)}
    return read_model(write_model(kept, is_implicit=False), is_implicit=False)


def workitem_response(request: Request, attributes: DataSet, *, headers: Mapping[str, str]) -> Response:
    """Return one workitem in what the request accepts.

    Raises
    ------
    NotAcceptable
        If it accepts neither JSON nor XML.
    """
    offer = choose(accepted_by(request), ANSWERS)
    return dataset_response(attributes, media_type=offer.name, status=HTTPStatus.OK, headers=headers)


def _kind_of(request: Request, *, is_optional: bool) -> str:
    told = request.headers.get("content-type", "")
    if not told and is_optional:
        return DICOM_JSON
    name = parse_media_type(told).name if told else ""
    if name not in KINDS or request.headers.get("content-encoding", "identity").lower() != "identity":
        raise MediaTypeNotSupported(f"the node reads {', '.join(KINDS)}; correct the client")
    return name


def _from_json(content: bytes) -> Any:
    try:
        found = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        # Its text may quote a value.
        raise RequestMalformed("the body is no JSON; correct the client") from exc
    # Some clients send the array that several data sets would be in (PS3.18 F.2.2).
    return found[0] if isinstance(found, list) and len(found) == 1 else found


def _refuse_constant(_: str) -> None:
    raise ValueError("JSON has no such number")


def _check_model(model: Any, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TooComplex(f"sequences nest deeper than {MAX_DEPTH}; correct the client")
    if not isinstance(model, dict):
        raise RequestMalformed("the body is no data set of the DICOM JSON Model, or more than one; correct the client")
    for tag, element in model.items():
        if not (_is_tag(tag) and isinstance(element, dict) and isinstance(element.get("vr"), str)):
            raise RequestMalformed("an element has no tag of eight digits, or no vr; correct the client")
        values = element.get("Value", [])
        if "BulkDataURI" in element or not isinstance(values, list):
            raise RequestMalformed(f"({tag[:4]},{tag[4:]}) has its value elsewhere, or in no list; correct the client")
        if element["vr"] == "SQ":
            for item in values:
                _check_model(item or {}, depth=depth + 1)


def _is_tag(text: str) -> bool:
    return len(text) == TAG_DIGITS and all(digit in "0123456789abcdefABCDEF" for digit in text)
