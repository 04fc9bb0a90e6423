"""Write Studies with nodules put in, and their truth, for ``radnode evaluate``.

``python -m workers.training.lung_studies --scan DIR --seeds FIRST COUNT --out DIR``, with the slices of one patient in
``--scan``, writes a Study a seed into ``studies/``, and ``truth.csv``. Each gets a Patient ID of its own.
"""

import argparse
import copy
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from workers.measurements import measure_region
from workers.training.lung_insertion import DIAMETER_MM, LungScan, insert_nodules
from workers.training.lung_scans import read_scan
from workers.training.lung_trial import COUNTED_FROM_MM, INSERTED
from workers.volume import Volume

STUDIES, TRUTH = "studies", "truth.csv"
COLUMNS = ("series_instance_uid", "x", "y", "z", "diameter_mm")

Row = tuple[str | float, ...]


def write_studies(scan: LungScan, out: Path, *, seeds: Sequence[int], nodules: int = INSERTED) -> int:
    """Write a Study a seed with other nodules of 6 mm and more, and their truth; return how many nodules there are.

    The diameter in the truth is the long axis of the exact mask, measured as the Pipeline measures. A nodule of the
    patient's own whose size is known is among them.
    """
    rows: list[Row] = []
    for seed in seeds:
        volume, inserted = insert_nodules(
            scan, np.random.default_rng(seed), count=nodules, diameter_mm=(COUNTED_FROM_MM, DIAMETER_MM[1])
        )
        uid = write_study(scan.volume.datasets, volume, out / STUDIES / str(seed), seed=seed)
        for nodule in inserted:
            measures = measure_region(volume, nodule.region)
            rows.append((uid, *measures.center_mm, measures.values["long_axis_mm"]))
        rows += [(uid, *own.center_mm, own.diameter_mm) for own in scan.keep if own.diameter_mm is not None]
    with (out / TRUTH).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return len(rows)


def write_study(slices: Sequence[Dataset], volume: Volume, folder: Path, *, seed: int) -> str:
    """Write the slices of a patient with the voxels of `volume`; return the Series Instance UID."""
    folder.mkdir(parents=True, exist_ok=True)
    series_instance_uid = generate_uid(entropy_srcs=[slices[0].SeriesInstanceUID, str(seed)])
    study_instance_uid = generate_uid(entropy_srcs=[slices[0].StudyInstanceUID, str(seed)])
    for number, (ds, plane) in enumerate(zip(slices, volume.voxels, strict=True)):
        twin = copy.deepcopy(ds)
        twin.PatientID = f"{ds.PatientID}-{seed}"
        twin.StudyInstanceUID, twin.SeriesInstanceUID = study_instance_uid, series_instance_uid
        twin.SOPInstanceUID = generate_uid(entropy_srcs=[ds.SOPInstanceUID, str(seed)])
        stored = np.rint((plane - float(ds.RescaleIntercept)) / float(ds.RescaleSlope))
        low, high = (
            (-(2 ** (ds.BitsStored - 1)), 2 ** (ds.BitsStored - 1)) if ds.PixelRepresentation else (0, 2**ds.BitsStored)
        )
        twin.PixelData = (
            np.clip(stored, low, high - 1).astype(np.int16 if ds.PixelRepresentation else np.uint16).tobytes()
        )
        twin.file_meta.MediaStorageSOPInstanceUID = twin.SOPInstanceUID
        twin.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue"):
            twin.pop(keyword, None)
        twin.save_as(folder / f"{number:04}.dcm")
    return str(series_instance_uid)


def main() -> None:
    """Write what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path, required=True, help="folder of DICOM slices of one patient")
    parser.add_argument("--seeds", type=int, nargs=2, required=True, help="first seed, and how many")
    parser.add_argument("--out", type=Path, required=True, help="folder for studies/ and truth.csv")
    options = parser.parse_args()
    first, count = options.seeds
    options.out.mkdir(parents=True, exist_ok=True)
    write_studies(read_scan(options.scan), options.out, seeds=range(first, first + count))


if __name__ == "__main__":
    main()
