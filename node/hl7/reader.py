"""HL7 v2 messages as segments and fields, read without trust in whoever sent them.

Every version 2.x and every segment is read: what a message must hold is asked by whoever wants it
(docs/decisions/0053).

References: HL7 v2.5.1 chapter 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from node.errors import MessageRefused

SEGMENT_END = "\r"
HEADER = "MSH"
# Escape sequences of separators (2.7.1); of formatting only the line break means something here.
ESCAPED = {"F": "field", "S": "component", "T": "subcomponent", "R": "repetition", "E": "escape"}
LINE_BREAK = ".br"
# MSH-18 (HL7 table 0211), as senders write it, to the name of the codec; empty says nothing.
CHARACTER_SETS = {
    "": "",
    "ASCII": "latin-1",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UNICODE": "utf-8",
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    **{f"ISO-8859-{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
}
CHARACTER_SET_FIELD = 18
# HL7 table 0357.
SEQUENCE_ERROR, FIELD_MISSING, DATA_TYPE_ERROR, VALUE_UNKNOWN = 100, 101, 102, 103
# No order has so many.
MAX_SEGMENTS = 2000
MIN_NAME, MIN_HEADER = 3, 8
TIME_FORMATS = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Separators:
    """What stands between the parts of a message (MSH-1, MSH-2)."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One segment.

    Attributes
    ----------
    number
        Which one of its name, from 1.
    fields
        As they stand there, from field 1.
    """

    name: str
    number: int
    fields: tuple[str, ...]
    separators: Separators

    def repetitions(self, field: int) -> Sequence[Sequence[str]]:
        """Return the repetitions of a field as their components, without escapes; none for an empty one.

        Subcomponents stay as they are, but for escapes.
        """
        raw = self.fields[field - 1] if 0 < field <= len(self.fields) else ""
        # A field that holds two quotation marks says that there is no value any more.
        if not raw or raw == '""':
            return ()
        signs = self.separators
        return [[_unescape(part, signs) for part in one.split(signs.component)] for one in raw.split(signs.repetition)]

    def text(self, field: int, component: int = 1) -> str:
        """Return a component of the first repetition of a field, without blanks around it; empty where it is absent."""
        for first in self.repetitions(field)[:1]:
            return part_of(first, component)
        return ""

    def place(self, field: int, component: int = 0) -> str:
        """Return where a field stands, as the location of an error (ERR-2)."""
        return f"{self.name}^{self.number}^{field}" + (f"^1^{component}" if component else "")

    def time(self, field: int, component: int = 1) -> datetime | None:
        """Return a time (DTM); one without zone is of this machine's; None where it is absent.

        Raises
        ------
        MessageRefused
            If it is none.
        """
        value = self.text(field, component)
        if not value:
            return None
        try:
            return _read_time(value)
        except (ValueError, KeyError, OverflowError) as exc:
            where = self.place(field, component)
            raise MessageRefused("a time is YYYYMMDDHHMMSS, its end may be left out", where, DATA_TYPE_ERROR) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message; the first segment is MSH."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        """The MSH segment."""
        return self.segments[0]

    def first(self, name: str) -> Segment | None:
        """Return the first segment of this name."""
        return next((segment for segment in self.segments if segment.name == name), None)


def read_message(encoded: bytes) -> Message:
    """Return a message as its segments.

    Raises
    ------
    MessageRefused
        If it begins with no MSH, or cannot be read; the place says where.
    """
    separators = _read_separators(encoded)
    text = _decode(encoded, separators)
    lines = [line for line in text.replace("\r\n", "\r").replace("\n", "\r").split(SEGMENT_END) if line.strip()]
    if len(lines) > MAX_SEGMENTS:
        raise MessageRefused(f"the message has more than {MAX_SEGMENTS} segments", condition=SEQUENCE_ERROR)
    counts: dict[str, int] = {}
    segments: list[Segment] = []
    for line in lines:
        name, *fields = line.split(separators.field)
        counts[name] = counts.get(name, 0) + 1
        if len(name) != MIN_NAME or not name.isalnum():
            place = f"{segments[-1].name}^{segments[-1].number}" if segments else ""
            raise MessageRefused(
                "what follows this segment is none: no name of three characters", place, SEQUENCE_ERROR
            )
        # MSH-1 is the separator itself.
        first = (separators.field,) if name == HEADER else ()
        segments.append(Segment(name=name, number=counts[name], fields=(*first, *fields), separators=separators))
    return Message(segments=tuple(segments))


def part_of(parts: Sequence[str], number: int) -> str:
    """Return a component by its number, from 1, without blanks around it; empty where it is absent."""
    return parts[number - 1].strip() if number <= len(parts) and parts[number - 1] != '""' else ""


def _read_separators(encoded: bytes) -> Separators:
    head = encoded[:MIN_HEADER].decode("latin-1")
    signs = head[3:8]
    if not head.startswith(HEADER) or len(signs) < MIN_HEADER - MIN_NAME:
        raise MessageRefused("the message does not begin with MSH and its separators", "MSH^1^1", SEQUENCE_ERROR)
    if len(set(signs)) < len(signs) or any(sign.isalnum() or sign.isspace() for sign in signs):
        raise MessageRefused("separators are five different signs, such as |^~\\&", "MSH^1^2", DATA_TYPE_ERROR)
    field, component, repetition, escape, subcomponent = tuple(signs)
    return Separators(field=field, component=component, repetition=repetition, escape=escape, subcomponent=subcomponent)


def _decode(encoded: bytes, separators: Separators) -> str:
    header = encoded.replace(b"\n", b"\r").split(b"\r", 1)[0].decode("latin-1").split(separators.field)
    # MSH-1 is the separator itself, so that the field stands one place earlier.
    said = header[CHARACTER_SET_FIELD - 1] if len(header) >= CHARACTER_SET_FIELD else ""
    codec = CHARACTER_SETS.get(said.split(separators.repetition)[0].strip().upper())
    place = f"{HEADER}^1^{CHARACTER_SET_FIELD}"
    if codec is None:
        known = ", ".join(name for name in CHARACTER_SETS if name)
        raise MessageRefused(f"the character set is none of {known}", place, VALUE_UNKNOWN)
    try:
        return encoded.decode(codec or "utf-8")
    except UnicodeDecodeError as exc:
        if codec:
            raise MessageRefused("the message is not in the character set that it names", place) from exc
    # What most senders write who name none.
    return encoded.decode("latin-1")


def _unescape(text: str, signs: Separators) -> str:
    if signs.escape not in text:
        return text
    plain, *rest = text.split(signs.escape)
    pieces, is_inside = [plain], True
    for piece in rest:
        pieces.append(_meaning(piece, signs) if is_inside else piece)
        is_inside = not is_inside
    return "".join(pieces)


def _meaning(sequence: str, signs: Separators) -> str:
    """Return what an escape sequence stands for; one that only formats stands for nothing."""
    if sequence == LINE_BREAK:
        return "\n"
    if sequence[:1] == "X":
        try:
            return bytes.fromhex(sequence[1:]).decode("latin-1")
        except ValueError:
            return ""
    name = ESCAPED.get(sequence)
    return "" if name is None else str(getattr(signs, name))


def _read_time(value: str) -> datetime:
    sign = max(value.find("+"), value.find("-"))
    bare, zone = (value, "") if sign < 0 else (value[:sign], value[sign:])
    digits = bare.partition(".")[0]
    if not digits.isascii() or not digits.isdigit():
        raise ValueError(digits)
    found = datetime.strptime(digits, TIME_FORMATS[len(digits)])  # noqa: DTZ007 the zone follows
    if not zone:
        return found.astimezone()
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
    return found.replace(tzinfo=timezone(offset if zone[0] == "+" else -offset))
