"""The viewer in the data folder: there whole, or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from node.viewer.package import LICENCE, PINNED, Package, check_archive, unpack
from node.viewer.page import make_ready
from node.viewer.registry import download

FOLDER = "viewer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The viewer that is there.

    Attributes
    ----------
    size_bytes
        Of all its files.
    """

    version: str
    path: Path
    licence: str
    size_bytes: int


class Installation:
    """The viewer of one node.

    Parameters
    ----------
    data_dir
        Folder of the node.
    package
        The only version that this radnode installs and serves.
    """

    def __init__(self, data_dir: Path, *, package: Package = PINNED) -> None:
        self._folder = data_dir / FOLDER
        self._package = package

    @property
    def folder(self) -> Path | None:
        """Where the files are that are served; None: it is not installed."""
        folder = self._folder / self._package.version
        return folder if folder.is_dir() else None

    @property
    def version(self) -> str:
        """The version that is installed and served."""
        return self._package.version

    def other_versions(self) -> tuple[str, ...]:
        """Return versions that another radnode has left."""
        if not self._folder.is_dir():
            return ()
        names = {path.name for path in self._folder.iterdir() if not path.name.startswith(".")}
        return tuple(sorted(names - {self.version}))

    def find(self) -> Installed | None:
        """Return what is there; None: nothing that this radnode serves."""
        folder = self.folder
        if folder is None:
            return None
        return self._look(folder)

    def install_from(self, archive: Path) -> Installed:
        """Put the viewer of a package in its place, and return when it is served.

        Raises
        ------
        PackageRefused
            If it is not the package that is pinned, or cannot be unpacked.
        """
        self._install(archive)
        return self._clear()

    def install_by(self, registry: str) -> Installed:
        """Fetch the package from an npm registry, and install it.

        Raises
        ------
        PackageUnreachable, PackageRefused, Misconfigured
            If the registry does not give it, or gives another.
        """
        with self._workplace() as place:
            archive = place / Path(self._package.path).name
            download(self._package, registry, archive)
            self._install(archive)
        return self._clear()

    def remove(self) -> bool:
        """Remove every version; returns whether there was one."""
        was_there = self._folder.is_dir()
        if was_there:
            shutil.rmtree(self._folder)
        return was_there

    def _install(self, archive: Path) -> None:
        check_archive(archive, self._package)
        with self._workplace() as place:
            fresh, served = place / self.version, self._folder / self.version
            fresh.mkdir()
            unpack(archive, fresh)
            make_ready(fresh)
            if served.exists():
                served.rename(place / "old")
            fresh.rename(served)

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=self._folder) as place:
            yield Path(place)

    def _clear(self) -> Installed:
        """Remove all but what is served: other versions, and what an installation left that was killed."""
        for path in self._folder.iterdir():
            if path.name != self.version:
                shutil.rmtree(path)
        return self._look(self._folder / self.version)

    def _look(self, folder: Path) -> Installed:
        size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Installed(version=self.version, path=folder, licence=LICENCE, size_bytes=size_bytes)
