"""An answer as ORU^R01: findings coded and in words, how urgent the Study is, and that nobody has verified it.

References: HL7 v2.5.1 chapter 7 (7.3.1 ORU, 7.4.1 OBR, 7.4.2 OBX), tables 0085 and 0123.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from node.domain import codes
from node.domain.answer import UNVERIFIED, Answer, AnswerState
from node.domain.codes import LOCAL_SCHEME, Code
from node.domain.finding import Finding, Presence
from node.domain.job import Priority
from node.domain.measures import MEASURES, PRESENCE_VALUES
from node.hl7.acknowledgment import SIGNS, escape

VERSION, CHARACTER_SET = "2.5.1", "UNICODE UTF-8"
# MSH-10 has 20 characters before version 2.7.
CONTROL_ID_LENGTH = 20
# Longest ST; whoever receives a longer one may cut it anywhere.
MAX_TEXT = 199
# Of TX, 65,536 characters are taken; nothing that is said comes near it.
MAX_SENTENCE = 4000
LINE_BREAK = "\\.br\\"
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
DATE, TIME = re.compile(r"\d{8}"), re.compile(r"\d{2}(\d{2}(\d{2})?)?")
# HL7 table 0485, and the meanings that go with it.
URGENCIES: Mapping[Priority, tuple[str, str]] = {
    Priority.STAT: ("S", "Stat"),
    Priority.HIGH: ("A", "ASAP"),
    Priority.ROUTINE: ("R", "Routine"),
    Priority.LOW: ("R", "Routine"),
}
SEXES = frozenset({"M", "F", "O"})
# Of each component group of a Person Name (PS3.5 6.2.1), its representation (HL7 table 0465).
REPRESENTATIONS = ("A", "I", "P")
# Status of an observation (OBX-11, HL7 table 0085); what is not verified stays preliminary until it is corrected.
PRELIMINARY, CORRECTED, DELETED, WRONG = "P", "C", "D", "W"
STATUSES: Mapping[AnswerState, str] = {
    AnswerState.FIRST: PRELIMINARY,
    AnswerState.CORRECTED: CORRECTED,
    AnswerState.TAKEN_BACK: DELETED,
    AnswerState.MISPLACED: WRONG,
}
ABNORMAL, VERY_ABNORMAL = "A", "AA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """Who sends, and to whom (MSH-3, MSH-5, MSH-6)."""

    sender: str
    application: str = ""
    facility: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One message.

    Attributes
    ----------
    control_id
        Message Control ID (MSH-10).
    """

    control_id: str
    encoded: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one OBX says, without its number."""

    kind: str
    code: Code
    value: str
    sub_id: str = ""
    unit: str = ""
    flag: str = ""
    status: str = PRELIMINARY


def write_report(answer: Answer, parties: Parties) -> Report:
    """Return the message that tells how an answer stands.

    The same answer gives the same bytes, whenever they are written: Message Control ID and times follow from it, so
    that a receiver may know one that comes again.
    """
    body = [_patient(answer), *_order(answer), *_observations(answer)]
    named = "\r".join((parties.sender, parties.application, parties.facility, *body))
    control_id = _digest(named)
    header = _segment(
        "MSH",
        {
            # MSH-1 is the separator itself, so that each field stands one place earlier.
            1: SIGNS,
            2: _text(parties.sender),
            4: _text(parties.application),
            5: _text(parties.facility),
            6: _moment(answer.since),
            8: "ORU^R01^ORU_R01",
            9: control_id,
            10: "P",
            11: VERSION,
            17: CHARACTER_SET,
        },
    )
    return Report(control_id=control_id, encoded=_encode("\r".join((header, *body)) + "\r"))


def _patient(answer: Answer) -> str:
    said, order = answer.study.attributes, answer.order
    issuer = order.patient_id_issuer if order is not None else ""
    birth, sex = str(said.get("PatientBirthDate") or ""), str(said.get("PatientSex") or "")
    groups = zip(str(said.get("PatientName") or "").split("="), REPRESENTATIONS, strict=False)
    names = [_name(group, representation) for group, representation in groups if group.strip("^ ")]
    return _segment(
        "PID",
        {
            1: "1",
            3: _parts(str(said.get("PatientID") or ""), "", "", issuer, "MR"),
            # The name is required; U: that nobody told it.
            5: "~".join(names) or _parts("", "", "", "", "", "", "U"),
            7: birth if DATE.fullmatch(birth) else "",
            8: sex if sex in SEXES else "U",
        },
    )


def _name(group: str, representation: str) -> str:
    family, given, middle, prefix, suffix = (group.split("^") + [""] * 5)[:5]
    return _parts(family, given, middle, suffix, prefix, "", "L", representation)


def _order(answer: Answer) -> Iterator[str]:
    """Yield ORC, OBR, TQ1 and the notes; whoever ordered finds his numbers again."""
    order, number, job = answer.order, answer.accession_number, answer.job
    placer = _text(order.placer_order_number) if order is not None else ""
    own = _digest("|".join(answer.key))
    filler = _text((order.filler_order_number if order is not None else "") or number) or _parts(own, "RADNODE")
    urgency, word = URGENCIES[answer.priority]
    pipeline = job.order.pipeline
    yield _segment("ORC", {1: "RE", 2: placer, 3: filler})
    yield _segment(
        "OBR",
        {
            1: "1",
            2: placer,
            3: filler,
            4: _parts(pipeline, pipeline.replace("_", " "), LOCAL_SCHEME),
            7: _examined(answer),
            18: _text(number),
            22: _moment(answer.since),
            24: "RAD",
            25: PRELIMINARY if answer.state is AnswerState.FIRST else CORRECTED,
            27: f"^^^^^{urgency}",
            44: _procedure(order.procedure_codes) if order is not None else "",
        },
    )
    yield _segment("NTE", {1: "1", 2: "L", 3: _text(UNVERIFIED)})
    yield _segment("TQ1", {1: "1", 9: _parts(urgency, word, "HL70485")})


def _examined(answer: Answer) -> str:
    """Return when the Study was begun; without a zone, which is that of the site."""
    date, time = (str(answer.study.attributes.get(key) or "") for key in ("StudyDate", "StudyTime"))
    found = TIME.match(time)
    if not DATE.fullmatch(date):
        return _moment(answer.since)
    # A time has hours and minutes at least.
    return f"{date}{found[0]}" if found and len(found[0]) > len("hh") else date


def _procedure(said: Sequence[str]) -> str:
    scheme, _, value = said[0].partition(":") if said else ("", "", "")
    return _parts(value, "", scheme) if value else ""


def _observations(answer: Answer) -> Iterator[str]:
    status = STATUSES[answer.state]
    # Of single findings that are gone while the rest stands, each is deleted.
    gone = DELETED if answer.state.stands else status
    told = [
        Observation(kind="ST", code=codes.STUDY_INSTANCE_UID, value=answer.study.study_instance_uid, status=status),
        Observation(kind="TX", code=codes.IMPRESSIONS, value=_lines(answer.conclude()), status=status),
    ]
    flag = VERY_ABNORMAL if answer.is_urged else ABNORMAL
    for one in answer.findings:
        told += _observe(one.finding, str(one.place), flag=flag, status=status)
    for one in answer.withdrawn:
        told += _observe(one.finding, str(one.place), flag="", status=gone)
    maker = _text(f"{answer.job.order.model} {answer.job.order.model_version}")
    for number, row in enumerate(told, start=1):
        yield _segment(
            "OBX",
            {
                1: str(number),
                2: row.kind,
                3: _coded(row.code),
                4: row.sub_id,
                5: row.value,
                6: row.unit,
                8: row.flag,
                11: row.status,
                14: _moment(answer.since),
                18: f"{maker}^RADNODE",
            },
        )


def _observe(finding: Finding, sub_id: str, *, flag: str, status: str) -> list[Observation]:
    """Return what is told of one finding: whether it is there, its name, place, certainty and sizes."""
    is_present = finding.presence is Presence.PRESENT

    def row(kind: str, code: Code, value: str, *, unit: str = "", flag: str = "") -> Observation:
        return Observation(kind=kind, code=code, value=value, sub_id=sub_id, unit=unit, flag=flag, status=status)

    rows = [
        row("CWE", finding.code, _coded(PRESENCE_VALUES[finding.presence]), flag=flag if is_present else ""),
        row("ST", codes.TRACKING_IDENTIFIER, _text(finding.label)),
    ]
    for code, value in ((codes.FINDING_SITE, finding.site), (codes.LATERALITY, finding.laterality)):
        if value is not None:
            rows.append(row("CWE", code, _coded(value)))
    if finding.confidence is not None:
        rows.append(row("NM", codes.CERTAINTY, _number(100 * finding.confidence), unit=_coded(codes.PERCENT)))
    for key, measure in MEASURES.items():
        if key in finding.measurements:
            unit = _parts(measure.unit, measure.shown, "UCUM")
            rows.append(row("NM", measure.code, _number(finding.measurements[key]), unit=unit))
    return rows


def _digest(text: str) -> str:
    return hashlib.sha256(_encode(text)).hexdigest()[:CONTROL_ID_LENGTH]


def _encode(text: str) -> bytes:
    # A name that is no Unicode must not keep its report from leaving.
    return text.encode("utf-8", "replace")


def _segment(name: str, fields: Mapping[int, str]) -> str:
    last = max(number for number, value in fields.items() if value)
    return "|".join((name, *(fields.get(number, "") for number in range(1, last + 1))))


def _coded(code: Code) -> str:
    return _parts(code.value, code.meaning, code.scheme)


def _parts(*parts: str) -> str:
    """Return components; those that are empty at the end are left out."""
    return "^".join(map(_text, parts)).rstrip("^")


def _text(text: str, limit: int = MAX_TEXT) -> str:
    """Return a text as a component; no sign of the message, or of its frame, is left in it."""
    return escape(CONTROL_CHARACTER.sub(" ", text).strip()[:limit])


def _lines(sentences: Iterable[str]) -> str:
    return LINE_BREAK.join(_text(one, MAX_SENTENCE) for one in sentences)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _moment(at: datetime) -> str:
    return at.strftime("%Y%m%d%H%M%S%z")
