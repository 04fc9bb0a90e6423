"""What this is: version, intended use, DICOM conformance, and the licences of what is installed with it."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distributions
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from markupsafe import Markup

from node.version import product_version
from node.web.console.documents import read_document, to_html
from node.web.console.page import Pages
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

Reader = Annotated[Visitor, Depends(authorize(Right.READ))]
CONFORMANCE = "conformance.md"
LICENCE_CLASSIFIER = "License ::"
UNNAMED = "see its own files"
MAX_LICENCE = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package that is installed beside radnode."""

    name: str
    version: str
    licence: str


def router(services: Services) -> APIRouter:
    """Return the page about this node."""
    routes, pages = APIRouter(), Pages(services)
    # Read when somebody asks, and once: what is installed does not change under a process that runs.
    packages, conformance = cache(list_packages), cache(_read_conformance)

    @routes.get("/about")
    def page(request: Request, visitor: Reader) -> Response:
        return pages.render(
            request, visitor, "about.html", packages=packages(), conformance=conformance(), product=product_version()
        )

    return routes


def list_packages() -> tuple[Package, ...]:
    """Return what is installed, by name; of several versions of one the first that would be imported."""
    found: dict[str, Package] = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name:
            package = Package(name=name, version=distribution.version, licence=licence_of(distribution))
            found.setdefault(name.lower(), package)
    return tuple(found[name] for name in sorted(found))


def licence_of(distribution: Distribution) -> str:
    """Return the licence that a package names: as expression, by its classifiers, or in a line of its own words."""
    metadata = distribution.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = [one for one in metadata.get_all("Classifier") or () if one.startswith(LICENCE_CLASSIFIER)]
    named = [one.rpartition(" :: ")[2] for one in classifiers if one.count(" :: ") > 1]
    if named:
        return ", ".join(named)
    first, _, _ = (metadata["License"] or "").strip().partition("\n") if "License" in metadata else ("", "", "")
    return first[:MAX_LICENCE] or UNNAMED


def _read_conformance() -> Markup | None:
    text = read_document(CONFORMANCE)
    return None if text is None else to_html(text)
