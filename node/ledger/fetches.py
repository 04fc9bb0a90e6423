"""The queue of Studies that are fetched from others: ordered by anybody, worked off by one station, kept as proof."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from node.domain.fetch import LIVE_STATES, Ending, Fetch, Fetched, FetchOrder, FetchReason, FetchState, PullSource
from node.domain.study import SeriesState
from node.domain.uids import InstanceUID, SeriesUID, StudyUID
from node.errors import WrongState
from node.ledger.engine import Desk
from node.ledger.pages import PageAsked, PageFound
from node.ledger.rows import add_event
from node.ledger.schema import fetches, instances, pull_sources, studies

# A fetch under way is told of every few seconds; one that is not has lost its process.
STALE = timedelta(seconds=60)
URGENCY = case({reason.value: place for place, reason in enumerate(FetchReason)}, value=fetches.c.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFilter:
    """Which fetches are asked for; None: any."""

    source: str | None = None
    state: FetchState | None = None
    reason: FetchReason | None = None
    on_behalf: str | None = None

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """The same for the database."""
        asked = [(name, getattr(self, name)) for name in ("source", "state", "reason", "on_behalf")]
        return [fetches.c[name] == str(value) for name, value in asked if value is not None]


class FetchLedger(Desk):
    """Fetches: ordered, begun, told of, ended; and the sources that they come from."""

    def enqueue(self, orders: Sequence[FetchOrder], *, now: datetime) -> tuple[Fetch, ...]:
        """Commit orders, and return them in the same sequence; see `add_fetches`."""
        with self.writing() as connection:
            return add_fetches(connection, orders, now=now)

    def claim(self, source: str, *, reasons: Collection[FetchReason], now: datetime) -> Fetch | None:
        """Commit that the most urgent fetch of a source that is due, and has one of these reasons, is under way.

        Returns
        -------
        fetch
            None: none is due, or the source is paused.
        """
        due = and_(fetches.c.state == FetchState.SCHEDULED.value, fetches.c.not_before <= now)
        is_lost = and_(fetches.c.state == FetchState.IN_PROGRESS.value, fetches.c.changed_at <= now - STALE)
        wanted = (
            select(fetches.c.fetch_id)
            .where(
                fetches.c.source == source,
                fetches.c.reason.in_([reason.value for reason in reasons]),
                or_(due, is_lost),
                ~exists().where(pull_sources.c.source == source, pull_sources.c.paused_at.is_not(None)),
            )
            .order_by(URGENCY, fetches.c.asked_at, fetches.c.fetch_id)
            .limit(1)
        )
        with self.reading() as connection:
            fetch_id = connection.execute(wanted).scalar_one_or_none()
        if fetch_id is None:
            return None
        with self.writing() as connection:
            begun = update(fetches).where(fetches.c.fetch_id == fetch_id, or_(due, is_lost))
            values = {"state": FetchState.IN_PROGRESS.value, "attempts": fetches.c.attempts + 1, "changed_at": now}
            row = connection.execute(begun.values(**values).returning(fetches)).mappings().first()
        return None if row is None else _to_fetch(row)

    def next_due(self, source: str, *, reasons: Collection[FetchReason]) -> datetime | None:
        """Return when the next attempt of a source may begin; None where nothing waits."""
        waiting = select(func.min(fetches.c.not_before)).where(
            fetches.c.source == source,
            fetches.c.state == FetchState.SCHEDULED.value,
            fetches.c.reason.in_([reason.value for reason in reasons]),
        )
        with self.reading() as connection:
            return connection.execute(waiting).scalar_one_or_none()

    def note_progress(self, fetch: Fetch, fetched: Fetched, *, now: datetime) -> bool:
        """Commit how much came so far; return whether the rest is wanted still."""
        with self.writing() as connection:
            return _write(connection, fetch, {**_counts(fetched), "changed_at": now}) is not None

    def end(self, fetch: Fetch, ending: Ending, *, now: datetime) -> bool:
        """Commit how an attempt ended; return False where somebody ended the fetch before, and nothing was changed."""
        values = {
            **_counts(ending.fetched),
            "state": ending.state.value,
            "reason_code": ending.reason_code,
            "reason_text": ending.reason_text,
            "failures": fetch.failures + ending.is_failure,
            "not_before": ending.not_before or now,
            "changed_at": now,
        }
        with self.writing() as connection:
            ended = _write(connection, fetch, values)
            if ended is not None and ending.state.is_final:
                _tell(connection, ended, now=now)
            return ended is not None

    def release(self, source: str, *, now: datetime) -> int:
        """Commit that what is under way is so no more, since the process that did it is gone; return how many."""
        lost = fetches.c.source == source, fetches.c.state == FetchState.IN_PROGRESS.value
        with self.writing() as connection:
            values = {"state": FetchState.SCHEDULED.value, "not_before": now, "changed_at": now}
            return connection.execute(update(fetches).where(*lost).values(**values)).rowcount

    def cancel(self, asked: FetchFilter, *, by: str, now: datetime) -> int:
        """Commit CANCELED for what waits or is under way; return how many that were."""
        values = {
            "state": FetchState.CANCELED.value,
            "reason_code": "canceled-by-hand",
            "reason_text": f"canceled by {by}" if by else "nobody needs it any more",
            "changed_at": now,
        }
        with self.writing() as connection:
            live = update(fetches).where(*asked.conditions, fetches.c.state.in_(LIVE_STATES))
            return connection.execute(live.values(**values)).rowcount

    def fetches_for(self, reason: FetchReason, on_behalf: str) -> tuple[Fetch, ...]:
        """Return what was asked for on behalf of a Job or an order, what was asked first, first."""
        asked = FetchFilter(reason=reason, on_behalf=on_behalf)
        return self._read(select(fetches).where(*asked.conditions).order_by(fetches.c.fetch_id))

    def fetches_of(self, study_instance_uid: StudyUID) -> tuple[Fetch, ...]:
        """Return why a Study was fetched, what was asked first, first."""
        of_study = fetches.c.study_instance_uid == study_instance_uid
        return self._read(select(fetches).where(of_study).order_by(fetches.c.fetch_id))

    def list_fetches(self, asked: FetchFilter, page: PageAsked) -> PageFound[Fetch]:
        """Return one page of fetches, that which was asked last first."""
        statement = select(fetches).where(*asked.conditions).order_by(fetches.c.fetch_id.desc()).limit(page.limit + 1)
        if page.behind is not None:
            statement = statement.where(fetches.c.fetch_id < page.behind[0])
        rows = self._read(statement)
        shown = rows[: page.limit]
        return PageFound(rows=shown, rest=(shown[-1].fetch_id,) if len(rows) > page.limit else None)

    def count_states(self) -> Mapping[str, Mapping[FetchState, int]]:
        """Return how many fetches of each source are in which state."""
        counted = select(fetches.c.source, fetches.c.state, func.count()).group_by(fetches.c.source, fetches.c.state)
        found: dict[str, dict[FetchState, int]] = defaultdict(dict)
        with self.reading() as connection:
            for source, state, count in connection.execute(counted):
                found[source][FetchState(state)] = count
        return found

    def read_sources(self) -> Mapping[str, PullSource]:
        """Return how it stands with each source that was ever paused or polled."""
        with self.reading() as connection:
            rows = connection.execute(select(pull_sources)).mappings()
            kept = [field.name for field in fields(PullSource) if field.name != "name"]
            return {row["source"]: PullSource(name=row["source"], **{key: row[key] for key in kept}) for row in rows}

    def pause(self, source: str, *, by: str, reason: str = "", now: datetime) -> None:
        """Commit that nothing more is begun with a source; what is under way comes to its end.

        Raises
        ------
        WrongState
            If it is paused already.
        """
        with self.writing() as connection:
            if _is_paused(connection, source):
                raise WrongState(f"{source} is paused already; nothing was changed")
            _set_source(connection, source, {"paused_at": now, "paused_by": by, "pause_reason": reason})

    def resume(self, source: str) -> None:
        """Commit that Studies are fetched from a source again.

        Raises
        ------
        WrongState
            If it is not paused.
        """
        with self.writing() as connection:
            if not _is_paused(connection, source):
                raise WrongState(f"{source} is not paused; nothing was changed")
            _set_source(connection, source, {"paused_at": None, "paused_by": "", "pause_reason": ""})

    def note_polled(self, source: str, orders: Sequence[FetchOrder], *, now: datetime) -> int:
        """Commit what a question for new Studies brought, and when; return how many are fetched that were not before.

        Parameters
        ----------
        now
            When it was asked, not when the answer came.
        """
        with self.writing() as connection:
            waiting = {fetch.fetch_id for fetch in add_fetches(connection, orders, now=now) if fetch.asked_at == now}
            _set_source(connection, source, {"polled_at": now})
            return len(waiting)

    def held_instances(self, study_instance_uid: StudyUID) -> Mapping[SeriesUID, frozenset[InstanceUID]]:
        """Return which Instances of a Study are here, by Series."""
        held: dict[SeriesUID, set[InstanceUID]] = defaultdict(set)
        of_study = instances.c.study_instance_uid == study_instance_uid
        named = select(instances.c.series_instance_uid, instances.c.sop_instance_uid).where(of_study)
        with self.reading() as connection:
            for series, instance in connection.execute(named):
                held[SeriesUID(series)].add(InstanceUID(instance))
        return {series: frozenset(uids) for series, uids in held.items()}

    def forget(self, before: datetime) -> int:
        """Commit that fetches are forgotten that ended before, and whose Study is not here; return how many."""
        of_it = studies.c.study_instance_uid == fetches.c.study_instance_uid
        is_here = exists().where(of_it, studies.c.state != SeriesState.PURGED.value)
        old = fetches.c.changed_at < before, fetches.c.state.not_in(LIVE_STATES), ~is_here
        with self.writing() as connection:
            return connection.execute(delete(fetches).where(*old)).rowcount

    def _read(self, statement: Any) -> tuple[Fetch, ...]:
        with self.reading() as connection:
            return tuple(_to_fetch(row) for row in connection.execute(statement).mappings())


def add_fetches(connection: Connection, orders: Sequence[FetchOrder], *, now: datetime) -> tuple[Fetch, ...]:
    """Write orders in the caller's transaction, and return them in the same sequence.

    What was ordered before for the same purpose is the same order, whatever became of it; but for a poll it begins
    anew where the peer has more than it had then.
    """
    return tuple(_add(connection, order, now=now) for order in orders)


def _add(connection: Connection, order: FetchOrder, *, now: datetime) -> Fetch:
    same = (
        fetches.c.source == order.source,
        fetches.c.study_instance_uid == order.study_instance_uid,
        fetches.c.reason == order.reason.value,
        fetches.c.on_behalf == order.on_behalf,
    )
    known = connection.execute(select(fetches).where(*same)).mappings().first()
    anew = {"state": FetchState.SCHEDULED.value, "not_before": now, "asked_at": now, "changed_at": now}
    if known is None:
        values = {
            **{name: getattr(order, name) for name in ("source", "study_instance_uid", "on_behalf", "asked_by")},
            "reason": order.reason.value,
            "series": list(order.series),
            "instances": order.instances,
        }
        added = (
            insert(fetches)
            .values(**values, **anew, attempts=0, failures=0, done=0, failed=0, held=0)
            .returning(fetches)
        )
        return _to_fetch(connection.execute(added).mappings().one())
    if not _has_grown(known, order):
        return _to_fetch(known)
    again = (
        update(fetches)
        .where(*same)
        .values(**anew, failures=0, instances=order.instances, reason_code=None, reason_text=None)
    )
    return _to_fetch(connection.execute(again.returning(fetches)).mappings().one())


def _has_grown(known: RowMapping, order: FetchOrder) -> bool:
    if order.reason is not FetchReason.POLL or known["state"] in LIVE_STATES or order.instances is None:
        return False
    return order.instances > (known["instances"] or 0)


def _write(connection: Connection, fetch: Fetch, values: Mapping[str, object]) -> Fetch | None:
    """Return a fetch with these values, if the attempt is that which is under way."""
    mine = (
        fetches.c.fetch_id == fetch.fetch_id,
        fetches.c.attempts == fetch.attempts,
        fetches.c.state == FetchState.IN_PROGRESS.value,
    )
    row = connection.execute(update(fetches).where(*mine).values(**values).returning(fetches)).mappings().first()
    return None if row is None else _to_fetch(row)


def _counts(fetched: Fetched) -> dict[str, object]:
    counts: dict[str, object] = {name: getattr(fetched, name) for name in ("done", "failed", "held")}
    return counts if fetched.expected is None else {**counts, "instances": fetched.expected}


def _tell(connection: Connection, fetch: Fetch, *, now: datetime) -> None:
    order, fetched = fetch.order, fetch.fetched
    text = f"from {order.source} ({order.reason.value}): {fetched.done} Instances came, {fetched.held} were here before"
    kind = "study-fetched" if fetch.state is FetchState.COMPLETED else "study-not-fetched"
    why = f"; {fetch.reason_code}: {fetch.reason_text}" if fetch.reason_code else ""
    add_event(connection, at=now, kind=kind, text=text + why, study_instance_uid=order.study_instance_uid)


def _is_paused(connection: Connection, source: str) -> bool:
    paused = select(pull_sources.c.paused_at).where(pull_sources.c.source == source)
    return connection.execute(paused).scalar_one_or_none() is not None


def _set_source(connection: Connection, source: str, values: Mapping[str, object]) -> None:
    this = pull_sources.c.source == source
    if not connection.execute(update(pull_sources).where(this).values(**values)).rowcount:
        blank = {"paused_at": None, "paused_by": "", "pause_reason": "", "polled_at": None}
        connection.execute(insert(pull_sources).values(**{**blank, **values}, source=source))


def _to_fetch(row: RowMapping) -> Fetch:
    order = FetchOrder(
        source=row["source"],
        study_instance_uid=StudyUID(row["study_instance_uid"]),
        reason=FetchReason(row["reason"]),
        on_behalf=row["on_behalf"],
        series=tuple(SeriesUID(uid) for uid in row["series"]),
        instances=row["instances"],
        asked_by=row["asked_by"],
    )
    kept = ("fetch_id", "attempts", "failures", "not_before", "asked_at", "changed_at", "reason_code", "reason_text")
    counted = Fetched(expected=row["instances"], done=row["done"], failed=row["failed"], held=row["held"])
    return Fetch(order=order, state=FetchState(row["state"]), fetched=counted, **{name: row[name] for name in kept})
