"""Responses that hold objects: parts one after the other, or one with its tag and its ranges (RFC 9110 13, 14)."""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from node.errors import FileUnreadable
from node.web.cargo import Cargo
from node.web.negotiation import MULTIPART_RELATED

CHUNK_BYTES = 256 * 1024
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")
NOT_MODIFIED, PARTIAL, NOT_SATISFIABLE = 304, 206, 416


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a response.

    Attributes
    ----------
    content
        Read once, when the part is sent.
    location
        URL by which the part alone can be had; empty where there is none.
    """

    media_type: str
    content: Iterable[bytes]
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Some bytes of a file.

    Attributes
    ----------
    size_bytes
        None: to its end.
    """

    path: Path
    offset: int = 0
    size_bytes: int | None = None

    def measured(self) -> "Region":
        """Return the same with its size.

        Raises
        ------
        FileUnreadable
            If the file is absent.
        """
        if self.size_bytes is not None:
            return self
        try:
            size_bytes = self.path.stat().st_size - self.offset
        except OSError as exc:
            raise _unreadable(self.path, exc) from exc
        return Region(path=self.path, offset=self.offset, size_bytes=size_bytes)

    def chunks(self) -> Iterator[bytes]:
        """Yield its bytes.

        Raises
        ------
        FileUnreadable
            If the file is absent, or shorter than it was.
        """
        left = self.measured().size_bytes or 0
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                while left:
                    chunk = file.read(min(CHUNK_BYTES, left))
                    if not chunk:
                        raise FileUnreadable(f"{self.path.name} of the store ends before its time; see the operator")
                    left -= len(chunk)
                    yield chunk
        except OSError as exc:
            raise _unreadable(self.path, exc) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Something of which a range can be read: `chunks` takes where it begins and ends."""

    size_bytes: int
    chunks: Callable[[int, int], Iterator[bytes]]


def multipart_response(
    parts: Iterable[Part],
    *,
    kind: str,
    streamers: CapacityLimiter,
    headers: Mapping[str, str] | None = None,
    status: int = HTTPStatus.OK,
) -> Response:
    """Return a multipart/related response; only one part at a time is in memory.

    The first bytes are read before it begins: what is wrong with the first part can still be answered as a problem.

    Parameters
    ----------
    streamers
        Threads that read the rest, those of the pool.
    """
    boundary = uuid4().hex
    body = _body(parts, boundary)
    first = next(body, b"")
    content_type = f'{MULTIPART_RELATED}; type="{kind}"; boundary={boundary}'
    stream = in_threads(_with_first(first, body), streamers)
    return StreamingResponse(stream, status_code=status, media_type=content_type, headers=dict(headers or {}))


async def in_threads(content: Iterator[bytes], streamers: CapacityLimiter) -> AsyncIterator[bytes]:
    """Yield `content`, made in threads of `streamers`; none is held while a client takes a piece."""
    while (piece := await run_sync(next, content, None, limiter=streamers)) is not None:
        yield piece


def tag_of(digest: str, variant: str = "") -> str:
    """Return the entity tag of a content, or of a variant of it."""
    return f'"{digest}-{variant}"' if variant else f'"{digest}"'


def is_known(request: Request, tag: str) -> bool:
    """Return whether the client has the very content that `tag` names (If-None-Match)."""
    asked = ",".join(request.headers.getlist("if-none-match"))
    tags = {one.strip().removeprefix("W/") for one in asked.split(",")}
    return tag in tags or "*" in tags


def not_modified(tag: str) -> Response:
    """Return the response to a client that has the content already."""
    return Response(status_code=NOT_MODIFIED, headers={"ETag": tag})


def region_response(request: Request, region: Region, *, media_type: str, tag: str) -> Response:
    """Return some bytes of a file as they are, or the range of them that is asked for."""
    measured = region.measured()

    def chunks(begin: int, end: int) -> Iterator[bytes]:
        return replace(measured, offset=measured.offset + begin, size_bytes=end - begin).chunks()

    content = Content(size_bytes=measured.size_bytes or 0, chunks=chunks)
    return _ranged(request, content, media_type=media_type, tag=tag)


def _ranged(request: Request, content: Content, *, media_type: str, tag: str) -> Response:
    size = content.size_bytes
    headers = {"ETag": tag, "Accept-Ranges": "bytes"}
    wanted = _range_of(request, size, tag)
    if wanted is None:
        body = _started(content.chunks(0, size))
        return StreamingResponse(body, media_type=media_type, headers={**headers, "Content-Length": str(size)})
    begin, end = wanted
    if begin >= end:
        return Response(status_code=NOT_SATISFIABLE, headers={**headers, "Content-Range": f"bytes */{size}"})
    told = {"Content-Range": f"bytes {begin}-{end - 1}/{size}", "Content-Length": str(end - begin)}
    body = _started(content.chunks(begin, end))
    return StreamingResponse(body, status_code=PARTIAL, media_type=media_type, headers={**headers, **told})


def cargo_response(request: Request, cargo: Cargo, *, media_type: str, tag: str) -> Response:
    """Return what a process of the pool answered, or the range of it that is asked for."""
    return _ranged(request, Content(size_bytes=cargo.size_bytes, chunks=cargo.chunks), media_type=media_type, tag=tag)


def _range_of(request: Request, size: int, tag: str) -> tuple[int, int] | None:
    """Return begin and end of the one range that is asked for; None: everything, empty: nothing that there is."""
    found = RANGE.match(request.headers.get("range", ""))
    if found is None or request.headers.get("if-range", tag) != tag:
        # Other units, and several ranges, may be ignored (RFC 9110 14.2).
        return None
    first, last = found.groups()
    if first:
        return int(first), min(int(last) + 1 if last else size, size)
    return (max(size - int(last), 0), size) if last and int(last) else (0, 0) if last else None


def _body(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    for part in parts:
        head = [f"--{boundary}", f"Content-Type: {part.media_type}"]
        if part.location:
            head.append(f"Content-Location: {part.location}")
        head = ["\r\n".join(head), "\r\n\r\n"]
        content = iter(part.content)
        yield "".join(head).encode() + next(content, b"")
        yield from content
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _started(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first bytes now, so that a file that is not there is told before the response begins."""
    return _with_first(next(chunks, b""), chunks)


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _unreadable(path: Path, exc: OSError) -> FileUnreadable:
    return FileUnreadable(
        f"{path.name} of the store cannot be read ({type(exc).__name__}); see its disk, and restore it from a copy"
    )
