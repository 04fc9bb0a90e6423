"""Searching the catalogue: Studies, Series and Instances page by page, the youngest Study first (PS3.18 10.6)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, and_, exists, func, select

from node.domain.study import Attributes
from node.ledger.candidates import Search, study_uids
from node.ledger.engine import Desk
from node.ledger.matching import Condition
from node.ledger.schema import instances, results, series_entries, study_entries

# So many rows are looked at for what no index knows; then the search ends, and says so.
MAX_LOOKED_AT = 10_000
# A Result that came back from a PACS is an Instance like others.
STANDS = and_(
    results.c.retracted_at.is_(None),
    results.c.purged_at.is_(None),
    ~exists().where(instances.c.sop_instance_uid == results.c.sop_instance_uid),
)
# Studies that are read at once: few at first, because the first often fill the page.
FIRST_GROUP, LARGEST_GROUP = 20, 500
Row = TypeVar("Row")


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
    """One Series.

    Attributes
    ----------
    result_path
        Of one of our own Results, of which the ledger knows little more than the Modality; relative to the store.
    """

    study_instance_uid: str
    series_instance_uid: str
    study_attributes: Attributes
    attributes: Attributes
    instances: int
    result_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFound:
    """One Instance, received or written here; see `SeriesFound`."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    study_attributes: Attributes
    attributes: Attributes
    result_path: str | None = None


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
                scan = _Scan(study_uids(connection, search, limit=MAX_LOOKED_AT + 1))
                rows = scan.rows(lambda group: _study_rows(connection, group))
                page = scan.cut((row for row in rows if _meets(residual, row[1])), search)
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
            scan = _Scan(study_uids(connection, search, limit=MAX_LOOKED_AT + 1))
            rows = scan.rows(lambda group: _series_rows(connection, group))
            return scan.cut(
                (row for row in rows if _meets(conditions, {**row.study_attributes, **row.attributes})), search
            )

    def find_instances(self, search: Search) -> Page[InstanceFound]:
        """Return Instances: of the youngest Study first, within it by Series and Instance Number."""
        conditions = [*search.residual, *search.series.values(), *search.instance.values()]
        within = search.uids("SeriesInstanceUID")
        with self.reading() as connection:
            scan = _Scan(study_uids(connection, search, limit=MAX_LOOKED_AT + 1), first_group=1)
            rows = scan.rows(lambda group: _instance_rows(connection, group, within))
            return scan.cut(
                (row for row in rows if _meets(conditions, {**row.study_attributes, **row.attributes})), search
            )


class _Scan:
    """A walk over Studies, group by group, that ends when the page is full or enough was looked at."""

    def __init__(self, uids: Sequence[str], *, first_group: int = FIRST_GROUP) -> None:
        self._uids = uids[:MAX_LOOKED_AT]
        self._is_cut = len(uids) > MAX_LOOKED_AT
        self._first_group = first_group

    def rows(self, read: Callable[[Sequence[str]], Iterable[Row]]) -> Iterator[Row]:
        """Yield what `read` returns for each group of Studies, at most so many rows as may be looked at."""
        looked_at = 0
        for group in self._groups():
            for row in read(group):
                if looked_at >= MAX_LOOKED_AT:
                    self._is_cut = True
                    return
                looked_at += 1
                yield row

    def cut(self, rows: Iterable[Row], search: Search) -> "Page[Row]":
        """Return the page that is asked for."""
        found = tuple(islice(rows, search.offset, search.offset + search.limit + 1))
        has_more = len(found) > search.limit
        return Page(found=found[: search.limit], has_more=has_more, is_bounded=self._is_cut and not has_more)

    def _groups(self) -> Iterator[Sequence[str]]:
        at, size = 0, self._first_group
        while at < len(self._uids):
            yield self._uids[at : at + size]
            at, size = at + size, min(size * 5, LARGEST_GROUP)


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
    of_series = select(
        series_entries.c.study_instance_uid, series_entries.c.series_instance_uid, series_entries.c.modality
    ).where(series_entries.c.study_instance_uid.in_(uids))
    for study, series, modality in connection.execute(of_series).all():
        if modality and counts[study].get(series):
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
    for table, conditions in ((instances, ()), (results, (STANDS,))):
        key = table.c.study_instance_uid, table.c.series_instance_uid
        statement = select(*key, func.count()).where(table.c.study_instance_uid.in_(uids), *conditions).group_by(*key)
        for study, series, count in connection.execute(statement).all():
            counted[study][series] += count
    return counted


def _series_rows(connection: Connection, uids: Sequence[str]) -> Iterator[SeriesFound]:
    studies, counts = dict(_study_rows(connection, uids)), _counts(connection, uids)
    written = _results_of(connection, uids)
    statement = select(series_entries).where(series_entries.c.study_instance_uid.in_(uids))
    grouped: dict[str, list[RowMapping]] = defaultdict(list)
    for row in connection.execute(statement).mappings():
        grouped[row["study_instance_uid"]].append(row)
    for study in uids:
        own = {row["series_instance_uid"]: row["path"] for row in written[study]}
        for row in sorted(grouped[study], key=_series_order):
            series = row["series_instance_uid"]
            # Those of Results that were taken back are empty.
            if counts[study][series]:
                yield SeriesFound(
                    study_instance_uid=study,
                    series_instance_uid=series,
                    study_attributes=studies[study],
                    attributes=row["attributes"] | {"SeriesInstanceUID": series},
                    instances=counts[study][series],
                    result_path=own.get(series),
                )


def _instance_rows(connection: Connection, uids: Sequence[str], within: Sequence[str]) -> Iterator[InstanceFound]:
    studies, written = dict(_study_rows(connection, uids)), _results_of(connection, uids)
    statement = select(*_columns(instances), instances.c.attributes).where(instances.c.study_instance_uid.in_(uids))
    if within:
        statement = statement.where(instances.c.series_instance_uid.in_(within))
    grouped: dict[str, list[RowMapping]] = defaultdict(list)
    for row in connection.execute(statement).mappings():
        grouped[row["study_instance_uid"]].append(row)
    for study in uids:
        for row in sorted(grouped[study], key=_instance_order):
            yield _to_instance(row, studies[study], row["attributes"])
        for row in written[study]:
            yield _to_instance(row, studies[study], {}, result_path=row["path"])


def _to_instance(
    row: RowMapping, of_study: Attributes, attributes: Attributes, *, result_path: str | None = None
) -> InstanceFound:
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
        result_path=result_path,
    )


def _results_of(connection: Connection, uids: Sequence[str]) -> Mapping[str, list[RowMapping]]:
    """Return the Results of these Studies that stand, in the order in which they were written."""
    wanted = select(*_columns(results), results.c.path).where(results.c.study_instance_uid.in_(uids), STANDS)
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


def _instance_order(row: RowMapping) -> tuple[str, float, str]:
    return row["series_instance_uid"], _number(row["attributes"].get("InstanceNumber")), row["sop_instance_uid"]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("inf")
