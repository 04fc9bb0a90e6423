"""Whole real chests to put nodules into: one folder of DICOM slices each, and what in them is no healthy lung."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from pydicom import dcmread

from node.errors import InputMissing
from workers.pipelines.lung_candidates import coarsen, find_lungs
from workers.training.lung_insertion import Keep, LungScan
from workers.volume import read_volume

# What we saw in these patients, by Patient ID (0010,0020): a tumour, or what may be a nodule.
KEPT: Mapping[str, tuple[Keep, ...]] = MappingProxyType(
    {
        "C3N-00247": (  # CPTAC-LSCC: a spiculated tumour of 22 mm, and something of 8 mm on the left pleura
            Keep(center_mm=(-83.0, -192.0, -195.0), radius_mm=35.0),
            Keep(center_mm=(106.0, -131.0, -195.0), radius_mm=15.0),
        ),
        # Its adenocarcinoma.
        "LungFCP-01-0001": (Keep(center_mm=(-55.0, -147.0, 63.0), radius_mm=35.0, diameter_mm=16.5),),
    }
)
# The acceptance test's patient, and a licence that does not allow it.
NEVER_LEARNED = ("LungFCP", "MIDRC-RICORD")


def read_scan(folder: Path) -> LungScan:
    """Return the scan whose slices lie in `folder`.

    Raises
    ------
    InputMissing
        If the folder holds no ``*.dcm``.
    WrongBodyPart
        If it shows too little lung.
    """
    datasets = [dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    if not datasets:
        raise InputMissing(f"{folder}: no *.dcm; lay the data out as the recipe's page says")
    volume = read_volume(datasets)
    coarse = coarsen(volume)
    name = str(datasets[0].PatientID)
    lungs = find_lungs(coarse, volume.affine)
    return LungScan(name=name, volume=volume, coarse=coarse, lungs=lungs, keep=KEPT.get(name, ()))


def read_scans(folder: Path, *, needed: bool) -> list[LungScan]:
    """Return the scans in the sub-folders of `folder`, none where there is no such folder.

    Parameters
    ----------
    needed
        At least one must be there.

    Raises
    ------
    InputMissing
        If none is there but one is needed, or a sub-folder holds no ``*.dcm``.
    WrongBodyPart
        If one shows too little lung.
    """
    folders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if needed and not folders:
        raise InputMissing(f"{folder}: no scan; lay the data out as the recipe's page says")
    return [read_scan(path) for path in folders]


def refuse_barred(scans: Iterable[LungScan]) -> None:
    """Let only scans pass that may be learned from.

    Raises
    ------
    ValueError
        If one must not be.
    """
    barred = [scan.name for scan in scans if scan.name.startswith(NEVER_LEARNED)]
    if barred:
        msg = f"never to be learned from: {', '.join(barred)}; take them out of the training data"
        raise ValueError(msg)
