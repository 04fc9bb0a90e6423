"""Tests of Destinations that people order, from a page or a program: one of each at a time, each recorded."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from node.audit.message import AuditEvent
from node.audit.orders import destination_tested
from node.clock import Clock
from node.delivery.lookout import see
from node.delivery.walk import Walk, walk_to
from node.destinations import destination_spec
from node.errors import WrongState
from node.ledger.capabilities import CapabilityLedger
from node.ledger.engine import Engine
from node.settings.whole import Settings

# An answer of a test may take so long; a name, a connection and each Association count by themselves.
STEP_LIMIT_S = 8.0
TESTED_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """What a test found, and when (UTC)."""

    at: datetime
    walk: Walk


class Tester:
    """Tests Destinations, one test of each at a time, and remembers the last of each until the process ends.

    Parameters
    ----------
    record
        Adds one record to the audit trail; raises nothing.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        *,
        clock: Clock,
        record: Callable[[AuditEvent], None],
        walk: Callable[..., Walk] = walk_to,
    ) -> None:
        self._settings = settings
        self._capabilities = CapabilityLedger(engine)
        self._clock = clock
        self._record = record
        self._walk = walk
        self._lock = Lock()
        self._running: set[str] = set()
        self._found: dict[str, Test] = {}

    def last(self, name: str) -> Test | None:
        """Return the last test of a Destination."""
        return self._found.get(name)

    def test(self, name: str, *, ordered_by: str) -> Test:
        """Return what a test of a Destination found; that it was ordered is recorded before.

        Raises
        ------
        WrongState
            If a test of it runs already.
        """
        with self._lock:
            if name in self._running:
                raise WrongState(f"a test of destination {name} runs already; ask again in a moment")
            self._running.add(name)
        try:
            self._record(destination_tested(name, account=ordered_by))
            found = self._found[name] = self._test(name)
        finally:
            self._running.discard(name)
        return found

    def test_all(self, *, ordered_by: str) -> None:
        """Return after every Destination was tested, but those that are being tested for somebody else."""

        def test(name: str) -> None:
            with suppress(WrongState):
                self.test(name, ordered_by=ordered_by)

        with ThreadPoolExecutor(TESTED_AT_ONCE, thread_name_prefix="test") as threads:
            list(threads.map(test, tuple(self._settings.destinations)))

    def _test(self, name: str) -> Test:
        now = self._clock()
        walk = self._walk(destination_spec(self._settings, name), limit_s=STEP_LIMIT_S)
        if walk.accepted is not None:
            # Who asks by hand has perhaps changed something there: what was learned before does not count any more.
            seen = see(name, self._settings.destinations[name].address, walk.accepted, now=now)
            self._capabilities.record_probe(seen, forgets_answers=True)
        return Test(at=now, walk=walk)
