"""A process in a cage, from inside: it answers requests one after the other, within its bounds.

Requests are lines of JSON on standard input; each is answered on standard output by one byte, a length and a body.
Whatever a peer's bytes do to a decoder, they do it here.
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

from node.cage.process import DONE, HEAD, REFUSED
from node.codecs import DECODER_ERRORS
from node.errors import NodeError, PixelsUndecodable

Task = Callable[[Mapping[str, Any]], bytes]


def build_parser(program: str) -> argparse.ArgumentParser:
    """Return a parser of what `node.cage.process.CagedProcess` says on the command line."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="after which a request ends this process")
    return parser


def serve_requests(limits: argparse.Namespace, tasks: Mapping[str, Task]) -> None:
    """Answer requests until there are no more.

    Parameters
    ----------
    limits
        What the parser read.
    tasks
        What a request may ask for, by the name that it calls ``task``.
    """
    for name in (signal.SIGTERM, signal.SIGINT):
        # Service managers and terminals send them to all processes at once; the end of standard input counts.
        signal.signal(name, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
    # They quote values.
    warnings.simplefilter("ignore")
    _serve(sys.stdin.buffer, sys.stdout.buffer, tasks, seconds=limits.seconds)


def _serve(requests: BinaryIO, answers: BinaryIO, tasks: Mapping[str, Task], *, seconds: float) -> None:
    for line in requests:
        # Unhandled, it ends this process wherever it is, also inside of a decoder.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        status, body = _answer(json.loads(line), tasks)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(HEAD.pack(status, len(body)))
        answers.write(body)
        answers.flush()


def _answer(request: Mapping[str, Any], tasks: Mapping[str, Task]) -> tuple[bytes, bytes]:
    try:
        return DONE, tasks[request["task"]](request)
    except NodeError as exc:
        return REFUSED, json.dumps({"code": exc.code, "text": str(exc)}).encode()
    except DECODER_ERRORS as exc:
        text = f"the Instance cannot be read ({type(exc).__name__}); look at it"
        return REFUSED, json.dumps({"code": PixelsUndecodable.code, "text": text}).encode()
    except MemoryError:
        text = "more memory is needed than one request may take; ask for a smaller part"
        return REFUSED, json.dumps({"code": PixelsUndecodable.code, "text": text}).encode()
