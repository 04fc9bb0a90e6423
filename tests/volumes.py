"""Small volumes of a test's own, that can be full, or stand still; only root can make them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers import absent, require_program

FILLER = "filler"
BLOCK = bytes(64 * 1024)


@contextmanager
def memory_volume(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Give an empty volume of so many bytes, mounted at `folder`."""
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs"):
        yield folder


@contextmanager
def disk_volume(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Give an empty ext4 volume of so many bytes, mounted at `folder`."""
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run([require_program("mkfs.ext4"), "-q", "-F", str(image)], check=True)
    with _mounted(folder, "-o", "loop", str(image)):
        yield folder


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Let whoever writes to the volume at `folder` wait until the block ends."""
    program = require_program("fsfreeze")
    subprocess.run([program, "--freeze", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run([program, "--unfreeze", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no byte free on the volume at `folder`."""
    with (folder / FILLER).open("ab", buffering=0) as file:
        for block in (BLOCK, bytes(1)):
            try:
                while file.write(block) == len(block):
                    pass
            except OSError:
                continue


def clear(folder: Path) -> None:
    """Give back what `fill` took."""
    (folder / FILLER).unlink()


@contextmanager
def unwritable(*paths: Path) -> Iterator[None]:
    """Let nobody write to these files until the block ends, not even who has them open."""
    program = require_program("chattr")
    present = [str(path) for path in paths if path.exists()]
    _as_root([program, "+i", *present])
    try:
        yield
    finally:
        subprocess.run([program, "-i", *present], check=True)


@contextmanager
def _mounted(folder: Path, *arguments: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    _as_root([require_program("mount"), *arguments, str(folder)])
    try:
        yield
    finally:
        subprocess.run([require_program("umount"), "--lazy", str(folder)], check=True)


def _as_root(command: list[str]) -> None:
    """Run what only root may do; without those rights the test is skipped, or failed where CI=true."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        absent(f"{Path(command[0]).name} is not allowed here ({done.stderr.strip()})")
