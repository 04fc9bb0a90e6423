"""How long each stage took: read once from the time lines, and kept as counters of a histogram."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, RowMapping, func, select, update

from node.domain.work import OTHER
from node.ledger.engine import Desk
from node.ledger.prior_marks import REPROCESSED
from node.ledger.schema import events, jobs, tallies
from node.ledger.tallies import TallyName, add_tallies, tallies_of

# Upper bounds, seconds; from a radiograph on a GPU to a PACS that was away for a day.
BOUNDS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 86400.0)
BEYOND = "+Inf"
READ_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A span between two lines of a time line.

    Attributes
    ----------
    ends
        Kind of the Event that ends it.
    begins
        Kinds of which the last before that began it.
    same_job
        Whether both tell of one Job, or only of one Study.
    """

    name: str
    ends: str
    begins: tuple[str, ...]
    same_job: bool = False


STAGES = (
    Stage(name="receive", ends="study-settled", begins=("study-opened", "study-reopened")),
    Stage(name="route", ends="study-routed", begins=("study-settled", REPROCESSED)),
    Stage(
        name="wait",
        ends="job-started",
        begins=("job-scheduled", "job-attempt-failed", "job-given-back"),
        same_job=True,
    ),
    Stage(name="work", ends="job-completed", begins=("job-started",), same_job=True),
    Stage(name="deliver", ends="delivery-sent", begins=("job-completed",), same_job=True),
    Stage(name="turnaround", ends="delivery-sent", begins=("study-settled", REPROCESSED)),
)
ENDS = tuple({stage.ends for stage in STAGES})
WORKED = "job-completed"
COLUMNS = (events.c.event_id, events.c.at, events.c.kind, events.c.study_instance_uid, events.c.job_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How often a stage took how long.

    Attributes
    ----------
    counts
        How many were not longer than each of `BOUNDS_S`, and last how many there are.
    """

    counts: tuple[int, ...]
    seconds: float


class StageLedger(Desk):
    """The stages of everything that came to an end, each counted once."""

    def count_stages(self, now: datetime) -> int:
        """Commit what the next Events say of stages; returns how many Events were read, at most `READ_AT_ONCE`.

        How far they were read is committed with it, so that two nodes count nothing twice.
        """
        with self.reading() as connection:
            # Most of the time there is none, and whoever writes has to wait for a turn.
            if not _next_events(connection):
                return 0
        with self.writing() as connection:
            told = _next_events(connection)
            counts: Counter[tuple[str, str]] = Counter()
            for name, seconds in _measure(connection, told):
                counts[TallyName.STAGE_SECONDS, f"{name} {_bound(seconds)}"] += 1
                counts[TallyName.STAGE_MILLISECONDS, name] += round(seconds * 1000)
            for subject, seconds in _work(connection, told):
                counts[TallyName.WORK_MILLISECONDS, subject] += round(seconds * 1000)
            add_tallies(connection, counts, at=now)
            if told:
                _move_mark(connection, told[-1]["event_id"], now)
            return len(told)

    def read_stages(self) -> Mapping[str, Histogram]:
        """Return the histogram of each stage, those that nothing has passed too."""
        with self.reading() as connection:
            counted = tallies_of(connection, TallyName.STAGE_SECONDS)
            spent = tallies_of(connection, TallyName.STAGE_MILLISECONDS)
        found = {}
        for stage in STAGES:
            total, counts = 0, []
            for bound in (*map(str, BOUNDS_S), BEYOND):
                tally = counted.get(f"{stage.name} {bound}")
                total += tally.value if tally is not None else 0
                counts.append(total)
            milliseconds = spent[stage.name].value if stage.name in spent else 0
            found[stage.name] = Histogram(counts=tuple(counts), seconds=milliseconds / 1000)
        return found

    def read_work(self) -> Mapping[tuple[str, ...], float]:
        """Return what workers spent in all, seconds, by Pipeline, stage, and part of it; see `node.domain.work`."""
        with self.reading() as connection:
            spent = tallies_of(connection, TallyName.WORK_MILLISECONDS)
        found: dict[tuple[str, ...], float] = {}
        for subject, tally in spent.items():
            pipeline, _, key = subject.rpartition(" ")
            name, _, part = key.partition(".")
            found[pipeline, name, part or OTHER] = tally.value / 1000
        return found

    def recent_seconds(self, since: datetime) -> Mapping[str, tuple[float, ...]]:
        """Return how long each stage took that ended after `since`, sorted; of the newest `READ_AT_ONCE` ends only."""
        newest = (
            select(*COLUMNS)
            # As a bare column, the kind would lead to every Event of these kinds that there ever was.
            .where(events.c.at > since, func.coalesce(events.c.kind, "").in_(ENDS))
            .order_by(events.c.at.desc(), events.c.event_id.desc())
            .limit(READ_AT_ONCE)
        )
        found: dict[str, list[float]] = {stage.name: [] for stage in STAGES}
        with self.reading() as connection:
            for name, seconds in _measure(connection, connection.execute(newest).mappings().all()):
                found[name].append(seconds)
        return {name: tuple(sorted(spans)) for name, spans in found.items()}


def _bound(seconds: float) -> str:
    return str(next((bound for bound in BOUNDS_S if seconds <= bound), BEYOND))


def _next_events(connection: Connection) -> Sequence[RowMapping]:
    mark = select(tallies.c.value).where(tallies.c.name == TallyName.EVENTS_READ, tallies.c.subject == "")
    statement = (
        select(*COLUMNS)
        .where(events.c.event_id > func.coalesce(mark.scalar_subquery(), 0))
        .order_by(events.c.event_id)
        .limit(READ_AT_ONCE)
    )
    return connection.execute(statement).mappings().all()


def _move_mark(connection: Connection, event_id: int, now: datetime) -> None:
    mark = (tallies.c.name == TallyName.EVENTS_READ, tallies.c.subject == "")
    moved = connection.execute(update(tallies).where(*mark).values(value=event_id, counted_at=now))
    if moved.rowcount == 0:
        add_tallies(connection, {(TallyName.EVENTS_READ, ""): event_id}, at=now)


def _work(connection: Connection, told: Sequence[RowMapping]) -> Iterable[tuple[str, float]]:
    """Yield what was spent on each part of the Jobs that ended well, under ``pipeline stage.part``."""
    ended = [event["job_id"] for event in told if event["kind"] == WORKED and event["job_id"] is not None]
    if not ended:
        return
    statement = select(jobs.c.pipeline, jobs.c.seconds).where(jobs.c.job_id.in_(ended))
    for pipeline, spent in connection.execute(statement):
        for key, seconds in spent.items():
            yield f"{pipeline} {key}", seconds


def _measure(connection: Connection, told: Sequence[RowMapping]) -> Iterable[tuple[str, float]]:
    ended = [event for event in told if event["kind"] in ENDS and event["study_instance_uid"] is not None]
    if not ended:
        return
    uids, wanted = {event["study_instance_uid"] for event in ended}, {event["event_id"] for event in ended}
    # By Study alone: a database that is told the kinds too may well read every Event of those kinds.
    of_studies = select(*COLUMNS).where(events.c.study_instance_uid.in_(uids))
    begun: dict[tuple[str, str, str | None], datetime] = {}
    for row in sorted(connection.execute(of_studies).mappings(), key=lambda row: int(row["event_id"])):
        for stage in STAGES:
            key = stage.name, row["study_instance_uid"], row["job_id"] if stage.same_job else None
            if stage.same_job and row["job_id"] is None:
                continue
            if stage.ends == row["kind"] and row["event_id"] in wanted and key in begun:
                # A clock that was set back in between says nothing.
                yield stage.name, max(0.0, (row["at"] - begun[key]).total_seconds())
            if row["kind"] in stage.begins:
                begun[key] = row["at"]
