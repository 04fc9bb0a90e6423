"""A slice that comes after the answer: a new answer that names the old one, and nothing dropped."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from node.domain.job import JobState
from node.domain.result import ResultKind
from node.ledger.views import StudyStory
from node.rehearsal.modality import send
from node.rehearsal.pacs import SimulatedPacs
from tests.node_process import QUICK, NodeProcess, destination_table
from tests.phantoms import small_chest_ct

DATASETS = small_chest_ct().datasets
STUDY = str(DATASETS[0].StudyInstanceUID)


def has_completed(count: int) -> Callable[[StudyStory], bool]:
    def holds(story: StudyStory) -> bool:
        done = [job for job in story.jobs if job.state is JobState.COMPLETED]
        return len(done) == count and story.is_finished

    return holds


def report_of(pacs: SimulatedPacs, story: StudyStory, *, job: int) -> Dataset:
    uids = {r.sop_instance_uid for r in story.results if r.kind is ResultKind.SR and r.job_id == story.jobs[job].job_id}
    return next(dcmread(instance.path) for instance in pacs.record.received if instance.sop_instance_uid in uids)


def test_a_late_slice_gives_a_new_result_that_names_the_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    with (
        SimulatedPacs(tmp_path / "pacs") as pacs,
        NodeProcess(tmp_path / "node", QUICK + destination_table(pacs.peer)) as node,
    ):
        assert not send(DATASETS[:-1], node.peer).failed
        node.wait_for_study(STUDY, has_completed(1))
        assert not send(DATASETS[-1:], node.peer).failed
        story = node.wait_for_study(STUDY, has_completed(2))
        first, second = (report_of(pacs, story, job=number) for number in (0, 1))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    predecessor = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert predecessor.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert "study-reopened" in [event.kind for event in story.events]


@pytest.mark.thorough
def test_the_same_study_again_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    with (
        SimulatedPacs(tmp_path / "pacs") as pacs,
        NodeProcess(tmp_path / "node", QUICK + destination_table(pacs.peer)) as node,
    ):
        assert not send(DATASETS, node.peer).failed
        before = node.wait_for_study(STUDY, has_completed(1))
        received = len(pacs.record.received)
        assert not send(DATASETS, node.peer).failed
        after = node.view.study_story(before.study_instance_uid)
        assert after == before
        assert len(pacs.record.received) == received
