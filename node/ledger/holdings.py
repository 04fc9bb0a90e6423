"""What the node holds of a Study, and where it lies: received Instances, and Results that stand."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Table, select

from node.errors import NotFound
from node.ledger.catalogue import STANDS
from node.ledger.engine import Desk
from node.ledger.schema import instances, results


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One Instance that can be retrieved.

    Attributes
    ----------
    path
        Part 10 file, relative to the store's root.
    digest
        Of its content: the same as long as nothing of it changes.
    has_pixels
        Whether Pixel Data is known to stand in it; of what is deflated, and of Results, it is not.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    size_bytes: int
    digest: str
    has_pixels: bool


class HoldingLedger(Desk):
    """Where Instances lie."""

    def holdings(self, study: str, series: str = "", instance: str = "") -> tuple[Holding, ...]:
        """Return what is held of a Study, a Series or an Instance, by Series and Instance Number.

        Raises
        ------
        NotFound
            If nothing is.
        """
        number = instances.c.attributes["InstanceNumber"].as_float()
        received = select(
            *_columns(instances), instances.c.digest, instances.c.pixel_data_offset, number.label("number")
        ).where(*_of(instances, study, series, instance))
        written = select(*_columns(results), results.c.sha256.label("digest")).where(
            *_of(results, study, series, instance), STANDS
        )
        with self.reading() as connection:
            found = connection.execute(received).mappings().all()
            own = connection.execute(written.order_by(results.c.created_at)).mappings().all()
        ordered = sorted(found, key=lambda row: (row["series_instance_uid"], _order(row["number"]), row["path"]))
        # A Result that came back from a PACS is the same Instance.
        known = {row["sop_instance_uid"] for row in ordered}
        rows = [*ordered, *(row for row in own if row["sop_instance_uid"] not in known)]
        if not rows:
            raise NotFound(f"{_name(study, series, instance)} is not held here; search for what is")
        names = tuple(column.name for column in _columns(instances))
        return tuple(
            Holding(
                **{name: row[name] for name in names},
                digest=row["digest"],
                has_pixels=row.get("pixel_data_offset") is not None,
            )
            for row in rows
        )


def _columns(table: Table) -> tuple[ColumnElement[object], ...]:
    names = (
        "study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "path",
        "size_bytes",
    )  # fmt: skip
    return tuple(table.c[name] for name in names)


def _of(table: Table, study: str, series: str, instance: str) -> tuple[ColumnElement[bool], ...]:
    named = {"study_instance_uid": study, "series_instance_uid": series, "sop_instance_uid": instance}
    return tuple(table.c[name] == uid for name, uid in named.items() if uid)


def _order(number: float | None) -> float:
    return float("inf") if number is None else number


def _name(study: str, series: str, instance: str) -> str:
    if instance:
        return f"instance {instance} of series {series}"
    return f"series {series} of study {study}" if series else f"study {study}"
