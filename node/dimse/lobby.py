"""Who is in the house: every open connection, at which receiver it is, and whether it has become an Association."""

from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

Receiver = TypeVar("Receiver")

# Connections that have not become an Association yet; with one more, the one that has waited longest must go.
MAX_WAITING = 64
# Connections that were told to go and are still there; with more, no connection is taken.
MAX_LEAVING = 256
# The same from one address, so that those who come again and again shut out nobody but themselves.
MAX_LEAVING_PER_PEER = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many Associations there may be at a time.

    Attributes
    ----------
    associations
        In all.
    per_peer
        From one address.
    """

    associations: int
    per_peer: int


@dataclass(slots=True, kw_only=True)
class _Guest(Generic[Receiver]):
    host: str
    receiver: Receiver
    is_admitted: bool = False
    is_over: bool = False
    is_leaving: bool = False


class Lobby(Generic[Receiver]):
    """Counts connections; whoever calls it takes care that only one thread does so at a time."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        # In the order in which they came.
        self._guests: dict[str, _Guest[Receiver]] = {}

    def load(self, receiver: Receiver) -> int:
        """Return how many connections `receiver` has."""
        return sum(guest.receiver == receiver for guest in self._guests.values())

    def has_room(self, host: str) -> bool:
        """Return whether one more connection from `host` may wait."""
        leaving = Counter(guest.host for guest in self._guests.values() if guest.is_leaving)
        return leaving.total() < MAX_LEAVING and leaving[host] < MAX_LEAVING_PER_PEER

    def enter(self, association_id: str, *, host: str, receiver: Receiver) -> None:
        """Count a connection that waits to become an Association."""
        self._guests[association_id] = _Guest(host=host, receiver=receiver)

    def turn_out(self) -> tuple[str, Receiver] | None:
        """Return a connection that must go because too many wait, and its receiver; None when there is room.

        It is the oldest one of the address from which most wait, so that a flood drives out itself.
        """
        waiting = {key: guest for key, guest in self._guests.items() if not guest.is_admitted and not guest.is_leaving}
        if len(waiting) <= MAX_WAITING:
            return None
        ((crowd, _),) = Counter(guest.host for guest in waiting.values()).most_common(1)
        key, guest = next((key, guest) for key, guest in waiting.items() if guest.host == crowd)
        guest.is_leaving = True
        return key, guest.receiver

    def admit(self, association_id: str) -> bool:
        """Return whether a connection may become an Association, and count it as one if so."""
        guest = self._guests.get(association_id)
        if guest is None or guest.is_leaving or guest.is_over:
            return False
        hosts = Counter(other.host for other in self._guests.values() if other.is_admitted)
        has_room = hosts.total() < self._capacity.associations
        guest.is_admitted = has_room and hosts[guest.host] < self._capacity.per_peer
        return guest.is_admitted

    def vacate(self, association_id: str) -> None:
        """Count a connection as one that waits again, and will never be admitted: its Association is over."""
        guest = self._guests.get(association_id)
        if guest is not None:
            guest.is_admitted, guest.is_over = False, True

    def leave(self, association_id: str) -> None:
        """Count a connection no more."""
        self._guests.pop(association_id, None)

    def lose(self, receiver: Receiver) -> tuple[str, ...]:
        """Count no connection of `receiver` any more, and return which of them were Associations."""
        lost = {key: guest for key, guest in self._guests.items() if guest.receiver == receiver}
        for key in lost:
            del self._guests[key]
        return tuple(key for key, guest in lost.items() if guest.is_admitted)
