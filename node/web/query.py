"""What a search asks for, and what of it the node does not understand (PS3.18 8.3.4 and 10.6.1)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from node.domain.study import KEPT_KEYWORDS
from node.domain.uids import check_uid
from node.errors import RequestMalformed
from node.ledger.candidates import Search
from node.ledger.catalogue import SERIES_KEYWORDS, STUDY_KEYWORDS
from node.ledger.matching import Condition, read_condition

STUDY_UID, SERIES_UID, INSTANCE_UID = "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"
MODALITIES = "ModalitiesInStudy"
ALL = "all"
TAG_DIGITS = 8
MAX_UIDS = 1000
# Longer lists are no question of a person, and take a walk through an index each.
MAX_MODALITIES = 16
MAX_PAGE_DIGITS = 9


class Level(Enum):
    """What is searched for."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"

    @property
    def keywords(self) -> frozenset[str]:
        """What may be asked of it, and be in its answers; `ModalitiesInStudy` aside."""
        study = frozenset((*STUDY_KEYWORDS, STUDY_UID))
        series = study | frozenset((*SERIES_KEYWORDS, SERIES_UID))
        match self:
            case Level.STUDY:
                return study
            case Level.SERIES:
                return series
            case Level.INSTANCE:
                return series | frozenset(KEPT_KEYWORDS) - {"SpecificCharacterSet"}

    @property
    def most(self) -> int:
        """How many answers one page holds; what has more is asked for page by page."""
        match self:
            case Level.STUDY:
                return 1000
            case Level.SERIES:
                return 5000
            case Level.INSTANCE:
                return 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One search.

    Attributes
    ----------
    included
        Keywords of attributes that are wanted beside those that every answer has.
    warnings
        What of the request was not understood, for people.
    is_capped
        Whether more was asked for than a page holds.
    """

    level: Level
    search: Search
    included: frozenset[str]
    includes_all: bool
    warnings: tuple[str, ...]
    is_capped: bool

    @property
    def attributes(self) -> tuple[str, ...]:
        """Keywords of what is asked for."""
        search = self.search
        return (*search.study, *search.series, *search.instance, *((MODALITIES,) if search.modalities else ()))


def read_query(level: Level, parameters: Sequence[tuple[str, str]], scope: Mapping[str, str]) -> Query:
    """Return what a request asks for.

    Parameters
    ----------
    parameters
        Name and value, in their order; names may repeat.
    scope
        UIDs that the path names, by keyword.

    Raises
    ------
    RequestMalformed
        If a value is none of its representation, or a number is none.
    BadIdentifier
        If the path names something else than UIDs.
    """
    for keyword, uid in scope.items():
        check_uid(uid, keyword=keyword)
    page, asked, unknown = _Page(level), _Asked(level), []
    for name, value in parameters:
        if page.take(name, value) or name == "accept":
            continue
        if not asked.take(name, value):
            unknown.append(name)
    for keyword, uid in scope.items():
        asked.values[keyword] = [uid]
    warnings = complain(unknown, asked.not_included)
    return Query(
        level=level,
        search=_search_of(asked, page),
        included=frozenset(asked.included),
        includes_all=asked.includes_all,
        warnings=warnings,
        is_capped=page.is_capped,
    )


class _Page:
    """Limit, offset and the kind of matching."""

    def __init__(self, level: Level) -> None:
        self._most = level.most
        self.limit, self.offset, self.is_fuzzy, self.is_capped = level.most, 0, False, False

    def take(self, name: str, value: str) -> bool:
        """Return whether the parameter is one of these."""
        match name:
            case "limit":
                asked = read_number(name, value)
                self.limit, self.is_capped = min(asked, self._most), asked > self._most
            case "offset":
                self.offset = read_number(name, value)
            case "fuzzymatching":
                if value not in ("true", "false"):
                    raise RequestMalformed("fuzzymatching is true or false")
                self.is_fuzzy = value == "true"
            case _:
                return False
        return True


class _Asked:
    """Attributes: what they must match, and which are wanted."""

    def __init__(self, level: Level) -> None:
        self._known = level.keywords | {MODALITIES}
        self.values: dict[str, list[str]] = {}
        self.included: set[str] = set()
        self.not_included: list[str] = []
        self.includes_all = False

    def take(self, name: str, value: str) -> bool:
        """Return whether the node knows what is asked for."""
        if name == "includefield":
            self._include(value)
            return True
        keyword = keyword_of(name)
        if keyword not in self._known:
            return False
        self.values.setdefault(keyword, []).append(value)
        # What is asked about is told, too (PS3.18 10.6.3.3).
        self.included.add(keyword)
        return True

    def _include(self, value: str) -> None:
        for field in filter(None, (part.strip() for part in value.split(","))):
            if field == ALL:
                self.includes_all = True
            elif (keyword := keyword_of(field)) in self._known:
                self.included.add(keyword)
            else:
                self.not_included.append(field)


def keyword_of(name: str) -> str:
    """Return the keyword of a keyword or tag; empty where the dictionary has none."""
    if len(name) == TAG_DIGITS:
        try:
            return keyword_for_tag(int(name, 16))
        except ValueError:
            # Eight letters that are no tag.
            return name if tag_for_keyword(name) is not None else ""
    return name if tag_for_keyword(name) is not None else ""


def _search_of(asked: _Asked, page: _Page) -> Search:
    conditions = {keyword: read_condition(keyword, values) for keyword, values in asked.values.items()}
    found: dict[str, Condition] = {keyword: one for keyword, one in conditions.items() if one is not None}
    modalities = found.pop(MODALITIES, None)
    if modalities is not None and len(modalities.values) > MAX_MODALITIES:
        raise RequestMalformed(f"at most {MAX_MODALITIES} modalities are asked for at once")
    if any(len(one.values) > MAX_UIDS for one in found.values()):
        raise RequestMalformed(f"at most {MAX_UIDS} UIDs are asked for at once")
    study = {*STUDY_KEYWORDS, STUDY_UID}
    series = {*SERIES_KEYWORDS, SERIES_UID}
    return Search(
        study={keyword: one for keyword, one in found.items() if keyword in study},
        series={keyword: one for keyword, one in found.items() if keyword in series},
        instance={keyword: one for keyword, one in found.items() if keyword not in study | series},
        modalities=() if modalities is None else modalities.values,
        is_fuzzy=page.is_fuzzy,
        limit=page.limit,
        offset=page.offset,
    )


def complain(unknown: Iterable[str], not_included: Iterable[str]) -> tuple[str, ...]:
    """Return what a search does not understand, for people; the names are the client's own words."""
    warnings = []
    if ignored := sorted(set(unknown)):
        warnings.append(f"not matched, the node does not know them here: {_show(ignored)}")
    if absent := sorted(set(not_included)):
        warnings.append(f"not included, the node does not keep them: {_show(absent)}")
    return tuple(warnings)


def _show(names: Sequence[str]) -> str:
    # They are the client's own words, and go into a header.
    shown = [
        "".join(character for character in name[:64] if character.isalnum() or character in ".,") for name in names
    ]
    return ", ".join(name.encode("ascii", "ignore").decode() or "?" for name in shown[:20])


def read_number(name: str, value: str) -> int:
    """Return the number of a parameter.

    Raises
    ------
    RequestMalformed
        If it is none.
    """
    if not (value.isascii() and value.isdigit()) or len(value) > MAX_PAGE_DIGITS:
        raise RequestMalformed(f"{name} is a number from 0, of at most {MAX_PAGE_DIGITS} digits")
    return int(value)
