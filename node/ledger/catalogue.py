"""The catalogue: what is searched of Studies and Series that hold an Instance or a Result that stands."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, exists, insert, select, update

from node.domain.result import ResultKind
from node.domain.study import KEPT_KEYWORDS, Attributes, InstanceFacts
from node.ledger.schema import instances, jobs, results, series_entries, study_entries

STUDY_KEYWORDS = (
    "StudyDate", "StudyTime", "AccessionNumber", "InstitutionName", "ReferringPhysicianName", "StudyDescription",
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyID",
    "RequestedProcedureDescription",
)  # fmt: skip
SERIES_KEYWORDS = (
    "SeriesDate", "SeriesTime", "Modality", "Manufacturer", "StationName", "SeriesDescription",
    "InstitutionalDepartmentName", "ManufacturerModelName", "BodyPartExamined", "DeviceSerialNumber", "ProtocolName",
    "PatientPosition", "SeriesNumber", "FrameOfReferenceUID", "Laterality", "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
)  # fmt: skip
ROW_KEYWORDS = ("SpecificCharacterSet", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# What a Result says that its row and its Study do not.
RESULT_KEYWORDS = tuple(keyword for keyword in KEPT_KEYWORDS if keyword not in (*STUDY_KEYWORDS, *ROW_KEYWORDS))
# What is longer is no date and no number, nor a name in three writings (PS3.5 6.2); an index need not carry it.
MAX_KEY_CHARACTERS = 200
MODALITIES = {ResultKind.SC: "OT", ResultKind.REJECTION_NOTE: "KO"}
NAME_DELIMITERS = re.compile(r"[\^\s,.'\u2019-]+")
# A Result in shadow is for this node's own pages; whoever asks by DICOMweb could not tell it from another.
IN_SHADOW = exists().where(jobs.c.job_id == results.c.job_id, jobs.c.is_shadow)
STANDS = and_(results.c.retracted_at.is_(None), results.c.purged_at.is_(None), ~IN_SHADOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """Which Study and Series an entry is about."""

    study_instance_uid: str
    series_instance_uid: str


def fold_name(name: str) -> str:
    """Return a Person Name as it is searched: without case, accents and punctuation, ``^`` before each word.

    Wildcards stay. Component groups are kept apart by ``=``; an empty name stays empty.

    References
    ----------
    DICOM PS3.4 C.2.2.2.1
    """
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    groups = ("".join(f"^{word}" for word in NAME_DELIMITERS.split(group) if word) for group in plain.split("="))
    return "=".join(groups).strip("=")


def enter_series(connection: Connection, facts: InstanceFacts) -> None:
    """Enter the Series that an Instance has opened, in the caller's transaction.

    What its Study lacked until now is taken from this Instance; what is there stays.
    """
    study_date = _enter_study(connection, facts)
    attributes = _of(facts.attributes, SERIES_KEYWORDS)
    # A Result that comes back from a PACS is of a Series that is there already.
    connection.execute(delete(series_entries).where(*_is_series(_key(facts))))
    _insert_series(connection, _key(facts), study_date=study_date, attributes=attributes)


def correct_entries(connection: Connection, before: Attributes, facts: InstanceFacts) -> None:
    """Let an Instance that came again with other content correct what is said of its Study and Series.

    What other Instances say of the Study stays until the last of them says otherwise.

    Parameters
    ----------
    before
        What the Instance said until now; of that, what it does not say any more is told no more.
    """
    study_date = _enter_study(connection, facts, before=before)
    of_series = _is_series(_key(facts))
    known = connection.execute(select(series_entries.c.attributes).where(*of_series)).scalar_one_or_none()
    if known is None:
        attributes = _of(facts.attributes, SERIES_KEYWORDS)
        _insert_series(connection, _key(facts), study_date=study_date, attributes=attributes)
        return
    corrected = _correct(known, before, _of(facts.attributes, SERIES_KEYWORDS))
    if corrected != known:
        values = {"attributes": corrected, "modality": _text(corrected, "Modality")}
        connection.execute(update(series_entries).where(*of_series).values(values))


def enter_result(connection: Connection, row: Mapping[str, Any]) -> None:
    """Enter the Series of a row of `results`, if it stands; of a Study without Instances only the UID is known."""
    if row.get("retracted_at") is not None or row.get("purged_at") is not None:
        return
    in_shadow = exists().where(jobs.c.job_id == row["job_id"], jobs.c.is_shadow)
    if connection.execute(select(in_shadow)).scalar_one():
        return
    uid = row["study_instance_uid"]
    found = select(study_entries.c.study_date).where(study_entries.c.study_instance_uid == uid)
    study_date = connection.execute(found).scalar_one_or_none()
    if study_date is None:
        keys = study_keys({})
        connection.execute(insert(study_entries).values(study_instance_uid=uid, attributes={}, **keys))
        study_date = keys["study_date"]
    entry = _Entry(study_instance_uid=uid, series_instance_uid=row["series_instance_uid"])
    known = connection.execute(select(series_entries.c.modality).where(*_is_series(entry))).first()
    if known is None:
        attributes = _of(result_attributes(row), SERIES_KEYWORDS)
        _insert_series(connection, entry, study_date=study_date, attributes=attributes)


def result_attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row of `results` says of the Result; its Modality (0008,0060) at least."""
    kind = ResultKind(row["kind"])
    return {"Modality": MODALITIES.get(kind, kind.value)} | dict(row.get("attributes") or {})


def strike_empty(connection: Connection, study_instance_uid: str) -> None:
    """Take out of the catalogue what holds nothing any more: Series of a Study, and the Study itself."""
    for table, conditions in ((series_entries, _in_series), (study_entries, _in_study)):
        held = (exists().where(*conditions(of), *stands) for of, stands in ((instances, ()), (results, (STANDS,))))
        of_study = table.c.study_instance_uid == study_instance_uid
        connection.execute(delete(table).where(of_study, *(~one for one in held)))


def study_keys(attributes: Attributes) -> dict[str, str]:
    """Return what indexes keep of the attributes of a Study."""
    return {
        "study_date": _text(attributes, "StudyDate"),
        "patient_name": fold_name(_text(attributes, "PatientName")),
        "patient_id": _text(attributes, "PatientID"),
        "accession_number": _text(attributes, "AccessionNumber"),
    }


def _enter_study(connection: Connection, facts: InstanceFacts, *, before: Attributes | None = None) -> str:
    """Return the Study Date (0008,0020) after the Study was entered, amended, or corrected of what stood `before`."""
    uid, new = facts.study_instance_uid, _of(facts.attributes, STUDY_KEYWORDS)
    of_study = study_entries.c.study_instance_uid == uid
    known = connection.execute(select(study_entries.c.attributes).where(of_study)).scalar_one_or_none()
    if known is None:
        keys = study_keys(new)
        connection.execute(insert(study_entries).values(study_instance_uid=uid, attributes=new, **keys))
        return keys["study_date"]
    amended = new | known
    if before is not None:
        corrected = _correct(known, before, new)
        amended = corrected | _list_shared(connection, facts, {k: v for k, v in known.items() if corrected.get(k) != v})
    keys = study_keys(amended)
    if amended != known:
        connection.execute(update(study_entries).where(of_study).values(attributes=amended, **keys))
        of_series = series_entries.c.study_instance_uid == uid
        connection.execute(update(series_entries).where(of_series).values(study_date=keys["study_date"]))
    return keys["study_date"]


def _correct(known: Attributes, before: Attributes, new: Attributes) -> dict[str, Any]:
    """Return what is known, without what only stood there because an Instance said so `before`, and with the new."""
    kept = {keyword: value for keyword, value in known.items() if before.get(keyword) != value}
    return {**kept, **new}


def _list_shared(connection: Connection, facts: InstanceFacts, known: Attributes) -> dict[str, Any]:
    """Return those of the `known` values that another Instance of the Study says: one of many renames nobody."""
    others = (
        instances.c.study_instance_uid == facts.study_instance_uid,
        instances.c.sop_instance_uid != facts.sop_instance_uid,
    )
    # While a Study comes again as a whole, this is one that has not come again yet.
    oldest = select(instances.c.attributes).where(*others).order_by(instances.c.received_at).limit(1)
    said: Attributes | None = connection.execute(oldest).scalar_one_or_none() if known else None
    if said is None:
        return {}

    def is_said(keyword: str, value: object) -> bool:
        says_so = exists().where(*others, instances.c.attributes[keyword].as_string() == str(value))
        return said.get(keyword) == value or bool(connection.execute(select(says_so)).scalar_one())

    return {keyword: value for keyword, value in known.items() if is_said(keyword, value)}


def _insert_series(connection: Connection, entry: _Entry, *, study_date: str, attributes: Mapping[str, Any]) -> None:
    connection.execute(
        insert(series_entries).values(
            study_instance_uid=entry.study_instance_uid,
            series_instance_uid=entry.series_instance_uid,
            study_date=study_date,
            modality=_text(attributes, "Modality"),
            attributes=dict(attributes),
        )
    )


def _key(facts: InstanceFacts) -> _Entry:
    return _Entry(study_instance_uid=facts.study_instance_uid, series_instance_uid=facts.series_instance_uid)


def _is_series(entry: _Entry) -> tuple[Any, ...]:
    return (
        series_entries.c.study_instance_uid == entry.study_instance_uid,
        series_entries.c.series_instance_uid == entry.series_instance_uid,
    )


def _in_study(table: Table) -> tuple[Any, ...]:
    return (table.c.study_instance_uid == study_entries.c.study_instance_uid,)


def _in_series(table: Table) -> tuple[Any, ...]:
    return (
        table.c.study_instance_uid == series_entries.c.study_instance_uid,
        table.c.series_instance_uid == series_entries.c.series_instance_uid,
    )


def _of(attributes: Attributes, keywords: tuple[str, ...]) -> dict[str, Any]:
    return {keyword: attributes[keyword] for keyword in keywords if keyword in attributes}


def _text(attributes: Attributes, keyword: str) -> str:
    return str(attributes.get(keyword, ""))[:MAX_KEY_CHARACTERS]
