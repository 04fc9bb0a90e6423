"""A simulated modality: sends Instances by C-STORE in its own order, straight from memory where they lie in no file."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import Dataset

from node.peers.peer import Peer
from node.peers.sender import Progress, SendReport, send_files


def send(
    sources: Sequence[Path | Dataset],
    peer: Peer,
    *,
    calling_aet: str = "MODALITY",
    associations: int = 1,
    shuffle_seed: int | None = None,
    progress: Progress | None = None,
) -> SendReport:
    """Return what became of each Instance, in the order of `sources`; see `send_files`.

    A Dataset goes through a temporary file, whose path is in the report and which is gone by then.

    Parameters
    ----------
    sources
        Part 10 files, or Datasets with their Transfer Syntax UID (0002,0010).
    calling_aet
        AE title of the modality, 1-16 characters.
    associations
        How many in parallel, >= 1; Instances are dealt out in turn.
    shuffle_seed
        None sends in the order given; a number shuffles, always the same way.
    progress
        Called after each Instance, by one thread at a time; a modality that pauses waits in it.
    """
    order = list(range(len(sources)))
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(order)  # noqa: S311 - an order, not a secret
    with TemporaryDirectory(prefix="radnode-modality-") as folder:
        paths = [_written(sources[place], Path(folder) / f"{place}.dcm") for place in order]
        report = send_files(paths, replace(peer, calling_aet=calling_aet), associations=associations, progress=progress)
    sent = dict(zip(order, report.files, strict=True))
    return replace(report, files=tuple(sent[place] for place in range(len(sources))))


def _written(source: Path | Dataset, path: Path) -> Path:
    """Return the file of an Instance; one that has none is written to `path`."""
    if isinstance(source, Path):
        return source
    source.save_as(path, enforce_file_format=True)
    return path
