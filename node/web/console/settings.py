"""Settings as they are in effect, and where each has its value from; to look at, never to change."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response

from node.domain.origin import DEFAULT, keys_of
from node.settings.whole import Settings
from node.web.console.page import Pages
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

Manager = Annotated[Visitor, Depends(authorize(Right.MANAGE))]
HIDDEN, NOT_SET = "hidden", "not set"
# What a secret is told as by the settings themselves; one that is empty is told as empty.
MASK = "**********"
RULES = "rules"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingLine:
    """One setting."""

    key: str
    value: str
    origin: str
    is_default: bool
    is_secret: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionLines:
    """One table of the settings."""

    name: str
    lines: tuple[SettingLine, ...]


def router(services: Services) -> APIRouter:
    """Return the page of settings."""
    routes, pages = APIRouter(), Pages(services)
    # They do not change while a process lives.
    sections = list_settings(services.settings)

    @routes.get("/settings")
    def page(request: Request, visitor: Manager, only: str = "") -> Response:
        shown = [_own(section) for section in sections] if only == "own" else sections
        return pages.render(
            request, visitor, "settings.html", sections=[one for one in shown if one.lines], only_own=only == "own"
        )

    return routes


def list_settings(settings: Settings) -> tuple[SectionLines, ...]:
    """Return every setting by its table, secrets hidden, with where its value stands."""
    told: dict[str, Any] = settings.model_dump(mode="json", exclude={RULES})
    count = len(settings.rules)
    rules = _line(settings, RULES, f"{count} rule{'' if count == 1 else 's'}, see Rules")
    sections = [
        SectionLines(
            name=name,
            lines=tuple(_line(settings, key, tell_value(_find(told, key))) for key in keys_of(table, f"{name}.")),
        )
        for name, table in told.items()
    ]
    return (*sections, SectionLines(name=RULES, lines=(rules,)))


def tell_value(value: object) -> str:
    """Return a value for people; the user and password that a URL may hold are left out."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return _bare(value)
        case list():
            return ", ".join(map(tell_value, value)) or "none"
        case Mapping():
            return f"{{ {', '.join(f'{key} = {tell_value(one)}' for key, one in value.items())} }}"
        case _:
            return str(value)


def _line(settings: Settings, key: str, value: str) -> SettingLine:
    origin = settings.origins.get(key, DEFAULT)
    return SettingLine(
        key=key,
        value=HIDDEN if value == MASK else value or NOT_SET,
        origin=origin,
        is_default=origin == DEFAULT,
        is_secret=value == MASK,
    )


def _own(section: SectionLines) -> SectionLines:
    return SectionLines(name=section.name, lines=tuple(line for line in section.lines if not line.is_default))


def _find(table: Mapping[str, Any], dotted: str) -> object:
    found: Any = table
    rest = dotted
    while rest:
        # A name that a site chose may have a dot in it.
        key = next(one for one in sorted(found, key=len, reverse=True) if rest == one or rest.startswith(f"{one}."))
        found, rest = found[key], rest[len(key) + 1 :]
    return found


def _bare(text: str) -> str:
    if "://" not in text or "@" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return HIDDEN
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
