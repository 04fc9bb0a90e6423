"""The description of the API as a file: `python -m tests.openapi` writes docs/openapi.json, as `make openapi` does."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.websites import website

DOCUMENT = Path(__file__).parents[1] / "docs" / "openapi.json"


def describe_api(folder: Path) -> str:
    """Return what a node tells of its API, as it stands in the file."""
    with website(folder) as site:
        response, body = site.ask("GET", "/api/v1/openapi.json")
        assert response.status == 200, body
    return json.dumps(json.loads(body), ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    """Write the file."""
    with TemporaryDirectory(prefix="radnode-") as folder:
        DOCUMENT.write_text(describe_api(Path(folder)), encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT}\n")


if __name__ == "__main__":
    main()
