"""Modality and archive both send a Study: another encoding changes nothing, and any other value is told."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import JPEGLSLossless

from node.ledger.views import StudyStory
from node.rehearsal.modality import send
from node.rehearsal.pacs import SimulatedPacs
from tests.node_process import QUICK, NodeProcess, destination_table
from tests.phantoms import small_chest_ct

DATASETS = small_chest_ct().datasets
STUDY = str(DATASETS[0].StudyInstanceUID)
IN_ARCHIVE = 4  # slices that the archive sends, too


def as_archived(ds: Dataset, **corrected: str) -> Dataset:
    """Return a slice as an archive sends it on: compressed, with a note of its own, and with what it corrected."""
    copied = copy.deepcopy(ds)
    copied.compress(JPEGLSLossless, generate_instance_uid=False)
    copied.RetrieveAETitle = "ARCHIVE"
    for keyword, value in corrected.items():
        setattr(copied, keyword, value)
    return copied


def has_told(kind: str, count: int) -> Callable[[StudyStory], bool]:
    return lambda story: sum(event.kind == kind for event in story.events) == count


def test_an_archive_that_sends_the_study_too_raises_no_alarm_until_it_corrects_something(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    with (
        SimulatedPacs(tmp_path / "pacs") as pacs,
        NodeProcess(tmp_path / "node", QUICK + destination_table(pacs.peer)) as node,
    ):
        assert not send(DATASETS, node.peer).failed
        answered = node.wait_for_study(STUDY, lambda story: bool(story.jobs) and story.is_finished)
        assert not send([as_archived(ds) for ds in DATASETS[:IN_ARCHIVE]], node.peer).failed
        story = node.wait_for_study(STUDY, has_told("instance-changed", IN_ARCHIVE))
        assert all("says the same in other bytes" in text for text in changes(story))
        assert story.jobs == answered.jobs
        assert not alarms(story)
        corrected = [as_archived(ds, AccessionNumber="A2") for ds in DATASETS[:IN_ARCHIVE]]
        assert not send(corrected, node.peer).failed
        story = node.wait_for_study(STUDY, has_told("answer-outdated", 1))
        (alarm,) = alarms(story)
        assert "what came again under its UID differs from it in AccessionNumber" in alarm


def alarms(story: StudyStory) -> Sequence[str]:
    return [event.text for event in story.events if event.is_alarm]


def changes(story: StudyStory) -> Sequence[str]:
    return [event.text for event in story.events if event.kind == "instance-changed"]
