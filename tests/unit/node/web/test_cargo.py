"""What waits for slow clients: little of it in memory, none of it without a bound, and no file that stays."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from node.errors import DecodersBusy
from node.web.cargo import INLINE_BYTES, Cargo, Hold
from node.web.pixels import PixelPool, PoolLimits
from tests.peers import wait_until

PATTERN = bytes(range(256))
# 128 KiB in one Frame, and more than that as a file.
LARGE = str(get_testdata_file("examples_palette.dcm"))
SMALL = str(get_testdata_file("CT_small.dcm"))


def filled(size_bytes: int, folder: Path) -> Cargo:
    cargo = Cargo(size_bytes, folder)
    for begin in range(0, size_bytes, 100_000):
        cargo.write((PATTERN * 400)[: min(100_000, size_bytes - begin)])
    return cargo


@pytest.mark.parametrize("size_bytes", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 3 * INLINE_BYTES])
def test_what_was_written_is_read_wherever_it_lies(tmp_path: Path, size_bytes: int) -> None:
    cargo = filled(size_bytes, tmp_path)
    content = cargo.read()
    assert len(content) == size_bytes
    assert content == cargo.read()
    assert b"".join(cargo.chunks(5, 300)) == content[5:300]
    assert len(cargo._content) <= INLINE_BYTES
    assert not list(tmp_path.iterdir())


def test_room_is_free_again_when_a_client_has_taken_its_answer(tmp_path: Path) -> None:
    hold = Hold(tmp_path, most_bytes=1000, wait_s=60.0)
    first = hold.load(800, is_under_way=False)
    with pytest.raises(DecodersBusy, match="800 bytes wait"):
        hold.load(300, is_under_way=False)
    second = hold.load(200, is_under_way=False)
    del first, second
    gc.collect()
    assert hold.load(1000, is_under_way=False).size_bytes == 1000


def test_an_answer_that_is_larger_than_all_may_be_is_had_alone(tmp_path: Path) -> None:
    hold = Hold(tmp_path, most_bytes=1000, wait_s=60.0)
    alone = hold.load(5000, is_under_way=False)
    with pytest.raises(DecodersBusy):
        hold.load(1, is_under_way=False)
    del alone
    assert hold.load(1, is_under_way=False).size_bytes == 1


def test_an_answer_under_way_waits_for_room(tmp_path: Path) -> None:
    hold = Hold(tmp_path, most_bytes=1000, wait_s=60.0)
    held = [hold.load(1000, is_under_way=False)]
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(hold.load, 500, is_under_way=True)
        held.clear()
        assert waiting.result().size_bytes == 500


def test_who_waits_for_room_keeps_no_process_from_others(tmp_path: Path) -> None:
    pool = PixelPool(PoolLimits(processes=1, waiting=0, wait_s=600.0, outstanding_bytes=INLINE_BYTES), folder=tmp_path)
    try:
        held = [pool.transcode(LARGE)]
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(pool.transcode, LARGE, is_under_way=True)
            try:
                wait_until(lambda: bool(pool._hold._has_room._waiters), what="it waits for room")  # type: ignore[attr-defined]  # of Condition
                assert pool.place(SMALL)["frames"] == 1
                assert not waiting.done()
            finally:
                held.clear()
            assert waiting.result().read()[128:132] == b"DICM"
    finally:
        pool.close()


def test_clients_that_take_nothing_of_their_answers_keep_others_from_more(tmp_path: Path) -> None:
    pool = PixelPool(PoolLimits(processes=1, outstanding_bytes=600_000), folder=tmp_path)
    try:
        held = [pool.transcode(LARGE)]
        assert held[0].size_bytes > INLINE_BYTES
        with pytest.raises(DecodersBusy):
            held.extend(pool.transcode(LARGE) for _ in range(100))
        assert sum(len(cargo._content) for cargo in held) == 0
        assert sum(cargo.size_bytes for cargo in held) <= 600_000
        held.clear()
        assert pool.transcode(SMALL).read()[128:132] == b"DICM"
    finally:
        pool.close()
