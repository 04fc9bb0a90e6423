"""Models: the cards of those at hand, and whether their weights are what they say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter

from node.errors import ModelInvalid, NotFound
from node.models import ModelCard, survey_folders
from node.site import model_folders
from node.web.api.conduct import NamePath, Operator, Reader, new_router
from node.web.api.contract import told
from node.web.rights import Right
from node.web.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedFor:
    """A coded concept that a model can find."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResource:
    """What a model says of itself.

    Attributes
    ----------
    used_by
        Pipelines of the settings that run it.
    looked_for
        What it can find, and what is absent when it finds nothing.
    """

    name: str
    version: str
    title: str
    pipeline: str
    used_by: tuple[str, ...]
    licence: str
    intended_use: str
    notice: str
    weights_sha256: str
    required_roles: tuple[str, ...]
    optional_roles: tuple[str, ...]
    looked_for: tuple[LookedFor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    """All models at hand, by name."""

    items: tuple[ModelResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedResource:
    """Whether the weights of a model are those that its card names."""

    name: str
    is_right: bool
    said: str


def router(services: Services) -> APIRouter:
    """Return what programs ask of models."""
    routes = new_router("models")
    folders, pipelines = model_folders(services.settings), services.settings.pipelines

    def resource(card: ModelCard) -> ModelResource:
        return _to_resource(card, [name for name, entry in pipelines.items() if entry.model == card.name])

    @routes.get("/models", **told(Right.READ))
    def list_models(_reader: Reader) -> ModelList:
        """List every model at hand, and which Pipeline uses it."""
        return ModelList(items=tuple(map(resource, _read(folders))))

    @routes.get("/models/{name}", **told(Right.READ, 404))
    def get_model(_reader: Reader, name: NamePath) -> ModelResource:
        """Tell the card of one model."""
        return resource(_find(_read(folders), name))

    @routes.post("/models/{name}/verify", **told(Right.OPERATE, 404))
    def verify_model(_operator: Operator, name: NamePath) -> VerifiedResource:
        """Compare the weights of a model with the digest that its card names."""
        card = _find(_read(folders), name)
        try:
            card.verify_weights()
        except ModelInvalid as exc:
            return VerifiedResource(name=name, is_right=False, said=str(exc))
        return VerifiedResource(name=name, is_right=True, said="weights are as named")

    return routes


def _read(folders: tuple[Path, ...]) -> Sequence[ModelCard]:
    """Return every model that can be read; the console and `radnode doctor` tell of the others."""
    return survey_folders(folders)[0]


def _find(cards: Sequence[ModelCard], name: str) -> ModelCard:
    for card in cards:
        if card.name == name:
            return card
    raise NotFound(f"no model at hand has that name; at hand: {', '.join(card.name for card in cards) or 'none'}")


def _to_resource(card: ModelCard, used_by: Sequence[str]) -> ModelResource:
    kept = (
        "name", "version", "title", "pipeline", "licence", "intended_use", "notice", "weights_sha256", "required_roles",
        "optional_roles",
    )  # fmt: skip
    return ModelResource(
        used_by=tuple(used_by),
        looked_for=tuple(LookedFor(value=c.value, scheme=c.scheme, meaning=c.meaning) for c in card.looked_for),
        **{name: getattr(card, name) for name in kept},
    )
