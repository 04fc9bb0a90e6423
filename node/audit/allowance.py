"""How much may be told of things alike: a burst one by one, a flood by its number."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from threading import Lock

from node.audit.events import Notice

# A modality that sends a broken Series is told Instance by Instance; a flood leaves at most
# 6 records a minute (0.6 MB an hour).
BURST = 60
REFILL_PER_S = 0.1
TELL_AFTER_S = 60.0
# Addresses and reasons that are told apart; a flood from more of them shares one allowance.
MAX_KINDS = 64


@dataclass(slots=True, kw_only=True)
class _Bucket:
    tokens: float
    at_s: float
    withheld: int = 0
    last: Notice | None = None
    since_s: float = 0.0


class Allowance:
    """Decides for each notice whether it is told by itself; the others are counted, and told together.

    Notices are alike when kind, code and peer are: an AE title is whatever a flood pleases to say.
    """

    def __init__(self) -> None:
        self._buckets: dict[Hashable, _Bucket] = {}
        self._lock = Lock()

    def allows(self, notice: Notice, now_s: float) -> bool:
        """Return whether `notice` is told now; if not it is counted.

        Parameters
        ----------
        now_s
            Seconds on a clock that never goes back.
        """
        with self._lock:
            bucket = self._bucket((notice.kind, notice.code, notice.peer), now_s)
            bucket.tokens = min(BURST, bucket.tokens + (now_s - bucket.at_s) * REFILL_PER_S)
            bucket.at_s = now_s
            if bucket.tokens >= 1:
                bucket.tokens -= 1
                return True
            if not bucket.withheld:
                bucket.since_s = now_s
            bucket.withheld += notice.count
            bucket.last = notice
            return False

    def due(self, now_s: float, *, is_end: bool = False) -> list[Notice]:
        """Return one notice for each flood of which a minute has passed untold; all of them at the end."""
        with self._lock:
            found = []
            for bucket in self._buckets.values():
                if bucket.last is not None and (is_end or now_s - bucket.since_s >= TELL_AFTER_S):
                    text = f"{bucket.withheld} more like this one: {bucket.last.text}"
                    found.append(replace(bucket.last, text=text, count=bucket.withheld))
                    bucket.withheld, bucket.last = 0, None
            return found

    def _bucket(self, key: Hashable, now_s: float) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is not None:
            return bucket
        if len(self._buckets) >= MAX_KINDS:
            self._forget_quiet(now_s)
        if len(self._buckets) >= MAX_KINDS:
            key = ()
        return self._buckets.setdefault(key, _Bucket(tokens=BURST, at_s=now_s))

    def _forget_quiet(self, now_s: float) -> None:
        """Forget those that would be full again, and have nothing left to tell."""
        full_after_s = BURST / REFILL_PER_S
        for key, bucket in list(self._buckets.items()):
            if bucket.last is None and now_s - bucket.at_s >= full_after_s:
                del self._buckets[key]
