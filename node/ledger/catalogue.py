"""The catalogue: what is searched of Studies and Series, written when one is opened or an Instance is replaced."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from node.domain.result import ResultKind
from node.domain.study import Attributes, InstanceFacts
from node.ledger.schema import results, series_entries, study_entries

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
# What is longer is no date and no number, nor a name in three writings (PS3.5 6.2); an index need not carry it.
MAX_KEY_CHARACTERS = 200
MODALITIES = {ResultKind.SC: "OT", ResultKind.REJECTION_NOTE: "KO"}
NAME_DELIMITERS = re.compile(r"[\^\s,.'\u2019-]+")


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
    study_date = _enter_study(connection, facts, later_counts=False)
    attributes = _of(facts.attributes, SERIES_KEYWORDS)
    # A Result that comes back from a PACS is of a Series that is there already.
    connection.execute(delete(series_entries).where(*_is_series(_key(facts))))
    _insert_series(connection, _key(facts), study_date=study_date, attributes=attributes)


def correct_entries(connection: Connection, facts: InstanceFacts) -> None:
    """Let an Instance that came again with other content correct what is said of its Study and Series."""
    study_date = _enter_study(connection, facts, later_counts=True)
    attributes = _of(facts.attributes, SERIES_KEYWORDS)
    of_series = _is_series(_key(facts))
    known = connection.execute(select(series_entries.c.attributes).where(*of_series)).scalar_one_or_none()
    if known is None:
        _insert_series(connection, _key(facts), study_date=study_date, attributes=attributes)
    elif known | attributes != known:
        merged = known | attributes
        values = {"attributes": merged, "modality": _text(merged, "Modality")}
        connection.execute(update(series_entries).where(*of_series).values(values))


def enter_result(connection: Connection, row: Mapping[str, Any]) -> None:
    """Enter the Series of a row of `results`, where its Study is in the catalogue."""
    uid = row["study_instance_uid"]
    found = select(study_entries.c.study_date).where(study_entries.c.study_instance_uid == uid)
    study_date = connection.execute(found).scalar_one_or_none()
    entry = _Entry(study_instance_uid=uid, series_instance_uid=row["series_instance_uid"])
    known = connection.execute(select(series_entries.c.modality).where(*_is_series(entry))).first()
    if study_date is not None and known is None:
        kind = ResultKind(row["kind"])
        modality = MODALITIES.get(kind, kind.value)
        _insert_series(connection, entry, study_date=study_date, attributes={"Modality": modality})


def strike_study(connection: Connection, study_instance_uid: str) -> None:
    """Take a Study out of the catalogue."""
    for table in (series_entries, study_entries):
        connection.execute(delete(table).where(table.c.study_instance_uid == study_instance_uid))


def study_keys(attributes: Attributes) -> dict[str, str]:
    """Return what indexes keep of the attributes of a Study."""
    return {
        "study_date": _text(attributes, "StudyDate"),
        "patient_name": fold_name(_text(attributes, "PatientName")),
        "patient_id": _text(attributes, "PatientID"),
        "accession_number": _text(attributes, "AccessionNumber"),
    }


def _enter_study(connection: Connection, facts: InstanceFacts, *, later_counts: bool) -> str:
    """Return the Study Date (0008,0020) after the Study was entered or amended."""
    uid, new = facts.study_instance_uid, _of(facts.attributes, STUDY_KEYWORDS)
    of_study = study_entries.c.study_instance_uid == uid
    known = connection.execute(select(study_entries.c.attributes).where(of_study)).scalar_one_or_none()
    if known is None:
        keys = study_keys(new)
        connection.execute(insert(study_entries).values(study_instance_uid=uid, attributes=new, **keys))
        # Of a Study that was purged and comes again, or of a ledger that is restored, they are there before it.
        for row in connection.execute(select(results).where(results.c.study_instance_uid == uid)).mappings().all():
            enter_result(connection, dict(row))
        return keys["study_date"]
    merged = known | new if later_counts else new | known
    keys = study_keys(merged)
    if merged != known:
        connection.execute(update(study_entries).where(of_study).values(attributes=merged, **keys))
        of_series = series_entries.c.study_instance_uid == uid
        connection.execute(update(series_entries).where(of_series).values(study_date=keys["study_date"]))
    return keys["study_date"]


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


def _of(attributes: Attributes, keywords: tuple[str, ...]) -> dict[str, Any]:
    return {keyword: attributes[keyword] for keyword in keywords if keyword in attributes}


def _text(attributes: Attributes, keyword: str) -> str:
    return str(attributes.get(keyword, ""))[:MAX_KEY_CHARACTERS]
