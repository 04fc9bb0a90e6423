"""The node itself: what it is, and with which settings it runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter

from node.ledger.engine import schema_of
from node.settings.whole import Settings
from node.version import product_version
from node.web.api.conduct import Manager, Reader, new_router
from node.web.api.contract import told
from node.web.rights import Right
from node.web.services import Services

HIDDEN = "********"


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutResource:
    """What this node is.

    Attributes
    ----------
    version
        Of radnode.
    ledger_schema
        Version of the ledger's schema.
    pipelines
        Names in the settings.
    you
        Name of who asks.
    rights
        What who asks may do.
    """

    version: str
    api: str
    aet: str
    ledger_schema: str
    pipelines: tuple[str, ...]
    destinations: tuple[str, ...]
    is_medical_device: bool
    you: str
    rights: tuple[Right, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsResource:
    """The settings that count, with where each value that is no default stands.

    Attributes
    ----------
    settings
        Tables as in settings.toml; secrets are hidden.
    origins
        Dotted key to a file or a variable of the environment.
    """

    settings: Mapping[str, Any]
    origins: Mapping[str, str]


def router(services: Services) -> APIRouter:
    """Return what programs ask of the node itself."""
    routes = new_router("node")

    @routes.get("/about", **told(Right.READ))
    def get_about(reader: Reader) -> AboutResource:
        """Tell what this node is, and what who asks may do."""
        settings = services.settings
        return AboutResource(
            version=product_version(),
            api="v1",
            aet=settings.node.aet,
            ledger_schema=schema_of(services.engine),
            pipelines=tuple(settings.pipelines),
            destinations=tuple(settings.destinations),
            is_medical_device=False,
            you=reader.name,
            rights=tuple(sorted(reader.rights)),
        )

    @routes.get("/settings", **told(Right.MANAGE))
    def get_settings(_manager: Manager) -> SettingsResource:
        """Tell the settings with which the node runs; secrets are hidden."""
        return SettingsResource(settings=_shown(services.settings), origins=services.settings.origins)

    return routes


def _shown(settings: Settings) -> Mapping[str, Any]:
    table: dict[str, Any] = settings.model_dump(mode="json")
    for section in ("destinations", "store"):
        _hide_passwords(table[section])
    return table


def _hide_passwords(table: dict[str, Any]) -> None:
    """Replace what stands before the @ of each URL, also in tables inside."""
    for key, value in table.items():
        if isinstance(value, dict):
            _hide_passwords(value)
        elif isinstance(value, str) and "@" in (authority := urlsplit(value).netloc if "://" in value else ""):
            table[key] = value.replace(authority, f"{HIDDEN}@{authority.rpartition('@')[2]}", 1)
