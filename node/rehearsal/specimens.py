"""Drawn Studies in a folder, with their truth beside them as `radnode evaluate` reads it."""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from node.rehearsal.brain_mr import brain_mr
from node.rehearsal.chest import draw_chest, draw_nodules
from node.rehearsal.chest_ct import chest_ct
from node.rehearsal.chest_xray import chest_xray
from node.rehearsal.headers import Patient, write_datasets

STUDIES, TRUTH = "studies", "truth"
TRUTH_TABLE = "truth.csv"
# Every so manieth one is healthy.
HEALTHY_EVERY = 4
MAX_NODULES = 4
# A grown-up has nodules and tumors, the pneumonia is a child's.
BIRTH_DATES = {"ct": "19620331", "mr": "19580615", "xray": "20210808"}

Row = Mapping[str, object]
Maker = Callable[[Path, int, Patient], Iterator[Row]]


def write_specimens(kind: str, folder: Path, *, count: int, seed: int) -> Path:
    """Write `count` drawn Studies below ``folder/studies``, and return where their truth lies.

    One in four is healthy. The same seed draws the same.

    Parameters
    ----------
    kind
        One of `KINDS`.
    seed
        Of the first; the others follow.
    """
    rows: list[Row] = []
    for number in range(seed, seed + count):
        # Whoever is called Phantom is refused by a model that looks for such.
        patient = Patient(name=f"Drawn^{kind}", patient_id=f"DR-{kind}-{number}", birth_date=BIRTH_DATES[kind])
        rows += KINDS[kind](folder, number, patient)
    truth = folder / TRUTH
    truth.mkdir(parents=True, exist_ok=True)
    with (truth / TRUTH_TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return truth


def is_healthy(seed: int) -> bool:
    """Tell whether the phantom of a seed is drawn without anything to find."""
    return seed % HEALTHY_EVERY == 0


def _write_chest_ct(folder: Path, seed: int, patient: Patient) -> Iterator[Row]:
    """Write a chest with up to four nodules, and yield one row a nodule; an empty one for a healthy chest."""
    count = 0 if is_healthy(seed) else 1 + seed % MAX_NODULES
    nodules = draw_nodules(draw_chest(seed), count=count)
    phantom = chest_ct(seed=seed, nodules=nodules, patient=patient)
    write_datasets(phantom.datasets, folder / STUDIES / f"{patient.patient_id}")
    uid = phantom.datasets[0].SeriesInstanceUID
    for nodule in phantom.nodules:
        x, y, z = (round(value, 2) for value in nodule.center_mm)
        yield {"series_instance_uid": uid, "x": x, "y": y, "z": z, "diameter": round(nodule.diameter_mm, 2)}
    if not phantom.nodules:
        yield {"series_instance_uid": uid, "x": "", "y": "", "z": "", "diameter": ""}


def _write_brain_mr(folder: Path, seed: int, patient: Patient) -> Iterator[Row]:
    """Write a head with or without a lesion and its mask on the FLAIR, and yield the row that names it."""
    phantom = brain_mr(seed=seed, with_lesion=not is_healthy(seed), patient=patient)
    write_datasets(phantom.datasets, folder / STUDIES / f"{patient.patient_id}")
    shape = (len(phantom.flair), int(phantom.flair[0].Rows), int(phantom.flair[0].Columns))
    mask = np.zeros(shape, np.uint8) if phantom.lesion is None else phantom.lesion.mask.astype(np.uint8)
    uid = phantom.flair[0].SeriesInstanceUID
    (folder / TRUTH).mkdir(parents=True, exist_ok=True)
    # Not as the Series: found by its name too, it would count twice.
    name = f"mask-{seed}.npz"
    np.savez_compressed(folder / TRUTH / name, mask=mask)
    yield {"series_instance_uid": uid, "mask": name}


def _write_chest_xray(folder: Path, seed: int, patient: Patient) -> Iterator[Row]:
    """Write a film with or without an opacity; half of them are healthy, so that both are measured."""
    is_ill = bool(seed % 2)
    phantom = chest_xray(seed=seed, with_opacity=is_ill, patient=patient)
    write_datasets([phantom.dataset], folder / STUDIES / f"{patient.patient_id}")
    yield {"study_instance_uid": phantom.dataset.StudyInstanceUID, "pneumonia": int(is_ill)}


KINDS: Mapping[str, Maker] = {"ct": _write_chest_ct, "mr": _write_brain_mr, "xray": _write_chest_xray}
