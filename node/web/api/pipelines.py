"""Pipelines: which are on, and the switch of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body

from node.audit.orders import pipeline_switched
from node.domain.switch import Mode, Switch
from node.errors import NotFound
from node.ledger.switches import SwitchLedger
from node.web.api.conduct import LINE, Manager, NamePath, Reader, new_router
from node.web.api.contract import told
from node.web.rights import Right
from node.web.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineResource:
    """One AI routine, and how it is switched.

    Attributes
    ----------
    model
        Name of its model in the settings.
    mode
        on, shadow (Results are kept and not delivered) or off.
    changed_at
        When it was switched last; null: never, and it is on.
    """

    name: str
    model: str
    mode: Mode
    changed_at: datetime | None
    changed_by: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineList:
    """All Pipelines of the settings."""

    items: tuple[PipelineResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOrder:
    """How a Pipeline is to be switched.

    Attributes
    ----------
    reason
        For whoever asks later; no patient's name.
    """

    mode: Mode
    reason: Annotated[str, Body(max_length=200, pattern=LINE)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedResource:
    """What a switch has done.

    Attributes
    ----------
    canceled
        How many Jobs that waited or ran have ended by it.
    """

    pipeline: PipelineResource
    canceled: int


def router(services: Services) -> APIRouter:
    """Return what programs ask of Pipelines, and order."""
    routes, ledger = new_router("pipelines"), SwitchLedger(services.engine)
    entries = services.settings.pipelines

    def resource(name: str, switches: Mapping[str, Switch]) -> PipelineResource:
        switch = switches.get(name)
        return PipelineResource(
            name=name,
            model=entries[name].model,
            mode=Mode.ON if switch is None else switch.mode,
            changed_at=None if switch is None else switch.changed_at,
            changed_by=None if switch is None else switch.changed_by,
            reason="" if switch is None else switch.reason,
        )

    @routes.get("/pipelines", **told(Right.READ))
    def list_pipelines(_reader: Reader) -> PipelineList:
        """List the Pipelines of the settings, and how they are switched."""
        switches = ledger.read_switches()
        return PipelineList(items=tuple(resource(name, switches) for name in entries))

    @routes.post("/pipelines/{name}/switch", **told(Right.MANAGE, 404, 409))
    def switch_pipeline(manager: Manager, name: NamePath, order: SwitchOrder) -> SwitchedResource:
        """Switch a Pipeline for every node of the ledger, from the next Study on."""
        if name not in entries:
            raise NotFound(f"no pipeline of the settings has that name; known: {', '.join(entries) or 'none'}")
        wanted = Switch(
            pipeline=name,
            mode=order.mode,
            changed_by=manager.name,
            changed_at=services.clock(),
            reason=order.reason,
        )
        canceled = ledger.switch_pipeline(wanted)
        services.record(pipeline_switched(wanted))
        return SwitchedResource(pipeline=resource(name, ledger.read_switches()), canceled=canceled)

    return routes
