"""Metrics as Prometheus reads them: over HTTP, by its own parser, from a ledger that other processes write."""

import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from node.domain.alarm import AlarmKind
from node.errors import LedgerBusy, PortInUse
from node.ledger.alarms import AlarmLedger
from node.ledger.jobs import RetryPolicy
from node.ledger.stages import StageLedger
from node.metrics.exposition import render_metrics
from node.metrics.server import MetricsServer
from node.settings.loading import load_settings
from node.settings.whole import Settings
from tests.http_listener import get
from tests.ledgers import Books, at, make_facts, make_outcome, make_result
from tests.peers import wait_until

CANARY = "Quetzalcoatlus"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "store").mkdir()
    destination = '{ transport = "folder", url = "out" }'
    return load_settings(
        None,
        {
            "RADNODE__NODE__DATA_DIR": str(tmp_path),
            "RADNODE__DESTINATIONS__PACS": destination,
            "RADNODE__ALARMS__SOURCES": '[{ aet = "CT1", minutes = 5 }]',
        },
    )


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Return name and values of labels of each sample, by Prometheus' own parser."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def fill(books: Books) -> None:
    books.instances.record_instance(make_facts(PatientName=CANARY, PatientID=CANARY, StudyDescription=CANARY))
    done = books.claim(books.add_job(study="1.2.4"), now=at(20))
    books.jobs.finish_job(done, make_outcome(make_result(done)), now=at(24))
    dead = books.claim(books.add_job(study="1.2.5"), now=at(30))
    policy = RetryPolicy(max_attempts=1, pause_s=1.0)
    books.jobs.fail_attempt(dead, policy, reason=("worker-lost", "died"), now=at(31))
    books.add_job(study="1.2.6")
    books.instances.record_refusal(at=at(1), kind="instance-refused", text="x", code="not-dicom", count=41)
    AlarmLedger(books.engine).raise_alarm(AlarmKind.DESTINATION_DOWN, "pacs", "pacs is down", now=at(50))
    StageLedger(books.engine).count_stages(at(60))


def test_what_the_ledger_holds_is_told_in_numbers(settings: Settings, books: Books) -> None:
    fill(books)
    text = render_metrics(settings, books.engine)
    found = samples(text)
    assert found["radnode_studies", "OPEN"] == 1
    assert found["radnode_studies", "ROUTED"] == 3
    states = ("CANCELED", "COMPLETED", "IN PROGRESS", "SCHEDULED")
    assert [found["radnode_jobs", "lung_nodules", state] for state in states] == [1, 1, 0, 1]
    assert found["radnode_jobs", "chest_xray", "COMPLETED"] == 0
    assert found["radnode_deliveries", "pacs", "PENDING"] == 1
    assert found["radnode_deliveries", "pacs", "SENT"] == 0
    assert found[("radnode_oldest_waiting_job_seconds",)] > 0
    assert found["radnode_oldest_pending_delivery_seconds", "pacs"] > 0
    assert found["radnode_received_instances_total", "other"] == 4
    assert found["radnode_received_instances_total", "CT1"] == 0
    assert found["radnode_received_bytes_total", "other"] == 4000
    assert found["radnode_refusals_total", "instance-refused", "not-dicom"] == 41
    assert found["radnode_alarms", "destination-down"] == 1
    assert found["radnode_alarms", "no-worker"] == 0
    assert found["radnode_alarm_raised_timestamp_seconds", "destination-down", "pacs"] == at(50).timestamp()
    assert found["radnode_stage_seconds_sum", "work"] == 4
    assert found["radnode_stage_seconds_count", "work"] == 1
    assert found["radnode_work_seconds_total", "other", "lung_nodules", "infer"] == 0.2
    assert (
        found["radnode_stage_seconds_bucket", "2.0", "work"],
        found["radnode_stage_seconds_bucket", "5.0", "work"],
    ) == (0, 1)
    assert found["radnode_store_bytes", "free"] > 0
    assert CANARY.encode() not in text


def test_a_source_that_is_expected_has_a_line_of_its_own(settings: Settings, books: Books) -> None:
    books.instances.record_instance(replace(make_facts(), calling_aet="CT1"))
    found = samples(render_metrics(settings, books.engine))
    assert found["radnode_received_instances_total", "CT1"] == 1
    assert found["radnode_last_instance_timestamp_seconds", "CT1"] == at(0).timestamp()


@pytest.fixture
def server(settings: Settings, books: Books) -> Iterator[int]:
    running = MetricsServer(lambda: render_metrics(settings, books.engine), port=0)
    yield running.start()
    running.stop()


def test_it_answers_get_of_one_path(server: int, books: Books) -> None:
    fill(books)
    status, content_type, text = get(server, "/metrics")
    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    assert samples(text)["radnode_studies", "OPEN"] == 1
    assert get(server, "/")[0] == 404
    assert get(server, "/metrics?name=x")[0] == 200


def test_a_fault_of_our_own_is_told_and_a_client_that_hangs_up_is_not(caplog: pytest.LogCaptureFixture) -> None:
    faults = [BrokenPipeError("gone"), TimeoutError("silent"), ValueError("of our own")]

    def read() -> bytes:
        raise faults.pop(0)

    running = MetricsServer(read, port=0)
    port = running.start()
    try:
        for _ in range(3):
            with pytest.raises(OSError, match="closed connection"):
                get(port, "/metrics")
        wait_until(lambda: "metrics broken" in caplog.messages, what="a line of the log")
    finally:
        running.stop()
    told = [line for line in caplog.records if line.levelno >= logging.WARNING]
    assert [(line.getMessage(), bool(line.exc_info)) for line in told] == [("metrics broken", True)]


def test_a_client_that_hangs_up_or_says_nothing_stops_nobody(server: int) -> None:
    with (
        socket.create_connection(("127.0.0.1", server)) as silent,
        socket.create_connection(("127.0.0.1", server)) as gone,
    ):
        gone.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        gone.close()
        assert get(server, "/metrics")[0] == 200
        assert silent.fileno() > 0


def test_a_ledger_that_does_not_answer_is_503() -> None:
    def read() -> bytes:
        raise LedgerBusy("no answer")

    running = MetricsServer(read, port=0)
    try:
        assert get(running.start(), "/metrics") == (503, "text/plain", b"ledger-busy\n")
    finally:
        running.stop()


def test_a_port_that_is_taken_needs_a_person() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUse, match=r"metrics\.port"):
        MetricsServer(bytes, port=taken.getsockname()[1]).start()
