"""A T1 lies on the FLAIR where the head is, wherever its header says; one that does not fit is not read."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from node.rehearsal.brain_mr import brain_mr
from tests.wrapped import wrap_nifti_study
from workers.pipelines.axial_stack import AxialStack, mark_head, place_on, shrink_stack, turn_volume
from workers.pipelines.sequence_fit import SequencePair, fit_sequence
from workers.volume import read_volume

PHANTOM = brain_mr()


def stack_of(datasets: Iterable[Dataset]) -> AxialStack:
    turned, _ = turn_volume(read_volume(list(datasets)))
    return shrink_stack(turned, pixel_mm=1.5)


def pair_of(flair: AxialStack, other: AxialStack, *, shares_frame: bool = True) -> SequencePair:
    head = mark_head(flair.voxels)
    return SequencePair(
        name="T1", reference_name="FLAIR", other=other, reference=flair, head=head, shares_frame=shares_frame
    )


@pytest.fixture(scope="module")
def phantom() -> dict[str, AxialStack]:
    return {"flair": stack_of(PHANTOM.flair), "t1": stack_of(PHANTOM.t1)}


def moved(stack: AxialStack, *, turn_deg: float = 0.0, shift_mm: tuple[float, float, float] = (0, 0, 0)) -> AxialStack:
    """Return a stack whose header says that the head lay elsewhere: shifted, and turned about the axis of the body."""
    matrix = np.eye(4)
    cosine, sine = np.cos(np.deg2rad(turn_deg)), np.sin(np.deg2rad(turn_deg))
    matrix[:2, :2] = [[cosine, -sine], [sine, cosine]]
    matrix[:3, 3] = shift_mm
    return replace(stack, affine=matrix @ stack.affine)


def test_what_lies_right_is_not_moved_and_nothing_is_said(phantom: dict[str, AxialStack]) -> None:
    voxels, note = fit_sequence(pair_of(phantom["flair"], phantom["t1"]))
    assert note == ""
    assert voxels is not None
    assert np.array_equal(voxels, place_on(phantom["t1"], phantom["flair"])[0].voxels)


@pytest.mark.parametrize("shares_frame", [True, False])
def test_a_head_that_moved_is_brought_back_and_the_report_says_how_far(
    phantom: dict[str, AxialStack], shares_frame: bool
) -> None:
    away = moved(phantom["t1"], turn_deg=6.0, shift_mm=(0.0, 9.0, 5.0))
    voxels, note = fit_sequence(pair_of(phantom["flair"], away, shares_frame=shares_frame))
    assert voxels is not None
    expected = place_on(phantom["t1"], phantom["flair"])[0].voxels
    seen = mark_head(phantom["flair"].voxels)[3:-3]
    assert np.corrcoef(voxels[3:-3][seen], expected[3:-3][seen])[0, 1] > 0.95
    assert note.startswith("T1 was moved by ")
    assert "and 6 degrees to fit the FLAIR (normalized mutual information 1." in note
    assert ("of another Frame of Reference" in note) != shares_frame


def test_two_frames_of_reference_may_lie_anywhere(phantom: dict[str, AxialStack]) -> None:
    far = moved(phantom["t1"], shift_mm=(500.0, -300.0, 900.0))
    voxels, note = fit_sequence(pair_of(phantom["flair"], far, shares_frame=False))
    assert voxels is not None
    assert "of another Frame of Reference" in note


@pytest.mark.parametrize(
    ("shift_mm", "turn_deg"), [((0.0, 0.0, 28.0), 0.0), ((0.0, 0.0, 0.0), 30.0)], ids=["shifted", "turned"]
)
def test_a_motion_that_no_head_makes_is_not_believed(
    phantom: dict[str, AxialStack], shift_mm: tuple[float, float, float], turn_deg: float
) -> None:
    away = moved(phantom["t1"], shift_mm=shift_mm, turn_deg=turn_deg)
    voxels, note = fit_sequence(pair_of(phantom["flair"], away))
    assert voxels is None
    assert note.startswith("T1 was not read: it fits the FLAIR only when moved by ")


def test_noise_is_not_read(phantom: dict[str, AxialStack]) -> None:
    noise = np.random.default_rng(2).random(phantom["t1"].voxels.shape).astype(np.float32)
    voxels, note = fit_sequence(pair_of(phantom["flair"], replace(phantom["t1"], voxels=noise)))
    assert voxels is None
    assert note.startswith("T1 was not read: it ")


def test_a_part_of_the_head_is_not_worth_reading(phantom: dict[str, AxialStack]) -> None:
    part = replace(phantom["t1"], voxels=phantom["t1"].voxels[:12])
    voxels, note = fit_sequence(pair_of(phantom["flair"], part))
    assert voxels is None
    assert note == "T1 was not read: it covers 43% of the FLAIR."


def test_a_t1_far_beside_the_flair_is_not_read(phantom: dict[str, AxialStack]) -> None:
    voxels, note = fit_sequence(pair_of(phantom["flair"], moved(phantom["t1"], shift_mm=(0.0, 0.0, 2000.0))))
    assert voxels is None
    assert "no place in common" in note


@pytest.fixture(scope="module")
def real(data_dir: Path) -> dict[str, AxialStack]:
    native: dict[str, list[Dataset]] = {}
    for ds in wrap_nifti_study(data_dir / "mr-tcga-fg-6692"):
        native.setdefault(ds.SeriesDescription, []).append(ds)
    folders = {path.name.split("-")[1]: path for path in (data_dir / "mr-pgbm-003").iterdir()}
    together = {name: [dcmread(path) for path in folder.iterdir()] for name, folder in folders.items()}
    return {name: stack_of(datasets) for name, datasets in (native | together).items()}


@pytest.mark.parametrize("name", ["T1prereg", "T1post"])
def test_real_sequences_that_are_registered_stay_where_they_are(real: dict[str, AxialStack], name: str) -> None:
    voxels, note = fit_sequence(pair_of(real["FLAIRreg"], real[name]))
    assert note == ""
    assert voxels is not None
    assert np.array_equal(voxels, place_on(real[name], real["FLAIRreg"])[0].voxels)


@pytest.mark.parametrize(("name", "degrees"), [("AX T1 pre", "5"), ("AX T1 post gad", "13")])
def test_a_real_head_that_moved_between_two_sequences_is_registered(
    real: dict[str, AxialStack], name: str, degrees: str
) -> None:
    voxels, note = fit_sequence(pair_of(real["AX FLAIR"], real[name]))
    assert voxels is not None
    assert f"and {degrees} degrees to fit the FLAIR (normalized mutual information 1.0" in note
    assert "1.02 before" in note


@pytest.mark.parametrize(
    ("flair", "other", "shares_frame"), [("AX FLAIR", "T1prereg", True), ("FLAIRreg", "AX T1 pre", False)]
)
def test_the_head_of_somebody_else_is_not_read(
    real: dict[str, AxialStack], flair: str, other: str, shares_frame: bool
) -> None:
    voxels, note = fit_sequence(pair_of(real[flair], real[other], shares_frame=shares_frame))
    assert voxels is None
    assert note.startswith("T1 was not read: it ")
