"""Certificates as a site makes them, by the commands of docs/operations.md; in a folder of the test."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers import require_program

LOOPBACK = "DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A certificate and its key, PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of a site."""

    def __init__(self, folder: Path, name: str = "site") -> None:
        self._folder = folder
        self._name = name
        folder.mkdir(parents=True, exist_ok=True)
        self._key = folder / f"{name}-ca.key"
        self.certificate = folder / f"{name}-ca.pem"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", f"/CN={name} CA"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def sign(self, name: str, *, alternatives: str = LOOPBACK, days: int = 30, usage: str | None = None) -> Signed:
        """Return a new certificate; one that has expired where `days` is negative."""
        key, request, certificate = (self._folder / f"{self._name}-{name}.{kind}" for kind in ("key", "csr", "pem"))
        extensions = [f"subjectAltName={alternatives}", "basicConstraints=CA:FALSE"]
        if usage is not None:
            extensions.append(f"extendedKeyUsage={usage}")
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *(word for extension in extensions for word in ("-addext", extension)),
            *("-keyout", key, "-out", request),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-days", str(days), "-copy_extensions", "copy"),
            *("-CA", self.certificate, "-CAkey", self._key, "-out", certificate),
        )
        return Signed(certificate=certificate, key=key)


def _openssl(*words: str | Path) -> None:
    command = [require_program("openssl"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
