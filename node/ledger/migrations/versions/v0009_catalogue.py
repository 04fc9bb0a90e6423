"""The catalogue of what is searched."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from node.ledger.schema import Key

revision = "0009"
down_revision = "0008"

# Studies that are entered at once.
GROUP = 500
# What is read and written, and how, as it is in this version.
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
MAX_KEY_CHARACTERS = 200
NAME_DELIMITERS = re.compile(r"[\^\s,.'\u2019-]+")
MODALITIES = {"SC": "OT", "REJECT": "KO"}
STUDIES = sa.table("studies", sa.column("study_instance_uid"))
INSTANCES = sa.table(
    "instances",
    *map(sa.column, ("sop_instance_uid", "study_instance_uid", "series_instance_uid")),
    sa.column("attributes", sa.JSON()),
)
RESULTS = sa.table(
    "results",
    *map(sa.column, ("study_instance_uid", "series_instance_uid", "kind", "retracted_at", "purged_at")),
)
STUDY_ENTRIES = sa.table(
    "study_entries",
    *map(sa.column, ("study_instance_uid", "study_date", "patient_name", "patient_id", "accession_number")),
    sa.column("attributes", sa.JSON()),
)
SERIES_ENTRIES = sa.table(
    "series_entries",
    *map(sa.column, ("study_instance_uid", "series_instance_uid", "study_date", "modality")),
    sa.column("attributes", sa.JSON()),
)


def upgrade() -> None:
    """Add two tables, and enter every Series by one of its Instances."""
    op.create_table(
        "study_entries",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        *(sa.Column(name, Key, nullable=False) for name in ("study_date", "patient_name", "patient_id")),
        sa.Column("accession_number", Key, nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_study_entries")),
    )
    op.create_table(
        "series_entries",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_date", Key, nullable=False),
        sa.Column("modality", Key, nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid", name=op.f("pk_series_entries")),
    )
    _enter_all(op.get_bind())
    by_date = ["study_date", "study_instance_uid"]
    for table, columns in (
        ("study_entries", by_date),
        ("study_entries", ["patient_name", *by_date]),
        ("study_entries", ["patient_id", *by_date]),
        ("study_entries", ["accession_number", *by_date]),
        ("series_entries", ["modality", *by_date]),
        ("series_entries", ["series_instance_uid"]),
    ):
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns, unique=False)


def _enter_all(connection: sa.Connection) -> None:
    uids: Sequence[str] = [""]
    while uids:
        wanted = sa.select(STUDIES.c.study_instance_uid).where(STUDIES.c.study_instance_uid > uids[-1])
        uids = connection.execute(wanted.order_by(STUDIES.c.study_instance_uid).limit(GROUP)).scalars().all()
        if uids:
            _enter(connection, uids)


def _enter(connection: sa.Connection, uids: Sequence[str]) -> None:
    """Enter what Instances and standing Results say of these Studies and Series; what one lacks, another may know."""
    studies: dict[str, dict[str, Any]] = {}
    series: dict[tuple[str, str], dict[str, Any]] = {}
    for study, one, attributes in _received(connection, uids):
        studies[study] = _of(attributes, STUDY_KEYWORDS) | studies.get(study, {})
        series[study, one] = _of(attributes, SERIES_KEYWORDS)
    for study, one, kind in _written(connection, uids):
        # Of a Study that was purged, and whose Results stay, no more is known.
        studies.setdefault(study, {})
        series.setdefault((study, one), {"Modality": MODALITIES.get(kind, kind)})
    keys = {study: _study_keys(attributes) for study, attributes in studies.items()}
    study_rows = [{"study_instance_uid": study, "attributes": found, **keys[study]} for study, found in studies.items()]
    series_rows = [
        {
            "study_instance_uid": study,
            "series_instance_uid": one,
            "study_date": keys[study]["study_date"],
            "modality": _text(attributes, "Modality"),
            "attributes": attributes,
        }
        for (study, one), attributes in series.items()
    ]
    for table, rows in ((STUDY_ENTRIES, study_rows), (SERIES_ENTRIES, series_rows)):
        if rows:
            connection.execute(sa.insert(table), rows)


def _received(connection: sa.Connection, uids: Sequence[str]) -> list[tuple[str, str, Any]]:
    """Return Study, Series and attributes of one Instance of each Series."""
    key = INSTANCES.c.study_instance_uid, INSTANCES.c.series_instance_uid
    firsts = (
        sa.select(sa.func.min(INSTANCES.c.sop_instance_uid))
        .where(INSTANCES.c.study_instance_uid.in_(uids))
        .group_by(*key)
    )
    wanted = sa.select(*key, INSTANCES.c.attributes).where(INSTANCES.c.sop_instance_uid.in_(firsts)).order_by(*key)
    return [(study, one, found) for study, one, found in connection.execute(wanted)]


def _written(connection: sa.Connection, uids: Sequence[str]) -> list[tuple[str, str, Any]]:
    """Return Study, Series and kind of the Results that stand."""
    key = RESULTS.c.study_instance_uid, RESULTS.c.series_instance_uid, RESULTS.c.kind
    stands = RESULTS.c.retracted_at.is_(None), RESULTS.c.purged_at.is_(None)
    wanted = sa.select(*key).where(RESULTS.c.study_instance_uid.in_(uids), *stands).distinct().order_by(*key)
    return [(study, one, found) for study, one, found in connection.execute(wanted)]


def _study_keys(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {
        "study_date": _text(attributes, "StudyDate"),
        "patient_name": _fold_name(_text(attributes, "PatientName")),
        "patient_id": _text(attributes, "PatientID"),
        "accession_number": _text(attributes, "AccessionNumber"),
    }


def _fold_name(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    groups = ("".join(f"^{word}" for word in NAME_DELIMITERS.split(group) if word) for group in plain.split("="))
    return "=".join(groups).strip("=")


def _of(attributes: Mapping[str, Any], keywords: Sequence[str]) -> dict[str, Any]:
    return {keyword: attributes[keyword] for keyword in keywords if keyword in attributes}


def _text(attributes: Mapping[str, Any], keyword: str) -> str:
    return str(attributes.get(keyword, ""))[:MAX_KEY_CHARACTERS]
