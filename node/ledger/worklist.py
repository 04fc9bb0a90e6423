"""The worklist page by page: the most urgent Studies first, among those the youngest."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    case,
    func,
    literal,
    select,
    true,
    tuple_,
    type_coerce,
    union,
)

from node.domain.job import Priority
from node.ledger.candidates import LAST_CHARACTER
from node.ledger.catalogue import fold_name
from node.ledger.engine import Desk, Engine
from node.ledger.placement import MAX_LETTERS, SEPARATOR
from node.ledger.schema import EPOCH, UtcTime, series_entries, worklist, worklist_words

MAX_SEARCHED = 6
# Rows of one mixture of Modalities that are read at once; few at first, because the first often fill the page.
FIRST_CHUNK, CHUNK = 26, 500
# Later, and higher, than every Study's.
NEVER, LAST_ID = datetime.max.replace(tzinfo=UTC), 2**62
PENDING = "is_pending"
# At least two dots: what begins so is no name, and no date.
UID_BEGIN = re.compile(r"[0-9]+(\.[0-9]*){2,}\Z")
_place = worklist.c
_COLUMNS = (
    _place.place_id,
    _place.study_instance_uid,
    _place.priority,
    _place.opened_at,
    _place.modalities,
    _place.words,
)


class Show(StrEnum):
    """Which Studies are wanted."""

    ALL = "all"
    FINDINGS = "findings"
    PERSON = "person"
    UNMATCHED = "no-match"


_FLAGS: Mapping[Show, str] = {
    Show.FINDINGS: "has_findings",
    Show.PERSON: "needs_person",
    Show.UNMATCHED: "is_unmatched",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is looked at for one page.

    Attributes
    ----------
    counted
        Counts end here, and are one more: nobody reads the difference, and to count a million takes long.
    few
        Of so many Studies the first are found by sorting all; where a word stands for more, a walk meets them soon.
    passed_over
        So many Studies are looked at in vain on such a walk; then it ends, and says so.
    """

    counted: int = 1000
    few: int = 10_000
    passed_over: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a page of the worklist is asked for.

    Attributes
    ----------
    modalities
        One of them must be among the Study's; empty asks nothing.
    since
        When the first Instance came, at the earliest (UTC).
    words
        As typed: each must begin a word of Patient's Name, Patient ID or Accession Number; or a Study or Series
        Instance UID.
    """

    show: Show = Show.ALL
    modalities: tuple[str, ...] = ()
    since: datetime | None = None
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Mark:
    """A place between two rows: behind the one that it names."""

    priority: int
    opened_at: datetime
    place_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One Study on the worklist."""

    mark: Mark
    study_instance_uid: str
    modalities: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A page of the worklist.

    Attributes
    ----------
    is_bounded
        Whether the search ended before it had looked at everything.
    """

    places: tuple[Place, ...]
    has_more: bool = False
    is_bounded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many Studies of one Priority there are, and since when the oldest of them waits for its Result."""

    count: int
    oldest_pending_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Everything that one page of the worklist is made of.

    Attributes
    ----------
    counts, tallies
        Of what the filters leave; empty where words are searched, too. One more than `Limits.counted` is many.
    """

    listing: Listing
    counts: Mapping[Show, int] = field(default_factory=dict)
    tallies: Mapping[Priority, Tally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """What is counted."""

    show: Show
    priorities: tuple[Priority, ...] = tuple(Priority)


class WorklistLedger(Desk):
    """What people choose from; every page is read in order from an index, whatever is asked."""

    def __init__(self, engine: Engine, *, limits: Limits | None = None) -> None:
        super().__init__(engine)
        self.limits = limits or Limits()

    def read_sheet(self, wanted: Wanted, *, after: Mark | None, limit: int) -> Sheet:
        """Return the Studies behind `after`, most urgent first, of one Priority the youngest first."""
        with self.reading() as connection:
            mixtures = _mixtures(connection, wanted.modalities)
            if wanted.words.strip():
                return Sheet(listing=self._search(connection, wanted, mixtures, (after, limit)))
            listing = _to_listing(tuple(islice(_walk(connection, wanted, mixtures, after), limit + 1)), limit)
            shown = dict.fromkeys(Priority(place.mark.priority) for place in listing.places)
            return Sheet(
                listing=listing,
                counts=self._count_shown(connection, wanted, mixtures),
                tallies={priority: self._tally(connection, wanted, mixtures, priority) for priority in shown},
            )

    def count_needing(self) -> int:
        """Return how many Studies need a person; one more than `Limits.counted` is many."""
        with self.reading() as connection:
            return self._count(connection, Wanted(), _mixtures(connection, ()), _Counted(show=Show.PERSON))

    def is_blank(self) -> bool:
        """Return whether there is no Study at all."""
        with self.reading() as connection:
            return connection.execute(select(_place.place_id).limit(1)).first() is None

    def _count_shown(self, connection: Connection, wanted: Wanted, mixtures: Sequence[str]) -> Mapping[Show, int]:
        counted = {show: _Counted(show=show) for show in Show}
        return {show: self._count(connection, wanted, mixtures, one) for show, one in counted.items()}

    def _tally(self, connection: Connection, wanted: Wanted, mixtures: Sequence[str], priority: Priority) -> Tally:
        counted = _Counted(show=wanted.show, priorities=(priority,))
        # Whatever is shown: no index knows both.
        oldest = connection.execute(_oldest_pending(), {**_asked(wanted, mixtures), "rank": int(priority)})
        return Tally(count=self._count(connection, wanted, mixtures, counted), oldest_pending_at=oldest.scalar_one())

    def _count(self, connection: Connection, wanted: Wanted, mixtures: Sequence[str], counted: "_Counted") -> int:
        """Return how many Studies there are; one more than `Limits.counted` is many."""
        most = self.limits.counted + 1
        found: int = connection.execute(_counting(counted), {**_asked(wanted, mixtures), "most": most}).scalar_one()
        return min(found, most)

    def _search(
        self, connection: Connection, wanted: Wanted, mixtures: Sequence[str], window: tuple[Mark | None, int]
    ) -> Listing:
        """Return the page of what is searched: by the index of the rarest word, or by a walk where all are common."""
        asked = wanted.words.strip()
        words = _split(asked)
        after, limit = window
        if UID_BEGIN.match(asked):
            return _sorted(connection, wanted, mixtures, [_has_uid(asked)], after=after, limit=limit)
        if not words:
            return Listing(places=())
        counts = {word: _count_places(connection, word, limit=self.limits.few) for word in words}
        rarest = min(words, key=lambda word: counts[word])
        if counts[rarest] <= self.limits.few:
            found = select(worklist_words.c.place_id).where(_begins(rarest))
            conditions = [_place.place_id.in_(found), *(_stands(word) for word in words if word != rarest)]
            return _sorted(connection, wanted, mixtures, conditions, after=after, limit=limit)
        return _strolled(
            _walk(connection, wanted, mixtures, after), words, limit=limit, passed_over=self.limits.passed_over
        )


def _mixtures(connection: Connection, modalities: Sequence[str]) -> list[str]:
    """Return every mixture of Modalities that Studies have, such as CT and PT, and that holds one of these."""
    found = connection.execute(_every_mixture()).scalars()
    return [one for one in found if not modalities or not set(modalities).isdisjoint(one.split(SEPARATOR))]


@cache
def _every_mixture() -> Select[Any]:
    """Return what looks into the index once for each mixture; there are few, and very many Studies."""
    first = select(func.min(_place.modalities).label("mixture")).cte("mixtures", recursive=True)
    following = select(func.min(_place.modalities)).where(_place.modalities > first.c.mixture).scalar_subquery()
    every = first.union_all(select(following).where(first.c.mixture.is_not(None)))
    return select(every.c.mixture).where(every.c.mixture.is_not(None))


@cache
def _oldest_pending() -> Select[Any]:
    """Return what looks into the index once for each mixture that is asked for; the same text each time.

    Asked of all of them at once, it would be all Studies that wait.
    """
    every = _every_mixture().subquery()
    lane = _lane_of(every.c.mixture, bindparam("rank"), PENDING)
    oldest = select(func.min(_place.opened_at)).where(*lane).scalar_subquery()
    return select(func.min(oldest, type_=_place.opened_at.type)).where(_is_asked(every.c.mixture))


@cache
def _counting(counted: _Counted) -> Select[Any]:
    """Return what counts lane by lane, along their index, and stops at the mixture with which there are enough.

    Asked of all lanes at once, PostgreSQL takes Modalities and what is shown for independent, expects to find enough of
    them anywhere soon, and where there are none reads the whole table for it: 170 ms at a million Studies. The order
    says nothing, but leads to the index.
    """
    first = select(func.min(_place.modalities).label("mixture"), literal(0, BigInteger).label("counted"))
    walked = first.cte("walked", recursive=True)
    following = select(func.min(_place.modalities)).where(_place.modalities > walked.c.mixture).scalar_subquery()
    found: ColumnElement[int] = literal(0, BigInteger)
    for priority in counted.priorities:
        lane = select(_place.place_id).where(*_lane_of(walked.c.mixture, literal(int(priority)), *_flags(counted.show)))
        lane = lane.order_by(_place.opened_at.desc(), _place.place_id.desc()).limit(bindparam("most"))
        found += select(func.count()).select_from(lane.correlate(walked).subquery()).correlate(walked).scalar_subquery()
    more = case((_is_asked(walked.c.mixture), found), else_=0)
    is_on = and_(walked.c.mixture.is_not(None), walked.c.counted < bindparam("most"))
    steps = walked.union_all(select(following, walked.c.counted + more).where(is_on))
    return select(func.max(steps.c.counted))


def _lane_of(mixture: ColumnElement[str], rank: ColumnElement[int], *flags: str) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of the Studies of one mixture and Priority; they lead along one stretch of an index."""
    is_young = _place.opened_at >= bindparam("since")
    return (*map(_holds, flags), _place.modalities == mixture, _place.priority == rank, is_young)


def _is_asked(mixture: ColumnElement[str]) -> ColumnElement[bool]:
    return mixture.in_(bindparam("asked", expanding=True))


def _asked(wanted: Wanted, mixtures: Sequence[str]) -> Mapping[str, Any]:
    return {"asked": mixtures, "since": wanted.since or EPOCH}


def _flags(show: Show) -> tuple[str, ...]:
    return () if show is Show.ALL else (_FLAGS[show],)


def _holds(flag: str) -> ColumnElement[bool]:
    """Return that a flag is set, so that the index serves that begins with it."""
    return _place[flag] == true()


@cache
def _page(show: Show) -> Select[Any]:
    """Return what reads the next Studies of one mixture and Priority in order; the same text each time."""
    return (
        select(*_COLUMNS)
        .where(
            *map(_holds, _flags(show)),
            _place.modalities == bindparam("mixture"),
            _place.priority == bindparam("rank"),
            _place.opened_at >= bindparam("since"),
            tuple_(_place.opened_at, _place.place_id) < tuple_(bindparam("latest", type_=UtcTime), bindparam("below")),
        )
        .order_by(_place.opened_at.desc(), _place.place_id.desc())
        .limit(bindparam("size"))
    )


def _walk(connection: Connection, wanted: Wanted, mixtures: Sequence[str], after: Mark | None) -> Iterator[Row[Any]]:
    """Yield everything behind `after` in order; nothing is read that is not asked for."""
    for priority in Priority:
        if after is None or priority >= after.priority:
            begin = after if after is not None and priority == after.priority else None
            lanes = [_lane(connection, wanted, (mixture, priority), begin) for mixture in mixtures]
            yield from merge(*lanes, key=lambda row: (row.opened_at, row.place_id), reverse=True)


def _lane(connection: Connection, wanted: Wanted, key: tuple[str, Priority], after: Mark | None) -> Iterator[Row[Any]]:
    """Yield the Studies of one mixture of Modalities and one Priority, the youngest first."""
    statement, size = _page(wanted.show), FIRST_CHUNK
    latest, below = (NEVER, LAST_ID) if after is None else (after.opened_at, after.place_id)
    while True:
        values = {"mixture": key[0], "rank": int(key[1]), "since": wanted.since or EPOCH, "size": size}
        rows = connection.execute(statement, {**values, "latest": latest, "below": below}).all()
        yield from rows
        if len(rows) < size:
            return
        latest, below, size = rows[-1].opened_at, rows[-1].place_id, CHUNK


def _sorted(
    connection: Connection,
    wanted: Wanted,
    mixtures: Sequence[str],
    conditions: Sequence[ColumnElement[bool]],
    *,
    after: Mark | None,
    limit: int,
) -> Listing:
    """Return the page of few Studies, which are sorted as they are found."""
    # As bare columns, SQLite would walk along the index of the worklist for what another one leads to.
    rank = func.coalesce(_place.priority, 0)
    opened_at = func.coalesce(type_coerce(_place.opened_at, BigInteger), 0)
    narrowed: list[ColumnElement[bool]] = [func.coalesce(_place.modalities, "").in_(mixtures)]
    if wanted.since is not None:
        narrowed.append(opened_at >= _microseconds(wanted.since))
    if wanted.show is not Show.ALL:
        narrowed.append(func.coalesce(_place[_FLAGS[wanted.show]], False).is_(True))
    if after is not None:
        key = tuple_(rank, -opened_at, -_place.place_id)
        narrowed.append(key > tuple_(after.priority, -_microseconds(after.opened_at), -after.place_id))
    order = rank, opened_at.desc(), _place.place_id.desc()
    statement = select(*_COLUMNS).where(*conditions, *narrowed).order_by(*order).limit(limit + 1)
    return _to_listing(list(connection.execute(statement)), limit)


def _strolled(rows: Iterable[Row[Any]], words: Sequence[str], *, limit: int, passed_over: int) -> Listing:
    """Return the page of what has these words among `rows`; too many in vain end it."""
    found: list[Row[Any]] = []
    in_vain = 0
    for row in rows:
        text_of = f" {row.words}"
        if all(f" {word}" in text_of for word in words):
            found.append(row)
            if len(found) > limit:
                break
        else:
            in_vain += 1
            if in_vain >= passed_over:
                return replace(_to_listing(found, limit), is_bounded=True)
    return _to_listing(found, limit)


def _to_listing(rows: Sequence[Row[Any]], limit: int) -> Listing:
    return Listing(places=tuple(map(_to_place, rows[:limit])), has_more=len(rows) > limit)


def _to_place(row: Row[Any]) -> Place:
    return Place(
        mark=Mark(priority=row.priority, opened_at=row.opened_at, place_id=row.place_id),
        study_instance_uid=row.study_instance_uid,
        modalities=tuple(row.modalities.split(SEPARATOR)),
    )


def _split(asked: str) -> list[str]:
    """Return the words that are asked for, folded as those of the Studies are."""
    found = (word[:MAX_LETTERS] for word in fold_name(asked).replace("=", "^").split("^") if word)
    # PostgreSQL takes no NUL, and no word has one.
    return list(dict.fromkeys(word.replace("\0", "") for word in found))[:MAX_SEARCHED]


def _begins(word: str) -> ColumnElement[bool]:
    return and_(worklist_words.c.word >= word, worklist_words.c.word < word + LAST_CHARACTER)


def _stands(word: str) -> ColumnElement[bool]:
    return (literal(" ") + _place.words).contains(f" {word}", autoescape=True)


def _has_uid(uid: str) -> ColumnElement[bool]:
    """Return that this is the Study Instance UID, or the Series Instance UID of a Series of the Study."""
    of_series = select(series_entries.c.study_instance_uid).where(series_entries.c.series_instance_uid == uid)
    return _place.study_instance_uid.in_(union(select(literal(uid)), of_series))


def _count_places(connection: Connection, word: str, *, limit: int) -> int:
    """Return how many Studies have a word that begins so; one more than `limit` is many."""
    counted = select(worklist_words.c.place_id).where(_begins(word)).limit(limit + 1).subquery()
    found: int = connection.execute(select(func.count()).select_from(counted)).scalar_one()
    return found


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
