"""A model of the catalogue is fetched, proven, converted and installed; or nothing is there of it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from node.catalogue.bundle import CONFIG
from node.catalogue.download import Download, Progress
from node.catalogue.shelf import Shelf
from node.catalogue.table import Entry
from node.catalogue.writing import write_manifest
from node.errors import FileUnreadable, ModelInvalid, NotFound
from node.models import MODEL_FILE, ModelCard, digest_file, list_files

WEIGHTS_FILE = "weights.safetensors"
# Beside the models: what was fetched and is not installed yet.
FETCHED = ".fetched"

# Called with what was fetched and where safetensors are to be written.
Convert = Callable[[Path, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How a person wants a model.

    Attributes
    ----------
    mirror
        A folder or a URL that has the file under its name; empty: where its publisher has it.
    confirmed
        The SHA-256 that a person has seen and confirms; empty: none.
    """

    mirror: str = ""
    confirmed: str = ""
    replaces: bool = False


def pull_model(entry: Entry, shelf: Shelf, order: Order, *, convert: Convert, progress: Progress) -> ModelCard:
    """Return the card of a model of the catalogue after it is installed.

    Raises
    ------
    NotFound
        If the catalogue names no file, or a mirror has none.
    ModelUnreachable
        If it is not to be had now; what came so far is kept.
    ModelInvalid
        If it is not the file that was named, must be confirmed first, or cannot be read without running it.
    WrongState
        If it is installed already and is not to be replaced.
    """
    if not entry.url:
        raise NotFound(f"model {entry.name} is not fetched by radnode: {entry.how}")
    place = shelf.folder / FETCHED / entry.name
    source = _mirrored(entry, order.mirror) if order.mirror else None
    if source is None:
        url = f"{order.mirror.rstrip('/')}/{entry.file}" if order.mirror else entry.url
        source = Download(url, place, max_bytes=entry.max_bytes, progress=progress).fetch()
    fault = _find_fault(entry, source, order.confirmed)
    if fault:
        shutil.rmtree(place, ignore_errors=True)
        raise ModelInvalid(
            f"model {entry.name}: {fault}; nothing of it is kept: pull again, and if it stays so, ask its publisher"
        )
    if not (entry.sha256 or entry.md5 or order.confirmed):
        found = digest_file(source)
        raise ModelInvalid(
            f"model {entry.name}: its publisher names no digest. What came has sha256 {found}: compare it with what "
            f"others have, then give the same command --confirm {found}; the file is kept"
        )
    card = _install(entry, source, shelf, order, convert)
    shutil.rmtree(place, ignore_errors=True)
    return card


def _mirrored(entry: Entry, mirror: str) -> Path | None:
    """Return the file in the folder that is the mirror; None where the mirror is a URL."""
    if urlsplit(mirror).scheme in {"http", "https"}:
        return None
    path = Path(mirror) / entry.file
    if not path.is_file():
        raise NotFound(f"{path} does not exist; bring the file of {entry.url} there, under that name")
    if path.stat().st_size > entry.max_bytes:
        raise ModelInvalid(f"{path} has more than the {entry.max_bytes} bytes that this model may have")
    return path


def _find_fault(entry: Entry, source: Path, confirmed: str) -> str:
    """Return in words how a file differs from the one that was named; empty where it does not."""
    found = digest_file(source)
    for expected in (entry.sha256, confirmed.lower()):
        if expected and found != expected:
            return f"the file has sha256 {found}, expected is {expected}"
    if entry.md5:
        with source.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if md5 != entry.md5:
            return f"the file has md5 {md5}, its publisher names {entry.md5}"
    return ""


def _install(entry: Entry, source: Path, shelf: Shelf, order: Order, convert: Convert) -> ModelCard:
    with shelf.workplace() as place:
        folder = place / entry.name
        config = folder / CONFIG
        try:
            config.parent.mkdir(parents=True)
            config.write_text(json.dumps(entry.config, indent=2), encoding="utf-8")
            convert(source, folder / WEIGHTS_FILE)
            table = entry.manifest({"file": WEIGHTS_FILE, "sha256": digest_file(folder / WEIGHTS_FILE)})
            files = {path: digest_file(folder / path) for path in list_files(folder) if path != WEIGHTS_FILE}
            table["bundle"] = {**table["bundle"], "files": files}
            (folder / MODEL_FILE).write_text(write_manifest(table), encoding="utf-8")
        except OSError as exc:
            raise FileUnreadable(f"{shelf.folder} cannot be written ({exc.strerror}); make room there") from exc
        return shelf.add(folder, replaces=order.replaces)
