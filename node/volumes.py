"""What a node keeps on its volumes: its store, and its audit trail."""

import socket
from pathlib import Path

from node.audit.message import Source
from node.audit.trail import Trail
from node.clock import utc_now
from node.settings.whole import Settings
from node.store.files import FileStore, Reserve, require_room
from node.store.volume import find_nearest_folder, prove_writable, volume_errors


def open_store(settings: Settings) -> FileStore:
    """Return the store of `settings`."""
    return FileStore(settings.store_root, _reserve_of(settings), settings.store.durability)


def require_room_for_store(settings: Settings) -> None:
    """Return after the volume on which the store is, or will be, was found to have room; no folder is made.

    Raises
    ------
    StoreFull
        If it has less than the reserve.
    Misconfigured
        If this user may not write there.
    """
    nearest = find_nearest_folder(settings.store_root)
    with volume_errors(nearest):
        prove_writable(nearest)
    require_room(nearest, _reserve_of(settings))


def _reserve_of(settings: Settings) -> Reserve:
    return Reserve(reserve_bytes=settings.store.reserve_bytes, reserve_percent=settings.store.reserve_percent)


def open_trail(settings: Settings) -> Trail:
    """Return the audit trail of the node; opening it writes nothing."""
    source = Source(source_id=f"{settings.node.aet}@{socket.gethostname()}", aet=settings.node.aet)
    return Trail(audit_folder(settings), source=source, clock=utc_now)


def audit_folder(settings: Settings) -> Path:
    """Return where the audit trail is."""
    return settings.node.data_dir / "audit"
