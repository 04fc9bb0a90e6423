"""Figures of `radnode bench latency`: the parts of a run, the middle of all, and what was promised of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest

from node.benchmark.contenders import OURS, RIVAL
from node.benchmark.invented_study import NODULE_HU, StudyPress
from node.benchmark.latency import Outcome, Pause, Row, Run, Sent, describe, spans_of, targets
from node.benchmark.tiny_model import NAME, THRESHOLD_HU, write_tiny_model
from node.domain.uids import StudyUID
from node.ledger.listings import Event
from node.ledger.views import StudyStory
from node.models import read_model

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def run_of(seconds: float) -> Run:
    return Run(seconds=seconds, spans_s={"Study complete": seconds / 4}, work_s={"infer": seconds / 2})


def outcome_of(ours: list[float], rival: list[float], *, early: int = 0) -> Outcome:
    return Outcome(
        rows=[
            Row(name=OURS, runs=[run_of(seconds) for seconds in ours]),
            Row(name=RIVAL, runs=[Run(seconds=seconds) for seconds in rival]),
        ],
        pauses=[Pause(name=OURS, seconds=90.0, early=early, late=2), Pause(name=RIVAL, seconds=90.0, early=2, late=2)],
    )


def test_promises_are_of_the_middle_the_slow_end_and_the_rival() -> None:
    held = targets(outcome_of([1.0, 1.5, 4.9], [4.0, 4.0, 4.0]))
    assert [(one.measured, one.is_held) for one in held] == [(1.5, True), (4.9, True), (0.375, True), (0, True)]
    missed = targets(outcome_of([2.1, 2.1, 5.1], [4.0, 4.0, 4.0], early=1))
    assert [one.is_held for one in missed] == [False] * 4


def test_the_page_tells_all_runs_the_parts_of_ours_and_the_pauses() -> None:
    told = describe(outcome_of([1.0, 2.0, 3.0], [4.0, 8.0, 8.0]))
    assert f"| {OURS} | 3 | 2.00 | 3.00 | 3.00 | 0.25 |" in told
    assert f"| {RIVAL} | 3 | 8.00 | 8.00 | 8.00 | 1.00 |" in told
    assert "| … Study complete | 0.50 | 0.75 |" in told
    assert "| in the worker: infer | 1.00 | 1.50 |" in told
    assert f"| {RIVAL} | 90 | 2 | 2 |" in told
    assert "pause" not in describe(replace(outcome_of([1.0], [1.0]), pauses=()))


def test_the_parts_of_a_run_follow_each_other_and_are_all_of_it() -> None:
    at = {"study-opened": -1.0, "study-settled": 0.5, "job-scheduled": 0.75, "job-started": 1.0, "job-completed": 3.0}
    story = StudyStory(
        study_instance_uid=StudyUID("1.2.3"),
        state="ROUTED",
        reason="",
        first_instance_at=BEGUN,
        series=(),
        decisions=(),
        jobs=(),
        results=(),
        deliveries=(),
        events=tuple(
            Event(
                at=BEGUN + timedelta(seconds=second),
                kind=kind,
                text="",
                study_instance_uid="1.2.3",
                job_id=None,
                is_alarm=False,
            )
            for kind, second in at.items()
        ),
    )
    parts = spans_of(story, Sent(at_s=0.0, at=BEGUN), BEGUN + timedelta(seconds=3.5))
    assert list(parts.values()) == [0.5, 0.25, 0.25, 2.0, 0.5]
    assert sum(parts.values()) == 3.5


def test_each_study_is_a_new_one_whose_headers_tell_the_same(tmp_path: Path) -> None:
    press = StudyPress(slices=24, matrix=64)
    first, second = press.write(tmp_path / "a"), press.write(tmp_path / "b")
    seen = [pydicom.dcmread(path) for study in (first, second) for path in study.files]
    assert (
        len({ds.SOPInstanceUID for ds in seen}) == len({ds.file_meta.MediaStorageSOPInstanceUID for ds in seen}) == 48
    )
    assert [ds.StudyInstanceUID for ds in seen] == 24 * [first.study_instance_uid] + 24 * [second.study_instance_uid]
    assert len(first.headers) == 24
    assert max(map(len, first.headers)) < min(path.stat().st_size for path in first.files)
    # What the model looks for is there, and brighter than everything else.
    brightest = max(float(np.max(ds.pixel_array)) * ds.RescaleSlope + ds.RescaleIntercept for ds in seen)
    assert THRESHOLD_HU < brightest < NODULE_HU + 1000


def test_the_model_is_ready_for_a_node(tmp_path: Path) -> None:
    card = read_model(write_tiny_model(tmp_path))
    card.verify_weights()
    assert card.name == NAME
    assert [code.meaning for code in card.looked_for] == ["Nodule"]


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_a_single_run_is_its_own_middle_and_end(share: float) -> None:
    assert Row(name=OURS, runs=[run_of(2.0)]).quantile(share) == 2.0
