"""Try a nodule model on phantoms it has not seen: ``python -m workers.training.lung_trial --model DIR --out FILE``."""

import argparse
import json
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path

import numpy as np
import torch

from node.errors import WrongBodyPart
from node.models import read_model
from node.rehearsal.chest import draw_chest, draw_nodules
from node.rehearsal.chest_ct import CtScan, chest_ct_voxels
from workers.pipelines.lung_candidates import coarsen, find_lungs
from workers.pipelines.lung_nodules import ChestCt, LungNodules
from workers.training.chest_phantoms import Phantom, draw_phantom
from workers.training.lung_samples import as_phantom

REHEARSALS = range(7000, 7014)
NODULES_A_REHEARSAL = 4
SLABS = range(16)
SLAB_SEED = 99
NODULES_A_SLAB = 5
HIT_MM = 5.0
NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What one volume's findings were worth.

    Attributes
    ----------
    nodules, found
        Nodules that the phantom holds, and those with a finding within 5 mm or their radius.
    false_findings
        Findings near no nodule.
    center_errors_mm, axis_errors_mm
        Of each found nodule: distance of the centres, and long axis minus true diameter.
    """

    nodules: int
    found: int
    false_findings: int
    center_errors_mm: tuple[float, ...]
    axis_errors_mm: tuple[float, ...]


def tally(pipeline: LungNodules, phantom: Phantom) -> Tally:
    """Run the Pipeline on one phantom and compare.

    Raises
    ------
    WrongBodyPart
        If the slab holds too little lung.
    """
    volume = phantom.volume
    coarse = coarsen(volume)
    chest = ChestCt(volume=volume, coarse=coarse, lungs=find_lungs(coarse, volume.affine))
    findings = pipeline.analyze(chest).findings
    truth = np.array([volume.to_patient_mm(index.tolist()) for index in phantom.index]).reshape(-1, 3)
    seen = np.array([finding.center_mm for finding in findings]).reshape(-1, 3)
    gaps = np.linalg.norm(truth[:, None] - seen[None], axis=2)
    near = gaps <= np.maximum(HIT_MM, phantom.radius_mm)[:, None]
    centers, axes = [], []
    for number in np.flatnonzero(near.any(axis=1)):
        best = int(gaps[number].argmin())
        centers.append(float(gaps[number, best]))
        axes.append(findings[best].measurements["long_axis_mm"] - 2 * float(phantom.radius_mm[number]))
    return Tally(
        nodules=len(truth),
        found=len(centers),
        false_findings=int((~near.any(axis=0)).sum()),
        center_errors_mm=tuple(centers),
        axis_errors_mm=tuple(axes),
    )


def summarize(tallies: list[Tally]) -> dict[str, object]:
    """Return counts, sensitivity with its 95 % interval (Wilson), false findings a scan and errors in mm."""
    nodules, found = sum(t.nodules for t in tallies), sum(t.found for t in tallies)
    centers = np.array([error for t in tallies for error in t.center_errors_mm])
    axes = np.array([error for t in tallies for error in t.axis_errors_mm])
    return {
        "scans": len(tallies),
        "nodules": nodules,
        "found": found,
        "sensitivity": round(found / max(1, nodules), 3),
        "sensitivity_95": [round(bound, 3) for bound in wilson(found, nodules)],
        "false_findings": sum(t.false_findings for t in tallies),
        "scans_without_false_finding": sum(t.false_findings == 0 for t in tallies),
        "center_error_mm": {"median": round(float(np.median(centers)), 2), "max": round(float(centers.max()), 2)},
        "long_axis_error_mm": {"mean": round(float(axes.mean()), 2), "spread": round(float(axes.std()), 2)},
    }


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion, which stays inside 0..1 at 0 and at all."""
    if trials == 0:
        return 0.0, 1.0
    share, z2 = hits / trials, NORMAL_95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = NORMAL_95 * sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


def try_rehearsals(pipeline: LungNodules, seeds: range) -> list[Tally]:
    """Return the tallies of the rehearsal's chests, 100 slices of 2 mm each."""
    scan = CtScan(slices=100, slice_distance_mm=2.0)
    tallies = []
    for seed in seeds:
        nodules = draw_nodules(draw_chest(seed), count=NODULES_A_REHEARSAL)
        voxels, _ = chest_ct_voxels(seed=seed, nodules=nodules, scan=scan)
        tallies.append(tally(pipeline, as_phantom(voxels, scan, nodules)))
    return tallies


def try_slabs(pipeline: LungNodules, numbers: range) -> list[Tally]:
    """Return the tallies of training-like slabs from seeds of their own."""
    tallies = []
    for number in numbers:
        phantom = draw_phantom(np.random.default_rng([SLAB_SEED, number]), nodules=NODULES_A_SLAB)
        try:
            tallies.append(tally(pipeline, phantom))
        except WrongBodyPart:
            continue
    return tallies


def main() -> None:
    """Write the summaries of both kinds of phantom as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = LungNodules(read_model(options.model), torch.device("cpu"))
    kinds = {"rehearsals": try_rehearsals(pipeline, REHEARSALS), "slabs": try_slabs(pipeline, SLABS)}
    result = {name: {**summarize(tallies), "each": [asdict(one) for one in tallies]} for name, tallies in kinds.items()}
    options.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
