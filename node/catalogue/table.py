"""The catalogue: models that others publish, as a table of data."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from node.errors import NotFound
from node.manifest import BUNDLE_PIPELINE

CATALOGUE = Path(__file__).resolve().parent / "catalogue.toml"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model of the catalogue.

    Attributes
    ----------
    url
        Of the weights; empty: it is not fetched, `how` says what to do.
    md5, sha256
        What its publisher names; empty where that names none.
    max_bytes
        What the file may have at most.
    facts
        What its publisher says of input and quality.
    card
        Its `model.toml` but name, version, licence and weights.
    config
        Its inference config, as a MONAI Bundle has it.
    """

    name: str
    version: str
    licence: str
    facts: str
    url: str = ""
    md5: str = ""
    sha256: str = ""
    max_bytes: int = 0
    how: str = ""
    card: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def file(self) -> str:
        """Name of the file, as a mirror has it."""
        return self.url.rpartition("/")[2]

    @property
    def digest(self) -> str:
        """In words, how the file is known."""
        if not self.url:
            return "not fetched"
        return "sha256" if self.sha256 else "md5" if self.md5 else "recorded on first pull, confirm"

    def manifest(self, weights: Mapping[str, str]) -> dict[str, Any]:
        """Return the table of its `model.toml`."""
        return {
            "name": self.name,
            "version": self.version,
            "pipeline": BUNDLE_PIPELINE,
            "licence": self.licence,
            "notice": "Published model, not validated here, not for diagnosis",
            **self.card,
            "weights": dict(weights),
        }


@cache
def read_catalogue() -> Mapping[str, Entry]:
    """Return the catalogue by name."""
    table = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))
    entries = (Entry(**{"card": {}, "config": {}, **entry}) for entry in table["models"])
    return {entry.name: entry for entry in entries}


def find_entry(name: str) -> Entry:
    """Return a model of the catalogue.

    Raises
    ------
    NotFound
        If there is none of that name.
    """
    catalogue = read_catalogue()
    if name not in catalogue:
        raise NotFound(f"model {name!r} is not in the catalogue; it has {', '.join(catalogue)}")
    return catalogue[name]
