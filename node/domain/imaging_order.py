"""Imaging orders: what a RIS or HIS asked for, before, while or after the images come."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from node.domain.job import Priority

# What rules ask of an order, by the keyword under which it is read; the first is no DICOM keyword.
ORDER_PRIORITY = "OrderPriority"
PROCEDURE_CODES = ("ProcedureCodeSequence", "RequestedProcedureCodeSequence")
REQUESTING_SERVICE = "RequestingService"


class OrderState(StrEnum):
    """Whether an order stands."""

    ORDERED = "ORDERED"
    CANCELED = "CANCELED"


class OrderOrigin(StrEnum):
    """How an order was told."""

    HL7 = "HL7"
    WORKLIST = "Modality Worklist"
    FHIR = "FHIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagingOrder:
    """One order as a message, a worklist or a resource tells it; what it does not say is empty.

    Attributes
    ----------
    identity
        What two messages about the same order have in common, and no others.
    source
        Who told it.
    study_instance_uid
        The Study that the images are to have (0020,000D).
    procedure_codes
        Each behind its Coding Scheme Designator: ``LN:24627-2``.
    requested_by
        Whoever wants the images (0032,1032).
    requesting_service
        Where they work (0032,1033).
    control_id
        Message Control ID (MSH-10) of the last message about it.
    """

    identity: str
    origin: OrderOrigin
    source: str = ""
    state: OrderState = OrderState.ORDERED
    placer_order_number: str = ""
    filler_order_number: str = ""
    accession_number: str = ""
    study_instance_uid: str = ""
    patient_id: str = ""
    patient_id_issuer: str = ""
    procedure_codes: tuple[str, ...] = ()
    procedure_text: str = ""
    priority: Priority | None = None
    requested_by: str = ""
    requesting_service: str = ""
    scheduled_at: datetime | None = None
    control_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOrder(ImagingOrder):
    """One order as the ledger has it.

    Attributes
    ----------
    resource_id
        Under which it is read back by FHIR; empty where it did not come so.
    received_at, changed_at
        When the first and the last message about it came (UTC).
    """

    order_id: int
    resource_id: str
    received_at: datetime
    changed_at: datetime

    @property
    def words(self) -> str:
        """The order in one line for people."""
        by = self.requested_by or self.requesting_service or self.source
        urgency = "not said" if self.priority is None else self.priority.word
        told = [f"ordered {self.received_at:%Y-%m-%d %H:%M} UTC" + (f" by {by}" if by else ""), f"priority {urgency}"]
        if self.procedure_text:
            told.append(self.procedure_text)
        if self.state is OrderState.CANCELED:
            told.append("canceled")
        return ", ".join((*told, f"told by {self.origin.value}"))


def most_urgent(orders: Iterable[ImagingOrder]) -> Priority | None:
    """Return the highest Priority among the orders that stand; None where none says one."""
    said = (order.priority for order in standing(orders))
    return min((priority for priority in said if priority is not None), default=None)


def standing(orders: Iterable[ImagingOrder]) -> Sequence[ImagingOrder]:
    """Return the orders that are not canceled."""
    return [order for order in orders if order.state is OrderState.ORDERED]


def ordered_attributes(orders: Iterable[ImagingOrder]) -> Mapping[str, Any]:
    """Return what rules may ask of the orders of a Study, by keyword; what they do not say is absent."""
    stand = standing(orders)
    urgency = most_urgent(stand)
    services = list(dict.fromkeys(order.requesting_service for order in stand if order.requesting_service))
    told = {
        ORDER_PRIORITY: None if urgency is None else urgency.word,
        PROCEDURE_CODES[-1]: list(dict.fromkeys(code for order in stand for code in order.procedure_codes)),
        REQUESTING_SERVICE: services[0] if len(services) == 1 else services,
    }
    return {keyword: value for keyword, value in told.items() if value}
