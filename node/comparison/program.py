"""The caged process that reads two versions of an Instance."""

import json

from node.cage.inmate import build_parser, serve_requests
from node.comparison.sameness import list_differences


def main() -> None:
    """Answer requests until there are no more."""
    serve_requests(
        build_parser("python -m node.comparison.program").parse_args(),
        {"difference": lambda asked: json.dumps(list_differences(asked["earlier"], asked["later"])).encode()},
    )


if __name__ == "__main__":
    main()
