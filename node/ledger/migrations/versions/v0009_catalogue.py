"""The catalogue of what is searched."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from node.ledger.catalogue import SERIES_KEYWORDS, STUDY_KEYWORDS, study_keys
from node.ledger.schema import Key

revision = "0009"
down_revision = "0008"

# Studies that are entered at once.
GROUP = 500
# What is read and written, as it is in this version.
STUDIES = sa.table("studies", sa.column("study_instance_uid"))
INSTANCES = sa.table(
    "instances",
    *map(sa.column, ("sop_instance_uid", "study_instance_uid", "series_instance_uid")),
    sa.column("attributes", sa.JSON()),
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
    """Enter what Instances say of these Studies and their Series; what one lacks, another may know."""
    key = INSTANCES.c.study_instance_uid, INSTANCES.c.series_instance_uid
    firsts = (
        sa.select(sa.func.min(INSTANCES.c.sop_instance_uid))
        .where(INSTANCES.c.study_instance_uid.in_(uids))
        .group_by(*key)
    )
    wanted = sa.select(*key, INSTANCES.c.attributes).where(INSTANCES.c.sop_instance_uid.in_(firsts)).order_by(*key)
    studies: dict[str, dict[str, Any]] = {}
    series: list[dict[str, Any]] = []
    for study, one, attributes in connection.execute(wanted).all():
        studies[study] = {name: attributes[name] for name in STUDY_KEYWORDS if name in attributes} | studies.get(
            study, {}
        )
        of_series = {name: attributes[name] for name in SERIES_KEYWORDS if name in attributes}
        modality = str(of_series.get("Modality", ""))
        series.append(
            {"study_instance_uid": study, "series_instance_uid": one, "modality": modality, "attributes": of_series}
        )
    keys = {study: study_keys(attributes) for study, attributes in studies.items()}
    rows = [{"study_instance_uid": study, "attributes": found, **keys[study]} for study, found in studies.items()]
    if rows:
        connection.execute(sa.insert(STUDY_ENTRIES), rows)
        dated = [{**row, "study_date": keys[row["study_instance_uid"]]["study_date"]} for row in series]
        connection.execute(sa.insert(SERIES_ENTRIES), dated)
