"""A process of the pool: reads headers, cuts, decodes and shows Frames, one request after the other.

Requests are lines of JSON on standard input; each is answered on standard output by one byte, a length and a body.
Whatever a peer's pixels do to a decoder, they do it here.
"""

import argparse
import json
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from pydicom import config

from node.codecs import DECODER_ERRORS
from node.errors import NodeError, PixelsUndecodable
from node.web.contours import read_contours
from node.web.decoding import locate_pixels, open_source, plain_frame, stored_frame
from node.web.headers import read_models, read_value
from node.web.look import read_look
from node.web.pixels import DONE, HEAD, REFUSED
from node.web.rendering import render_frame
from node.web.transcoding import transcode


def main() -> None:
    """Answer requests until there are no more."""
    parser = argparse.ArgumentParser(prog="python -m node.web.picture")
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="after which a request ends this process")
    limits = parser.parse_args()
    for name in (signal.SIGTERM, signal.SIGINT):
        # Service managers and terminals send them to all processes at once; the end of standard input counts.
        signal.signal(name, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
    # They quote values.
    warnings.simplefilter("ignore")
    _serve(sys.stdin.buffer, sys.stdout.buffer, seconds=limits.seconds)


def _serve(requests: BinaryIO, answers: BinaryIO, *, seconds: float) -> None:
    for line in requests:
        # Unhandled, it ends this process wherever it is, also inside of a decoder.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        status, body = _answer(json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(HEAD.pack(status, len(body)))
        answers.write(body)
        answers.flush()


def _answer(request: Mapping[str, Any]) -> tuple[bytes, bytes]:
    try:
        return DONE, TASKS[request["task"]](request)
    except NodeError as exc:
        return REFUSED, json.dumps({"code": exc.code, "text": str(exc)}).encode()
    except DECODER_ERRORS as exc:
        text = f"the Instance cannot be read ({type(exc).__name__}); look at it"
        return REFUSED, json.dumps({"code": PixelsUndecodable.code, "text": text}).encode()
    except MemoryError:
        text = "more memory is needed than one request may take; ask for a smaller part"
        return REFUSED, json.dumps({"code": PixelsUndecodable.code, "text": text}).encode()


def _frame(request: Mapping[str, Any]) -> bytes:
    with open_source(request["path"]) as source:
        cut = stored_frame if request["is_stored"] else plain_frame
        return cut(source, request["number"])


def _picture(request: Mapping[str, Any]) -> bytes:
    with open_source(request["path"]) as source:
        return render_frame(source, request["number"], read_look(request["look"]))


TASKS: Mapping[str, Callable[[Mapping[str, Any]], bytes]] = {
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
