"""Try a nodule model on chests it has not learned from.

``python -m workers.training.lung_trial --model DIR --out FILE [--scan DIR --seeds FIRST COUNT]``: phantoms, or nodules
put into a real scan; its halves are counted apart too, so that one can set a threshold and the other be reported.
"""

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from node.errors import WrongBodyPart
from node.models import ModelCard, read_model
from node.rehearsal.chest import draw_chest, draw_nodules
from node.rehearsal.chest_ct import CtScan, chest_ct_voxels
from workers.evaluation.froc import Marks, sensitivity_at_rate
from workers.evaluation.intervals import wilson_interval
from workers.measurements import measure_region
from workers.pipelines.lung_candidates import coarsen, find_lungs
from workers.pipelines.lung_nodules import ChestCt, LungNodules
from workers.training.chest_phantoms import Phantom, draw_phantom
from workers.training.lung_insertion import Inserted, LungScan, insert_nodules
from workers.training.lung_samples import as_phantom
from workers.training.lung_scans import read_scan
from workers.volume import Volume

REHEARSALS = range(7100, 7105)
NODULES_A_REHEARSAL = 4
SLABS = range(5)
SLAB_SEED = 992
NODULES_A_SLAB = 5
INSERTED = 20  # each time
HIT_MM = 5.0
COUNTED_FROM_MM = 6.0
ASKED_FROM = 0.3  # findings from here on are kept, so that other thresholds can be tried
RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
BANDS_MM = ((4.0, 6.0), (6.0, 10.0), (10.0, 20.0), (20.0, 31.0))


class Half(StrEnum):
    """One side of a patient."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """One nodule that is there.

    Attributes
    ----------
    half
        Where.
    diameter_mm
        Nominal.
    long_axis_mm, volume_mm3
        Of its exact mask, measured as the Pipeline measures; of the ball where there is no mask.
    certainty, measured_mm, measured_mm3
        Of the finding on it, its long axis and its volume; None where there is none.
    """

    half: Half
    diameter_mm: float
    long_axis_mm: float
    volume_mm3: float
    kind: str
    site: str
    certainty: float | None
    measured_mm: float | None
    measured_mm3: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What the findings in one volume were worth.

    Attributes
    ----------
    false
        Half and certainty of each finding near no nodule.
    """

    truths: tuple[Truth, ...]
    false: tuple[tuple[Half, float], ...]

    def only(self, half: Half) -> Self:
        """Return what lies in one half."""
        return replace(
            self,
            truths=tuple(truth for truth in self.truths if truth.half is half),
            false=tuple(one for one in self.false if one[0] is half),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A nodule to be found: native index, radius, long axis and volume, and its words."""

    index: NDArray[np.float64]
    radius_mm: float
    long_axis_mm: float
    volume_mm3: float
    kind: str = "drawn"
    site: str = "drawn"


def tally(
    pipeline: LungNodules,
    volume: Volume,
    planted: Sequence[Planted],
    *,
    keep: Iterable[tuple[NDArray[np.float64], float]] = (),
) -> Tally:
    """Run the Pipeline on one volume and compare.

    Parameters
    ----------
    keep
        Native indices and radii, mm, of balls in which a finding is neither right nor wrong.

    Raises
    ------
    WrongBodyPart
        If it holds too little lung.
    """
    coarse = coarsen(volume)
    lungs = find_lungs(coarse, volume.affine)
    findings = pipeline.analyze(ChestCt(volume=volume, coarse=coarse, lungs=lungs)).findings
    spacing = np.asarray(volume.spacing_mm)
    seen = np.array([volume.to_index(finding.center_mm or ()) for finding in findings]).reshape(-1, 3)
    places = np.array([nodule.index for nodule in planted]).reshape(-1, 3)
    reach = np.array([max(HIT_MM, nodule.radius_mm) for nodule in planted])
    near = np.linalg.norm((places[:, None] - seen[None]) * spacing, axis=2) <= reach[:, None]

    def half_of(index: NDArray[np.float64]) -> Half:
        return Half.LEFT if volume.to_patient_mm(index.tolist())[0] > lungs.midline_mm else Half.RIGHT

    truths = []
    for nodule, close in zip(planted, near, strict=True):
        best = findings[int(close.argmax())] if close.any() else None  # findings come most certain first
        truths.append(
            Truth(
                half=half_of(nodule.index),
                diameter_mm=2 * nodule.radius_mm,
                long_axis_mm=nodule.long_axis_mm,
                volume_mm3=nodule.volume_mm3,
                kind=nodule.kind,
                site=nodule.site,
                certainty=None if best is None else best.confidence,
                measured_mm=None if best is None else best.measurements["long_axis_mm"],
                measured_mm3=None if best is None else best.measurements["volume_mm3"],
            )
        )
    spared = near.any(axis=0)
    for place, radius_mm in keep:
        spared |= np.linalg.norm((seen - place) * spacing, axis=1) <= radius_mm
    false = [(half_of(seen[n]), float(findings[n].confidence or 0.0)) for n in np.flatnonzero(~spared)]
    return Tally(truths=tuple(truths), false=tuple(false))


def try_rehearsals(pipeline: LungNodules, seeds: range) -> list[Tally]:
    """Return the tallies of the rehearsal's chests, 100 slices of 2 mm each."""
    scan = CtScan(slices=100, slice_distance_mm=2.0)
    tallies = []
    for seed in seeds:
        nodules = draw_nodules(draw_chest(seed), count=NODULES_A_REHEARSAL)
        voxels, _ = chest_ct_voxels(seed=seed, nodules=nodules, scan=scan)
        tallies.append(_try_phantom(pipeline, as_phantom(voxels, scan, nodules)))
    return tallies


def try_slabs(pipeline: LungNodules, numbers: range) -> list[Tally]:
    """Return the tallies of drawn slabs from seeds of their own."""
    tallies = []
    for number in numbers:
        phantom = draw_phantom(np.random.default_rng([SLAB_SEED, number]), nodules=NODULES_A_SLAB)
        try:
            tallies.append(_try_phantom(pipeline, phantom))
        except WrongBodyPart:
            continue
    return tallies


def try_scan(pipeline: LungNodules, scan: LungScan, *, seeds: range, nodules: int = INSERTED) -> list[Tally]:
    """Return the tallies of one real scan, for each seed with other nodules put in."""
    tallies = []
    for seed in seeds:
        volume, inserted = insert_nodules(scan, np.random.default_rng(seed), count=nodules)
        planted = [_plant(volume, nodule) for nodule in inserted]
        tallies.append(tally(pipeline, volume, planted, keep=scan.keep_index()))
    return tallies


def _plant(volume: Volume, nodule: Inserted) -> Planted:
    measured = measure_region(volume, nodule.region).values
    return Planted(
        index=nodule.region.center_index(),
        radius_mm=nodule.diameter_mm / 2,
        long_axis_mm=measured["long_axis_mm"],
        volume_mm3=measured["volume_mm3"],
        kind=nodule.kind.value,
        site=nodule.site.value,
    )


def _try_phantom(pipeline: LungNodules, phantom: Phantom) -> Tally:
    planted = [
        Planted(
            index=index,
            radius_mm=float(radius_mm),
            long_axis_mm=2 * float(radius_mm),
            volume_mm3=4 / 3 * math.pi * float(radius_mm) ** 3,
        )
        for index, radius_mm in zip(phantom.index, phantom.radius_mm, strict=True)
    ]
    return tally(pipeline, phantom.volume, planted)


def summarize(tallies: Sequence[Tally], *, threshold: float) -> dict[str, object]:
    """Return what the tallies say at one threshold, and along the FROC curve, for nodules of 6 mm and more."""
    counted = [truth for one in tallies for truth in one.truths if truth.diameter_mm >= COUNTED_FROM_MM]
    false = [sum(certainty >= threshold for _, certainty in one.false) for one in tallies]
    groups: dict[str, list[Truth]] = {"all": counted}
    for truth in (truth for one in tallies for truth in one.truths):
        low, high = next(band for band in BANDS_MM if truth.diameter_mm < band[1])
        groups.setdefault(f"{low:.0f}-{high:.0f} mm", []).append(truth)
    for truth in counted:
        groups.setdefault(truth.kind, []).append(truth)
        groups.setdefault(truth.site, []).append(truth)
    marks = [_mark(one) for one in tallies]
    return {
        "volumes": len(tallies),
        "false_findings": sum(false),
        "false_findings_a_volume": round(float(np.mean(false)), 2),
        "froc": {str(rate): round(float(sensitivity_at_rate(marks, rate)), 3) for rate in RATES},
        "groups": {name: _describe(group, threshold) for name, group in sorted(groups.items())},
    }


def _mark(one: Tally) -> Marks:
    counted = [truth for truth in one.truths if truth.diameter_mm >= COUNTED_FROM_MM]
    hits = [truth.certainty for truth in counted if truth.certainty is not None]
    return Marks(hits=np.array(hits), alarms=np.array([certainty for _, certainty in one.false]), lesions=len(counted))


def _describe(group: Sequence[Truth], threshold: float) -> dict[str, object]:
    found = [truth for truth in group if truth.certainty is not None and truth.certainty >= threshold]
    low, high = wilson_interval(len(found), len(group))
    ratios = np.array([(truth.measured_mm or 0.0) / truth.long_axis_mm - 1 for truth in found])
    said = {"nodules": len(group), "found": len(found), "sensitivity_95": [round(low, 3), round(high, 3)]}
    if not len(ratios):
        return {**said}
    volumes = np.array([(truth.measured_mm3 or 0.0) / truth.volume_mm3 - 1 for truth in found])
    return {
        **said,
        "long_axis_error": {"median": round(float(np.median(ratios)), 3), "spread": round(float(ratios.std()), 3)},
        "within_15_percent": round(float((np.abs(ratios) <= 0.15).mean()), 3),
        "volume_error": {
            "median": round(float(np.median(volumes)), 3),
            "median_size": round(float(np.median(np.abs(volumes))), 3),
        },
    }


def open_pipeline(card: ModelCard, *, from_certainty: float) -> LungNodules:
    """Return the Pipeline with another threshold than its card names."""
    numbers = {name: dict(table) for name, table in card.numbers.items()}
    numbers["thresholds"]["nodule"] = from_certainty
    return LungNodules(replace(card, numbers=numbers), torch.device("cpu"))


def main() -> None:
    """Write the summaries of all that was tried as JSON, with every nodule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--scan", type=Path, help="folder of DICOM slices; without it phantoms are tried")
    parser.add_argument("--seeds", type=int, nargs=2, default=(700, 6), help="first seed, and how many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    card = read_model(options.model)
    pipeline = open_pipeline(card, from_certainty=ASKED_FROM)
    if options.scan is None:
        kinds = {"rehearsals": try_rehearsals(pipeline, REHEARSALS), "slabs": try_slabs(pipeline, SLABS)}
    else:
        first, count = options.seeds
        whole = try_scan(pipeline, read_scan(options.scan), seeds=range(first, first + count))
        kinds = {"whole": whole, **{half.value: [one.only(half) for one in whole] for half in Half}}
    threshold = float(card.numbers["thresholds"]["nodule"])
    result = {
        name: {**summarize(tallies, threshold=threshold), "each": [asdict(one) for one in tallies]}
        for name, tallies in kinds.items()
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
