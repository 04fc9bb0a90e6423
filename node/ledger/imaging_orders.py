"""What RIS and HIS asked for: kept as it is told, found with the Studies that it is about, and heard of by them."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, and_, delete, exists, insert, not_, or_, select, update

from node.domain.completeness import REFUSED
from node.domain.imaging_order import (
    PROCEDURE_CODES,
    ImagingOrder,
    KeptOrder,
    OrderOrigin,
    OrderState,
    most_urgent,
    ordered_attributes,
)
from node.domain.job import Priority
from node.domain.study import SeriesFacts, SeriesState, StudyFacts
from node.domain.uids import StudyUID
from node.errors import NotFound
from node.ledger.engine import Desk
from node.ledger.rows import add_event
from node.ledger.schema import order_messages, orders, studies, study_entries
from node.ledger.steering import raise_priority

HEARD_AT_ONCE = 200
ORDER_HEARD = "order-heard"
ORDER_FIELDS = tuple(field.name for field in fields(ImagingOrder))
KEPT_FIELDS = tuple(field.name for field in fields(KeptOrder))


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One message, and the orders in it.

    Attributes
    ----------
    digest
        Of the message, to know it again; empty for what may come again and says how it is now.
    resources
        FHIR: the resource of each order as JSON; empty for anything else.
    """

    orders: tuple[ImagingOrder, ...]
    digest: str = ""
    resources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unordered:
    """A Study of which no order is known."""

    study_instance_uid: StudyUID
    accession_number: str
    patient_id: str
    first_instance_at: datetime


class OrderLedger(Desk):
    """Orders, told by others and asked for."""

    def record(self, told: Told, *, now: datetime) -> Sequence[KeptOrder]:
        """Commit what a message says, all of it or nothing; return the orders as they stand then.

        What is not said stays as it was. A message that was taken before changes nothing.
        """
        with self.writing() as connection:
            if told.digest and not _is_new(connection, told.digest, now=now):
                return [_kept(connection, order.identity) for order in told.orders]
            resources = told.resources or ("",) * len(told.orders)
            pairs = zip(told.orders, resources, strict=True)
            return [_write(connection, order, resource, now=now) for order, resource in pairs]

    def list_orders(self, limit: int) -> Sequence[KeptOrder]:
        """Return the orders that changed last, newest first."""
        with self.reading() as connection:
            newest = select(orders).order_by(orders.c.changed_at.desc(), orders.c.order_id.desc()).limit(limit)
            return [_to_kept(row) for row in connection.execute(newest).mappings()]

    def find_order(self, order_id: int) -> KeptOrder:
        """Return one order.

        Raises
        ------
        NotFound
            If there is none of this number.
        """
        with self.reading() as connection:
            row = connection.execute(select(orders).where(orders.c.order_id == order_id)).mappings().first()
        if row is None:
            raise NotFound(f"order {order_id} is not in the ledger; see `radnode orders list`")
        return _to_kept(row)

    def read_resource(self, resource_id: str, kind: str) -> Mapping[str, Any]:
        """Return a FHIR resource as it was taken.

        Raises
        ------
        NotFound
            If there is none of this id and kind.
        """
        with self.reading() as connection:
            text = connection.execute(
                select(orders.c.resource).where(orders.c.resource_id == resource_id, orders.c.resource != "")
            ).scalar_one_or_none()
        found: Mapping[str, Any] = json.loads(text) if text else {}
        if found.get("resourceType") != kind:
            raise NotFound(f"no {kind} of this id was taken here")
        return found

    def studies_of(self, order: KeptOrder) -> Sequence[StudyUID]:
        """Return the Studies here that an order is about."""
        with self.reading() as connection:
            return _studies_of(connection, order)

    def unordered_studies(self, since: datetime) -> Sequence[Unordered]:
        """Return the Studies whose first Instance came after `since` and of which no order is known."""
        entry = study_entries.c
        statement = (
            select(studies.c.study_instance_uid, entry.accession_number, entry.patient_id, studies.c.first_instance_at)
            .join_from(studies, study_entries, entry.study_instance_uid == studies.c.study_instance_uid)
            .where(
                studies.c.first_instance_at >= since,
                studies.c.state != SeriesState.PURGED.value,
                ~exists().where(or_(orders.c.study_instance_uid == studies.c.study_instance_uid, _same_accession())),
            )
            .order_by(studies.c.first_instance_at)
        )
        with self.reading() as connection:
            return [Unordered(**row) for row in connection.execute(statement).mappings()]

    def hear_orders(self, *, are_asked_for: bool, now: datetime) -> int:
        """Let Studies that are here follow orders that came since: what waits is raised to their priority.

        Parameters
        ----------
        are_asked_for
            Whether rules ask of orders, so that they are asked again.

        Returns
        -------
        int
            How many orders were heard of.
        """
        unheard = select(orders).where(orders.c.heard_at.is_(None)).order_by(orders.c.order_id).limit(HEARD_AT_ONCE)
        with self.reading() as connection:
            if connection.execute(unheard.limit(1)).first() is None:
                return 0
        with self.writing() as connection:
            came = [_to_kept(row) for row in connection.execute(unheard).mappings()]
            for order in came:
                for uid in _studies_of(connection, order):
                    _tell_study(connection, uid, order, is_asked_for=are_asked_for, now=now)
            heard = orders.c.order_id.in_([order.order_id for order in came])
            connection.execute(update(orders).where(heard).values(heard_at=now))
        return len(came)

    def forget(self, *, before: datetime) -> int:
        """Delete the orders that did not change since `before`, but those of Studies that are here; return how many."""
        is_here = or_(
            exists().where(studies.c.study_instance_uid == orders.c.study_instance_uid),
            exists().where(_same_accession()),
        )
        with self.writing() as connection:
            connection.execute(delete(order_messages).where(order_messages.c.taken_at < before))
            return connection.execute(delete(orders).where(orders.c.changed_at < before, not_(is_here))).rowcount


def orders_of(connection: Connection, study_instance_uid: StudyUID) -> tuple[KeptOrder, ...]:
    """Return the orders that a Study is about, in the caller's transaction.

    Those that name it; where there is none, those of its Accession Number (0008,0050) and Patient ID (0010,0020).
    """

    def read(statement: Select[Any]) -> tuple[KeptOrder, ...]:
        ordered = statement.order_by(orders.c.received_at, orders.c.order_id)
        return tuple(_to_kept(row) for row in connection.execute(ordered).mappings())

    named = read(select(orders).where(orders.c.study_instance_uid == study_instance_uid))
    by_number = (study_entries.c.study_instance_uid == study_instance_uid, _same_accession())
    return named or read(select(orders).join_from(study_entries, orders, and_(*by_number)))


def add_orders(connection: Connection, study: StudyFacts) -> StudyFacts:
    """Return the Study with its orders, and its Series with what these say where the images say nothing."""
    found = orders_of(connection, study.study_instance_uid)
    told = ordered_attributes(found)
    series = tuple(_tell_series(one, told) for one in study.series) if told else study.series
    return replace(study, orders=found, series=series)


def _tell_series(series: SeriesFacts, told: Mapping[str, Any]) -> SeriesFacts:
    said = series.attributes
    left_out = PROCEDURE_CODES if any(keyword in said for keyword in PROCEDURE_CODES) else ()
    added = {keyword: value for keyword, value in told.items() if keyword not in left_out}
    return replace(series, attributes={**added, **said})


def _same_accession() -> Any:
    return and_(
        study_entries.c.accession_number != "",
        study_entries.c.patient_id != "",
        orders.c.accession_number == study_entries.c.accession_number,
        orders.c.patient_id == study_entries.c.patient_id,
    )


def _studies_of(connection: Connection, order: KeptOrder) -> Sequence[StudyUID]:
    named = select(studies.c.study_instance_uid).where(studies.c.study_instance_uid == order.study_instance_uid)
    numbered = select(study_entries.c.study_instance_uid).where(
        study_entries.c.accession_number == order.accession_number,
        study_entries.c.patient_id == order.patient_id,
        study_entries.c.accession_number != "",
        study_entries.c.patient_id != "",
    )
    found = dict.fromkeys((*connection.execute(named).scalars(), *connection.execute(numbered).scalars()))
    # One that is named by another order does not follow this one.
    return [
        StudyUID(uid)
        for uid in found
        if any(one.order_id == order.order_id for one in orders_of(connection, StudyUID(uid)))
    ]


def _tell_study(connection: Connection, uid: StudyUID, order: KeptOrder, *, is_asked_for: bool, now: datetime) -> None:
    urgency = most_urgent([order])
    is_raised = urgency is not None and raise_priority(connection, uid, urgency, ())
    asked = is_asked_for and _ask_again(connection, uid, now=now)
    said = [f"priority {urgency.word}"] if urgency is not None and is_raised else []
    said += ["the rules are asked again"] * asked
    is_canceled = order.state is OrderState.CANCELED
    text = f"order {order.order_id} {'is canceled' if is_canceled else 'came'} by {order.origin.value}"
    told = f"{text}: {', '.join(said)}" if said else text
    add_event(connection, at=now, kind=ORDER_HEARD, text=told, study_instance_uid=uid)


def _ask_again(connection: Connection, uid: StudyUID, *, now: datetime) -> bool:
    """Let the rules be asked again of a Study that they were asked of; one that was refused stays so."""
    settled = connection.execute(
        update(studies)
        .where(
            studies.c.study_instance_uid == uid,
            studies.c.state == SeriesState.ROUTED.value,
            not_(studies.c.reason.startswith(REFUSED, autoescape=True)),
        )
        .values(state=SeriesState.SETTLED.value, revision=studies.c.revision + 1, changed_at=now)
    )
    return bool(settled.rowcount)


def _is_new(connection: Connection, digest: str, *, now: datetime) -> bool:
    known = exists().where(order_messages.c.digest == digest)
    if connection.execute(select(known)).scalar_one():
        return False
    connection.execute(insert(order_messages).values(digest=digest, taken_at=now))
    return True


def _write(connection: Connection, order: ImagingOrder, resource: str, *, now: datetime) -> KeptOrder:
    said = {**{name: getattr(order, name) for name in ORDER_FIELDS}, "resource": resource}
    values = {
        **said,
        "origin": order.origin.value,
        "state": order.state.value,
        "procedure_codes": list(order.procedure_codes),
        "priority": None if order.priority is None else int(order.priority),
    }
    known = connection.execute(select(orders).where(orders.c.identity == order.identity)).mappings().first()
    if known is None:
        times = {"received_at": now, "changed_at": now}
        resource_id = str(uuid.uuid4()) if resource else ""
        connection.execute(insert(orders).values(**values, **times, resource_id=resource_id))
    else:
        changed = {
            name: value for name, value in values.items() if value not in (None, "", []) and value != known[name]
        }
        if changed:
            # What only its number is new of is no news for the Study.
            heard = {} if changed.keys() <= {"control_id", "resource"} else {"heard_at": None}
            of_order = orders.c.order_id == known["order_id"]
            connection.execute(update(orders).where(of_order).values(**changed, changed_at=now, **heard))
    return _kept(connection, order.identity)


def _kept(connection: Connection, identity: str) -> KeptOrder:
    return _to_kept(connection.execute(select(orders).where(orders.c.identity == identity)).mappings().one())


def _to_kept(row: RowMapping) -> KeptOrder:
    values = {name: row[name] for name in KEPT_FIELDS}
    return KeptOrder(
        **{
            **values,
            "origin": OrderOrigin(row["origin"]),
            "state": OrderState(row["state"]),
            "procedure_codes": tuple(row["procedure_codes"]),
            "priority": None if row["priority"] is None else Priority(row["priority"]),
        }
    )
