"""What a node keeps on its volumes: its store, and its audit trail."""

import socket
from pathlib import Path

from node.audit.message import Source
from node.audit.trail import Trail
from node.clock import utc_now
from node.settings.whole import Settings
from node.store.files import FileStore, Reserve


def open_store(settings: Settings) -> FileStore:
    """Return the store of `settings`."""
    reserve = Reserve(reserve_bytes=settings.store.reserve_bytes, reserve_percent=settings.store.reserve_percent)
    return FileStore(settings.store_root, reserve, settings.store.durability)


def open_trail(settings: Settings) -> Trail:
    """Return the audit trail of the node; opening it writes nothing."""
    source = Source(source_id=f"{settings.node.aet}@{socket.gethostname()}", aet=settings.node.aet)
    return Trail(audit_folder(settings), source=source, clock=utc_now)


def audit_folder(settings: Settings) -> Path:
    """Return where the audit trail is."""
    return settings.node.data_dir / "audit"
