"""A process of the decoder pool that hangs at one file, dies of another (of one only once), and lies of a third."""

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.cage.inmate import build_parser, serve_requests

HANGS, DIES, LIES, DIES_ONCE = "hangs", "dies", "lies", "dies-once"


def main() -> None:
    """Answer requests until there are no more."""
    parser = build_parser("python -m tests.sleeping_decoder")
    parser.add_argument("--window", type=int, required=True)
    serve_requests(parser.parse_args(), {"decode": _decode})


def _decode(request: Mapping[str, Any]) -> bytes:
    name = os.path.basename(request["path"])  # noqa: PTH119 - nothing is opened
    if name == HANGS:
        # As a decoder that never looks up: no signal of Python's ends it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(600)
    if name == DIES:
        os._exit(9)
    if name == DIES_ONCE and not Path(request["path"]).exists():
        Path(request["path"]).touch()
        os._exit(9)
    form = request["form"]
    extent = [form["rows"], form["columns"]] if name != LIES else [2**20, 2**20]
    return json.dumps({"dtype": "<u2", "shape": extent}).encode()


if __name__ == "__main__":
    main()
