"""The npm registry: which one, as npm itself is told, and the package from there."""

import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from node.errors import Misconfigured, PackageUnreachable
from node.viewer.package import MAX_ARCHIVE_BYTES, NAME, READ_BYTES, Package

SCOPE = NAME.partition("/")[0]
# In this order; npm reads variables whatever their case.
KEYS = (f"{SCOPE}:registry", "registry")
VARIABLE = "npm_config_registry"
FILE = ".npmrc"
ENTRY = re.compile(rf"^\s*(?P<key>(?:{re.escape(SCOPE)}:)?registry)\s*=\s*(?P<url>\S+)\s*$")
# What npm prints where nothing is set.
UNDEFINED = "undefined"
ASK_NPM_S = 30.0
SILENT_S = 60.0


def find_registry(*, home: Path, environment: Mapping[str, str] = os.environ) -> str:
    """Return the registry that npm would ask for the package: as npm says, else as its variable or file does.

    Raises
    ------
    Misconfigured
        If there is no npm, and neither says one.
    """
    found = _ask_npm(environment) or _variable(environment) or _file(home / FILE)
    if not found:
        raise Misconfigured(
            "no npm registry is known here: there is no npm, no npm_config_registry, and no .npmrc; name one by "
            "--registry URL or viewer.registry, or bring the package and give --from FILE"
        )
    return found


def download(package: Package, registry: str, target: Path) -> None:
    """Return when the package lies at `target`, unchecked.

    Raises
    ------
    PackageUnreachable
        If the registry gives nothing, or too much.
    Misconfigured
        If its URL is none.
    """
    if urlsplit(registry).scheme not in {"http", "https"}:
        raise Misconfigured("the URL of an npm registry begins with https:// (or http://); correct it")
    url = f"{registry.rstrip('/')}/{package.path}"
    host = urlsplit(url).hostname
    try:
        with urllib.request.urlopen(url, timeout=SILENT_S) as answer, target.open("wb") as file:  # noqa: S310 checked above
            while chunk := answer.read(READ_BYTES):
                file.write(chunk)
                if file.tell() > MAX_ARCHIVE_BYTES:
                    raise PackageUnreachable(f"{host} sends more than {MAX_ARCHIVE_BYTES} bytes for {package.path}")
    except (urllib.error.URLError, HTTPException, OSError) as exc:
        said = exc.code if isinstance(exc, urllib.error.HTTPError) else type(exc).__name__
        raise PackageUnreachable(
            f"{host} does not give {package.path} ({said}); look at the network and its proxy, name another one by "
            "--registry, or bring the package and give --from FILE"
        ) from exc


def _ask_npm(environment: Mapping[str, str]) -> str:
    npm = shutil.which("npm", path=environment.get("PATH"))
    if npm is None:
        return ""
    for key in KEYS:
        try:
            answer = subprocess.run(
                [npm, "config", "get", key],
                capture_output=True,
                text=True,
                timeout=ASK_NPM_S,
                env=dict(environment),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        said = answer.stdout.strip()
        if answer.returncode == 0 and said not in {"", UNDEFINED}:
            return said
    return ""


def _variable(environment: Mapping[str, str]) -> str:
    return next((value for name, value in environment.items() if name.lower() == VARIABLE and value), "")


def _file(path: Path) -> str:
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    told = {found["key"]: found["url"] for found in map(ENTRY.match, lines) if found}
    return next((told[key] for key in KEYS if key in told), "")
