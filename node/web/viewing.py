"""WADO-RS: Frames as pictures for people, and thumbnails (PS3.18 10.4.1.1.3 and 8.3.5)."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from zlib import crc32

from fastapi import APIRouter, Request, Response

from node.errors import RequestMalformed
from node.ledger.holdings import Holding
from node.web.gathering import Reading, gather
from node.web.look import JPEG, PNG, Look, Viewport, Window
from node.web.negotiation import Offer, accepted_by, choose
from node.web.payload import Part, cargo_response, is_known, not_modified, tag_of
from node.web.places import DICOM_WEB, INSTANCE, SERIES, STUDY, Reader, Shelf, open_shelf, read_frame_numbers, url_of
from node.web.services import Services

OFFERS = (Offer(name=JPEG), Offer(name=PNG))
TOGETHER = (Offer(name=JPEG, is_multipart=True), Offer(name=PNG, is_multipart=True))
FUNCTIONS: Mapping[str, str] = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
DEFAULT_QUALITY, BEST_QUALITY = 90, 100
QUALITY = re.compile(r"[0-9]{1,3}\Z")
THUMBNAIL = Viewport(width=200, height=200)
# Of the picture that comes out; no screen has more.
MAX_EXTENT = 16_384
MAX_PICTURE_PIXELS = 2**26
# What the picture then lacks: nothing is written into it, and its colors are those of the Instance.
NOT_SUPPORTED = ("annotation", "iccprofile")


def router(services: Services) -> APIRouter:
    """Return the routes that show."""
    routes, shelf, sees = APIRouter(prefix=DICOM_WEB), open_shelf(services), services.witnessing

    @routes.get(f"{STUDY}/rendered")
    @routes.get(f"{SERIES}/rendered")
    def rendered_together(request: Request, visitor: Reader, study: str, series: str = "") -> Response:
        holdings = shelf.find(study, series)
        sees.saw(request, visitor, study)
        return _show_all(Reading(shelf=shelf, request=request, visitor=visitor), holdings)

    @routes.get(f"{INSTANCE}/rendered")
    def rendered(request: Request, visitor: Reader, study: str, series: str, instance: str) -> Response:
        holding = shelf.one(study, series, instance)
        sees.saw(request, visitor, study)
        return _show(shelf, request, holding, number=1)

    @routes.get(f"{INSTANCE}/frames/{{numbers}}/rendered")
    def rendered_frame(
        request: Request, visitor: Reader, study: str, series: str, instance: str, numbers: str
    ) -> Response:
        holding, number = shelf.one(study, series, instance), _read_number(numbers)
        sees.saw(request, visitor, study)
        return _show(shelf, request, holding, number=number)

    @routes.get(f"{STUDY}/thumbnail")
    @routes.get(f"{SERIES}/thumbnail")
    @routes.get(f"{INSTANCE}/thumbnail")
    def thumbnail(request: Request, visitor: Reader, study: str, series: str = "", instance: str = "") -> Response:
        holding = _typical(shelf.find(study, series, instance))
        sees.saw(request, visitor, study)
        return _show(shelf, request, holding, number=1, viewport=THUMBNAIL)

    @routes.get(f"{INSTANCE}/frames/{{numbers}}/thumbnail")
    def frame_thumbnail(
        request: Request, visitor: Reader, study: str, series: str, instance: str, numbers: str
    ) -> Response:
        holding, number = shelf.one(study, series, instance), _read_number(numbers)
        sees.saw(request, visitor, study)
        return _show(shelf, request, holding, number=number, viewport=THUMBNAIL)

    return routes


def read_request(parameters: Mapping[str, str], media_type: str, *, viewport: Viewport | None = None) -> Look:
    """Return how a request wants to see a Frame.

    Parameters
    ----------
    viewport
        Where the request names none.

    Raises
    ------
    RequestMalformed
        If a parameter cannot be understood.

    References
    ----------
    DICOM PS3.18 8.3.5.1
    """
    return Look(
        media_type=media_type,
        window=_read_window(parameters["window"]) if "window" in parameters else None,
        viewport=_read_viewport(parameters["viewport"]) if "viewport" in parameters else viewport,
        quality=_read_quality(parameters["quality"]) if "quality" in parameters else DEFAULT_QUALITY,
    )


def _show(
    shelf: Shelf, request: Request, holding: Holding, *, number: int, viewport: Viewport | None = None
) -> Response:
    media_type = choose(accepted_by(request), OFFERS).name
    look = read_request(request.query_params, media_type, viewport=viewport)
    tag = tag_of(holding.digest, f"{number}-{crc32(repr(sorted(asdict(look).items())).encode()):08x}")
    if is_known(request, tag):
        return not_modified(tag)
    cargo = shelf.pixels.picture(str(shelf.path(holding)), number, look)
    response = cargo_response(request, cargo, media_type=media_type, tag=tag)
    _warn(request, response)
    return response


def _show_all(reading: Reading, holdings: Sequence[Holding]) -> Response:
    """Return a picture of each Instance that has pixels, as a part each; of several Frames the first."""
    shelf, request = reading.shelf, reading.request
    media_type = choose(accepted_by(request), TOGETHER).name
    look = read_request(request.query_params, media_type)

    def show(place: int, is_under_way: bool) -> Part:
        holding = holdings[place]
        cargo = shelf.pixels.picture(str(shelf.path(holding)), 1, look, is_under_way=is_under_way)
        return Part(media_type=media_type, content=cargo.chunks(), location=f"{url_of(request, holding)}/rendered")

    response = gather(reading, holdings, show, kind=media_type)
    _warn(request, response)
    return response


def _warn(request: Request, response: Response) -> None:
    ignored = [name for name in NOT_SUPPORTED if name in request.query_params]
    if ignored:
        response.headers.append("Warning", f'299 radnode: "not supported: {", ".join(ignored)}"')


def _typical(holdings: Sequence[Holding]) -> Holding:
    """Return the middle one of the Instances with pixels of the first Series that has some."""
    shown = [holding for holding in holdings if holding.has_pixels] or list(holdings)
    of_series = [holding for holding in shown if holding.series_instance_uid == shown[0].series_instance_uid]
    return of_series[len(of_series) // 2]


def _read_number(text: str) -> int:
    numbers = read_frame_numbers(text)
    if len(numbers) != 1:
        raise RequestMalformed("one Frame is shown at a time; ask for each by itself")
    return numbers[0]


def _read_window(text: str) -> Window:
    center, width, *function = text.split(",")[:3] if text.count(",") in (1, 2) else ("", "")
    numbers = _read_numbers([center, width], what="window is center,width,function")
    name = function[0].strip().lower() if function else "linear"
    if name not in FUNCTIONS or numbers[1] <= 0 or (name == "linear" and numbers[1] < 1):
        raise RequestMalformed(
            f"window is center,width,function; the width is above 0, functions: {', '.join(FUNCTIONS)}"
        )
    return Window(center=numbers[0], width=numbers[1], function=FUNCTIONS[name])


def _read_viewport(text: str) -> Viewport:
    """Return the viewport of ``width,height`` or ``width,height,x,y,region width,region height``."""
    parts = text.split(",")
    what = "viewport is width,height, or width,height,x,y,width,height of a region"
    if len(parts) not in (2, 6):
        raise RequestMalformed(what)
    width, height = (int(number) for number in _read_numbers(parts[:2], what=what))
    if not (1 <= width <= MAX_EXTENT and 1 <= height <= MAX_EXTENT) or width * height > MAX_PICTURE_PIXELS:
        raise RequestMalformed(f"a picture has 1 to {MAX_EXTENT} pixels a side, and at most {MAX_PICTURE_PIXELS}")
    if len(parts) == 2:
        return Viewport(width=width, height=height)
    x, y, region_width, region_height = (
        _read_numbers([part], what=what)[0] if part.strip() else None for part in parts[2:]
    )
    if (x or 0) < 0 or (y or 0) < 0 or 0 in (region_width, region_height):
        raise RequestMalformed(what)
    return Viewport(
        width=width, height=height, x=x or 0.0, y=y or 0.0, region_width=region_width, region_height=region_height
    )


def _read_quality(text: str) -> int:
    if not QUALITY.match(text) or not 1 <= int(text) <= BEST_QUALITY:
        raise RequestMalformed(f"quality is a number from 1 to {BEST_QUALITY}")
    return int(text)


def _read_numbers(parts: Sequence[str], *, what: str) -> list[float]:
    try:
        numbers = [float(part) for part in parts]
    except ValueError as exc:
        raise RequestMalformed(what) from exc
    if not all(math.isfinite(number) and abs(number) < 1e9 for number in numbers):
        raise RequestMalformed(what)
    return numbers
