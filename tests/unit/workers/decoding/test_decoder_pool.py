"""A decoder that hangs, dies or lies costs one slice; the next is decoded."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom.uid import JPEGLSLossless

from node.errors import InputMissing, PixelsUndecodable
from tests.peers import wait_until
from tests.sleeping_decoder import DIES, DIES_ONCE, HANGS, LIES
from workers.decoding.form import Form
from workers.decoding.pool import DecoderLimits, DecoderPool
from workers.decoding.window import NAME

FORM = Form(
    sop_instance_uid="1.2.3",
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


def count_windows() -> int:
    found = 0
    for link in list(Path("/proc/self/fd").iterdir()):
        # That of the folder itself is gone by now.
        with suppress(FileNotFoundError):
            found += NAME in str(link.readlink())
    return found


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
    pool = DecoderPool(DecoderLimits(seconds=3), module="tests.sleeping_decoder")
    with pool.decode(Path("sound"), FORM):
        pass
    (pid,) = pool.list_pids()
    with pytest.raises(PixelsUndecodable, match="more than 3 s"), pool.decode(Path(HANGS), FORM):
        pass
    assert not is_alive(pid)
    assert pool.list_pids() == ()


def test_a_decoder_that_was_killed_while_it_waited_is_replaced(pool: DecoderPool) -> None:
    with pool.decode(Path("sound"), FORM):
        pass
    (pid,) = pool.list_pids()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with pool.decode(Path("sound"), FORM) as pixels:
        assert pixels is not None
    assert pool.list_pids() != (pid,)


def test_a_slice_is_refused_only_when_a_fresh_decoder_dies_of_it_too(pool: DecoderPool, tmp_path: Path) -> None:
    with pool.decode(tmp_path / DIES_ONCE, FORM) as pixels:
        assert pixels is not None
    assert (tmp_path / DIES_ONCE).exists()


def test_a_terminal_interrupts_no_decoder(pool: DecoderPool) -> None:
    with pool.decode(Path("sound"), FORM):
        pass
    (pid,) = pool.list_pids()
    assert os.getpgid(pid) != os.getpgid(0)


OWNER = """
import os, pathlib, signal
from tests.unit.workers.decoding.test_decoder_pool import FORM
from workers.decoding.pool import DecoderPool
pool = DecoderPool(module="tests.sleeping_decoder")
with pool.decode(pathlib.Path("sound"), FORM):
    pass
print(*pool.list_pids(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_decoder_goes_with_its_owner_though_it_has_a_session_of_its_own() -> None:
    told = subprocess.run([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, check=False)
    assert told.returncode == -signal.SIGKILL
    pid = int(told.stdout)

    def is_gone() -> bool:
        # Of one that nobody has waited for yet, no command line is left.
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes() == b""
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(is_gone, what="decoder gone")


def test_a_decoder_that_cannot_be_started_leaves_no_memory(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = count_windows()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="none"), pool.decode(Path("sound"), FORM):
        pass
    assert count_windows() == before


@pytest.mark.parametrize("task", ["decode", "read"])
def test_a_share_that_fails_is_no_damage_of_a_slice(tmp_path: Path, task: str) -> None:
    """A folder cannot be read either, and no test can break a disk."""
    decoders = DecoderPool()

    def read(path: Path) -> None:
        with decoders.decode(path, FORM) if task == "decode" else decoders.read(path, (3, 4)):
            pass

    with pytest.raises(IsADirectoryError):
        read(tmp_path)
    (pid,) = decoders.list_pids()
    with pytest.raises(InputMissing):
        read(tmp_path / "none")
    assert decoders.list_pids() == (pid,)
    decoders.close()


def test_a_decoder_goes_with_its_pool() -> None:
    pool = DecoderPool(module="tests.sleeping_decoder")
    with pool.decode(Path("sound"), FORM):
        pass
    (pid,) = pool.list_pids()
    del pool
    assert not is_alive(pid)
