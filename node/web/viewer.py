"""The OHIF Viewer, from the files that `radnode viewer install` has put in the data folder."""

import re
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from node.errors import NotFound
from node.viewer.address import PREFIX
from node.viewer.installation import Installation
from node.viewer.page import PAGE
from node.web.console.page import Pages
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

# Neither hidden files nor steps upwards; the folder holds no links.
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# The bundler puts a digest of the content into these names.
IMMUTABLE = re.compile(r"(?:^|\.)[0-9a-f]{16}\.[a-z0-9]+$")
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".jsonc": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}
# Codecs are WebAssembly, workers are made of blobs, styles are written by scripts, and what reads a SEG compiles the
# access to its arrays (ndarray, 'unsafe-eval'). Nothing of it comes from another host, and nothing goes there.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# What is private may be kept by this browser alone.
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
FOREVER = "private, max-age=31536000, immutable"
ASK_AGAIN = "private, no-cache"


def router(services: Services) -> APIRouter:
    """Return ``/viewer/…``: files of the viewer, its page for every other path, or how to install it."""
    routes, reads = APIRouter(), authorize(Right.READ)
    installation, pages = Installation(services.settings.node.data_dir), Pages(services)

    @routes.get(PREFIX.rstrip("/"), dependencies=[Depends(reads)])
    def viewer() -> Response:
        return RedirectResponse(PREFIX, status_code=HTTPStatus.PERMANENT_REDIRECT)

    @routes.get(PREFIX + "{name:path}")
    def file(request: Request, name: str, visitor: Annotated[Visitor, Depends(reads)]) -> Response:
        folder = installation.folder
        if folder is None:
            return pages.render(
                request, visitor, "viewer-absent.html", status=HTTPStatus.NOT_FOUND, version=installation.version
            )
        return _serve(request, _find(folder, name), version=installation.version)

    return routes


def _find(folder: Path, name: str) -> Path:
    """Return the file of a path; one without an ending is a place inside of the viewer, whose page finds it."""
    parts = name.split("/") if name else []
    if not parts or not Path(parts[-1]).suffix:
        return folder / PAGE
    path = folder.joinpath(*parts)
    if not all(PART.fullmatch(part) for part in parts) or not path.is_file():
        raise NotFound("the viewer has no such file; see radnode viewer status")
    return path


def _serve(request: Request, path: Path, *, version: str) -> Response:
    entity = f'"{version}-{path.stat().st_mtime_ns:x}-{path.stat().st_size:x}"'
    is_immutable = IMMUTABLE.search(path.name) is not None
    headers = {**HEADERS, "ETag": entity, "Cache-Control": FOREVER if is_immutable else ASK_AGAIN}
    if entity in [tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return FileResponse(path, headers=headers, media_type=media_type)
