"""The parts of a multipart body, one after the other as they come, none of them held (RFC 2046 5.1)."""

import re
from collections.abc import Mapping
from typing import Protocol

from node.errors import RequestMalformed

BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]\Z")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
CRLF = b"\r\n"
END_OF_HEADERS = CRLF + CRLF
DASHES = b"--"
PADDING = b" \t"
MAX_HEADER_BYTES = 16 * 1024
# What may stand before the first part, or behind the last one; nobody reads it.
MAX_MARGIN_BYTES = 64 * 1024
# More than the Instances of any Study, and each leaves a line in the answer.
MAX_PARTS = 50_000


class Sink(Protocol):
    """Who takes the parts; what it raises ends the reading."""

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin a part; names of `headers` are in small letters."""

    def write(self, content: memoryview) -> None:
        """Take the next bytes of the part; they are valid during the call only."""

    def end(self) -> None:
        """End the part: it came whole."""


class MultipartReader:
    """Takes a body apart.

    Parameters
    ----------
    boundary
        As the Content-Type says it.

    Raises
    ------
    RequestMalformed
        If `boundary` is none.
    """

    def __init__(self, boundary: str, sink: Sink) -> None:
        if not BOUNDARY.match(boundary):
            raise RequestMalformed(
                "the boundary of Content-Type has 1 to 70 of RFC 2046's characters; correct the client"
            )
        self._delimiter = CRLF + DASHES + boundary.encode("ascii")
        self._sink = sink
        # As if the line before had just ended: the first delimiter may stand at the very beginning.
        self._rest = CRLF
        self._state = self._pass_margin
        self._margin_bytes = 0
        self._is_in_part = False
        self._is_closed = False
        self._parts = 0

    def feed(self, content: bytes | memoryview) -> None:
        """Take the next bytes of the body.

        Raises
        ------
        RequestMalformed
            If it is no multipart body, or its headers, margins or number of parts have no end.
        """
        data, at = self._rest + content, 0
        while True:
            left = self._state(data, at)
            if left is None:
                break
            at = left
        self._rest = self._keep(data, at)

    def finish(self) -> None:
        """Take note that the body is over.

        Raises
        ------
        RequestMalformed
            If it ended before its last boundary, or held no part.
        """
        if not self._is_closed:
            what = "inside a part" if self._is_in_part else "before its last boundary"
            raise RequestMalformed(f"the body ends {what}; send it whole, with the boundary that Content-Type names")
        if not self._parts:
            raise RequestMalformed("the body holds no part; send at least one")

    def _pass_margin(self, data: bytes, at: int) -> int | None:
        """Look for the first delimiter."""
        found = data.find(self._delimiter, at)
        self._count_margin((found if found >= 0 else len(data)) - at)
        if found < 0:
            return None
        self._state = self._end_line
        return found + len(self._delimiter)

    def _end_line(self, data: bytes, at: int) -> int | None:
        """Read what follows a delimiter: dashes, or the end of its line."""
        if data.startswith(DASHES, at):
            self._is_closed = True
            self._state = self._pass_epilogue
            return at + len(DASHES)
        end = at
        while end < len(data) and data[end] in PADDING:
            end += 1
        if data.startswith(CRLF, end):
            self._state = self._read_headers
            # The headers begin behind it; without any, it is the first half of what ends them.
            return end
        if len(data) - end >= len(CRLF) or end - at > MAX_HEADER_BYTES:
            raise RequestMalformed("a boundary goes on after its end; correct the client")
        return None

    def _read_headers(self, data: bytes, at: int) -> int | None:
        end = data.find(END_OF_HEADERS, at)
        if max(end, len(data) if end < 0 else 0) - at > MAX_HEADER_BYTES:
            raise RequestMalformed(f"the headers of a part have more than {MAX_HEADER_BYTES} bytes; correct the client")
        if end < 0:
            return None
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise RequestMalformed(f"more than {MAX_PARTS} parts; send the rest in another request")
        self._sink.begin(_parse_headers(data[at + len(CRLF) : end]))
        self._is_in_part = True
        self._state = self._read_content
        # An empty part ends with the delimiter whose line begins where the headers end.
        return end + len(CRLF)

    def _read_content(self, data: bytes, at: int) -> int | None:
        """Begin a part: `at` is two bytes before its content."""
        begun = data[at : at + len(self._delimiter)]
        if begun == self._delimiter:
            return self._end_part(at)
        if self._delimiter.startswith(begun):
            return None
        self._state = self._pass_content
        return at + len(CRLF)

    def _pass_content(self, data: bytes, at: int) -> int | None:
        found = data.find(self._delimiter, at)
        # Its first bytes may stand at the end of what has come.
        end = found if found >= 0 else len(data) - len(self._delimiter) + 1
        if end > at:
            self._sink.write(memoryview(data)[at:end])
        if found < 0:
            return None
        return self._end_part(found)

    def _end_part(self, at: int) -> int:
        self._is_in_part = False
        self._sink.end()
        self._state = self._end_line
        return at + len(self._delimiter)

    def _pass_epilogue(self, data: bytes, at: int) -> int | None:
        self._count_margin(len(data) - at)
        return None

    def _count_margin(self, size_bytes: int) -> None:
        self._margin_bytes += size_bytes
        if self._margin_bytes > MAX_MARGIN_BYTES:
            raise RequestMalformed(
                f"{MAX_MARGIN_BYTES} bytes came outside of any part; is the boundary that of Content-Type?"
            )

    def _keep(self, data: bytes, at: int) -> bytes:
        """Return what must be looked at again when more has come."""
        if self._state == self._pass_epilogue:
            return b""
        if self._state in (self._pass_margin, self._pass_content):
            return data[max(at, len(data) - len(self._delimiter) + 1) :]
        return data[at:]


def _parse_headers(block: bytes) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for line in block.split(CRLF) if block else ():
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not HEADER_NAME.match(name):
            raise RequestMalformed("a part has a header that is none, or lacks the empty line behind its headers")
        headers[name.lower()] = value.strip()
    return headers
