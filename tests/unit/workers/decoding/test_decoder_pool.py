"""A decoder that hangs, dies or lies costs one slice; the next is decoded."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom.uid import JPEGLSLossless

from node.errors import PixelsUndecodable
from tests.sleeping_decoder import DIES, HANGS, LIES
from workers.decoding.form import Form
from workers.decoding.pool import DecoderLimits, DecoderPool

FORM = Form(
    transfer_syntax_uid=JPEGLSLossless,
    offset=0,
    rows=3,
    columns=4,
    bits_allocated=16,
    bits_stored=12,
    pixel_representation=0,
    photometric_interpretation="MONOCHROME2",
    slope=1.0,
    intercept=0.0,
    unwanted=(),
)


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    opened = DecoderPool(module="tests.sleeping_decoder")
    yield opened
    opened.close()


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize("name", [DIES, LIES])
def test_a_decoder_that_fails_costs_one_slice(pool: DecoderPool, name: str) -> None:
    with pool.decode(Path("sound"), FORM) as pixels:
        assert pixels is not None
        assert pixels.shape == (3, 4)
    (pid,) = pool.list_pids()
    with pytest.raises(PixelsUndecodable), pool.decode(Path(name), FORM):
        pass
    assert not is_alive(pid)
    with pool.decode(Path("sound"), FORM) as pixels:
        assert pixels is not None


def test_a_decoder_that_hangs_is_killed() -> None:
    """It hears no alarm, as a library that never looks up; who waits for it counts the time too."""
    pool = DecoderPool(DecoderLimits(seconds=0.7), module="tests.sleeping_decoder")
    with pytest.raises(PixelsUndecodable, match=r"0\.7 s"), pool.decode(Path(HANGS), FORM):
        pass
    assert pool.list_pids() == ()


def test_a_decoder_goes_with_its_pool() -> None:
    pool = DecoderPool(module="tests.sleeping_decoder")
    with pool.decode(Path("sound"), FORM):
        pass
    (pid,) = pool.list_pids()
    del pool
    assert not is_alive(pid)
