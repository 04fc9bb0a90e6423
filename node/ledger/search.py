"""Searching the catalogue: Studies, Series and Instances page by page, the youngest Study first (PS3.18 10.6)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, and_, exists, func, select

from node.domain.study import Attributes
from node.ledger.candidates import Search, study_uids
from node.ledger.catalogue import STANDS, result_attributes
from node.ledger.engine import Desk
from node.ledger.matching import Condition
from node.ledger.schema import instances, results, series_entries, study_entries

# So many rows are looked at in vain for what no index knows; then the search ends, and says so.
MAX_PASSED_OVER = 10_000
# A Result that came back from a PACS is an Instance like others.
IS_OWN = and_(STANDS, ~exists().where(instances.c.sop_instance_uid == results.c.sop_instance_uid))
# Studies that are named at once, and read at once: few at first, because the first often fill the page.
WINDOW = 10_000
FIRST_GROUP, LARGEST_GROUP = 20, 500
# Instances whose attributes are in memory at once.
CHUNK = 500
NAMED = {"series_instance_uid": "SeriesInstanceUID", "sop_instance_uid": "SOPInstanceUID"}
Row = TypeVar("Row")
# UIDs by the column in which one of them must stand.
Named = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFound:
    """One Study."""

    study_instance_uid: str
    attributes: Attributes
    modalities: tuple[str, ...]
    series: int
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFound:
    """One Series, received or written here."""

    study_instance_uid: str
    series_instance_uid: str
    study_attributes: Attributes
    attributes: Attributes
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFound:
    """One Instance, received or written here."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    study_attributes: Attributes
    attributes: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Row]):
    """What was found.

    Attributes
    ----------
    has_more
        Whether there is more behind the page.
    is_bounded
        Whether the search ended before it had looked at everything.
    """

    found: tuple[Row, ...]
    has_more: bool = False
    is_bounded: bool = False


class SearchLedger(Desk):
    """What searchers are told; everything is read from indexes, but for what `Page.is_bounded` says."""

    def find_studies(self, search: Search) -> Page[StudyFound]:
        """Return Studies, the youngest Study Date first, those without a date last."""
        residual = search.residual
        with self.reading() as connection:
            if residual:
                scan = _Scan(connection, search)
                page = scan.page(scan.rows(_study_rows, lambda row: _meets(residual, row[1])))
            else:
                uids = study_uids(connection, search, limit=search.limit + 1, offset=search.offset)
                found_rows = _study_rows(connection, uids[: search.limit])
                page = Page(found=tuple(found_rows), has_more=len(uids) > search.limit)
            found = tuple(_describe_studies(connection, page.found))
        return Page(found=found, has_more=page.has_more, is_bounded=page.is_bounded)

    def find_series(self, search: Search) -> Page[SeriesFound]:
        """Return Series: of the youngest Study first, within it by Series Number."""
        conditions = [*search.residual, *search.series.values()]
        with self.reading() as connection:
            scan = _Scan(connection, search)
            return scan.page(
                scan.rows(_series_rows, lambda row: _meets(conditions, {**row.study_attributes, **row.attributes}))
            )

    def find_instances(self, search: Search) -> Page[InstanceFound]:
        """Return Instances: of the youngest Study first, within it by Series and Instance Number."""
        conditions = [*search.residual, *search.series.values(), *search.instance.values()]
        named = {name: search.uids(keyword) for name, keyword in NAMED.items() if search.uids(keyword)}
        with self.reading() as connection:
            scan = _Scan(connection, search)
            return scan.page(
                scan.rows(
                    lambda connection, group: _instance_rows(connection, group, named),
                    lambda row: _meets(conditions, {**row.study_attributes, **row.attributes}),
                )
            )


class _Scan:
    """A walk over Studies, group by group, that ends when the page is full or enough was passed over."""

    def __init__(self, connection: Connection, search: Search) -> None:
        self._connection = connection
        self._search = search
        self._is_cut = False

    def rows(
        self, read: Callable[[Connection, Sequence[str]], Iterable[Row]], meets: Callable[[Row], bool]
    ) -> Iterator[Row]:
        """Yield what `read` returns for each group of Studies and `meets` holds of, until too much is passed over."""
        passed_over = 0
        for group in self._groups():
            for row in read(self._connection, group):
                if meets(row):
                    yield row
                elif passed_over >= MAX_PASSED_OVER:
                    self._is_cut = True
                    return
                else:
                    passed_over += 1

    def page(self, rows: Iterable[Row]) -> "Page[Row]":
        """Return the page that is asked for."""
        limit, offset = self._search.limit, self._search.offset
        found = tuple(islice(rows, offset, offset + limit + 1))
        has_more = len(found) > limit
        return Page(found=found[:limit], has_more=has_more, is_bounded=self._is_cut and not has_more)

    def _groups(self) -> Iterator[Sequence[str]]:
        size = FIRST_GROUP
        for begin in count(0, WINDOW):
            uids = study_uids(self._connection, self._search, limit=WINDOW, offset=begin)
            at = 0
            while at < len(uids):
                yield uids[at : at + size]
                at, size = at + size, min(size * 5, LARGEST_GROUP)
            if len(uids) < WINDOW:
                return


def _meets(conditions: Iterable[Condition], attributes: Attributes) -> bool:
    return all(condition.holds(attributes) for condition in conditions)


def _study_rows(connection: Connection, uids: Sequence[str]) -> list[tuple[str, Attributes]]:
    """Return each Study with its attributes, in the order of `uids`."""
    columns = study_entries.c
    wanted = select(columns.study_instance_uid, columns.attributes).where(columns.study_instance_uid.in_(uids))
    found = {row.study_instance_uid: row.attributes for row in connection.execute(wanted)}
    return [(uid, found[uid] | {"StudyInstanceUID": uid}) for uid in uids]


def _describe_studies(connection: Connection, rows: Sequence[tuple[str, Attributes]]) -> Iterator[StudyFound]:
    uids = [uid for uid, _ in rows]
    counts = _counts(connection, uids)
    modalities: dict[str, set[str]] = defaultdict(set)
    columns = series_entries.c
    of_series = select(columns.study_instance_uid, columns.modality).where(columns.study_instance_uid.in_(uids))
    for study, modality in connection.execute(of_series).all():
        if modality:
            modalities[study].add(modality)
    for uid, attributes in rows:
        yield StudyFound(
            study_instance_uid=uid,
            attributes=attributes,
            modalities=tuple(sorted(modalities[uid])),
            series=len(counts[uid]),
            instances=sum(counts[uid].values()),
        )


def _counts(connection: Connection, uids: Sequence[str]) -> Mapping[str, Counter[str]]:
    """Return how many Instances and standing Results each Series of these Studies has."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for table, conditions in ((instances, ()), (results, (IS_OWN,))):
        key = table.c.study_instance_uid, table.c.series_instance_uid
        statement = select(*key, func.count()).where(table.c.study_instance_uid.in_(uids), *conditions).group_by(*key)
        for study, series, number in connection.execute(statement).all():
            counted[study][series] += number
    return counted


def _series_rows(connection: Connection, uids: Sequence[str]) -> Iterator[SeriesFound]:
    studies, counts = dict(_study_rows(connection, uids)), _counts(connection, uids)
    statement = select(series_entries).where(series_entries.c.study_instance_uid.in_(uids))
    grouped: dict[str, list[RowMapping]] = defaultdict(list)
    for row in connection.execute(statement).mappings():
        grouped[row["study_instance_uid"]].append(row)
    for study in uids:
        for row in sorted(grouped[study], key=_series_order):
            series = row["series_instance_uid"]
            yield SeriesFound(
                study_instance_uid=study,
                series_instance_uid=series,
                study_attributes=studies[study],
                attributes=row["attributes"] | {"SeriesInstanceUID": series},
                instances=counts[study][series],
            )


def _instance_rows(connection: Connection, uids: Sequence[str], named: Named) -> Iterator[InstanceFound]:
    studies, written = dict(_study_rows(connection, uids)), _results_of(connection, uids, named)
    for study in uids:
        for row in _received(connection, study, named):
            yield _to_instance(row, studies[study], row["attributes"])
        for row in written[study]:
            yield _to_instance(row, studies[study], result_attributes(dict(row)))


def _received(connection: Connection, study: str, named: Named) -> Iterator[RowMapping]:
    """Yield the rows of a Study's Instances, by Series and Instance Number; never all of them in memory."""
    columns = instances.c
    number = columns.attributes["InstanceNumber"].as_float()
    keys = select(columns.series_instance_uid, number, columns.sop_instance_uid)
    keys = keys.where(columns.study_instance_uid == study, *_named_in(instances, named))
    found = connection.execute(keys).all()
    ordered = [uid for _, _, uid in sorted((series, _number(one), uid) for series, one, uid in found)]
    for at in range(0, len(ordered), CHUNK):
        chunk = ordered[at : at + CHUNK]
        wanted = select(*_columns(instances), columns.attributes).where(columns.sop_instance_uid.in_(chunk))
        rows = {row["sop_instance_uid"]: row for row in connection.execute(wanted).mappings()}
        yield from (rows[uid] for uid in chunk)


def _named_in(table: Table, named: Named) -> tuple[ColumnElement[bool], ...]:
    return tuple(table.c[name].in_(uids) for name, uids in named.items())


def _to_instance(row: RowMapping, of_study: Attributes, attributes: Attributes) -> InstanceFound:
    keywords = {
        "SOPClassUID": row["sop_class_uid"],
        "SOPInstanceUID": row["sop_instance_uid"],
        "SeriesInstanceUID": row["series_instance_uid"],
    }
    return InstanceFound(
        study_instance_uid=row["study_instance_uid"],
        series_instance_uid=row["series_instance_uid"],
        sop_instance_uid=row["sop_instance_uid"],
        sop_class_uid=row["sop_class_uid"],
        study_attributes=of_study,
        attributes={**attributes, **keywords},
    )


def _results_of(connection: Connection, uids: Sequence[str], named: Named) -> Mapping[str, list[RowMapping]]:
    """Return the Results of these Studies that stand and are no Instances, in the order in which they were written."""
    wanted = select(*_columns(results), results.c.kind, results.c.attributes)
    wanted = wanted.where(results.c.study_instance_uid.in_(uids), IS_OWN, *_named_in(results, named))
    found: dict[str, list[RowMapping]] = defaultdict(list)
    ordered = wanted.order_by(results.c.created_at, results.c.sop_instance_uid)
    for row in connection.execute(ordered).mappings():
        found[row["study_instance_uid"]].append(row)
    return found


def _columns(table: Table) -> tuple[ColumnElement[Any], ...]:
    names = ("study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid")
    return tuple(table.c[name] for name in names)


def _series_order(row: RowMapping) -> tuple[float, str]:
    return _number(row["attributes"].get("SeriesNumber")), row["series_instance_uid"]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("inf")
