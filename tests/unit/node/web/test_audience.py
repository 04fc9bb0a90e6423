"""Who is told of changes, and that a fault ends nothing for them."""

import asyncio
from itertools import count

import pytest

from node.web.audience import CHANGED, HELLO, Audience

LIMIT_S = 60.0


def test_a_fault_in_looking_does_not_end_the_looking(caplog: pytest.LogCaptureFixture) -> None:
    audience, looks = Audience(look_every_s=0.001), count()

    def sign() -> int:
        look = next(looks)
        if look in {0, 2}:
            raise ValueError("not what a ledger says")
        return look

    async def listen() -> list[bytes]:
        listener = audience.join(sign, visitor="ada")
        assert listener is not None
        told = audience.tell(listener)
        async with asyncio.timeout(LIMIT_S):
            return [await anext(told) for _ in range(4)]

    assert asyncio.run(listen()) == [HELLO, CHANGED, CHANGED, CHANGED]
    audience.close()
    assert [line.getMessage() for line in caplog.records] == ["change not looked for"] * 2
