"""Answers that are under way: the threads that go on with them are none of those that everybody shares."""

from collections.abc import Iterator
from threading import Event

import anyio
from anyio import CapacityLimiter, fail_after
from anyio.to_thread import current_default_thread_limiter, run_sync
from fastapi.responses import StreamingResponse

from node.web.payload import Part, multipart_response

LIMIT_S = 60.0
STREAMING = 3


def test_answers_that_wait_for_their_rest_leave_threads_for_others() -> None:
    goes_on = Event()

    def parts() -> Iterator[Part]:
        yield Part(media_type="a/b", content=[b"first"])
        goes_on.wait(LIMIT_S)
        yield Part(media_type="a/b", content=[b"second", b"", b"third"])

    async def read(response: StreamingResponse, found: list[bytes]) -> None:
        found.append(b"".join([bytes(piece) async for piece in response.body_iterator if not isinstance(piece, str)]))

    async def ask() -> list[bytes]:
        streamers, found = CapacityLimiter(STREAMING), list[bytes]()
        count = int(current_default_thread_limiter().total_tokens) + 1
        async with anyio.create_task_group() as group:
            for _ in range(count):
                response = multipart_response(parts(), kind="a/b", streamers=streamers)
                assert isinstance(response, StreamingResponse)
                group.start_soon(read, response, found)
            while streamers.borrowed_tokens < STREAMING or streamers.statistics().tasks_waiting < count - STREAMING:
                await anyio.sleep(0.001)
            try:
                with fail_after(LIMIT_S / 2):
                    assert await run_sync(lambda: "a reader") == "a reader"
            finally:
                goes_on.set()
        return found

    with_third = anyio.run(ask)
    assert len(with_third) > STREAMING
    assert all(body.count(b"first") == 1 and b"secondthird\r\n" in body for body in with_third)
