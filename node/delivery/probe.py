"""Whether a Destination can be reached, before anything is sent to it."""

import os
from pathlib import Path

from node.delivery.association import echo
from node.delivery.cstore import peer_of
from node.delivery.parcel import DestinationSpec
from node.delivery.stow import StowTransport
from node.errors import DestinationDown


def probe_destination(spec: DestinationSpec) -> str:
    """Return in words what was found.

    Raises
    ------
    DestinationDown
        If the Destination does not answer, or the folder cannot be written.
    Misconfigured
        If a person must change something first.
    """
    match spec.transport:
        case "cstore":
            peer = peer_of(spec)
            echo(peer)
            return f"{peer} answers C-ECHO"
        case "folder":
            return _probe_folder(Path(spec.url))
        case _:
            return StowTransport(spec).probe()


def _probe_folder(folder: Path) -> str:
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise DestinationDown(f"folder {folder} cannot be written; correct the path or its rights")
    return f"{folder} can be written"
