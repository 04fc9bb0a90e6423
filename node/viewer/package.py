"""The package of the viewer: which one, that it is that very one, and what is taken out of it."""

import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from node.errors import PackageRefused

NAME = "@ohif/app"
VERSION = "3.13.2"
# As npm publishes it (`npm view @ohif/app dist.integrity`, there in Base64).
SHA512 = (
    "5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3dee"
    "a3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10"
)
LICENCE = "MIT"
LICENCE_FILE = "LICENSE"

MAX_ARCHIVE_BYTES = 128 * 1024 * 1024
MAX_FILES = 2000
MAX_BYTES = 512 * 1024 * 1024
READ_BYTES = 1024 * 1024

ROOT = PurePosixPath("package")
DIST = ROOT / "dist"
# What is written anew here; what makes a browser keep files of an older version; what is for other servers and
# log-ins; and a runtime (136 MB) for models that the viewer would fetch from other hosts.
LEFT_OUT = frozenset({
    "_headers", "_redirects", "app-config.js", "google.js", "index.html", "init-service-worker.js", "manifest.json",
    "oidc-client.min.js", "ort", "serve.json", "silent-refresh.html", "sw.js",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One version of the viewer.

    Attributes
    ----------
    sha512
        Digest of the archive; hexadecimal.
    """

    version: str
    sha512: str

    @property
    def path(self) -> str:
        """Where it is below the URL of every npm registry."""
        return f"{NAME}/-/{NAME.rpartition('/')[2]}-{self.version}.tgz"


PINNED = Package(version=VERSION, sha512=SHA512)


def check_archive(archive: Path, package: Package) -> None:
    """Return when `archive` is the package, byte for byte.

    Raises
    ------
    PackageRefused
        If it is another file, or cannot be read.
    """
    try:
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha512").hexdigest()
    except OSError as exc:
        raise PackageRefused(f"{archive} cannot be read ({exc.strerror}); name the file of the package") from exc
    if found != package.sha512:
        raise PackageRefused(
            f"{archive.name} is not {NAME} {package.version} as it was published: expected sha512 "
            f"{package.sha512[:16]}…, found {found[:16]}…; fetch that version again"
        )


def unpack(archive: Path, folder: Path) -> None:
    """Write what is served, and the licence, below `folder`.

    Raises
    ------
    PackageRefused
        If the archive cannot be read, holds anything but files and folders, leads outside, or is too large.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member, path in _members(tar):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                if content is None:
                    raise PackageRefused(f"{archive.name}: {path} has no content; fetch the package again")
                with content, target.open("xb") as file:
                    shutil.copyfileobj(content, file, READ_BYTES)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as exc:
        raise PackageRefused(
            f"{archive.name} cannot be unpacked ({type(exc).__name__}); look at the space of the volume, or fetch the "
            "package again"
        ) from exc


def _members(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Yield the files that are taken, each with its path below the folder."""
    count = total_bytes = 0
    for member in tar:
        count, total_bytes = count + 1, total_bytes + member.size
        path = PurePosixPath(member.name)
        if not (member.isfile() or member.isdir()) or path.is_absolute() or ".." in path.parts:
            raise PackageRefused(f"the package holds {member.name!r}, which is no file within it; take none like it")
        if count > MAX_FILES or total_bytes > MAX_BYTES:
            raise PackageRefused(
                f"the package holds more than {MAX_FILES} files or {MAX_BYTES} bytes; take none like it"
            )
        if member.isdir():
            continue
        if path == ROOT / LICENCE_FILE:
            yield member, PurePosixPath(LICENCE_FILE)
        elif path.is_relative_to(DIST) and path.suffix != ".map":
            inner = path.relative_to(DIST)
            if inner.parts[0] not in LEFT_OUT:
                yield member, inner
