"""kill -9 of each process of a node, in the middle of a Job: one Result set all the same, and no hand needed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from node.domain.job import JobState
from node.ledger.views import StudyStory
from node.rehearsal.modality import send
from node.rehearsal.pacs import SimulatedPacs
from tests.node_process import QUICK, NodeProcess, destination_table
from tests.phantoms import small_chest_ct

STUDY = small_chest_ct().datasets[0].StudyInstanceUID


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[SimulatedPacs]:
    with SimulatedPacs(tmp_path / "pacs") as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, pacs: SimulatedPacs) -> Iterator[NodeProcess]:
    (tmp_path / "node").mkdir()
    with NodeProcess(tmp_path / "node", QUICK + destination_table(pacs.peer)) as running:
        yield running


def is_running(story: StudyStory) -> bool:
    return any(job.state is JobState.IN_PROGRESS for job in story.jobs)


def send_until_job_runs(node: NodeProcess) -> None:
    assert not send(small_chest_ct().datasets, node.peer).failed
    node.wait_for_study(STUDY, is_running)


def assert_one_result_set(node: NodeProcess, pacs: SimulatedPacs) -> StudyStory:
    story = node.wait_for_study(STUDY, lambda s: s.jobs and s.is_finished)
    assert [job.state for job in story.jobs] == [JobState.COMPLETED], [job.reason_text for job in story.jobs]
    received = {i.sop_instance_uid: dcmread(i.path).Modality for i in pacs.record.received}
    assert sorted(received.values()) == ["SEG", "SR"]
    assert set(received) == {result.sop_instance_uid for result in story.results if not result.is_substitute}
    return story


def test_a_killed_worker_costs_an_attempt_and_nothing_else(node: NodeProcess, pacs: SimulatedPacs) -> None:
    worker = node.child("-m workers")
    send_until_job_runs(node)
    for process in (*worker.children(recursive=True), worker):
        process.kill()
    story = assert_one_result_set(node, pacs)
    assert story.jobs[0].attempts == 2
    assert "job-attempt-failed" in [event.kind for event in story.events]


def test_a_killed_broker_costs_nothing(node: NodeProcess, pacs: SimulatedPacs) -> None:
    broker = node.child("redis-server", "valkey", "unixsocket")
    send_until_job_runs(node)
    broker.kill()
    story = assert_one_result_set(node, pacs)
    assert story.jobs[0].attempts == 1
    assert node.child("redis-server", "valkey", "unixsocket").pid != broker.pid


def test_a_killed_node_goes_on_after_its_restart(node: NodeProcess, pacs: SimulatedPacs) -> None:
    send_until_job_runs(node)
    node.kill()
    node.start()
    assert_one_result_set(node, pacs)


def test_a_node_killed_while_receiving_keeps_what_it_acknowledged(node: NodeProcess, pacs: SimulatedPacs) -> None:
    datasets = small_chest_ct().datasets
    first = send(datasets[:20], node.peer)
    node.kill()
    node.start()
    assert first.sent == 20
    assert not send(datasets[20:], node.peer).failed
    story = node.wait_for_study(STUDY, lambda s: any(j.state is JobState.COMPLETED for j in s.jobs) and s.is_finished)
    assert sum(line.instances for line in story.series) == len(datasets)
    assert story.jobs[-1].state is JobState.COMPLETED


@pytest.mark.thorough
def test_nothing_is_left_running_after_sigterm(node: NodeProcess) -> None:
    children = node.process.children(recursive=True)
    node.child("-m workers")
    assert node.stop() == 0
    assert not [child for child in children if child.is_running() and child.status() != "zombie"]
