"""A body in parts, however it is cut on its way, and bodies that are none."""

from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.errors import RequestMalformed
from node.web.multipart import MAX_HEADER_BYTES, MAX_MARGIN_BYTES, MultipartReader

BOUNDARY = "ab"
# What a delimiter is made of: nothing else can be taken for one.
TRICKY = st.lists(st.sampled_from([b"\r", b"\n", b"-", b"a", b"b", b"\r\n--", b"\r\n--a", b"xyz"]), max_size=12)


class Collector:
    """Keeps the parts."""

    def __init__(self) -> None:
        self.parts: list[tuple[Mapping[str, str], bytes]] = []
        self.content = b""
        self._headers: Mapping[str, str] = {}

    def begin(self, headers: Mapping[str, str]) -> None:
        self._headers, self.content = headers, b""

    def write(self, content: memoryview) -> None:
        assert len(content) > 0
        self.content += content

    def end(self) -> None:
        self.parts.append((self._headers, self.content))


def read(body: bytes, *, step: int = 0, boundary: str = BOUNDARY) -> list[tuple[Mapping[str, str], bytes]]:
    """Return the parts of `body`, which comes in pieces of `step` bytes; 0 is at once."""
    sink = Collector()
    reader = MultipartReader(boundary, sink)
    for at in range(0, len(body), step or len(body) or 1):
        reader.feed(body[at : at + (step or len(body))])
    reader.finish()
    return sink.parts


def body_of(*contents: bytes, header: bytes = b"") -> bytes:
    return b"".join(b"\r\n--ab\r\n" + header + b"\r\n" + content for content in contents) + b"\r\n--ab--"


@given(st.lists(TRICKY.map(b"".join), min_size=1, max_size=4), st.integers(1, 9))
@example([b"", b""], 1)
def test_parts_are_found_however_the_body_is_cut(contents: list[bytes], step: int) -> None:
    whole = [content for content in contents if b"\r\n--ab" not in b"\r\n" + content + b"\r\n"] or [b"plain"]
    assert [content for _, content in read(body_of(*whole), step=step)] == whole


def test_headers_come_by_name_in_small_letters() -> None:
    ((headers, content),) = read(body_of(b"x", header=b"Content-Type: application/dicom\r\nX-Empty:\r\n"))
    assert headers == {"content-type": "application/dicom", "x-empty": ""}
    assert content == b"x"


def test_what_stands_before_and_behind_the_parts_is_passed_over() -> None:
    assert read(b"a preamble" + body_of(b"x") + b"\r\nan epilogue") == [({}, b"x")]


def test_the_first_boundary_may_stand_at_the_very_beginning() -> None:
    assert read(body_of(b"x").removeprefix(b"\r\n")) == [({}, b"x")]


def test_spaces_may_follow_a_boundary() -> None:
    assert read(b"--ab \t\r\n\r\nx\r\n--ab--") == [({}, b"x")]


@pytest.mark.parametrize("boundary", ["", "x" * 71, "ends with space ", "a\nb", "ä", 'a"b'])
def test_a_boundary_that_is_none_is_refused(boundary: str) -> None:
    with pytest.raises(RequestMalformed, match="boundary"):
        MultipartReader(boundary, Collector())


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "before its last boundary"),
        (b"no boundary", "before its last boundary"),
        (b"--ab--", "no part"),
        (b"--ab\r\n\r\nx", "inside a part"),
        (b"--ab\r\nA: b", "before its last boundary"),
        (b"--abc\r\n\r\nx\r\n--abc--", "goes on"),
        (b"--ab\r\nno colon\r\n\r\nx\r\n--ab--", "header"),
        (b"--ab\r\n spaces before: x\r\n\r\nx\r\n--ab--", "header"),
        (b"--ab\r\nA: " + b"b" * MAX_HEADER_BYTES + b"\r\n\r\nx\r\n--ab--", "headers of a part"),
        (b"x" * (MAX_MARGIN_BYTES + 1) + body_of(b"x"), "outside of any part"),
        (body_of(b"x") + b"x" * (MAX_MARGIN_BYTES + 1), "outside of any part"),
    ],
)
@pytest.mark.parametrize("step", [0, 7])
def test_a_body_that_is_none_is_refused(body: bytes, why: str, step: int) -> None:
    with pytest.raises(RequestMalformed, match=why):
        read(body, step=step)


def test_headers_without_an_end_are_not_held() -> None:
    reader = MultipartReader(BOUNDARY, Collector())
    reader.feed(b"--ab\r\nA: ")
    for _ in range(MAX_HEADER_BYTES // 1000):
        reader.feed(b"b" * 1000)
    with pytest.raises(RequestMalformed, match="headers of a part"):
        reader.feed(b"b" * 1000)


def test_the_content_of_a_part_is_passed_on_before_its_end_has_come() -> None:
    sink = Collector()
    reader = MultipartReader(BOUNDARY, sink)
    reader.feed(b"--ab\r\n\r\n" + b"x" * 1000)
    assert len(sink.content) >= 1000 - len(b"\r\n--ab")
    assert sink.parts == []
