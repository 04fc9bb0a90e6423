"""Which Studies may hold what a search asks for: the question put so that an index answers it (PS3.18 10.6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, exists, func, or_, select

from node.ledger.catalogue import STANDS, fold_name
from node.ledger.matching import LAST, WILDCARDS, Condition, read_range
from node.ledger.schema import instances, results, series_entries, study_entries

# Of so many Studies, the youngest are found by sorting all.
FEW = 5000
# Behind every text that begins with what stands before it.
LAST_CHARACTER = "\U0010ffff"
NAME_BEGIN = "^"
SQLITE = "sqlite"
INDEXED = frozenset({"StudyInstanceUID", "StudyDate", "PatientName", "PatientID", "AccessionNumber"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is asked for.

    Attributes
    ----------
    study, series
        Conditions on attributes of these levels, by keyword.
    instance
        Conditions on other attributes that the ledger keeps.
    modalities
        One of them must be that of a Series of the Study; empty asks nothing.
    is_fuzzy
        Whether a word of Patient's Name matches by its beginning, wherever it stands.
    limit, offset
        Of the page; rows.
    """

    study: Mapping[str, Condition] = field(default_factory=dict)
    series: Mapping[str, Condition] = field(default_factory=dict)
    instance: Mapping[str, Condition] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    is_fuzzy: bool = False
    limit: int = 100
    offset: int = 0

    @property
    def residual(self) -> list[Condition]:
        """What is asked of Studies and no index knows."""
        return [condition for keyword, condition in self.study.items() if keyword not in INDEXED]

    def uids(self, keyword: str) -> tuple[str, ...]:
        """Return the UIDs that are asked for; none: any."""
        for level in (self.study, self.series, self.instance):
            if keyword in level:
                return level[keyword].values
        return ()


def study_uids(connection: Connection, search: Search, *, limit: int, offset: int = 0) -> Sequence[str]:
    """Return the Studies that may hold what is asked for, in order."""
    modalities = search.modalities or _literal(search.series.get("Modality"))
    if not modalities or not set(search.study) <= {"StudyDate"} or _narrowing_uids(search):
        return [uid for _, uid in _youngest_of(connection, search, modalities, (limit, offset))]
    # In this index a Study stands once for each such Series.
    found = {
        key
        for modality in modalities
        for key in _youngest(
            connection, series_entries, search, [series_entries.c.modality == modality], (limit + offset, 0)
        )
    }
    return [uid for _, uid in sorted(found, reverse=True)[offset : offset + limit]]


def _youngest_of(
    connection: Connection, search: Search, modalities: Sequence[str], window: tuple[int, int]
) -> list[tuple[str, str]]:
    """Return date and UID of the youngest Studies that meet what is asked of Studies, by the index that leads to few.

    Where many Studies meet the conditions, the youngest of them are soon found by walking along the dates.
    """
    conditions = study_conditions(connection, search)
    leads_to_few = bool(conditions) and _is_few(
        connection, select(study_entries.c.study_instance_uid).where(*conditions)
    )
    if modalities:
        of_modality = select(series_entries.c.study_instance_uid).where(series_entries.c.modality.in_(modalities))
        if not leads_to_few and _is_few(connection, of_modality):
            conditions.append(study_entries.c.study_instance_uid.in_(of_modality))
            leads_to_few = True
        else:
            conditions.append(_has_series(modalities))
    return _youngest(connection, study_entries, search, conditions, window, by_date=not leads_to_few)


def _is_few(connection: Connection, statement: Select[tuple[str]]) -> bool:
    """Return whether there are so few rows that sorting them takes no time."""
    counted = select(func.count()).select_from(statement.limit(FEW + 1).subquery())
    return bool(connection.execute(counted).scalar_one() <= FEW)


def _has_series(modalities: Sequence[str]) -> ColumnElement[bool]:
    of_study = series_entries.c.study_instance_uid == study_entries.c.study_instance_uid
    # As a bare column, SQLite would look through all Series of the Modality for each Study.
    return exists().where(of_study, func.coalesce(series_entries.c.modality, "").in_(modalities))


def _youngest(
    connection: Connection,
    entries: Table,
    search: Search,
    conditions: Sequence[ColumnElement[bool]],
    window: tuple[int, int],
    *,
    by_date: bool = True,
) -> list[tuple[str, str]]:
    """Return date and UID of the youngest Studies that meet the conditions; `window` is limit and offset."""
    study_date: ColumnElement[str] = entries.c.study_date
    if not by_date:
        # As a bare column, SQLite would walk along the dates for what another index leads to: 6 s at 1 million Studies.
        study_date = func.coalesce(study_date, "")
    key = study_date, entries.c.study_instance_uid
    dates = _in_dates(study_date, search.study.get("StudyDate"))
    statement = select(*key).where(*conditions, *dates).order_by(*(column.desc() for column in key))
    if entries is series_entries:
        statement = statement.distinct()
    limit, offset = window
    return [(date, uid) for date, uid in connection.execute(statement.limit(limit).offset(offset)).all()]


def study_conditions(connection: Connection, search: Search) -> list[ColumnElement[bool]]:
    """Return what is asked of the row of a Study, its date aside."""
    entries = study_entries.c
    is_sqlite = connection.dialect.name == SQLITE
    conditions: list[ColumnElement[bool]] = []
    for keyword, column in (("PatientID", entries.patient_id), ("AccessionNumber", entries.accession_number)):
        if keyword in search.study:
            conditions.append(or_(*(_like(column, asked, is_sqlite) for asked in search.study[keyword].values)))
    if "PatientName" in search.study:
        asked_names = map(fold_name, search.study["PatientName"].values)
        match = _like_words if search.is_fuzzy else _like_name
        conditions.append(or_(*(match(name, is_sqlite) for name in asked_names)))
    if uids := search.uids("StudyInstanceUID"):
        conditions.append(entries.study_instance_uid.in_(uids))
    conditions += _narrowing_uids(search)
    return conditions


def _narrowing_uids(search: Search) -> list[ColumnElement[bool]]:
    """Return that a Study holds the Series or Instances that are named."""
    uid = study_entries.c.study_instance_uid
    conditions: list[ColumnElement[bool]] = []
    if series := search.uids("SeriesInstanceUID"):
        held = select(series_entries.c.study_instance_uid).where(series_entries.c.series_instance_uid.in_(series))
        conditions.append(uid.in_(held))
    if objects := search.uids("SOPInstanceUID"):
        received = select(instances.c.study_instance_uid).where(instances.c.sop_instance_uid.in_(objects))
        written = select(results.c.study_instance_uid).where(results.c.sop_instance_uid.in_(objects), STANDS)
        conditions.append(uid.in_(received.union(written)))
    return conditions


def _literal(condition: Condition | None) -> tuple[str, ...]:
    """Return the values of a condition on Modality; nothing when one has wildcards."""
    values = () if condition is None else condition.values
    return () if any(map(WILDCARDS.search, values)) else values


def _in_dates(column: ColumnElement[str], condition: Condition | None) -> list[ColumnElement[bool]]:
    if condition is None:
        return []
    ranges = [read_range(condition.keyword, value) for value in condition.values]
    return [or_(*(and_(column >= (one.begin or "0"), column <= (one.end or LAST)) for one in ranges))]


def _like_name(name: str, is_sqlite: bool) -> ColumnElement[bool]:
    """Return that a name, or a component group of it, is as asked for."""
    column = study_entries.c.patient_name
    found = [_like(column, name, is_sqlite)]
    if not name.endswith("*"):
        found.append(_like(column, f"{name}=*", is_sqlite))
    if not name.isascii():
        # Ideographic and phonetic groups stand behind the alphabetic one.
        found += [_like(column, f"*={name}", is_sqlite), _like(column, f"*={name}=*", is_sqlite)]
    return or_(*found)


def _like_words(name: str, is_sqlite: bool) -> ColumnElement[bool]:
    """Return that each word begins a word of the name."""
    column = study_entries.c.patient_name
    words = [word for word in name.replace("=", NAME_BEGIN).split(NAME_BEGIN) if word]
    # The bound says nothing, but leads to the index, in which the names are read without the rest of the rows.
    return and_(column >= NAME_BEGIN, *(_like(column, f"*{NAME_BEGIN}{word}*", is_sqlite) for word in words))


def _like(column: ColumnElement[str], asked: str, is_sqlite: bool) -> ColumnElement[bool]:
    """Return that a text matches a value with wildcards, told so that an index serves for what stands before them."""
    first = WILDCARDS.search(asked)
    if first is None:
        return column == asked
    begin = asked[: first.start()]
    if is_sqlite:
        matches: ColumnElement[bool] = column.op("GLOB", is_comparison=True)(asked.replace("[", "[[]"))
    else:
        escaped = asked.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        matches = column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")
    return and_(column >= begin, column < begin + LAST_CHARACTER, matches)
