"""What is known of how much should come: kept by who said it, and read with the open Studies that it is about."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, exists, func, insert, select, update

from node.domain.completeness import WHOLE_STUDY, Census, OpenSeries, OpenStudy, Statement, Told
from node.domain.layout import Place
from node.domain.study import SeriesState
from node.domain.uids import SeriesUID, StudyUID
from node.ledger.engine import Desk
from node.ledger.rows import add_event
from node.ledger.schema import expectations, instances, notices, results, series, studies
from node.ledger.studies import read_open_series

EXPECTATION = "expectation"
STATEMENT_FIELDS = frozenset(field.name for field in fields(Statement))


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """One thing that somebody says, before it is compared with what he said earlier.

    Attributes
    ----------
    series_instance_uid, told, source, notice_uid, expected, is_final, failure
        As in `node.domain.completeness.Statement`.
    """

    study_instance_uid: StudyUID
    series_instance_uid: SeriesUID
    told: Told
    source: str
    notice_uid: str = ""
    expected: int | None
    is_final: bool = False
    failure: str = ""


class ExpectationLedger(Desk):
    """Open Studies, and what is known of how much of them should come."""

    def open_studies(self) -> tuple[OpenStudy, ...]:
        """Return every Study with a Series in state OPEN."""
        with self.reading() as connection:
            by_study: dict[StudyUID, list[OpenSeries]] = defaultdict(list)
            for one in read_open_series(connection):
                by_study[one.study_instance_uid].append(one)
            if not by_study:
                return ()
            opened = _opened_at(connection)
            held, said = _held(connection), _statements(connection)
        return tuple(
            OpenStudy(
                study_instance_uid=uid,
                opened_at=opened.get(uid, min(one.last_instance_at for one in found)),
                series=tuple(found),
                held=held[uid],
                statements=tuple(said[uid]),
            )
            for uid, found in by_study.items()
        )

    def read_places(self, study_instance_uid: StudyUID, series_instance_uid: SeriesUID) -> tuple[Place, ...]:
        """Return where each Instance of a Series lies among the others, as its header says."""
        statement = select(instances.c.attributes).where(
            instances.c.study_instance_uid == study_instance_uid,
            instances.c.series_instance_uid == series_instance_uid,
        )
        with self.reading() as connection:
            return tuple(map(Place.of, connection.execute(statement).scalars()))

    def record_census(
        self, study_instance_uid: StudyUID, census: Census, *, told: Told, source: str, now: datetime
    ) -> None:
        """Commit what a peer that was asked holds of a Study; our own Results among it are no part of what is sent."""
        uid = study_instance_uid
        with self.writing() as connection:
            ours = set(connection.execute(_own_series(uid)).scalars())
            by_series = {one: count for one, count in census.by_series.items() if one not in ours}
            total = census.total - sum(count for one, count in census.by_series.items() if one in ours)
            _forget_series(connection, uid, told=told, source=source, but=by_series)
            for one, count in {WHOLE_STUDY: total, **by_series}.items():
                say(
                    connection,
                    Saying(study_instance_uid=uid, series_instance_uid=one, told=told, source=source, expected=count),
                    now=now,
                )

    def record_failure(
        self, study_instance_uid: StudyUID, *, told: Told, source: str, failure: str, now: datetime
    ) -> None:
        """Commit that a peer that was asked gave no answer; what it said earlier stays known."""
        key = (
            expectations.c.study_instance_uid == study_instance_uid,
            expectations.c.told == told.value,
            expectations.c.source == source,
            expectations.c.notice_uid == "",
        )
        with self.writing() as connection:
            changed = connection.execute(update(expectations).where(*key).values(failure=failure, seen_at=now))
            if changed.rowcount == 0:
                say(
                    connection,
                    Saying(
                        study_instance_uid=study_instance_uid,
                        series_instance_uid=WHOLE_STUDY,
                        told=told,
                        source=source,
                        expected=None,
                        failure=failure,
                    ),
                    now=now,
                )


def say(connection: Connection, saying: Saying, *, now: datetime) -> None:
    """Write what somebody says, in the caller's transaction, and tell it where it is news about the Study."""
    key = {
        "study_instance_uid": saying.study_instance_uid,
        "series_instance_uid": saying.series_instance_uid,
        "told": saying.told.value,
        "source": saying.source,
        "notice_uid": saying.notice_uid,
    }
    told = {"expected": saying.expected, "is_final": saying.is_final, "failure": saying.failure, "seen_at": now}
    told["held"] = held = _count_held(connection, saying)
    known = connection.execute(select(expectations).filter_by(**key)).mappings().one_or_none()
    if known is None:
        connection.execute(insert(expectations).values(**key, **told, held_first=held, changes=0, since=now))
    else:
        is_other = known["expected"] != saying.expected
        changes = known["changes"] + (is_other and known["expected"] is not None)
        first = {"since": now, "held_first": held} if is_other else {}
        connection.execute(update(expectations).filter_by(**key).values(**told, **first, changes=changes))
    is_news = known is None or any(known[name] != told[name] for name in ("expected", "is_final", "failure"))
    if is_news and saying.series_instance_uid == WHOLE_STUDY:
        uid = saying.study_instance_uid
        add_event(connection, at=now, kind=EXPECTATION, text=_tell(saying, held), study_instance_uid=uid)


def read_statements(connection: Connection, study_instance_uid: StudyUID) -> tuple[Statement, ...]:
    """Return what is known of how much of a Study should come, in the caller's transaction."""
    statement = select(expectations).where(expectations.c.study_instance_uid == study_instance_uid)
    ordered = statement.order_by(expectations.c.told, expectations.c.source, expectations.c.series_instance_uid)
    return tuple(map(_to_statement, connection.execute(ordered).mappings()))


def forget_strangers(connection: Connection, *, before: datetime) -> None:
    """Delete what was told before so long of Studies that never came, in the caller's transaction."""
    for table, column in ((expectations, expectations.c.seen_at), (notices, notices.c.changed_at)):
        is_known = exists().where(studies.c.study_instance_uid == table.c.study_instance_uid)
        connection.execute(delete(table).where(column < before, ~is_known))


def _tell(saying: Saying, held: int) -> str:
    by = f"by {saying.told.value} at {saying.source}"
    if saying.failure:
        return f"no answer {by} ({saying.failure}); held {held}"
    if saying.expected is None:
        return f"in progress {by}; held {held}" if not saying.is_final else f"over {by}; held {held}"
    return f"held {held} of {saying.expected} {by}"


def _count_held(connection: Connection, saying: Saying) -> int:
    of = [instances.c.study_instance_uid == saying.study_instance_uid]
    if saying.series_instance_uid != WHOLE_STUDY:
        of.append(instances.c.series_instance_uid == saying.series_instance_uid)
    return int(connection.execute(select(func.count()).select_from(instances).where(*of)).scalar_one())


def _own_series(study_instance_uid: StudyUID) -> Any:
    return select(results.c.series_instance_uid).where(results.c.study_instance_uid == study_instance_uid)


def _forget_series(
    connection: Connection, study_instance_uid: StudyUID, *, told: Told, source: str, but: Iterable[SeriesUID]
) -> None:
    connection.execute(
        delete(expectations).where(
            expectations.c.study_instance_uid == study_instance_uid,
            expectations.c.told == told.value,
            expectations.c.source == source,
            expectations.c.notice_uid == "",
            expectations.c.series_instance_uid.not_in([WHOLE_STUDY, *but]),
        )
    )


def _opened_at(connection: Connection) -> Mapping[StudyUID, datetime]:
    statement = select(studies.c.study_instance_uid, studies.c.changed_at).where(
        studies.c.state == SeriesState.OPEN.value
    )
    return {StudyUID(uid): at for uid, at in connection.execute(statement)}


def _held(connection: Connection) -> Mapping[StudyUID, Mapping[SeriesUID, int]]:
    statement = (
        select(instances.c.study_instance_uid, instances.c.series_instance_uid, func.count())
        .where(instances.c.study_instance_uid.in_(_open_uids()))
        .group_by(instances.c.study_instance_uid, instances.c.series_instance_uid)
    )
    held: dict[StudyUID, dict[SeriesUID, int]] = defaultdict(dict)
    for study_uid, series_uid, count in connection.execute(statement):
        held[StudyUID(study_uid)][SeriesUID(series_uid)] = count
    return held


def _statements(connection: Connection) -> Mapping[StudyUID, Sequence[Statement]]:
    statement = select(expectations).where(expectations.c.study_instance_uid.in_(_open_uids()))
    said: dict[StudyUID, list[Statement]] = defaultdict(list)
    for row in connection.execute(statement).mappings():
        said[StudyUID(row["study_instance_uid"])].append(_to_statement(row))
    return said


def _open_uids() -> Any:
    return select(series.c.study_instance_uid).where(series.c.state == SeriesState.OPEN.value)


def _to_statement(row: RowMapping) -> Statement:
    values = {name: row[name] for name in STATEMENT_FIELDS}
    return Statement(**{**values, "told": Told(row["told"])})
