"""A process of the pool: reads headers, cuts, decodes and shows Frames, one request after the other."""

import json
from collections.abc import Mapping
from typing import Any

from node.cage.inmate import Task, build_parser, serve_requests
from node.decoding import locate_pixels, open_source, plain_frame, stored_frame
from node.web.contours import read_contours
from node.web.headers import read_models, read_value
from node.web.look import read_look
from node.web.rendering import render_frame
from node.web.transcoding import transcode


def main() -> None:
    """Answer requests until there are no more."""
    serve_requests(build_parser("python -m node.web.picture").parse_args(), TASKS)


def _frame(request: Mapping[str, Any]) -> bytes:
    with open_source(request["path"]) as source:
        cut = stored_frame if request["is_stored"] else plain_frame
        return cut(source, request["number"])


def _picture(request: Mapping[str, Any]) -> bytes:
    with open_source(request["path"]) as source:
        return render_frame(source, request["number"], read_look(request["look"]))


TASKS: Mapping[str, Task] = {
    "frame": _frame,
    "place": lambda request: json.dumps(locate_pixels(request["path"])).encode(),
    "picture": _picture,
    "models": lambda request: read_models(request["paths"], request["bulk_urls"]),
    "contours": lambda request: read_contours(request["path"]),
    "value": lambda request: read_value(request["path"], request["steps"]),
    "transcode": lambda request: transcode(request["path"]),
}

if __name__ == "__main__":
    main()
