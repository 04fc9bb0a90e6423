"""Silence: a source that sends nothing, a Pipeline that is asked for nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Protocol

from node.alarms.reading import Reading, Verdict, say_span
from node.domain.alarm import AlarmKind
from node.domain.switch import Mode, Switch


class SilenceLedger(Protocol):
    """What these watches ask of the ledger."""

    def last_job_at(self, pipeline: str) -> datetime | None:
        """Return when a Pipeline was last asked for something."""

    def count_routed_since(self, since: datetime, *, limit: int) -> int:
        """Return how many Studies were routed after `since`, or `limit` when there are more."""

    def read_switches(self) -> Mapping[str, Switch]:
        """Return how each Pipeline was switched last; those that never were are absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Something that should happen at least so often.

    Attributes
    ----------
    name
        AE title, or name of a Pipeline.
    within
        Longest silence; only time in which something is expected counts.
    hours
        Of the day, local time: from the first, before the second; 0 and 24 for all of it.
    days
        Of the week: 1 is Monday, 7 Sunday.
    """

    name: str
    within: timedelta
    hours: tuple[int, int] = (0, 24)
    days: frozenset[int] = frozenset(range(1, 8))

    def is_missed(self, since: datetime, now: datetime, zone: tzinfo | None = None) -> bool:
        """Return whether a silence from `since` to `now` is too long.

        What passes of a night or weekend in which nothing is expected does not count; the evening before and the
        morning after it add up.

        Parameters
        ----------
        zone
            Whose days and hours they are; None: that of the machine.
        """
        counted, day = timedelta(0), since.astimezone(zone).date()
        while day <= now.astimezone(zone).date() and counted < self.within:
            if day.isoweekday() in self.days:
                opens, closes = (_at(day, hour, zone) for hour in self.hours)
                counted += max(timedelta(0), min(closes, now) - max(opens, since))
            day += timedelta(days=1)
        return counted >= self.within


class SourceWatch:
    """Watches senders from which something is expected.

    Parameters
    ----------
    last_received
        Returns each AE title that ever sent something, and when it last did.
    since
        From when on somebody listens; silence before that does not count.
    """

    def __init__(
        self,
        expectations: Sequence[Expectation],
        last_received: Callable[[], Mapping[str, datetime]],
        *,
        since: datetime,
        zone: tzinfo | None = None,
    ) -> None:
        self._expectations = expectations
        self._last_received = last_received
        self._since = since
        self._zone = zone

    def __call__(self, now: datetime) -> Iterable[Reading]:
        """Yield how each of them is."""
        received = self._last_received() if self._expectations else {}
        for name, expected in _by_name(self._expectations).items():
            last = received.get(name)
            text = f"{name} sent nothing {_since(last, now)}; see to it, or to security.calling_aets"
            silence = _Silence(last, self._since, text)
            yield _read_silence(AlarmKind.SOURCE_SILENT, expected, silence, now=now, zone=self._zone)


class PipelineWatch:
    """Watches Pipelines that are asked for nothing any more: by time where that is expected, and by number of Studies.

    Parameters
    ----------
    unmatched_studies
        A Pipeline that once had Jobs, and gets none of so many Studies, is silent; 0: is not.
    """

    def __init__(
        self,
        pipelines: Iterable[str],
        expectations: Sequence[Expectation],
        ledger: SilenceLedger,
        *,
        unmatched_studies: int,
        since: datetime,
        zone: tzinfo | None = None,
    ) -> None:
        self._expectations = _by_name(expectations)
        self._pipelines = tuple(pipelines)
        self._ledger = ledger
        self._unmatched_studies = unmatched_studies
        self._since = since
        self._zone = zone

    def __call__(self, now: datetime) -> Iterable[Reading]:
        """Yield how each of them is."""
        switches = self._ledger.read_switches()
        for name in self._pipelines:
            switch = switches.get(name)
            if switch is not None and switch.mode is Mode.OFF:
                # Nobody expects anything of it, and what was told of it before is over.
                yield Reading(kind=AlarmKind.PIPELINE_SILENT, subject=name, verdict=Verdict.WELL, text="")
            else:
                yield from self._read(name, now, switched_at=None if switch is None else switch.changed_at)

    def _read(self, name: str, now: datetime, *, switched_at: datetime | None) -> Iterable[Reading]:
        """Yield how one of them is; silence before it was switched does not count."""
        last, began = self._ledger.last_job_at(name), self._since
        if switched_at is not None:
            last, began = last and max(last, switched_at), max(began, switched_at)
        by_number = self._read_number(name, last)
        if by_number is not None and by_number.verdict is Verdict.WRONG:
            yield by_number
        elif name in self._expectations:
            text = f"no Study matched {name} {_since(last, now)}; see its rules, and `radnode rules explain`"
            silence = _Silence(last, began, text)
            yield _read_silence(AlarmKind.PIPELINE_SILENT, self._expectations[name], silence, now=now, zone=self._zone)
        elif by_number is not None:
            yield by_number

    def _read_number(self, name: str, last: datetime | None) -> Reading | None:
        limit = self._unmatched_studies
        if not limit:
            return None
        is_silent = last is not None and self._ledger.count_routed_since(last, limit=limit) >= limit
        text = f"none of the last {limit} Studies matched {name}, which had Jobs before; see `radnode rules explain`"
        return Reading(
            kind=AlarmKind.PIPELINE_SILENT,
            subject=name,
            verdict=Verdict.WRONG if is_silent else Verdict.WELL,
            text=text,
        )


@dataclass(frozen=True, slots=True)
class _Silence:
    last: datetime | None
    began: datetime
    text: str


def _by_name(expectations: Sequence[Expectation]) -> Mapping[str, Sequence[Expectation]]:
    found: dict[str, list[Expectation]] = {}
    for expected in expectations:
        found.setdefault(expected.name, []).append(expected)
    return found


def _read_silence(
    kind: AlarmKind, expected: Sequence[Expectation], silence: _Silence, *, now: datetime, zone: tzinfo | None
) -> Reading:
    """Return one reading for all that is expected of one thing: two, by day and by night, could contradict."""
    verdicts = {_judge_silence(entry, silence, now, zone) for entry in expected}
    verdict = next(one for one in (Verdict.WRONG, Verdict.WELL, Verdict.BETWEEN) if one in verdicts)
    text = silence.text if verdict is Verdict.WRONG else ""
    return Reading(kind=kind, subject=expected[0].name, verdict=verdict, text=text)


def _judge_silence(expected: Expectation, silence: _Silence, now: datetime, zone: tzinfo | None) -> Verdict:
    # Nobody could be heard while the node itself was away.
    if expected.is_missed(max(silence.last or silence.began, silence.began), now, zone):
        return Verdict.WRONG
    # An alarm from before the node was away stands until something came.
    is_heard = silence.last is not None and not expected.is_missed(silence.last, now, zone)
    return Verdict.WELL if is_heard else Verdict.BETWEEN


def _at(day: date, hour: int, zone: tzinfo | None) -> datetime:
    """Return the beginning of an hour, 0-24, of a day of a place; in UTC, where each hour has 60 minutes."""
    local = datetime.combine(day, time()) + timedelta(hours=hour)
    return (local if zone is None else local.replace(tzinfo=zone)).astimezone(UTC)


def _since(last: datetime | None, now: datetime) -> str:
    return "since radnode was started" if last is None else f"for {say_span((now - last).total_seconds())}"
