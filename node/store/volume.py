"""What the failures of a volume mean."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from node.errors import Misconfigured, NodeError, StoreFull, Transient

FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
RIGHTS_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def volume_errors(root: Path) -> Iterator[None]:
    """Turn what the operating system says of the store at `root` into an error that says what to do."""
    try:
        yield
    except OSError as exc:
        raise volume_error(exc, root) from exc


def volume_error(exc: OSError, root: Path) -> NodeError:
    """Return the error that says what to do about `exc`, which the store at `root` met."""
    what = f"store {root}: {errno.errorcode.get(exc.errno or 0, 'error')} ({exc.strerror})"
    if exc.errno in FULL_ERRNOS:
        return StoreFull(f"{what}; free space on the volume")
    if exc.errno in RIGHTS_ERRNOS:
        return Misconfigured(f"{what}; give the node's user the right to write there")
    return Transient(f"{what}; nothing was acknowledged; check the volume if this comes again")


def sync_folder(folder: Path) -> None:
    """Return after the names in `folder` are durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_nearest_folder(path: Path) -> Path:
    """Return `path`, or what above it is there already."""
    # Behind a folder that is closed to this user nothing is there for them.
    return next(place for place in (path.absolute(), *path.absolute().parents) if os.path.exists(place))  # noqa: PTH110


def prove_writable(folder: Path) -> None:
    """Return after a file without name was made in `folder`; raise the OSError that keeps one from it.

    Rights alone say too little: in /proc, and on a volume of the network, root may not do what they grant.
    """
    with TemporaryFile(dir=folder):
        return
