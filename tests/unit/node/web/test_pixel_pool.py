"""The pool: what one hostile Instance costs, and that it costs no other."""

import json
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from node.errors import DecoderDied, DecodersBusy, FileUnreadable, NodeError, NotFound, PixelsUndecodable
from node.header.part10 import read_part10
from node.web.look import PNG, Look
from node.web.pixels import PixelPool, PoolLimits

SMALL = str(get_testdata_file("MR_small.dcm"))
FRAME_BYTES = 64 * 64 * 2
# SIZ of a JPEG 2000 code stream: marker, length, capabilities, then width and height (ISO/IEC 15444-1 A.5.1).
SIZ = b"\xff\x51"
SIZ_EXTENT = 6


@pytest.fixture(scope="module")
def pool() -> Iterator[PixelPool]:
    opened = PixelPool(PoolLimits(processes=1))
    yield opened
    opened.close()


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """Return a JPEG 2000 image of 64 x 64 pixels whose code stream says that it has 60000 x 60000."""
    content = bytearray(Path(str(get_testdata_file("MR_small_jp2klossless.dcm"))).read_bytes())
    struct.pack_into(">II", content, content.index(SIZ) + SIZ_EXTENT, 60000, 60000)
    path = tmp_path / "bomb.dcm"
    path.write_bytes(content)
    return path


def test_a_frame_comes_out_as_it_is_stored(pool: PixelPool) -> None:
    assert pool.frame(SMALL, 1, is_stored=True).size_bytes == FRAME_BYTES
    assert pool.place(SMALL)["length"] == FRAME_BYTES
    assert pool.picture(SMALL, 1, Look(media_type=PNG)).read().startswith(b"\x89PNG")


def test_what_is_wrong_with_a_request_is_told_by_the_same_error(pool: PixelPool, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Frames 1 to 1, not 2"):
        pool.frame(SMALL, 2, is_stored=True)
    with pytest.raises(FileUnreadable):
        pool.frame(str(tmp_path / "absent.dcm"), 1, is_stored=True)
    with pytest.raises(NotFound, match="metadata"):
        pool.value(SMALL, ["00100010"])


def test_an_image_that_claims_to_be_huge_costs_one_request(bomb: Path) -> None:
    pool = PixelPool(PoolLimits(processes=1, memory_bytes=2 * 2**30))
    try:
        with pytest.raises((PixelsUndecodable, DecoderDied)):
            pool.frame(str(bomb), 1, is_stored=False)
        assert pool.frame(SMALL, 1, is_stored=False).size_bytes == FRAME_BYTES
    finally:
        pool.close()


def test_a_process_that_does_not_come_to_an_end_is_killed() -> None:
    pool = PixelPool(PoolLimits(processes=1, seconds=0.0001))
    with pytest.raises(DecoderDied, match=r"0\.0001 s"):
        pool.models([SMALL], ["http://x"])
    pool.close()


def test_who_waits_too_long_is_told_to_come_again(tmp_path: Path) -> None:
    pool = PixelPool(PoolLimits(processes=1, wait_s=0.01))
    try:
        with pool._decoder(), pytest.raises(DecodersBusy):
            pool.place(SMALL)
        assert pool.place(SMALL)["frames"] == 1
    finally:
        pool.close()


def test_no_more_wait_than_may_and_the_next_is_told_at_once() -> None:
    pool = PixelPool(PoolLimits(processes=1, wait_s=600, waiting=0))
    try:
        with pool._decoder(), pytest.raises(DecodersBusy):
            pool.place(SMALL)
        assert pool.place(SMALL)["frames"] == 1
    finally:
        pool.close()


def test_what_is_under_way_waits_in_any_case() -> None:
    pool = PixelPool(PoolLimits(processes=1, waiting=0))
    try:
        with ThreadPoolExecutor(1) as threads:
            with pool._decoder():
                waiting = threads.submit(pool.models, [SMALL], ["http://x"], is_under_way=True)
            assert json.loads(waiting.result().content)["7FE00010"]["BulkDataURI"] == "http://x/7FE00010"
    finally:
        pool.close()


def test_a_file_on_which_a_process_dies_is_left_out_among_others(pool: PixelPool, tmp_path: Path) -> None:
    # Opening it never ends, as on a volume that hangs.
    hung = tmp_path / "hung.dcm"
    os.mkfifo(hung)
    short = PixelPool(PoolLimits(processes=1, seconds=2.0))
    try:
        found = short.models([str(hung), SMALL], ["http://x", "http://y"])
        assert [(one.place, one.code) for one in found.unread] == [(0, "decoder-died")]
        assert json.loads(found.content)["7FE00010"]["BulkDataURI"] == "http://y/7FE00010"
    finally:
        short.close()


@pytest.mark.parametrize("content", [b"no Part 10 file", b"deflated"])
def test_what_cannot_be_transcoded_costs_no_process(pool: PixelPool, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.dcm"
    path.write_bytes(content if content != b"deflated" else broken_deflated())
    with pool._decoder() as decoder:
        pid = decoder.pid
    with pytest.raises(PixelsUndecodable):
        pool.transcode(str(path))
    with pool._decoder() as decoder:
        assert decoder.pid == pid


def broken_deflated() -> bytes:
    """Return a deflated file whose stream is none."""
    content = Path(str(get_testdata_file("image_dfl.dcm"))).read_bytes()
    return content[: read_part10(content).data_set_offset] + b"\xff" * 100


def test_the_processes_are_told_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADNODE__LEDGER__URL", "postgresql://user:hush-hush@host/x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    pool = PixelPool(PoolLimits(processes=1))
    try:
        with pool._decoder() as decoder:
            environment = Path(f"/proc/{decoder.pid}/environ").read_bytes()
        assert b"hush-hush" not in environment
    finally:
        pool.close()


def test_every_error_of_the_pool_has_its_status() -> None:
    kinds: tuple[type[NodeError], ...] = (DecoderDied, DecodersBusy, FileUnreadable, PixelsUndecodable, NotFound)
    assert [kind.http_status for kind in kinds] == [500, 503, 500, 422, 404]
