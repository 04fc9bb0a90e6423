"""What a search for workitems asks for, and which of them a subscriber wants to hear of (PS3.18 8.3.4, 11.9, 11.10)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

from node.domain import workitem as ups
from node.domain.workitem import DataSet, Workitem, element
from node.errors import RequestMalformed
from node.web.query import ALL, complain, keyword_of, read_number

MAX_PAGE = 1000
# Deeper than anybody asks.
MAX_PATH = 8
# What every match tells beside what is asked for, as far as it has it.
ALWAYS_TOLD = (
    ups.SOP_CLASS_UID, ups.SOP_INSTANCE_UID, *ups.CREATED_WITH, *ups.CREATED_EMPTY, ups.WORKLIST_LABEL,
    ups.PROCEDURE_STEP_STATE, ups.MODIFIED_AT,
)  # fmt: skip
# Of the request itself.
NO_KEYS = frozenset({"accept", "charset", "deletionlock", "filter"})
LITERAL_ONLY = "fuzzymatching is not supported; only literal matching has been performed"
BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemQuery:
    """One search.

    Attributes
    ----------
    keys
        What a workitem must match.
    included
        Tags that are wanted beside those that every match has.
    warnings
        What of the request was not understood, for people.
    """

    keys: DataSet
    included: frozenset[str]
    includes_all: bool
    offset: int
    limit: int
    warnings: tuple[str, ...]

    @property
    def attributes(self) -> tuple[str, ...]:
        """Tags of what is asked for."""
        return tuple(sorted(self.keys))

    def told_of(self, found: Workitem) -> DataSet:
        """Return what is told of a match."""
        if self.includes_all:
            return found.attributes
        wanted = self.included | self.keys.keys() | frozenset(ALWAYS_TOLD)
        return {tag: value for tag, value in found.attributes.items() if tag in wanted}


def read_query(parameters: Iterable[tuple[str, str]]) -> WorkitemQuery:
    """Return what a request asks for.

    Parameters
    ----------
    parameters
        Name and value, in their order; names may repeat.

    Raises
    ------
    RequestMalformed
        If a number is none, or `fuzzymatching` neither true nor false.
    """
    asked = _Asked()
    for name, value in parameters:
        asked.take(name, value)
    warnings = complain(asked.unknown, asked.not_included)
    return WorkitemQuery(
        keys=asked.keys,
        included=frozenset(asked.included),
        includes_all=asked.includes_all,
        offset=asked.offset,
        limit=asked.limit,
        warnings=(*warnings, *((LITERAL_ONLY,) if asked.is_fuzzy else ())),
    )


def read_filter(parameters: Iterable[tuple[str, str]]) -> DataSet:
    """Return what workitems must match of which a subscriber is told: ``filter=attribute=value,…``, or each by itself.

    Raises
    ------
    RequestMalformed
        If there is nothing to match, or an attribute that there is not: more would be told than is wanted.
    """
    keys: dict[str, Any] = {}
    for name, value in parameters:
        pairs = [pair.partition("=")[::2] for pair in value.split(",")] if name == "filter" else [(name, value)]
        for attribute, wanted in pairs:
            if attribute not in NO_KEYS and not put_key(keys, attribute, wanted):
                raise RequestMalformed("the filter names an attribute that there is not, or a sequence as a value")
    if not keys:
        raise RequestMalformed("a subscription to some workitems needs a filter: ?filter=attribute=value")
    return keys


def read_flag(name: str, value: str) -> bool:
    """Return a parameter that is true or false.

    Raises
    ------
    RequestMalformed
        If it is neither.
    """
    if value not in BOOLEANS:
        raise RequestMalformed(f"{name} is true or false")
    return BOOLEANS[value]


def put_key(keys: dict[str, Any], name: str, value: str) -> bool:
    """Add a key by its keyword or tag, in a sequence by all of them with dots between; return whether there is one."""
    path = _path_of(name)
    if not path:
        return False
    *outer, last = path
    for tag in outer:
        keys = keys.setdefault(tag, {"vr": "SQ", "Value": [{}]})["Value"][0]
    vr = dictionary_VR(int(last, 16)).partition(" ")[0]
    if vr == "SQ":
        return False
    values = value.replace("\\", ",").split(",") if vr == "UI" else [value]
    keys[last] = element(vr, *filter(None, values))
    return True


class _Asked:
    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.included: set[str] = set()
        self.includes_all = self.is_fuzzy = False
        self.offset, self.limit = 0, MAX_PAGE
        self.unknown: list[str] = []
        self.not_included: list[str] = []

    def take(self, name: str, value: str) -> None:
        """Take one parameter."""
        match name:
            case "limit":
                self.limit = min(read_number(name, value), MAX_PAGE)
            case "offset":
                self.offset = read_number(name, value)
            case "fuzzymatching":
                self.is_fuzzy = read_flag(name, value)
            case "includefield":
                self._include(value)
            case _:
                if name not in NO_KEYS and not put_key(self.keys, name, value):
                    self.unknown.append(name)

    def _include(self, value: str) -> None:
        for name in filter(None, (part.strip() for part in value.split(","))):
            path = _path_of(name)
            if name == ALL:
                self.includes_all = True
            elif path:
                self.included.add(path[0])
            else:
                self.not_included.append(name)


def _path_of(name: str) -> Sequence[str]:
    """Return the tags of an attribute, from the outermost sequence on; none: there is no such."""
    keywords = [keyword_of(part) for part in name.split(".")[: MAX_PATH + 1]]
    # Without a keyword there are entries in the dictionary, too.
    tags = [tag for tag in map(tag_for_keyword, filter(None, keywords)) if tag is not None]
    if len(tags) < len(keywords) or len(tags) > MAX_PATH:
        return ()
    if any(dictionary_VR(tag) != "SQ" for tag in tags[:-1]):
        return ()
    return [f"{tag:08X}" for tag in tags]
