"""What the ledger knows of each Destination: probed, and learned from its answers."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select

from node.domain.capability import Capability, Form
from node.ledger.engine import Desk
from node.ledger.schema import capabilities


class CapabilityLedger(Desk):
    """One row a Destination; a row of another address counts as none."""

    def find_capability(self, destination: str, address: str) -> Capability | None:
        """Return what is known of a Destination at this address; None when nothing is."""
        with self.reading() as connection:
            return _find(connection, destination, address)

    def record_probe(self, seen: Capability, *, forgets_answers: bool) -> None:
        """Commit what a probe found.

        Parameters
        ----------
        forgets_answers
            False keeps that objects of a form were refused: a probe sends none, and cannot see it.
        """
        with self.writing() as connection:
            known = None if forgets_answers else _find(connection, seen.destination, seen.address)
            kept = frozenset() if known is None else known.accepted & known.refused
            _replace(connection, seen, accepted=seen.accepted, refused=seen.refused | kept)

    def record_answer(self, destination: str, address: str, form: Form, *, is_taken: bool) -> None:
        """Commit what a Destination did with an object of this form; nothing is written when that was known."""
        known = self.find_capability(destination, address)
        if known is not None and known.takes(form) is is_taken:
            return
        with self.writing() as connection:
            known = _find(connection, destination, address) or Capability(
                destination=destination, address=address, accepted=frozenset(), refused=frozenset(), asked_at=None
            )
            accepted = known.accepted | {form}
            refused = known.refused - {form} if is_taken else known.refused | {form}
            _replace(connection, known, accepted=accepted, refused=refused)

    def all_take(self, addresses: Mapping[str, str], form: Form) -> bool:
        """Return whether every one of these Destinations is known to take objects of this form.

        Parameters
        ----------
        addresses
            Destination to its address in the settings.
        """
        known = (self.find_capability(destination, address) for destination, address in addresses.items())
        return all(capability is not None and capability.takes(form) for capability in known)


def _find(connection: Connection, destination: str, address: str) -> Capability | None:
    wanted = (capabilities.c.destination == destination, capabilities.c.address == address)
    row = connection.execute(select(capabilities).where(*wanted)).mappings().first()
    return None if row is None else _to_capability(row)


def _replace(
    connection: Connection, capability: Capability, *, accepted: Iterable[Form], refused: Iterable[Form]
) -> None:
    connection.execute(delete(capabilities).where(capabilities.c.destination == capability.destination))
    values: dict[str, Any] = {
        "destination": capability.destination,
        "address": capability.address,
        "accepted": sorted(map(list, accepted)),
        "refused": sorted(map(list, refused)),
        "asked_at": capability.asked_at,
    }
    connection.execute(insert(capabilities).values(**values))


def _to_capability(row: RowMapping) -> Capability:
    forms = {
        column: frozenset((sop_class_uid, syntax) for sop_class_uid, syntax in row[column])
        for column in ("accepted", "refused")
    }
    return Capability(destination=row["destination"], address=row["address"], asked_at=row["asked_at"], **forms)
