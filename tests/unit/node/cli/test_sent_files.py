"""`radnode send` tells each reason once, however many files it holds for."""

from pathlib import Path

from node.cli.send import SHOWN_REASONS, describe
from node.errors import DestinationDown, NotDicom
from node.peers.parcel import Outcome
from node.peers.peer import Peer
from node.peers.sender import SendReport, SentFile

PEER = Peer(aet="PACS", host="192.0.2.7", port=104)
DOWN = Outcome.retry(DestinationDown("PACS@192.0.2.7:104: no connection"))


def report(*outcomes: Outcome) -> SendReport:
    files = [
        SentFile(path=Path(f"{number}.dcm"), sop_instance_uid=None, size_bytes=2_000_000, outcome=outcome)
        for number, outcome in enumerate(outcomes)
    ]
    return SendReport(peer=PEER, files=tuple(files), seconds=2.0)


def test_files_that_were_taken_are_one_line() -> None:
    (line,) = describe(report(*[Outcome.sent()] * 500))
    assert line == "500 of 500 Instances taken by PACS@192.0.2.7:104, 1000.0 MB in 2.0 s, 500 MB/s"


def test_one_reason_for_many_files_is_told_once() -> None:
    first, reason = describe(report(*[DOWN] * 300))
    assert first == "0 of 300 Instances taken by PACS@192.0.2.7:104, 0.0 MB in 2.0 s"
    assert reason == ("  300 files, the first of them 0.dcm: destination-down: PACS@192.0.2.7:104: no connection")


def test_warning_is_told_of_a_file_that_was_taken() -> None:
    lines = list(describe(report(Outcome.sent(), Outcome.sent("status B000H: coercion of data elements"))))
    assert lines[1] == "  1.dcm: sent-with-warning: status B000H: coercion of data elements"


def test_very_many_reasons_are_counted() -> None:
    refused = [Outcome.refused(NotDicom(f"file {number}")) for number in range(SHOWN_REASONS + 5)]
    lines = list(describe(report(*refused)))
    assert len(lines) == SHOWN_REASONS + 2
    assert lines[-1] == "  and 5 files for other reasons"
