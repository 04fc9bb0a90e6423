"""Truth in a table: CSV with a label, a point or the file of a mask on each line."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from node.errors import TruthInvalid
from workers.evaluation.truth import ONLY, OTHERS, Lesion, Truth
from workers.evaluation.truth_files import Filed, read_truth_file

# How the columns are called that name a case, and those of LUNA16's annotations.csv.
KEYS = ("study_instance_uid", "series_instance_uid", "sop_instance_uid", "seriesuid", "file")
POINTS = (("x", "y", "z", "diameter"), ("x", "y", "z", "diameter_mm"), ("coordx", "coordy", "coordz", "diameter_mm"))
LABEL, MASK = "label", "mask"
YES = frozenset({"1", "1.0", "yes", "true", "present", "positive"})
NO = frozenset({"0", "0.0", "no", "false", "absent", "negative", "normal", ""})

Row = Mapping[str, str]


def read_truth_table(path: Path, *, label: str) -> list[Filed]:
    """Return what each case of a CSV file is said to hold; further columns are for subgroups.

    Parameters
    ----------
    label
        As in `workers.evaluation.truth_files.read_truth_file`, of the masks that the table names.

    Raises
    ------
    TruthInvalid
        If a column is absent, or a value is none.
    """
    rows, columns = _read_rows(path)
    key = next((name for name in KEYS if name in columns), None)
    if key is None:
        raise TruthInvalid(f"{path}: no column names the case; call one {', '.join(KEYS[:3])} or file")
    points = next((names for names in POINTS if set(names) <= set(columns)), None)
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row[key]].append(row)
    used = {key, *(points or (LABEL, MASK))}
    further = tuple(name for name in columns if name not in used)
    if points is not None:
        return [_file_points(name, found, points, further, path) for name, found in grouped.items()]
    if MASK in columns:
        return [_file_mask(name, found, further, path, label) for name, found in grouped.items()]
    return [_file_labels(name, found[0], further, path) for name, found in grouped.items()]


def _read_rows(path: Path) -> tuple[list[Row], tuple[str, ...]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            columns = tuple(name.strip().lower() for name in reader.fieldnames or ())
            reader.fieldnames = columns
            rows: list[Row] = [{name: (row[name] or "").strip() for name in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise TruthInvalid(f"{path} cannot be read as CSV in UTF-8; write it again") from exc
    if not rows:
        raise TruthInvalid(f"{path} holds no line below its header; write one a case")
    return rows, columns


def _file_points(name: str, rows: Sequence[Row], columns: Sequence[str], further: Sequence[str], path: Path) -> Filed:
    """File the lesions of a case; a line without coordinates says that it holds none."""
    lesions = []
    for row in rows:
        told = [row[column] for column in columns]
        if not any(told):
            continue
        x, y, z, diameter = (_read_number(value, name, path) for value in told)
        if diameter <= 0:
            raise TruthInvalid(f"{path}: {name} has a lesion of {diameter:g} mm; write its diameter in mm")
        lesions.append(Lesion(center_mm=(x, y, z), diameter_mm=diameter))
    found = tuple(lesions)
    return (name,), Truth(lesions=lambda _: found, columns={column: rows[0][column] for column in further})


def _file_mask(name: str, rows: Sequence[Row], further: Sequence[str], path: Path, label: str) -> Filed:
    filed = read_truth_file(path.parent / rows[0][MASK], label=label)
    if filed is None:
        raise TruthInvalid(f"{path}: {name} names {rows[0][MASK]}, which is no mask; name NIfTI, npz or DICOM SEG")
    return (name,), replace(filed[1], columns={column: rows[0][column] for column in further})


def _file_labels(name: str, row: Row, further: Sequence[str], path: Path) -> Filed:
    if LABEL in row:
        value = row[LABEL].lower()
        labels = {ONLY: value in YES} if value in YES | NO else {value: True, OTHERS: False}
    else:
        labels = {column: row[column].lower() in YES for column in further if row[column].lower() in YES | NO}
        if not labels:
            raise TruthInvalid(f"{path}: {name} has no label; add a column label, or one a label with 1 and 0")
    return (name,), Truth(labels=labels, columns={column: row[column] for column in further})


def _read_number(text: str, name: str, path: Path) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise TruthInvalid(f"{path}: {name} has a coordinate that is no number; write mm, LPS") from exc
