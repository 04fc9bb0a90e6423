"""Every Status of PS3.4 B.2.3 and PS3.7 C leads somewhere, and each to the right place."""

import pytest

from node.peers.parcel import Fate
from node.peers.status import DOUBTFUL_TRIES, UNPROCESSED_TRIES, judge_status


@pytest.mark.parametrize(
    ("status", "fate", "code"),
    [
        (0x0000, Fate.SENT, None),
        (0xB000, Fate.SENT, "sent-with-warning"),
        (0xB006, Fate.SENT, "sent-with-warning"),
        (0xB007, Fate.SENT, "sent-with-warning"),
        (0xBFFF, Fate.SENT, "sent-with-warning"),
        (0x0001, Fate.SENT, "sent-with-warning"),
        (0x0111, Fate.SENT, "sent-with-warning"),
        (0xA700, Fate.RETRY, "destination-busy"),
        (0xA7FF, Fate.RETRY, "destination-busy"),
        (0x0124, Fate.RETRY, "destination-busy"),
        (0x0213, Fate.RETRY, "destination-busy"),
        (0xA900, Fate.REFUSED, "destination-refused"),
        (0xA9FF, Fate.REFUSED, "destination-refused"),
        (0x0117, Fate.REFUSED, "destination-refused"),
        (0x0119, Fate.REFUSED, "destination-refused"),
        (0x0118, Fate.REFUSED, "sop-class-not-supported"),
        (0x0122, Fate.REFUSED, "sop-class-not-supported"),
        (0x0212, Fate.REFUSED, "destination-refused"),
    ],
)
def test_status_leads_to_its_fate(status: int, fate: Fate, code: str | None) -> None:
    outcome = judge_status(status)
    assert (outcome.fate, outcome.code, outcome.tries) == (fate, code, None)
    assert status == 0 or f"{status:04X}H" in (outcome.text or "")


@pytest.mark.parametrize("status", [0xC000, 0xC211, 0xCFFF, 0x0112, 0xFE00, 0xFF00, 0xFFFF, 0xA800, 0x1234])
def test_doubtful_status_is_tried_a_few_times(status: int) -> None:
    outcome = judge_status(status)
    assert (outcome.fate, outcome.tries) == (Fate.RETRY, DOUBTFUL_TRIES)


def test_processing_failure_is_tried_for_some_minutes() -> None:
    outcome = judge_status(0x0110)
    assert (outcome.fate, outcome.code, outcome.tries) == (Fate.RETRY, "destination-refused", UNPROCESSED_TRIES)


def test_no_status_but_success_and_warnings_counts_as_sent() -> None:
    sent = {status for status in range(0x10000) if judge_status(status).fate is Fate.SENT}
    assert sent == {0x0000, 0x0001, 0x0107, 0x0111, 0x0116} | set(range(0xB000, 0xC000))


def test_an_instance_that_clashes_with_one_of_another_series_never_counts_as_sent() -> None:
    clash = judge_status(0x0111, comment="identifier-clash: SOP Instance UID 1.2 of series 1.3 already names an")
    assert (clash.fate, clash.code) == (Fate.REFUSED, "destination-refused")
